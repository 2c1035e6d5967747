"""A node at a glance: what the console and `kumo-py top` draw. An endpoint of kumo-py's own."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from heapq import nsmallest
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import trio

from kumo_py.admin.endpoint import Parameter, endpoint, json_of
from kumo_py.admin.exchange import Refusal, json_response
from kumo_py.admin.policy_status import describe_policy
from kumo_py.admin.survey import Order, View
from kumo_py.core.suggest import any_of, nearest
from kumo_py.logs import RecordType
from kumo_py.queue.admin import BounceRule, ReadySuspension

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kumo_py.admin.call import Call
    from kumo_py.admin.exchange import Response
    from kumo_py.admin.node import Node
    from kumo_py.admin.shared import Shared
    from kumo_py.admin.survey import Found
    from kumo_py.logs import LastError
    from kumo_py.queue.admin import AdminRules, Rule
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.queue.scheduled import ScheduledQueue

T = TypeVar("T")

MOST_SHOWN = 1000
_SLICE = 64
_LONGEST_MATCH = 256
_MOST_RULES = 200
_MOST_NAMES = 10
_DELIVERED = (RecordType.Delivery, RecordType.XferOut)
_FAILED = (RecordType.Bounce, RecordType.Expiration, RecordType.AdminBounce)


@endpoint(
    query=(
        Parameter("limit", "Queues of each kind at most; 50 unless given.", "integer"),
        Parameter("order", "Which come first: `size`, `age` or `errors`."),
        Parameter("match", "What queues must have in their names."),
    ),
    gives=json_of(dict[str, Any]),
)
async def overview(call: Call) -> Response:
    """GET /api/kumo-py/overview/v1?limit=50&order=size|age|errors&match=PART: a node at a glance.

    The queues that come first in the order, of those that have `match` in their names; sums over all. Deliveries and
    failures are counted by recipient, as in the metrics. Times are RFC 3339, ages seconds, sizes bytes.
    """
    view = _view(call.query)
    node = call.node
    found = await call.shared.survey.look(node.queues, view)
    now = node.wall()
    oldest = call.shared.survey.oldest
    return json_response(
        {
            "now": _rfc3339(now),
            "console": call.params.console,
            "node": {
                "hostname": node.hostname,
                "node_id": node.nodeid,
                "version": _version(),
                "started": _rfc3339(node.started),
                "uptime": now - node.started,
            },
            "policy": describe_policy(node),
            "totals": _totals(node, call.shared, found),
            "scheduled_queues": {
                "count": found.scheduled_count,
                "shown": await _each(
                    found.scheduled, lambda one: _scheduled(node, one, now, oldest.get(one))
                ),
            },
            "ready_queues": {
                "count": found.ready_count,
                "shown": await _each(found.ready, lambda one: _ready(node, one)),
            },
            "tenants": [{"tenant": tenant, "messages": count} for tenant, count in found.tenants],
            "sites": [{"site": name} | asdict(site) for name, site in found.sites],
            "rules": _rules(node.admin),
        }
    )


async def _each(several: Iterable[T], show: Callable[[T], dict[str, Any]]) -> list[dict[str, Any]]:
    """In slices."""
    shown = []
    for number, one in enumerate(several, 1):
        shown.append(show(one))
        if number % _SLICE == 0:
            await trio.lowlevel.checkpoint()
    return shown


def _rfc3339(seconds: float) -> str:
    """Of Unix time, in milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _view(query: Mapping[str, str]) -> View:
    """Raises Refusal."""
    for name in query:
        if name not in View._fields:
            close = nearest(name, View._fields)
            hint = f"did you mean {close}?" if close else f"there are {any_of(list(View._fields))}"
            raise Refusal(400, f"there is no parameter {name}: {hint}")
    limit = query.get("limit", "50")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= MOST_SHOWN):
        raise Refusal(400, f"limit: '{limit}' is no number from 1 to {MOST_SHOWN}")
    orders = {name: name for name in get_args(Order)}
    order = orders.get(query.get("order", "size"))
    if order is None:
        raise Refusal(400, f"order: '{query['order']}' is not {any_of(list(orders))}")
    match = query.get("match", "")
    if len(match) > _LONGEST_MATCH:
        raise Refusal(400, f"match: more than {_LONGEST_MATCH} characters")
    return View(int(limit), order, match)


@cache
def _version() -> str:
    return version("kumo-py")


