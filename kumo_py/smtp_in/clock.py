"""The two times a listener's sessions look at all the time, read once and shared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kumo_py.message.trace import rfc5322_date

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """`now` is trio's time, at most a second late while `Endpoint.sweep` runs: good enough for deadlines."""

    __slots__ = ("_date", "_date_second", "_wall", "now")

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._date_second = -1
        self._date = ""
        self.now = trio.current_time()

    def tick(self) -> None:
        self.now = trio.current_time()

    def date(self) -> str:
        """The present date for a header."""
        now = int(self._wall())
        if now != self._date_second:
            self._date_second = now
            self._date = rfc5322_date(now)
        return self._date
