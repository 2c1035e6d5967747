"""The dispatchers of a ready queue that run: who is stuck, and who must end when the node does.

A dispatcher makes progress when it takes a message, when it is woken, and when its session begins to wait for something
else. One that makes none for `dispatcher_progress_watchdog_timeout`, and is not idle, is cancelled; what it had in hand
is tried again. At the end of the node each has `system_shutdown_timeout`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from kumo_py.core.duration import format_duration
from kumo_py.logs import DeliveryCounts
from kumo_py.logs.json_text import to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.queue.config import DeliveryProtocol, EgressPath

_NO_TIMEOUTS = 600.0
"""Seconds for protocols that have no timeouts of their own."""
_LEAST = 60.0

Phase = str | dict[str, dict[str, int]]
"""KumoMTA's `DispatcherPhase`, as its JSON has it."""


class Running:
    """One dispatcher."""

    __slots__ = (
        "_last",
        "_seen",
        "aborted",
        "began",
        "by_watchdog",
        "counts",
        "describe",
        "phase",
        "scope",
        "session_id",
        "since",
        "steps",
    )

    def __init__(self, session_id: str, counts: DeliveryCounts | None = None) -> None:
        self.session_id = session_id
        self.counts = counts or DeliveryCounts()
        self.phase: Phase = "Starting"
        """What it is about, for people; where it is idle, that is known elsewhere."""
        self.describe: Callable[[], str | None] = lambda: None
        """Says more about that, if there is more to say."""
        self.scope = trio.CancelScope()
        self.began = self.since = trio.current_time()
        """`since`: when it was last seen to make progress."""
        self.steps = 0
        """Grows with all progress."""
        self.aborted = False
        self.by_watchdog = False
        self._last = ""
        self._seen = 0

    def stuck(self, now: float) -> float:
        """Seconds without progress, as far as looks once a second can tell."""
        if self.steps != self._seen:
            self._seen, self.since = self.steps, now
        return now - self.since

    def summary(self) -> str:
        """Of one that was cancelled, for records: what it was about then, in KumoMTA's words."""
        now = trio.current_time()
        age, stuck = (format_duration(round(now - since)) for since in (self.began, self.since))
        return f"{self._last} session={self.session_id} age={age} time_in_phase={stuck}"

    def abort(self, *, by_watchdog: bool = False) -> None:
        """Cancel it; what it has in hand is tried again."""
        self.aborted, self.by_watchdog = True, by_watchdog
        phase, detail = self.phase, self.describe()
        if isinstance(phase, dict):
            [(name, numbers)] = phase.items()
            phase = f"{name} {{ {', '.join(f'{key}: {number}' for key, number in numbers.items())} }}"
        self._last = f"phase={phase} detail={detail and to_json(detail).decode()}"
        self.scope.cancel()


def watchdog_timeout(path: EgressPath, protocol: DeliveryProtocol) -> float:
    """Seconds after which a dispatcher without progress is cancelled."""
    if path.dispatcher_progress_watchdog_timeout is not None:
        return path.dispatcher_progress_watchdog_timeout
    if protocol.name == "httpinject":
        return math.inf  # one message stands for as many as there are recipients in a request
    if protocol.name != "smtp_client":
        return _NO_TIMEOUTS
    longest = max(path.mail_from_timeout, path.rcpt_to_timeout, path.data_timeout, path.data_dot_timeout)
    return max(2.0 * longest, _LEAST)


def shutdown_timeout(path: EgressPath) -> float:
    """Seconds that a dispatcher has to finish what it has in hand when the node ends."""
    if path.system_shutdown_timeout is not None:
        return path.system_shutdown_timeout
    return path.mail_from_timeout + path.rcpt_to_timeout + path.data_timeout + path.data_dot_timeout
