"""What an operator does to what a node holds: rebind messages, end a session, compact a spool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import structlog

from kumo_py.admin.endpoint import endpoint, json_of
from kumo_py.admin.exchange import Refusal, json_response, text_response
from kumo_py.core.policy import no_handler
from kumo_py.core.suggest import nearest
from kumo_py.queue.admin import RebindRequest
from kumo_py.queue.rebind import rebind as rebind_messages
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from kumo_py.admin.call import Call
    from kumo_py.admin.exchange import Response
    from kumo_py.queue.queues import Queues

log = structlog.get_logger("kumo_py.admin")


class AbortRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dispatcher, as inspect-ready-q shows it."""

    queue_name: str
    session_id: UUID


class CompactRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A spool by its name."""

    name: str


@endpoint(
    takes=RebindRequest,
    example={"reason": "moved", "data": {"tenant": "acme"}},
    gives=json_of(dict[str, Any]),
)
async def rebind(call: Call) -> Response:
    """POST /api/admin/rebind/v1: put messages that wait into other queues. It goes on after the response."""
    request = await call.json(RebindRequest)
    queues = call.node.queues
    if request.trigger_rebind_event and not call.node.policy.handles("rebind_message"):
        raise Refusal(422, f"Error: {no_handler('rebind_message')}")
    if queues.running:
        queues.spawn(_rebind, queues, request)
    return json_response({})


async def _rebind(queues: Queues, request: RebindRequest) -> None:
    try:
        moved = await rebind_messages(queues, request)
    except Exception:
        # The node must not end by it; the messages are where they were, or where they belong.
        log.exception("a rebind has failed", reason=request.reason)
    else:
        log.info("a rebind is over", reason=request.reason, moved=moved)


@endpoint(takes=AbortRequest, fails={404: "There is no such session."})
async def abort_dispatcher(call: Call) -> Response:
    """POST /api/admin/abort-ready-q-conn/v1: end a session. What it has in hand is tried again."""
    request = await call.json(AbortRequest)
    ready = call.node.queues.ready.get(request.queue_name)
    if ready is None or not ready.abort_dispatcher(str(request.session_id)):
        text = f"no matching dispatcher for queue={request.queue_name} session={request.session_id}"
        raise Refusal(404, text)
    return text_response(f"aborted {request.session_id}")


@endpoint(takes=CompactRequest, fails={500: "There is no such spool, or the disk fails."})
async def compact_spool(call: Call) -> Response:
    """POST /api/admin/spool-compact/v1: drop what a spool holds of messages that are gone. Answered when it is done."""
    request = await call.json(CompactRequest)
    spools = call.node.spools
    spool = spools.get(request.name)
    if spool is None:
        near = nearest(request.name, spools)
        hint = f" (did you mean '{near}'?)" if near else ""
        raise Refusal(500, f"Error: no spool named '{request.name}' has been defined{hint}")
    try:
        await spool.compact()
    except SpoolError as err:
        raise Refusal(500, f"Error: {err}") from None
    return text_response("")
