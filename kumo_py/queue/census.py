"""All messages of a node at one moment, without copying what waits.

Looking at a million messages takes its time, and meanwhile they move. A census notes at once where they all are, so
that one that stays is met whatever becomes of it before its turn comes. Who works through it finds out by the message
itself where it is by then: it may have gone.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from kumo_py.queue.scheduled import ScheduledQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.message.message import Message
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue


def waiting(queues: Queues) -> Iterator[Message]:
    """All messages that wait in scheduled queues when this is called; some, which have gone since, have no `queue`.

    One that an operator has moved may come more than once.
    """
    others = [*queues.held, *queues.promotion.waiting]
    parts = [*queues.wheel.snapshot(), (others, len(others))]
    return (msg for items, size in parts for msg in islice(items, size))


class Census:
    """See the module. A message that an operator has moved may be in it more than once."""

    def __init__(self, queues: Queues, *, only_held: bool = False) -> None:
        self.ready: list[tuple[ReadyQueue, list[Message]]] = []
        """What was in ready queues."""
        self._others = [list(queues.held)]
        self._waiting: list[tuple[list[Message], int]] = []
        """Lists, and how many at the front are meant."""
        if not only_held:
            self.ready = [(queue, list(queue.messages)) for queue in queues.ready.values() if queue.messages]
            self._others += [list(queues.in_hand), queues.promotion.waiting]
            self._waiting = queues.wheel.snapshot()
        self.size = sum(len(messages) for _, messages in self.ready)
        """As many as there are messages, or a few more."""
        self.size += sum(map(len, self._others)) + sum(size for _, size in self._waiting)

    def others(self, size: int) -> Iterator[list[Message]]:
        """What was not in ready queues, about so many at a time."""
        gathered: list[Message] = []
        for messages, count in (*((other, len(other)) for other in self._others), *self._waiting):
            for start in range(0, count, size):
                gathered += messages[start : min(start + size, count)]
                if len(gathered) >= size:
                    yield gathered
                    gathered = []
        if gathered:
            yield gathered


def still_there(queues: Queues, msg: Message, ready: ReadyQueue | None) -> bool:
    """Whether a message of a census, then in that ready queue or in none, is still the node's.

    One that was never spooled, which is rare, is taken to be where it was.
    """
    if isinstance(msg.queue, ScheduledQueue) or msg.spooled or msg in queues.in_hand:
        return True
    return ready is not None
