"""What is inside of a node, for who asks: messages, queues, dispatchers, paths (KumoMTA's `inspect-…` endpoints)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from kumo_py.admin import parameters
from kumo_py.admin.endpoint import Parameter, endpoint, json_of
from kumo_py.admin.exchange import JSON, Refusal, Response, json_response
from kumo_py.core.duration import format_duration
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.core.spool_id import parse_hex
from kumo_py.logs.json_text import to_json
from kumo_py.queue.admin import Timestamp
from kumo_py.queue.constraints import path_constraints
from kumo_py.queue.listing import inspect_message as find_message
from kumo_py.queue.listing import messages_of
from kumo_py.queue.resolution import resolve_path
from kumo_py.queue.running import watchdog_timeout
from kumo_py.queue.shown import shown_constraints, shown_mx, shown_path, shown_queue
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from kumo_py.admin.call import Call
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.queue.refusals import Refusal as ConnectionRefusal
    from kumo_py.queue.running import Running
    from kumo_py.queue.scheduled import ScheduledQueue

_LONGEST = 100 * 31_557_600.0
"""Seconds: what is shown where there is no limit, and a duration must be."""
_SLICE = 256
"""Queues looked at in one go before other tasks get a turn."""


# -- messages ------------------------------------------------------------------------------------------------
@endpoint(
    query=(
        Parameter("id", "Of the message.", required=True),
        Parameter("want_body", "Whether its content is wanted too.", "boolean"),
    ),
    gives=json_of(dict[str, Any]),
    fails={500: "There is no such message, or the spool cannot read it."},
)
async def inspect_message(call: Call) -> Response:
    """GET /api/admin/inspect-message/v1?id=ID&want_body=true: a message in the spool."""
    id = parameters.text(call.query, "id")
    want_body = parameters.flag(call.query, "want_body")
    try:
        known = parse_hex(id)
    except ValueError as err:
        raise Refusal(400, f"the parameter 'id': {err}") from None
    try:
        found = await find_message(call.node.queues, known, want_body=want_body)
    except KeyError:
        raise Refusal(500, f"Error: there is no message {known.hex()}") from None
    except (SpoolError, ValueError) as err:
        raise Refusal(500, f"Error: {err}") from None
    return Response(to_json({"id": known.hex(), "message": found}), content_type=JSON)


@endpoint(
    query=(
        Parameter("queue_name", "Of the scheduled queue.", required=True),
        Parameter("limit", "Messages at most; without it all.", "integer"),
        Parameter("want_body", "Whether their contents are wanted too.", "boolean"),
    ),
    gives=json_of(dict[str, Any]),
    fails={404: "There is no such queue."},
)
async def inspect_scheduled_queue(call: Call) -> Response:
    """GET /api/admin/inspect-sched-q/v1?queue_name=NAME&limit=5&want_body=true: a scheduled queue and its messages."""
    name = parameters.text(call.query, "queue_name")
    limit = parameters.count(call.query, "limit")
    want_body = parameters.flag(call.query, "want_body")
    found = call.node.queues.waiting_in(name)
    if not found:
        raise Refusal(404, f"Error: no such queue {name}")
    return Response(
        _scheduled_queue(call.node.queues, found[0], limit, want_body=want_body), content_type=JSON
    )


async def _scheduled_queue(
    queues: Queues, queue: ScheduledQueue, limit: int | None, *, want_body: bool
) -> AsyncGenerator[bytes, None]:
    """Piece by piece: all messages with their content may be much."""
    yield b'{"queue_name":%b,"messages":[' % to_json(queue.name)
    comma = b""
    messages = messages_of(queues, queue.name, limit, want_body=want_body)
    try:
        async for message in messages:
            yield comma + to_json(message)
            comma = b","
    finally:
        await messages.aclose()
    waiting = sum(one.delayed for one in queues.waiting_in(queue.name))
    now = queues.wall()
    rest = {
        "num_scheduled": waiting,
        "queue_config": shown_queue(queue.config),
        "delayed_metric": waiting,
        "now": _time(now),
        "last_changed": _time(now - (trio.current_time() - queue.last_change)),
    }
    yield b"]," + to_json(rest)[1:]


# -- ready queues --------------------------------------------------------------------------------------------
@endpoint(
    query=(Parameter("queues", "Their names, with commas between; all, if none is named."),),
    gives=json_of(dict[str, Any]),
)
async def ready_queue_states(call: Call) -> Response:
    """GET /api/admin/ready-q-states/v1?queues=NAME,NAME: why ready queues have no more connections."""
    wanted = f",{call.query['queues']}," if call.query.get("queues") else None
    states = {}
    for number, ready in enumerate(list(call.node.queues.ready.values()), 1):
        # A name may have commas of its own.
        if (wanted is None or f",{ready.name}," in wanted) and (refusals := ready.refusals):
            states[ready.name] = {state: _state(refusal) for state, refusal in refusals.items()}
        if number % _SLICE == 0:
            await trio.lowlevel.checkpoint()
    return json_response({"states_by_ready_queue": states})


@endpoint(
    query=(
        Parameter("queue_name", "Of the ready queue.", required=True),
        Parameter("include_scheduled_queues", "Whether those that lead to it are wanted too.", "boolean"),
    ),
    gives=json_of(dict[str, Any]),
    fails={404: "There is no such queue."},
)
async def inspect_ready_queue(call: Call) -> Response:
    """GET /api/admin/inspect-ready-q/v1?queue_name=NAME&include_scheduled_queues=true: a ready queue."""
    name = parameters.text(call.query, "queue_name")
    with_scheduled = parameters.flag(call.query, "include_scheduled_queues")
    queues = call.node.queues
    ready = queues.ready.get(name)
    if ready is None:
        raise Refusal(404, f"Error: no such ready queue {name}")
    scheduled = {}
    if with_scheduled:
        scheduled["scheduled_queue_names"] = await _feeding(queues, ready)
    now, wall = trio.current_time(), queues.wall()
    threshold = min(watchdog_timeout(ready.path, ready.protocol), _LONGEST)
    suspensions = (one for one in call.node.admin.list_ready_suspensions() if one["name"] == name)
    refusals = {state: _state(refusal) for state, refusal in ready.refusals.items()}
    found: dict[str, object] = {
        "queue_name": name,
        "mx": shown_mx(ready.mx),
        "egress_source": ready.source.name,
        "egress_pool": ready.pool,
        "protocol": ready.protocol.name.partition(":")[0],
        "state": {
            "ready_count": len(ready.messages),
            "connection_count": ready.connections,
            "connection_rate_throttled": refusals.get("connection_rate_throttled"),
            "connection_limited": refusals.get("connection_limited"),
            "suspended": next(suspensions, None),
            "watchdog_threshold": format_duration(threshold),
        },
        "path_config": shown_path(ready.path),
        "constraints": shown_constraints(path_constraints(ready.path)),
        **scheduled,
        "dispatchers": [_dispatcher(running, idle, now, wall) for running, idle in ready.dispatchers],
        "now": _time(wall),
    }
    return json_response(found)


async def _feeding(queues: Queues, ready: ReadyQueue) -> list[str]:
    """The scheduled queues that lead to a ready queue."""
    names = []
    for number, queue in enumerate(list(queues.scheduled.values()), 1):
        known = queue.ready_by_source.get(ready.source.name)
        if known is not None and known[1] is ready:
            names.append(queue.name)
        if number % _SLICE == 0:
            await trio.lowlevel.checkpoint()
    return sorted(names)


def _dispatcher(running: Running, idle_since: float | None, now: float, wall: float) -> dict[str, object]:
    """KumoMTA's DispatcherSummary; times are trio's, `wall` is what time it is."""
    phase, detail = running.phase, running.describe()
    since = now - running.stuck(now)
    if idle_since is not None and isinstance(phase, str):
        phase, detail, since = "Idle", None, idle_since
    counts = running.counts
    age = now - running.began
    total = counts.delivered + counts.transfailed + counts.failed
    return {
        "session_id": running.session_id,
        "started_at": _time(wall - age),
        "age": format_duration(round(age, 3)),
        "phase": phase,
        "detail": detail,
        "time_in_current_phase": format_duration(round(now - since, 3)),
        "messages_delivered": counts.delivered,
        "messages_transfailed": counts.transfailed,
        "messages_failed": counts.failed,
        "delivered_this_connection": 0,  # as in KumoMTA
        "overall_rate_per_sec": total / age if age > 0.0 else 0.0,
    }


def _state(refusal: ConnectionRefusal) -> dict[str, str]:
    return {"context": refusal.context, "since": _time(refusal.since)}


def _time(unix: float) -> str:
    return Timestamp(unix).to_option()


# -- paths ---------------------------------------------------------------------------------------------------
@endpoint(
    query=(
        Parameter("domain", "Where mail would go.", required=True, example="b.example"),
        Parameter("source", "The egress source that it would leave by."),
    ),
    gives=json_of(dict[str, Any]),
    fails={500: "The policy fails, or the domain cannot be resolved."},
)
async def resolve_egress_path(call: Call) -> Response:
    """GET /api/admin/resolve-egress-path/v1?domain=DOMAIN&source=NAME: what the policy says now of a way out."""
    domain = parameters.text(call.query, "domain")
    source = call.query.get("source", "unspecified")
    try:
        found = await resolve_path(call.node.policy, call.node.queues.resolver, domain, source)
    except (PolicyError, Rejection) as err:
        raise Refusal(500, f"Error: {err}") from None
    return json_response(
        {
            "domain": domain,
            "source": source,
            "mx": shown_mx(found.mx),
            "queue_name": found.ready_queue,
            "queue_config": shown_queue(found.queue_config),
            "path_config": shown_path(found.path),
            "constraints": shown_constraints(found.constraints),
        }
    )
