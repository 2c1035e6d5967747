"""How long transactions take: KumoMTA's histograms, in seconds."""

from __future__ import annotations

from time import perf_counter

from kumo_py.core.histogram import Histogram

RARELY = 15
"""A transaction that begins when the number of those before has none of these bits is timed: one in 16."""


class TransactionTimes:
    """Of a listener."""

    __slots__ = ("processing", "reading", "whole")

    def __init__(self) -> None:
        self.reading = Histogram()
        """From the answer to DATA to the end of the content."""
        self.processing = Histogram()
        """From there to the transaction's end."""
        self.whole = Histogram()
        """From MAIL to its end."""


class Stopwatch:
    """Of one transaction."""

    __slots__ = ("_began", "_content_began", "_content_ended", "_times")

    def __init__(self, times: TransactionTimes) -> None:
        self._times = times
        self._began = perf_counter()
        self._content_began: float | None = None
        self._content_ended: float | None = None

    def content_begins(self) -> None:
        self._content_began = perf_counter()

    def content_ends(self) -> None:
        self._content_ended = now = perf_counter()
        if self._content_began is not None:
            self._times.reading.observe(now - self._content_began)

    def stop(self) -> None:
        now = perf_counter()
        self._times.whole.observe(now - self._began)
        if self._content_ended is not None:
            self._times.processing.observe(now - self._content_ended)
