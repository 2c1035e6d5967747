from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from kumo_py.core.options import OptionError, convert
from kumo_py.dns import NameServer, ResolverConfig, load_resolv_conf, parse_resolver
from kumo_py.dns.config import parse_socket_address

if TYPE_CHECKING:
    from pathlib import Path


def test_every_option_of_a_resolver_is_known() -> None:
    config = convert(
        {
            "domain": "example.com",
            "search": ["example.com"],
            "name_servers": [
                "192.0.2.1:53",
                {
                    "socket_addr": "[::1]:53",
                    "protocol": "tcp",
                    "trust_negative_responses": False,
                    "bind_addr": "[::1]:0",
                },
            ],
            "options": {
                "ndots": 1,
                "timeout": "500ms",
                "attempts": 3,
                "edns0": True,
                "validate": True,
                "ip_strategy": "Ipv6thenIpv4",
                "cache_size": 10,
                "use_hosts_file": "Never",
                "positive_min_ttl": "1m",
                "positive_max_ttl": "1h",
                "negative_min_ttl": 10,
                "negative_max_ttl": "5m",
                "num_concurrent_reqs": 1,
                "preserve_intermediates": True,
                "try_tcp_on_error": True,
                "server_ordering_strategy": "RoundRobin",
                "recursion_desired": False,
                "case_randomization": True,
                "trust_anchor_file": {"managed": "/var/lib/anchors"},
            },
        },
        ResolverConfig,
        "configure_resolver",
    )
    assert config.options.timeout == 0.5
    assert config.options.positive_max_ttl == 3600.0
    second = config.name_servers[1]
    assert isinstance(second, NameServer)
    assert (second.protocol, second.trust_negative_responses) == ("tcp", False)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"optons": {}}, "unknown option 'optons' \\(did you mean 'options'"),
        ({"options": {"timeout": "5 fortnights"}}, "options.timeout"),
        ({"options": {"attempts": -1}}, "options.attempts"),
        ({"name_servers": ["192.0.2.1"]}, "'192.0.2.1' is not IP:PORT, such as 192.0.2.1:53"),
        ({"name_servers": ["ns.example:53"]}, "'ns.example:53' is not IP:PORT"),
        ({"name_servers": [{"socket_addr": "192.0.2.1:53", "bind_addr": "eth0"}]}, "'eth0' is not IP:PORT"),
        ({"Test": ["mx 60 A 192.0.2.1"]}, "Test: zone 1: begin it with a line like '\\$ORIGIN example.com.'"),
        ({"Test": [""]}, "Test: zone 1: begin it"),
        ({"Test": {"zones": ["$ORIGIN a.\nmx 60 A 192.0.2.1.5\n"]}}, "Test: zone 1: near line:"),
        ({"Test": {"zone": []}}, "unknown option 'zone'"),
        (
            {"Aggregate": ["HickorySystemConfig", "Nsd"]},
            "Aggregate\\[2\\]: expected 'HickorySystemConfig' or a table",
        ),
        ({"Aggregate": {}}, "Aggregate: expected a list"),
        ({"Hickory": {"name_server": []}}, "Hickory: unknown option 'name_server'"),
        (42, "expected 'HickorySystemConfig' or a table"),
    ],
)
def test_a_wrong_configuration_is_explained(spec: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_resolver(spec, "kumo.dns.configure_resolver")


@pytest.mark.parametrize(
    "spec",
    [
        "HickorySystemConfig",
        {"name_servers": ["192.0.2.1:53"]},
        {"Hickory": {"name_servers": ["192.0.2.1:53"]}},
        {"Unbound": {"name_servers": ["192.0.2.1:53"], "options": {"validate": True}}},
        {},
    ],
)
def test_making_a_resolver_touches_nothing(spec: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a file or socket was opened")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        patch.setattr(socket, "socket", refuse)
        parse_resolver(spec, "kumo.dns.configure_resolver")


def test_socket_addresses() -> None:
    assert parse_socket_address("192.0.2.1:53") == (socket.AF_INET, ("192.0.2.1", 53))
    assert parse_socket_address("[2001:db8::1]:5353") == (socket.AF_INET6, ("2001:db8::1", 5353, 0, 0))


def test_resolv_conf(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# nameserver 192.0.2.9\n"
        "; a comment\n"
        "domain example.com\n"
        "nameserver 192.0.2.1\n"
        "nameserver 2001:db8::1\n"
        "nameserver nonsense\n"
        "options ndots:5 timeout:7 attempts:99 edns0 rotate timeout:x\n"
        "search a.example b.example\n"
        "sortlist 192.0.2.0\n"
        "nameserver\n"
    )
    config = load_resolv_conf(str(path))
    assert config.name_servers == ["192.0.2.1:53", "[2001:db8::1]:53"]
    assert (config.domain, config.search) == ("example.com", ["a.example", "b.example"])
    options = config.options
    assert (options.ndots, options.timeout, options.attempts, options.edns0) == (5, 7.0, 5, True)


def test_resolv_conf_that_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("domain example.com\n")
    config = load_resolv_conf(str(path))
    assert config.search == ["example.com"]
    assert (config.options.timeout, config.options.attempts, config.options.edns0) == (5.0, 2, False)
    with pytest.raises(FileNotFoundError):
        load_resolv_conf(str(tmp_path / "none"))
