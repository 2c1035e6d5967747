"""The `kumo.time` module: dates, spans, waiting, and measuring how long something takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import trio

from kumo_py.core.chrono_format import chrono_format
from kumo_py.message.date import format_date, parse_date
from kumo_py.message.rfc3339 import parse_rfc3339 as read_rfc3339
from kumo_py.policy.event_times import EventTime, EventTimes
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import BOOLEAN, BYTES, INTEGER, NUMBER, TEXT, TIME_DELTA, OneOf

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.conversion import LuaValue

time = Owner("kumo.time")

MOST_LABELS = 500
_SINCE = "2025.12.02-67ee9e96"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Time:
    """A moment, to the microsecond, in the years 1 to 9999."""

    __slots__ = ("when",)

    def __init__(self, when: datetime) -> None:
        """Raises ValueError if that is before the year 1 in UTC, or after 9999."""
        try:
            self.when = when.astimezone(UTC)
        except OverflowError:
            raise _out_of_range() from None

    def later(self, seconds: float) -> Time:
        """Raises ValueError."""
        try:
            return Time(self.when + timedelta(seconds=seconds))
        except (OverflowError, ValueError):
            raise _out_of_range() from None


class Timer:
    """Runs until it is done; what is only forgotten is not counted."""

    __slots__ = ("label", "started")

    def __init__(self, label: str, started: float) -> None:
        self.label = label
        self.started: float | None = started


class UserLatencies(EventTimes):
    """What timers measured, by their labels (KumoMTA's `user_lua_latency`).

    A label may be made of what strangers write: after MOST_LABELS, all new ones are `(others)`.
    """

    def of(self, label: str) -> EventTime:
        return self[label if label in self or len(self) < MOST_LABELS else "(others)"]


def _out_of_range() -> ValueError:
    return ValueError("the time must lie in the years 1 to 9999")


moment = Kind("Time", Time)
timer = Kind("timer", Timer)


class _Span:
    """A TimeDelta, signed seconds, or text such as "5m"; Python sees seconds."""

    name = TIME_DELTA.name

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> float:
        return float(raw) if type(raw) in (int, float) else TIME_DELTA.from_lua(ctx, raw, what)

    def to_lua(self, ctx: LuaContext, value: float) -> LuaValue:
        raise NotImplementedError


class _TimeOrSpan:
    """What is left when something is taken from a time."""

    name = "Time|TimeDelta"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        raise NotImplementedError

    def to_lua(self, ctx: LuaContext, value: Time | float) -> LuaValue:
        return moment.type.to_lua(ctx, value) if isinstance(value, Time) else TIME_DELTA.to_lua(ctx, value)


@kumo.function("sleep", Param("seconds", NUMBER))
@time.function("sleep", Param("seconds", NUMBER), since="2025.01.23-7273d2bc")
async def sleep(ctx: LuaContext, seconds: float) -> None:
    """Wait; other events run meanwhile."""
    if not seconds >= 0:
        raise ValueError(f"cannot sleep for {seconds} seconds")
    await trio.sleep(seconds)


@time.function("start_timer", Param("label", TEXT), result=timer.type, since="2025.01.23-7273d2bc")
def start_timer(ctx: LuaContext, label: str) -> Timer:
    """Measure from now until the timer is done, for the metric user_lua_latency."""
    return Timer(label, trio.current_time())


@timer.function("done", result=NUMBER, since="2025.01.23-7273d2bc")
def done(ctx: LuaContext, self: Timer) -> float | None:
    """Count the seconds since the start, and return them; nil if it was done before."""
    if self.started is None:
        return None
    seconds = trio.current_time() - self.started
    self.started = None
    ctx.env.state(UserLatencies).of(self.label).observe(seconds)
    return seconds


@timer.meta("close")
def close(ctx: LuaContext, self: Timer) -> None:
    """Done, at the end of the block of a `<close>` variable."""
    done(ctx, self)


@time.function("now", result=moment.type, since=_SINCE)
def now(ctx: LuaContext) -> Time:
    """The present time."""
    return Time(datetime.fromtimestamp(ctx.env.host.wall(), UTC))


@time.function("from_unix_timestamp", Param("seconds", NUMBER), result=moment.type, since=_SINCE)
def from_unix_timestamp(ctx: LuaContext, seconds: float) -> Time:
    """The time so many seconds after the start of 1970 in UTC."""
    return Time(_EPOCH).later(seconds)


@time.function(
    "with_ymd_hms",
    Param("year", INTEGER),
    Param("month", INTEGER),
    Param("day", INTEGER),
    Param("hour", INTEGER),
    Param("minute", INTEGER),
    Param("second", INTEGER),
    result=moment.type,
    since=_SINCE,
)
def with_ymd_hms(
    ctx: LuaContext, year: int, month: int, day: int, hour: int, minute: int, second: int
) -> Time:
    """The time of a date and an hour in UTC."""
    try:
        return Time(datetime(year, month, day, hour, minute, second, tzinfo=UTC))
    except (OverflowError, ValueError):
        text = f"{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
        raise ValueError(f"there is no {text}") from None


@time.function("parse_rfc3339", Param("text", TEXT), result=moment.type, since=_SINCE)
def parse_rfc3339(ctx: LuaContext, text: str) -> Time:
    """A time such as 2000-01-02T03:04:05+00:00."""
    return Time(read_rfc3339(text))


@time.function("parse_rfc2822", Param("text", BYTES), result=moment.type, since=_SINCE)
def parse_rfc2822(ctx: LuaContext, text: bytes) -> Time:
    """A time as headers of mail have it, such as Sun, 2 Jan 2000 03:04:05 +0000."""
    return Time(parse_date(text))


@time.function("parse_duration", Param("value", _Span()), result=TIME_DELTA, since=_SINCE)
def parse_duration(ctx: LuaContext, value: float) -> float:
    """A TimeDelta of seconds, which may be negative, or of text such as "1h 30m"."""
    return value


# -- times -----------------------------------------------------------------------------------------------------
for _part in ("year", "month", "day", "hour", "minute", "second"):

    def _get(ctx: LuaContext, self: Time, part: str = _part) -> int:
        found: int = getattr(self.when, part)
        return found

    _get.__doc__ = f"The {_part}, in UTC."
    moment.field(_part, INTEGER)(_get)


@moment.field("unix_timestamp", INTEGER)
def unix_timestamp(ctx: LuaContext, self: Time) -> int:
    """Whole seconds since the start of 1970."""
    return (self.when - _EPOCH) // timedelta(seconds=1)


@moment.field("unix_timestamp_millis", INTEGER)
def unix_timestamp_millis(ctx: LuaContext, self: Time) -> int:
    """Whole milliseconds since the start of 1970."""
    return (self.when - _EPOCH) // timedelta(milliseconds=1)


@moment.field("rfc2822", BYTES)
def rfc2822(ctx: LuaContext, self: Time) -> bytes:
    """As headers of mail have it: Sun, 2 Jan 2000 03:04:05 +0000."""
    return format_date(self.when)


@moment.field("rfc3339", TEXT)
def rfc3339(ctx: LuaContext, self: Time) -> str:
    """As RFC 3339 has it: 2000-01-02T03:04:05+00:00."""
    return chrono_format(self.when, "%+")


@moment.field("elapsed", TIME_DELTA)
def elapsed(ctx: LuaContext, self: Time) -> float:
    """How long ago that is; negative for the future."""
    present: Time = now(ctx)
    return (present.when - self.when).total_seconds()


@moment.function("format", Param("format", TEXT), result=TEXT, since=_SINCE)
def format_(ctx: LuaContext, self: Time, spec: str) -> str:
    """As text, by a format as Rust's chrono crate has them, such as %Y-%m-%d %H:%M:%S%.3f."""
    return chrono_format(self.when, spec)


@moment.meta("tostring", result=TEXT)
def tostring(ctx: LuaContext, self: Time) -> str:
    """Such as 2000-01-02 03:04:05 UTC."""
    return chrono_format(self.when, "%F %T%.f UTC")


@moment.meta("eq", Param("other", moment.type), result=BOOLEAN)
def eq(ctx: LuaContext, self: Time, other: Time) -> bool:
    """Whether both are the same moment."""
    return self.when == other.when


@moment.meta("add", Param("span", TIME_DELTA), result=moment.type)
def add(ctx: LuaContext, self: Time, span: float) -> Time:
    """A later time."""
    return self.later(span)


@moment.meta("sub", Param("other", OneOf(moment.type, TIME_DELTA)), result=_TimeOrSpan())
def sub(ctx: LuaContext, self: Time, other: Time | float) -> Time | float:
    """An earlier time; or the span from another time to this one."""
    if isinstance(other, Time):
        return (self.when - other.when).total_seconds()
    return self.later(-other)
