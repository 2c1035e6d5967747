"""DMARC (RFC 7489): whether what DKIM and SPF found speaks for the domain in From, and what it wants done if not.

The words of the result are KumoMTA's, and so is this: a domain without a record gives PermError.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from kumo_py.auth.dmarc_record import DmarcRecord, Policy, is_dmarc, parse_record
from kumo_py.auth.lookups import TemporaryFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kumo_py.auth.dmarc_record import Alignment
    from kumo_py.auth.lookups import Lookups
    from kumo_py.message.authentication_results import AuthenticationResult

Disposition = Literal["Pass", "None", "Quarantine", "Reject", "TempError", "PermError"]

_DISPOSITIONS: dict[Policy, Disposition] = {"none": "None", "quarantine": "Quarantine", "reject": "Reject"}
_MILDER: dict[Policy, Policy] = {"none": "none", "quarantine": "none", "reject": "quarantine"}


@dataclass(slots=True, frozen=True, kw_only=True)
class DmarcRequest:
    """A message, as far as DMARC cares."""

    from_domain: str
    """Of the From header."""
    mail_from_domain: str
    """Of the envelope sender; empty for the null sender. It stands in if the SPF result names none."""
    dkim: Sequence[AuthenticationResult]
    spf: AuthenticationResult
    sample: int
    """A random number below 100, for records that want only a part of failing mail treated (`pct`)."""


@dataclass(slots=True, frozen=True)
class Failure:
    """Authentication that passed for a domain that is not the one in From."""

    record: DmarcRecord
    record_name: str
    policy: Policy
    reason: str


@dataclass(slots=True, frozen=True)
class DmarcResult:
    disposition: Disposition
    reason: str
    policy: Policy | None = None
    """What the domain wants done with mail that fails; None without a record."""
    props: dict[str, str] = field(default_factory=dict)
    """The record's tags as properties `policy.…`."""
    failure: Failure | None = None
    """For a report to the domain's owner."""


async def check(
    request: DmarcRequest, lookups: Lookups, organizational: Callable[[str], str | None]
) -> DmarcResult:
    """Find the domain's record and apply it. `organizational` gives the registrable domain of a normal name."""
    domain = normal(request.from_domain)
    above = organizational(domain)
    name = f"_dmarc.{domain}"
    record = await _published(name, lookups)
    is_inherited = record is None and above is not None and above != domain
    if is_inherited:
        name = f"_dmarc.{above}"
        record = await _published(name, lookups)
    match record:
        case DmarcResult():
            return record
        case None if above is None:
            return DmarcResult("None", f"no DMARC records found for {domain}")
        case None:
            return DmarcResult("PermError", f"no DMARC records found for {name if is_inherited else domain}")
    policy = (is_inherited and record.subdomain_policy) or record.policy
    props = {f"policy.{tag}": value for tag, value in record.tags.items()}
    dkim_problem = _dkim_problem(request, domain, record.dkim_alignment, organizational)
    spf_problem = _spf_problem(request, domain, record.spf_alignment, organizational)
    if "" in (dkim_problem, spf_problem):
        return DmarcResult("Pass", "Success", policy, props)
    reason = spf_problem or dkim_problem
    failure = None if reason is None else Failure(record, name, policy, reason)
    reason = reason or "No aligned DKIM or SPF"
    applied = policy
    if request.sample >= record.percent:
        applied = _MILDER[policy]
        reason = f"{reason}; sampled_out due to pct={record.percent}"
    return DmarcResult(_DISPOSITIONS[applied], reason, policy, props, failure)


def normal(domain: str) -> str:
    return domain.removesuffix(".").lower()


async def _published(name: str, lookups: Lookups) -> DmarcRecord | DmarcResult | None:
    """The record at a name, None without one; several are as none (section 6.6.3, step 5)."""
    try:
        found = [text for text in await lookups.txt(name) if is_dmarc(text)]
    except TemporaryFailure:
        return DmarcResult("TempError", f"DNS records could not be resolved for {name}")
    return parse_record(found[0]) if len(found) == 1 else None


# Both: "" if something speaks for the domain, None if nothing passed, else why what passed does not speak for it.
def _dkim_problem(
    request: DmarcRequest, domain: str, alignment: Alignment, organizational: Callable[[str], str | None]
) -> str | None:
    problem = None
    for result in request.dkim:
        if result.result.lower() != "pass":
            continue
        signer = result.props.get("header.d", "")
        if _is_aligned(domain, signer, alignment, organizational):
            return ""
        problem = problem or (
            f"DMARC: DKIM {alignment} check failed" if signer else "DMARC: DKIM signature missing 'd=' tag"
        )
    return problem


def _spf_problem(
    request: DmarcRequest, domain: str, alignment: Alignment, organizational: Callable[[str], str | None]
) -> str | None:
    spf = request.spf
    if spf.result.lower() != "pass":
        return None
    sender = spf.props.get("smtp.mailfrom", "").rpartition("@")[2]
    checked = sender or spf.props.get("smtp.helo") or request.mail_from_domain
    if not checked:
        return None
    return (
        ""
        if _is_aligned(domain, checked, alignment, organizational)
        else f"DMARC: SPF {alignment} check failed"
    )


def _is_aligned(
    domain: str, other: str, alignment: Alignment, organizational: Callable[[str], str | None]
) -> bool:
    """Section 3.1."""
    other = normal(other)
    if alignment == "strict":
        return domain == other
    above = organizational(domain)
    return above is not None and above == organizational(other)
