"""Caches: the node's own, memoized functions, and those of DKIM, which KumoMTA counts twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from kumo_py.admin.metrics.metric import counter, gauge
from kumo_py.policy.modules.dkim import SignerCaches
from kumo_py.policy.modules.fs import GlobCache
from kumo_py.policy.modules.memoize import MemoCaches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kumo_py.admin.exposition import Family
    from kumo_py.admin.metrics.metric import Metric
    from kumo_py.admin.node import Node
    from kumo_py.core.lruttl import LruTtl
    from kumo_py.policy.modules.memoize import MemoCache

    _Number: TypeAlias = Callable[[LruTtl[Any, Any]], int]

_LRUTTL: tuple[tuple[Metric, _Number], ...] = (
    (counter("lruttl_lookup_count", "Lookups in a cache", "cache_name"), lambda it: it.hits + it.misses),
    (counter("lruttl_hit_count", "Lookups that a cache could answer", "cache_name"), lambda it: it.hits),
    (
        counter("lruttl_miss_count", "Lookups that a cache could not answer", "cache_name"),
        lambda it: it.misses,
    ),
    (counter("lruttl_insert_count", "Entries put into a cache", "cache_name"), lambda it: it.inserted),
    (
        counter("lruttl_populated_count", "Entries made because a lookup found none", "cache_name"),
        lambda it: it.inserted,
    ),
    (
        counter("lruttl_evict_count", "Entries that a cache had no room for", "cache_name"),
        lambda it: it.evicted,
    ),
    (counter("lruttl_expire_count", "Entries found to be too old", "cache_name"), lambda it: it.expired),
    (gauge("lruttl_cache_size", "Entries in a cache", "cache_name"), len),
)
_MEMO: tuple[tuple[Metric, Callable[[MemoCache], int]], ...] = (
    (
        counter("lruttl_error_count", "Entries that could not be made; of memoized functions", "cache_name"),
        lambda it: it.errors,
    ),
    (
        counter("lruttl_stale_count", "Old entries that were given; of memoized functions", "cache_name"),
        lambda it: it.stale_reads,
    ),
    (
        gauge(
            "lruttl_waiting_populate", "Events that wait for an entry; of memoized functions", "cache_name"
        ),
        lambda it: it.waiting,
    ),
    (
        counter("memoize_cache_lookup_count", "Calls of a memoized function", "cache_name"),
        lambda it: it.results.hits + it.results.misses,
    ),
    (
        counter("memoize_cache_hit_count", "Calls with a known result", "cache_name"),
        lambda it: it.results.hits,
    ),
    (
        counter("memoize_cache_miss_count", "Calls without a known result", "cache_name"),
        lambda it: it.results.misses,
    ),
    (
        counter("memoize_cache_populated_count", "Results computed", "cache_name"),
        lambda it: it.results.inserted,
    ),
)
_DKIM: tuple[tuple[Metric, Metric, Metric], ...] = tuple(
    (
        counter(f"dkim_signer_{what}cache_lookup_count", f"Lookups of {plural}, as lruttl_lookup_count"),
        counter(
            f"dkim_signer_{what}cache_hit", f"{plural.capitalize()} that were found, as lruttl_hit_count"
        ),
        counter(
            f"dkim_signer_{what}cache_miss", f"{plural.capitalize()} that were not, as lruttl_miss_count"
        ),
    )
    for what, plural in (("", "signers"), ("key_", "private keys"))
)

METRICS = (
    *(metric for metric, _ in _LRUTTL),
    *(metric for metric, _ in _MEMO),
    *(metric for three in _DKIM for metric in three),
)


def every_cache(node: Node) -> list[LruTtl[Any, Any]]:
    """Several may have the same name."""
    state = node.policy.env.state
    dkim = state(SignerCaches)
    found: list[LruTtl[Any, Any]] = [*node.capacities.caches, *node.resolvers.caches]
    found += [cache.results for cache in state(MemoCaches).by_name.values()]
    found += [dkim.signers, dkim.keys, state(GlobCache)]
    return found


def collect(node: Node) -> Iterator[Family]:
    state = node.policy.env.state
    memoized, dkim = state(MemoCaches).by_name, state(SignerCaches)
    # Two caches of one name would be two samples of one name: what is asked for is their sum.
    by_name: dict[str, list[LruTtl[Any, Any]]] = {}
    for cache in every_cache(node):
        by_name.setdefault(cache.name, []).append(cache)
    for metric, number in _LRUTTL:
        yield metric.each({name: sum(map(number, several)) for name, several in by_name.items()})
    for memo, count in _MEMO:
        yield memo.each({name: count(cache) for name, cache in memoized.items()})
    signers_and_keys: tuple[LruTtl[Any, Any], ...] = (dkim.signers, dkim.keys)
    for (lookups, hits, misses), kept in zip(_DKIM, signers_and_keys, strict=True):
        yield lookups.value(kept.hits + kept.misses)
        yield hits.value(kept.hits)
        yield misses.value(kept.misses)
