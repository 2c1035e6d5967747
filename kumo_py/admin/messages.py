"""Messages one by one: listed, flushed, held, released, deleted. These are kumo-py's own, for the habits of Postfix.

What is done to many messages takes its time, and goes on whether or not anybody waits for it. So a request is answered
after a second at the latest, with how far it is; who asks `/api/kumo-py/operations/v1` by the id that was in the answer
learns the rest.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
import trio

from kumo_py.admin import parameters
from kumo_py.admin.endpoint import Parameter, endpoint, json_of
from kumo_py.admin.exchange import JSON, Refusal, Response, json_response
from kumo_py.core.options import OptionError, convert
from kumo_py.core.spool_id import parse_hex
from kumo_py.logs.json_text import to_json
from kumo_py.queue.admin import Timestamp
from kumo_py.queue.operations import Delete, Flush, Hold, Release
from kumo_py.queue.roster import Roster
from kumo_py.queue.selection import CRITERIA, Selection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from kumo_py.admin.call import Call
    from kumo_py.queue.operations import Operation

PATIENCE = 1.0
"""Seconds for which a request waits for the end of what it asks for."""
PAGE = 100
LONGEST_PAGE = 1000
"""Messages."""
KEPT = 100
"""Operations that are remembered."""


# -- listing -----------------------------------------------------------------------------------------------------
class HeldSince(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator holds it."""

    reason: str
    since: Timestamp


class Failure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What went wrong last with a message of the same scheduled queue."""

    when: Timestamp
    text: str


class QueuedMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message that is not delivered yet."""

    id: str
    queue: str | None
    """Its scheduled queue; null if its metadata names none."""
    sender: str
    """Empty for the null sender."""
    recipients: list[str]
    size: int | None
    """Octets of its content; null if only the spool could tell."""
    arrived: Timestamp
    due: Timestamp | None
    """When it is tried next; null if that is now, or if it is held."""
    attempts: int
    held: HeldSince | None
    where: Literal["scheduled", "ready", "delivering"]
    """Whether it waits for its time, for a connection, or is in hand."""
    last_error: Failure | None


class MessagePage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Messages in the order in which they came in."""

    messages: list[QueuedMessage]
    next: str | None
    """What `after` is to be for the next page; null at the end. A page may be short, and not the last."""


_SELECTION = (
    Parameter("queue", "A scheduled queue, by its exact name."),
    Parameter("domain", "Of the scheduled queue."),
    Parameter("tenant", "Of the scheduled queue."),
    Parameter("campaign", "Of the scheduled queue."),
    Parameter("routing_domain", "Of the scheduled queue."),
    Parameter("sender", "An address, `@` and a domain, or nothing for the null sender."),
    Parameter("recipient", "An address, or `@` and a domain; one of several is enough."),
    Parameter("older_than", "For how long it has been here at least.", example="1h"),
    Parameter("held", "Whether an operator holds it.", "boolean"),
    Parameter("id", "A message."),
)


@endpoint(
    query=(
        *_SELECTION,
        Parameter("limit", f"Messages at most; {PAGE} unless given, and at most {LONGEST_PAGE}.", "integer"),
        Parameter("after", "The id of the last message of the page before."),
        Parameter(
            "stream",
            "All at once: a line of JSON for each message, in no order; `limit` may be any.",
            "boolean",
        ),
    ),
    gives=json_of(MessagePage, also="application/jsonl"),
)
async def messages(call: Call) -> Response:
    """GET /api/kumo-py/messages/v1: the messages that are not delivered yet, page by page or as a stream.

    Who goes from page to page misses no message that stays, and sees none twice.
    """
    query = call.query
    roster = Roster(call.node.queues, _selection(query))
    limit = parameters.count(query, "limit")
    if parameters.flag(query, "stream"):
        if "after" in query:
            raise Refusal(400, "'after' is for pages: a stream has all messages")
        return Response(_lines(roster, limit), content_type=b"application/jsonl")
    if limit is not None and not 1 <= limit <= LONGEST_PAGE:
        raise Refusal(
            400,
            f"the parameter 'limit' must be 1 to {LONGEST_PAGE}, not {limit}; with stream=true it may be any",
        )
    try:
        after = parse_hex(query["after"]) if "after" in query else None
    except ValueError as err:
        raise Refusal(400, f"the parameter 'after': {err}") from None
    rows, last = await roster.page(limit or PAGE, after)
    return Response(_page(rows, last), content_type=JSON)


def _selection(query: Mapping[str, str]) -> Selection:
    options: dict[str, object] = {name: query[name] for name in CRITERIA if name in query}
    if "queue" in query:
        options["queue_names"] = [query["queue"]]
    if "id" in query:
        options["ids"] = [query["id"]]
    if "held" in query:
        options["held"] = parameters.flag(query, "held")
    try:
        return convert(options, Selection, "the query")
    except OptionError as err:
        raise Refusal(400, str(err)) from None


async def _lines(roster: Roster, limit: int | None) -> AsyncGenerator[bytes, None]:
    rows = roster.all(limit)
    try:
        async for row in rows:
            yield to_json(row) + b"\n"
    finally:
        await rows.aclose()


async def _page(rows: list[dict[str, object]], last: bytes | None) -> AsyncGenerator[bytes, None]:
    yield b'{"messages":['
    for number, row in enumerate(rows):
        yield (b"," if number else b"") + to_json(row)
    yield b'],"next":%b}' % to_json(last and last.hex())


# -- operations --------------------------------------------------------------------------------------------------
class FlushRequest(Selection, frozen=True, kw_only=True):
    """Which messages are to be tried now."""

    everything: bool = False
    """All messages; nothing else may be said then."""
    force: bool = False
    """Also before the time that a message's own schedule allows."""


