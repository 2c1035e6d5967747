"""Disks and spools."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from kumo_py.admin.metrics.metric import gauge, seconds
from kumo_py.spool.rocksdb import RocksDB

if TYPE_CHECKING:
    from kumo_py.admin.exposition import Family
    from kumo_py.admin.metrics.metric import Metric
    from kumo_py.admin.node import Node
    from kumo_py.spool.messages import MessageSpool

BYTES = gauge("disk_free_bytes", "Bytes free on the file system of a spool or log directory", "name")
BYTES_PERCENT = gauge("disk_free_percent", "The same, in percent of its size", "name")
INODES = gauge("disk_free_inodes", "Inodes free on the file system of a spool or log directory", "name")
INODES_PERCENT = gauge("disk_free_inodes_percent", "The same, in percent of all", "name")
SPOOLED = gauge("kumo_py_spool_messages", "Messages in a spool", "name")
UNHEALTHY = gauge("kumo_py_spool_unhealthy", "1 while removals cannot be written", "name")
SAVE = seconds("message_save_latency", "Seconds to save a message, until it is durable; one in 16 is timed")
LOAD_DATA = seconds("message_data_load_latency", "Seconds to load a message's content")
LOAD_META = seconds("message_meta_load_latency", "Seconds to load a message's metadata")
SHEDDING = gauge("rocks_spool_load_shed_active", "1 while removals cannot be written", "path")
_ROCKS = tuple(
    (gauge(f"rocks_spool_{name}", help_, "path"), f"rocksdb.{engine_name}")
    for name, engine_name, help_ in (
        ("mem_table_total", "size-all-mem-tables", "Bytes of memory tables"),
        ("mem_table_unflushed", "cur-size-all-mem-tables", "Bytes of memory tables that are not on disk"),
        ("mem_table_readers_total", "estimate-table-readers-mem", "Bytes of memory for reading tables"),
        ("cache_total", "block-cache-usage", "Bytes of the block cache"),
        ("background_errors", "background-errors", "Errors of the engine's own threads"),
        ("write_stopped", "is-write-stopped", "1 while the engine takes no writes"),
        (
            "actual_delayed_write_rate",
            "actual-delayed-write-rate",
            "Bytes per second that writes are slowed down to, or 0",
        ),
        ("compaction_pending", "compaction-pending", "1 when a compaction is due"),
        ("num_running_compactions", "num-running-compactions", "Compactions that run"),
        (
            "estimate_pending_compaction_bytes",
            "estimate-pending-compaction-bytes",
            "Bytes that are to be compacted",
        ),
    )
)

METRICS = (
    *(BYTES, BYTES_PERCENT, INODES, INODES_PERCENT, SPOOLED, UNHEALTHY, SAVE, LOAD_DATA, LOAD_META, SHEDDING),
    *(metric for metric, _ in _ROCKS),
)


async def collect(node: Node) -> list[Family]:
    """Disks are asked in a thread, as one that is ill may take its time."""
    spools = node.spools
    paths = {f"{name} spool": spool.path for name, spool in spools.items()}
    for logger in node.log.loggers:
        paths |= {f"log dir {directory}": directory for directory in logger.directories}
    disks = await trio.to_thread.run_sync(_free, paths, abandon_on_cancel=True)
    families = [metric.each(values) for metric, values in disks.items()]
    families.append(SPOOLED.each({name: len(spool) for name, spool in spools.items()}))
    families.append(UNHEALTHY.each({name: int(spool.unhealthy) for name, spool in spools.items()}))
    engines = [spool for spool in spools.values() if isinstance(spool, RocksDB)]
    families.append(SHEDDING.each({engine.path: int(engine.unhealthy) for engine in engines}))
    for metric, name in _ROCKS:
        families.append(metric.each({engine.path: engine.figure(name) for engine in engines}))
    return families


def of_messages(spool: MessageSpool) -> list[Family]:
    return [
        SAVE.value(spool.save_time),
        LOAD_DATA.value(spool.data_load_time),
        LOAD_META.value(spool.meta_load_time),
    ]


def _free(paths: dict[str, str]) -> dict[Metric, dict[str, float]]:
    found: dict[Metric, dict[str, float]] = {BYTES: {}, BYTES_PERCENT: {}, INODES: {}, INODES_PERCENT: {}}
    for name, path in paths.items():
        try:
            disk = os.statvfs(path)
        except OSError:
            continue
        found[BYTES][name] = disk.f_bavail * disk.f_frsize
        found[BYTES_PERCENT][name] = disk.f_bavail * 100 // disk.f_blocks if disk.f_blocks else 100
        found[INODES][name] = disk.f_favail
        # File systems without a fixed number of inodes have none to run out of.
        found[INODES_PERCENT][name] = disk.f_favail * 100 // disk.f_files if disk.f_files else 100
    return found
