"""How often each event ran and how long that took (KumoMTA's `lua_event_started` and `lua_event_latency`)."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from time import perf_counter

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram's buckets, in seconds."""


class EventTime:
    """One event's. `counts` are those of the buckets, the last one for what took longer."""

    __slots__ = ("counts", "seconds", "started")

    def __init__(self) -> None:
        self.started = 0
        self.seconds = 0.0
        self.counts = [0] * (len(BOUNDS) + 1)

    def begin(self) -> float:
        """Count a run that begins; the moment, by perf_counter."""
        self.started += 1
        return perf_counter()

    def add(self, seconds: float) -> None:
        """Count a run that is over; waiting counts too."""
        self.seconds += seconds
        self.counts[bisect_left(BOUNDS, seconds)] += 1


class EventTimes(defaultdict[str, EventTime]):
    """By the event's name."""

    def __init__(self) -> None:
        super().__init__(EventTime)
