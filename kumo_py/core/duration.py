"""Durations, as policies write them and as KumoMTA writes them back.

A duration is a number of seconds, or text in the notation of Rust's humantime
(KumoMTA `duration_serde`): whole or decimal numbers, each with a unit, added up,
such as "5m", "1h 30m" or "7 days". Units are case-sensitive: `m` is a minute,
`M` a month of 30.44 days; a year has 365.25.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

_YEAR = 31_557_600
_MONTH = 2_630_016
_SECONDS: Mapping[str, Decimal] = {
    name: Decimal(seconds)
    for names, seconds in (
        ("nanos nsec ns", "1e-9"),
        ("usec us µs μs", "1e-6"),
        ("millis msec ms", "1e-3"),
        ("seconds second secs sec s", 1),
        ("minutes minute mins min m", 60),
        ("hours hour hrs hr h", 3600),
        ("days day d", 86_400),
        ("weeks week wks wk w", 7 * 86_400),
        ("months month M", _MONTH),
        ("years year yrs yr y", _YEAR),
    )
    for name in names.split()
}
_SPAN = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([^\W\d_]+)")
_LONGEST = 2.0**64


class Duration(float):
    """A span of time: a number of seconds, or text such as "1h 30m"; a float wherever one is wanted."""

    option_type = "number|string"

    __slots__ = ()

    def __new__(cls, value: object) -> Self:
        """Raises ValueError."""
        return super().__new__(cls, parse_duration(value))

    @classmethod
    def from_option(cls, value: object) -> Self:
        return cls(value)

    def to_option(self) -> str:
        return format_duration(self)


def parse_duration(value: object) -> float:
    """Return the seconds that a number or a text means. Raises ValueError."""
    if isinstance(value, str):
        seconds = _parse_text(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) < _LONGEST else math.inf
    else:
        raise _not_a_duration(value)
    if not 0.0 <= seconds < _LONGEST:
        raise ValueError(f"{value!r} is not a duration: it must be zero or more, and finite")
    return seconds


def format_duration(seconds: float) -> str:
    """Write seconds as humantime does, to the nanosecond: "1h 30m", "7days", "0s".

    Raises ValueError for what is no duration.
    """
    nanoseconds = round(Decimal(repr(parse_duration(float(seconds)))).scaleb(9))
    whole, nanoseconds = divmod(nanoseconds, 1_000_000_000)
    years, whole = divmod(whole, _YEAR)
    months, whole = divmod(whole, _MONTH)
    days, whole = divmod(whole, 86_400)
    spans = (
        (years, "year" if years == 1 else "years"),
        (months, "month" if months == 1 else "months"),
        (days, "day" if days == 1 else "days"),
        (whole // 3600, "h"),
        (whole // 60 % 60, "m"),
        (whole % 60, "s"),
        (nanoseconds // 1_000_000, "ms"),
        (nanoseconds // 1000 % 1000, "us"),
        (nanoseconds % 1000, "ns"),
    )
    return " ".join(f"{number}{unit}" for number, unit in spans if number) or "0s"


def _parse_text(text: str) -> float:
    text = text.strip()
    if text == "0":
        return 0.0
    total = Decimal(0)
    position = 0
    while position < len(text) or not text:
        span = _SPAN.match(text, position)
        if span is None:
            raise _not_a_duration(text)
        unit = _SECONDS.get(span[2])
        if unit is None:
            raise ValueError(
                f"{text!r} is not a duration: unknown unit '{span[2]}'; "
                "units are ns, us, ms, s, m (min), h, d, w, M (month) and y, or their names"
            )
        total += Decimal(span[1]) * unit
        position = span.end()
    return float(total)


def _not_a_duration(value: object) -> ValueError:
    return ValueError(
        f"{value!r} is not a duration: write seconds, or text with units such as '5m' or '1h 30m'"
    )
