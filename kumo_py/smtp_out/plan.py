"""The connection plan: which addresses of a site to try, in which order.

Hosts come in MX preference order, shuffled within a preference (RFC 5321 §5.1); an `mx_list` keeps the order
it is written in. Null MX (RFC 7505), prohibited and skipped hosts end a plan before it begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.dns import DnsError, HostAddress, connection_plan
from kumo_py.dns.names import parse_literal, split_port
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue.config import NamedHost
from kumo_py.queue.context import InsertReason

if TYPE_CHECKING:
    from random import Random

    from kumo_py.dns import IpLookupStrategy, Resolver
    from kumo_py.queue.ready import ReadyQueue


class NoPlan(Exception):
    """There is nobody to connect to: what to answer every message of the ready queue, and why."""

    def __init__(self, response: Response, reason: InsertReason) -> None:
        super().__init__(response.to_single_line())
        self.response = response
        self.reason = reason


def shown(host: HostAddress) -> str:
    """The address as log records show it: with a port only if the plan names one."""
    if host.port is None:
        return host.addr
    return f"[{host.addr}]:{host.port}" if ":" in host.addr else f"{host.addr}:{host.port}"


async def make_plan(ready: ReadyQueue, resolver: Resolver, random: Random) -> list[HostAddress]:
    """The addresses, best first. Raises NoPlan."""
    path = ready.path
    strategy: IpLookupStrategy = path.ip_lookup_strategy
    hosts: list[HostAddress] = []
    if ready.mx is None:
        hosts = await _listed(ready, resolver, strategy)
    elif ready.mx.is_null:
        raise NoPlan(
            Response(556, EnhancedCode(5, 1, 10), "Recipient address has a null MX"), InsertReason.NULL_MX
        )
    else:
        try:
            hosts = list(await connection_plan(resolver, ready.mx, strategy, random))
        except DnsError as err:
            raise NoPlan(
                Response(451, EnhancedCode(4, 4, 4), f"MX didn't resolve to any hosts: {err}"),
                InsertReason.NO_HOSTS,
            ) from err
    if not hosts:
        raise NoPlan(
            Response(451, EnhancedCode(4, 4, 4), "MX didn't resolve to any hosts"), InsertReason.NO_HOSTS
        )
    for host in hosts:
        if host.addr in path.prohibited_hosts:
            text = f"{host.name}/{shown(host)} is on the list of prohibited_hosts {path.prohibited_hosts}"
            raise NoPlan(Response(550, EnhancedCode(5, 4, 4), text), InsertReason.PROHIBITED_HOST)
    allowed = [host for host in hosts if host.addr not in path.skip_hosts]
    if not allowed:
        text = "KumoMTA internal: MX consisted solely of hosts on the skip_hosts list"
        raise NoPlan(Response(451, EnhancedCode(4, 4, 4), text), InsertReason.SKIPPED_HOSTS)
    return allowed


async def _listed(ready: ReadyQueue, resolver: Resolver, strategy: IpLookupStrategy) -> list[HostAddress]:
    """The addresses of an `mx_list`; a host that cannot be resolved is left out."""
    hosts: list[HostAddress] = []
    smtp = ready.protocol.smtp
    for entry in smtp.mx_list if smtp is not None else ():
        if isinstance(entry, NamedHost):
            address, port = split_port(entry.addr)
            hosts.append(HostAddress(entry.name, address.strip("[]"), False, port))
            continue
        name, port = split_port(entry)
        try:
            hosts.append(HostAddress(name, parse_literal(name), False, port))
            continue
        except ValueError:
            pass  # a name
        try:
            found = await resolver.lookup_addresses(name, strategy)
        except DnsError:
            continue
        hosts.extend(HostAddress(name, item.addr, item.is_secure, port) for item in found)
    return hosts
