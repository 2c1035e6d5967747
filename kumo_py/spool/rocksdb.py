"""KumoMTA's kind `RocksDB`, through the package rocksdict.

The keys are the ids, the values the data, as in KumoMTA. One write batch, synced if `flush`, per batch of ours;
RocksDB itself sees to it that a failed one leaves nothing. Of `rocks_params`, what rocksdict or the single
writer thread has no use for is named in the spool's notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import trio

from kumo_py.spool.config import RocksParams
from kumo_py.spool.errors import SpoolError
from kumo_py.spool.group_commit import Batch, GroupCommit
from kumo_py.spool.writer import Job

if TYPE_CHECKING:
    from rocksdict import Options, Rdict, WriteOptions

    from kumo_py.spool.config import SpoolConfig
    from kumo_py.spool.file_ops import FileOps
    from kumo_py.spool.free_space import FreeSpace

_READERS = 16
_LOG_FILES = 10

_IGNORED = (
    "log_level",
    "limit_concurrent_stores",
    "limit_concurrent_removes",
    "store_deadline",
    "error_latch_duration",
    "error_unlatch_duration",
    "allow_error_unlatch",
)


def open_database(config: SpoolConfig) -> tuple[Rdict, dict[bytes, int], str | None]:
    """Return the database, its keys as an index, and a notice. Blocks; raises SpoolError."""
    from rocksdict import Rdict

    params = config.rocks_params or RocksParams()
    try:
        database = Rdict(config.path, _options(params, flush=config.flush))
        index: dict[bytes, int] = dict.fromkeys(cast("list[bytes]", list(database.keys())), 0)
    except Exception as error:  # rocksdict raises bare Exception
        raise SpoolError.of(f"open spool '{config.name}' at {config.path}", error) from error
    defaults = RocksParams()
    ignored = [name for name in _IGNORED if getattr(params, name) != getattr(defaults, name)]
    notice = f"rocks_params without effect here: {', '.join(ignored)}" if ignored else None
    return database, index, notice


def _options(params: RocksParams, *, flush: bool) -> Options:
    from rocksdict import DBCompressionType, Options

    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_use_fsync(flush)
    options.set_keep_log_file_num(_LOG_FILES)
    for setter, value in (
        (options.increase_parallelism, params.increase_parallelism),
        (options.optimize_level_style_compaction, params.optimize_level_style_compaction),
        (options.optimize_universal_style_compaction, params.optimize_universal_style_compaction),
        (options.set_compaction_readahead_size, params.compaction_readahead_size),
        (options.set_max_open_files, params.max_open_files),
        (options.set_write_buffer_size, params.write_buffer_size),
        (options.set_level_zero_stop_writes_trigger, params.level0_stop_writes_trigger),
        (options.set_memtable_huge_page_size, params.memtable_huge_page_size),
    ):
        if value is not None:
            setter(value)
    options.set_paranoid_checks(params.paranoid_checks)
    options.set_level_compaction_dynamic_level_bytes(params.level_compaction_dynamic_level_bytes)
    options.set_compression_type(getattr(DBCompressionType, params.compression_type.lower())())
    options.set_log_file_time_to_roll(int(params.log_file_time_to_roll))
    options.set_delete_obsolete_files_period_micros(int(params.obsolete_files_period * 1e6))
    return options


class _Write(Job):
    __slots__ = ("_database", "_options", "_removes", "messages")

    def __init__(
        self,
        database: Rdict,
        options: WriteOptions,
        removes: list[bytes],
        messages: list[tuple[bytes, bytes]],
    ) -> None:
        super().__init__()
        self._database = database
        self._options = options
        self._removes = removes
        self.messages = messages

    def run(self) -> None:
        from rocksdict import WriteBatch

        batch = WriteBatch(raw_mode=True)
        for id in self._removes:
            batch.delete(id)
        for id, data in self.messages:
            batch.put(id, data)
        self._database.write(batch, self._options)


class _Close(Job):
    __slots__ = ("_database",)

    def __init__(self, database: Rdict) -> None:
        super().__init__()
        self._database = database

    def run(self) -> None:
        try:
            self._database.flush_wal(True)
        finally:
            self._database.close()


class RocksDB(GroupCommit):
    """See `kumo_py.spool.Spool`. The index maps every id to 0."""

    def __init__(
        self,
        config: SpoolConfig,
        ops: FileOps,
        database: Rdict,
        index: dict[bytes, int],
        free_space: FreeSpace,
        lock_fd: int,
    ) -> None:
        from rocksdict import WriteOptions

        super().__init__(config, ops, index, free_space, lock_fd)
        self._database = database
        self._plain, self._synced = WriteOptions(), WriteOptions()
        self._synced.sync = True
        self._flush = config.flush
        params = config.rocks_params or RocksParams()
        self._readers = trio.CapacityLimiter(params.limit_concurrent_loads or _READERS)

    def figure(self, name: str) -> int:
        """One of the engine's numbers about itself, by RocksDB's name; 0 if it does not tell."""
        found: int | None = self._database.property_int_value(name)
        return found or 0

    def _begin(self, batch: Batch) -> Job | None:
        index = self._index
        removes = [id for id, _ in batch.removes if id not in index]  # those in it were stored anew since
        messages = list(batch.stores.items())
        if not removes and not messages:
            return None
        sync = (self._flush or batch.sync) and messages
        return _Write(self._database, self._synced if sync else self._plain, removes, messages)

    def _written(self, batch: Batch, job: Job) -> list[tuple[bytes, int]]:
        for id, _ in cast("_Write", job).messages:
            if id in batch.stores:
                self._index[id] = 0
            else:
                self._bury(id, 0)
        return []

    async def compact(self) -> None:
        """See `Spool.compact`. Beside the writer thread: RocksDB goes on writing meanwhile."""

        def run() -> None:
            self._database.flush(True)
            self._database.compact_range(None, None)

        try:
            await trio.to_thread.run_sync(run, limiter=self._readers)
        except Exception as error:
            raise SpoolError.of(f"compact {self._where}", error) from error

    def _last_job(self) -> Job:
        return _Close(self._database)

    async def _read(self, id: bytes, location: int) -> bytes:
        try:
            data = await trio.to_thread.run_sync(self._database.get, id, limiter=self._readers)
        except Exception as error:
            raise SpoolError.of(f"read message {id.hex()} from {self._where}", error) from error
        if data is None:
            if id in self._index:
                raise SpoolError(f"{self._where} has lost message {id.hex()}")
            raise KeyError(id)
        return cast("bytes", data)
