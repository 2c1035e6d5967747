"""The date of a header (RFC 5322 §3.3, with the obsolete forms of §4.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from kumo_py.message.cfws import skip_cfws, text_of
from kumo_py.message.headers import HeaderError

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_match_date = re.compile(
    r"(?:([a-z]{3})\s*,\s*)?(\d{1,2})\s+([a-z]{3})\s+(\d{2,4})\s+"
    r"(\d{1,2})\s*:\s*(\d{2})(?:\s*:\s*(\d{2}))?\s*(?:([+-])(\d{2})(\d{2})|([a-z]{1,5}))",
    re.ASCII | re.IGNORECASE,
).fullmatch

# Hours from UTC of the names with one meaning that senders use; any other name says nothing about the zone (§4.3).
_ZONES = {
    "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
    "AST": -4, "ADT": -3, "NST": -3.5, "NDT": -2.5, "AKST": -9, "AKDT": -8, "HST": -10, "HDT": -9, "SST": -11,
    "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "IDT": 3,
    "WAT": 1, "CAT": 2, "SAST": 2, "EAT": 3, "PKT": 5, "WIB": 7, "WITA": 8, "WIT": 9,
    "HKT": 8, "AWST": 8, "JST": 9, "KST": 9, "ACST": 9.5, "ACDT": 10.5, "AEST": 10, "AEDT": 11,
    "CHST": 10, "NZST": 12, "NZDT": 13,
}  # fmt: skip
_MAX_LENGTH = 500


def parse_date(raw: bytes) -> datetime:
    """The time, with its zone. Raises HeaderError; a day of the week that is not that of the date is an error."""
    text = _without_comments(text_of(raw[: _MAX_LENGTH + 1])).strip(" \t\r\n")
    match = _match_date(text) if len(raw) <= _MAX_LENGTH else None
    if match is None:
        raise HeaderError(f"{text[:40]!r} is not a date such as Tue, 1 Jul 2003 10:52:37 +0200")
    day_name, day, month, year, hour, minute, second, sign, zone_hours, zone_minutes, zone = match.groups()
    years = int(year)
    if len(year) < 4:
        years += 2000 if len(year) == 2 and years < 50 else 1900
    offset = timedelta(hours=_ZONES.get((zone or "").upper(), 0))
    if sign:
        offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes)) * (-1 if sign == "-" else 1)
    try:
        found = datetime(
            years,
            _MONTHS.index(month.capitalize()) + 1,
            int(day),
            int(hour),
            int(minute),
            min(int(second or 0), 59),  # a leap second
            tzinfo=timezone(offset),
        )
    except ValueError as err:
        raise HeaderError(f"{text[:40]!r} is not a date: {err}") from None
    if day_name and day_name.capitalize() != _DAYS[found.weekday()]:
        raise HeaderError(f"{text[:40]!r} is a {_DAYS[found.weekday()]}")
    return found


def format_date(when: datetime) -> bytes:
    """A time as `Tue, 1 Jul 2003 10:52:37 +0200`; one without a zone is UTC."""
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return (
        f"{_DAYS[when.weekday()]}, {when.day} {_MONTHS[when.month - 1]} {when.year:04} {when:%H:%M:%S %z}"
    ).encode()


def _without_comments(text: str) -> str:
    parts: list[str] = []
    at = 0
    while (start := text.find("(", at)) >= 0:
        parts += (text[at:start], " ")
        at = skip_cfws(text, start)
    parts.append(text[at:])
    return "".join(parts)
