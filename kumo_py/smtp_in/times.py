"""How long transactions take: KumoMTA's histograms, in seconds. One transaction in `SAMPLED` is timed."""

from __future__ import annotations

import trio

from kumo_py.core.histogram import SAMPLED, Histogram


class TransactionTimes:
    """Of a listener."""

    __slots__ = ("_left", "processing", "reading", "whole")

    def __init__(self) -> None:
        self.reading = Histogram()
        """From the answer to DATA to the end of the content."""
        self.processing = Histogram()
        """From there to the transaction's end."""
        self.whole = Histogram()
        """From MAIL to its end."""
        self._left = 1

    def begin(self) -> Stopwatch | None:
        """A transaction begins; None if this one is not timed."""
        self._left -= 1
        if self._left:
            return None
        self._left = SAMPLED
        return Stopwatch(self)


class Stopwatch:
    """Of one transaction."""

    __slots__ = ("_began", "_content_began", "_content_ended", "_times")

    def __init__(self, times: TransactionTimes) -> None:
        self._times = times
        self._began = trio.current_time()
        self._content_began: float | None = None
        self._content_ended: float | None = None

    def content_begins(self) -> None:
        self._content_began = trio.current_time()

    def content_ends(self) -> None:
        self._content_ended = now = trio.current_time()
        if self._content_began is not None:
            self._times.reading.observe(now - self._content_began)

    def stop(self) -> None:
        now = trio.current_time()
        self._times.whole.observe(now - self._began)
        if self._content_ended is not None:
            self._times.processing.observe(now - self._content_ended)
