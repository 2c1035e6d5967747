"""How long the steps of a message through the queues take: KumoMTA's histograms, in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.histogram import Histogram, Latency

if TYPE_CHECKING:
    from collections.abc import Callable

POP_INTERVALS = (3.0, 4.0, 5.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0)
TARDINESS = (0.25, 0.5, 1.0, 2.5, 3.0, 5.0, 10.0, 15.0)
REINSERT_TARDINESS = (*TARDINESS, 30.0, 45.0, 60.0, 90.0, 180.0, 360.0, 720.0)


class DeliveryTimes(dict[str, Latency]):
    """Of attempts, by the protocol's first word in a ready queue's name."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock

    def __missing__(self, protocol: str) -> Latency:
        found = self[protocol] = Latency(self._clock)
        return found


class QueueTimes:
    """Of one node's queues. `clock` counts seconds and never steps."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.resolve = Latency(clock)
        """A scheduled queue is found by its name."""
        self.insert = Latency(clock)
        """A message gets into its queue, or further."""
        self.place = Latency(clock)
        """A message finds a source, a site and a ready queue."""
        self.delivery = DeliveryTimes(clock)
        self.pop = Latency(clock, every=1)
        """What is due is taken out of the timer wheel."""
        self.pop_interval = Histogram(POP_INTERVALS)
        """Between two of these."""
        self.tardiness = Histogram(TARDINESS)
        """How late a message leaves the wheel."""
        self.reinsert_tardiness = Histogram(REINSERT_TARDINESS)
        """How late it has gone on."""
