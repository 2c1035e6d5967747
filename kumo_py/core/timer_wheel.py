"""A timer wheel: a million items that wait, at the cost of a list slot each.

Time is cut into ticks. What is due within the current window of 1,024 ticks lies in
one list per tick; what is due later lies in one list per window, beside two bytes
that say which tick of it, and is sorted into ticks when its window opens. Both kinds
of list exist only where something is due, and a heap of their numbers tells which
comes next: an idle stretch costs nothing, however long.

An item comes out at its due time or at most a tick later, never earlier: a tick is
a power of two, so that no rounding takes place. Items are not removed one by one;
their owner checks on the way out whether they still matter.
"""

from __future__ import annotations

import math
from array import array
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

_WINDOW_BITS = 10
_TICK_IN_WINDOW = (1 << _WINDOW_BITS) - 1


class TimerWheel(Generic[T]):
    """Holds items until they are due. All times are seconds on one clock of the caller's."""

    __slots__ = (
        "_len",
        "_now",
        "_overdue",
        "_per_second",
        "_tick_heap",
        "_ticks",
        "_window",
        "_window_heap",
        "_windows",
        "tick",
    )

    def __init__(self, tick: float, now: float) -> None:
        """`tick` is how late an item may be; taken down to a power of two of a second.

        Raises ValueError unless it is above zero.
        """
        if not 0.0 < tick < math.inf:
            raise ValueError(f"the tick of a timer wheel must be above zero, got {tick}")
        self.tick = 2.0 ** (math.frexp(tick)[1] - 1)
        """The greatest lateness in truth, in seconds."""
        self._per_second = 1.0 / self.tick
        self._now = math.floor(now * self._per_second)  # this tick's items are out
        self._window = self._now >> _WINDOW_BITS
        self._overdue: list[T] = []
        self._ticks: dict[int, list[T]] = {}
        self._tick_heap: list[int] = []
        self._windows: dict[int, tuple[list[T], array[int]]] = {}
        self._window_heap: list[int] = []
        self._len = 0

    def insert(self, due: float, item: T) -> None:
        """Hold the item until `due`; if that has passed, until the next `advance`.

        Raises ValueError or OverflowError unless `due` is finite.
        """
        tick = math.ceil(due * self._per_second)
        self._len += 1
        if tick <= self._now:
            self._overdue.append(item)
            return
        window = tick >> _WINDOW_BITS
        if window == self._window:
            items = self._ticks.get(tick)
            if items is None:
                self._ticks[tick] = [item]
                heappush(self._tick_heap, tick)
            else:
                items.append(item)
            return
        later = self._windows.get(window)
        if later is None:
            later = self._windows[window] = ([], array("H"))
            heappush(self._window_heap, window)
        later[0].append(item)
        later[1].append(tick & _TICK_IN_WINDOW)

    def advance(self, now: float) -> list[T]:
        """Hand out everything that is due at `now`, in the order of ticks.

        A clock that has stepped back hands out only what was due on insertion.
        """
        due, self._overdue = self._overdue, []
        tick = math.floor(now * self._per_second)
        if tick > self._now:
            self._now = tick
            self._window = tick >> _WINDOW_BITS
            while self._window_heap and self._window_heap[0] <= self._window:
                self._open_window(heappop(self._window_heap))
            while self._tick_heap and self._tick_heap[0] <= tick:
                due += self._ticks.pop(heappop(self._tick_heap))
        self._len -= len(due)
        return due

    def next_due(self) -> float | None:
        """Return a time before which nothing is due, None if the wheel is empty.

        Something is due then, or a window opens and the answer becomes a later one:
        sleeping until this time and advancing always makes headway.
        """
        if self._overdue:
            return self._now * self.tick
        if self._tick_heap:
            return self._tick_heap[0] * self.tick
        if self._window_heap:
            return (self._window_heap[0] << _WINDOW_BITS) * self.tick
        return None

    def drain(self) -> list[T]:
        """Take everything out at once, due or not, in no order."""
        items = list(self)
        self._overdue = []
        self._ticks.clear()
        self._tick_heap.clear()
        self._windows.clear()
        self._window_heap.clear()
        self._len = 0
        return items

    def __len__(self) -> int:
        return self._len

    def __iter__(self) -> Iterator[T]:
        """All items, in no order. The wheel must not change meanwhile."""
        yield from self._overdue
        for items in self._ticks.values():
            yield from items
        for later, _ in self._windows.values():
            yield from later

    def snapshot(self) -> list[tuple[list[T], int]]:
        """All items as of now, at no cost for each: lists, and how many at the front of each count.

        What comes later is put behind those, and nothing is taken out of a list: the wheel drops it as a whole.
        """
        lists = [self._overdue, *self._ticks.values(), *(later for later, _ in self._windows.values())]
        return [(items, len(items)) for items in lists]

    def slices(self, size: int) -> Iterator[list[T]]:
        """All items, in no order, about `size` at a time.

        The wheel may change between two slices: what comes or goes meanwhile is seen once, twice or not at all.
        """
        lists = [self._overdue, *self._ticks.values(), *(later for later, _ in self._windows.values())]
        piece: list[T] = []
        for items in lists:
            for start in range(0, len(items), size):
                piece += items[start : start + size]
                if len(piece) >= size:
                    yield piece
                    piece = []
        if piece:
            yield piece

    def _open_window(self, window: int) -> None:
        items, ticks = self._windows.pop(window)
        first = window << _WINDOW_BITS
        opened = self._ticks
        for item, tick in zip(items, ticks, strict=True):
            tick += first
            if tick in opened:
                opened[tick].append(item)
            else:
                opened[tick] = [item]
                heappush(self._tick_heap, tick)
