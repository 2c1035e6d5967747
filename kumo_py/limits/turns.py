"""Turns: when each of several who wait for one throttle should ask it again.

A throttle tells all who ask too early the same time, at which all would come and one would be admitted. Here they are
told times one after the other, so that everybody comes once, and nobody who comes later goes first. These are no
reservations: a turn that is not used is anybody's, and who comes in vain is given another one.
"""

from __future__ import annotations

from typing import Final

from kumo_py.limits.throttle import LATENESS

MOST: Final = 1.0
"""Seconds that a turn may come after the time that the throttle gave: who is that far behind comes to look again."""
_FEW: Final = 1024


class Turns:
    """See the module. `now` is in seconds, on one clock."""

    __slots__ = ("_enough", "_last")

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        """The last turn that was given, by what it is for."""
        self._enough = _FEW

    def behind(self, name: str, now: float, interval: float) -> float | None:
        """The turn of one who asks for the first time, if others are before it; None if it may try now."""
        last = self._last.get(name)
        if last is None or last + interval + LATENESS <= now:
            return None
        turn = self._last[name] = min(last + interval, now + MOST)
        return turn

    def next(self, name: str, now: float, wait: float, interval: float) -> float:
        """When to ask again: after `wait` seconds, or `interval` after the one who was told before."""
        earliest = now + wait
        turn = min(max(earliest, self._last.get(name, 0.0) + interval), max(earliest, now + MOST))
        self._last[name] = turn
        if len(self._last) > self._enough:
            self._last = {name: turn for name, turn in self._last.items() if turn > now}
            self._enough = max(_FEW, 2 * len(self._last))
        return turn

    def __len__(self) -> int:
        return len(self._last)
