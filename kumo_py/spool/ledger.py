"""What is where in a segment log, and what may be thrown away. No disk call, no trio.

A location is one integer: segment number << 64 | offset of the record << 32 | length of its data.

When a removal record may go. It voids copies of an id in the segments `oldest` … `newest`; while one of these
exists (other than the segment with the removal itself, which goes at the same time), the removal must exist
too, or the message would be back after the next start. `oldest` differs from `newest` only for an id that was
stored more than once: `older` remembers that.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from kumo_py.spool.records import HEADER, RECORD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kumo_py.spool.records import Removal

LENGTH_MASK = (1 << 32) - 1


class Segment:
    """One file of the log. Bytes and counts are those the trio side knows to be on disk."""

    __slots__ = (
        "broken",
        "fd",
        "held_bytes",
        "length",
        "listed",
        "live",
        "live_bytes",
        "marker",
        "moved",
        "number",
        "path",
        "pins",
        "readers",
        "sealed",
        "sealed_at",
        "stuck",
        "unwanted",
    )

    def __init__(self, number: int, path: str, marker: bytes) -> None:
        self.number = number
        self.path = path
        self.marker = marker
        self.fd = -1
        self.length = 0
        self.live = 0
        """Records that the index points to."""
        self.live_bytes = 0
        self.held_bytes = 0
        """Of removals that compaction found necessary and copied here: not worth copying again while pinned."""
        self.pins: set[tuple[int, int]] = set()
        """For each removal in it: the oldest and the newest segment with what it voids."""
        self.sealed = False
        """Nothing is appended to it any more."""
        self.sealed_at = float("-inf")
        self.listed = False
        """Its directory entry is durable."""
        self.broken = False
        """A part of it cannot be read, so nobody knows what it holds: it is kept."""
        self.stuck = False
        """It holds a live record that cannot be copied: it is not compacted."""
        self.moved: list[bytes] = []
        """Ids that compaction has copied elsewhere."""
        self.readers = 0
        """Threads that read from it."""
        self.unwanted = False
        """The last of them shall close the descriptor."""


class Ledger:
    """The index of a segment log, and the account of each of its segments."""

    def __init__(self) -> None:
        self.index: dict[bytes, int] = {}
        self.segments: dict[int, Segment] = {}
        """By number, in ascending order."""
        self.dead_bytes = 0
        """In all segments: headers, removals, and records that the index does not point to."""
        self.older: dict[bytes, int] = {}
        """The oldest segment that may hold a superseded copy of a live id, where there is one."""
        self._doomed: set[int] = set()
        """Locations of removed records that count as live until their removal is written: see `forget`."""
        self.dead: set[Segment] = set()
        """Sealed segments without live records."""
        self.changed = True
        """`expendable` may give something that it did not give before."""

    def append(self, segment: Segment, size: int) -> None:
        """Account for `size` more bytes, dead until `place` says otherwise."""
        segment.length += size
        self.dead_bytes += size

    def place(self, id: bytes, location: int) -> None:
        """Point the index to a newer record of the id."""
        segment = self.segments[location >> 64]
        size = RECORD + (location & LENGTH_MASK)
        segment.live += 1
        segment.live_bytes += size
        self.dead_bytes -= size
        old = self.index.get(id)
        self.index[id] = location
        if old is not None:
            self.kill(old)
            old >>= 64
            if old != segment.number:
                self.older[id] = min(old, self.older.get(id, old))

    def kill(self, location: int) -> None:
        """Account for a record that the index no longer points to."""
        segment = self.segments[location >> 64]
        size = RECORD + (location & LENGTH_MASK)
        segment.live -= 1
        segment.live_bytes -= size
        self.dead_bytes += size
        if not segment.live and segment.sealed:
            self.dead.add(segment)
            self.changed = True

    def forget(self, id: bytes, location: int) -> None:
        """Account for a removed message.

        If an older copy may exist, the record must not go before the removal is written: the older copy would
        come back. Any other record may, so that a disk too full for removals becomes empty all the same.
        """
        if id in self.older:
            self._doomed.add(location)
        else:
            self.kill(location)

    def removal(self, id: bytes, location: int) -> Removal:
        """What has to be written to void the record at `location` and all older ones."""
        number = location >> 64
        return id, self.older.get(id, number), location >> 32

    def forgotten(self, removes: Iterable[tuple[bytes, int]]) -> None:
        """The removals of these ids and locations are written."""
        if self._doomed:
            for _, location in removes:
                if location in self._doomed:
                    self._doomed.remove(location)
                    self.kill(location)

    def removed(self, segment: Segment, removals: Iterable[Removal]) -> None:
        """Account for removals written to `segment`."""
        number = segment.number
        for id, oldest, newest in removals:
            newest >>= 32
            if oldest != number:
                segment.pins.add((oldest, newest))
            if id not in self.index:
                self.older.pop(id, None)

    def void(self, removal: Removal) -> None:
        """Apply a removal found on disk."""
        id, _, newest = removal
        location = self.index.get(id)
        if location is not None and location >> 32 <= newest:
            del self.index[id]
            self.older.pop(id, None)
            self.kill(location)

    def needed(self, oldest: int, newest: int, holder: int = -1) -> bool:
        """Whether a removal of copies in the segments `oldest` … `newest` must be kept, if `holder` has it."""
        if oldest == newest:
            return newest != holder and newest in self.segments
        numbers = list(self.segments)
        first = bisect_left(numbers, oldest)
        return any(number <= newest and number != holder for number in numbers[first : first + 2])

    def seal(self, segment: Segment, now: float) -> None:
        segment.sealed = True
        segment.sealed_at = now
        if not segment.live:
            self.dead.add(segment)
            self.changed = True

    def expendable(self) -> list[Segment]:
        """Dead segments that nothing on disk relies on."""
        free = []
        for segment in self.dead:
            segment.pins = {pin for pin in segment.pins if self.needed(*pin, segment.number)}
            if not segment.pins and not segment.broken:
                free.append(segment)
        return free

    def drop(self, segment: Segment) -> None:
        """The segment's file is gone, durably."""
        number = segment.number
        del self.segments[number]
        self.dead.discard(segment)
        self.changed = True
        self.dead_bytes -= segment.length - segment.live_bytes
        for id in segment.moved:
            if self.older.get(id) == number:
                del self.older[id]

    def sparsest(self, sealed_before: float) -> Segment | None:
        """The sealed segment with the largest dead part, if that is more than half and cannot just be dropped."""
        best, best_part = None, 0.5
        for segment in self.segments.values():
            if segment.sealed_at <= sealed_before and self._is_movable(segment):
                part = 1 - self._kept_bytes(segment) / segment.length
                if part > best_part:
                    best, best_part = segment, part
        return best

    def wasteful(self, newest: int) -> Segment | None:
        """A sealed segment, of those up to a number, with anything dead in it, and that cannot just be dropped."""
        for segment in self.segments.values():
            wasted = segment.length - HEADER - self._kept_bytes(segment)
            if segment.number <= newest and wasted > 0 and self._is_movable(segment):
                return segment
        return None

    def _is_movable(self, segment: Segment) -> bool:
        return segment.sealed and not segment.stuck and bool(segment.live or segment.pins)

    def _kept_bytes(self, segment: Segment) -> int:
        """How much of it counts."""
        kept = segment.live_bytes
        if segment.held_bytes and any(self.needed(*pin, segment.number) for pin in segment.pins):
            kept += segment.held_bytes
        return kept
