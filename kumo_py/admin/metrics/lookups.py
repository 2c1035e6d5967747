"""What the node asks of others: DNS and Redis; and the signatures that it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.admin.metrics.metric import counter, gauge, seconds
from kumo_py.core.histogram import together
from kumo_py.policy.modules.dkim import SignerCaches
from kumo_py.policy.modules.redis import RedisClients

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.admin.exposition import Family
    from kumo_py.admin.node import Node
    from kumo_py.core.histogram import Histogram

MX_RUNNING = gauge("dns_mx_resolve_in_progress", "Lookups of a domain's mail hosts that are under way")
MX_OK = counter("dns_mx_resolve_status_ok", "Lookups of mail hosts that found some")
MX_FAILED = counter("dns_mx_resolve_status_fail", "Lookups of mail hosts that failed")
MX_HIT = counter("dns_mx_resolve_cache_hit", "Lookups of mail hosts that the cache answered")
MX_MISS = counter("dns_mx_resolve_cache_miss", "Lookups of mail hosts that the cache did not answer")
MX_EXCLUDED = counter(
    "dns_mx_resolve_mta_sts_impossible",
    "Lookups that failed because an MTA-STS policy permits none of the hosts",
)
REDIS = seconds(
    "redis_operation_latency", "Seconds that operations of Redis took", "service", "operation", "status"
)
KEY_FETCH = seconds("dkim_signer_key_fetch", "Seconds to load a private key")
CREATION = seconds("dkim_signer_creation", "Seconds to make a signer")
PARSE = seconds("dkim_signer_message_parse", "Seconds to find what is to be signed; of messages up to 64 KiB")
SIGN = seconds("dkim_signer_sign", "Seconds to make a signature, with all that belongs to it")

METRICS = (
    MX_RUNNING,
    MX_OK,
    MX_FAILED,
    MX_HIT,
    MX_MISS,
    MX_EXCLUDED,
    REDIS,
    KEY_FETCH,
    CREATION,
    PARSE,
    SIGN,
)


def collect(node: Node) -> Iterator[Family]:
    resolvers = list(node.resolvers.all())
    hits = sum(resolver.mx_cache_hits for resolver in resolvers)
    yield MX_RUNNING.value(sum(resolver.mx_in_progress for resolver in resolvers))
    yield MX_OK.value(hits + sum(resolver.mx_found for resolver in resolvers))
    yield MX_FAILED.value(sum(resolver.mx_failures for resolver in resolvers))
    yield MX_HIT.value(hits)
    yield MX_MISS.value(sum(resolver.mx_cache_misses for resolver in resolvers))
    yield MX_EXCLUDED.value(sum(resolver.mta_sts_exclusions for resolver in resolvers))
    yield REDIS.each({labels: together(times) for labels, times in _redis(node).items()})
    dkim = node.policy.env.state(SignerCaches)
    yield KEY_FETCH.value(dkim.key_fetch_time)
    yield CREATION.value(dkim.creation_time)
    yield PARSE.value(dkim.parse_time)
    yield SIGN.value(dkim.sign_time)


def _redis(node: Node) -> dict[tuple[str, ...], list[Histogram]]:
    """Several clients may have the same servers."""
    clients = list(node.policy.env.state(RedisClients).by_options.values())
    if node.redis is not None:
        clients.append(node.redis)
    found: dict[tuple[str, ...], list[Histogram]] = {}
    for client in clients:
        for (operation, status), times in client.times.items():
            found.setdefault((client.label, operation, status), []).append(times)
    return found
