"""The node's metrics, by KumoMTA's names: plain numbers, which are read when somebody asks and cost nothing before.

What belongs to a queue that the node no longer knows is gone, as KumoMTA prunes it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import orjson
import trio

from kumo_py.admin.exposition import Family, Histogram, stream_json
from kumo_py.policy.event_times import BOUNDS
from kumo_py.policy.modules.memoize import MemoCaches
from kumo_py.queue.config import UNSPECIFIED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kumo_py.admin.exposition import Sample
    from kumo_py.admin.node import Node
    from kumo_py.admin.shared import Shared
    from kumo_py.core.lruttl import LruTtl
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.queue.scheduled import ScheduledQueue
    from kumo_py.queue.source_health import SourceHealth

    _CacheMetric: TypeAlias = tuple[str, str, Callable[[LruTtl[Any, Any]], int]]

_SLICE = 512
"""Queues counted in one go before other tasks get a turn."""

_LRUTTL: tuple[_CacheMetric, ...] = (
    ("lruttl_lookup_count", "Lookups in a cache", lambda cache: cache.hits + cache.misses),
    ("lruttl_hit_count", "Lookups that a cache could answer", lambda cache: cache.hits),
    ("lruttl_miss_count", "Lookups that a cache could not answer", lambda cache: cache.misses),
    ("lruttl_insert_count", "Entries put into a cache", lambda cache: cache.inserted),
    ("lruttl_evict_count", "Entries that a cache had no room for", lambda cache: cache.evicted),
    ("lruttl_expire_count", "Entries found to be too old", lambda cache: cache.expired),
)
_MEMOIZE: tuple[_CacheMetric, ...] = (
    ("memoize_cache_lookup_count", "Calls of a memoized function", lambda cache: cache.hits + cache.misses),
    ("memoize_cache_hit_count", "Calls with a known result", lambda cache: cache.hits),
    ("memoize_cache_miss_count", "Calls without a known result", lambda cache: cache.misses),
    ("memoize_cache_populated_count", "Results computed", lambda cache: cache.inserted),
)


async def collect(node: Node, shared: Shared) -> list[Family]:
    """All metrics; numbers that are read one by one are as of when the samples are read."""
    families = [
        *_memory(node),
        *_contexts(node),
        *_caches(node),
        *_config(node),
        *_receiving(node, shared),
    ]
    try:
        queues = node.queues
    except ValueError:  # not yet
        return families
    return families + await _queues(node, queues)


async def as_plain(node: Node, shared: Shared) -> dict[str, Any]:
    """What `kumo.prometheus_metrics` returns: as GET /metrics.json."""
    pieces = [piece async for piece in stream_json(await collect(node, shared))]
    found: dict[str, Any] = orjson.loads(b"".join(pieces))
    return found


def _gauge(name: str, help_: str, value: float | None) -> Family:
    return Family(name, "gauge", help_, (), () if value is None else (((), value),))


def _counter(name: str, help_: str, value: float) -> Family:
    return Family(name, "counter", help_, (), (((), value),))


def _memory(node: Node) -> Iterator[Family]:
    memory = node.memory
    yield _gauge("memory_usage", "Resident set size in bytes, as of a second ago at most", memory.usage)
    yield _gauge("memory_limit", "Bytes above which no mail is taken", memory.soft_limit)
    yield _gauge(
        "memory_low_thresh", "Bytes above which the node begins to save memory", memory.low_threshold
    )
    yield _counter("memory_over_limit_count", "How often memory_limit was crossed", memory.over_limit_count)
    yield _counter("memory_low_count", "How often memory_low_thresh was crossed", memory.low_count)


def _contexts(node: Node) -> Iterator[Family]:
    policy = node.policy
    contexts, times = policy.contexts, list(policy.times.items())
    yield _gauge("lua_count", "Lua contexts that exist", contexts.alive)
    yield _gauge("lua_spare_count", "Lua contexts that wait for an event", contexts.idle)
    yield _counter("lua_load_count", "How often the policy was loaded into a new context", contexts.made)
    started: list[Sample] = [((event,), time.started) for event, time in times]
    yield Family("lua_event_started", "counter", "Events that were begun", ("event",), started)
    latency: list[Sample] = [
        ((event,), Histogram(BOUNDS, time.counts, time.seconds)) for event, time in times
    ]
    yield Family("lua_event_latency", "histogram", "Seconds that an event took", ("event",), latency)


def _caches(node: Node) -> Iterator[Family]:
    memoized = list(node.policy.env.state(MemoCaches).by_name.items())
    results: list[tuple[str, LruTtl[Any, Any]]] = [(name, cache.results) for name, cache in memoized]
    for name, help_, number in _MEMOIZE:
        yield Family(
            name, "counter", help_, ("cache_name",), [((one,), number(cache)) for one, cache in results]
        )
    # Two caches of one name would be two samples of one name: what is asked for is their sum.
    by_name: dict[str, list[LruTtl[Any, Any]]] = {}
    for cache in [*node.capacities.caches, *(cache for _, cache in results)]:
        by_name.setdefault(cache.name, []).append(cache)
    for name, help_, number in _LRUTTL:
        samples: list[Sample] = [((one,), sum(map(number, several))) for one, several in by_name.items()]
        yield Family(name, "counter", help_, ("cache_name",), samples)
    sizes: list[Sample] = [((one,), sum(map(len, several))) for one, several in by_name.items()]
    yield Family("lruttl_cache_size", "gauge", "Entries in a cache", ("cache_name",), sizes)


def _config(node: Node) -> Iterator[Family]:
    yield _gauge("kumo_py_config_epoch", "Grows with each policy that takes over", node.policy.epoch)
    if node.reloader is not None:
        status = node.reloader.status
        yield _counter("kumo_py_config_reloads_total", "Policies that took over", status.reloads)
        yield _counter("kumo_py_config_reload_failures_total", "Policies that were refused", status.failures)
        yield _gauge(
            "kumo_py_config_restart_needed",
            "Changes that take effect at the next start only",
            len(status.restart_needed),
        )


def _by_service(name: str, kind: Literal["counter", "gauge"], help_: str, counts: Counter[str]) -> Family:
    return Family(name, kind, help_, ("service",), (((service,), count) for service, count in counts.items()))


def _receiving(node: Node, shared: Shared) -> Iterator[Family]:
    accepted, denied, received, rejected = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for listener in node.smtp_listeners:
        if listener.endpoint is None:
            continue
        counters = listener.endpoint.counters
        for service in ("esmtp_listener", f"esmtp_listener:{listener.params.listen}"):
            received[service] += counters.receptions
            rejected[service] += counters.rejections
        accepted["esmtp_listener"] += counters.connections
        denied["esmtp_listener"] += counters.denied
    received["http_listener"] = shared.injected
    yield _by_service("total_connection_count", "counter", "Connections accepted", accepted)
    yield _by_service("total_connections_denied", "counter", "Connections refused for load or limits", denied)
    yield _by_service("total_messages_received", "counter", "Messages received", received)
    yield _by_service("smtp_server_rejections", "counter", "Commands and messages refused", rejected)


class _Queued:
    """Sums over all queues."""

    def __init__(self) -> None:
        self.total = 0
        self.by_domain: Counter[str] = Counter()
        self.by_tenant: Counter[str] = Counter()
        self.by_campaign: Counter[tuple[str, str]] = Counter()
        self.by_provider: Counter[str] = Counter()
        self.by_pool: Counter[tuple[str, str]] = Counter()
        """By provider and pool."""
        self.ready: Counter[str] = Counter()
        self.connections: Counter[str] = Counter()
        self.connections_by_provider: Counter[str] = Counter()
        self.connections_by_pool: Counter[tuple[str, str]] = Counter()

    def add_scheduled(self, queue: ScheduledQueue) -> None:
        count, parts, config = queue.delayed, queue.components, queue.config
        self.total += count
        self.by_domain[parts.domain] += count
        if parts.tenant is not None:
            self.by_tenant[parts.tenant] += count
            if parts.campaign is not None:
                self.by_campaign[parts.tenant, parts.campaign] += count
        provider = config.provider_name
        if provider is None:
            provider = next((ready.site_name for _, ready in queue.ready_by_source.values()), parts.domain)
        self.by_provider[provider] += count
        self.by_pool[provider, config.egress_pool or UNSPECIFIED] += count

    def add_ready(self, ready: ReadyQueue) -> None:
        count, connections = len(ready.messages), ready.connections
        protocol = ready.protocol.name.partition(":")[0]
        for service in (protocol, f"{protocol}:{ready.name}"):
            self.ready[service] += count
            self.connections[service] += connections
        provider = ready.path.provider_name or ready.site_name
        self.by_provider[provider] += count
        self.by_pool[provider, ready.pool] += count
        self.connections_by_provider[provider] += connections
        self.connections_by_pool[provider, ready.pool] += connections


async def _queues(node: Node, queues: Queues) -> list[Family]:
    scheduled = list(queues.scheduled.values())
    queued = _Queued()
    for number, queue in enumerate(scheduled):
        queued.add_scheduled(queue)
        if number % _SLICE == _SLICE - 1:
            await trio.lowlevel.checkpoint()
    for number, ready in enumerate(list(queues.ready.values())):
        queued.add_ready(ready)
        if number % _SLICE == _SLICE - 1:
            await trio.lowlevel.checkpoint()
    for listener in node.smtp_listeners:
        if listener.endpoint is not None:
            queued.connections["esmtp_listener"] += len(listener.endpoint.sessions)
    counts = (((queue.name,), queue.delayed) for queue in scheduled)
    tenant, pool = ("tenant", "campaign"), ("provider", "pool")
    waiting, open_ = "Messages in scheduled queues", "Connections that are open"
    both = "Messages in scheduled and ready queues"
    return [
        _gauge("scheduled_queue_count", "Scheduled queues that are known", len(scheduled)),
        _gauge("scheduled_count_total", waiting, queued.total),
        Family("scheduled_count", "gauge", waiting, ("queue",), counts),
        _labelled("scheduled_by_domain", waiting, ("domain",), queued.by_domain),
        _labelled("scheduled_by_tenant", waiting, ("tenant",), queued.by_tenant),
        _labelled("scheduled_by_tenant_campaign", waiting, tenant, queued.by_campaign),
        _by_service("ready_count", "gauge", "Messages in ready queues", queued.ready),
        _labelled("queued_count_by_provider", both, ("provider",), queued.by_provider),
        _labelled("queued_count_by_provider_and_pool", both, pool, queued.by_pool),
        _by_service("connection_count", "gauge", open_, queued.connections),
        _labelled("connection_count_by_provider", open_, ("provider",), queued.connections_by_provider),
        _labelled("connection_count_by_provider_and_pool", open_, pool, queued.connections_by_pool),
        *_sources(queues.source_health),
    ]


def _sources(health: SourceHealth) -> Iterator[Family]:
    suspended, begun = "1 while a source is suspended", "How often a source was suspended"
    failed = "Failures to connect that say that a source cannot be used"
    reason = ("source", "reason")
    yield Family("egress_source_health_suspended", "gauge", suspended, reason, [*health.resting.items()])
    yield Family(
        "egress_source_health_suspensions_total", "counter", begun, reason, [*health.suspensions.items()]
    )
    yield Family(
        "egress_source_connection_failures_total",
        "counter",
        failed,
        ("source", "kind"),
        [*health.failures.items()],
    )


def _labelled(
    name: str, help_: str, labels: tuple[str, ...], counts: Counter[str] | Counter[tuple[str, str]]
) -> Family:
    samples = ((key if isinstance(key, tuple) else (key,), count) for key, count in counts.items())
    return Family(name, "gauge", help_, labels, samples)
