"""Dates as text: RFC 3339 as policies write it, RFC 5322 §3.3 as mail has it, the obsolete forms of §4.3 included.

All functions take or give aware datetimes, and time in proportion to the text. ValueError is the only exception.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

_LONGEST = 200
"""Characters of a date that we look at; comments in it count."""
_LAST_YEAR = 9000
"""A later one leaves no room for arithmetic."""

_match_rfc3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)? ?(?:([Zz])|([+-]\d\d):?(\d\d))", re.ASCII
).fullmatch
_match_rfc5322 = re.compile(
    r"(?:[A-Za-z]{3,9} ?, ?)?(\d{1,2}) ([A-Za-z]{3})[A-Za-z]* (\d{2,4}) "
    r"(\d{1,2}) ?: ?(\d\d)(?: ?: ?(\d\d))?(?: ?(?:([+-])(\d\d):?(\d\d)|([A-Za-z]{1,5})))?",
    re.ASCII,
).fullmatch
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Abbreviations that have one meaning; the others say nothing about the offset (§4.3), like -0000.
_ZONES = {
    "ACDT": 630, "ACST": 570, "ADT": -180, "AEDT": 660, "AEST": 600, "AKDT": -480, "AKST": -540, "AST": -240,
    "AWST": 480, "BST": 60, "CAT": 120, "CDT": -300, "CEST": 120, "CET": 60, "CST": -360, "EAT": 180, "EDT": -240,
    "EEST": 180, "EET": 120, "EST": -300, "HDT": -540, "HKT": 480, "HST": -600, "IDT": 180, "JST": 540, "KST": 540,
    "MDT": -360, "MSK": 180, "MST": -420, "NDT": -150, "NST": -210, "NZDT": 780, "NZST": 720, "PDT": -420,
    "PKT": 300, "PST": -480, "SAST": 120, "WAT": 60, "WEST": 60, "WIB": 420, "WIT": 540, "WITA": 480,
}  # fmt: skip


def parse_rfc3339(text: str) -> datetime:
    """A date and time with its zone. A space may stand for the T. Raises ValueError."""
    match = _match_rfc3339(text.strip())
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


def parse_rfc5322_date(text: str) -> datetime:
    """The date-time of a header; an unknown or missing zone is read as UTC. Raises ValueError."""
    if len(text) <= _LONGEST and (match := _match_rfc5322(" ".join(_without_comments(text).split()))):
        day, month, year, hour, minute, second, sign, off_hours, off_minutes, zone = match.groups()
        if sign:
            offset = int(off_hours) * 60 + int(off_minutes)
            offset = -offset if sign == "-" else offset
        else:
            offset = _ZONES.get((zone or "").upper(), 0)
        try:
            return datetime(
                _full_year(year),
                _MONTHS.index(month.lower()) + 1,
                int(day),
                int(hour),
                int(minute),
                min(int(second or 0), 59),  # a leap second
                tzinfo=timezone(timedelta(minutes=offset)) if offset else UTC,
            )
        except ValueError:
            pass
    raise ValueError(f"'{text[:60]}' is not a date as mail has it, such as Tue, 04 Aug 2026 12:00:00 +0000")


def _full_year(digits: str) -> int:
    """§4.3: two digits are of 1950 to 2049, three count from 1900."""
    year = int(digits)
    if len(digits) == 4:
        return year
    return year + (2000 if len(digits) == 2 and year < 50 else 1900)


def _without_comments(text: str) -> str:
    if "(" not in text:
        return text
    kept, depth = [], 0
    for char in text:
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif depth <= 0:
            kept.append(char)
    return "".join(kept)
