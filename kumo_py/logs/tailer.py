"""Follows the segments of a directory: batches of records for one or more consumers, old segments and live ones.

Segments are read in the order of their names, each once. One that has lost its write permission is complete; at the
end of one that has not, the tailer waits for more. A consumer gets every record that it wants at least once: what it
did not commit comes again when the next tailer with its checkpoint is opened.

A consumer may be filtered by its caller: `next` then hands out records, and `judge` says who wants them.
"""

from __future__ import annotations

import math
import os
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import finalize

import orjson
import structlog
import trio

from kumo_py.logs.checkpoint import Checkpoint, Position
from kumo_py.logs.reader import SegmentReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = structlog.get_logger("kumo_py.logs.tailer")

POLL_INTERVAL = 0.2
"""Seconds between two looks at a live segment, or for a new one."""
CHUNK = 100
"""Records that are read, and judged, together."""
_START = Position("", 0)


@dataclass(slots=True)
class Consumer:
    """Who gets batches; times in seconds."""

    name: str
    max_batch_size: int = 100
    max_batch_latency: float = 1.0
    checkpoint: Checkpoint | None = None
    is_filtered: bool = False
    start: Position | None = None
    """What comes up to here it had before."""


@dataclass(slots=True)
class Batch:
    """Records for one consumer."""

    consumer: str
    records: list[Any] = field(default_factory=list)
    size: int = 0
    """Octets of their lines."""
    end: Position = _START
    checkpoint: Checkpoint | None = None
    is_committed: bool = False

    async def commit(self) -> None:
        """Never to get these records again, nor those before; frees them. Raises OSError."""
        if self.is_committed:
            return
        if self.checkpoint is not None:
            await trio.to_thread.run_sync(self.checkpoint.save, self.end)
        self.is_committed = True
        self.records = []


@dataclass(frozen=True, slots=True)
class Unjudged:
    """Records that are to be judged before there is a next batch."""

    values: list[Any]


@dataclass(slots=True)
class _Record:
    value: Any
    size: int
    position: Position
    wanted: list[bool] | None
    """By whom; None until that is judged."""


class _Filling:
    """A consumer's batch that is not handed out yet."""

    __slots__ = ("batch", "consumer", "deadline")

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.batch = Batch(consumer.name, checkpoint=consumer.checkpoint)
        self.deadline = math.inf

    @property
    def is_full(self) -> bool:
        return len(self.batch.records) >= self.consumer.max_batch_size

    def add(self, record: _Record) -> None:
        if not self.batch.records:
            self.deadline = trio.current_time() + self.consumer.max_batch_latency
        self.batch.records.append(record.value)
        self.batch.size += record.size

    def take(self, end: Position) -> Batch:
        full, self.batch = self.batch, Batch(self.consumer.name, checkpoint=self.consumer.checkpoint)
        self.deadline = math.inf
        full.end = end
        return full


class _Segment:
    """The segment that is read now."""

    def __init__(self, path: str, name: str) -> None:
        self.name = name
        self.lines = 0
        self._reader = SegmentReader(path)
        self._rest: Iterator[bytes] | None = None
        self.close = finalize(self, self._reader.close)

    def read(self) -> tuple[list[bytes], bool]:
        """Some of the lines that are there; and without any, whether none will ever come. Raises OSError."""
        reader = self._reader
        ended = reader.is_torn or reader.is_complete  # before the last read, lest a line slips in between
        if self._rest is None:
            self._rest = reader.lines()
        lines = list(islice(self._rest, CHUNK))
        if not lines:
            self._rest = None
        return lines, ended


