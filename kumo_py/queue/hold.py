"""Messages that an operator holds, and what is to become of messages that are being tried just now.

A held message stays in its scheduled queue and counts there; it is not in the timer wheel, is not tried and does not
expire until it is released. Its metadata says so (`kumo_py_held`), so that it is still held after a restart. Rules
and rebinding reach it there; suspensions don't matter to it.

A message that a task is busy with cannot be taken away from it. What an operator wants of it is kept as an order, and
carried out when it comes back: `takes` is asked at the few places where a message goes from a task to a queue. Orders
live in memory; one that is still open when the node ends is carried out then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog
import trio

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.logs import LogContext, RecordType
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue.context import InsertReason
from kumo_py.queue.memory import shrink, waiting_reduction
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kumo_py.message.message import Message
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.scheduled import ScheduledQueue

log = structlog.get_logger("kumo_py.queue.hold")

HELD_KEY = "kumo_py_held"
"""Metadata of a held message: a table of `reason` and `since`."""
NEVER = 253_402_300_799.0
"""When a held message is due: at the end of the year 9999. So the slot it left in the wheel lets it lie."""


class Held(NamedTuple):
    """Why a message is held, and since when (Unix time)."""

    reason: str
    since: float


class Deletion(NamedTuple):
    """How messages are deleted."""

    reason: str
    suppress_logging: bool


Order = Held | Deletion


def held_by(meta: Mapping[str, object]) -> Held | None:
    """What metadata says of a message's being held."""
    value = meta.get(HELD_KEY)
    if not isinstance(value, dict):
        return None
    since = value.get("since")
    return Held(str(value.get("reason") or ""), float(since) if isinstance(since, int | float) else 0.0)


