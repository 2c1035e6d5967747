"""Throttles, counted in this node or in a store that several nodes share.

A spec with `local:` counts in this node whatever is shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import structlog

from kumo_py.limits.throttle import Throttles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kumo_py.limits.spec import ThrottleSpec

log = structlog.get_logger("kumo_py.limits.shared")

TROUBLE = 1.0
"""Seconds to wait when the store cannot be asked."""


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

    def __init__(self, clock: Callable[[], float], local: Throttles | None = None) -> None:
        self._clock = clock
        self.local = local or Throttles()
        """The counts of this node."""
        self.store: ThrottleStore | None = None
        self._in_trouble = False

    def is_shared(self, spec: ThrottleSpec) -> bool:
        """Whether asking takes time."""
        return self.store is not None and not spec.local

    async def admit(
        self, key: str, spec: ThrottleSpec, quantity: int = 1, *, due: float | None = None
    ) -> float:
        """Take `quantity` and return 0.0, or take nothing and return how long to wait.

        `due`: when the asker was told to come (see Throttles.admit; a store goes by its own clock).

        While the store cannot be asked nothing is admitted: a limit that a receiver set must hold.
        """
        if self.store is None or spec.local:
            return self.local.admit(key, spec, self._clock(), quantity, due=due)
        try:
            wait = (await self.store.take(key, spec, quantity)).retry_after
        except OSError as err:
            if not self._in_trouble:
                log.error(f"shared throttles cannot be asked, so nothing passes them: {err}")
            self._in_trouble = True
            return TROUBLE
        self._in_trouble = False
        return 0.0 if wait is None else max(wait, 0.001)

    async def admit_all(
        self, rates: Sequence[tuple[str, ThrottleSpec]], *, due: float | None = None
    ) -> tuple[float, tuple[str, ThrottleSpec]]:
        """Take one of each, or of none, and say how long to wait, and for which.

        There is one, or all are counted in this node.
        """
        if len(rates) == 1:
            return await self.admit(*rates[0], due=due), rates[0]
        now = self._clock()
        waits = [self.local.peek(key, spec, now) for key, spec in rates]
        longest = max(waits)
        if longest <= 0.0:
            for key, spec in rates:
                self.local.admit(key, spec, now, due=due)
        return longest, rates[waits.index(longest)]

    async def take(self, key: str, spec: ThrottleSpec, quantity: int = 1) -> Taken:
        """Take `quantity` of a throttle, or nothing. Raises OSError."""
        if self.store is not None and not spec.local:
            return await self.store.take(key, spec, quantity)
        now = self._clock()
        wait = self.local.admit(key, spec, now, quantity)
        status = self.local.status(key, spec, now)
        return Taken(status.limit, status.remaining, status.reset_after, wait if wait > 0.0 else None)
