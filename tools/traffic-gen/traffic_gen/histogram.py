"""Latency percentiles in constant memory.

Values are counted in log-linear buckets of whole microseconds: exact below 1,024 µs, within
0.2 % above.  Histograms of several workers add up.
"""

from __future__ import annotations

_SUB_BITS = 9
_LINEAR = 1 << (_SUB_BITS + 1)
_MAX_BITS = 36  # 19 hours
_CEILING = (1 << _MAX_BITS) - 1
_BUCKETS = (_MAX_BITS - _SUB_BITS + 1) << _SUB_BITS


class Histogram:
    """Counts of durations in seconds."""

    __slots__ = ("buckets", "count", "largest", "total")

    def __init__(self) -> None:
        self.buckets = [0] * _BUCKETS
        self.count = 0
        self.largest = 0.0
        self.total = 0.0

    def record(self, seconds: float) -> None:
        """Count one duration; a negative one counts as zero."""
        micros = int(seconds * 1e6)
        if micros < _LINEAR:
            index = micros if micros > 0 else 0
        else:
            if micros > _CEILING:
                micros = _CEILING
            shift = micros.bit_length() - _SUB_BITS - 1
            index = (shift << _SUB_BITS) + (micros >> shift)
        self.buckets[index] += 1
        self.count += 1
        self.total += seconds
        if seconds > self.largest:
            self.largest = seconds

    def add(self, other: Histogram) -> None:
        """Take in everything that `other` has counted."""
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    @property
    def mean(self) -> float:
        """Seconds; 0.0 when nothing was counted."""
        return self.total / self.count if self.count else 0.0

    def percentiles(self, *wanted: float) -> list[float]:
        """The durations (seconds) at these percentiles, given in rising order (nearest rank)."""
        if not self.count:
            return [0.0] * len(wanted)
        found: list[float] = []
        seen = 0
        for index, here in enumerate(self.buckets):
            seen += here
            while here and len(found) < len(wanted) and seen >= wanted[len(found)] / 100 * self.count:
                found.append(min(_middle(index) / 1e6, self.largest))
            if len(found) == len(wanted):
                break
        return found


def _middle(index: int) -> float:
    """The value in µs that stands for a bucket."""
    if index < _LINEAR:
        return index
    shift = (index >> _SUB_BITS) - 1
    return ((index - (shift << _SUB_BITS)) << shift) + ((1 << shift) - 1) / 2