class Holding:
    """See the module. One per node."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self.held: dict[Message, Held] = {}
        self.orders: dict[Message, Order] = {}
        """What is to be done with messages that are in hand; some may have gone meanwhile."""

    # -- messages in the caller's hands --------------------------------------------------------------
    async def hold(self, messages: Mapping[Message, ScheduledQueue | None], held: Held) -> int:
        """Hold messages that the caller has in hand, durably, with one sync for all; how many.

        With the queues where they waited, if they did. What cannot be read is taken care of.
        """
        readable = await self._load(messages)
        for msg in readable:
            msg.set_meta(HELD_KEY, held._asdict())
        await self._save(readable)
        for msg in readable:
            queue = messages[msg] or await self._queue_of(msg)
            if msg.data_saved and msg.meta_saved:
                shrink(msg, waiting_reduction(queue.config, NEVER - held.since))
            self.keep(msg, queue, held)
        return len(readable)

    def keep(self, msg: Message, queue: ScheduledQueue, held: Held) -> None:
        """Let a message whose metadata says that it is held wait in its queue."""
        msg.due = NEVER
        if self.takes(msg):
            return
        msg.queue = queue
        queue.delayed += 1
        queue.held += 1
        queue.last_change = trio.current_time()
        self._queues.in_hand.pop(msg, None)
        self.held[msg] = held

    async def hold_again(self, msg: Message, held: Held, queue: ScheduledQueue | None = None) -> None:
        """Hold a message that was held before the node started, unless a rule bounces it."""
        queues = self._queues
        queues.in_hand[msg] = trio.lowlevel.current_task()
        queue = queue or await self._queue_of(msg)
        if not (queues.admin.bounces and await queues.sweep.bounces(msg, queue)):
            if msg.meta_saved:
                msg.shrink_meta()
            self.keep(msg, queue, held)

    async def release(self, messages: Mapping[Message, ScheduledQueue | None]) -> int:
        """Let held messages, which the caller has taken in hand, go on: now, or when their schedule says; how many."""
        queues = self._queues
        readable = await self._load(messages)
        for msg in readable:
            if msg.meta.pop(HELD_KEY, None) is not None:
                msg.meta_saved = False
        await self._save(readable)
        for msg in readable:
            queues.delay_by(msg, 0.0)
            queue = messages[msg]
            await queues.sweep.reinsert(msg, InsertReason.DUE, queue.name if queue else "")
        return len(readable)

    async def delete(self, messages: Sequence[Message], deletion: Deletion) -> int:
        """Remove messages that the caller has in hand, with an AdminBounce record each; how many."""
        queues = self._queues
        text = f"Administrator deleted with reason: {deletion.reason}"
        response = Response(551, EnhancedCode(5, 7, 1), text)
        if not deletion.suppress_logging:
            messages = await self._load(messages)
        for msg in messages:
            if not deletion.suppress_logging:
                where = LogContext(site="localhost")
                await queues.log.record(RecordType.AdminBounce, msg, response, where)
            queues.forget(msg)
        return len(messages)

    async def _load(self, messages: Iterable[Message]) -> list[Message]:
        """Those of the messages that have their metadata now."""
        loaded = []
        for msg in messages:
            try:
                await self._queues.spool.load_meta(msg)
            except (KeyError, SpoolError, ValueError) as err:
                await self._queues.unreadable(msg, err, LogContext())
            else:
                loaded.append(msg)
        return loaded

    async def _save(self, messages: Sequence[Message]) -> None:
        """Together, to share a sync. A sick spool keeps them in memory, and says so."""
        if not messages:
            return
        try:
            await self._queues.spool.save(*messages)
        except SpoolError as err:
            log.error("held or released in memory only", messages=len(messages), error=str(err))

    async def _queue_of(self, msg: Message) -> ScheduledQueue:
        try:
            name = msg.queue_name
        except ValueError:
            return self._queues.unconfigured("")
        try:
            return await self._queues.resolve(name)
        except (PolicyError, Rejection):
            return self._queues.unconfigured(name)

    # -- messages in others' hands -------------------------------------------------------------------
    def takes(self, msg: Message) -> bool:
        """Whether there is an order for a message that comes back: then it is taken over, to carry it out."""
        queues = self._queues
        if msg not in self.orders or not queues.running:
            return False
        queues.in_hand[msg] = None
        queues.spawn(self._carry_out, msg, self.orders.pop(msg))
        return True

    async def _carry_out(self, msg: Message, order: Order) -> None:
        self._queues.in_hand[msg] = trio.lowlevel.current_task()
        try:
            if isinstance(order, Held):
                await self.hold({msg: None}, order)
            else:
                await self.delete([msg], order)
        except Exception:
            log.exception("an operator's order could not be carried out", id=msg.id.hex())
            await self.let_go()

    async def let_go(self) -> None:
        """Something nobody foresaw has gone wrong: what this task still has in hand is tried again."""
        task, in_hand = trio.lowlevel.current_task(), self._queues.in_hand
        text = "KumoMTA internal: returning message to scheduled queue"
        response = Response(451, EnhancedCode(4, 3, 0), text)
        for msg in [msg for msg, busy in in_hand.items() if busy is task]:
            await self._queues.requeue(msg, response, (InsertReason.DISPATCHER_DROP,), count_attempt=False)

    def forget_settled(self) -> None:
        """Called now and then: drop the orders for messages that have gone."""
        in_hand = self._queues.in_hand
        for msg in [msg for msg in self.orders if msg not in in_hand]:
            del self.orders[msg]

    async def settle(self) -> None:
        """The node ends: carry out what is open, as far as the messages are still there."""
        while self.orders:
            msg, order = self.orders.popitem()
            if not msg.spooled:
                continue
            msg.queue = None
            try:
                if isinstance(order, Held):
                    for loaded in await self._load([msg]):
                        loaded.set_meta(HELD_KEY, order._asdict())
                        await self._save([loaded])
                else:
                    await self.delete([msg], order)
            except Exception:
                log.exception("an operator's order could not be carried out", id=msg.id.hex())
