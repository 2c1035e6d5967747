"""A rolling counter: what was counted in the last n spans of time (KumoMTA's `kumo.counter_series`).

Time is given by the caller, in seconds that never decrease. Buckets follow each other without gaps from the
moment of creation on; neither they nor sums of them go beyond Lua's largest integer.
"""

from __future__ import annotations

MAX = 2**63 - 1


class CounterSeries:
    """`buckets` spans of `bucket_size` seconds each; the latest is the one that counts."""

    __slots__ = ("_began", "_buckets", "_slot", "bucket_size")

    def __init__(self, buckets: int, bucket_size: int, now: float, initial: int = 0) -> None:
        """Raises ValueError."""
        if not 1 <= buckets <= 255:
            raise ValueError(f"num_buckets must be from 1 to 255, got {buckets}")
        if bucket_size < 1:
            raise ValueError(f"bucket_size must be at least one second, got {bucket_size}")
        self.bucket_size = bucket_size
        self._buckets = [0] * buckets
        self._began = now
        self._slot = 0
        self._put(now, initial)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of buckets, and seconds of each."""
        return len(self._buckets), self.bucket_size

    def increment(self, now: float, by: int) -> None:
        """Add to the latest bucket; a negative number takes away, down to nothing."""
        self._put(now, self._buckets[self._turn(now)] + by)

    def observe(self, now: float, value: int) -> None:
        """Set the latest bucket."""
        self._put(now, value)

    def sum(self, now: float) -> int:
        """All buckets together."""
        self._turn(now)
        return min(sum(self._buckets), MAX)

    def sum_over(self, now: float, seconds: float) -> int:
        """The latest buckets that cover so many seconds, at least one."""
        latest = self._turn(now)
        covered = int(min(max(-(seconds // -self.bucket_size), 1), len(self._buckets)))
        return min(sum(self._buckets[latest - n] for n in range(covered)), MAX)

    def _put(self, now: float, value: int) -> None:
        self._buckets[self._turn(now)] = min(max(value, 0), MAX)

    def _turn(self, now: float) -> int:
        """The place of the latest bucket, once those that are over are cleared."""
        slot = int((now - self._began) // self.bucket_size)
        size = len(self._buckets)
        for passed in range(max(self._slot + 1, slot - size + 1), slot + 1):
            self._buckets[passed % size] = 0
        self._slot = max(slot, self._slot)
        return self._slot % size
