from __future__ import annotations

import pytest

from kumo_py.dns.errors import DnsError, NoSuchDomain
from kumo_py.dns.names import absolute_name, is_host_name, join_port, parse_literal, reverse_name, split_port


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER。Example.", "xn--bcher-kva.example"),
        ("_dmarc.bücher.example", "_dmarc.xn--bcher-kva.example"),
        ("xn--bb-eka.at", "xn--bb-eka.at"),
        ("0/25.2.0.192.in-addr.arpa", "0/25.2.0.192.in-addr.arpa"),
        ("localhost", "localhost"),
    ],
)
def test_a_name_becomes_absolute(text: str, name: str) -> None:
    assert absolute_name(text, "MX") == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        ".a",
        "a b.example",
        "a\n.example",
        "a\\.example",
        "x" * 64 + ".example",
        "x." * 127 + "xx",
        "ü" * 70 + ".example",
        "\u2028.example",
        "a\x7f.example",
    ],
)
def test_what_no_zone_can_hold_doesnt_exist(text: str) -> None:
    with pytest.raises(NoSuchDomain, match="not a domain name"):
        absolute_name(text, "MX")


def test_an_error_says_what_failed_for_whom() -> None:
    error = DnsError("example.com", "MX", "SERVFAIL")
    assert str(error) == "MX lookup for example.com failed: SERVFAIL"
    assert (error.name, error.rdtype, error.problem) == ("example.com", "MX", "SERVFAIL")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("mx.example", "mx.example", None),
        ("mx.example:2525", "mx.example", 2525),
        ("mx.example:", "mx.example:", None),
        ("mx.example:65536", "mx.example:65536", None),
        ("mx.example:²", "mx.example:²", None),
        ("::1", "::1", None),
        ("[::1]:25", "[::1]", 25),
        ("[IPv6:::1]", "[IPv6:::1]", None),
        ("[192.0.2.1]:25", "[192.0.2.1]", 25),
    ],
)
def test_a_port_is_split_off(text: str, host: str, port: int | None) -> None:
    assert split_port(text) == (host, port)


def test_a_port_is_joined() -> None:
    assert join_port("mx.example", None) == "mx.example"
    assert join_port("mx.example", 25) == "mx.example:25"
    assert join_port("::1", 25) == "[::1]:25"
    assert join_port("::1", None) == "::1"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:DB8::1]", "2001:db8::1"),
        ("[ipv6:::1]", "::1"),
        ("[::1]", "::1"),
        ("192.0.2.1", "192.0.2.1"),
        ("::1", "::1"),
    ],
)
def test_an_address_literal(text: str, address: str) -> None:
    assert parse_literal(text) == address


@pytest.mark.parametrize(
    "text",
    ["[192.0.2.1", "[IPv6:192.0.2.1]", "[192.0.2]", "[]", "[fe80::1%lo]", "[example.com]", "[010.0.0.1]"],
)
def test_a_malformed_literal(text: str) -> None:
    with pytest.raises(ValueError, match=r"write \[192\.0\.2\.1\] or \[IPv6:2001:db8::1\]"):
        parse_literal(text)


@pytest.mark.parametrize(
    "name", ["mx1.example.com", "my_host.example", "a-b", "xn--bcher-kva.example", "3com.1a"]
)
def test_a_host_name(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize(
    "name",
    ["a|b.example", "alt?.example", "(a).example", "a->b", "a\\@b", "192.0.2.1", "a\\032b.example", ".", ""],
)
def test_not_a_host_name(name: str) -> None:
    assert not is_host_name(name)


def test_reverse_names() -> None:
    assert reverse_name("192.0.2.1") == "1.2.0.192.in-addr.arpa"
    assert reverse_name("2001:db8::1").endswith("8.b.d.0.1.0.0.2.ip6.arpa")
    with pytest.raises(ValueError, match="example"):
        reverse_name("example.com")
