"""KumoMTA's kind `LocalDisk`: a file per message, for those who want files.

    PATH/data/aa/bb/cc/dd/REST   a message; the id in hex, cut in five
    PATH/new/ID                  one that is being written
    PATH/new/ID.old              a second name of one that is being replaced, until that is done

A message is written under `new`, synced, and renamed; the directories are synced at the end of the batch. If
anything fails, each step done so far is undone, replaced messages included. What cannot be undone is a debt:
no batch is written before it is settled. Whatever is left under `new` is removed when the spool is opened.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import trio

from kumo_py.spool.errors import SpoolError
from kumo_py.spool.file_ops import write_all
from kumo_py.spool.group_commit import Batch, GroupCommit
from kumo_py.spool.writer import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.spool.config import SpoolConfig
    from kumo_py.spool.file_ops import FileOps
    from kumo_py.spool.free_space import FreeSpace

_BRANCH = re.compile("[0-9a-f]{2}")
_LEAF = re.compile("[0-9a-f]{24}")
_READ_BYTES = 1 << 20
_READERS = 16

_Step = tuple["Callable[..., None]", tuple[str, ...]]
"""A disk call and its paths."""


def message_path(root: str, id: bytes) -> str:
    """Where KumoMTA keeps the message."""
    name = id.hex()
    return f"{root}/data/{name[:2]}/{name[2:4]}/{name[4:6]}/{name[6:8]}/{name[8:]}"


def find_messages(ops: FileOps, root: str, problems: list[str]) -> dict[bytes, int]:
    """Return the ids found, as an index. Removes orphans and empty directories. Blocks; raises OSError."""
    for part in ("new", "data"):
        with suppress(FileExistsError):
            ops.mkdir(f"{root}/{part}")
    ops.fsync_dir(root)
    for name in ops.listdir(f"{root}/new"):
        try:
            ops.unlink(f"{root}/new/{name}")
        except OSError as error:
            problems.append(f"{root}/new/{name}: cannot be removed: {error.strerror}")
    index: dict[bytes, int] = {}

    def visit(directory: str, prefix: str) -> bool:
        """Collect what is below; True if nothing was."""
        empty = True
        for name in ops.listdir(directory):
            path = f"{directory}/{name}"
            if len(prefix) == 8 and _LEAF.fullmatch(name):
                index[bytes.fromhex(prefix + name)] = 0
                empty = False
            elif len(prefix) < 8 and _BRANCH.fullmatch(name):
                if visit(path, prefix + name):
                    with suppress(OSError):
                        ops.rmdir(path)
                else:
                    empty = False
            else:
                problems.append(f"{path}: not part of the spool")
                empty = False
        return empty

    visit(f"{root}/data", "")
    return index


class _DiskWriter:
    """Owned by the writer thread."""

    def __init__(self, ops: FileOps, root: str, *, flush: bool) -> None:
        self._ops = ops
        self._root = root
        self._flush = flush
        self._sync = flush  # the batch in hand
        self._debts: list[_Step] = []
        self._changed: dict[str, None] = {}  # directories with entries that are not durable yet

    def store(self, messages: list[tuple[bytes, bytes, bool]], *, sync: bool) -> None:
        """Write messages: id, data, and whether it replaces one. If that raises, all of it is undone."""
        self._sync = self._flush or sync
        self._settle()
        undo: list[_Step] = []
        litter: list[str] = []
        try:
            for id, data, _ in messages:
                self._write(f"{self._root}/new/{id.hex()}", data, undo)
            for id, _, replaces in messages:
                self._publish(id, litter if replaces else None, undo)
            self._sync_directories()
        except Exception:
            self._debts = undo
            with suppress(OSError):
                self._settle()
                self._sync_directories()
            raise
        for old in litter:
            with suppress(OSError):
                self._ops.unlink(old)

    def _write(self, path: str, data: bytes, undo: list[_Step]) -> None:
        ops = self._ops
        fd = ops.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        undo.append((ops.unlink, (path,)))
        try:
            write_all(ops, fd, [data])
            if self._sync:
                ops.fdatasync(fd)
        finally:
            ops.close(fd)

    def _publish(self, id: bytes, litter: list[str] | None, undo: list[_Step]) -> None:
        """Give a written message its name. With `litter` it replaces one, whose second name goes there."""
        ops = self._ops
        temporary = f"{self._root}/new/{id.hex()}"
        path = message_path(self._root, id)
        if litter is None:
            self._make_directory(os.path.dirname(path))
            undo_rename: _Step = (self._withdraw, (path, temporary))
        else:
            old = temporary + ".old"
            with suppress(FileNotFoundError):
                ops.unlink(old)
            ops.link(path, old)
            undo.append((ops.unlink, (old,)))
            litter.append(old)
            undo_rename = (ops.rename, (old, path))
        ops.rename(temporary, path)
        undo.append(undo_rename)
        self._note(os.path.dirname(path))

    def remove(self, id: bytes) -> None:
        """Raises OSError if the message may still be there."""
        path = message_path(self._root, id)
        with suppress(FileNotFoundError):
            self._ops.unlink(path)
        with suppress(OSError):  # the first directory that is not empty
            for _ in range(4):
                path = os.path.dirname(path)
                self._ops.rmdir(path)

    def _withdraw(self, path: str, temporary: str) -> None:
        """Undo a rename: out of sight one way or the other."""
        try:
            self._ops.rename(path, temporary)
        except OSError:
            self._ops.unlink(path)

    def finish(self) -> None:
        """Settle what is owed, and make it durable. Raises OSError."""
        self._settle()
        self._sync_directories()

    def _make_directory(self, path: str) -> None:
        """Make a directory, and those above it."""
        try:
            self._ops.mkdir(path)
        except FileExistsError:
            return
        except FileNotFoundError:
            self._make_directory(os.path.dirname(path))
            self._ops.mkdir(path)
        self._note(os.path.dirname(path))

    def _note(self, directory: str) -> None:
        if self._sync:
            self._changed[directory] = None
        if self._sync and not self._flush:  # those above it may never have been synced
            while len(directory) > len(self._root):
                directory = os.path.dirname(directory)
                self._changed[directory] = None

    def _sync_directories(self) -> None:
        for directory in list(self._changed):
            with suppress(FileNotFoundError):
                self._ops.fsync_dir(directory)
            del self._changed[directory]

    def _settle(self) -> None:
        """Undo what is still to be undone, the last thing first."""
        while self._debts:
            step, paths = self._debts[-1]
            with suppress(FileNotFoundError):
                step(*paths)
            self._debts.pop()


class _Write(Job):
    """One batch. `unremoved` are the removals that failed; they do not make the batch fail."""

    __slots__ = ("_removes", "_sync", "_writer", "messages", "unremoved")

    def __init__(
        self,
        writer: _DiskWriter,
        removes: list[bytes],
        messages: list[tuple[bytes, bytes, bool]],
        *,
        sync: bool,
    ) -> None:
        super().__init__()
        self._writer = writer
        self._removes = removes
        self._sync = sync
        self.messages = messages
        self.unremoved: list[bytes] = []

    def run(self) -> None:
        for id in self._removes:
            try:
                self._writer.remove(id)
            except OSError:
                self.unremoved.append(id)
        if self.messages:
            self._writer.store(self.messages, sync=self._sync)


class _Finish(Job):
    __slots__ = ("_writer",)

    def __init__(self, writer: _DiskWriter) -> None:
        super().__init__()
        self._writer = writer

    def run(self) -> None:
        self._writer.finish()


class LocalDisk(GroupCommit):
    """See `kumo_py.spool.Spool`. The index maps every id to 0."""

    def __init__(
        self, config: SpoolConfig, ops: FileOps, index: dict[bytes, int], free_space: FreeSpace, lock_fd: int
    ) -> None:
        super().__init__(config, ops, index, free_space, lock_fd)
        self._root = config.path
        self._disk = _DiskWriter(ops, config.path, flush=config.flush)
        self._readers = trio.CapacityLimiter(_READERS)

    def _begin(self, batch: Batch) -> Job | None:
        index = self._index
        removes = [id for id, _ in batch.removes if id not in index]  # those in it were stored anew since
        messages = [(id, data, id in index) for id, data in batch.stores.items()]
        return _Write(self._disk, removes, messages, sync=batch.sync) if removes or messages else None

    def _written(self, batch: Batch, job: Job) -> list[tuple[bytes, int]]:
        job = cast("_Write", job)
        for id, _, _ in job.messages:
            if id in batch.stores:
                self._index[id] = 0
            else:
                self._bury(id, 0)
        return [(id, 0) for id in job.unremoved]

    def _last_job(self) -> Job:
        return _Finish(self._disk)

    async def _read(self, id: bytes, location: int) -> bytes:
        path = message_path(self._root, id)
        try:
            return await trio.to_thread.run_sync(_read_file, self._ops, path, limiter=self._readers)
        except OSError as error:
            if id not in self._index and error.errno == errno.ENOENT:
                raise KeyError(id) from None
            raise SpoolError.of(f"read {path}", error) from error


def _read_file(ops: FileOps, path: str) -> bytes:
    fd = ops.open(path, os.O_RDONLY)
    try:
        parts = []
        offset = 0
        while part := ops.pread(fd, _READ_BYTES, offset):
            parts.append(part)
            offset += len(part)
        return b"".join(parts)
    finally:
        ops.close(fd)
