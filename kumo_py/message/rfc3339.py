"""Dates as policies write them: RFC 3339."""

from __future__ import annotations

import re
from datetime import datetime

_LAST_YEAR = 9000
"""A later one leaves no room for arithmetic."""

_match = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)? ?(?:([Zz])|([+-]\d\d):?(\d\d))", re.ASCII
).fullmatch


def parse_rfc3339(text: str) -> datetime:
    """A date and time with its zone. A space may stand for the T. Raises ValueError."""
    match = _match(text.strip())
    if match:
        day, time, fraction, zulu, hours, minutes = match.groups()
        offset = "+00:00" if zulu else f"{hours}:{minutes}"
        try:
            when = datetime.fromisoformat(f"{day}T{time}.{(fraction or '0')[:6]:0<6}{offset}")
            if 1 < when.year <= _LAST_YEAR:
                return when
        except ValueError:  # the 30th of February
            pass
    raise ValueError(f"'{text[:60]}' is not an RFC 3339 time with its zone, such as 2026-08-04T12:00:00Z")


def rfc3339(when: datetime) -> str:
    """As RFC 3339 has it, with the offset that it came with; Z for UTC."""
    text = when.isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text
