"""The `kumo.jsonl` module: follows log segments, and writes files like them."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import finalize
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import orjson
import trio

from kumo_py.core.duration import Duration
from kumo_py.core.glob import Glob
from kumo_py.logs.checkpoint import Checkpoint
from kumo_py.logs.segment import SegmentWriter
from kumo_py.logs.tailer import POLL_INTERVAL, Batch, Consumer, Tailer, Unjudged
from kumo_py.policy.file_glob import find_matches
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import BOOLEAN, FUNCTION, SHARED, TEXT, VALUE, ListOf, OptionTable, Values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.conversion import LuaValue

jsonl = Owner("kumo.jsonl")

_SINCE = "2026.04.09-ea3b2a9b"
_TIMESTAMPS_ARE_COARSE = 0.1  # seconds in which a directory may change twice without a new time of change


class _Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _Following(_Options, frozen=True):
    directory: str
    pattern: str = "*"
    poll_watcher: Duration = Duration(POLL_INTERVAL)
    tail: bool = False


class TailerOptions(_Following, frozen=True, kw_only=True):
    """`kumo.jsonl.new_tailer`."""

    max_batch_size: int = 100
    max_batch_latency: Duration = Duration(1)
    checkpoint_name: str | None = None


class ConsumerOptions(_Options, frozen=True):
    """One of the consumers of `kumo.jsonl.new_multi_tailer`."""

    name: str
    max_batch_size: int = 100
    max_batch_latency: Duration = Duration(1)
    checkpoint_name: str | None = None


class MultiTailerOptions(_Following, frozen=True, kw_only=True):
    """`kumo.jsonl.new_multi_tailer`."""

    consumers: list[ConsumerOptions]


class WriterOptions(_Options, frozen=True):
    """`kumo.jsonl.new_writer`; sizes in uncompressed octets."""

    log_dir: str
    max_file_size: int = 128 * 1024 * 1024
    compression_level: int = 3
    max_segment_duration: Duration | None = None
    suffix: str = ""
    tz: str = "UTC"


# -- Tailers -----------------------------------------------------------------------------------------------------
class _Finder:
    """The segments of a directory; it is read again only when it has changed."""

    def __init__(self, directory: str, pattern: str) -> None:
        """Raises ValueError for a bad pattern."""
        self._directory = directory
        self._glob = Glob(pattern)
        self._found: list[str] = []
        self._changed = -1

    def __call__(self) -> list[str]:
        """Raises OSError if there is no such directory."""
        pattern = self._glob.pattern
        changed = os.stat(self._directory).st_mtime_ns
        if "/" in pattern or changed != self._changed:
            self._found = [path for path in find_matches(pattern, self._directory) if self._is_segment(path)]
            settled = time.time_ns() - changed > _TIMESTAMPS_ARE_COARSE * 1e9
            self._changed = changed if settled else -1
        return self._found

    def _is_segment(self, path: str) -> bool:
        """Dot files are checkpoints."""
        is_hidden = os.path.basename(path).startswith(".")
        return not is_hidden and os.path.isfile(os.path.join(self._directory, path))


class LogTailer:
    """A tailer, and whether it was made for a single consumer."""

    def __init__(self, tailer: Tailer, *, is_single: bool) -> None:
        self.tailer = tailer
        self.is_single = is_single


class Records:
    """Goes through the records of a batch."""

    def __init__(self, records: Sequence[Any]) -> None:
        self.remaining = iter(records)


tailer = Kind("jsonl_tailer", LogTailer)
batch = Kind("jsonl_batch", Batch)
records_iterator = Kind("jsonl_records", Records)

jsonl.lua_function(
    "new_tailer",
    Param("options", OptionTable(TailerOptions)),
    Param("filter", VALUE, optional=True),
    doc="Follow the log segments of a directory; a record is left out if `filter(record)` is not true.",
    result=tailer.type,
    since=_SINCE,
)
jsonl.lua_function(
    "new_multi_tailer",
    Param("options", OptionTable(MultiTailerOptions)),
    doc="Follow the log segments of a directory for several consumers, each with a `filter` of its own.",
    result=tailer.type,
    since=_SINCE,
)
tailer.lua_function(
    "batches",
    doc="For a generic `for`: each batch; of a tailer with several consumers, a list of those that are ready.",
    result=FUNCTION,
    since=_SINCE,
)


@jsonl.function(
    "_new_tailer",
    Param("options", OptionTable(TailerOptions)),
    Param("filtered", BOOLEAN),
    result=tailer.type,
    serves="kumo.jsonl.new_tailer",
)
async def _new_tailer(ctx: LuaContext, options: TailerOptions, filtered: bool) -> LogTailer:
    """The part of new_tailer that is not about functions."""
    consumer = ConsumerOptions(
        name="default",
        max_batch_size=options.max_batch_size,
        max_batch_latency=options.max_batch_latency,
        checkpoint_name=options.checkpoint_name,
    )
    return LogTailer(await _opened(options, [consumer], [filtered]), is_single=True)


@jsonl.function(
    "_new_multi_tailer",
    Param("options", OptionTable(MultiTailerOptions)),
    Param("filtered", ListOf(BOOLEAN)),
    result=tailer.type,
    serves="kumo.jsonl.new_multi_tailer",
)
async def _new_multi_tailer(ctx: LuaContext, options: MultiTailerOptions, filtered: list[bool]) -> LogTailer:
    """The part of new_multi_tailer that is not about functions."""
    if not options.consumers:
        raise ValueError("option 'consumers' must have at least one")
    return LogTailer(await _opened(options, options.consumers, filtered), is_single=False)


async def _opened(options: _Following, consumers: list[ConsumerOptions], filtered: list[bool]) -> Tailer:
    made = []
    names = [consumer.checkpoint_name for consumer in consumers if consumer.checkpoint_name is not None]
    for name in names:
        if "/" in name or not name or names.count(name) > 1:
            raise ValueError(f"checkpoint_name must be a file name of its own, got '{name}'")
    for consumer, is_filtered in zip(consumers, filtered, strict=True):
        if consumer.max_batch_size < 1:
            raise ValueError(f"max_batch_size must be at least 1, got {consumer.max_batch_size}")
        checkpoint = None
        if consumer.checkpoint_name is not None:
            checkpoint = Checkpoint(options.directory, consumer.checkpoint_name)
        made.append(
            Consumer(
                consumer.name, consumer.max_batch_size, consumer.max_batch_latency, checkpoint, is_filtered
            )
        )
    finder = _Finder(options.directory, options.pattern)
    await trio.to_thread.run_sync(os.stat, options.directory)
    found = Tailer(options.directory, finder, made, poll=options.poll_watcher, tail=options.tail)
    await found.open()
    return found


@tailer.function("_next", result=Values(SHARED, VALUE), serves="jsonl_tailer:batches")
async def _next(ctx: LuaContext, of: LogTailer) -> tuple[LuaValue, list[Any] | None]:
    """What the loop gets: nothing at the end; or records that are to be filtered."""
    found = await of.tailer.next()
    if found is None:
        return None, None
    if isinstance(found, Unjudged):
        return None, found.values
    ctx.holds(sum(one.size for one in found))
    return found[0] if of.is_single else found, None


@tailer.function("_judge", Param("verdicts", ListOf(ListOf(BOOLEAN))), serves="jsonl_tailer:batches")
def _judge(ctx: LuaContext, of: LogTailer, verdicts: list[list[bool]]) -> None:
    """Which of the records the filters let through."""
    of.tailer.judge(verdicts)


@tailer.function("close", since=_SINCE)
def close(ctx: LuaContext, of: LogTailer) -> None:
    """Stop: whoever waits for a batch gets nil. What was not committed comes again."""
    of.tailer.close()


@tailer.meta("close")
def close_tailer(ctx: LuaContext, of: LogTailer) -> None:
    """Stop at the end of the block."""
    of.tailer.close()


# -- Batches -----------------------------------------------------------------------------------------------------
@batch.function("records", result=ListOf(VALUE), since=_SINCE)
def records(ctx: LuaContext, of: Batch) -> list[Any]:
    """All records as tables; none once it is committed."""
    return of.records


@batch.function("iter_records", result=records_iterator.type, since=_SINCE)
def iter_records(ctx: LuaContext, of: Batch) -> Records:
    """For a generic `for`: one record after the other."""
    return Records(of.records)


@records_iterator.meta("call", result=VALUE)
def next_record(ctx: LuaContext, of: Records) -> LuaValue:
    """The next record; nil at the end."""
    return next(of.remaining, None)


@batch.function("consumer_name", result=TEXT, since=_SINCE)
def consumer_name(ctx: LuaContext, of: Batch) -> str:
    """For whom it is: "default" unless the tailer has several consumers; empty once it is committed."""
    return "" if of.is_committed else of.consumer


@batch.function("commit", since=_SINCE)
async def commit(ctx: LuaContext, of: Batch) -> None:
    """Note in the checkpoint, if there is one, that this batch is done. A second time it does nothing."""
    await of.commit()


# -- Writers -----------------------------------------------------------------------------------------------------
class LogWriter:
    """Writes segments; the last is complete when it is closed."""

    def __init__(self, ctx: LuaContext, options: WriterOptions) -> None:
        """Raises ValueError."""
        try:
            zone = ZoneInfo(options.tz)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"option 'tz' must be the name of a time zone, got '{options.tz}'") from None
        if not 0 <= options.compression_level <= 22:
            raise ValueError(f"option 'compression_level' must be 0 to 22, got {options.compression_level}")
        if options.max_file_size < 1:
            raise ValueError(f"option 'max_file_size' must be at least 1, got {options.max_file_size}")
        self._directory = options.log_dir
        segments = SegmentWriter(
            options.log_dir,
            options.suffix,
            compression_level=options.compression_level or 3,
            max_size=options.max_file_size,
            max_duration=options.max_segment_duration,
            clock=ctx.env.host.wall,
            wake=lambda: None,
            zone=zone,
        )
        self._segments: SegmentWriter | None = segments
        finalize(self, _finish, segments)

    def write(self, line: bytes) -> None:
        """Raises OSError or ValueError; then the line is not written."""
        segments = self._segments
        if segments is None:
            raise ValueError("the writer has been closed")
        if segments.failing:
            segments.tend()
            if segments.failing:
                raise OSError(f"cannot write to {self._directory}; what was written before waits in memory")
        segments.append(line if line.endswith(b"\n") else line + b"\n")
        if segments.due <= trio.current_time():
            segments.tend()

    def close(self) -> None:
        """Raises OSError if something is lost."""
        segments, self._segments = self._segments, None
        if segments is not None and not segments.finish():
            raise OSError(f"not all that was written could be stored in {self._directory}")


def _finish(segments: SegmentWriter) -> None:
    """For a writer that nobody closed."""
    with suppress(RuntimeError):  # trio has ended
        segments.finish()


writer = Kind("jsonl_writer", LogWriter)


@jsonl.function("new_writer", Param("options", OptionTable(WriterOptions)), result=writer.type, since=_SINCE)
def new_writer(ctx: LuaContext, options: WriterOptions) -> LogWriter:
    """Write segments as the delivery log does; nothing is created before the first line."""
    if ctx.env.validating:
        raise ValueError("nothing is written while a configuration is only validated: see _VALIDATING_CONFIG")
    return LogWriter(ctx, options)


@writer.function("write_line", Param("line", TEXT), since=_SINCE)
def write_line(ctx: LuaContext, to: LogWriter, line: str) -> None:
    """Write a line; it can be read a second later, once another is written, or after close."""
    to.write(line.encode())


@writer.function("write_record", Param("value", VALUE), since=_SINCE)
def write_record(ctx: LuaContext, to: LogWriter, value: object) -> None:
    """Write a value as a line of JSON."""
    to.write(orjson.dumps(value))


@writer.function("close", since=_SINCE)
def close_writer(ctx: LuaContext, to: LogWriter) -> None:
    """Complete the segment. A second time it does nothing."""
    to.close()


@writer.meta("close")
def close_writer_block(ctx: LuaContext, to: LogWriter) -> None:
    """Complete the segment at the end of the block."""
    to.close()
