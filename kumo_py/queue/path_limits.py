"""What an egress path allows: connections under leases, messages, connections and selections under throttles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from kumo_py.limits.lease import Denied, Lease, Leases
    from kumo_py.limits.spec import ThrottleSpec
    from kumo_py.limits.throttle import Throttles
    from kumo_py.queue.ready import ReadyQueue

LEASE_DURATION = 60.0
"""Seconds for which a connection's places under its limits are kept; renewed while it is open."""


class PathLimits:
    """The limits of all ready queues, asked by their names; those with a name of their own are shared by name."""

    def __init__(self, throttles: Throttles, leases: Leases) -> None:
        self.throttles = throttles
        self._leases = leases

    def lease_connection(self, ready: ReadyQueue) -> Lease | Denied:
        """A place under every connection limit of the path."""
        path = ready.path
        limits = [(f"kumomta.connection_limit.{ready.name}", path.connection_limit)]
        limits += path.additional_connection_limits.items()
        return self._leases.acquire(limits, ready.name, trio.current_time(), LEASE_DURATION)

    def admit_connection(self, ready: ReadyQueue) -> float:
        """Seconds to wait before the path's rate allows a connection; 0 when it does now."""
        rate = ready.path.max_connection_rate
        if rate is None:
            return 0.0
        return self.throttles.admit(f"{ready.name}-connection-rate", rate, trio.current_time())

    def message_rates(self, ready: ReadyQueue) -> list[tuple[str, ThrottleSpec]]:
        """The path's message rates by their keys, the smallest first, so that none is used up in vain."""
        path = ready.path
        rates = list(path.additional_message_rate_throttles.items())
        if path.max_message_rate is not None:
            rates.append((f"kumomta.max_message_rate.{ready.name}", path.max_message_rate))
        if len(rates) > 1:
            rates.sort(key=lambda rate: rate[1].limit / rate[1].period)
        return rates

    def source_throttled(self, ready: ReadyQueue) -> bool:
        """Whether the path's source may not be chosen just now (`source_selection_rate`)."""
        path = ready.path
        if path.source_selection_rate is None and not path.additional_source_selection_rates:
            return False
        now = trio.current_time()
        rates = dict(path.additional_source_selection_rates)
        if path.source_selection_rate is not None:
            rates[f"{ready.name}-source-selection-rate"] = path.source_selection_rate
        return any(self.throttles.admit(key, spec, now) > 0.0 for key, spec in rates.items())