class ReleaseRequest(Selection, frozen=True, kw_only=True):
    """Which messages are to be held no more."""

    everything: bool = False
    """All messages that are held."""


class HoldRequest(Selection, frozen=True, kw_only=True):
    """Which messages are to be held."""

    everything: bool = False
    """All messages that there are now."""
    reason: str = "held by an operator"


class DeleteRequest(Selection, frozen=True, kw_only=True):
    """Which messages are to be deleted."""

    everything: bool = False
    """All messages that there are now."""
    reason: str = "deleted by an operator"
    """Goes into their AdminBounce records."""
    suppress_logging: bool = False
    """Write no records."""


class OperationState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far an operation is. All numbers are of messages."""

    id: str
    """To ask again by."""
    done: bool
    error: str | None
    """Why it ended early; null if it didn't."""
    total: int
    """To be looked at."""
    examined: int
    """Looked at so far."""
    matched: int
    """That are meant, so far."""
    changed: int
    """With which it is done."""
    in_flight: int
    """That are being tried just now: it is done when they come back, if they do."""
    unchanged: int
    """That were as wanted already."""
    held: int
    """Not flushed, because an operator holds them."""
    suspended: int
    """Not flushed, because their queue is suspended."""
    scheduled: int
    """Not flushed yet, because they may not be sent before a time of their own."""
    failed: int
    """That could not be read; the diagnostic log says why."""
    not_found: list[str] | None
    """Ids of which there is no message; null before the end."""


_STATE = json_of(OperationState)


@endpoint(takes=FlushRequest, example={"domain": "b.example"}, gives=_STATE)
async def flush(call: Call) -> Response:
    """POST /api/kumo-py/flush/v1: try messages that wait now.

    They keep their attempts, and expire when they would have. Those that are held or suspended stay as they are.
    """
    request = _checked(await call.json(FlushRequest))
    return await _start(call, Flush(call.node.queues, request, force=request.force))


@endpoint(takes=HoldRequest, example={"tenant": "acme", "reason": "under review"}, gives=_STATE)
async def hold(call: Call) -> Response:
    """POST /api/kumo-py/hold/v1: keep messages where they are until they are released; also over a restart.

    They are neither tried nor do they expire. What is being tried just now is held when it comes back.
    """
    request = _checked(await call.json(HoldRequest))
    return await _start(call, Hold(call.node.queues, request, request.reason))


@endpoint(takes=ReleaseRequest, example={"everything": True}, gives=_STATE)
async def release(call: Call) -> Response:
    """POST /api/kumo-py/release/v1: let held messages go on, at once or when their own schedule allows it."""
    return await _start(call, Release(call.node.queues, _checked(await call.json(ReleaseRequest))))


@endpoint(takes=DeleteRequest, example={"ids": ["76912000c73211f08000000000000001"]}, gives=_STATE)
async def delete(call: Call) -> Response:
    """POST /api/kumo-py/delete/v1: remove messages, with an AdminBounce record each.

    There is no way back. What is being tried just now is deleted when it comes back.
    """
    request = _checked(await call.json(DeleteRequest))
    operation = Delete(call.node.queues, request, request.reason, suppress_logging=request.suppress_logging)
    return await _start(call, operation)


@endpoint(
    query=(Parameter("id", "Of the operation.", required=True),),
    gives=_STATE,
    fails={404: "There is no such operation: it is forgotten, or the node was restarted."},
)
async def operation(call: Call) -> Response:
    """GET /api/kumo-py/operations/v1: how far an operation is. It is answered when it is over, or after a second."""
    id = parameters.text(call.query, "id")
    found = call.shared.operations.get(id)
    if found is None:
        raise Refusal(404, f"there is no operation {id}")
    return await _state(id, found)


R = TypeVar("R", FlushRequest, HoldRequest, ReleaseRequest, DeleteRequest)


def _checked(request: R) -> R:
    if request.everything is not request.is_everything:
        names = ", ".join(("ids", *CRITERIA))
        problem = (
            f"say which messages: {names}, or everything"
            if request.is_everything
            else f"'everything' excludes {names}"
        )
        raise Refusal(422, problem)
    return request


async def _start(call: Call, operation: Operation) -> Response:
    queues = call.node.queues
    if not queues.running:
        raise Refusal(503, "the node is not running")
    known = call.shared.operations
    if len(known) >= KEPT:
        over = next((id for id, one in known.items() if one.over.is_set()), None)
        if over is None:
            raise Refusal(503, f"{KEPT} operations are under way already")
        del known[over]
    id = str(uuid.uuid4())
    known[id] = operation
    queues.spawn(operation.run)
    return await _state(id, operation)


async def _state(id: str, operation: Operation) -> Response:
    with trio.move_on_after(PATIENCE):
        await operation.over.wait()
    done = operation.over.is_set()
    progress = operation.progress
    numbers = {name: getattr(progress, name) for name in progress.__slots__}
    not_found = sorted(id.hex() for id in operation.missing) if done else None
    return json_response(
        {"id": id, "done": done, "error": operation.error, **numbers, "not_found": not_found}
    )
