"""kumo.set_lruttl_cache_capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from policy_host import run

from kumo_py.core.capacities import Capacities
from kumo_py.core.lruttl import LruTtl
from kumo_py.core.policy import PolicyError
from kumo_py.daemon.node import Node
from kumo_py.policy.modules.cache_capacity import NOT_HERE
from kumo_py.policy.modules.memoize import BUILT_IN_CACHES

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy, RecordingHost

OF_THE_HTTP_SIDE = {"acl_check", "acl_definition", "http_server_auth"}
NODES_OWN = {"dns_resolver_mx", "dns_resolver_ip", "mta_sts_policy"}
OF_THE_QUEUES = {
    "egress_source_pools",
    "egress_source_sources",
    "rustls_client_config",
    "smtp_dispatcher_broken_tls",
    "smtp_dispatcher_client_certificate",
    "smtp_server_tls_config",
}
OF_THE_POLICY = {"dkim_signer_cache", "dkim_key_cache", "mod_filesystem_glob_cache"}


def test_every_name_is_accounted_for() -> None:
    assert OF_THE_HTTP_SIDE | NODES_OWN | OF_THE_QUEUES | OF_THE_POLICY | NOT_HERE == BUILT_IN_CACHES


def test_a_capacity_counts_for_caches_there_are_and_for_those_to_come() -> None:
    capacities = Capacities()
    one: LruTtl[int, int] = LruTtl("one", 10)
    other: LruTtl[int, int] = LruTtl("one", 10)
    capacities.adopt_cache(one)
    capacities.set("one", 5)
    assert one.capacity == 5
    capacities.adopt_cache(other)
    assert other.capacity == 5


async def test_caches_of_the_node(tmp_path: Path) -> None:
    node = Node(tmp_path / "policy.lua")
    node.capacities.set("dns_resolver_mx", 7)
    node.capacities.set("dns_resolver_ip", 8)
    node.resolver.forget_exchangers()
    assert (node.resolver.mx_capacity, node.resolver.address_capacity) == (7, 8)


async def test_a_capacity_is_handed_to_the_node(policy: MakePolicy, host: RecordingHost) -> None:
    cache: LruTtl[str, str] = LruTtl("egress_source_pools", 128)
    host.capacities.adopt_cache(cache)
    await run(policy, "kumo.set_lruttl_cache_capacity('egress_source_pools', 3)")
    assert cache.capacity == 3


async def test_a_memoized_function(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local calls = 0
        local f = kumo.memoize(function(n) calls = calls + 1 return n end, { name = 'f', ttl = '1m', capacity = 10 })
        local function both() f(1) f(2) return calls end
        both()
        local before = both()
        kumo.set_lruttl_cache_capacity('f', 1)
        both()
        return { before, calls }
        """,
    )
    assert result == [2, 4]


async def test_a_cache_that_is_not_here_is_said_to_have_no_effect(
    policy: MakePolicy, host: RecordingHost
) -> None:
    await run(policy, "kumo.set_lruttl_cache_capacity('dns_resolver_ipv4', 3)")
    assert host.named("warn") == ["kumo-py has no cache 'dns_resolver_ipv4': its capacity has no effect"]
    for name in OF_THE_POLICY:
        await run(policy, f"kumo.set_lruttl_cache_capacity('{name}', 3)")
    assert len(host.named("warn")) == 1


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("'dns_resolver_mix', 5", "there is no cache 'dns_resolver_mix'; did you mean 'dns_resolver_mx'?"),
        ("'dns_resolver_mx', 0", "the capacity of cache 'dns_resolver_mx' must be at least 1, got 0"),
        ("'dns_resolver_mx', 'many'", "argument 'capacity' must be an integer, got string 'many'"),
    ],
)
async def test_mistakes(code: str, problem: str, policy: MakePolicy) -> None:
    with pytest.raises(PolicyError) as raised:
        await run(policy, f"kumo.set_lruttl_cache_capacity({code})")
    assert problem in str(raised.value)
    assert "policy.lua:3: " in str(raised.value)
