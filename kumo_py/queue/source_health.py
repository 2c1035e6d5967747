"""Egress sources that cannot be used just now (KumoMTA `suspend_when_unplumbed`, `suspend_when_proxy_unhealthy`).

Connections report what keeps a source from being used at all. Where the source has a rule for that, and its trigger
is reached, the source rests: no message is placed on it, no connection is tried, and what lies in its ready queues
goes to others. Known to this node only, and forgotten by a restart.
"""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import structlog

from kumo_py.core.counter_series import CounterSeries
from kumo_py.core.duration import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.limits.spec import ThrottleSpec
    from kumo_py.queue.config import EgressSource

log = structlog.get_logger("kumo_py.queue.source_health")

_BUCKETS = 60
"""Into how many parts the period of a threshold is cut, of a second at least."""


class Ailment(enum.Enum):
    """What ails a source: the label of its metrics."""

    UNPLUMBED = "Unplumbed"
    """Its source_address is not one of this machine."""
    PROXY_UNHEALTHY = "ProxyUnhealthy"
    """Its proxy is not reached, or cannot use the address that it is asked for."""


class _Rest(NamedTuple):
    """A source's suspension, until a time on the clock."""

    until: float
    why: Ailment


class SourceHealth:
    """Which sources rest. One per node."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` counts seconds and never steps."""
        self._clock = clock
        self._resting: dict[str, _Rest] = {}
        self._series: dict[tuple[str, Ailment], tuple[int, CounterSeries]] = {}
        """What thresholds count, with the period that it was made for."""
        self.failures: Counter[tuple[str, str]] = Counter()
        """Reported failures by source and ailment, whether there is a rule for them or not."""
        self.suspensions: Counter[tuple[str, str]] = Counter()
        """How often a source that was well began to rest, by the same."""
        self.bind_failures = 0
        """Failures to bind a source's address, for whatever reason."""
        self.proxy_failures = 0
        """Failures to reach a proxy."""
        self.on_suspend: Callable[[str], None] = lambda source: None
        """Called with the name of a source that begins to rest."""

    def __bool__(self) -> bool:
        """Whether any source may rest."""
        return bool(self._resting)

    def rests_for(self, source: str) -> float:
        """Seconds for which a source must not be used; 0 if it may be."""
        rest = self._resting.get(source) if self._resting else None
        return 0.0 if rest is None else max(0.0, rest.until - self._clock())

    @property
    def resting(self) -> dict[tuple[str, str], int]:
        """1 by source and ailment for those that rest, 0 for those that did."""
        found = dict.fromkeys(self.suspensions, 0)
        for source, rest in self._resting.items():
            found[source, rest.why.value] = 1
        return found

    def report(self, source: EgressSource, why: Ailment) -> None:
        """A connection could not be made for a reason that concerns the source itself."""
        self.failures[source.name, why.value] += 1
        unplumbed = why is Ailment.UNPLUMBED
        rule = source.suspend_when_unplumbed if unplumbed else source.suspend_when_proxy_unhealthy
        if rule is None:
            return
        if rule.threshold is not None and not self._reached(source.name, why, rule.threshold):
            return
        was_well = self.rests_for(source.name) <= 0.0
        self._resting[source.name] = _Rest(self._clock() + rule.duration, why)
        if was_well:
            self.suspensions[source.name, why.value] += 1
            log.warning(
                "egress source is suspended",
                source=source.name,
                reason=why.value,
                duration=format_duration(rule.duration),
            )
            self.on_suspend(source.name)

    def _reached(self, source: str, why: Ailment, threshold: ThrottleSpec) -> bool:
        """Count a failure; whether there were enough of them within the threshold's period."""
        period, now = threshold.period, self._clock()
        kept = self._series.get((source, why))
        if kept is None or kept[0] != period:
            size = max(1, -(-period // _BUCKETS))
            kept = self._series[source, why] = (period, CounterSeries(-(-period // size), size, now))
        kept[1].increment(now, 1)
        return kept[1].sum(now) >= threshold.limit

    def end_rests(self) -> None:
        """Called once a second: say which sources may be used again."""
        if not self._resting:
            return
        now = self._clock()
        for source, rest in list(self._resting.items()):
            if rest.until <= now:
                del self._resting[source]
                log.info("egress source is used again", source=source, reason=rest.why.value)
