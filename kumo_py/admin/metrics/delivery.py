"""What goes out: connections, what became of messages, and the sources that they are sent from."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from kumo_py.admin.metrics.metric import counter, gauge, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kumo_py.admin.exposition import Family, Sample
    from kumo_py.admin.metrics.metric import Metric
    from kumo_py.admin.metrics.sums import Sums
    from kumo_py.admin.node import Node
    from kumo_py.logs import DeliveryCounts
    from kumo_py.queue.queues import Queues

_OPEN = "Connections that are open"
_PATH = ("provider", "source", "pool")

CONNECTIONS = gauge("connection_count", _OPEN, "service", pruned=True)
BY_PROVIDER = gauge("connection_count_by_provider", _OPEN, "provider", pruned=True)
BY_POOL = gauge("connection_count_by_provider_and_pool", _OPEN, "provider", "pool", pruned=True)
OPENED = counter("total_connection_count", "Connections made and accepted", "service", pruned=True)
ABORTED = counter(
    "dispatcher_watchdog_aborted_total",
    "Dispatchers cancelled because they made no progress",
    "service",
    pruned=True,
)
DURATION = seconds(
    "deliver_message_latency_rollup", "Seconds that an attempt takes; one in 16 is timed", "service"
)
DANE = counter("dane_result_count", "What was found out about hosts that DANE is enabled for", "result")
BIND_FAILURES = counter("bind_failures", "Failures to bind the address of a source")
PROXY_FAILURES = counter("proxy_connection_failures", "Failures to connect to a proxy")
SUSPENDED = gauge("egress_source_health_suspended", "1 while a source is suspended", "source", "reason")
SUSPENSIONS = counter(
    "egress_source_health_suspensions_total", "How often a source was suspended", "source", "reason"
)
UNUSABLE = counter(
    "egress_source_connection_failures_total",
    "Failures to connect that say that a source cannot be used",
    *("source", "kind"),
)

_OUTCOMES: tuple[tuple[Metric, Metric, Metric, Callable[[DeliveryCounts], int]], ...] = tuple(
    (
        counter(f"total_messages_{name}", help_, "service", pruned=True),
        counter(f"total_messages_{name}_by_provider", help_, "provider", pruned=True),
        counter(f"total_messages_{name}_by_provider_and_source", help_, *_PATH, pruned=True),
        number,
    )
    for name, help_, number in (
        ("delivered", "Deliveries; counts recipients", lambda counts: counts.delivered),
        ("transfail", "Attempts that failed for now; counts recipients", lambda counts: counts.transfailed),
        ("fail", "Attempts that failed for good; counts recipients", lambda counts: counts.failed),
    )
)

METRICS = (
    *(CONNECTIONS, BY_PROVIDER, BY_POOL, OPENED, ABORTED, DURATION, DANE, BIND_FAILURES, PROXY_FAILURES),
    *(SUSPENDED, SUSPENSIONS, UNUSABLE),
    *(metric for *three, _ in _OUTCOMES for metric in three),
)


def collect(node: Node, queues: Queues, sums: Sums) -> Iterator[Family]:
    endpoints = [listener.endpoint for listener in node.smtp_listeners if listener.endpoint is not None]
    sums.connections["esmtp_listener"] += sum(len(endpoint.sessions) for endpoint in endpoints)
    yield CONNECTIONS.each(sums.connections)
    yield BY_PROVIDER.each(sums.connections_by_provider)
    yield BY_POOL.each(sums.connections_by_pool)
    totals = sums.by_service
    accepted: Sample = ("esmtp_listener",), sum(endpoint.counters.connections for endpoint in endpoints)
    yield OPENED.of(chain([accepted], (((service,), one.opened) for service, one in totals.items())))
    yield ABORTED.each(totals, lambda one: one.aborted)
    for by_service, by_provider, by_path, number in _OUTCOMES:
        yield by_service.each(totals, number)
        yield by_provider.each(sums.counts_by_provider, number)
        yield by_path.each(sums.counts_by_path, number)
    yield DURATION.each(dict(queues.times.delivery))
    yield DANE.each({result.value: count for result, count in node.dane_results.items()})
    health = queues.source_health
    yield BIND_FAILURES.value(health.bind_failures)
    yield PROXY_FAILURES.value(health.proxy_failures)
    yield SUSPENDED.each(health.resting)
    yield SUSPENSIONS.each(dict(health.suspensions))
    yield UNUSABLE.each(dict(health.failures))
