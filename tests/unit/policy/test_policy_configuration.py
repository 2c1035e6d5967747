"""What a policy can learn of configurations: kumo.invoke_…, kumo.compute_… and kumo.format_…."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import tomli
import trio

from kumo_py.core.options import convert
from kumo_py.core.policy import PolicyError
from kumo_py.queue.config import EgressPath, QueueConfig
from kumo_py.queue.egress import EgressDirectory

if TYPE_CHECKING:
    from policy_host import MakePolicy, RecordingHost

    from kumo_py.policy import LuaPolicy

HANDLERS = """
kumo.on('get_egress_path_config', function(domain, source, site)
  if domain == 'broken' then error 'no such path' end
  if domain == 'plain' then return end
  return kumo.make_egress_path {
    connection_limit = 5, max_message_rate = '100/s', ehlo_domain = domain .. '/' .. source .. '/' .. site,
  }
end)
kumo.on('get_queue_config', function(domain, tenant, campaign, routing_domain)
  if domain == 'plain' then return end
  return kumo.make_queue_config {
    egress_pool = table.concat({domain, tenant, campaign, routing_domain}, '/'), max_message_rate = '5/s',
    shrink_policy = { { interval = '1m', policy = 'ShrinkData' } },
  }
end)
SOURCES = 0
kumo.on('get_egress_source', function(name)
  SOURCES = SOURCES + 1
  return kumo.make_egress_source { name = name, source_address = '10.0.0.1', ehlo_domain = 'n' .. SOURCES }
end)
kumo.on('get_egress_pool', function(name)
  if name == 'broken' then return kumo.make_egress_pool { name = name, entries = { { name = 1 } } } end
  return kumo.make_egress_pool { name = name, entries = { { name = 'one', weight = 2 } } }
end)
"""


async def load(policy: MakePolicy, code: str) -> LuaPolicy:
    lua = policy(f"{HANDLERS}\nkumo.on('mine', function()\n{code}\nend)")
    await lua.load()
    return lua


async def run(policy: MakePolicy, code: str) -> object:
    return await (await load(policy, code)).ask("mine")


async def test_an_egress_path(policy: MakePolicy) -> None:
    found = await run(policy, "return kumo.invoke_get_egress_path_config('d', 's', 'x')")
    assert isinstance(found, dict)
    assert (found["connection_limit"], found["ehlo_domain"], found["idle_timeout"]) == ("5", "d/s/x", "5s")
    assert convert(found, EgressPath, "test").ehlo_domain == "d/s/x"
    plain = await run(policy, "return kumo.invoke_get_egress_path_config('plain', 's', 'x').connection_limit")
    assert plain == "32"


async def test_a_queue(policy: MakePolicy) -> None:
    found = await run(policy, "return kumo.invoke_get_queue_config('c:t@d!r')")
    assert isinstance(found, dict)
    assert (found["egress_pool"], found["retry_interval"]) == ("d/t/c/r", "20m")
    assert convert(found, QueueConfig, "test").egress_pool == "d/t/c/r"
    for name in ("plain", "null"):
        assert await run(policy, f"return kumo.invoke_get_queue_config('{name}').egress_pool") is None


async def test_a_source_and_a_pool(policy: MakePolicy) -> None:
    found = await run(
        policy,
        "return { kumo.invoke_get_egress_source 'a', kumo.invoke_get_egress_pool 'p', kumo.invoke_get_egress_pool() }",
    )
    assert isinstance(found, list)
    assert found[0] == {"name": "a", "source_address": "10.0.0.1", "ehlo_domain": "n1", "ttl": "1m"}
    assert found[1] == {"name": "p", "entries": [{"name": "one", "weight": 2}], "ttl": "1m"}
    assert found[2]["name"] == "unspecified"


async def test_the_nodes_own_sources_are_used_where_it_runs(policy: MakePolicy, host: RecordingHost) -> None:
    lua = await load(policy, "return kumo.invoke_get_egress_source('a').ehlo_domain")
    directory = EgressDirectory(lua, trio.current_time)
    host.node = SimpleNamespace(queues=SimpleNamespace(placement=SimpleNamespace(egress=directory)))
    assert [await lua.ask("mine"), await lua.ask("mine")] == ["n1", "n1"]


async def test_constraints(policy: MakePolicy) -> None:
    found = await run(
        policy,
        """
        local path = kumo.invoke_get_egress_path_config('d', 's', 'x')
        local queue = kumo.compute_queue_config_constraints(kumo.invoke_get_queue_config('d'))
        local own = kumo.compute_egress_path_config_constraints(kumo.make_egress_path {})
        local both = kumo.compute_egress_path_config_constraints(path, queue)
        local text = kumo.format_egress_path_config_constraints(both)
        return { own, both, text, queue.max_concurrent_dispatchers.value > 1e300 }
        """,
    )
    assert isinstance(found, list)
    assert found[0] == {
        "max_concurrent_dispatchers": {"value": 32, "source": {"kind": "primary"}, "display": "32"}
    }
    assert found[1] == {
        "max_concurrent_dispatchers": {"value": 5, "source": {"kind": "primary"}, "display": "5"},
        "max_message_rate": {
            "value": 5,
            "source": {"kind": "other", "name": "scheduled queue max_message_rate"},
            "display": "5/s",
        },
        "max_message_rate_declared": "100/s",
    }
    assert "declared: max_message_rate = 100/s" in found[2]
    assert found[3] is True


async def test_configurations_as_toml(policy: MakePolicy) -> None:
    found = await run(
        policy,
        """
        return {
          kumo.format_egress_path_config_toml(kumo.make_egress_path { smtp_port = 26 }),
          kumo.format_queue_config_toml(kumo.invoke_get_queue_config 'd'),
        }
        """,
    )
    assert isinstance(found, list)
    assert convert(tomli.loads(found[0]), EgressPath, "test") == EgressPath(smtp_port=26)
    assert "additional_connection_limits = {}\n" in found[0]
    names = [line.partition(" = ")[0] for line in found[0].splitlines()]
    assert names == sorted(names)
    assert found[1].endswith('[[shrink_policy]]\ninterval = "1m"\npolicy = "ShrinkData"\n')


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("kumo.invoke_get_egress_path_config('broken', 's', 'x')", "no such path"),
        ("kumo.invoke_get_egress_pool 'broken'", "option 'entries[1].name' must be a string, got integer 1"),
        ("kumo.invoke_get_queue_config()", "argument 'queue_name' must be a string, got nil"),
        (
            "kumo.compute_egress_path_config_constraints { conection_limit = 5 }",
            "unknown option 'conection_limit' (did you mean 'connection_limit'?)",
        ),
        (
            "kumo.format_egress_path_config_constraints {}",
            "option 'max_concurrent_dispatchers' is required",
        ),
    ],
)
async def test_mistakes(code: str, problem: str, policy: MakePolicy) -> None:
    with pytest.raises(PolicyError) as raised:
        await run(policy, code)
    assert problem in str(raised.value)
    assert "policy.lua:28: " in str(raised.value)
