"""Times as text by the formats of Rust's chrono crate (its `strftime`), for times in UTC.

What is no specifier is left as it is. Chrono counts nanoseconds and we microseconds: the last digits are 0.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_SPECIFIER = re.compile(r"%(?:(\.[369]?f|[369]f|:{1,3}z)|([-_0]?)([A-Za-z+%]))")

# How a number is filled up to its width, unless the specifier says otherwise.
_NUMBERS: Mapping[str, tuple[Callable[[datetime], int], int, str]] = {
    "Y": (lambda t: t.year, 4, "0"),
    "C": (lambda t: t.year // 100, 2, "0"),
    "y": (lambda t: t.year % 100, 2, "0"),
    "q": (lambda t: (t.month + 2) // 3, 1, "0"),
    "m": (lambda t: t.month, 2, "0"),
    "d": (lambda t: t.day, 2, "0"),
    "e": (lambda t: t.day, 2, " "),
    "w": (lambda t: t.isoweekday() % 7, 1, "0"),
    "u": (lambda t: t.isoweekday(), 1, "0"),
    "U": (lambda t: (_day_of_year(t) + 6 - t.isoweekday() % 7) // 7, 2, "0"),
    "W": (lambda t: (_day_of_year(t) + 6 - t.weekday()) // 7, 2, "0"),
    "G": (lambda t: t.isocalendar().year, 4, "0"),
    "g": (lambda t: t.isocalendar().year % 100, 2, "0"),
    "V": (lambda t: t.isocalendar().week, 2, "0"),
    "j": (lambda t: _day_of_year(t), 3, "0"),
    "H": (lambda t: t.hour, 2, "0"),
    "k": (lambda t: t.hour, 2, " "),
    "I": (lambda t: t.hour % 12 or 12, 2, "0"),
    "l": (lambda t: t.hour % 12 or 12, 2, " "),
    "M": (lambda t: t.minute, 2, "0"),
    "S": (lambda t: t.second, 2, "0"),
    "f": (lambda t: t.microsecond * 1000, 9, "0"),
    "s": (lambda t: int(t.timestamp() // 1), 1, "0"),
}
_TEXTS: Mapping[str, Callable[[datetime], str]] = {
    "B": lambda t: _MONTHS[t.month - 1],
    "b": lambda t: _MONTHS[t.month - 1][:3],
    "h": lambda t: _MONTHS[t.month - 1][:3],
    "A": lambda t: _DAYS[t.weekday()],
    "a": lambda t: _DAYS[t.weekday()][:3],
    "P": lambda t: "am" if t.hour < 12 else "pm",
    "p": lambda t: "AM" if t.hour < 12 else "PM",
    "Z": lambda t: "UTC",
    "z": lambda t: "+0000",
    "t": lambda t: "\t",
    "n": lambda t: "\n",
    "%": lambda t: "%",
    "D": lambda t: chrono_format(t, "%m/%d/%y"),
    "x": lambda t: chrono_format(t, "%m/%d/%y"),
    "F": lambda t: chrono_format(t, "%Y-%m-%d"),
    "v": lambda t: chrono_format(t, "%e-%b-%Y"),
    "R": lambda t: chrono_format(t, "%H:%M"),
    "T": lambda t: chrono_format(t, "%H:%M:%S"),
    "X": lambda t: chrono_format(t, "%H:%M:%S"),
    "r": lambda t: chrono_format(t, "%I:%M:%S %p"),
    "c": lambda t: chrono_format(t, "%a %b %e %H:%M:%S %Y"),
    "+": lambda t: chrono_format(t, "%Y-%m-%dT%H:%M:%S%.f%:z"),
}
_PADS = {"_": " ", "0": "0"}
_OFFSETS = {":z": "+00:00", "::z": "+00:00:00", ":::z": "+00"}


def chrono_format(when: datetime, spec: str) -> str:
    """The time, which must be in UTC, as the format says."""
    return _SPECIFIER.sub(lambda match: _one(when, match), spec)


def _one(when: datetime, match: re.Match[str]) -> str:
    special, pad, letter = match.groups()
    if special:
        return _OFFSETS.get(special) or _fraction(when.microsecond, special[:-1])
    if letter in _NUMBERS:
        value, width, fill = _NUMBERS[letter]
        number = str(value(when))
        return number if pad == "-" else number.rjust(width, _PADS.get(pad, fill))
    if letter in _TEXTS and not pad:
        return _TEXTS[letter](when)
    return match[0]


def _fraction(microseconds: int, what: str) -> str:
    """`.` is as many digits as it takes, in threes, behind a dot; with a number, that many; without the dot, bare."""
    digits = f"{microseconds:06}000"
    if what == ".":
        if not microseconds:
            return ""
        return f".{digits[:3] if not microseconds % 1000 else digits[:6]}"
    return f"{'.' if what[0] == '.' else ''}{digits[: int(what[-1])]}"


def _day_of_year(when: datetime) -> int:
    return when.timetuple().tm_yday
