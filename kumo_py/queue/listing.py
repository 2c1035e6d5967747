"""Messages as an operator may look at them, one by its id or those of a scheduled queue, as KumoMTA's API shows them.

Looking changes nothing: what is not in memory is read from the spool into a copy. Nor does it hold the node up: a look
through all that waits goes in slices, and ends when it has what it was for.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from kumo_py.message.message import Message
from kumo_py.queue.admin import Timestamp
from kumo_py.queue.census import waiting
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from kumo_py.queue.queues import Queues
    from kumo_py.queue.scheduled import ScheduledQueue
    from kumo_py.spool.messages import MessageSpool

_SLICE = 512
"""Messages looked at before other tasks get a turn."""


async def inspect_message(queues: Queues, id: bytes, *, want_body: bool) -> dict[str, object]:
    """Envelope, metadata and perhaps content of a message, wherever it is just now.

    Raises KeyError if there is none of that id, SpoolError or ValueError if it cannot be read.
    """
    try:
        return await _described(queues.spool, Message.from_spool(id), want_body=want_body)
    except KeyError:
        msg = await _only_in_memory(queues, id)
        if msg is None:
            raise
        return await _described(queues.spool, msg, want_body=want_body)


async def messages_of(
    queues: Queues, name: str, limit: int | None, *, want_body: bool
) -> AsyncGenerator[dict[str, object], None]:
    """What waits in a scheduled queue, in no order; at most `limit`. What cannot be read is left out."""
    left = sum(queue.delayed for queue in queues.waiting_in(name))
    if limit is not None:
        left = min(left, limit)
    seen: set[Message] = set()
    for count, msg in enumerate(waiting(queues), 1):
        if left <= 0:
            return
        queue: ScheduledQueue | None = msg.queue  # type: ignore[assignment]
        if queue is not None and queue.name == name and msg not in seen:
            seen.add(msg)
            with suppress(KeyError, SpoolError, ValueError):
                times = {"due": Timestamp(msg.due).to_option(), "num_attempts": msg.attempts}
                found = await _described(queues.spool, msg, want_body=want_body, times=times)
                left -= 1
                yield {"id": msg.id.hex(), "message": found}
                await trio.lowlevel.checkpoint()
        if count % _SLICE == 0:
            await trio.lowlevel.checkpoint()


async def _only_in_memory(queues: Queues, id: bytes) -> Message | None:
    """A message that the spool does not have yet (`deferred_spool`)."""
    for busy in queues.in_hand:
        if busy.id == id:
            return busy
    for ready in list(queues.ready.values()):
        for msg in ready.messages:
            if msg.id == id:
                return msg
        await trio.lowlevel.checkpoint()
    for count, msg in enumerate(waiting(queues), 1):
        if (
            msg.id == id and msg.queue is not None
        ):  # its slot stays in the wheel for a while after it has gone
            return msg
        if count % _SLICE == 0:
            await trio.lowlevel.checkpoint()
    return None


async def _described(
    spool: MessageSpool, msg: Message, *, want_body: bool, times: Mapping[str, object] | None = None
) -> dict[str, object]:
    """KumoMTA's MessageInformation. Raises KeyError, SpoolError or ValueError."""
    data = None
    if want_body:
        content = msg.data if msg.data_loaded else await spool.data.load(msg.id)
        data = content.decode("utf-8", "replace")
    if not msg.meta_loaded:
        msg = Message.from_spool(msg.id)
        await spool.load_meta(msg)
    recipients = list(msg.recipients)
    found: dict[str, object] = {
        "sender": msg.sender,
        "recipient": recipients[0] if len(recipients) == 1 else recipients,
        "meta": dict(msg.meta),
        "data": data,
        **(times or {}),
    }
    if msg.schedule is not None:
        found["scheduling"] = msg.schedule.to_table()
    return found
