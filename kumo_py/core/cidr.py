"""Sets and maps of IP networks (RFC 4632, RFC 4291 §2.3), asked by address.

Networks are written `10.0.0.0/8`, `2001:db8::/32`, as a lone address, or `any`;
bits set beyond the prefix are an error, as in KumoMTA. Of several networks that
hold an address the longest prefix decides, in whatever order they were given.

An address to look up may carry a port, `192.0.2.1:25` or `[2001:db8::1]:25`. An
IPv4 address mapped into IPv6 (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2) is also
looked for among the IPv4 networks: it is the same host, and a listener on `::` or
a hostile AAAA record must not let it pass for another one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

V = TypeVar("V")

_MEMO_SIZE = 1024
_MAPPED = 0xFFFF
_ANY = ("0.0.0.0/0", "::/0")


def split_host_port(text: str) -> tuple[str, int | None]:
    """Split `host:port`, `[ip6]:port`, `[ip6]`, or a host or address without port.

    Raises ValueError if what stands for the port is no port.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"'{text}' is not an address: expected [address] or [address]:port")
        colon, port = rest[:1], rest[1:]
    elif text.count(":") > 1:
        return text, None
    else:
        host, colon, port = text.partition(":")
    if not colon:
        return host, None
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"'{text}' is not an address: '{port}' is not a port number")
    return host, int(port)


def check_listen_address(text: str) -> None:
    """Raises ValueError unless it is an IP address with a port."""
    host, port = split_host_port(text)
    if port is None:
        raise ValueError(f"listen: '{text}' has no port: write 'ip:port', such as '0.0.0.0:25'")
    if host == "0":  # the old short form of 0.0.0.0, which policies use
        return
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        raise ValueError(
            f"listen: '{text}' is not an address: write 'ip:port', such as '0.0.0.0:25'"
        ) from None


class CidrMap(Generic[V]):
    """Networks with a value each; an address finds that of its longest prefix."""

    __slots__ = ("_entries", "_tables")

    def __init__(self, entries: Mapping[str, V] | Iterable[tuple[str, V]] = ()) -> None:
        """Raises ValueError for what is no network."""
        self._entries: dict[str, V] = {}
        # By address family (4, 6): for each prefix length in use, longest first, the
        # bits to shift an address by and the prefixes of that length.
        self._tables: dict[int, list[tuple[int, dict[int, V]]]] = {4: [], 6: []}
        for network, value in entries.items() if isinstance(entries, Mapping) else entries:
            self[network] = value

    def __setitem__(self, network: str, value: V) -> None:
        """Raises ValueError for what is no network."""
        for text in _ANY if network == "any" else (network,):
            parsed = _parse_network(text)
            self._entries[_shown(parsed)] = value
            tables = self._tables[parsed.version]
            shift = parsed.max_prefixlen - parsed.prefixlen
            if shift not in (known for known, _ in tables):
                tables.append((shift, {}))
                tables.sort(key=lambda table: table[0])
            dict(tables)[shift][int(parsed.network_address) >> shift] = value

    def get(self, address: str) -> V | None:
        """Return the value of the longest prefix, or None if none matches or it is no address."""
        try:
            found = _parse_address(address)
        except ValueError:
            return None
        number = int(found)
        for shift, prefixes in self._tables[found.version]:
            if number >> shift in prefixes:
                return prefixes[number >> shift]
        if found.version == 6 and number >> 32 == _MAPPED:
            return self.get(str(ipaddress.IPv4Address(number & 0xFFFF_FFFF)))
        return None

    def items(self) -> Iterable[tuple[str, V]]:
        """The networks in canonical notation, in the order given, with their values."""
        return self._entries.items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"CidrMap({self._entries!r})"


class CidrSet:
    """Networks such as "10.0.0.0/8" and "::1"; `address in networks`. Immutable, and the type of an option.

    Recent answers are remembered, so that asking for the same peers again costs a
    dict lookup.
    """

    option_type = "string[]|table<string, boolean>"

    __slots__ = ("_map", "_memo")

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Raises ValueError that names every entry that is no network."""
        self._map: CidrMap[bool] = CidrMap()
        self._memo: dict[str, bool] = {}
        problems = []
        for network in networks:
            try:
                self._map[network] = True
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError(", ".join(problems))

    @classmethod
    def from_option(cls, value: object) -> Self:
        """From a list of networks, or a table that has them as keys: {["10.0.0.0/8"] = true}."""
        if isinstance(value, Mapping):
            value = [network for network, member in value.items() if member is not False]
        if isinstance(value, str):
            raise ValueError(f"must be a list of networks: write {{ {value!r} }}")
        if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
            raise ValueError(f"{value!r} is not a list of networks such as '10.0.0.0/8' or '::1'")
        return cls(value)

    def to_option(self) -> list[str]:
        return list(self._map)

    def __contains__(self, address: str) -> bool:
        """Whether a network holds the address; False for what is no address."""
        found = self._memo.get(address)
        if found is None:
            if len(self._memo) >= _MEMO_SIZE:
                self._memo.clear()
            found = self._memo[address] = self._map.get(address) is not None
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._map)

    def __len__(self) -> int:
        return len(self._map)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CidrSet) and set(self) == set(other)

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def __repr__(self) -> str:
        return f"CidrSet({list(self)!r})"


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.IPv4Address(text) if ":" not in text else ipaddress.IPv6Address(text)
    except ValueError:
        return ipaddress.ip_address(split_host_port(text)[0])


def _parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    _, slash, length = text.partition("/")
    try:
        # ip_network would also take a netmask, and an interface's %scope.
        if "%" in text or (slash and not (length.isascii() and length.isdigit())):
            raise ValueError
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"'{text}' is not a network: write one such as '10.0.0.0/8' or '2001:db8::/32', or an address"
        ) from None
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            f"'{text}' is not a network: it has bits set beyond its prefix; did you mean '{loose}'?"
        ) from None


def _shown(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    host = network.prefixlen == network.max_prefixlen
    return str(network.network_address if host else network)
