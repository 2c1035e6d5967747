"""The `kumo.fs` module: files and directories, looked at in threads so that nothing else waits for the disk."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast
from weakref import finalize

import trio

from kumo_py.core.lruttl import LruTtl
from kumo_py.core.suggest import nearest
from kumo_py.policy.file_glob import find_matches
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.modules.time import Time, moment
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import BOOLEAN, BYTES, INTEGER, NUMBER, TEXT, ListOf, OneOf

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.conversion import LuaValue

_T = TypeVar("_T")

fs = Owner("kumo.fs")

DEFAULT_TTL = 60.0
"""Seconds that the matches of a pattern are remembered."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHUNK = 1024 * 1024
_SINCE = "2025.10.06-5ec871ab"
_METADATA_SINCE = "2026.04.09-ea3b2a9b"
_DEPRECATED_SINCE = "2024.06.10-84e84b89"
_PATH = Param("path", TEXT)
_PATTERN = Param("pattern", TEXT)
_RELATIVE_TO = Param("relative_to", TEXT, optional=True)
_PATHS = ListOf(TEXT)

_MODES = {
    "r": (os.O_RDONLY, "rb"),
    "w": (os.O_WRONLY | os.O_CREAT, "wb"),
    "a": (os.O_WRONLY | os.O_CREAT | os.O_APPEND, "ab"),
    "r+": (os.O_RDWR | os.O_CREAT, "r+b"),
    "w+": (os.O_RDWR | os.O_CREAT | os.O_TRUNC, "r+b"),
    "a+": (os.O_RDWR | os.O_CREAT | os.O_APPEND, "a+b"),
}
_WHENCE = {"set": os.SEEK_SET, "cur": os.SEEK_CUR, "end": os.SEEK_END}


class GlobCache(LruTtl[tuple[str, str], list[str]]):
    """What patterns matched, by pattern and directory."""

    def __init__(self) -> None:
        super().__init__("mod_filesystem_glob_cache", 32)


# -- Directories -------------------------------------------------------------------------------------------------
@kumo.function("read_dir", _PATH, result=_PATHS, since=_DEPRECATED_SINCE)
@fs.function("read_dir", _PATH, result=_PATHS, since=_SINCE)
async def read_dir(ctx: LuaContext, path: str) -> list[str]:
    """The paths of what is in a directory: its own path and the names, sorted."""
    names = await trio.to_thread.run_sync(os.listdir, path)
    return [_utf8(os.path.join(path, name)) for name in sorted(names)]


