"""Throttles that a policy names: counted in this node, or in a store that several nodes share.

A spec with `local:` counts in this node whatever is shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from kumo_py.limits.throttle import Throttles

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.limits.spec import ThrottleSpec


class Taken(NamedTuple):
    """What became of asking a throttle."""

    limit: int
    """How many may come at once when nothing came before."""
    remaining: int
    """How many may come at once now."""
    reset_after: float
    """Seconds until `remaining` is `limit` again."""
    retry_after: float | None
    """Seconds to wait before asking again; None if it was admitted."""


class ThrottleStore(Protocol):
    """Counts for several nodes."""

    async def take(self, key: str, spec: ThrottleSpec, quantity: int) -> Taken:
        """Take `quantity`, or nothing. Raises OSError when the store cannot be asked."""
        ...


class SharedThrottles:
    """See the module. One per node."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.local = Throttles()
        """The counts of this node; path and queue rates are counted there too."""
        self.store: ThrottleStore | None = None

    async def take(self, key: str, spec: ThrottleSpec, quantity: int = 1) -> Taken:
        """Take `quantity` of a throttle, or nothing. Raises OSError."""
        if self.store is not None and not spec.local:
            return await self.store.take(key, spec, quantity)
        now = self._clock()
        wait = self.local.admit(key, spec, now, quantity)
        status = self.local.status(key, spec, now)
        return Taken(status.limit, status.remaining, status.reset_after, wait if wait > 0.0 else None)
