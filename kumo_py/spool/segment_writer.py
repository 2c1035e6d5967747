"""The segment log's disk work, on the writer thread.

How a failed batch is kept from coming back, even after a restart:
1. The segment is truncated to where the batch began, and that is synced. It is not used on: after a failed
   sync, the kernel may have dropped the pages that it could not write and called them clean, so a later sync of
   this file would prove nothing. What was synced before stays good.
2. If that fails, the segment is sealed and renamed to NUMBER.LENGTH.cut, which recovery obeys.
3. If that fails too, the debt is kept, and no batch is written until it is settled: each next one tries again
   and fails while the debt stands. Only a crash during that time can bring the batch back; a disk that takes
   no byte, no truncation and no name leaves nothing better.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from kumo_py.spool.file_ops import write_all
from kumo_py.spool.records import RECORD, REMOVALS, Scan, check_record, unpack_removals
from kumo_py.spool.writer import Job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kumo_py.spool.file_ops import FileOps
    from kumo_py.spool.ledger import Segment
    from kumo_py.spool.records import Removal

_STEP_BYTES = 256 << 10
_STEP_RECORDS = 1000
"""A step of compaction ends when it has copied so many bytes of live data, or seen so many records."""

_WINDOW = 256 << 10


class SegmentWriter:
    """Appends to segments, and undoes what failed. Owned by the writer thread."""

    def __init__(self, ops: FileOps, directory: str, *, flush: bool) -> None:
        self._ops = ops
        self._directory = directory
        self._flush = flush
        self._debts: list[tuple[Segment, int]] = []  # segments, and the length up to which they count
        self._unsynced: Segment | None = None  # has removals that are not durable yet

    def append(self, segment: Segment, buffers: list[bytes], *, sync: bool) -> None:
        """Write all buffers at the end of the segment; it is made if it is not there. Raises OSError."""
        ops = self._ops
        self._settle()
        if self._unsynced is not segment:
            self._sync_removals()
        if segment.fd < 0:
            segment.fd = ops.open(segment.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        try:
            write_all(ops, segment.fd, buffers)
        except Exception:
            self._undo(segment)
            raise
        if sync:
            try:
                self.sync(segment)
            except Exception:
                segment.sealed = True
                self._undo(segment)
                raise
        elif self._flush:
            self._unsynced = segment

    def sync(self, segment: Segment) -> None:
        """Make the segment's content and its name durable. Raises OSError."""
        self._ops.fdatasync(segment.fd)
        if not segment.listed:
            self._ops.fsync_dir(self._directory)
            segment.listed = True
        if self._unsynced is segment:
            self._unsynced = None

    def unlink(self, segment: Segment, *, close: bool) -> None:
        """Remove a segment, durably. Raises OSError.

        What it holds may supersede an older copy of a message; a removal of both must be durable first.
        """
        if self._unsynced is segment:
            self._unsynced = None
        self._sync_removals()
        with suppress(FileNotFoundError):
            self._ops.unlink(segment.path)
        self._ops.fsync_dir(self._directory)
        self._debts = [debt for debt in self._debts if debt[0] is not segment]
        if close and segment.fd >= 0:
            fd, segment.fd = segment.fd, -1
            self._ops.close(fd)

    def _sync_removals(self) -> None:
        """Raises OSError, once: what a failed sync has lost no other sync brings back."""
        segment, self._unsynced = self._unsynced, None
        if segment is not None:
            self.sync(segment)

    def _undo(self, segment: Segment) -> None:
        try:
            self._ops.ftruncate(segment.fd, segment.length)
            if self._flush:
                self._ops.fdatasync(segment.fd)
        except OSError:
            segment.sealed = True
            self._debts.append((segment, segment.length))
            with suppress(OSError):
                self._settle()

    def _settle(self) -> None:
        while self._debts:
            segment, length = self._debts[-1]
            path = os.path.join(self._directory, f"{segment.number:010d}.{length}.cut")
            if segment.path != path:
                self._ops.rename(segment.path, path)
                segment.path = path
            self._ops.fsync_dir(self._directory)
            self._debts.pop()


class Append(Job):
    """Writes one batch."""

    __slots__ = ("_buffers", "_sync", "_writer", "placed", "removals", "segment", "size")

    def __init__(
        self,
        writer: SegmentWriter,
        segment: Segment,
        buffers: list[bytes],
        size: int,
        placed: list[tuple[bytes, int]],
        removals: list[Removal],
        *,
        sync: bool,
    ) -> None:
        super().__init__()
        self._writer = writer
        self._buffers = buffers
        self._sync = sync
        self.segment = segment
        self.size = size
        """Bytes in all buffers."""
        self.placed = placed
        """Ids and locations of the message records in them."""
        self.removals = removals

    def run(self) -> None:
        self._writer.append(self.segment, self._buffers, sync=self._sync)


class Unlink(Job):
    """Removes dead segments; `gone` are those for which it worked."""

    __slots__ = ("_segments", "_writer", "gone")

    def __init__(self, writer: SegmentWriter, segments: list[tuple[Segment, bool]]) -> None:
        super().__init__()
        self._writer = writer
        self._segments = segments
        self.gone: list[Segment] = []

    def run(self) -> None:
        for segment, close in self._segments:
            self._writer.unlink(segment, close=close)
            self.gone.append(segment)


class ReadStep(Job):
    """Reads a part of a segment that is being compacted, and keeps what may still be needed.

    `stores` and `removals` are to be written elsewhere; the next step goes on at `end`. `damaged` is the first
    live message that cannot be copied.
    """

    __slots__ = ("_index", "_ops", "_start", "damaged", "end", "removals", "segment", "stores")

    def __init__(self, ops: FileOps, segment: Segment, start: int, index: Mapping[bytes, int]) -> None:
        super().__init__()
        self._ops = ops
        self._start = start
        self._index = index  # the trio side changes it meanwhile, so it checks again
        self.segment = segment
        self.stores: list[tuple[bytes, int, bytes]] = []
        self.removals: list[Removal] = []
        self.end = start
        self.damaged: bytes | None = None

    def run(self) -> None:
        ops, segment = self._ops, self.segment
        base = segment.number << 64
        live_bytes = 0
        fd = ops.open(segment.path, os.O_RDONLY)
        try:
            scan = Scan(
                lambda size, offset: ops.pread(fd, size, offset), segment.length, verify=False, window=_WINDOW
            )
            records = scan.records(self._start, segment.marker)
            for kind, id, offset, length, data in islice(records, _STEP_RECORDS):
                location = base | offset << 32 | length
                if kind == REMOVALS:
                    self.removals += unpack_removals(data)
                elif self._index.get(id) == location:
                    message = check_record(ops.pread(fd, RECORD + length, offset), id)
                    if message is None:
                        self.damaged = self.damaged or id
                    else:
                        self.stores.append((id, location, message))
                        live_bytes += length
                self.end = scan.end
                if live_bytes >= _STEP_BYTES:
                    return
            if next(records, None) is None:
                self.end = segment.length
        finally:
            ops.close(fd)


class LastSync(Job):
    """Syncs the active segment before the spool is closed."""

    __slots__ = ("_segment", "_writer")

    def __init__(self, writer: SegmentWriter, segment: Segment | None) -> None:
        super().__init__()
        self._writer = writer
        self._segment = segment

    def run(self) -> None:
        if self._segment is not None and self._segment.fd >= 0:
            self._writer.sync(self._segment)