class Tailer:
    """Reads for its consumers until it is closed. Await `open` first."""

    def __init__(
        self,
        directory: str,
        find: Callable[[], list[str]],
        consumers: list[Consumer],
        *,
        poll: float,
        tail: bool,
    ) -> None:
        """`find` gives the paths below the directory that are segments; it is called in a thread.

        tail: begin with the newest segment, whatever the checkpoints say.
        """
        self._directory = directory
        self._find = find
        self._fillings = [_Filling(consumer) for consumer in consumers]
        self._is_filtered = any(consumer.is_filtered for consumer in consumers)
        self._poll = poll
        self._tail = tail
        self._plan: deque[str] = deque()
        self._segment: _Segment | None = None
        self._records: deque[_Record] = deque()
        self._end = _START  # of what was handed to fillings
        self._last = ""  # segment that was read to its end
        self._complained = ""  # segment with lines that are no JSON
        self._turn = trio.Lock()
        self._closing = trio.Event()

    async def open(self) -> None:
        """Find out where to begin. Raises OSError or ValueError."""
        found = await trio.to_thread.run_sync(self._find) if self._tail else []
        for filling in self._fillings:
            consumer = filling.consumer
            if found:
                consumer.start = Position(max(found), 0)
            elif consumer.checkpoint is not None and not self._tail:
                consumer.start = await trio.to_thread.run_sync(consumer.checkpoint.load)

    def close(self) -> None:
        """End it: whoever waits for batches gets None."""
        self._closing.set()
        if not self._turn.locked():
            self._leave_segment()

    async def next(self) -> list[Batch] | Unjudged | None:
        """What comes next; None once it is closed. Raises OSError; it may be called again then."""
        async with self._turn:
            while not self._closing.is_set():
                self._distribute()
                now = trio.current_time()
                ready = [one for one in self._fillings if one.is_full or one.deadline <= now]
                if ready:
                    return [one.take(self._end) for one in ready]
                if self._records:
                    return Unjudged([record.value for record in self._records])
                if not await self._read() and not self._closing.is_set():
                    if self._segment is None and any(one.batch.records for one in self._fillings):
                        # All that was written is read: nothing to wait for.
                        return [one.take(self._end) for one in self._fillings if one.batch.records]
                    await self._wait()
            self._leave_segment()
        return None

    def judge(self, verdicts: list[list[bool]]) -> None:
        """For each filtered consumer, in their order, which of the records that `next` gave it wants."""
        remaining = iter(verdicts)
        columns = [next(remaining) if one.consumer.is_filtered else None for one in self._fillings]
        for n, record in enumerate(self._records):
            record.wanted = [column is None or column[n] for column in columns]

    def _distribute(self) -> None:
        """Give judged records to whom they concern, until somebody's batch is full."""
        records, fillings = self._records, self._fillings
        while records and records[0].wanted is not None and not any(one.is_full for one in fillings):
            record = records.popleft()
            self._end = record.position
            assert record.wanted is not None
            for filling, wanted in zip(fillings, record.wanted, strict=True):
                start = filling.consumer.start
                if wanted and (start is None or record.position > start):
                    filling.add(record)

    async def _read(self) -> bool:
        """Read more records, or go on to the next segment. Whether there was any."""
        if self._segment is None and not await self._open_next():
            return False
        segment = self._segment
        if segment is None:
            return True
        lines, ended = await trio.to_thread.run_sync(segment.read)
        if self._closing.is_set():
            return False
        for line in lines:
            segment.lines += 1
            self._add(line, Position(segment.name, segment.lines))
        if not lines and ended:
            self._leave_segment()
            self._last = segment.name
            return bool(self._plan)
        return bool(lines)

    def _add(self, line: bytes, position: Position) -> None:
        if all(one.consumer.start is not None and position <= one.consumer.start for one in self._fillings):
            return
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as err:
            if self._complained != position.file:
                self._complained = position.file
                log.warning(
                    "lines of a log segment are no JSON and are left out",
                    file=position.file,
                    line=position.line,
                    error=str(err),
                )
            return
        if value is not None:
            wanted = None if self._is_filtered else [True] * len(self._fillings)
            self._records.append(_Record(value, len(line), position, wanted))

    async def _open_next(self) -> bool:
        """Whether there is another segment."""
        if not self._plan:
            found = await trio.to_thread.run_sync(self._find)
            starts = [one.consumer.start for one in self._fillings]
            first = min((one.file if one is not None else "" for one in starts), default="")
            self._plan.extend(name for name in sorted(found) if name > self._last and name >= first)
        if not self._plan or self._closing.is_set():
            return False
        name = self._plan[0]
        try:
            self._segment = _Segment(os.path.join(self._directory, name), name)
        except FileNotFoundError:
            self._last = name  # somebody tidied up
        self._plan.popleft()
        return True

    def _leave_segment(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    async def _wait(self) -> None:
        deadline = min(one.deadline for one in self._fillings)
        with trio.move_on_at(min(deadline, trio.current_time() + self._poll)):
            await self._closing.wait()