def _totals(node: Node, shared: Shared, found: Found) -> dict[str, object]:
    """Since the start, but for what is there now."""
    endpoints = [listener.endpoint for listener in node.smtp_listeners if listener.endpoint is not None]
    outcomes = node.log.outcomes
    return {
        "received": sum(endpoint.counters.receptions for endpoint in endpoints) + shared.injected,
        "delivered": sum(outcomes[kind] for kind in _DELIVERED),
        "failed": sum(outcomes[kind] for kind in _FAILED),
        "transfailed": outcomes[RecordType.TransientFailure],
        "scheduled": found.scheduled_messages,
        "held": len(node.queues.held),
        "ready": found.ready_messages,
        "connections_in": sum(len(endpoint.sessions) for endpoint in endpoints),
        "connections_out": found.connections,
        "memory_usage": node.memory.usage,
        "memory_limit": node.memory.soft_limit,
        "cpu_seconds": time.process_time(),
    }


def _scheduled(node: Node, queue: ScheduledQueue, now: float, since: float | None) -> dict[str, Any]:
    parts = queue.components
    rule = node.admin.suspension_of(queue.name, parts)
    return {
        "name": queue.name,
        "campaign": parts.campaign,
        "tenant": parts.tenant,
        "domain": parts.domain,
        "routing_domain": parts.routing_domain,
        "messages": queue.delayed,
        "held": queue.held,
        "oldest": None if since is None or not queue.delayed else max(0.0, now - since),
        "last_error": _error(queue.last_error),
        "suspended": None if rule is None else rule.reason,
        "suspension_id": None if rule is None else rule.id,
    }


def _ready(node: Node, ready: ReadyQueue) -> dict[str, Any]:
    counts = ready.counts
    return {
        "name": ready.name,
        "site": ready.site_name,
        "source": ready.source.name,
        "provider": ready.path.provider_name,
        "protocol": ready.protocol.name,
        "messages": len(ready.messages),
        "connections": ready.connections,
        "connection_limit": ready.path.connection_limit.limit,
        "delivered": counts.delivered,
        "failed": counts.failed,
        "transfailed": counts.transfailed,
        "last_error": _error(counts.last_error),
        "suspended": _why_suspended(node, ready),
        "suspension_id": node.admin.ready[ready.name].id if node.admin.ready_suspended(ready.name) else None,
    }


def _why_suspended(node: Node, ready: ReadyQueue) -> str | None:
    queues = node.queues
    if node.admin.ready_suspended(ready.name):
        return node.admin.ready[ready.name].reason
    if queues.spool.unhealthy and queues.suspend_when_spool_unhealthy:
        return "the spool is unhealthy"
    if queues.source_health.rests_for(ready.source.name) > 0.0:
        return f"source {ready.source.name} cannot be used just now"
    return None


def _rules(rules: AdminRules) -> dict[str, Any]:
    """What operators have put in the way, with the seconds left; what ends first comes first."""
    now = trio.current_time()
    found: list[tuple[str, Rule | ReadySuspension]] = [
        *(("suspend", rule) for rule in rules.suspensions.alive(now)),
        *(("bounce", rule) for rule in rules.bounces.alive(now)),
        *(("suspend-ready-q", rule) for rule in rules.ready.values() if rule.expires > now),
    ]
    first = nsmallest(_MOST_RULES, found, key=lambda item: item[1].expires)
    return {"count": len(found), "shown": [_rule(kind, rule, now) for kind, rule in first]}


def _rule(kind: str, rule: Rule | ReadySuspension, now: float) -> dict[str, Any]:
    """`queue_names` are a few of the `queue_count` that a rule is about; `name` is a ready queue's."""
    shown: dict[str, Any] = {"kind": kind, "id": rule.id, "reason": rule.reason, "left": rule.expires - now}
    if isinstance(rule, ReadySuspension):
        return shown | {"name": rule.name}
    criteria = rule.criteria
    shown |= criteria.as_json() | {
        "name": None,
        "queue_names": sorted(islice(criteria.queue_names, _MOST_NAMES)),
        "queue_count": len(criteria.queue_names),
    }
    return shown | {"bounced": rule.bounced.total()} if isinstance(rule, BounceRule) else shown


def _error(error: LastError | None) -> dict[str, str] | None:
    return None if error is None else {"when": _rfc3339(error[0]), "text": error[1]}
