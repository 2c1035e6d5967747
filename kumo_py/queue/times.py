"""How long the steps of a message through the queues take: KumoMTA's histograms, in seconds."""

from __future__ import annotations

from collections import defaultdict

from kumo_py.core.histogram import Histogram

POP_INTERVALS = (3.0, 4.0, 5.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0)
TARDINESS = (0.25, 0.5, 1.0, 2.5, 3.0, 5.0, 10.0, 15.0)
REINSERT_TARDINESS = (*TARDINESS, 30.0, 45.0, 60.0, 90.0, 180.0, 360.0, 720.0)


class QueueTimes:
    """Of one node's queues."""

    def __init__(self) -> None:
        self.resolve = Histogram()
        """A scheduled queue is set up that was not known."""
        self.insert = Histogram()
        """A message gets into its queue, or further."""
        self.place = Histogram()
        """A message finds a source, a site and a ready queue."""
        self.delivery: defaultdict[str, Histogram] = defaultdict(Histogram)
        """An attempt is made; by the protocol's first word in a ready queue's name."""
        self.pop = Histogram()
        """What is due is taken out of the timer wheel."""
        self.pop_interval = Histogram(POP_INTERVALS)
        """Between two of these."""
        self.tardiness = Histogram(TARDINESS)
        """How late a message leaves the wheel."""
        self.reinsert_tardiness = Histogram(REINSERT_TARDINESS)
        """How late it has gone on."""
