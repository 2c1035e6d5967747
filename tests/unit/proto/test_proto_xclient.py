import pytest

from kumo_py.proto.command import CommandError, parse_command
from kumo_py.proto.xclient import XclientEndpoints, xclient_endpoints


@pytest.mark.parametrize(
    ("line", "endpoints"),
    [
        (b"XCLIENT ADDR=192.0.2.1 PORT=4000", XclientEndpoints("192.0.2.1", 4000)),
        (b"XCLIENT addr=IPV6:2001:DB8:0::1", XclientEndpoints("2001:db8::1")),
        (b"XCLIENT DESTADDR=::1 DESTPORT=25", XclientEndpoints(destaddr="::1", destport=25)),
        (b"XCLIENT PORT=0", XclientEndpoints(port=0)),
    ],
)
def test_endpoints(line: bytes, endpoints: XclientEndpoints) -> None:
    assert xclient_endpoints(parse_command(line).params) == endpoints


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"XCLIENT ADDR=[UNAVAILABLE]", "ADDR [UNAVAILABLE] is invalid"),
        (b"XCLIENT ADDR=fe80::1%1", "ADDR fe80::1%1 is invalid"),
        (b"XCLIENT DESTADDR=mx", "DESTADDR mx is invalid"),
        (b"XCLIENT PORT=65536", "PORT 65536 is invalid"),
        (b"XCLIENT PORT=0000000000025", "PORT 0000000000025 is invalid"),
        (b"XCLIENT DESTPORT=-1", "DESTPORT -1 is invalid"),
        (b"XCLIENT PORT=+D9+A3", "PORT \u0663 is invalid"),
        (b"XCLIENT NAME=x", "parameter NAME is not supported"),
    ],
)
def test_a_bad_attribute_carries_its_reply(line: bytes, text: str) -> None:
    with pytest.raises(CommandError) as caught:
        xclient_endpoints(parse_command(line).params)
    assert (caught.value.code, caught.value.text) == (501, text)
