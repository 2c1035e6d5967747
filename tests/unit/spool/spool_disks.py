"""Disks for the spool's tests: one in memory that can lose its power, and one that fails on demand."""

from __future__ import annotations

import errno
import os
import posixpath
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, cast

import trio
import trio.lowlevel

from kumo_py.spool import FileOps, Spool, SpoolConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from kumo_py.spool.group_commit import GroupCommit

ROOT = "/spool"
CALLS = [name for name in vars(FileOps) if not name.startswith("_")]


class _File:
    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.durable = content


class MemoryDisk(FileOps):
    """A file system in memory that knows what was synced. Thread-safe by one lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._directories: dict[str, dict[str, _File | None]] = {"/": {}}  # None: a directory
        self._durable: dict[str, dict[str, _File | None]] = {"/": {}}
        self._open: dict[int, _File] = {}
        self._positions: dict[int, int | None] = {}  # None: append
        self._locked: dict[int, _File] = {}
        self._next_fd = 1000
        self.free = 0.5
        self.inodes = 0.5

    def _place(self, path: str) -> tuple[dict[str, _File | None], str]:
        directory, name = posixpath.split(path.rstrip("/"))
        if directory not in self._directories:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        return self._directories[directory], name

    def _file(self, path: str) -> _File:
        entries, name = self._place(path)
        file = entries.get(name)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return file

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        with self._lock:
            entries, name = self._place(path)
            if name in entries:
                if flags & os.O_EXCL:
                    raise FileExistsError(errno.EEXIST, "exists", path)
            elif flags & os.O_CREAT:
                entries[name] = _File()
            file = self._file(path)
            if flags & os.O_TRUNC:
                file.content.clear()
            self._next_fd += 1
            self._open[self._next_fd] = file
            self._positions[self._next_fd] = None if flags & os.O_APPEND else 0
            return self._next_fd

    def close(self, fd: int) -> None:
        with self._lock:
            del self._open[fd]
            self._locked.pop(fd, None)

    def writev(self, fd: int, buffers: Sequence[bytes | memoryview]) -> int:
        with self._lock:
            file, data = self._open[fd], b"".join(buffers)
            position = self._positions[fd]
            start = len(file.content) if position is None else position
            file.content[start : start + len(data)] = data
            if position is not None:
                self._positions[fd] = start + len(data)
            return len(data)

    def fdatasync(self, fd: int) -> None:
        with self._lock:
            self._open[fd].durable = bytes(self._open[fd].content)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        with self._lock:
            return bytes(self._open[fd].content[offset : offset + size])

    def pread_cached(self, fd: int, size: int, offset: int) -> bytes | None:
        return self.pread(fd, size, offset) if offset % 2 else None

    def file_size(self, path: str) -> int:
        with self._lock:
            return len(self._file(path).content)

    def ftruncate(self, fd: int, size: int) -> None:
        with self._lock:
            del self._open[fd].content[size:]

    def rename(self, old: str, new: str) -> None:
        with self._lock:
            file = self._file(old)
            entries, name = self._place(new)
            entries[name] = file
            entries, name = self._place(old)
            del entries[name]

    def link(self, old: str, new: str) -> None:
        with self._lock:
            file = self._file(old)
            entries, name = self._place(new)
            if name in entries:
                raise FileExistsError(errno.EEXIST, "exists", new)
            entries[name] = file

    def unlink(self, path: str) -> None:
        with self._lock:
            self._file(path)
            entries, name = self._place(path)
            del entries[name]

    def listdir(self, path: str) -> list[str]:
        with self._lock:
            if path not in self._directories:
                raise FileNotFoundError(errno.ENOENT, "no such directory", path)
            return list(self._directories[path])

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        with self._lock:
            entries, name = self._place(path)
            if name in entries:
                raise FileExistsError(errno.EEXIST, "exists", path)
            entries[name] = None
            self._directories[path] = {}
            self._durable.setdefault(path, {})

    def rmdir(self, path: str) -> None:
        with self._lock:
            if self._directories[path]:
                raise OSError(errno.ENOTEMPTY, "not empty", path)
            entries, name = self._place(path)
            del entries[name], self._directories[path]

    def fsync_dir(self, path: str) -> None:
        with self._lock:
            self._durable[path] = dict(self._directories[path])

    def statvfs(self, path: str) -> os.statvfs_result:
        bavail, favail = int(self.free * 1000), int(self.inodes * 1000)
        return os.statvfs_result((4096, 4096, 1000, bavail, bavail, 1000, favail, favail, 0, 255))

    def flock(self, fd: int) -> None:
        with self._lock:
            if self._open[fd] in self._locked.values():
                raise BlockingIOError(errno.EWOULDBLOCK, "locked")
            self._locked[fd] = self._open[fd]

    def after_kill(self) -> MemoryDisk:
        """The disk as the next process finds it when this one is killed now."""
        with self._lock:
            return self._copy(self._directories, lambda file: bytes(file.content))

    def after_power_cut(self) -> MemoryDisk:
        """The disk when all that was not synced is lost."""
        with self._lock:
            return self._copy(self._durable, lambda file: file.durable)

    def _copy(
        self, directories: dict[str, dict[str, _File | None]], content: Callable[[_File], bytes]
    ) -> MemoryDisk:
        disk = MemoryDisk()

        def visit(path: str) -> None:
            entries = directories.get(path, {})
            copied = {name: file and _File(content(file)) for name, file in entries.items()}
            disk._directories[path], disk._durable[path] = copied, dict(copied)
            for name, file in entries.items():
                if file is None:
                    visit(posixpath.join(path, name))

        visit("/")
        return disk


class FaultyOps(FileOps):
    """Passes every call on to `inner`, after asking `fault(name, count)`: how often it was called is counted.

    `fault` returns None, an errno, or "short" (writev writes a part and then fails with ENOSPC).
    """

    def __init__(self, inner: FileOps) -> None:
        self.inner = inner
        self.counts: dict[str, int] = dict.fromkeys(CALLS, 0)
        self.fault: Callable[[str, int], int | str | None] = lambda name, count: None
        self._full = False
        for name in CALLS:
            setattr(self, name, self._wrap(name))

    def _wrap(self, name: str) -> Callable[..., Any]:
        function = getattr(self.inner, name)

        def call(*args: Any) -> Any:
            self.counts[name] += 1
            fault = self.fault(name, self.counts[name])
            if self._full and name == "writev":
                self._full = False
                fault = errno.ENOSPC
            if fault == "short":
                fd, buffers = args
                self._full = True
                data = b"".join(buffers)
                return function(fd, [data[: len(data) * 2 // 3]])
            if fault is not None:
                raise OSError(fault, os.strerror(cast("int", fault)))
            return function(*args)

        return call


def config(root: str = ROOT, **options: Any) -> SpoolConfig:
    return SpoolConfig(name="data", path=root, **options)


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


async def settled(spool: Spool) -> None:
    """Wait until the writer has nothing to do."""
    spool = cast("GroupCommit", spool)
    with trio.fail_after(5):
        while not spool._idle:
            await trio.lowlevel.checkpoint()


@asynccontextmanager
async def held_back(spool: Spool) -> AsyncIterator[list[Any]]:
    """Keep jobs from the writer thread; give them to it at the end."""
    writer = cast("GroupCommit", spool)._writer
    submit = writer.submit
    jobs: list[Any] = []
    writer.submit = jobs.append
    yield jobs
    writer.submit = submit
    for job in jobs:
        submit(job)


async def quiet(spool: Spool) -> None:
    """Let the spool believe that nothing has happened for a while, and do its chores."""
    cast("GroupCommit", spool)._on_quiet()
    await settled(spool)


async def contents(spool: Spool) -> dict[bytes, bytes]:
    found = {id: await spool.load(id) for id in spool.ids()}
    assert len(found) == len(spool)
    return found


async def save(spool: Spool, number: int, data: bytes) -> None:
    await spool.wait_durable(spool.store(key(number), data))


@contextmanager
def patched(module: Any, **values: Any) -> Iterator[None]:
    """Module constants changed for a while; hypothesis does not like the monkeypatch fixture."""
    before = {name: getattr(module, name) for name in values}
    vars(module).update(values)
    try:
        yield
    finally:
        vars(module).update(before)
