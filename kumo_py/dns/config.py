"""Options of `kumo.dns.configure_resolver`, and the same read from a resolv.conf.

Durations are seconds. Some options of KumoMTA's are accepted so that its policies load, and change nothing; see
`without_effect`. We don't validate DNSSEC ourselves: with `validate`, the verdict of a validating name server (its
AD bit) is believed if it is on a loopback address (RFC 6840 section 5.8).
"""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import Annotated, Any, Literal

import msgspec

from kumo_py.core.duration import Duration
from kumo_py.dns.names import split_port

IpLookupStrategy = Literal["Ipv4AndIpv6", "Ipv4Only", "Ipv6Only", "Ipv6ThenIpv4", "Ipv4ThenIpv6"]
"""Which families to ask for, and in which order (KumoMTA make_egress_path.ip_lookup_strategy).

The *Then* forms ask for the second family only if the first one has no address or fails.
"""

ServerOrdering = Literal["QueryStatistics", "RoundRobin", "UserProvidedOrder"]
Transport = Literal["udp", "tcp", "udp_then_tcp"]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the option tables: unknown keys are errors."""


class ManagedAnchor(Options, frozen=True):
    """`trust_anchor_file = { managed = PATH }`."""

    managed: str


class ResolverOptions(Options, frozen=True):
    """`options` of a resolver; the defaults are KumoMTA's."""

    ndots: Count = 1
    timeout: Duration = Duration(5.0)
    attempts: Count = 2
    edns0: bool = True
    validate: bool = False
    ip_strategy: Literal[
        "Ipv4Only", "Ipv6Only", "Ipv4AndIpv6", "Ipv6AndIpv4", "Ipv6thenIpv4", "Ipv4thenIpv6"
    ] = "Ipv6AndIpv4"
    cache_size: Count = 8192
    use_hosts_file: Literal["Always", "Auto", "Never"] = "Auto"
    positive_min_ttl: Duration | None = None
    positive_max_ttl: Duration | None = None
    negative_min_ttl: Duration | None = None
    negative_max_ttl: Duration | None = None
    num_concurrent_reqs: Count = 2
    preserve_intermediates: bool = True
    try_tcp_on_error: bool = False
    server_ordering_strategy: ServerOrdering = "QueryStatistics"
    recursion_desired: bool = True
    case_randomization: bool = False
    trust_anchor_file: str | ManagedAnchor | None = None


class NameServer(Options, frozen=True):
    """One name server. `trust_negative_responses = false`: others are asked before a denial is believed."""

    socket_addr: str
    protocol: Transport = "udp_then_tcp"
    trust_negative_responses: bool = True
    bind_addr: str | None = None

    def __post_init__(self) -> None:
        parse_socket_address(self.socket_addr)
        if self.bind_addr is not None:
            parse_socket_address(self.bind_addr)


class ResolverConfig(Options, frozen=True):
    """A resolver. Without `name_servers` they are taken from /etc/resolv.conf at the first lookup."""

    domain: str | None = None
    search: list[str] = []
    name_servers: list[str | NameServer] = []
    options: ResolverOptions = ResolverOptions()

    def __post_init__(self) -> None:
        for server in self.name_servers:
            if isinstance(server, str):
                parse_socket_address(server)


_ABSOLUTE = "every name that is asked for is absolute"
_NO_EFFECT = {
    "domain": _ABSOLUTE,
    "search": _ABSOLUTE,
    "ndots": _ABSOLUTE,
    "ip_strategy": "the ip_lookup_strategy of an egress path, or of kumo.dns.lookup_addr, is the one that counts",
    "preserve_intermediates": "answers never contain the CNAMEs that led to them",
    "case_randomization": "name servers are expected to be the operator's own caches",
    "trust_anchor_file": "the name server has to validate; with validate = true it is believed on a loopback address",
}


def without_effect(config: ResolverConfig) -> list[str]:
    """A sentence for each option that was set and changes nothing: for a warning."""
    defaults = (ResolverConfig(), ResolverOptions())
    found = [
        f"the resolver option '{name}' has no effect: {reason}"
        for name, reason in _NO_EFFECT.items()
        for given, default in zip((config, config.options), defaults, strict=True)
        if hasattr(given, name) and getattr(given, name) != getattr(default, name)
    ]
    if config.options.validate:
        found += [
            f"the name server {address} is not on a loopback address: "
            "its DNSSEC verdicts are not believed in spite of 'validate'"
            for server in config.name_servers
            if not _is_loopback(address := server if isinstance(server, str) else server.socket_addr)
        ]
    return found


def _is_loopback(socket_address: str) -> bool:
    return ip_address(str(parse_socket_address(socket_address)[1][0]).partition("%")[0]).is_loopback


_RESOLV_CONF_MAX = {"ndots": 15, "timeout": 30, "attempts": 5}


def parse_socket_address(text: str) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """The family and socket address of `IP:PORT`. Asks no name server. Raises ValueError."""
    host, port = split_port(text)
    if port is not None:
        try:
            # A numeric address needs no lookup; unlike ipaddress, this knows IPv6 scopes.
            numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_DGRAM, flags=numeric)
            return found[0][0], found[0][4]
        except (OSError, UnicodeError):
            pass
    raise ValueError(f"'{text}' is not IP:PORT, such as 192.0.2.1:53 or [2001:db8::1]:53")


def load_resolv_conf(path: str = "/etc/resolv.conf") -> ResolverConfig:
    """Read a resolv.conf (kumo.dns.load_resolv_conf). What it doesn't say is resolv.conf(5)'s default.

    Lines that aren't understood are skipped, as resolv.conf(5) has it. Raises OSError.
    """
    servers: list[str | NameServer] = []
    domain: str | None = None
    search: list[str] = []
    numbers = {"ndots": 1, "timeout": 5, "attempts": 2}
    edns0 = False
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            match line.split():
                case ["nameserver", address, *_]:
                    server = f"[{address}]:53" if ":" in address else f"{address}:53"
                    with suppress(ValueError):
                        parse_socket_address(server)
                        servers.append(server)
                case ["domain", domain, *_]:
                    pass
                case ["search", *search]:
                    pass
                case ["options", *options]:
                    edns0 = edns0 or "edns0" in options
                    for option in options:
                        key, _, value = option.partition(":")
                        if key in numbers and value.isdecimal():
                            numbers[key] = min(int(value), _RESOLV_CONF_MAX[key])
    if not search and domain is not None:
        search = [domain]
    return ResolverConfig(
        domain=domain,
        search=search,
        name_servers=servers,
        options=ResolverOptions(
            ndots=numbers["ndots"],
            timeout=Duration(numbers["timeout"]),
            attempts=numbers["attempts"],
            edns0=edns0,
        ),
    )
