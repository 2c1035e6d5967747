"""Networks and addresses, compared with what the standard library says of them."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.cidr import CidrMap, CidrSet, check_listen_address, split_host_port
from kumo_py.core.options import OptionError, convert, to_builtins


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", None),
        ("192.0.2.1:25", "192.0.2.1", 25),
        ("2001:db8::1", "2001:db8::1", None),
        ("::", "::", None),
        ("[2001:db8::1]", "2001:db8::1", None),
        ("[2001:db8::1]:587", "2001:db8::1", 587),
        ("mx.example.com:0", "mx.example.com", 0),
        ("mx.example.com", "mx.example.com", None),
        (":25", "", 25),
        ("", "", None),
    ],
)
def test_split_host_port(text: str, host: str, port: int | None) -> None:
    assert split_host_port(text) == (host, port)


@pytest.mark.parametrize("text", ["a:b", "a:", "a:65536", "a:-1", "a:٣", "[::1", "[::1]25", "[::1]:x"])
def test_a_wrong_port_or_bracket_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        split_host_port(text)


def test_membership() -> None:
    networks = CidrSet(["127.0.0.1", "::1", "192.168.1.0/24", "192.168.3.0/28", "2001:db8::/32"])
    inside = ["127.0.0.1", "::1", "192.168.1.0", "192.168.1.255", "192.168.3.15", "2001:db8:ffff::1"]
    outside = ["127.0.0.2", "::2", "192.168.2.0", "192.168.3.16", "2001:db9::", "0.0.0.0"]
    for _ in range(2):  # the second time from memory
        assert [address in networks for address in inside] == [True] * len(inside)
        assert [address in networks for address in outside] == [False] * len(outside)


def test_an_address_may_carry_a_port() -> None:
    networks = CidrSet(["10.0.0.0/8", "2001:db8::/32"])
    assert "10.1.2.3:25" in networks
    assert "[2001:db8::1]:25" in networks
    assert "[2001:db8::1]" in networks
    assert "11.1.2.3:25" not in networks


@pytest.mark.parametrize(
    "text", ["", "/run/kumo.sock", "localhost", "10.0.0.0/8", "10.1.2", "10.1.2.3:x", "[10"]
)
def test_what_is_no_address_is_in_no_network(text: str) -> None:
    assert text not in CidrSet(["any"])
    assert CidrMap({"any": 1}).get(text) is None


def test_an_ipv4_address_mapped_into_ipv6_is_that_host() -> None:
    assert "::ffff:127.0.0.1" in CidrSet(["127.0.0.0/8"])
    assert "[::ffff:7f00:1]:25" in CidrSet(["127.0.0.1"])
    assert "::ffff:127.0.0.1" not in CidrSet(["10.0.0.0/8"])
    assert "::127.0.0.1" not in CidrSet(["127.0.0.0/8"])
    both = CidrMap({"127.0.0.0/8": "plain", "::ffff:0:0/96": "mapped"})
    assert both.get("::ffff:127.0.0.1") == "mapped"


def test_any_holds_every_address() -> None:
    assert "192.0.2.1" in CidrSet(["any"])
    assert "2001:db8::1" in CidrSet(["any"])
    assert "::1" not in CidrSet(["0.0.0.0/0"])
    assert "::1" not in CidrSet()


def test_the_longest_prefix_decides_in_any_order() -> None:
    entries = [("10.0.0.0/8", "wide"), ("10.1.0.0/16", "middle"), ("10.1.1.1", "host"), ("0.0.0.0/0", "all")]
    for order in (entries, entries[::-1]):
        networks = CidrMap(order)
        assert networks.get("10.1.1.1") == "host"
        assert networks.get("10.1.1.2") == "middle"
        assert networks.get("10.2.0.0") == "wide"
        assert networks.get("11.0.0.0") == "all"
        assert networks.get("::1") is None


def test_a_map_is_assigned_and_iterated() -> None:
    networks: CidrMap[int] = CidrMap()
    networks["2001:DB8:0::/32"] = 1
    networks["10.0.0.1/32"] = 2
    networks["10.0.0.1"] = 3
    assert list(networks) == ["2001:db8::/32", "10.0.0.1"]
    assert dict(networks.items()) == {"2001:db8::/32": 1, "10.0.0.1": 3}
    assert len(networks) == 2
    assert networks.get("10.0.0.1") == 3
    assert repr(networks) == "CidrMap({'2001:db8::/32': 1, '10.0.0.1': 3})"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.0.0.1/24", "'10.0.0.1/24' is not a network: it has bits set .* did you mean '10.0.0.0/24'?"),
        ("2001:db8::1/32", "did you mean '2001:db8::/32'?"),
        ("10.0.0.0/33", "'10.0.0.0/33' is not a network: write one such as"),
        ("10.0.0.0/255.0.0.0", "is not a network"),
        ("10.0.0.0/", "is not a network"),
        ("fe80::1%eth0", "is not a network"),
        ("10.0.0", "is not a network"),
        ("localhost", "is not a network"),
        ("", "is not a network"),
    ],
)
def test_what_is_no_network(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CidrSet([text])
    with pytest.raises(ValueError, match=message):
        CidrMap({text: 1})


def test_every_wrong_entry_is_named() -> None:
    with pytest.raises(ValueError, match=r"'x' is .*'y' is "):
        CidrSet(["x", "10.0.0.0/8", "y"])


def test_sets_are_equal_whatever_order_and_notation() -> None:
    assert CidrSet(["::1", "10.0.0.1/32"]) == CidrSet(["10.0.0.1", "0:0::1", "::1"])
    assert hash(CidrSet(["::1", "10.0.0.1"])) == hash(CidrSet(["10.0.0.1", "::1"]))
    assert CidrSet(["::1"]) != CidrSet(["::2"])
    assert CidrSet(["::1"]) != ["::1"]
    assert len(CidrSet(["any"])) == 2


class Listener(msgspec.Struct, forbid_unknown_fields=True):
    relay_hosts: CidrSet = CidrSet(["127.0.0.1", "::1"])


def test_as_an_option() -> None:
    assert convert({"relay_hosts": ["10.0.0.0/8"]}, Listener, "f").relay_hosts == CidrSet(["10.0.0.0/8"])
    assert convert({"relay_hosts": {}}, Listener, "f").relay_hosts == CidrSet()
    keyed = {"10.0.0.0/8": True, "::1": False}
    assert convert({"relay_hosts": keyed}, Listener, "f").relay_hosts == CidrSet(["10.0.0.0/8"])
    assert to_builtins(Listener()) == {"relay_hosts": ["127.0.0.1", "::1"]}
    for wrong in ("10.0.0.0/8", [1], 7):
        with pytest.raises(OptionError, match=r"^f: option 'relay_hosts': .* list of networks"):
            convert({"relay_hosts": wrong}, Listener, "f")


def test_memory_is_bounded() -> None:
    networks = CidrSet(["10.0.0.0/8"])
    for n in range(5000):
        assert str(ipaddress.IPv4Address(0x0A000000 + n)) in networks
    assert len(networks._memo) <= 1024


# Few bits, so that networks overlap and hold addresses often.
small = st.integers(0, 255)
v4_networks = st.builds(
    lambda bits, length: ipaddress.ip_network((bits << 24, length), strict=False), small, st.integers(0, 9)
)
v6_networks = st.builds(
    lambda bits, length: ipaddress.ip_network((bits << 120, length), strict=False), small, st.integers(0, 9)
)
addresses = st.builds(lambda bits: ipaddress.IPv4Address(bits << 24), small) | st.builds(
    lambda bits: ipaddress.IPv6Address(bits << 120), small
)


@given(st.lists(v4_networks | v6_networks, max_size=12), st.lists(addresses, max_size=12))
def test_agrees_with_the_standard_library(
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network],
    asked: list[ipaddress.IPv4Address | ipaddress.IPv6Address],
) -> None:
    chosen = CidrMap((str(network), network) for network in networks)
    members = CidrSet(map(str, networks))
    for address in asked:
        holding = [network for network in networks if address in network]
        longest = max(holding, key=lambda network: network.prefixlen, default=None)
        assert chosen.get(str(address)) == longest
        assert (str(address) in members) == bool(holding)


@given(st.text(alphabet="0123456789abcdef.:/[]%", max_size=24))
def test_any_text_is_an_entry_or_a_value_error(text: str) -> None:
    assert text not in CidrSet(["192.0.2.1"]) or "192.0.2.1" in text
    try:
        networks = CidrSet([text])
    except ValueError:
        return
    assert len(networks) == 1


@pytest.mark.parametrize("listen", ["0:25", "0.0.0.0:25", "[::]:25", "127.0.0.1:0"])
def test_addresses_to_listen_on(listen: str) -> None:
    check_listen_address(listen)


@pytest.mark.parametrize("listen", ["25", "localhost:25", "1.2.3:25", "0.0.0.0"])
def test_what_is_no_address_to_listen_on(listen: str) -> None:
    with pytest.raises(ValueError, match=r"write 'ip:port', such as '0\.0\.0\.0:25'"):
        check_listen_address(listen)
