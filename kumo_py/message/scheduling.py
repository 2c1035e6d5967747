"""When a message may be tried: `msg:set_scheduling`.

A schedule has up to three parts: the earliest time of the first attempt, a daily window on some days of the week in
a time zone, and a time of expiry that stands for the queue's max_age. `adjust` moves a due time to the next moment
that is allowed. The names and rules are KumoMTA's; the same table is what policies give, what the scheduling
header holds as JSON and what the spool keeps.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec
import orjson

from kumo_py.core.options import convert, to_builtins
from kumo_py.core.suggest import nearest
from kumo_py.message.rfc3339 import parse_rfc3339, rfc3339

if TYPE_CHECKING:
    from typing import Self

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SEARCHED_DAYS = 15
"""Of two equal weekdays at least one has a window that no change of the clocks cuts."""
_LAST = datetime(9900, 1, 1, tzinfo=UTC).timestamp()
"""A due time beyond it is left as it is."""
_match_time = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d+)?)?", re.ASCII).fullmatch


class _OptionText:
    """A value that options have as text; equal if the text is."""

    option_type = "string"

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def from_option(cls, value: object) -> Self:
        """Raises ValueError."""
        if isinstance(value, str):
            return cls(value)
        raise ValueError(f"must be a string, got {value!r}")

    def to_option(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"


class Moment(_OptionText):
    """A point in time, such as "2026-12-24T18:00:00Z"; `unix` is in seconds."""

    __slots__ = ("unix",)

    def __init__(self, text: str) -> None:
        when = parse_rfc3339(text)
        super().__init__(rfc3339(when))
        self.unix = when.timestamp()


class Weekdays(_OptionText):
    """Days of the week: names in full or their first three letters, separated by commas; 0 is Monday."""

    __slots__ = ("days",)

    def __init__(self, text: str) -> None:
        self.days = frozenset(_weekday(name) for name in text.split(","))
        super().__init__(",".join(name[:3] for n, name in enumerate(_DAYS) if n in self.days))


def _weekday(name: str) -> int:
    wanted = name.lower()
    for n, full in enumerate(_DAYS):
        if wanted in (full.lower(), full[:3].lower()):
            return n
    near = nearest(name.strip().title(), _DAYS)
    hint = f" (did you mean '{near}'?)" if near else ""
    raise ValueError(f"invalid day '{name}'{hint}; write for example 'Mon,Wed,Friday'")


class Zone(_OptionText):
    """A time zone of the IANA database, such as "Europe/Berlin"."""

    __slots__ = ("zone",)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        try:
            self.zone = ZoneInfo(text)
        except (ValueError, KeyError, OSError):
            raise ValueError(
                f"'{text[:60]}' is not a time zone of the IANA database, such as 'America/Phoenix'"
            ) from None


class TimeOfDay(_OptionText):
    """A time of day, to the second, such as "09:30:00"."""

    __slots__ = ("time",)

    def __init__(self, text: str) -> None:
        match = _match_time(text)
        try:
            if match is None:
                raise ValueError
            self.time = time(int(match[1]), int(match[2]), int(match[3] or 0))
        except ValueError:
            raise ValueError(f"'{text[:60]}' is not a time of day, such as '09:00:00'") from None
        super().__init__(self.time.isoformat())


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `msg:set_scheduling` takes. dow, tz, start and end make the window; all of them or none."""

    dow: Weekdays | None = None
    tz: Zone | None = None
    start: TimeOfDay | None = None
    end: TimeOfDay | None = None
    first_attempt: Moment | None = None
    expires: Moment | None = None

    def __post_init__(self) -> None:
        window = {"dow": self.dow, "tz": self.tz, "start": self.start, "end": self.end}
        missing = [name for name, value in window.items() if value is None]
        if missing and len(missing) < len(window):
            verb = "is" if len(missing) == 1 else "are"
            raise ValueError(
                f"a delivery window needs dow, tz, start and end: {', '.join(missing)} {verb} missing"
            )
        if self.start is not None and self.end is not None and self.start.time > self.end.time:
            raise ValueError(
                f"start={self.start.text} must not be after end={self.end.text}: they are times of one day"
            )

    def adjust(self, due: float) -> float:
        """The first moment from `due` on that is allowed, both in Unix seconds.

        A day on which the window's start or end does not exist, or exists twice, is passed over.
        """
        if self.first_attempt is not None:
            due = max(due, self.first_attempt.unix)
        if self.dow is None or self.tz is None or self.start is None or self.end is None or due > _LAST:
            return due
        today = datetime.fromtimestamp(due, self.tz.zone).date()
        for n in range(_SEARCHED_DAYS):
            day = today + timedelta(days=n)
            if day.weekday() in self.dow.days:
                start = _instant(day, self.start.time, self.tz.zone)
                end = _instant(day, self.end.time, self.tz.zone)
                if start is not None and end is not None and due < end:
                    return max(due, start)
        return due

    def to_table(self) -> dict[str, object]:
        """As plain data: what `parse_schedule` takes."""
        return {name: value for name, value in to_builtins(self).items() if value is not None}


def _instant(day: date, at: time, zone: ZoneInfo) -> float | None:
    """The Unix time of a time of that day; None if the clocks are changed just then."""
    local = datetime(day.year, day.month, day.day, at.hour, at.minute, at.second, tzinfo=zone)
    if local.utcoffset() != local.replace(fold=1).utcoffset():
        return None
    return local.timestamp()


def parse_schedule(value: object, what: str) -> Schedule:
    """A schedule from plain data; `what` opens the error's text. Raises OptionError, which is a ValueError."""
    return convert(value, Schedule, what)


def parse_schedule_json(text: bytes, what: str) -> Schedule:
    """A schedule from JSON. Raises ValueError."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as err:
        raise ValueError(f"{what}: not JSON: {err}") from None
    return convert(value, Schedule, what)
