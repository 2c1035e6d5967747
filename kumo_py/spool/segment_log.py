"""The default kind of spool: an append-only log in segments of up to 64 MiB.

The trio side, here, lays out each batch: it knows where every byte will be before the writer thread
(segment_writer) writes it with one writev and, if the batch holds messages and the policy wants it, one
fdatasync. Removals are records too (records); nothing waits for them. A segment is unlinked as soon as
nothing in it counts any more. When the spool is quiet, or more than 256 MiB are dead, what still counts in
mostly dead segments is copied to the end of the log, in steps, so that they can go too. `compact` does that at once,
with every segment in which anything is dead.

A segment belongs to the run that made it: after a restart the old ones are only read.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, cast
from zlib import crc32

import trio

from kumo_py.spool.errors import SpoolError
from kumo_py.spool.group_commit import Batch, GroupCommit
from kumo_py.spool.ledger import LENGTH_MASK, Ledger, Segment
from kumo_py.spool.records import (
    HEADER,
    RECORD,
    REMOVAL,
    STORE,
    check_record,
    file_header,
    pack_fields,
    removals_record,
)
from kumo_py.spool.segment_writer import Append, LastSync, ReadStep, SegmentWriter, Unlink
from kumo_py.spool.writer import QUIET

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from kumo_py.spool.config import SpoolConfig
    from kumo_py.spool.file_ops import FileOps
    from kumo_py.spool.free_space import FreeSpace
    from kumo_py.spool.records import Removal
    from kumo_py.spool.writer import Job

SEGMENT_BYTES = 64 << 20
"""Where a segment ends; only one that holds a single, larger batch is longer."""

_PRESSURE_BYTES = 256 << 20
_PRESSURE_AGE = 60.0
"""Under load only segments sealed so many seconds ago are compacted: younger ones may still die by themselves."""

_SEARCH_INTERVAL = 5.0
_OPEN_SEGMENTS = 256
_READERS = 16


class _Compaction:
    """One that was asked for: who waits for it, what it is about, and what has kept it from being complete."""

    __slots__ = ("done", "newest", "problem")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.newest: int | None = None
        """The last segment that it is about; None until it begins."""
        self.problem: SpoolError | None = None


class SegmentLog(GroupCommit):
    """See `kumo_py.spool.Spool`."""

    def __init__(
        self,
        config: SpoolConfig,
        ops: FileOps,
        ledger: Ledger,
        free_space: FreeSpace,
        lock_fd: int,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(config, ops, ledger.index, free_space, lock_fd)
        self._ledger = ledger
        self._clock = clock
        self._directory = config.path
        self._flush = config.flush
        self._appender = SegmentWriter(ops, config.path, flush=config.flush)
        self._marker = os.urandom(8)
        self._active: Segment | None = None
        self._number = max(ledger.segments, default=0)
        self._readers = trio.CapacityLimiter(_READERS)
        self._open_segments: dict[Segment, None] = {}  # sealed ones with a descriptor, oldest first
        self._unlink_from = clock()
        self._compacting: Segment | None = None
        self._position = 0  # how far _compacting has been read
        self._step: ReadStep | None = None  # read, and not yet written
        self._search_from = clock()
        self._compaction: _Compaction | None = None

    # -- batches -----------------------------------------------------------------------------------------
    def _begin(self, batch: Batch) -> Job | None:
        ledger = self._ledger
        removals = [ledger.removal(id, location) for id, location in batch.removes]
        removals = [removal for removal in removals if ledger.needed(removal[1], removal[2] >> 32)]
        sync = (self._flush or batch.sync) and bool(batch.stores)
        return self._append(batch.stores, removals, batch.size, sync=sync)

    def _append(
        self, stores: Mapping[bytes, bytes], removals: list[Removal], size: int, *, sync: bool
    ) -> Append | None:
        """Lay out records with at most `size` bytes of data; None if there are no records."""
        if not stores and not removals:
            return None
        segment = self._segment_for(size + RECORD * (len(stores) + 1) + REMOVAL * len(removals))
        position = segment.length
        buffers = []
        if not position:
            buffers.append(file_header(self._marker))
            position = HEADER
        if removals:
            record = removals_record(self._marker, removals)
            buffers.append(record)
            position += len(record)
        placed = []
        marker = self._marker
        base = segment.number << 64
        for id, data in stores.items():
            length = len(data)
            fields = pack_fields(marker, length, crc32(data), STORE, id)
            buffers.append(fields + crc32(fields).to_bytes(4, "little"))
            buffers.append(data)
            placed.append((id, base | position << 32 | length))
            position += RECORD + length
        return Append(
            self._appender, segment, buffers, position - segment.length, placed, removals, sync=sync
        )

    def _segment_for(self, size: int) -> Segment:
        """The active segment, or a new one if `size` more bytes would make it too large."""
        segment = self._active
        if segment is not None and segment.length and segment.length + size > SEGMENT_BYTES:
            self._seal(segment)
            segment = None
        if segment is None:
            self._number += 1
            path = os.path.join(self._directory, f"{self._number:010d}.seg")
            segment = self._active = Segment(self._number, path, self._marker)
            self._ledger.segments[segment.number] = segment
        return segment

    def _seal(self, segment: Segment) -> None:
        self._active = None
        self._ledger.seal(segment, self._clock())
        self._keep_open(segment)

    def _written(self, batch: Batch, job: Job) -> list[tuple[bytes, int]]:
        self._appended(cast("Append", job), batch.stores)
        self._ledger.forgotten(batch.removes)
        return []

    def _appended(self, job: Append, wanted: Container[bytes]) -> None:
        """Account for a batch that is on disk; a message that is not wanted any more was removed meanwhile."""
        ledger = self._ledger
        ledger.append(job.segment, job.size)
        ledger.removed(job.segment, job.removals)
        for id, location in job.placed:
            if id in wanted:
                ledger.place(id, location)
            else:
                self._bury(id, location)

    def _lost(self, job: Job) -> None:
        segment = cast("Append", job).segment
        if segment.sealed or segment.length:
            # A full disk frees itself only if what is dead in this segment may go, too.
            segment.sealed = True
            self._seal(segment)

    def _unindexed(self, id: bytes, location: int) -> None:
        self._ledger.forget(id, location)

    def _last_job(self) -> Job:
        return LastSync(self._appender, self._active)

    def _release(self) -> None:
        if self._compaction is not None:
            self._compaction.problem = SpoolError(f"{self._where} is closed")
            self._end_compaction(self._compaction)
        for segment in self._ledger.segments.values():
            self._close_segment(segment)

    # -- loading -----------------------------------------------------------------------------------------
    def _size_at(self, location: int) -> int:
        return location & LENGTH_MASK

    async def _read(self, id: bytes, location: int) -> bytes:
        segment = self._ledger.segments[location >> 64]
        offset = location >> 32 & LENGTH_MASK
        size = RECORD + (location & LENGTH_MASK)
        try:
            raw = self._ops.pread_cached(segment.fd, size, offset) if segment.fd >= 0 else None
            if raw is None:
                raw = await self._read_in_thread(segment, size, offset)
        except OSError as error:
            if (now := self._index[id]) != location:  # compacted, or replaced, before the file was opened
                return await self._read(id, now)
            raise SpoolError.of(f"read message {id.hex()} from {segment.path}", error) from error
        data = check_record(raw, id) if len(raw) == size else None
        if data is None:
            text = f"{segment.path}: message {id.hex()} at offset {offset} is damaged"
            self._problem(text)
            raise SpoolError(text, errno.EIO)
        return data

    async def _read_in_thread(self, segment: Segment, size: int, offset: int) -> bytes:
        def read() -> tuple[int, bytes]:
            fd = segment.fd if segment.fd >= 0 else self._ops.open(segment.path, os.O_RDONLY)
            try:
                return fd, self._ops.pread(fd, size, offset)
            except BaseException:
                if fd != segment.fd:
                    self._ops.close(fd)
                raise

        segment.readers += 1
        try:
            fd, raw = await trio.to_thread.run_sync(read, limiter=self._readers)
            if segment.fd < 0 and segment.number in self._ledger.segments and not self._closed.is_set():
                segment.fd = fd
                self._keep_open(segment)
            elif segment.fd != fd:
                self._ops.close(fd)
        finally:
            segment.readers -= 1
            if segment.unwanted:
                self._close_segment(segment)
        return raw

    def _keep_open(self, segment: Segment) -> None:
        """Keep the descriptor of a sealed segment, and close that of another if they get too many."""
        self._open_segments[segment] = None
        if len(self._open_segments) > _OPEN_SEGMENTS:
            oldest = next(iter(self._open_segments))
            del self._open_segments[oldest]
            self._close_segment(oldest)

    def _close_segment(self, segment: Segment) -> None:
        """Close a descriptor, now or when its last reader is through."""
        segment.unwanted = segment.readers > 0
        if segment.fd >= 0 and not segment.unwanted:
            fd, segment.fd = segment.fd, -1
            with suppress(OSError):
                self._ops.close(fd)

    # -- chores ------------------------------------------------------------------------------------------
    def _on_quiet(self) -> None:
        self._search_from = self._unlink_from = self._clock()
        super()._on_quiet()

    def _chore(self, pending: bool) -> Job | None:
        ledger = self._ledger
        if ledger.changed and self._clock() >= self._unlink_from:
            ledger.changed = False
            if segments := ledger.expendable():
                return Unlink(self._appender, [(segment, not segment.readers) for segment in segments])
        if self._closing:
            if pending or self._index or self._active is None:
                return None
            self._seal(self._active)  # nothing is alive: leave no file behind
            return self._chore(pending)
        if self._step is not None:
            job = self._copy(self._step)
            return self._chore(pending) if job is None and self._compaction is not None else job
        if self._compaction is not None or ledger.dead_bytes > _PRESSURE_BYTES:
            return self._read_on()
        return self._read_on() if self._quiet and not pending else None

    def _chore_done(self, job: Job) -> None:
        match job:
            case Unlink():
                self._unlinked(job)
            case ReadStep():
                if job.error:
                    self._give_up(job.segment, job.error)
                else:
                    self._step = job
            case Append():
                if job.error:
                    self._lost(job)
                    self._compacting = None
                    if self._compaction is not None:
                        self._incomplete(SpoolError.of(f"compact {self._where}", job.error))
                        self._end_compaction(self._compaction)
                    self._search_from = self._clock() + _SEARCH_INTERVAL
                else:
                    self._copied(job)

    def _unlinked(self, job: Unlink) -> None:
        for segment in job.gone:
            self._ledger.drop(segment)
            self._open_segments.pop(segment, None)
            self._close_segment(segment)
        if job.error:
            self._problem(str(SpoolError.of(f"remove a segment of {self._where}", job.error)))
            self._ledger.changed = True
            self._unlink_from = self._clock() + QUIET / 2

    def _read_on(self) -> Job | None:
        """The next step of compaction, if there is anything to compact."""
        segment = self._compacting
        if segment is None or segment.number not in self._ledger.segments:
            segment = self._compacting = self._next_to_compact()
            self._position = HEADER
            if segment is None:
                return None
        return ReadStep(self._ops, segment, self._position, self._index)

    def _next_to_compact(self) -> Segment | None:
        if (compaction := self._compaction) is not None:
            if compaction.newest is None:
                if self._active is not None and self._active.length:
                    self._seal(self._active)
                compaction.newest = self._number
            segment = self._ledger.wasteful(compaction.newest)
            if segment is None:
                self._end_compaction(compaction)
            return segment
        now = self._clock()
        if now < self._search_from:
            return None
        segment = self._ledger.sparsest(now if self._quiet else now - _PRESSURE_AGE)
        if segment is None:
            self._search_from = now + _SEARCH_INTERVAL
        return segment

    # -- compaction that was asked for -------------------------------------------------------------------
    async def compact(self) -> None:
        """See `Spool.compact`. Who asks while it goes on waits for the same one."""
        compaction = self._compaction
        if compaction is None:
            if self._closing:
                raise SpoolError(f"{self._where} is closed")
            compaction = self._compaction = _Compaction()
            if self._idle:
                self._wake_writer()
        await compaction.done.wait()
        if compaction.problem is not None:
            raise compaction.problem.again()

    def _end_compaction(self, compaction: _Compaction) -> None:
        self._compaction = None
        compaction.done.set()

    def _incomplete(self, problem: SpoolError) -> None:
        """Tell who has asked for compaction of the first thing that went wrong."""
        if self._compaction is not None and self._compaction.problem is None:
            self._compaction.problem = problem

    def _copy(self, step: ReadStep) -> Job | None:
        """Append what a step has found, as far as it still counts."""
        ledger, index = self._ledger, self._index
        self._step = None
        self._position = step.end
        if step.damaged:
            text = f"{step.segment.path}: message {step.damaged.hex()} is damaged"
            self._problem(text)
            self._incomplete(SpoolError(text, errno.EIO))
        removals = [
            removal
            for removal in step.removals
            if ledger.needed(removal[1], removal[2] >> 32, step.segment.number)
        ]
        stores = {id: data for id, location, data in step.stores if index.get(id) == location}
        # Synced even if `flush` is off: what is copied may long have been safe where it was.
        job = self._append(stores, removals, sum(map(len, stores.values())), sync=True)
        if job is None:
            self._compacted_to(step.end)
        return job

    def _copied(self, job: Append) -> None:
        segment = cast("Segment", self._compacting)
        here = segment.number
        index = self._index
        kept = {id for id, _ in job.placed if index.get(id, 0) >> 64 == here}
        self._appended(job, kept)
        segment.moved += kept
        if job.removals:
            job.segment.held_bytes += RECORD + REMOVAL * len(job.removals)
        self._compacted_to(self._position)

    def _compacted_to(self, position: int) -> None:
        segment = cast("Segment", self._compacting)
        if position < segment.length:
            return
        self._compacting = None
        segment.pins.clear()  # its removals are now elsewhere, as far as they matter
        self._ledger.changed = True
        segment.stuck = segment.live > 0

    def _give_up(self, segment: Segment, error: Exception) -> None:
        problem = SpoolError.of(f"compact {segment.path}", error)
        self._problem(str(problem))
        self._incomplete(problem)
        self._compacting = None
        segment.stuck = True
