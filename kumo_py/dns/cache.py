"""A bounded cache whose values know when they expire."""

from __future__ import annotations

from typing import Protocol, TypeVar

from kumo_py.core.lruttl import LruTtl


class Expiring(Protocol):
    @property
    def expires(self) -> float: ...


K = TypeVar("K")
V = TypeVar("V", bound=Expiring)


class ExpiringCache(LruTtl[K, V]):
    """Keeps the `capacity` values that were used last; expired ones are never given out."""

    __slots__ = ()

    def keep(self, key: K, value: V) -> None:
        """Remember a value until it expires."""
        self.put(key, value, value.expires)
