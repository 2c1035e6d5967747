"""What `kumo-py top` has learnt of a node: the last overview, and rates from one to the next."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kumo_py.cli.top.overview import Overview

RATES = {"received": "received", "delivered": "delivered", "transfailed": "deferred", "failed": "bounced"}
"""Totals that are drawn as rates, and what they are called."""
_KEPT = 500
"""Samples: more than the columns of a terminal."""


class QueueRates(NamedTuple):
    """Messages per second of a ready queue."""

    delivered: float
    transfailed: float
    failed: float


class History:
    """Grows with each overview; a node that was started anew begins it anew."""

    def __init__(self) -> None:
        self.last: Overview | None = None
        self.rates: dict[str, deque[float]] = {name: deque(maxlen=_KEPT) for name in RATES}
        """Messages per second, the latest last."""
        self.cpu: float | None = None
        """Share of a core since the overview before."""
        self._queues: dict[str, QueueRates] = {}
        self._at = 0.0

    def add(self, overview: Overview, at: float) -> None:
        """at: seconds, on a clock that never steps."""
        before, seconds = self.last, at - self._at
        self.last, self._at = overview, at
        if before is None or before.node.started != overview.node.started or seconds <= 0:
            for rates in self.rates.values():
                rates.clear()
            self.cpu = None
            self._queues = {}
            return

        def per_second(name: str, old: object, new: object) -> float:
            growth: float = getattr(new, name) - getattr(old, name)
            return max(0.0, growth / seconds)

        for name, rates in self.rates.items():
            rates.append(per_second(name, before.totals, overview.totals))
        self.cpu = per_second("cpu_seconds", before.totals, overview.totals)
        known = {one.name: one for one in before.ready_queues.shown}
        self._queues = {
            one.name: QueueRates(*(per_second(kind, known[one.name], one) for kind in QueueRates._fields))
            for one in overview.ready_queues.shown
            if one.name in known
        }

    def of_queue(self, name: str) -> QueueRates | None:
        """None while only one overview had the queue."""
        return self._queues.get(name)
