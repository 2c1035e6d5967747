"""What ready queues that are gone have counted, so that the sums over their likes never fall.

For a protocol it is kept for good; for a provider as long as it has ready queues, as KumoMTA does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kumo_py.logs import DeliveryCounts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kumo_py.queue.ready import ReadyQueue

Path: TypeAlias = "tuple[str, str, str]"
"""Provider, source and pool."""


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
        self.by_path: dict[Path, DeliveryCounts] = {}

    def add(self, gone: Iterable[ReadyQueue], left: Iterable[ReadyQueue]) -> None:
        """Keep what queues have counted that are dropped now; `left` are those that stay."""
        for ready in gone:
            counts = ready.counts
            protocol = ready.protocol.name.partition(":")[0]
            self.by_protocol.setdefault(protocol, Totals()).add_queue(ready, counts)
            self.by_path.setdefault(ready.path_labels, DeliveryCounts()).add(counts)
        providers = {ready.provider for ready in left}
        for path in [path for path in self.by_path if path[0] not in providers]:
            del self.by_path[path]
