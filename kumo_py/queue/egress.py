"""Egress pools and sources: asked of the policy, kept for their own `ttl`, chosen by weight.

The name `unspecified` never fires an event: it is one source whose address the kernel chooses.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, TypeVar

from kumo_py.core.lruttl import LruTtl
from kumo_py.core.policy import Policy, PolicyError
from kumo_py.queue.config import (
    UNSPECIFIED,
    UNSPECIFIED_POOL,
    UNSPECIFIED_SOURCE,
    EgressPool,
    EgressSource,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T", EgressPool, EgressSource)

CAPACITY = 128
"""Pools, and as many sources, that are remembered at most, unless `kumo.set_lruttl_cache_capacity` says so."""


class EgressDirectory:
    """What the policy says of pools and sources, remembered for each one's `ttl` (seconds)."""

    def __init__(self, policy: Policy, now: Callable[[], float]) -> None:
        self._policy = policy
        self._now = now
        self.pools: LruTtl[str, EgressPool] = LruTtl("egress_source_pools", CAPACITY)
        self.sources: LruTtl[str, EgressSource] = LruTtl("egress_source_sources", CAPACITY)
        self._forgotten = 0

    async def pool(self, name: str | None) -> EgressPool:
        """The pool, all of whose sources are known to exist. Raises PolicyError."""
        if name is None or name == UNSPECIFIED:
            return UNSPECIFIED_POOL
        kept = self.pools.get(name, self._now())
        if kept is not None:
            return kept
        forgotten = self._forgotten
        pool = await self._ask("get_egress_pool", name, EgressPool)
        for entry in pool.entries:
            await self.source(entry.name)
        if forgotten == self._forgotten:  # else the answer may be the old policy's
            self.pools.put(name, pool, self._now() + pool.ttl)
        return pool

    async def source(self, name: str) -> EgressSource:
        """Raises PolicyError."""
        if name == UNSPECIFIED:
            return UNSPECIFIED_SOURCE
        kept = self.sources.get(name, self._now())
        if kept is not None:
            return kept
        forgotten = self._forgotten
        source = await self._ask("get_egress_source", name, EgressSource)
        if forgotten == self._forgotten:
            self.sources.put(name, source, self._now() + source.ttl)
        return source

    def forget(self) -> None:
        """Ask again for everything: the policy has changed."""
        self._forgotten += 1
        self.pools.clear()
        self.sources.clear()

    async def _ask(self, event: str, name: str, kind: type[_T]) -> _T:
        found = await self._policy.ask(event, name)
        if not isinstance(found, kind):
            what = "pool" if kind is EgressPool else "source"
            raise PolicyError(
                f"egress {what} '{name}' is not defined: "
                f"handle {event} in the policy and return kumo.make_egress_{what} {{ name = '{name}' }}"
            )
        return found


Entries = list[tuple[str, int]]
"""Names of sources and their weights, above 0."""


class SourceSelector:
    """Interleaved weighted round robin over a pool; one per scheduled queue.

    Sources of weight 3 and 1 come as a a a b, and so on, as KumoMTA's selection does.
    """

    __slots__ = ("_index", "_weight", "entries", "pool")

    def __init__(self, pool: EgressPool) -> None:
        self.pool = pool
        self.entries: Entries = [(entry.name, entry.weight) for entry in pool.entries if entry.weight > 0]
        self._index = -1
        self._weight = 0

    def next(self, entries: Entries) -> str:
        """The next source's name, of those entries that may be chosen just now; at least one."""
        if len(entries) == 1:
            return entries[0][0]
        weights = [weight for _, weight in entries]
        step, largest = gcd(*weights), max(weights)
        while True:
            self._index += 1
            if self._index >= len(entries):
                self._index = 0
            if self._index == 0:
                self._weight -= step
                if self._weight <= 0:
                    self._weight = largest
            name, weight = entries[self._index]
            if weight >= self._weight:
                return name