def _utf8(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the file name {path!r} is not UTF-8") from None
    return path


@kumo.function("uncached_glob", _PATTERN, _RELATIVE_TO, result=_PATHS, since=_DEPRECATED_SINCE)
@fs.function("uncached_glob", _PATTERN, _RELATIVE_TO, result=_PATHS, since=_SINCE)
async def uncached_glob(ctx: LuaContext, pattern: str, relative_to: str | None) -> list[str]:
    """The paths that match a pattern, sorted; relative ones are below `relative_to`, the current directory if nil."""
    matches = await trio.to_thread.run_sync(find_matches, pattern, relative_to or ".")
    return [_utf8(path) for path in matches]


_TTL = Param("ttl_seconds", NUMBER, optional=True)


@kumo.function("glob", _PATTERN, _RELATIVE_TO, _TTL, result=_PATHS, since=_DEPRECATED_SINCE)
@fs.function("glob", _PATTERN, _RELATIVE_TO, _TTL, result=_PATHS, since=_SINCE)
async def glob(ctx: LuaContext, pattern: str, relative_to: str | None, ttl: float | None) -> list[str]:
    """As uncached_glob, but the answer is remembered for `ttl_seconds`, 60 unless given, for all contexts."""
    cache = ctx.env.state(GlobCache)
    key = pattern, relative_to or "."
    found = cache.get(key, trio.current_time())
    if found is None:
        found = await uncached_glob(ctx, pattern, relative_to)
        cache.put(key, found, trio.current_time() + (DEFAULT_TTL if ttl is None else ttl))
    return found


# -- Metadata ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Metadata:
    """What the file system knows of a file."""

    path: str
    stat: os.stat_result


metadata = Kind("fs_metadata", Metadata)


@fs.function("metadata_for_path", _PATH, result=metadata.type, since=_METADATA_SINCE)
async def metadata_for_path(ctx: LuaContext, path: str) -> Metadata:
    """What the file system knows of a file; of a symbolic link, of what it leads to."""
    return Metadata(path, await trio.to_thread.run_sync(os.stat, path))


@fs.function("symlink_metadata_for_path", _PATH, result=metadata.type, since=_METADATA_SINCE)
async def symlink_metadata_for_path(ctx: LuaContext, path: str) -> Metadata:
    """What the file system knows of a file; of a symbolic link, of the link itself."""
    return Metadata(path, await trio.to_thread.run_sync(os.lstat, path))


@metadata.field("path", TEXT, since=_METADATA_SINCE)
def path_(ctx: LuaContext, of: Metadata) -> str:
    """The path that was asked for."""
    return of.path


def _mode_test(name: str, test: Callable[[int], bool], doc: str) -> None:
    def field(ctx: LuaContext, of: Metadata) -> bool:
        return test(of.stat.st_mode)

    field.__doc__ = doc
    metadata.field(name, BOOLEAN, since=_METADATA_SINCE)(field)


_mode_test("is_file", stat.S_ISREG, "Whether it is a regular file.")
_mode_test("is_dir", stat.S_ISDIR, "Whether it is a directory.")
_mode_test("is_symlink", stat.S_ISLNK, "Whether it is a symbolic link.")
_mode_test("readonly", lambda mode: not mode & 0o222, "Whether nobody has write permission.")


def _number(name: str, attribute: str, doc: str) -> None:
    def field(ctx: LuaContext, of: Metadata) -> int:
        value: int = getattr(of.stat, attribute)
        return value

    field.__doc__ = doc
    metadata.field(name, INTEGER, since=_METADATA_SINCE)(field)


for _name, _attribute, _doc in (
    ("len", "st_size", "Its size in octets."),
    ("size", "st_size", "Its size in octets."),
    ("dev", "st_dev", "The device that holds it."),
    ("ino", "st_ino", "The number of its inode."),
    ("mode", "st_mode", "Its type and permissions."),
    ("nlink", "st_nlink", "The number of its hard links."),
    ("uid", "st_uid", "The user that owns it."),
    ("gid", "st_gid", "The group that owns it."),
    ("rdev", "st_rdev", "The device that it is, if it is one."),
    ("blksize", "st_blksize", "The size of a block that is good for reading and writing."),
    ("blocks", "st_blocks", "The number of 512-octet blocks that it takes."),
):
    _number(_name, _attribute, _doc)


def _time(name: str, doc: str) -> None:
    def field(ctx: LuaContext, of: Metadata) -> Time:
        nanoseconds: int = getattr(of.stat, f"st_{name}_ns")
        return Time(_EPOCH + timedelta(microseconds=nanoseconds // 1000))

    field.__doc__ = doc
    metadata.field(name, moment.type, since=_METADATA_SINCE)(field)


_time("atime", "When it was read last.")
_time("mtime", "When its content was changed last.")
_time("ctime", "When its content or metadata were changed last.")


# -- Files -------------------------------------------------------------------------------------------------------
class AsyncFile:
    """An open file; one operation at a time, each in a thread."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._turn = trio.Lock()
        finalize(self, file.close)

    async def do(self, what: str, operation: Callable[[BinaryIO], _T]) -> _T:
        """Raises OSError, or ValueError once the file is closed."""
        async with self._turn:
            if self._file.closed:
                raise ValueError(f"cannot {what} a file that was closed")
            return await trio.to_thread.run_sync(operation, self._file)

    async def close(self) -> None:
        """Write out what is buffered and close, if it is not closed yet."""
        async with self._turn:
            await trio.to_thread.run_sync(self._file.close)


file = Kind("async_file", AsyncFile)


@fs.function("open", _PATH, Param("mode", TEXT, optional=True), result=file.type, since=_SINCE)
async def open_(ctx: LuaContext, path: str, mode: str | None) -> AsyncFile:
    """Open a file: r, w, a, r+, w+ or a+, with or without b. Of these, only w+ empties it."""
    mode = mode or "r"
    known = _MODES.get(mode.replace("b", "", 1))
    if known is None:
        near = nearest(mode, _MODES)
        raise ValueError(
            f"unsupported file mode '{mode}'; the modes are {', '.join(_MODES)}"
            + (f"; did you mean '{near}'?" if near else "")
        )
    flags, kind = known
    if flags != os.O_RDONLY and ctx.env.validating:
        raise ValueError("nothing is written while a configuration is only validated: see _VALIDATING_CONFIG")

    def open_file() -> BinaryIO:
        # `kind` alone would have Python truncate.
        opened = open(path, kind, opener=lambda name, _: os.open(name, flags | os.O_CLOEXEC, 0o666))  # noqa: SIM115
        return cast("BinaryIO", opened)

    return AsyncFile(await trio.to_thread.run_sync(open_file))


@file.function("read", Param("size", INTEGER, optional=True), result=BYTES, since=_SINCE)
async def read(ctx: LuaContext, open_file: AsyncFile, size: int | None) -> bytes:
    """At most `size` octets, or all that are left; an empty string at the end."""
    limit = ctx.env.limits.memory
    wanted = limit + 1 if size is None else size
    if wanted < 0:
        raise ValueError(f"argument 'size' must not be negative, got {size}")
    content = await open_file.do("read", lambda inner: _read(inner, min(wanted, limit + 1)))
    if len(content) > limit:
        raise ValueError(f"more than {limit} octets are too many to read at once: give a size")
    return content


def _read(inner: BinaryIO, size: int) -> bytes:
    """Python would reserve the whole size at once."""
    parts: list[bytes] = []
    while size > 0 and (part := inner.read(min(size, _CHUNK))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


@file.function("write", Param("content", BYTES), since=_SINCE)
async def write(ctx: LuaContext, open_file: AsyncFile, content: bytes) -> None:
    """Write all of it; what is buffered can be read by others after flush, seek or close."""
    await open_file.do("write", lambda inner: inner.write(content))


@file.function("flush", since=_SINCE)
async def flush(ctx: LuaContext, open_file: AsyncFile) -> None:
    """Write out what is buffered."""
    await open_file.do("flush", lambda inner: inner.flush())


@file.function(
    "seek",
    Param("whence", OneOf(INTEGER, TEXT), optional=True),
    Param("offset", OneOf(INTEGER, TEXT), optional=True),
    result=INTEGER,
    since=_SINCE,
)
async def seek(ctx: LuaContext, open_file: AsyncFile, one: LuaValue, other: LuaValue) -> int:
    """Go to `offset`, 0 unless given, from `whence`: set, cur or end; cur unless given. Gives the new place."""
    given = [value for value in (one, other) if value is not None]
    names = [value for value in given if isinstance(value, str)]
    offsets = [value for value in given if isinstance(value, int)]
    if len(names) > 1 or len(offsets) > 1 or (names and names[0] not in _WHENCE):
        raise ValueError("takes one of 'set', 'cur' and 'end', and a number")
    whence = _WHENCE[names[0] if names else "cur"]
    offset = offsets[0] if offsets else 0

    def sought(inner: BinaryIO) -> int:
        inner.flush()
        return inner.seek(offset, whence)

    return await open_file.do("seek in", sought)


@file.function("close", since=_SINCE)
async def close(ctx: LuaContext, open_file: AsyncFile) -> None:
    """Write out what is buffered and close the file."""
    await open_file.close()
