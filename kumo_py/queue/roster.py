"""The messages of a node, as an operator sees them listed: all at once as a stream, or page by page.

Pages go by the time at which messages came in, so that one who goes on after the last message of a page misses nothing
that stays, and sees nothing twice, whatever happens in between. Looking changes nothing: envelopes that are not in
memory are read from the spool into copies, at a bounded rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.core.spool_id import created
from kumo_py.queue.admin import Timestamp
from kumo_py.queue.census import Census, still_there
from kumo_py.queue.scheduled import ScheduledQueue
from kumo_py.queue.selection import Matcher, envelope_of
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from kumo_py.message.message import Message
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.queue.selection import Selection

log = structlog.get_logger("kumo_py.queue.roster")

Row = dict[str, object]

READS_PER_SECOND = 40_000
"""Envelopes that one listing reads from the spool."""
_LOOK = 512
"""Messages looked at in one go before other tasks get a turn."""
_SHOW = 32
"""Messages shown in one go."""
_END = b"\xff"
"""Behind all places: those begin with a version."""


class Roster:
    """One listing."""

    def __init__(self, queues: Queues, selection: Selection) -> None:
        """Raises ValueError if an id is none."""
        self._queues = queues
        self._matcher = Matcher(selection, queues)
        self._only_held = selection.held is True
        self._shown = 0
        self._reads = 0

    async def all(self, limit: int | None) -> AsyncGenerator[Row, None]:
        """Every message that there is now, in no order; at most `limit`."""
        seen: tuple[set[bytes], ...] = tuple(
            set() for _ in range(256)
        )  # a large one takes long when it grows
        count = 0
        for messages, ready in self._census():
            for msg in messages:
                if count == limit:
                    return
                verdict = self._matcher.at_a_glance(msg)
                known = seen[hash(msg.id) & 255]
                if verdict is False or msg.id in known or not still_there(self._queues, msg, ready):
                    continue
                known.add(msg.id)
                row = await self._row(msg, certain=verdict is True)
                if row is not None:
                    count += 1
                    yield row
            await trio.lowlevel.checkpoint()

    async def page(self, limit: int, after: bytes | None) -> tuple[list[Row], bytes | None]:
        """At most `limit` messages that came in after the one of that id, and the id to go on after, if need be.

        A page may have fewer, even none, and others follow all the same: where senders or recipients are asked for,
        only so many envelopes are read.
        """
        start = b"" if after is None else _order(after)
        found: dict[bytes, tuple[Message, bool]] = {}
        end = _END
        for messages, ready in self._census():
            for msg in messages:
                verdict = self._matcher.at_a_glance(msg)
                if verdict is not False and start < (place := _order(msg.id)) < end:
                    if still_there(self._queues, msg, ready):
                        found[place] = msg, verdict is True
                    if len(found) >= 2 * limit:
                        found, end = _first(found, limit)
            await trio.lowlevel.checkpoint()
        is_last = len(found) <= limit and end == _END
        found, _ = _first(found, limit)
        rows = [await self._row(msg, certain=certain) for msg, certain in found.values()]
        last = None if is_last else next(reversed(found.values()))[0].id
        return [row for row in rows if row is not None], last

    def _census(self) -> Iterator[tuple[list[Message], ReadyQueue | None]]:
        census = Census(self._queues, only_held=self._only_held)
        for ready, messages in census.ready:
            for start in range(0, len(messages), _LOOK):
                yield messages[start : start + _LOOK], ready
        for messages in census.others(_LOOK):
            yield messages, None

    async def _row(self, msg: Message, *, certain: bool) -> Row | None:
        """What is shown of a message; None if it has gone, cannot be read, or is not meant after all."""
        queues = self._queues
        self._shown += 1
        if self._shown % _SHOW == 0:
            await trio.sleep(self._reads / READS_PER_SECOND)
            self._reads = 0
        self._reads += not msg.meta_loaded
        try:
            envelope = await envelope_of(queues, msg)
        except KeyError:
            return None
        except (SpoolError, ValueError) as err:
            log.error("the envelope of a message cannot be read", id=msg.id.hex(), error=str(err))
            return None
        if not (certain or self._matcher.matches(msg, envelope)):
            return None
        queue = msg.queue
        held = queues.held.get(msg)
        waits = isinstance(queue, ScheduledQueue)
        name = queue.name if isinstance(queue, ScheduledQueue) and queue.name else _queue_name(envelope)
        scheduled = queues.scheduled.get(name or "")
        error = None if scheduled is None else scheduled.last_error
        return {
            "id": msg.id.hex(),
            "queue": name,
            "sender": envelope.sender,
            "recipients": envelope.recipients,
            "size": msg.size or queues.spool.data.size_of(msg.id),
            "arrived": Timestamp(created(msg.id)).to_option(),
            "due": Timestamp(msg.due).to_option() if waits and held is None else None,
            "attempts": msg.attempts,
            "held": held and {"reason": held.reason, "since": Timestamp(held.since).to_option()},
            "where": "scheduled" if waits else "delivering" if msg in queues.in_hand else "ready",
            "last_error": error and {"when": Timestamp(error[0]).to_option(), "text": error[1]},
        }


def _queue_name(envelope: Message) -> str | None:
    try:
        return envelope.queue_name
    except ValueError:
        return None


def _order(id: bytes) -> bytes:
    """Ids in the order of their times: RFC 9562 §5.1 has the lowest bits of those first."""
    return id[6:8] + id[4:6] + id[:4] + id[8:]


def _first(
    found: dict[bytes, tuple[Message, bool]], limit: int
) -> tuple[dict[bytes, tuple[Message, bool]], bytes]:
    """The first so many, in order, and where what comes after them begins."""
    places = sorted(found)
    kept = {place: found[place] for place in places[:limit]}
    return kept, places[limit] if len(places) > limit else _END
