"""Open a spool of any kind: directory, lock, a look at what is there, index, thread."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

import trio

from kumo_py.spool.errors import SpoolError
from kumo_py.spool.file_ops import FileOps, write_all
from kumo_py.spool.free_space import FreeSpace
from kumo_py.spool.local_disk import LocalDisk, find_messages
from kumo_py.spool.rocksdb import RocksDB, open_database
from kumo_py.spool.segment_log import SegmentLog
from kumo_py.spool.segment_recovery import SEGMENT_NAME, recover

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.spool.config import SpoolConfig
    from kumo_py.spool.group_commit import GroupCommit

    Clock = Callable[[], float]
    Prepared = Callable[[Clock], GroupCommit]

_NO_ROCKSDICT = (
    "kind 'RocksDB' needs the package rocksdict (install kumo-py[rocksdb]); the segment log is used instead"
)
_NOT_ROCKSDB = "kind 'RocksDB' is configured, but the directory holds a segment log, which is used on"


async def open_spool(
    config: SpoolConfig, ops: FileOps | None = None, *, clock: Clock = time.monotonic
) -> GroupCommit:
    """Open a spool, making its directory if need be. `clock` gives seconds since whenever.

    Raises SpoolError; above all if another process has the spool, or if the directory holds messages in the
    format of another kind, which would be overlooked.
    """
    try:
        prepared = await trio.to_thread.run_sync(_prepare, config, ops or FileOps())
    except OSError as error:
        raise SpoolError.of(f"open spool '{config.name}' at {config.path}", error) from error
    return prepared(clock)


def _prepare(config: SpoolConfig, ops: FileOps) -> Prepared:
    """Do what blocks. Returns what makes the spool, on the trio thread."""
    _make_directory(ops, config.path)
    lock_fd = _lock(config, ops)
    try:
        kind, notice = _choose_kind(config, ops)
        prepared = _PREPARE[kind](config, ops, lock_fd)
    except BaseException:
        ops.close(lock_fd)
        raise

    def finish(clock: Clock) -> GroupCommit:
        spool = prepared(clock)
        spool.notice = notice or spool.notice
        return spool

    return finish


def _make_directory(ops: FileOps, path: str) -> None:
    try:
        ops.mkdir(path)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_directory(ops, os.path.dirname(os.path.abspath(path)))
        ops.mkdir(path)
    ops.fsync_dir(os.path.dirname(os.path.abspath(path)))


def _lock(config: SpoolConfig, ops: FileOps) -> int:
    """Take the lock file, and leave our process id in it."""
    path = os.path.join(config.path, "lock")
    fd = ops.open(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            ops.flock(fd)
        except BlockingIOError as error:
            owner = ops.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
            raise SpoolError(
                f"spool '{config.name}' at {config.path} is in use by process {owner} (it holds {path}); "
                "each spool needs a directory of its own",
                error.errno,
            ) from None
        with suppress(OSError):  # a full disk must not keep the spool from being emptied
            ops.ftruncate(fd, 0)
            write_all(ops, fd, [b"%d\n" % os.getpid()])
    except BaseException:
        ops.close(fd)
        raise
    return fd


def _choose_kind(config: SpoolConfig, ops: FileOps) -> tuple[str, str | None]:
    """The kind to be used, and what is to be said about that."""
    found = set()
    names = ops.listdir(config.path)
    if any(map(SEGMENT_NAME.fullmatch, names)):
        found.add("SegmentLog")
    if "CURRENT" in names:
        found.add("RocksDB")
    if "data" in names and ops.listdir(os.path.join(config.path, "data")):
        found.add("LocalDisk")
    kind: str = config.kind
    notice = None
    if kind == "RocksDB" and find_spec("rocksdict") is None:
        kind, notice = "SegmentLog", _NO_ROCKSDICT
    elif kind == "RocksDB" and found == {"SegmentLog"}:
        kind, notice = "SegmentLog", _NOT_ROCKSDB
    if other := sorted(found - {kind}):
        hint = " and install kumo-py[rocksdb]" if notice else ""
        raise SpoolError(
            f"spool '{config.name}' at {config.path} holds messages of kind '{other[0]}', which kind '{kind}' "
            f"would not see: set kind = '{other[0]}'{hint}, or use another path"
        )
    return kind, notice


def _segment_log(config: SpoolConfig, ops: FileOps, lock_fd: int) -> Prepared:
    problems: list[str] = []
    ledger = recover(ops, config.path, problems)

    def finish(clock: Clock) -> GroupCommit:
        spool = SegmentLog(config, ops, ledger, FreeSpace(config, ops, clock), lock_fd, clock)
        spool.problems += problems
        return spool

    return finish


def _local_disk(config: SpoolConfig, ops: FileOps, lock_fd: int) -> Prepared:
    problems: list[str] = []
    index = find_messages(ops, config.path, problems)

    def finish(clock: Clock) -> GroupCommit:
        spool = LocalDisk(config, ops, index, FreeSpace(config, ops, clock), lock_fd)
        spool.problems += problems
        return spool

    return finish


def _rocksdb(config: SpoolConfig, ops: FileOps, lock_fd: int) -> Prepared:
    database, index, notice = open_database(config)

    def finish(clock: Clock) -> GroupCommit:
        spool = RocksDB(config, ops, database, index, FreeSpace(config, ops, clock), lock_fd)
        spool.notice = notice
        return spool

    return finish


_PREPARE = {"SegmentLog": _segment_log, "LocalDisk": _local_disk, "RocksDB": _rocksdb}
