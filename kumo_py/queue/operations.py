"""What an operator does to many messages: flush, hold, release, delete.

An operation runs in a task of its own, which nobody's leaving ends, and goes through a census in slices. Reading and
changing messages has a bounded rate, so that mail goes on beside a million of them. What it has in hand is what it is
just changing; if it fails or the node ends, that is tried again as any message is.

A message is meant once, wherever it is met. One that waits or lies in a ready queue is changed at once; for one that a
task is busy with, hold and delete leave an order (see `hold`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.queue.census import Census, still_there
from kumo_py.queue.context import InsertReason
from kumo_py.queue.hold import Deletion, Held
from kumo_py.queue.scheduled import ScheduledQueue
from kumo_py.queue.selection import Matcher, envelope_of
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kumo_py.message.message import Message
    from kumo_py.queue.hold import Order
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.queue.selection import Selection

log = structlog.get_logger("kumo_py.queue.operations")

READS_PER_SECOND = 10_000
"""Envelopes that one operation reads from the spool."""
CHANGES_PER_SECOND = 5_000
"""Messages that one operation changes."""
_LOOK = 256
"""Messages looked at in one go before other tasks get a turn."""
_CHANGE = 32
"""Messages changed in one go."""


@dataclass(slots=True)
class Progress:
    """How far an operation is. All are numbers of messages."""

    total: int = 0
    """To be looked at."""
    examined: int = 0
    matched: int = 0
    """That are meant."""
    changed: int = 0
    in_flight: int = 0
    """Being tried: it is done when they come back, if they do."""
    unchanged: int = 0
    """As wanted already."""
    held: int = 0
    """Not flushed, because an operator holds them."""
    suspended: int = 0
    """Not flushed, because their queue is suspended."""
    scheduled: int = 0
    """Not due yet, because they may not be sent before a time of their own."""
    failed: int = 0
    """Could not be read; see the diagnostic log."""


class Operation(ABC):
    """One request. `run` is to be started with Queues.spawn."""

    only_held = False
    """Whether only held messages can be changed."""

    def __init__(self, queues: Queues, selection: Selection) -> None:
        """Raises ValueError if an id is none."""
        self._queues = queues
        self._matcher = Matcher(selection, queues)
        self.progress = Progress()
        self.missing = set(self._matcher.ids)
        """Ids of which no message has been found."""
        self.error: str | None = None
        """Why it ended early."""
        self.over = trio.Event()
        self._seen: tuple[set[Message], ...] = tuple(set() for _ in range(256))
        """In small sets: a large one takes long when it grows."""

    async def run(self) -> None:
        """To the end. Raises nothing."""
        try:
            await self._go_through()
        except Exception as err:
            log.exception("an operator's request ended early")
            self.error = f"it ended early: {type(err).__name__}: {err}"
            await self._queues.holding.let_go()
        finally:
            self._seen = ()
            self.over.set()

    async def _go_through(self) -> None:
        queues = self._queues
        census = Census(queues, only_held=self.only_held and not self.missing)
        self.progress.total = census.size
        left: set[Message] = set()
        for ready, messages in census.ready:
            in_ready: set[Message] = set()
            for start in range(0, len(messages), _LOOK):
                if self._is_complete():
                    break
                in_ready |= await self._look_at(messages[start : start + _LOOK], ready)
            left |= await self._change_where_they_are(await self._withdraw(ready, in_ready))
        for messages in census.others(_LOOK):
            if self._is_complete():
                break
            left |= await self._look_at(messages, None)
        for ready in list(queues.ready.values()):
            # Nobody has them in hand, so they have gone, or from one ready queue to another.
            if left and ready.messages:
                left = await self._withdraw(ready, left)
                await trio.lowlevel.checkpoint()
        await self._change_where_they_are(left)
        if queues.stopping:
            self.error = "it ended early: the node is shutting down"

    def _is_complete(self) -> bool:
        return self._queues.stopping or (bool(self._matcher.ids) and not self.missing)

    async def _look_at(self, messages: Sequence[Message], ready: ReadyQueue | None) -> set[Message]:
        """Deal with those that are meant; those are left that must be looked for in a ready queue."""
        self.progress.examined += len(messages)
        left = await self._change_where_they_are(await self._choose(messages, ready))
        await trio.lowlevel.checkpoint()
        return left

    async def _choose(self, messages: Sequence[Message], ready: ReadyQueue | None) -> list[Message]:
        """Those of the messages that are meant, as far as they are still there."""
        queues, matcher = self._queues, self._matcher
        chosen: list[Message] = []
        reads = 0
        for msg in messages:
            verdict = matcher.at_a_glance(msg)
            seen = self._seen[hash(msg.id) & 255]
            if verdict is False or msg in seen:
                continue
            if verdict is None:
                reads += 1
                if reads % _CHANGE == 0:
                    await trio.sleep(_CHANGE / READS_PER_SECOND)
                try:
                    verdict = matcher.matches(msg, await envelope_of(queues, msg))
                except KeyError:
                    continue  # it has gone meanwhile
                except (SpoolError, ValueError) as err:
                    seen.add(msg)
                    self.progress.failed += 1
                    log.error("the envelope of a message cannot be read", id=msg.id.hex(), error=str(err))
                    continue
            if verdict and still_there(queues, msg, ready):
                seen.add(msg)
                chosen.append(msg)
        return chosen

    async def _change_where_they_are(self, chosen: Iterable[Message]) -> set[Message]:
        """Deal with messages that wait or are in somebody's hands; the others are left."""
        queues = self._queues
        messages = list(chosen)
        left: set[Message] = set()
        for start in range(0, len(messages), _CHANGE):
            taken: dict[Message, ScheduledQueue | None] = {}
            for msg in messages[start : start + _CHANGE]:
                queue = msg.queue
                if isinstance(queue, ScheduledQueue):
                    self._found(msg)
                    if self._wants(msg, queue):
                        queues.out_of_wheel(msg, queue)
                        taken[msg] = queue
                elif msg in queues.in_hand:
                    self._found(msg)
                    self._is_busy(msg)
                elif self._takes_from_ready(msg):
                    left.add(msg)
            await self._change_taken(taken)
        return left

    async def _withdraw(self, ready: ReadyQueue, messages: set[Message]) -> set[Message]:
        """Take messages out of a ready queue and change them; those are left that are not there."""
        withdrawn = ready.withdraw(messages) if messages else []
        for start in range(0, len(withdrawn), _CHANGE):
            part = withdrawn[start : start + _CHANGE]
            for msg in part:
                self._found(msg)
            await self._change_taken(dict.fromkeys(part))
        return messages.difference(withdrawn)

    async def _change_taken(self, taken: dict[Message, ScheduledQueue | None]) -> None:
        if taken:
            changed = await self._change(taken)
            self.progress.changed += changed
            self.progress.failed += len(taken) - changed
            await trio.sleep(len(taken) / CHANGES_PER_SECOND)

    def _found(self, msg: Message) -> None:
        self.progress.matched += 1
        self.missing.discard(msg.id)

    # -- what is done --------------------------------------------------------------------------------
    @abstractmethod
    def _wants(self, msg: Message, queue: ScheduledQueue) -> bool:
        """Whether a message that waits is to be changed; if not, it is counted."""

    @abstractmethod
    async def _change(self, taken: dict[Message, ScheduledQueue | None]) -> int:
        """Change messages that are in hand now; how many. None is the queue of those from a ready queue."""

    def _is_busy(self, msg: Message) -> None:
        """A task is busy with the message."""
        self.progress.unchanged += 1

    def _takes_from_ready(self, msg: Message) -> bool:
        """Whether a message that lies in a ready queue is to be taken out."""
        self._found(msg)
        self.progress.unchanged += 1
        return False


