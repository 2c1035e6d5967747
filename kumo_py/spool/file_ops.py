"""Every disk call of the spool, in one place, so that a test can make each of them fail in turn.

All methods raise OSError. They may be called from any thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOT_CACHED = frozenset({errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class FileOps:
    """The operating system's calls. Paths are absolute or relative as given; sizes are bytes."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def close(self, fd: int) -> None:
        os.close(fd)

    def writev(self, fd: int, buffers: Sequence[bytes | memoryview]) -> int:
        """Write at most IOV_MAX buffers at the file's position; may write less than all."""
        return os.writev(fd, buffers)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def pread_cached(self, fd: int, size: int, offset: int) -> bytes | None:
        """Read without waiting for the disk: None unless all of it is in the page cache."""
        buffer = bytearray(size)
        try:
            if os.preadv(fd, [buffer], offset, os.RWF_NOWAIT) != size:
                return None
        except OSError as error:
            if error.errno in _NOT_CACHED:
                return None
            raise
        return bytes(buffer)

    def file_size(self, path: str) -> int:
        return os.stat(path).st_size

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def link(self, old: str, new: str) -> None:
        os.link(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def fsync_dir(self, path: str) -> None:
        """Make the entries of a directory durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def statvfs(self, path: str) -> os.statvfs_result:
        return os.statvfs(path)

    def flock(self, fd: int) -> None:
        """Take an exclusive lock without waiting (EWOULDBLOCK if another open file has it)."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


IOV_MAX: int = os.sysconf("SC_IOV_MAX")


def write_all(ops: FileOps, fd: int, buffers: Sequence[bytes]) -> None:
    """Write all of `buffers`, in as few calls as the system allows. Raises OSError."""
    for first in range(0, len(buffers), IOV_MAX):
        part: Sequence[bytes | memoryview] = buffers[first : first + IOV_MAX]
        left = sum(map(len, part))
        while True:
            written = ops.writev(fd, part)
            left -= written
            if left <= 0:
                break
            if written <= 0:
                raise OSError(errno.EIO, "the disk took no bytes")
            part = _unwritten(part, written)


def _unwritten(buffers: Sequence[bytes | memoryview], written: int) -> list[bytes | memoryview]:
    """What of `buffers` is left after their first `written` bytes."""
    rest = iter(buffers)
    for buffer in rest:
        if written < len(buffer):
            return [memoryview(buffer)[written:], *rest]
        written -= len(buffer)
    return []
