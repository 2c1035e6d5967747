"""How a policy writes rates and limits: `ThrottleSpec` and `LimitSpec`, both option types.

A throttle is `[local:]QUANTITY/[N]PERIOD[,max_burst=B]`, such as "1,000/hr" or
"20/30min,max_burst=1" (KumoMTA `kumo.make_throttle`). A limit is a number of things
held at once: 32 or "local:1_000". `local:` keeps the count in this node even if
counts are shared through Redis. In numbers `,` and `_` may separate digits.

Neither may be changed once made.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Self

from kumo_py.core.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOCAL = "local:"
_NUMBER = re.compile(r"[0-9,_]*[0-9][0-9,_]*")
_LARGEST = 2**63 - 1
_SECONDS: Mapping[str, int] = {
    name: seconds
    for names, seconds in (("s sec second", 1), ("m min minute", 60), ("h hr hour", 3600), ("d day", 86_400))
    for name in names.split()
}
_UNITS: Mapping[int, str] = {1: "s", 60: "m", 3600: "h", 86_400: "d"}


class ThrottleSpec:
    """At most `limit` in `period` seconds, of which `burst` may come at once: "100/hr", "local:5/2min,max_burst=1"."""

    option_type = "string"

    __slots__ = ("burst", "key_suffix", "limit", "local", "max_burst", "period", "period_ns")

    def __init__(self, limit: int, period: int, max_burst: int | None = None, local: bool = False) -> None:
        """`period` is in seconds. Raises ValueError unless limit and period are at least 1."""
        if not (1 <= limit <= _LARGEST and 1 <= period <= _LARGEST):
            raise ValueError("limit and period of a throttle must be greater than 0")
        self.limit: Final = limit
        self.period: Final = period
        self.period_ns: Final = period * 1_000_000_000
        self.max_burst: Final = max_burst
        self.local: Final = local
        written = limit if max_burst is None else max_burst
        # As KumoMTA documents max_burst, and as its Redis script counts. Its in-memory
        # store admits max_burst + 1; all of them admit `limit` if nothing is said.
        self.burst: Final = min(max(written, 1), limit)
        # A changed spec starts a fresh count, under a key that Redis knows too.
        self.key_suffix: Final = f":{limit}:{written}:{period}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        local, rest = _split_local(text)
        rest, comma, burst = rest.partition(",max_burst=")
        limit, slash, period = rest.partition("/")
        if not slash:
            raise ValueError(f"'{text}' is not a throttle: write QUANTITY/PERIOD, such as '100/hr'")
        return cls(
            _number(limit, text, "throttle", least=1),
            _period(period, text),
            _number(burst, text, "throttle", least=0) if comma else None,
            local,
        )

    @classmethod
    def from_option(cls, value: object) -> Self:
        if isinstance(value, str):
            return cls.parse(value)
        raise ValueError(f"{value!r} is not a throttle: write a string such as '100/hr'")

    def to_option(self) -> str:
        return str(self)

    @property
    def interval(self) -> float:
        """Seconds from one to the next if they come evenly."""
        return self.period / self.limit

    def __str__(self) -> str:
        unit = _UNITS.get(self.period)
        period = unit if unit else f"{self.period}s"
        burst = "" if self.max_burst is None else f",max_burst={self.max_burst}"
        return f"{_LOCAL if self.local else ''}{self.limit}/{period}{burst}"

    def __repr__(self) -> str:
        return f"ThrottleSpec.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ThrottleSpec) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash((self.key_suffix, self.local))


class LimitSpec:
    """At most `limit` at once: 100, or "local:100" to count on this node alone."""

    option_type = "integer|string"

    __slots__ = ("limit", "local")

    def __init__(self, limit: int, local: bool = False) -> None:
        """Raises ValueError unless limit is at least 1."""
        if not 1 <= limit <= _LARGEST:
            raise ValueError("a limit must be greater than 0")
        self.limit: Final = limit
        self.local: Final = local

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        local, rest = _split_local(text)
        return cls(_number(rest, text, "limit", least=1), local)

    @classmethod
    def from_option(cls, value: object) -> Self:
        """From a number, text, or KumoMTA's own {limit=N, force_local=BOOL}."""
        match value:
            case str():
                return cls.parse(value)
            case {"limit": limit, "force_local": bool(local), **others} if _is_integer(limit) and not others:
                return cls(int(limit), local)
            case int() | float() if _is_integer(value):
                return cls(int(value))
        raise ValueError(f"{value!r} is not a limit: write a number, or a string such as 'local:100'")

    def to_option(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{_LOCAL if self.local else ''}{self.limit}"

    def __repr__(self) -> str:
        return f"LimitSpec.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LimitSpec) and (self.limit, self.local) == (other.limit, other.local)

    def __hash__(self) -> int:
        return hash((self.limit, self.local))


def _split_local(text: str) -> tuple[bool, str]:
    return text.startswith(_LOCAL), text.removeprefix(_LOCAL)


def _is_integer(value: object) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())


def _number(digits: str, text: str, what: str, *, least: int) -> int:
    if not _NUMBER.fullmatch(digits):
        raise ValueError(f"'{text}' is not a {what}: '{digits}' is not a number")
    number = int(digits.replace(",", "").replace("_", ""))
    if not least <= number <= _LARGEST:
        raise ValueError(f"'{text}' is not a {what}: {number} must be at least {least} and below 2^63")
    return number


def _period(period: str, text: str) -> int:
    unit = period.lstrip("0123456789")
    count = period[: len(period) - len(unit)]
    if unit not in _SECONDS:
        near = nearest(unit, _SECONDS)
        hint = f"did you mean '{near}'?" if near else f"write one of {', '.join(_SECONDS)}"
        raise ValueError(f"'{text}' is not a throttle: unknown period '{unit}'; {hint}")
    return _SECONDS[unit] * (_number(count, text, "throttle", least=1) if count else 1)
