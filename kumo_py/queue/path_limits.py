"""What an egress path allows: connections under leases, messages, connections and selections under throttles."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import trio

from kumo_py.limits.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.limits.lease import Denied, Lease, LeaseStore
    from kumo_py.limits.shared import SharedThrottles
    from kumo_py.limits.spec import ThrottleSpec
    from kumo_py.queue.ready import ReadyQueue

Rates = list[tuple[str, "ThrottleSpec"]]
"""With their keys."""

LEASE_DURATION = 60.0
"""Seconds for which a connection's places under its limits are kept; renewed while it is open."""
ASK_AGAIN = 0.25
"""Seconds after which a ready queue looks again for the answer of a shared rate."""
ADMISSION_LASTS = 5.0
"""Seconds for which a shared rate's admission of a connection may be used."""


class _Answer(NamedTuple):
    """Of a shared rate, until a time (trio); None while it is being asked."""

    until: float | None = None
    admitted: bool = False


class PathLimits:
    """The limits of all ready queues, asked by their names; those with a name of their own are shared by name."""

    def __init__(self, rates: SharedThrottles, leases: LeaseStore, spawn: Callable[..., None]) -> None:
        self.rates = rates
        self.leases = leases
        self.turns = Turns()
        """Of dispatchers that wait for a message rate, by its key."""
        self._spawn = spawn
        self._asked: dict[str, _Answer] = {}
        """What shared rates answered to ready queues that cannot wait, by the queues' names."""

    def lease_connection(self, ready: ReadyQueue) -> Lease | Denied:
        """A place under every connection limit of the path."""
        path = ready.path
        limits = [(f"kumomta.connection_limit.{ready.name}", path.connection_limit)]
        limits += path.additional_connection_limits.items()
        return self.leases.acquire(limits, ready.name, trio.current_time(), LEASE_DURATION)

    def admit_connection(self, ready: ReadyQueue) -> float:
        """Seconds to wait before the path's rate allows a connection; 0 when it does now."""
        rate = ready.path.max_connection_rate
        if rate is None:
            return 0.0
        key, now = f"{ready.name}-connection-rate", trio.current_time()
        if not self.rates.is_shared(rate):
            return self.rates.local.admit(key, rate, now)
        answer = self._asked.get(ready.name)
        if answer is None:
            self._asked[ready.name] = _Answer()
            self._spawn(self._ask_for_connection, key, rate, ready)
            return ASK_AGAIN
        if answer.until is None:
            return ASK_AGAIN
        if answer.admitted:
            del self._asked[ready.name]
            return 0.0
        return max(answer.until - now, 0.001)

    async def _ask_for_connection(self, key: str, rate: ThrottleSpec, ready: ReadyQueue) -> None:
        wait = await self.rates.admit(key, rate)
        lasts = wait if wait > 0.0 else ADMISSION_LASTS
        answer = self._asked[ready.name] = _Answer(trio.current_time() + lasts, admitted=wait <= 0.0)
        if answer.admitted:
            ready.connect_now()
        await trio.sleep(min(lasts, ADMISSION_LASTS))
        if self._asked.get(ready.name) is answer:
            del self._asked[ready.name]

    def message_rates(self, ready: ReadyQueue) -> Rates:
        """The path's message rates by their keys, the smallest first, so that none is used up in vain."""
        path = ready.path
        rates = list(path.additional_message_rate_throttles.items())
        if path.max_message_rate is not None:
            rates.append((f"kumomta.max_message_rate.{ready.name}", path.max_message_rate))
        if len(rates) > 1:
            rates.sort(key=_per_second)
        return rates

    async def source_throttled(self, ready: ReadyQueue) -> bool:
        """Whether the path's source may not be chosen just now (`source_selection_rate`)."""
        path = ready.path
        if path.source_selection_rate is None and not path.additional_source_selection_rates:
            return False
        rates = dict(path.additional_source_selection_rates)
        if path.source_selection_rate is not None:
            rates[f"kumomta.source_selection_rate.{ready.name}.{ready.source.name}"] = (
                path.source_selection_rate
            )
        for together in self.groups(sorted(rates.items(), key=_per_second)):
            wait, _ = await self.rates.admit_all(together)
            if wait > 0.0:
                return True
        return False

    def groups(self, rates: Rates) -> list[Rates]:
        """Rates that are counted here are asked together, so that none is taken before all allow it."""
        groups = [[rate] for rate in rates if self.rates.is_shared(rate[1])]
        here = [rate for rate in rates if not self.rates.is_shared(rate[1])]
        return [*groups, here] if here else groups


def _per_second(rate: tuple[str, ThrottleSpec]) -> float:
    return rate[1].limit / rate[1].period
