import pytest

from kumo_py.proto.proxy import ProxyError, ProxyHeader, build_v1, build_v2, parse_proxy_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = (("192.0.2.1", 40000), ("198.51.100.2", 25))
V6 = (("2001:db8::1", 0), ("2001:db8::2", 65535))


def v2(version_command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes([version_command, family]) + len(body).to_bytes(2, "big") + body


def test_build_v1() -> None:  # proxy-protocol.txt §2.1
    assert build_v1(*V4) == b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 25\r\n"
    assert build_v1(*V6) == b"PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n"


def test_build_v2() -> None:  # §2.2
    assert build_v2(*V4) == SIGNATURE + b"\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x9c\x40\x00\x19"
    assert build_v2(*V6)[12:16] == b"\x21\x21\x00\x24"
    assert len(build_v2(*V6)) == 52


@pytest.mark.parametrize(
    ("header", "source", "destination"),
    [
        (build_v1(*V4), *V4),
        (build_v1(*V6), *V6),
        (build_v2(*V4), *V4),
        (build_v2(*V6), *V6),
        (b"PROXY UNKNOWN\r\n", None, None),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None, None),
        (v2(0x20, 0x00, b""), None, None),
        (v2(0x20, 0xFF, b"whatever"), None, None),
        (v2(0x21, 0x00, b"\x04\x00\x01x"), None, None),
        (v2(0x21, 0x31, b"/" * 216), None, None),
        (v2(0x21, 0x12, build_v2(*V4)[16:]), *V4),
        (v2(0x21, 0x11, build_v2(*V4)[16:] + b"\x04\x00\x01x"), *V4),
        (v2(0x21, 0x11, build_v2(*V4)[16:] + b"x" * 65000), *V4),
    ],
)
def test_a_header_is_complete_with_its_last_byte(
    header: bytes, source: tuple[str, int] | None, destination: tuple[str, int] | None
) -> None:
    for size in range(min(len(header), 200)):
        assert parse_proxy_header(header[:size]) is None
    assert parse_proxy_header(header[:-1]) is None
    assert parse_proxy_header(header + b"EHLO") == ProxyHeader(source, destination, len(header))


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO x\r\n",
        b"PROXYTCP4",
        b"\r\n\r\n\0\r\nQUIX",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 40000\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 25 \r\n",
        b"PROXY TCP4 192.0.2.1  198.51.100.2 40000 25\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.2 40000 25\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 40000 25\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.2 40000 25\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 40000 25\r\n",
        b"PROXY TCP6 ::1::2 ::1 40000 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 025 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 25\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.2 1 25\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY TCP4 192.0.2.1\n198.51.100.2 1 25\r\n",
        b"PROXY UNKNOWN " + b"x" * 93,
        v2(0x11, 0x11, b""),
        v2(0x22, 0x11, b""),
        v2(0x21, 0x41, b""),
        v2(0x21, 0x13, b""),
        v2(0x21, 0x11, b"x" * 11),
        v2(0x21, 0x21, b"x" * 35),
        v2(0x21, 0x31, b"x" * 215),
    ],
)
def test_anything_else_is_an_error(data: bytes) -> None:
    with pytest.raises(ProxyError):
        parse_proxy_header(data)


def test_version_1_is_bounded() -> None:
    assert parse_proxy_header(b"PROXY UNKNOWN " + b"x" * 92) is None
    longest = b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n"
    assert parse_proxy_header(longest) == ProxyHeader(None, None, 107)


@pytest.mark.parametrize("build", [build_v1, build_v2])
def test_only_two_addresses_of_one_family_can_be_written(build: type) -> None:
    with pytest.raises(ValueError, match="both must be IPv4 or both IPv6"):
        build(("192.0.2.1", 1), ("::1", 1))
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        build(("example.com", 1), ("::1", 1))
    with pytest.raises(ValueError, match="port"):
        build(("::1", 1), ("::1", 65536))
