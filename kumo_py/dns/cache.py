"""A bounded cache whose values know when they expire."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar


class Expiring(Protocol):
    @property
    def expires(self) -> float: ...


K = TypeVar("K")
V = TypeVar("V", bound=Expiring)


class ExpiringCache(Generic[K, V]):
    """Keeps the `capacity` values that were used last; expired ones are never given out."""

    __slots__ = ("_values", "capacity")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        """May be changed at any time."""
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, now: float) -> V | None:
        value = self._values.get(key)
        if value is None or value.expires <= now:
            return None
        self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        while len(self._values) > self.capacity:
            self._values.popitem(last=False)

    def __len__(self) -> int:
        return len(self._values)
