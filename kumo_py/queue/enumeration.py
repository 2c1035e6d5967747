"""Start-up: every message of the spool finds its queue again, while new mail is already accepted.

Attempt counts are not spooled. They are inferred from the age, and the next due time is creation plus the
delays of the attempts so far (KumoMTA's rule), so a restart neither floods nor forgets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.core.spool_id import created
from kumo_py.logs import LogContext, RecordType
from kumo_py.message.message import Message
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue import retry
from kumo_py.queue.context import InsertReason
from kumo_py.queue.hold import held_by
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from kumo_py.queue.queues import Queues

log = structlog.get_logger("kumo_py.queue.enumeration")

_SLICE = 64
"""Messages handled in one go; about a millisecond."""


async def enumerate_spool(queues: Queues, ids: list[bytes]) -> None:
    """Queue the messages that were in the spool when the node started."""
    started = trio.current_time()
    failed = 0
    for count, message_id in enumerate(ids, start=1):
        try:
            failed += not await _restore(queues, message_id)
        except Exception:
            # One message that nobody foresaw must not keep a node from starting; it stays in the spool.
            log.exception("spooled message could not be restored", id=message_id.hex())
            failed += 1
        if count % _SLICE == 0:
            await trio.lowlevel.checkpoint()
    took = trio.current_time() - started
    log.info(f"spool enumeration complete: {len(ids)} messages in {took:.1f}s, {failed} failed")


async def _restore(queues: Queues, message_id: bytes) -> bool:
    msg = Message.from_spool(message_id)
    try:
        await queues.spool.load_meta(msg)
        name = msg.queue_name
    except KeyError:
        return True  # delivered since the list was made
    except SpoolError as err:
        await queues.unreadable(msg, err, LogContext())
        return False
    except ValueError as err:
        log.error("spooled message is unusable", id=message_id.hex(), error=str(err))
        response = Response(551, EnhancedCode(5, 1, 3), f"Failed to compute queue name: {err}", None)
        msg.meta = {}
        await queues.log.record(RecordType.Bounce, msg, response, LogContext(site="localhost"))
        queues.forget(msg)
        return False
    held = held_by(msg.meta)
    try:
        if queues.policy.handles("spool_message_enumerated"):
            await queues.policy.ask("spool_message_enumerated", msg)
            name = msg.queue_name
        queue = await queues.resolve(name)
    except (PolicyError, Rejection) as err:
        log.error("spooled message waits for a working policy", id=message_id.hex(), error=str(err))
        if held is None:
            await queues.hold_back(msg, name)
            return False
        queue = queues.unconfigured(name)
    age = max(0.0, queues.wall() - created(msg.id))
    msg.attempts = retry.infer_attempts(queue.config, age)
    if held is not None:
        await queues.holding.hold_again(msg, held, queue)
        return True
    wait = retry.delay_at_start_up(queue.config, msg.attempts, age)
    queues.delay_by(msg, wait)
    if msg.schedule is not None and msg.schedule.expires is not None:
        reason = retry.past_expires(msg.schedule.expires, msg.due)
    else:
        due_age = age + wait
        reason = retry.past_max_age(queue.config, age) if due_age >= queue.config.max_age else None
    if reason is not None:
        await queues.expire(msg, queue, reason)
        return True
    if msg.meta_saved:
        msg.shrink_meta()  # promotion needs nothing of it in memory
    await queues.insert_or_wait(msg, queue, (InsertReason.ENUMERATED,))
    return True
