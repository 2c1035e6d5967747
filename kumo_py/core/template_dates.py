"""Dates and times as text, for templates: minijinja-contrib's filters `dateformat`, `timeformat`, `datetimeformat`.

A format is a name (short, medium, long, full, iso, unix) or a description of components in brackets, such as
`[year]-[month]-[day]`, as the Rust crate `time` has them.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DATE = {
    "short": "[year]-[month]-[day]",
    "medium": "[month repr:short] [day padding:none] [year]",
    "long": "[month repr:long] [day padding:none] [year]",
    "full": "[weekday], [month repr:long] [day padding:none] [year]",
    "iso": "[year]-[month]-[day]",
    "unix": "[unix_timestamp]",
}
_ISO_TIME = "[hour]:[minute]:[second][offset_hour sign:mandatory]:[offset_minute]"
_TIME = {
    "short": "[hour]:[minute]",
    "medium": "[hour]:[minute]",
    "long": "[hour]:[minute]:[second]",
    "full": "[hour]:[minute]:[second].[subsecond]",
    "iso": f"[year]-[month]-[day]T{_ISO_TIME}",
    "unix": "[unix_timestamp]",
}
_DATE_TIME = {
    "short": f"{_DATE['short']} [hour]:[minute]",
    "medium": f"{_DATE['medium']} [hour]:[minute]",
    "long": f"{_DATE['long']} [hour]:[minute]:[second]",
    "full": f"{_DATE['full']} [hour]:[minute]:[second]",
    "iso": _TIME["iso"],
    "unix": "[unix_timestamp]",
}
NAMED: Mapping[str, Mapping[str, str]] = {
    "dateformat": _DATE,
    "timeformat": _TIME,
    "datetimeformat": _DATE_TIME,
}
"""The filters and their named formats."""
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PART = re.compile(r"\[\[|\\([\[\]\\])|\[([^\[\]]*)\]|([^\[\\]+)|(.)", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def formatted(filter_name: str, value: object, wanted: str, zone: str | None) -> str:
    """What a filter makes of a value: Unix seconds, or ISO 8601 text (UTC if it says no zone).

    wanted: a named format or a description. zone: a name of the time zone database; None and "original" keep
    the value's own; it does not matter to text without a time. Raises ValueError.
    """
    moment, has_time = _moment(value)
    if not has_time and filter_name == "timeformat":
        raise ValueError(f"{value!r} is a date without a time")
    if zone is not None and zone != "original" and has_time:
        try:
            moment = moment.astimezone(ZoneInfo(zone))
        except (KeyError, OSError, ValueError, OverflowError):
            raise ValueError(f"there is no time zone {zone!r}") from None
    return _written(NAMED[filter_name].get(wanted, wanted), moment)


def _moment(value: object) -> tuple[datetime, bool]:
    """Also whether it has a time of day."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return _EPOCH + timedelta(seconds=value), True
        except (OverflowError, ValueError):
            raise ValueError(f"{value} is not a Unix time that has a date") from None
    if isinstance(value, str):
        try:
            return datetime.combine(date.fromisoformat(value), datetime.min.time(), UTC), False
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value[:60]!r} is not a date in ISO 8601") from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC), True
    raise ValueError("a date must be Unix seconds, or text in ISO 8601")


def _written(description: str, moment: datetime) -> str:
    pieces = []
    for match in _PART.finditer(description):
        escaped, component, text, stray = match.groups()
        if component is not None:
            pieces.append(_component(component, moment))
        elif stray is not None:
            raise ValueError(f"the format has a stray '{stray}'")
        else:
            pieces.append(escaped or text or "[")
    return "".join(pieces)


def _component(text: str, moment: datetime) -> str:
    name, *modifiers = text.split()
    options = dict(modifier.partition(":")[::2] for modifier in modifiers)
    write = _COMPONENTS.get(name)
    if write is None:
        raise ValueError(f"the format has no [{name}]; there are {', '.join(_COMPONENTS)}")
    return write(moment, options)


def _number(value: int, width: int, options: Mapping[str, str], default: str = "zero") -> str:
    match options.get("padding", default):
        case "none":
            return str(value)
        case "space":
            return f"{value:{width}}"
    return f"{value:0{width}}"


def _year(moment: datetime, options: Mapping[str, str]) -> str:
    if options.get("repr") == "last_two":
        return _number(moment.year % 100, 2, options)
    return _number(
        moment.isocalendar().year if options.get("base") == "iso_week" else moment.year, 4, options
    )


def _month(moment: datetime, options: Mapping[str, str]) -> str:
    name = _MONTHS[moment.month - 1]
    match options.get("repr"):
        case "long":
            return name
        case "short":
            return name[:3]
    return _number(moment.month, 2, options)


def _weekday(moment: datetime, options: Mapping[str, str]) -> str:
    name = _DAYS[moment.weekday()]
    offset = options.get("one_indexed", "true") == "true"
    match options.get("repr", "long"):
        case "short":
            return name[:3]
        case "monday":
            return str(moment.weekday() + offset)
        case "sunday":
            return str(moment.isoweekday() % 7 + offset)
    return name


def _hour(moment: datetime, options: Mapping[str, str]) -> str:
    return _number((moment.hour - 1) % 12 + 1 if options.get("repr") == "12" else moment.hour, 2, options)


def _period(moment: datetime, options: Mapping[str, str]) -> str:
    text = "AM" if moment.hour < 12 else "PM"
    return text.lower() if options.get("case") == "lower" else text


def _subsecond(moment: datetime, options: Mapping[str, str]) -> str:
    digits = f"{moment.microsecond:06}000"
    wanted = options.get("digits", "1+")
    return digits[: int(wanted)] if wanted in tuple("123456789") else digits.rstrip("0") or "0"


def _offset(moment: datetime) -> int:
    """Seconds."""
    return int((moment.utcoffset() or timedelta()).total_seconds())


def _offset_hour(moment: datetime, options: Mapping[str, str]) -> str:
    offset = _offset(moment)
    sign = "-" if offset < 0 else "+" if options.get("sign") == "mandatory" else ""
    return sign + _number(abs(offset) // 3600, 2, options)


def _unix(moment: datetime, options: Mapping[str, str]) -> str:
    micro = (moment - _EPOCH) // timedelta(microseconds=1)
    precision = {"millisecond": 1000, "microsecond": 1, "nanosecond": 0}.get(
        options.get("precision", ""), 10**6
    )
    return str(micro // precision if precision else micro * 1000)


_COMPONENTS: Mapping[str, Callable[[datetime, Mapping[str, str]], str]] = {
    "year": _year,
    "month": _month,
    "day": lambda moment, options: _number(moment.day, 2, options),
    "weekday": _weekday,
    "ordinal": lambda moment, options: _number(moment.timetuple().tm_yday, 3, options),
    "week_number": lambda moment, options: _number(moment.isocalendar().week, 2, options),
    "hour": _hour,
    "minute": lambda moment, options: _number(moment.minute, 2, options),
    "second": lambda moment, options: _number(moment.second, 2, options),
    "subsecond": _subsecond,
    "period": _period,
    "offset_hour": _offset_hour,
    "offset_minute": lambda moment, options: _number(abs(_offset(moment)) // 60 % 60, 2, options),
    "offset_second": lambda moment, options: _number(abs(_offset(moment)) % 60, 2, options),
    "unix_timestamp": _unix,
}
