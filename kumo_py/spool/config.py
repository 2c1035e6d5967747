"""Options of `kumo.define_spool`.

The names are KumoMTA's. Two defaults are ours: `kind` is the segment log, and `flush` is true, so that a
message answered 250 survives a power cut unless the policy says otherwise.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from kumo_py.core.duration import Duration

Compression = Literal["None", "Snappy", "Zlib", "Bz2", "Lz4", "Lz4hc", "Zstd"]
LogLevel = Literal["Debug", "Info", "Warn", "Error", "Fatal", "Header"]


class RocksParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`define_spool.rocks_params`: tuning of RocksDB; sizes are bytes, durations seconds."""

    increase_parallelism: int | None = None
    optimize_level_style_compaction: int | None = None
    optimize_universal_style_compaction: int | None = None
    paranoid_checks: bool = False
    compression_type: Compression = "Snappy"
    compaction_readahead_size: int | None = None
    level_compaction_dynamic_level_bytes: bool = False
    max_open_files: int | None = None
    write_buffer_size: int | None = None
    level0_stop_writes_trigger: int | None = None
    log_level: LogLevel = "Info"
    memtable_huge_page_size: int | None = None
    log_file_time_to_roll: Duration = Duration(86_400)
    obsolete_files_period: Duration = Duration(6 * 3600)
    limit_concurrent_stores: int | None = None
    limit_concurrent_loads: int | None = None
    limit_concurrent_removes: int | None = None
    store_deadline: Duration = Duration(30)
    error_latch_duration: Duration = Duration(15)
    error_unlatch_duration: Duration = Duration(300)
    allow_error_unlatch: bool = True


class SpoolConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One spool. Raises ValueError for a `min_free_*` that is neither "N%" nor a number."""

    name: str
    """data or meta."""
    path: str
    """A directory; made if it is not there."""
    kind: Literal["LocalDisk", "RocksDB", "SegmentLog"] = "SegmentLog"
    """How messages are stored."""
    flush: bool = True
    """Whether a write counts as done only when it is on stable storage."""
    min_free_space: str | int = "10%"
    """Free bytes, or "N%" of all, below which `free_space_low` holds."""
    min_free_inodes: str | int = "10%"
    """Free inodes, or "N%" of all, below which mail is refused."""
    rocks_params: RocksParams | None = None
    """Tuning of RocksDB."""

    def __post_init__(self) -> None:
        for option in ("min_free_space", "min_free_inodes"):
            value = getattr(self, option)
            try:
                parse_minimum(value)
            except ValueError:
                raise ValueError(
                    f"option '{option}' must be a percentage such as \"10%\" or a number, got {value!r}"
                ) from None


def parse_minimum(value: str | int) -> tuple[int, bool]:
    """Return the number, and whether it is a percentage (else bytes or inodes). Raises ValueError."""
    if isinstance(value, int):
        number, percent = value, False
    else:
        percent = value.endswith("%")
        number = int(value.removesuffix("%"))
    if number < 0 or (percent and number > 100):
        raise ValueError(value)
    return number, percent
