"""What a node's queues look like as a whole: the largest of them, sums over all, and how old their mail is.

A look at everything takes its time where there are 100,000 queues or a million messages. So looks are made only when
somebody asks, in slices, at most once a second, and no more of them than a share of the time allows; all who ask for
the same get the same. Queues and messages have a share each: ages, which change slowly, never hold up sizes.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar

import trio

from kumo_py.core.spool_id import created

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kumo_py.message.message import Message
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.queue.scheduled import ScheduledQueue

    _Ranked: TypeAlias = tuple[tuple[float, ...], int, Any]

T = TypeVar("T")

Order: TypeAlias = Literal["size", "age", "errors"]

INTERVAL = 1.0
"""Seconds for which an answer holds at least."""
SHARE = 0.01
"""Of the time, for looks at queues, and as much for looks at messages."""
BURST = 0.5
"""Seconds of work by which a question not asked before may be ahead of its share, so that who asks it need not wait."""
KEPT = 60.0
"""Seconds after which an answer is of no use to anybody."""
_MOST_KEPT = 64
_SLICE = 512
"""Queues or messages looked at in one go before other tasks get a turn: less than a millisecond."""
_MOST_SUMS = 50


class View(NamedTuple):
    """What somebody wants to see."""

    limit: int = 50
    order: Order = "size"
    """By messages; by the age of the oldest (of ready queues, by messages); or the last errors first."""
    match: str = ""
    """Part of the names of queues, whatever the case."""


@dataclass(slots=True)
class Site:
    """Sums over the ready queues to a site."""

    messages: int = 0
    connections: int = 0
    delivered: int = 0
    failed: int = 0
    transfailed: int = 0


@dataclass(slots=True)
class Found:
    """The answer to a view. Sums are over all queues, counts over those that match."""

    at: float
    """Trio time."""
    scheduled_count: int = 0
    scheduled: list[ScheduledQueue] = field(default_factory=list)
    ready_count: int = 0
    ready: list[ReadyQueue] = field(default_factory=list)
    scheduled_messages: int = 0
    ready_messages: int = 0
    connections: int = 0
    tenants: list[tuple[str, int]] = field(default_factory=list)
    """The largest, and their messages in scheduled queues."""
    sites: list[tuple[str, Site]] = field(default_factory=list)
    """Those with the most messages, then connections."""


class _Ration:
    """Work of which only so much is done."""

    def __init__(self) -> None:
        self.free_at = -math.inf
        """When the share allows the next piece of work (trio time)."""

    async def over(self, slices: Iterable[Sequence[T]], each: Callable[[Sequence[T]], None]) -> None:
        spent = 0.0
        try:
            before = time.perf_counter()
            for piece in slices:
                each(piece)
                spent += time.perf_counter() - before
                await trio.lowlevel.checkpoint()
                before = time.perf_counter()
        finally:
            self.free_at = max(self.free_at, trio.current_time()) + spent / SHARE


class Survey:
    """See the module. One per node."""

    def __init__(self) -> None:
        self.oldest: dict[ScheduledQueue, float] = {}
        """When the oldest message that waits in a queue came in (Unix time), as of the last look."""
        self._unknown: list[ScheduledQueue] = []
        """Queues that cannot be set up just now: messages wait in them, and nobody else knows them."""
        self._oldest_at = -math.inf
        self._found: dict[View, Found] = {}
        self._messages = _Ration()
        self._queues = _Ration()
        self._looking = trio.Lock()

    async def look(self, queues: Queues, view: View) -> Found:
        """No older than a second, or than the share of the time allows."""
        found = self._recent(view)
        if found is not None and (self._looking.locked() or not self._is_due(found)):
            return found
        async with self._looking:
            found = self._recent(view)
            if found is None:
                await trio.sleep_until(self._queues.free_at - BURST / SHARE)
            elif not self._is_due(found):
                return found
            found = await self._look(queues, view)
        self._found.pop(view, None)
        self._found[view] = found
        for old in [old for old in self._found if self._recent(old) is None]:
            del self._found[old]
        if len(self._found) > _MOST_KEPT:
            del self._found[next(iter(self._found))]
        return found

    def _recent(self, view: View) -> Found | None:
        found = self._found.get(view)
        return None if found is None or trio.current_time() - found.at > KEPT else found

    def _is_due(self, found: Found) -> bool:
        return trio.current_time() >= max(found.at + INTERVAL, self._queues.free_at)

    async def _look(self, queues: Queues, view: View) -> Found:
        now = trio.current_time()
        if now >= max(self._oldest_at + INTERVAL, self._messages.free_at):
            self._oldest_at = now
            await self._look_at_messages(queues)
        found = Found(now)
        await self._look_at_scheduled(queues, view, found)
        await self._look_at_ready(queues, view, found)
        return found

    async def _look_at_messages(self, queues: Queues) -> None:
        oldest: dict[Any, float] = {}
        unknown: list[ScheduledQueue] = []

        def each(messages: Sequence[Message]) -> None:
            for msg in messages:
                if (queue := msg.queue) is not None:
                    since = created(msg.id)
                    if since < oldest.get(queue, math.inf):
                        oldest[queue] = since

        def each_queue(several: Sequence[ScheduledQueue]) -> None:
            known = queues.scheduled
            unknown.extend(queue for queue in several if queue.name and known.get(queue.name) is not queue)

        await self._messages.over(chain(queues.wheel.slices(_SLICE), _slices(list(queues.held))), each)
        await self._messages.over(_slices(list(oldest)), each_queue)
        self.oldest, self._unknown = oldest, unknown

    async def _look_at_scheduled(self, queues: Queues, view: View, found: Found) -> None:
        known = queues.scheduled
        unknown = (queue for queue in self._unknown if queue.delayed and known.get(queue.name) is not queue)
        every = [*known.values(), *unknown]
        tenants = Counter[str]()
        top = _Top(view, self._rank_of(view.order))

        def each(several: Sequence[ScheduledQueue]) -> None:
            for queue in several:
                found.scheduled_messages += queue.delayed
                if (tenant := queue.components.tenant) is not None:
                    tenants[tenant] += queue.delayed
            top.add(several)

        await self._queues.over(_slices(every), each)
        found.scheduled_count, found.scheduled = top.count, top.items
        found.tenants = tenants.most_common(_MOST_SUMS)

    async def _look_at_ready(self, queues: Queues, view: View, found: Found) -> None:
        sites: dict[str, Site] = {}
        top = _Top(view, _ready_error if view.order == "errors" else _ready_size)

        def each(several: Sequence[ReadyQueue]) -> None:
            for ready in several:
                site = sites.get(ready.site_name)
                if site is None:
                    site = sites[ready.site_name] = Site()
                messages, counts = len(ready.messages), ready.counts
                site.messages += messages
                site.connections += ready.connections
                site.delivered += counts.delivered
                site.failed += counts.failed
                site.transfailed += counts.transfailed
                found.ready_messages += messages
                found.connections += ready.connections
            top.add(several)

        await self._queues.over(_slices(list(queues.ready.values())), each)
        found.ready_count, found.ready = top.count, top.items
        found.sites = nlargest(
            _MOST_SUMS, sites.items(), key=lambda item: (item[1].messages, item[1].connections)
        )

    def _rank_of(self, order: Order) -> Callable[[ScheduledQueue], tuple[float, ...]]:
        match order:
            case "size":
                return lambda queue: (queue.delayed,)
            case "age":
                return lambda queue: (-self.oldest.get(queue, math.inf), queue.delayed)
            case "errors":
                return _scheduled_error


class _Top:
    """The first of a view's order, of all that are added."""

    def __init__(self, view: View, rank: Callable[[Any], tuple[float, ...]]) -> None:
        self._limit, self._match, self._rank = view.limit, view.match.lower(), rank
        self._top: list[_Ranked] = []
        self._seen = 0
        self.count = 0
        """Those that match."""

    def add(self, several: Iterable[Any]) -> None:
        if self._match:
            several = [queue for queue in several if self._match in queue.name.lower()]
        rank = self._rank
        ranked = [(rank(queue), -number, queue) for number, queue in enumerate(several, self._seen)]
        self._seen += len(ranked)
        self.count += len(ranked)
        self._top = nlargest(self._limit, self._top + ranked)

    @property
    def items(self) -> list[Any]:
        return [queue for _, _, queue in self._top]


def _ready_size(ready: ReadyQueue) -> tuple[float, ...]:
    return len(ready.messages), ready.connections, ready.counts.delivered


def _scheduled_error(queue: ScheduledQueue) -> tuple[float, ...]:
    return (0.0 if queue.last_error is None else queue.last_error[0], queue.delayed)


def _ready_error(ready: ReadyQueue) -> tuple[float, ...]:
    error = ready.counts.last_error
    return (0.0 if error is None else error[0], len(ready.messages))


def _slices(items: list[T]) -> Iterator[list[T]]:
    return (items[start : start + _SLICE] for start in range(0, len(items), _SLICE))
