"""The PROXY protocol, versions 1 and 2, after HAProxy's proxy-protocol.txt: read and written.

Reading is incremental and bounded: version 1 ends within 107 bytes, version 2 within 16 bytes plus the length
it announces. The section numbers are those of that document.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

Endpoint: TypeAlias = tuple[str, int]

_V1_START: Final = b"PROXY "
_V1_LIMIT: Final = 107  # §2.1, CRLF included
_V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD: Final = Struct("!12sBBH")
_V2_IPV4: Final = Struct("!4s4sHH")
_V2_IPV6: Final = Struct("!16s16sHH")
_V2_UNIX_LENGTH: Final = 216

_match_v1 = re.compile(
    rb"PROXY TCP(?:4 ([0-9.]++) ([0-9.]++)|6 ([0-9A-Fa-f:.]++) ([0-9A-Fa-f:.]++))"
    rb" (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
).fullmatch


class ProxyError(ValueError):
    """The bytes are no PROXY header."""


class ProxyHeader(NamedTuple):
    """What the proxy says of the connection it relays.

    source, destination: (IP address, port) of the client and of what it connected to; None if the proxy
    speaks for itself (LOCAL) or names no IP address (UNKNOWN, UNSPEC, UNIX): then the real connection counts.
    consumed: bytes of the header; what follows them belongs to the client.
    """

    source: Endpoint | None
    destination: Endpoint | None
    consumed: int


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """Read the header from all that has arrived so far; None: come back with more. Raises ProxyError."""
    if data.startswith(_V1_START):
        return _parse_v1(data)
    if data.startswith(_V2_SIGNATURE):
        return _parse_v2(data)
    if _V1_START.startswith(data) or _V2_SIGNATURE.startswith(data):
        return None
    raise ProxyError(f"expected a PROXY header, got {data[:16]!r}")


def build_v1(source: Endpoint, destination: Endpoint) -> bytes:
    """Write a version 1 header. Raises ValueError for what is no IP address, or a mix of IPv4 and IPv6."""
    from_address, to_address = _same_family(source, destination)
    line = f"PROXY TCP{from_address.version} {from_address} {to_address} {source[1]} {destination[1]}\r\n"
    return line.encode()


def build_v2(source: Endpoint, destination: Endpoint) -> bytes:
    """Write a version 2 header; otherwise as build_v1."""
    from_address, to_address = _same_family(source, destination)
    family, layout = (0x11, _V2_IPV4) if from_address.version == 4 else (0x21, _V2_IPV6)
    addresses = layout.pack(from_address.packed, to_address.packed, source[1], destination[1])
    return _V2_HEAD.pack(_V2_SIGNATURE, 0x21, family, layout.size) + addresses


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _V1_LIMIT)
    if end < 0:
        if len(data) >= _V1_LIMIT:
            raise ProxyError(f"no CRLF within the first {_V1_LIMIT} bytes of a PROXY header")
        return None
    line = data[:end]
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return ProxyHeader(None, None, end + 2)
    match = _match_v1(line)
    if match is None:
        raise ProxyError(f"expected 'PROXY TCP4|TCP6 source destination port port', got {line!r}")
    source4, destination4, source6, destination6, *ports = match.groups()
    try:
        if source4:
            addresses = [str(IPv4Address(text.decode())) for text in (source4, destination4)]
        else:
            addresses = [str(IPv6Address(text.decode())) for text in (source6, destination6)]
    except ValueError as error:
        raise ProxyError(f"in {line!r}: {error}") from None
    source_port, destination_port = (int(port) for port in ports)
    if max(source_port, destination_port) > 65535:
        raise ProxyError(f"in {line!r}: a port is above 65535")
    return ProxyHeader((addresses[0], source_port), (addresses[1], destination_port), end + 2)


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD.size:
        return None
    _, version_command, family, length = _V2_HEAD.unpack_from(data)
    if version_command not in (0x20, 0x21):
        raise ProxyError(f"expected version 2 and command LOCAL or PROXY, got {version_command:#04x}")
    end = _V2_HEAD.size + length
    if len(data) < end:
        return None
    if version_command == 0x20:  # LOCAL: whatever else the header says is to be ignored (§2.2)
        return ProxyHeader(None, None, end)
    address_family, transport = family >> 4, family & 0x0F
    if address_family > 3 or transport > 2:
        raise ProxyError(f"unknown address family and transport {family:#04x}")
    # Type-length-values may follow the addresses (§2.2.1 and on); none of them matters here.
    if address_family == 0 or transport == 0:
        return ProxyHeader(None, None, end)
    if address_family == 3:
        if length < _V2_UNIX_LENGTH:
            raise ProxyError(f"{length} bytes are too short for two UNIX addresses")
        return ProxyHeader(None, None, end)
    layout = _V2_IPV4 if address_family == 1 else _V2_IPV6
    if length < layout.size:
        raise ProxyError(f"{length} bytes are too short for two IP addresses and ports")
    source, destination, *ports = layout.unpack_from(data, _V2_HEAD.size)
    return ProxyHeader((str(ip_address(source)), ports[0]), (str(ip_address(destination)), ports[1]), end)


def _same_family(
    source: Endpoint, destination: Endpoint
) -> tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address]:
    pair = ip_address(source[0]), ip_address(destination[0])
    if pair[0].version != pair[1].version:
        raise ValueError(f"a PROXY header cannot mix {pair[0]} and {pair[1]}: both must be IPv4 or both IPv6")
    if not (0 <= source[1] <= 65535 and 0 <= destination[1] <= 65535):
        raise ValueError("a port is not within 0 and 65535")
    return pair
