"""Leases: how many connections may be open at once, under several named limits.

A connection takes one lease that counts against every limit given, or none at all.
It gives it back when it closes; if it forgets, the lease expires, and only then may
its place be taken by another one. Limits of one name are shared by all who use it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kumo_py.limits.spec import LimitSpec


class Denied(NamedTuple):
    """No lease: the limit `name` is reached."""

    name: str
    wait: float
    """No lease under it expires before that many seconds; one may well be released."""


class Lease:
    """A place under each of its limits, until it is released or expires."""

    __slots__ = ("_leases", "expires", "held", "holder", "names")

    def __init__(self, leases: LeaseKeeper, names: tuple[str, ...], holder: str, expires: float) -> None:
        self._leases = leases
        self.names = names
        self.holder = holder
        self.expires = expires
        """From when on it may be taken away, on the clock of `acquire`."""
        self.held = True

    def release(self) -> None:
        """Give the places back. Harmless if that was done, or if the lease was lost."""
        if self.held:
            self.held = False
            self._leases.drop(self)

    def extend(self, now: float, duration: float) -> bool:
        """Keep the lease for `duration` seconds from now; False if it is gone."""
        if self.held:
            self.expires = now + duration
            self._leases.note_expiry(self)
        return self.held


class LeaseKeeper(Protocol):
    """What a lease tells of itself."""

    def drop(self, lease: Lease) -> None:
        """It was released."""

    def note_expiry(self, lease: Lease) -> None:
        """`expires` has changed."""


class LeaseStore(Protocol):
    """Where leases are counted: in this node (`Leases`), or in Redis for a cluster.

    Not async: a ready queue asks whenever a message comes in, where waiting is not
    possible. A store that has to ask elsewhere answers Denied with a short wait,
    asks meanwhile, and has the lease ready for the retry.
    """

    def acquire(
        self, limits: Sequence[tuple[str, LimitSpec]], holder: str, now: float, duration: float
    ) -> Lease | Denied:
        """Take a place under every limit for `duration` seconds, or none.

        The smallest limit is asked first, and the first one reached is the answer.
        `holder` says who has the lease, for people to read.
        """


class Leases:
    """The leases of this node. `now` is in seconds, on one clock."""

    __slots__ = ("_places", "_waiting", "released")

    def __init__(self) -> None:
        self._places: dict[str, _Places] = {}
        self._waiting: dict[str, dict[str, int]] = {}
        """Who was denied by each limit, with its size; who came first comes first."""
        self.released: Callable[[str], None] = _nobody
        """Called with the holder who was denied first when there is a place: it may ask again at once."""

    def acquire(
        self, limits: Sequence[tuple[str, LimitSpec]], holder: str, now: float, duration: float
    ) -> Lease | Denied:
        """See `LeaseStore.acquire`."""
        for name, spec in sorted(limits, key=_limit) if len(limits) > 1 else limits:
            places = self._places.get(name)
            if places is not None and len(places.taken) >= spec.limit:
                if now >= places.earliest:
                    places = self._take_back_expired(name, now)
                if places is not None and len(places.taken) >= spec.limit:
                    self._waiting.setdefault(name, {}).setdefault(holder, spec.limit)
                    return Denied(name, places.earliest - now)
        lease = Lease(self, tuple(name for name, _ in limits), holder, now + duration)
        for name in lease.names:
            places = self._places.get(name)
            if places is None:
                places = self._places[name] = _Places()
            places.taken.add(lease)
        self.note_expiry(lease)
        return lease

    def holders(self, name: str) -> list[str]:
        """Who holds the leases under a limit, in no order."""
        places = self._places.get(name)
        return [lease.holder for lease in places.taken] if places else []

    def drop(self, lease: Lease) -> None:
        """For `Lease.release`."""
        self._remove(lease)
        for name in lease.names:
            if name in self._waiting:
                self._offer(name)

    def _remove(self, lease: Lease) -> None:
        for name in lease.names:
            places = self._places[name]
            places.taken.discard(lease)
            if not places.taken:
                del self._places[name]

    def _offer(self, name: str) -> None:
        """Ask those who wait, one after the other, until one takes the place: some may need it no more."""
        waiting = self._waiting[name]
        for _ in range(len(waiting)):
            if not waiting:
                break
            holder, limit = next(iter(waiting.items()))
            places = self._places.get(name)
            if places is not None and len(places.taken) >= limit:
                return
            del waiting[holder]
            self.released(holder)
        if not waiting and self._waiting.get(name) is waiting:
            del self._waiting[name]

    def _take_back_expired(self, name: str, now: float) -> _Places | None:
        """What is left. Nobody is asked here who waits: the one who acquires comes first."""
        places = self._places[name]
        for lease in [lease for lease in places.taken if lease.expires <= now]:
            lease.held = False
            self._remove(lease)
        places.earliest = min((lease.expires for lease in places.taken), default=math.inf)
        return self._places.get(name)

    def note_expiry(self, lease: Lease) -> None:
        """For `Lease.extend`."""
        for name in lease.names:
            places = self._places[name]
            places.earliest = min(places.earliest, lease.expires)


class _Places:
    """The leases under one limit."""

    __slots__ = ("earliest", "taken")

    def __init__(self) -> None:
        self.taken: set[Lease] = set()
        self.earliest = math.inf
        """No lease expires before. Spares a look at all of them with each denial."""


def _nobody(_holder: str) -> None:
    pass


def _limit(named: tuple[str, LimitSpec]) -> int:
    return named[1].limit
