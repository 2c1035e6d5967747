"""DMARC records (RFC 7489 section 6.3): what a domain wants to happen to mail that only claims to be from it.

As section 6.3 asks, unknown tags are skipped and a tag with a wrong value counts as not given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Policy = Literal["none", "quarantine", "reject"]
Alignment = Literal["relaxed", "strict"]

_VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|$)")
_POLICIES: dict[str, Policy] = {"none": "none", "quarantine": "quarantine", "reject": "reject"}
_ALIGNMENTS: dict[str, Alignment] = {"r": "relaxed", "s": "strict"}
_PERCENT = re.compile(r"100|[0-9]{1,2}")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
_SHOWN_TAGS = ("p", "sp", "adkim", "aspf", "fo", "pct", "rf", "ri", "rua", "ruf")
_SHOWN_VALUE = re.compile(r"[ -~]{1,500}")
_FAILURE_OPTIONS = "01ds"


@dataclass(slots=True, frozen=True)
class DmarcRecord:
    policy: Policy
    subdomain_policy: Policy | None
    """For mail from below the domain; None: as `policy`."""
    dkim_alignment: Alignment
    spf_alignment: Alignment
    percent: int
    """Of the failing mail, how much is to be treated so."""
    failure_options: frozenset[str]
    """When the domain wants to hear of a failure: some of 0, 1, d and s."""
    tags: dict[str, str]
    """As published, of the tags that RFC 7489 knows and whose values are printable. Not to be changed."""


def is_dmarc(text: str) -> bool:
    """Whether a TXT record is one of ours."""
    return _VERSION.match(text) is not None


def parse_record(text: str) -> DmarcRecord | None:
    """Read a record that `is_dmarc`; None if no policy can be made of it (section 6.6.3, step 6)."""
    tags: dict[str, str] = {}
    for part in text.split(";")[1:]:
        key, equals, value = part.partition("=")
        if equals:
            tags.setdefault(key.strip().lower(), value.strip())
    policy = _POLICIES.get(tags.get("p", "").lower())
    subdomain_policy = _POLICIES.get(tags.get("sp", "").lower())
    if policy is None or ("sp" in tags and subdomain_policy is None):
        if not any(_URI.fullmatch(uri.strip()) for uri in tags.get("rua", "").split(",")):
            return None
        policy = subdomain_policy = "none"
    percent = tags.get("pct", "")
    return DmarcRecord(
        policy,
        subdomain_policy,
        _ALIGNMENTS.get(tags.get("adkim", "").lower(), "relaxed"),
        _ALIGNMENTS.get(tags.get("aspf", "").lower(), "relaxed"),
        int(percent) if _PERCENT.fullmatch(percent) else 100,
        frozenset(tags.get("fo", "").replace(" ", "").lower().split(":")) & frozenset(_FAILURE_OPTIONS),
        {name: tags[name] for name in _SHOWN_TAGS if name in tags and _SHOWN_VALUE.fullmatch(tags[name])},
    )
