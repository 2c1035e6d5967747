"""Rebinding: an operator has messages that wait decide anew in which scheduled queue they are (KumoMTA `rebind`).

Their metadata is changed, by the request's data or by the policy's `rebind_message` event, and their queue's name is
computed from it again. A message that changes its queue is due at once, has an AdminRebind record, and no attempt is
counted; one that stays keeps its time, unless the request says `always_flush`. Whatever fails, the message stays.
One that an operator holds changes its queue and stays held.
Messages in ready queues and dispatchers go on as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.core.policy import PolicyError, Rejection, no_handler
from kumo_py.logs import LogContext, RecordType
from kumo_py.proto.reply import Response
from kumo_py.queue.census import waiting
from kumo_py.queue.context import InsertReason
from kumo_py.queue.memory import shrink, waiting_reduction
from kumo_py.queue.scheduled import ScheduledQueue
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.queue.admin import RebindRequest
    from kumo_py.queue.hold import Held
    from kumo_py.queue.queues import Queues

log = structlog.get_logger("kumo_py.queue.rebind")

_SLICE = 64
"""Messages handled in one go before other tasks get a turn."""


async def rebind(queues: Queues, request: RebindRequest) -> int:
    """Rebind what waits in the queues that the request names; how many messages have changed their queue.

    Raises PolicyError if it asks for an event that has no handler.
    """
    if request.trigger_rebind_event and not queues.policy.handles("rebind_message"):
        raise PolicyError(no_handler("rebind_message"))
    criteria = request.criteria
    matches: dict[ScheduledQueue, bool] = {}
    moved = 0
    for count, msg in enumerate(waiting(queues), 1):
        if queues.stopping:
            break
        queue = msg.queue
        if isinstance(queue, ScheduledQueue) and queue.name:
            if queue not in matches:
                matches[queue] = criteria.match(queue.name, queue.components)
            if matches[queue]:
                held = queues.held.get(msg)
                queues.out_of_wheel(msg, queue)
                moved += await _rebind(queues, msg, queue, request, held)
        if count % _SLICE == 0:
            await trio.lowlevel.checkpoint()
    return moved


async def _rebind(
    queues: Queues, msg: Message, queue: ScheduledQueue, request: RebindRequest, held: Held | None
) -> bool:
    """Whether the message has changed its queue."""
    try:
        await _change(queues, msg, request)
        name = msg.queue_name
    except (KeyError, SpoolError) as err:
        await queues.unreadable(msg, err, LogContext())
        return False
    except ValueError as err:
        log.error("a rebound message has no queue and stays", id=msg.id.hex(), error=str(err))
        name = queue.name
    target = queue
    if name != queue.name:
        try:
            target = await queues.resolve(name)
        except (PolicyError, Rejection) as err:
            log.error("a message stays: its new queue cannot be set up", id=msg.id.hex(), error=str(err))
    saved = await queues.save(msg)
    if target is queue and held is None and not request.always_flush:
        if saved:
            shrink(msg, waiting_reduction(queue.config, msg.due - queues.wall()))
        queues.into_wheel(msg, queue, msg.due)
        return False
    if target is not queue and not request.suppress_logging:
        response = Response(250, None, f"Rebound from {queue.name} to {name}: {request.reason}")
        await queues.log.record(RecordType.AdminRebind, msg, response, LogContext())
    if held is not None:
        if saved:
            shrink(msg, waiting_reduction(target.config, msg.due - queues.wall()))
        queues.holding.keep(msg, target, held)
    elif await queues.reschedule(msg, target, count_attempt=False, delay=0.0):
        await queues.insert_or_wait(msg, target, (InsertReason.ADMIN_REBIND,))
    return target is not queue


async def _change(queues: Queues, msg: Message, request: RebindRequest) -> None:
    """Raises KeyError, SpoolError or ValueError if the message cannot be read."""
    await queues.spool.load_meta(msg)
    if not request.trigger_rebind_event:
        for key, value in request.data.items():
            msg.set_meta(key, value)
        return
    try:
        await queues.policy.ask("rebind_message", msg, dict(request.data))
    except (PolicyError, Rejection) as err:
        log.error("rebind_message failed", id=msg.id.hex(), error=str(err))
    await queues.spool.load_meta(msg)  # the handler may have shrunk it
