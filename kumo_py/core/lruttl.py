"""A cache of bounded size whose entries expire (KumoMTA's `lruttl` caches).

When it is full the entry that was used longest ago goes. Every operation is O(1).
The clock is the caller's: `now` and `expires` are seconds on the same clock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LruTtl(Generic[K, V]):
    """A named cache. The counters only ever grow; read them for metrics."""

    __slots__ = ("_capacity", "_entries", "evicted", "expired", "hits", "inserted", "misses", "name")

    def __init__(self, name: str, capacity: int) -> None:
        """Raises ValueError unless the capacity is at least 1 entry."""
        self.name = name
        self.hits = 0
        self.misses = 0
        """Lookups without an answer, those that found an expired entry included."""
        self.expired = 0
        self.evicted = 0
        self.inserted = 0
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self.capacity = capacity

    @property
    def capacity(self) -> int:
        """Entries at most. Lowering it evicts at once."""
        return self._capacity

    @capacity.setter
    def capacity(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"the capacity of cache '{self.name}' must be at least 1, got {capacity}")
        self._capacity = capacity
        while len(self._entries) > capacity:
            self._evict()

    def get(self, key: K, now: float) -> V | None:
        """Return the value unless there is none, or it expired at `now` or before."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        value, expires = entry
        if expires <= now:
            del self._entries[key]
            self.expired += 1
            self.misses += 1
            return None
        self._entries.move_to_end(key)
        self.hits += 1
        return value

    def put(self, key: K, value: V, expires: float) -> None:
        """Remember a value until `expires`, in place of an older one."""
        self._entries[key] = (value, expires)
        self._entries.move_to_end(key)
        self.inserted += 1
        if len(self._entries) > self._capacity:
            self._evict()

    def discard(self, key: K) -> None:
        """Forget one entry, if it is there."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()

    def __len__(self) -> int:
        """Entries held, those included that have expired but were not asked for since."""
        return len(self._entries)

    def _evict(self) -> None:
        self._entries.popitem(last=False)
        self.evicted += 1
