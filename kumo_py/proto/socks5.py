"""A SOCKS 5 client's side of the handshake without I/O (RFC 1928, and RFC 1929 for logins).

KumoMTA's proxies are asked for two things on one connection: BIND with the address that the connection is to come
from, then CONNECT to where it is to go. A proxy that knows only one request a connection cannot be used so.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Generator

Endpoint: TypeAlias = tuple[str, int]

_VERSION: Final = 5
_NO_LOGIN: Final = 0
_LOGIN: Final = 2
_NOTHING_ACCEPTABLE: Final = 0xFF
_LOGIN_VERSION: Final = 1
_CONNECT: Final = 1
_BIND: Final = 2
_IPV4: Final = 1
_NAME: Final = 3
_IPV6: Final = 4
_REPLIES: Final = (
    "succeeded",
    "general failure of the proxy",
    "not allowed by the proxy's rules",
    "network unreachable",
    "host unreachable",
    "connection refused",
    "TTL expired",
    "command not supported",
    "address type not supported",
)
"""RFC 1928 §6, by code."""


class Socks5Error(Exception):
    """The proxy refuses, or does not speak SOCKS 5."""


class BindRefused(Socks5Error):
    """The proxy cannot use the source address."""


class Login(NamedTuple):
    """RFC 1929: 1 to 255 octets each."""

    username: bytes
    password: bytes


def negotiate(
    source: str, destination: Endpoint, login: Login | None = None
) -> Generator[tuple[bytes, int], bytes, Endpoint]:
    """The handshake: yields what to send and how many octets to read then, and is sent exactly these.

    Returns the address that the connection comes from, as the proxy says. What follows on the wire is the
    destination's. Raises Socks5Error; ValueError for what cannot be written.
    """
    if login is not None and not (0 < len(login.username) < 256 and 0 < len(login.password) < 256):
        raise ValueError("a SOCKS5 username and password have 1 to 255 octets each (RFC 1929)")
    methods = bytes([_NO_LOGIN] if login is None else [_NO_LOGIN, _LOGIN])
    version, method = yield bytes([_VERSION, len(methods)]) + methods, 2
    if version != _VERSION:
        raise Socks5Error(f"it answers with version {version}, not {_VERSION}")
    if method == _LOGIN and login is not None:
        name, password = login
        request = bytes([_LOGIN_VERSION, len(name)]) + name + bytes([len(password)]) + password
        version, status = yield request, 2
        if version != _LOGIN_VERSION:
            raise Socks5Error(f"it answers the login with version {version}, not {_LOGIN_VERSION}")
        if status != 0:
            raise Socks5Error("it does not accept the username and password")
    elif method == _NOTHING_ACCEPTABLE:
        wanted = "a username and password" if login is None else "another kind of login"
        raise Socks5Error(f"it wants {wanted}")
    elif method != _NO_LOGIN:
        raise Socks5Error(f"it chose the login method {method}, which was not offered")
    try:
        yield from _request(_BIND, (source, 0))
    except Socks5Error as err:
        raise BindRefused(f"it cannot bind {source}: {err}") from None
    try:
        return (yield from _request(_CONNECT, destination))
    except Socks5Error as err:
        raise Socks5Error(f"it cannot connect {source} to {destination[0]}:{destination[1]}: {err}") from None


def _request(command: int, address: Endpoint) -> Generator[tuple[bytes, int], bytes, Endpoint]:
    """One request and its reply (RFC 1928 §4, §6); the address in the reply."""
    ip = ip_address(address[0])
    kind = _IPV4 if ip.version == 4 else _IPV6
    request = bytes([_VERSION, command, 0, kind]) + ip.packed + address[1].to_bytes(2)
    version, code, _, kind = yield request, 4
    if version != _VERSION:
        raise Socks5Error(f"version {version} in a reply")
    # Some proxies end here after a failure, so its address is not waited for.
    if code != 0:
        raise Socks5Error(_REPLIES[code] if code < len(_REPLIES) else f"code {code}")
    if kind == _NAME:
        (length,) = yield b"", 1
        rest = yield b"", length + 2
        return rest[:-2].decode("ascii", "backslashreplace"), int.from_bytes(rest[-2:])
    if kind not in (_IPV4, _IPV6):
        raise Socks5Error(f"address type {kind} in a reply")
    rest = yield b"", 6 if kind == _IPV4 else 18
    bound = IPv4Address(rest[:-2]) if kind == _IPV4 else IPv6Address(rest[:-2])
    return str(bound), int.from_bytes(rest[-2:])
