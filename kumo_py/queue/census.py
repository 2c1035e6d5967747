"""All messages of a node at one moment, without copying what waits.

Looking at a million messages takes its time, and meanwhile they move. A census notes at once where they all are, so
that one that stays is met whatever becomes of it before its turn comes. Who works through it finds out by the message
itself where it is by then: it may have gone.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from kumo_py.queue.scheduled import ScheduledQueue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


class Part(NamedTuple):
    """Messages that were in one place."""

    messages: Sequence[Message]
    size: int
    """Those at the front are meant."""
    ready: ReadyQueue | None
    """Where they were, if it was a ready queue."""


class Census:
    """See the module. A message that an operator has moved may be in it more than once."""

    def __init__(self, queues: Queues, *, only_held: bool = False) -> None:
        if only_held:
            self.parts = [Part(list(queues.held), len(queues.held), None)]
        else:
            elsewhere = [*queues.in_hand, *queues.held, *queues.promotion.waiting]
            ready = [queue for queue in queues.ready.values() if queue.messages]
            self.parts = [
                *(Part(list(queue.messages), len(queue.messages), queue) for queue in ready),
                Part(elsewhere, len(elsewhere), None),
                *(Part(items, size, None) for items, size in queues.wheel.snapshot()),
            ]
        self.size = sum(part.size for part in self.parts)
        """Of all parts: as many messages, or a few more."""

    def slices(self, size: int) -> Iterator[tuple[list[Message], ReadyQueue | None]]:
        """At most so many messages at a time, and the ready queue in which they were."""
        gathered: list[Message] = []
        for part in self.parts:
            for start in range(0, part.size, size):
                piece = part.messages[start : min(start + size, part.size)]
                if part.ready is not None:
                    yield list(piece), part.ready
                    continue
                gathered += piece
                if len(gathered) >= size:
                    yield gathered, None
                    gathered = []
        if gathered:
            yield gathered, None


def still_there(queues: Queues, msg: Message) -> bool:
    """Whether a message of a census is still the node's. One that was never spooled is taken to be."""
    return isinstance(msg.queue, ScheduledQueue) or msg in queues.in_hand or msg.spooled
