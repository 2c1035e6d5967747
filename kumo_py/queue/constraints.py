"""What a configuration allows at most, and which of its options says so (KumoMTA `EffectiveConstraints`).

For one queue, in the long run: limits that are shared by name with other queues count in full.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec

from kumo_py.limits.spec import ThrottleSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kumo_py.queue.config import EgressPath, QueueConfig

_LARGEST = 2**63 - 1


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Source(_Table, frozen=True):
    """The option that a ceiling comes from."""

    kind: Literal["primary", "additional", "reconnect_cycling", "other"]
    name: str | None = None
    """Of an entry of an `additional_…` map, or of a configuration other than the path's."""


class Ceiling(_Table, frozen=True):
    """The most of something that is possible."""

    value: float
    """Of a rate: per second."""
    source: Source
    display: str
    """As the policy wrote it."""


class Constraints(_Table, frozen=True):
    """A ceiling for each thing that is limited."""

    max_concurrent_dispatchers: Ceiling
    max_message_rate: Ceiling | None = None
    max_message_rate_declared: str | None = None
    """The option of that name, where something else keeps it from being reached."""
    max_connection_rate: Ceiling | None = None
    max_source_selection_rate: Ceiling | None = None


_PRIMARY = Source(kind="primary")


def path_constraints(path: EgressPath) -> Constraints:
    """What an egress path allows."""
    dispatchers = [(_PRIMARY, path.connection_limit)]
    dispatchers += [(_named(name), limit) for name, limit in path.additional_connection_limits.items()]
    messages = list(_rates(path.max_message_rate, path.additional_message_rate_throttles))
    per_connection, connections = path.max_deliveries_per_connection, path.max_connection_rate
    if connections is not None:
        total = ThrottleSpec(min(max(per_connection * connections.limit, 1), _LARGEST), connections.period)
        messages.append(
            Ceiling(
                value=per_connection * connections.limit / connections.period,
                source=Source(kind="reconnect_cycling"),
                display=f"{per_connection} × {connections} = {total}",
            )
        )
    message_rate = _least(messages)
    declared = None
    if path.max_message_rate is not None and message_rate is not None and message_rate.source is not _PRIMARY:
        declared = str(path.max_message_rate)
    limits = (
        Ceiling(value=float(limit.limit), source=source, display=str(limit.limit))
        for source, limit in dispatchers
    )
    return Constraints(
        max_concurrent_dispatchers=min(limits, key=_value),
        max_message_rate=message_rate,
        max_message_rate_declared=declared,
        max_connection_rate=None if connections is None else _rate(connections, _PRIMARY),
        max_source_selection_rate=_least(
            _rates(path.source_selection_rate, path.additional_source_selection_rates)
        ),
    )


def queue_constraints(config: QueueConfig) -> Constraints:
    """What a scheduled queue allows: messages at its rate, and anything else."""
    rate = config.max_message_rate
    source = Source(kind="other", name="scheduled queue max_message_rate")
    return Constraints(
        max_concurrent_dispatchers=Ceiling(
            value=math.inf, source=Source(kind="other", name="queue config"), display="∞"
        ),
        max_message_rate=None if rate is None else _rate(rate, source),
    )


def tightest(first: Constraints, second: Constraints) -> Constraints:
    """The lower ceiling of each; where both are equal, that of the first."""
    declared = first.max_message_rate_declared
    if first.max_message_rate is not None and first.max_message_rate.source.kind == "primary":
        declared = first.max_message_rate.display
    message_rate = _least((first.max_message_rate, second.max_message_rate))
    if message_rate is None or message_rate.source.kind == "primary":
        declared = first.max_message_rate_declared
    return Constraints(
        max_concurrent_dispatchers=min(
            first.max_concurrent_dispatchers, second.max_concurrent_dispatchers, key=_value
        ),
        max_message_rate=message_rate,
        max_message_rate_declared=declared,
        max_connection_rate=_least((first.max_connection_rate, second.max_connection_rate)),
        max_source_selection_rate=_least((first.max_source_selection_rate, second.max_source_selection_rate)),
    )


def describe(constraints: Constraints) -> str:
    """The text that KumoMTA's tools show."""
    lines = ["ceilings:"]
    for label, option, ceiling in (
        ("concurrent dispatchers:", "connection_limit", constraints.max_concurrent_dispatchers),
        ("message rate:", "max_message_rate", constraints.max_message_rate),
        ("connection rate:", "max_connection_rate", constraints.max_connection_rate),
        ("source selection rate:", "source_selection_rate", constraints.max_source_selection_rate),
    ):
        if ceiling is None:
            continue
        source = ceiling.source.name or option
        if ceiling.source.kind == "reconnect_cycling":
            source = "max_deliveries_per_connection × max_connection_rate"
        lines += [f"  {label:<24}{ceiling.display}", f"    source: {source}"]
        if option == "max_message_rate" and constraints.max_message_rate_declared is not None:
            declared = constraints.max_message_rate_declared
            lines.append(f"    declared: max_message_rate = {declared} ← effectively unreachable")
    return "\n".join(lines) + "\n"


def _rates(primary: ThrottleSpec | None, additional: Mapping[str, ThrottleSpec]) -> Iterable[Ceiling]:
    if primary is not None:
        yield _rate(primary, _PRIMARY)
    for name, spec in additional.items():
        yield _rate(spec, _named(name))


def _rate(spec: ThrottleSpec, source: Source) -> Ceiling:
    return Ceiling(value=spec.limit / spec.period, source=source, display=str(spec))


def _named(name: str) -> Source:
    return Source(kind="additional", name=name)


def _least(ceilings: Iterable[Ceiling | None]) -> Ceiling | None:
    return min((one for one in ceilings if one is not None), key=_value, default=None)


def _value(ceiling: Ceiling) -> float:
    return ceiling.value