class Flush(Operation):
    """Messages that wait are due now. They keep their attempts and their end of life."""

    def __init__(self, queues: Queues, selection: Selection, *, force: bool = False) -> None:
        """force: also before the time that a message's own schedule allows."""
        super().__init__(queues, selection)
        self._force = force

    def _wants(self, msg: Message, queue: ScheduledQueue) -> bool:
        queues, progress = self._queues, self.progress
        now = queues.wall()
        if msg in queues.held:
            progress.held += 1
        elif msg.due <= now:
            progress.unchanged += 1
        elif queues.sweep.suspends(queue):
            progress.suspended += 1
        elif msg.schedule is None or self._force or (due := msg.schedule.adjust(now)) <= now:
            return True
        else:
            progress.scheduled += 1
            if due < msg.due:
                queues.out_of_wheel(msg, queue)
                queues.into_wheel(msg, queue, due)
        return False

    async def _change(self, taken: dict[Message, ScheduledQueue | None]) -> int:
        for msg, queue in taken.items():
            msg.due = 0.0
            await self._queues.sweep.reinsert(msg, InsertReason.DUE, queue.name if queue else "")
        return len(taken)


class Release(Operation):
    """Held messages are due now, or when their schedule allows it. They keep their attempts."""

    only_held = True

    def _wants(self, msg: Message, queue: ScheduledQueue) -> bool:
        held = msg in self._queues.held
        self.progress.unchanged += not held
        return held

    async def _change(self, taken: dict[Message, ScheduledQueue | None]) -> int:
        return await self._queues.holding.release(taken)

    def _is_busy(self, msg: Message) -> None:
        if isinstance(self._queues.orders.get(msg), Held):
            del self._queues.orders[msg]
            self.progress.changed += 1
        else:
            self.progress.unchanged += 1


class _Ordered(Operation):
    """What can be ordered of messages that somebody is busy with."""

    def __init__(self, queues: Queues, selection: Selection, order: Order) -> None:
        super().__init__(queues, selection)
        self._order = order

    def _is_busy(self, msg: Message) -> None:
        self._queues.orders[msg] = self._order
        self.progress.in_flight += 1

    def _takes_from_ready(self, msg: Message) -> bool:
        return True


class Hold(_Ordered):
    """See `hold`."""

    def __init__(self, queues: Queues, selection: Selection, reason: str) -> None:
        self._held = Held(reason, queues.wall())
        super().__init__(queues, selection, self._held)

    def _wants(self, msg: Message, queue: ScheduledQueue) -> bool:
        held = msg in self._queues.held
        self.progress.unchanged += held
        return not held

    async def _change(self, taken: dict[Message, ScheduledQueue | None]) -> int:
        return await self._queues.holding.hold(taken, self._held)


class Delete(_Ordered):
    """Messages are removed, with a record that says why."""

    def __init__(
        self, queues: Queues, selection: Selection, reason: str, *, suppress_logging: bool = False
    ) -> None:
        self._deletion = Deletion(reason, suppress_logging)
        super().__init__(queues, selection, self._deletion)

    def _wants(self, msg: Message, queue: ScheduledQueue) -> bool:
        return True

    async def _change(self, taken: dict[Message, ScheduledQueue | None]) -> int:
        return await self._queues.holding.delete(list(taken), self._deletion)
