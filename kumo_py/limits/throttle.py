"""Throttles: the generic cell rate algorithm, in memory.

Each name has a theoretical arrival time (TAT): when it would next be its turn if
everything had come evenly. What is admitted moves it on by `period / limit`, and
it may run ahead of the clock by `burst` such intervals. So in any stretch of T seconds
at most `burst + T * limit / period` are admitted (one more after a wait, see LATENESS),
and one who always asks again when told gets the full rate.

Counted in whole nanoseconds divided by the spec's limit, in which one interval is
a whole number too: nothing is ever rounded, at any rate and for any length of time.

The state is this node's and not kept over a restart, as KumoMTA's without Redis.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kumo_py.limits.spec import ThrottleSpec


LATENESS = 0.01
"""Seconds at most, and no more than one interval, by which who was told when to come may be late without loss."""
_LATENESS_NS = int(LATENESS * 1e9)


class ThrottleStatus(NamedTuple):
    """How a throttle stands (the fields of `throttle:throttle()` with the same names)."""

    limit: int
    """How many may come at once when nothing came before."""
    remaining: int
    """How many may come at once now."""
    reset_after: float
    """Seconds until `remaining` is `limit` again."""


class Throttles:
    """All throttles of a node, by name and spec: whoever gives both shares one count.

    `now` is in seconds, on one clock. If that steps back, a throttle holds up nobody
    for longer than if its whole burst had just been taken.
    """

    __slots__ = ("_hand", "_tats")

    def __init__(self) -> None:
        self._tats: dict[str, int] = {}
        # Every key once, with its spec's limit. Two are looked at for each new one, and
        # dropped if their TAT has passed: they are as good as never used.
        self._hand: deque[tuple[str, int]] = deque()

    def admit(
        self, key: str, spec: ThrottleSpec, now: float, quantity: int = 1, *, due: float | None = None
    ) -> float:
        """Take `quantity` and return 0.0, or take nothing and return how long to wait.

        After that many seconds a retry succeeds unless others came first; it is
        infinite if `quantity` exceeds the burst. Who was told to come at `due` and is a bit
        late (LATENESS) counts as having come then: else an evenly spaced rate would lose at
        each turn what a wake-up takes.
        """
        name = key + spec.key_suffix
        interval = spec.period_ns
        nanoseconds = int(now * 1e9)
        time = nanoseconds * spec.limit
        arrival = time
        if due is not None and due < now:
            arrival = max(int(due * 1e9) * spec.limit, time - min(_LATENESS_NS * spec.limit, interval))
        known = self._tats.get(name)
        tat = arrival if known is None or known < arrival else known
        taken = interval * quantity
        missing = tat + taken - time - interval * spec.burst
        if missing <= 0:
            self._tats[name] = tat + taken
            if known is None:
                self._remember(name, spec.limit, nanoseconds)
            return 0.0
        if missing > taken:
            self._tats[name] = time + interval * spec.burst  # the clock stepped back
        return _seconds_to_wait(missing, spec, quantity, now)

    def peek(self, key: str, spec: ThrottleSpec, now: float, quantity: int = 1) -> float:
        """Return what `admit` would, and change nothing."""
        missing = self._ahead(key, spec, now) + (quantity - spec.burst) * spec.period_ns
        return 0.0 if missing <= 0 else _seconds_to_wait(missing, spec, quantity, now)

    def status(self, key: str, spec: ThrottleSpec, now: float) -> ThrottleStatus:
        """Return how the throttle stands, and change nothing."""
        ahead = self._ahead(key, spec, now)
        remaining = max(spec.burst - -(-ahead // spec.period_ns), 0)
        return ThrottleStatus(spec.burst, remaining, ahead / (spec.limit * 1e9))

    def __len__(self) -> int:
        """How many counts are held: those in use, and about as many unused ones at most."""
        return len(self._tats)

    def _ahead(self, key: str, spec: ThrottleSpec, now: float) -> int:
        time = int(now * 1e9) * spec.limit
        ahead = self._tats.get(key + spec.key_suffix, time) - time
        return min(max(ahead, 0), spec.period_ns * spec.burst)

    def _remember(self, name: str, limit: int, nanoseconds: int) -> None:
        self._hand.append((name, limit))
        for _ in range(min(2, len(self._hand))):
            seen = self._hand.popleft()
            if self._tats[seen[0]] > nanoseconds * seen[1]:
                self._hand.append(seen)
            else:
                del self._tats[seen[0]]


def _seconds_to_wait(missing: int, spec: ThrottleSpec, quantity: int, now: float) -> float:
    if quantity > spec.burst:
        return math.inf
    wait = min(missing, spec.period_ns * quantity) / (spec.limit * 1e9)
    # Added to a clock in floating point, the bare time could come out a bit too early.
    return wait + 3 * math.ulp(now + wait) + 2e-9
