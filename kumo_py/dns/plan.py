"""The order in which to try a domain's hosts (RFC 5321 section 5.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from kumo_py.dns.errors import DnsError
from kumo_py.dns.exchanger import HostAddress
from kumo_py.dns.names import split_port

if TYPE_CHECKING:
    import random

    from kumo_py.dns.config import IpLookupStrategy
    from kumo_py.dns.exchanger import MailExchanger
    from kumo_py.dns.resolver import Resolver


async def connection_plan(
    resolver: Resolver, mx: MailExchanger, strategy: IpLookupStrategy, random: random.Random
) -> tuple[HostAddress, ...]:
    """The addresses to connect to, the first to try first, none twice.

    Preferences ascend; inside one the addresses of all its hosts are shuffled, as
    KumoMTA does, so that hosts share the load and so do a host's addresses. A host whose
    lookup fails is left out. Empty: no host has an address, or `mx.is_null`. Raises
    DnsError if there is no address and a lookup failed.
    """
    if mx.is_null:
        return ()
    hosts = {host: split_port(host) for host in mx.hosts}
    if mx.is_domain_literal:
        return tuple(HostAddress(name, name.strip("[]"), False, port) for name, port in hosts.values())
    found: dict[str, tuple[HostAddress, ...]] = {}
    failures: list[DnsError] = []

    async def resolve(host: str, name: str) -> None:
        try:
            found[host] = await resolver.lookup_addresses(name, strategy)
        except DnsError as error:
            failures.append(error)

    missing = []
    for host, (name, _) in hosts.items():
        addresses = resolver.cached_addresses(name, strategy)
        if addresses is None:
            missing.append((host, name))
        else:
            found[host] = addresses
    if missing:
        async with trio.open_nursery() as nursery:
            for host, name in missing:
                nursery.start_soon(resolve, host, name)

    plan: dict[tuple[str, int | None], HostAddress] = {}
    for level in mx.by_pref.values():
        candidates = [
            address if hosts[host][1] is None else replace(address, port=hosts[host][1])
            for host in level
            for address in found.get(host, ())
        ]
        random.shuffle(candidates)
        for address in candidates:
            plan.setdefault((address.addr, address.port), address)
    if not plan and failures:
        raise failures[0]
    return tuple(plan.values())
