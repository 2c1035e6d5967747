"""The queues' end of log hooks: messages made of log records are saved and queued."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.queue.context import InsertReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kumo_py.message.message import Message
    from kumo_py.queue.queues import Queues

log = structlog.get_logger("kumo_py.queue.log_records")


class LogRecordSink:
    """A logs.hooks.MessageSink. new_id: a spool id for a message that is made now."""

    def __init__(self, queues: Queues, new_id: Callable[[], bytes]) -> None:
        self._queues = queues
        self.new_id = new_id

    async def enqueue(self, messages: Sequence[Message], *, deferred_spool: bool) -> None:
        """Put them into their queues; what has a queue that cannot be set up waits. Raises SpoolError."""
        queues = self._queues
        if not deferred_spool:
            await queues.spool.save(*messages)
        for msg in messages:
            try:
                name = msg.queue_name
            except ValueError as err:
                log.error("a log record has no queue and is dropped", error=str(err))
                queues.forget(msg)
                continue
            try:
                queue = await queues.resolve(name)
            except (PolicyError, Rejection):
                await queues.hold_back(msg, name)
            else:
                await queues.insert_or_wait(msg, queue, (InsertReason.RECEIVED,))
