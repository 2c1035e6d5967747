"""Which hosts take a domain's mail (RFC 5321 section 5.1), made of the answer to its MX lookup."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kumo_py.dns.answer import MxRecord
from kumo_py.dns.errors import DnsError
from kumo_py.dns.names import is_host_name, join_port, split_port
from kumo_py.dns.site import site_name

if TYPE_CHECKING:
    from kumo_py.dns.answer import Answer
    from kumo_py.dns.mta_sts import Mode, Verdict

MAX_HOSTS = 32
"""Hosts of a domain that count, best first.

Large receivers publish fewer than ten; an answer of 64 KiB could hold two thousand, and
each host costs two lookups per connection plan and a part of the site name.
"""

_NULL_HOST = "."
_SOLE_PREFERENCE = 1
"""The preference that KumoMTA gives a domain's own addresses."""


@dataclass(slots=True, frozen=True)
class MailExchanger:
    """A domain's mail hosts. Names are lower case A-labels, without the trailing dot that KumoMTA shows."""

    domain: str
    """As looked up; an address literal as given."""
    hosts: tuple[str, ...]
    """In preference order, sorted inside a preference; `name:port` if the domain was given with a port."""
    site_name: str
    by_pref: dict[int, tuple[str, ...]]
    """The same hosts by preference, ascending. Not to be changed."""
    is_domain_literal: bool
    is_mx: bool
    """The hosts come from MX records; False if the domain's own addresses stand in for them."""
    is_secure: bool
    """The MX answer, or the denial that led to the domain's own addresses, was DNSSEC-validated."""
    is_null: bool
    """The domain takes no mail (RFC 7505); `hosts` is (".",)."""
    expires: float
    """On the resolver's clock; infinite for a literal."""
    mta_sts: Mode = "None"
    """The mode of the domain's MTA-STS policy. Hosts that it doesn't permit are left out already."""


@dataclass(slots=True, frozen=True)
class HostAddress:
    """One address of a host."""

    name: str
    addr: str
    """IP address text."""
    is_secure: bool
    """The lookup was DNSSEC-validated."""
    port: int | None = None
    """If the domain or the host was given with one."""


def from_literal(domain: str, address: str, port: int | None) -> MailExchanger:
    host = join_port(address, port)
    return MailExchanger(
        domain=domain,
        hosts=(host,),
        site_name=host,
        by_pref={_SOLE_PREFERENCE: (host,)},
        is_domain_literal=True,
        is_mx=False,
        is_secure=False,
        is_null=False,
        expires=float("inf"),
    )


def from_answer(domain: str, port: int | None, answer: Answer, expires: float) -> MailExchanger:
    """The plan for a domain that exists. Raises DnsError if none of its MX records names a host."""
    records = sorted({record for record in answer.records if isinstance(record, MxRecord)})
    is_null = bool(records) and all(record.host == _NULL_HOST for record in records)
    by_pref: dict[int, tuple[str, ...]]
    if is_null:
        by_pref = {records[0].preference: (_NULL_HOST,)}
    elif records:
        # A stray null MX beside hosts means nothing (RFC 7505 section 3).
        usable = [record for record in records if is_host_name(record.host)][:MAX_HOSTS]
        if not usable:
            shown = ", ".join(record.host for record in records[:3])
            raise DnsError(domain, "MX", f"no MX record has a host name: {shown}")
        by_pref = {}
        for record in usable:
            by_pref[record.preference] = (*by_pref.get(record.preference, ()), join_port(record.host, port))
    else:
        by_pref = {_SOLE_PREFERENCE: (join_port(domain, port),)}
    return MailExchanger(
        domain=domain,
        hosts=tuple(host for hosts in by_pref.values() for host in hosts),
        site_name="" if is_null else site_name(by_pref),
        by_pref=by_pref,
        is_domain_literal=False,
        is_mx=bool(records),
        is_secure=answer.is_secure,
        is_null=is_null,
        expires=expires,
    )


def restricted(mx: MailExchanger, verdict: Verdict) -> MailExchanger:
    """The plan with the hosts that the domain's MTA-STS policy permits (RFC 8461 section 5).

    Raises DnsError if an enforced policy permits none of them.
    """
    policy = verdict.policy
    expires = min(mx.expires, verdict.expires)
    if policy.mode != "Enforce":
        return replace(mx, mta_sts=policy.mode, expires=expires)
    by_pref = {
        preference: permitted
        for preference, hosts in mx.by_pref.items()
        if (permitted := tuple(host for host in hosts if policy.permits(split_port(host)[0])))
    }
    if not by_pref:
        raise DnsError(
            mx.domain,
            "MX",
            f"the MTA-STS enforce policy of {mx.domain} permits none of its MX hosts "
            f"{', '.join(mx.hosts[:5])}; it permits {', '.join(policy.mx[:5])}. "
            "No mail can be sent there until the domain's owner corrects the policy",
        )
    return replace(
        mx,
        hosts=tuple(host for hosts in by_pref.values() for host in hosts),
        site_name=site_name(by_pref),
        by_pref=by_pref,
        mta_sts=policy.mode,
        expires=expires,
    )
