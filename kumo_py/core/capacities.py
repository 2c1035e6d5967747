"""How many entries a node's caches may have, by the names that KumoMTA gives them.

A capacity may be set before its cache exists, and counts for each cache that takes the name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.core.lruttl import LruTtl


class Capacities:
    """One per node."""

    def __init__(self) -> None:
        self._capacities: dict[str, int] = {}
        self._resize: dict[str, list[Callable[[int], None]]] = {}
        self.caches: list[LruTtl[Any, Any]] = []
        """Those that `adopt_cache` was given, for the metrics."""

    def adopt(self, name: str, resize: Callable[[int], None]) -> None:
        """From now on, and at once if it is set already, call `resize` with the capacity of that name."""
        self._resize.setdefault(name, []).append(resize)
        if name in self._capacities:
            resize(self._capacities[name])

    def adopt_cache(self, cache: LruTtl[Any, Any]) -> None:
        """`adopt` for a cache that knows its name."""
        self.caches.append(cache)
        self.adopt(cache.name, lambda capacity: setattr(cache, "capacity", capacity))

    def set(self, name: str, capacity: int) -> None:
        """Raises ValueError unless the capacity is at least 1 entry."""
        if capacity < 1:
            raise ValueError(f"the capacity of cache '{name}' must be at least 1, got {capacity}")
        self._capacities[name] = capacity
        for resize in self._resize.get(name, ()):
            resize(capacity)
