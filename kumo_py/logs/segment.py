"""Log segments: zstd streams of lines, one file after the other (KumoMTA's names, rotation and permissions).

A segment's name is the time at which it was opened, `YYYYMMDD-HHMMSS.fraction` in UTC, and a suffix. While it
is written the file is writable and locked (flock); losing its write permission tells that it is complete.
A line can be read FLUSH_INTERVAL after it was appended; a process that is killed loses no older one.

A line that was appended is not lost to a failing disk: what cannot be written waits in memory and is tried
again, without gap or repetition, at the place where the file ended.

Batches are compressed and written on trio's thread: 64 KB of lines take about 50 µs, most of it compression.
"""

from __future__ import annotations

import fcntl
import math
import os
import stat
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
import trio
import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

log = structlog.get_logger("kumo_py.logs.segment")

FLUSH_INTERVAL = 1.0
"""Seconds until an appended line can be read from the file."""

RETRY_INTERVAL = 1.0
"""Seconds between attempts to write while the disk fails."""

_BATCH = 64 * 1024
"""Bytes of lines that are compressed and written together."""

_STEP = 1024 * 1024
"""Bytes of a backlog that are written before trio's other tasks get their turn."""

_WRITE_BITS = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


class SegmentWriter:
    """Writes the segments of one directory and suffix; sizes in uncompressed bytes, durations in seconds.

    Nothing is created before the first line. When `due` (trio time) has come, `tend` wants to be called;
    `wake` is called when a line made it sooner.
    """

    __slots__ = (
        "_clean",
        "_clock",
        "_directory",
        "_expires",
        "_fd",
        "_header",
        "_lines",
        "_max_duration",
        "_max_size",
        "_pending",
        "_prefix",
        "_size",
        "_stream",
        "_suffix",
        "_threshold",
        "_unwritten",
        "_wake",
        "_zone",
        "_zstd",
        "due",
        "failing",
    )

    def __init__(
        self,
        directory: str,
        suffix: str,
        *,
        compression_level: int,
        max_size: int,
        max_duration: float | None,
        clock: Callable[[], float],
        wake: Callable[[], None],
        zone: tzinfo = UTC,
        prefix: str = "",
    ) -> None:
        """zone: of the times in the segments' names, which begin with `prefix`."""
        self._directory = directory
        self._prefix = prefix
        self._suffix = suffix
        self._zstd = zstandard.ZstdCompressor(level=compression_level)
        self._max_size = max_size
        self._max_duration = math.inf if max_duration is None else max_duration
        self._clock = clock
        self._wake = wake
        self._zone = zone
        self._lines: list[bytes] = []
        self._pending = 0  # bytes of them
        self._threshold = min(_BATCH, max_size)  # bytes of them that are written at once
        self._header = ""
        self._fd: int | None = None
        self._stream: zstandard.ZstdCompressionObj | None = None  # None: complete but for _unwritten
        self._unwritten = b""
        self._size = 0
        self._expires = math.inf
        self._clean = True  # no line came since the last flush
        self.due = math.inf
        self.failing = False
        """Whether the last attempt to write failed."""

    @property
    def waiting(self) -> int:
        """Lines that are only in memory, but for those in the compressor."""
        return len(self._lines)

    def append(self, line: bytes, header: str = "") -> None:
        """Take a line, LF included. header: begins a segment that is opened for it. Never fails."""
        if not self._lines:
            self._header = header
        self._lines.append(line)
        self._pending += len(line)
        if self._pending >= self._threshold and not self.failing:
            self._try(self._write_batches)
        if self._clean:
            self._clean = False
            self.due = min(self.due, trio.current_time() + FLUSH_INTERVAL)
            self._wake()

    def tend(self) -> None:
        """Flush, end a segment that has lasted long enough, try again what failed. Never fails."""
        now = trio.current_time()
        if self._try(self._end if now >= self._expires else self._flush):
            self._clean = not self._lines
            self.due = self._expires if self._clean else now

    def finish(self) -> bool:
        """Write all and end the segment: for the last time. False if something is lost."""
        try:
            while self._lines:
                self._write_batches()
            self._end()
            return True
        except OSError as err:
            log.error(
                "delivery log records are lost: the disk fails at the end",
                log_dir=self._directory,
                records=len(self._lines),
                compressed_bytes=len(self._unwritten),
                error=str(err),
            )
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
            return False

    def _try(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except OSError as err:
            if not self.failing:
                self.failing = True
                log.error(
                    "cannot write the delivery log; records wait in memory",
                    log_dir=self._directory,
                    error=str(err),
                )
            self.due = trio.current_time() + RETRY_INTERVAL
            return False
        if self.failing:
            self.failing = False
            log.info("the delivery log is written again", log_dir=self._directory)
        return True

    def _flush(self) -> None:
        """Make all that was appended readable; of a backlog, a part."""
        self._write_batches()
        if self._stream is not None and not self._lines:
            self._unwritten = self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
            self._write_out()

    def _end(self) -> None:
        """End the segment; of a backlog, write a part."""
        self._write_batches()
        if self._stream is not None and not self._lines:
            self._finish_stream()
            self._write_out()

    def _write_batches(self) -> None:
        self._write_out()
        budget = _STEP
        while self._lines and budget > 0:
            stream = self._stream or self._open()
            batch = self._take_batch()
            budget -= len(batch)
            self._size += len(batch)
            self._unwritten += stream.compress(batch)
            if self._size >= self._max_size:
                self._finish_stream()
            self._write_out()
        self._threshold = min(_BATCH, self._max_size - self._size)

    def _take_batch(self) -> bytes:
        """Lines until the batch or the segment is full."""
        lines = self._lines
        limit = min(_BATCH, self._max_size - self._size)
        if self._pending - len(lines[-1]) < limit:
            batch = b"".join(lines)
            lines.clear()
        else:
            count = total = 0
            while total < limit:
                total += len(lines[count])
                count += 1
            batch = b"".join(lines[:count])
            del lines[:count]
        self._pending -= len(batch)
        return batch

    def _finish_stream(self) -> None:
        if self._stream is not None:
            self._unwritten += self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)
            self._stream = None

    def _write_out(self) -> None:
        if self._fd is None:
            return
        while self._unwritten:
            written = os.write(self._fd, self._unwritten)
            self._unwritten = self._unwritten[written:]
        if self._stream is None:
            fd = self._fd
            _complete(fd)
            self._fd = None
            self._size = 0
            self._expires = math.inf
            os.close(fd)

    def _open(self) -> zstandard.ZstdCompressionObj:
        self._fd = self._create()
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._expires = trio.current_time() + self._max_duration
        self.due = min(self.due, self._expires)
        self._stream = self._zstd.compressobj()
        self._unwritten = self._stream.compress(self._header.encode("utf-8", "replace"))
        return self._stream

    def _create(self) -> int:
        microseconds = int(self._clock() * 1e6)
        while True:
            second, fraction = divmod(microseconds, 1_000_000)
            opened = datetime.fromtimestamp(second, self._zone)
            name = f"{self._prefix}{opened:%Y%m%d-%H%M%S}.{fraction:06d}{self._suffix}"
            path = os.path.join(self._directory, name)
            try:
                return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except FileExistsError:
                microseconds += 1
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path))


def complete_segments(directory: str) -> None:
    """Mark what earlier processes left unfinished as complete; a segment that somebody writes is left alone.

    Dot files are not ours. A directory that does not exist holds nothing. Raises OSError.
    """
    try:
        entries = os.scandir(directory)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
                continue
            if entry.stat(follow_symlinks=False).st_mode & _WRITE_BITS:
                try:
                    _complete_if_unlocked(entry.path)
                except OSError as err:
                    log.warning("cannot mark a log segment as complete", path=entry.path, error=str(err))


def _complete_if_unlocked(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _complete(fd)
    except BlockingIOError:
        pass
    finally:
        os.close(fd)


def _complete(fd: int) -> None:
    os.fchmod(fd, os.fstat(fd).st_mode & 0o7777 & ~_WRITE_BITS)
