"""The node's metrics, by KumoMTA's names: plain numbers, which are read when somebody asks and cost nothing before.

One file for each subject says which metrics there are (`METRICS`) and reads them off the node. What belongs to a queue
that the node no longer knows is gone, as KumoMTA prunes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kumo_py.admin.exposition import stream_json
from kumo_py.admin.metrics import (
    caches,
    delivery,
    lookups,
    lua,
    process,
    reception,
    records,
    storage,
    waiting,
)
from kumo_py.admin.metrics.sums import sum_up

if TYPE_CHECKING:
    from kumo_py.admin.exposition import Family
    from kumo_py.admin.metrics.metric import Metric
    from kumo_py.admin.node import Node
    from kumo_py.admin.shared import Shared

_SUBJECTS = (process, lua, caches, lookups, reception, records, storage, waiting, delivery)
METRICS: tuple[Metric, ...] = tuple(
    sorted((metric for subject in _SUBJECTS for metric in subject.METRICS), key=lambda metric: metric.name)
)
"""All that there can be."""


async def collect(node: Node, shared: Shared) -> list[Family]:
    """All metrics; numbers that are read one by one are as of when the samples are read."""
    families = [
        *process.collect(node),
        *lua.collect(node),
        *caches.collect(node),
        *lookups.collect(node),
        *reception.collect(node, shared),
    ]
    try:
        queues = node.queues
    except ValueError:  # not yet
        return families
    await shared.residents.look(queues)
    sums = await sum_up(queues)
    return [
        *families,
        *records.collect(node),
        *await storage.collect(node),
        *storage.of_messages(queues.spool),
        *waiting.collect(queues, sums, shared.residents),
        *delivery.collect(node, queues, sums),
    ]


async def as_plain(node: Node, shared: Shared) -> dict[str, Any]:
    """What `kumo.prometheus_metrics` returns: as GET /metrics.json."""
    pieces = [piece async for piece in stream_json(await collect(node, shared))]
    found: dict[str, Any] = orjson.loads(b"".join(pieces))
    return found


def metadata() -> list[dict[str, Any]]:
    """What `kumod --dump-metric-metadata` prints of each metric."""
    return [
        {
            "name": metric.name,
            "help": metric.help,
            "doc": None,
            "metric_type": metric.kind.capitalize(),
            "label_names": list(metric.labels),
            "buckets": list(metric.bounds),
            "pruning": "Pruning" if metric.pruned else "NonPruning",
        }
        for metric in METRICS
    ]
