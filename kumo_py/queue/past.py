"""What ready queues that are gone have counted, so that the sums over their likes never fall.

For a protocol it is kept for good; for a provider as long as it has ready queues, as KumoMTA does.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kumo_py.logs import DeliveryCounts

if TYPE_CHECKING:
    from kumo_py.queue.ready import ReadyQueue


class Totals(DeliveryCounts):
    """The sums of what ready queues count."""

    __slots__ = ("aborted", "opened", "overflows")

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0
        self.overflows = 0
        self.aborted = 0

    def add_totals(self, other: Totals) -> None:
        self.add(other)
        self.opened += other.opened
        self.overflows += other.overflows
        self.aborted += other.aborted

    def add_queue(self, ready: ReadyQueue, counts: DeliveryCounts) -> None:
        """`counts`: its `counts`."""
        self.add(counts)
        self.opened += ready.opened
        self.overflows += ready.overflows
        self.aborted += ready.aborted


class Past:
    """One per node."""

    def __init__(self) -> None:
        self.by_protocol: dict[str, Totals] = {}
        """By the first word of its name."""
        self.by_provider: dict[str, dict[tuple[str, str], DeliveryCounts]] = {}
        """And by source and pool."""
        self._queues: Counter[str] = Counter()
        """Ready queues that a provider has."""

    def began(self, ready: ReadyQueue) -> None:
        """There is a new one."""
        self._queues[ready.provider] += 1

    def ended(self, ready: ReadyQueue) -> None:
        """It is dropped: keep what it has counted."""
        counts, provider = ready.counts, ready.provider
        protocol = ready.protocol.name.partition(":")[0]
        self.by_protocol.setdefault(protocol, Totals()).add_queue(ready, counts)
        self._queues[provider] -= 1
        if self._queues[provider] > 0:
            paths = self.by_provider.setdefault(provider, {})
            paths.setdefault((ready.source.name, ready.pool), DeliveryCounts()).add(counts)
        else:
            del self._queues[provider]
            self.by_provider.pop(provider, None)
