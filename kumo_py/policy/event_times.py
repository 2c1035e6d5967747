"""How often each event ran and how long that took (KumoMTA's `lua_event_started` and `lua_event_latency`)."""

from __future__ import annotations

from collections import defaultdict
from time import perf_counter

from kumo_py.core.histogram import Histogram


class EventTime(Histogram):
    """One event's; waiting counts too."""

    __slots__ = ("started",)

    def __init__(self) -> None:
        super().__init__()
        self.started = 0

    def begin(self) -> float:
        """Count a run that begins; the moment, by perf_counter."""
        self.started += 1
        return perf_counter()


class EventTimes(defaultdict[str, EventTime]):
    """By the event's name."""

    def __init__(self) -> None:
        super().__init__(EventTime)
