"""policy-extras.rollup and policy-extras.docker_utils: what depends on the DNS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kumo_py.core.policy import PolicyError
from kumo_py.dns import Resolvers, ZoneBackend
from kumo_py.message.message import Message

if TYPE_CHECKING:
    from conftest import Run
    from policy_host import MakePolicy, RecordingHost

ZONES = (
    "$ORIGIN a.test.\n@ MX 10 x.olc.big.test.\n@ MX 10 y.olc.big.test.\n@ MX 20 spare.other.test.\n",
    "$ORIGIN b.test.\n@ MX 10 x.olc.big.test.\n",
    "$ORIGIN big.test.\nx.olc A 192.0.2.2\nx.olc A 192.0.2.1\ny.olc A 192.0.2.3\n",
    "$ORIGIN tsa.\n@ A 192.0.2.7\n@ A 192.0.2.8\n",
    "$ORIGIN container1.\n@ A 10.1.2.3\n",
)


@pytest.fixture(autouse=True)
def zones(host: RecordingHost) -> None:
    host.resolvers = Resolvers(backend=ZoneBackend(ZONES))


async def routed(policy: MakePolicy, function: str, domain: str, mapping: str) -> Any:
    """The routing domain that a message gets."""
    lua = policy(f"""
      local rollup = require 'policy-extras.rollup'
      kumo.on('smtp_server_message_received', function(msg) rollup.{function}(msg, {mapping}) end)
    """)
    await lua.load()
    msg = Message(bytes(16), "", (f"user@{domain}",), {}, b"\r\n")
    await lua.ask("smtp_server_message_received", msg, None)
    return msg.get_meta("routing_domain")


BY_SUFFIX, BY_IP = "reroute_based_on_mx_host_suffix", "reroute_using_ip_rollup"


@pytest.mark.parametrize(
    ("function", "domain", "mapping", "expected"),
    [
        (BY_SUFFIX, "b.test", "{ ['.olc.big.test.'] = 'big.test' }", "big.test"),
        (BY_SUFFIX, "a.test", "{ ['.olc.big.test.'] = 'big.test' }", None),  # not its spare host
        (BY_SUFFIX, "b.test", "{ ['.olc.big.test.'] = 'b.test' }", None),  # already there
        (BY_SUFFIX, "b.test", "{ ['.test.'] = 'short.test', ['.big.test.'] = 'long.test' }", "long.test"),
        (BY_IP, "a.test", "{ ['.olc.big.test.'] = 'big.ip_rollup' }", "big.ip_rollup"),
        (BY_IP, "a.test", "{ ['.elsewhere.'] = 'big.ip_rollup' }", None),
    ],
)
async def test_a_message_is_rerouted_by_its_mail_hosts(
    policy: MakePolicy, function: str, domain: str, mapping: str, expected: str | None
) -> None:
    assert await routed(policy, function, domain, mapping) == expected


async def test_a_domain_that_does_not_resolve_is_left_alone(policy: MakePolicy, host: RecordingHost) -> None:
    assert await routed(policy, BY_SUFFIX, "absent.test", "{ ['.'] = 'x' }") is None
    assert "absent.test" in host.named("warn")[0]


@pytest.mark.parametrize("routing_domain", ["'big.ip_rollup'", "'big.test'", "nil"])
async def test_queue_options_for_addresses(run: Run, routing_domain: str) -> None:
    found = await run(f"""
      local params = {"{}"}
      require('policy-extras.rollup').apply_ip_rollup_to_queue_config('a.test', {routing_domain}, params)
      return params
    """)
    mx_list = [
        {"name": "x.olc.big.test.", "addr": "192.0.2.1"},
        {"name": "x.olc.big.test.", "addr": "192.0.2.2"},
        {"name": "y.olc.big.test.", "addr": "192.0.2.3"},
    ]
    is_rollup = routing_domain == "'big.ip_rollup'"
    assert found == ({"protocol": {"smtp": {"mx_list": mx_list}}} if is_rollup else {})


DOCKER = "local docker_utils = require 'policy-extras.docker_utils'"


async def test_where_other_containers_are(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTNAME", "container1")
    code = """
      return {
        docker_utils.resolve_docker_name 'tsa',
        docker_utils.resolve_docker_network(),
        docker_utils.resolve_tsa_endpoints(),
      }
    """
    names, network, endpoints = await run(code, top=DOCKER)
    assert sorted(names) == ["192.0.2.7", "192.0.2.8"]
    assert network == "10.1.2.0/24"
    assert sorted(endpoints) == ["http://192.0.2.7:8008", "http://192.0.2.8:8008"]


@pytest.mark.parametrize(
    ("hostname", "text"), [(None, "HOSTNAME is not set"), ("tsa6", "has no IPv4 address")]
)
async def test_a_container_without_a_network(
    run: Run, host: RecordingHost, monkeypatch: pytest.MonkeyPatch, hostname: str | None, text: str
) -> None:
    host.resolvers = Resolvers(backend=ZoneBackend(["$ORIGIN tsa6.\n@ AAAA 2001:db8::1\n"]))
    if hostname is None:
        monkeypatch.delenv("HOSTNAME", raising=False)
    else:
        monkeypatch.setenv("HOSTNAME", hostname)
    with pytest.raises(PolicyError, match=text):
        await run("docker_utils.resolve_docker_network()", top=DOCKER)
