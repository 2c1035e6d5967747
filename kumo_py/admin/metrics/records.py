"""The delivery log: what it recorded, how long delivery took, and whether its loggers keep up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.admin.metrics.metric import counter, gauge, seconds
from kumo_py.logs.delivery_log import DELIVERY_TIMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.admin.exposition import Family
    from kumo_py.admin.node import Node

OUTCOMES = counter(
    "kumo_py_outcomes_total", "What befell messages, by kind of log record; counts recipients", "type"
)
DELIVERY = seconds(
    "kumo_py_delivery_seconds",
    "Seconds from reception to delivery; one message in 16 is timed",
    bounds=DELIVERY_TIMES,
)
CLASSIFY = seconds("bounce_classify_latency", "Seconds to classify an answer")
LATENCY = seconds(
    "log_submit_latency",
    "Seconds that a logger took for a record; for log files one message in 16 is timed",
    "logger",
)
FULL = counter("log_submit_full", "Records for log files that had to wait for the disk", "logger")
BACKLOG = counter(
    "log_hook_backlog_count", "Records for hooks that had to wait for their back_pressure", "logger"
)
PENDING = gauge("kumo_py_log_hook_pending", "Records that are not in a queue yet", "logger")

METRICS = (OUTCOMES, DELIVERY, CLASSIFY, LATENCY, FULL, BACKLOG, PENDING)


def collect(node: Node) -> Iterator[Family]:
    log = node.log
    yield OUTCOMES.each({kind.value: count for kind, count in log.outcomes.items()})
    yield DELIVERY.value(log.delivery_time)
    yield CLASSIFY.value(log.classify_time)
    latencies = {logger.name: logger.latency for logger in log.loggers}
    latencies |= {f"hook-{hook.name}": hook.latency for hook in log.hooks}
    latencies |= {f"hook-{hook.name}": hook.latency for hook in log.disposition_hooks}
    yield LATENCY.each(latencies)
    yield FULL.each({logger.name: logger.waits for logger in log.loggers})
    yield BACKLOG.each({hook.name: hook.waits for hook in log.hooks})
    yield PENDING.each({hook.name: hook.pending for hook in log.hooks})
