"""The process: memory, CPUs, threads, and what Prometheus expects of every process."""

from __future__ import annotations

import os
import resource
import threading
import time
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import trio

from kumo_py.admin.metrics.metric import counter, gauge
from kumo_py.policy.signing import SigningThreads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.admin.exposition import Family
    from kumo_py.admin.node import Node

_DESCRIPTORS = "/proc/self/fd"

MEMORY_USAGE = gauge("memory_usage", "Resident set size in bytes, as of a second ago at most")
MEMORY_LIMIT = gauge("memory_limit", "Bytes above which no mail is taken")
MEMORY_LOW = gauge("memory_low_thresh", "Bytes above which the node begins to save memory")
OVER_LIMIT = counter("memory_over_limit_count", "How often memory_limit was crossed")
LOW = counter("memory_low_count", "How often memory_low_thresh was crossed")
PROCESS_SUM = gauge(
    "process_cpu_usage_sum", "Percent of one CPU that this process uses, of the last 3 seconds"
)
PROCESS_PART = gauge("process_cpu_usage_normalized", "The same, divided by the number of CPUs")
SYSTEM_SUM = gauge(
    "system_cpu_usage_sum", "Percent of one CPU that all of the machine uses, of the last 3 seconds"
)
SYSTEM_PART = gauge("system_cpu_usage_normalized", "The same, divided by the number of CPUs")
POOL_SIZE = gauge("thread_pool_size", "Threads of a pool", "pool")
POOL_PARKED = gauge("thread_pool_parked", "Threads of a pool that have nothing to do", "pool")
CPU_SECONDS = counter("process_cpu_seconds_total", "CPU time of this process")
STARTED = gauge("process_start_time_seconds", "When the node was started, in Unix time")
OPEN_FILES = gauge("process_open_fds", "File descriptors in use")
MOST_FILES = gauge("process_max_fds", "File descriptors that may be in use")
TASKS = gauge("kumo_py_tasks", "Trio tasks")
BUILD = gauge("kumo_py_build_info", "1, with the version as a label", "version")

METRICS = (
    *(MEMORY_USAGE, MEMORY_LIMIT, MEMORY_LOW, OVER_LIMIT, LOW),
    *(PROCESS_SUM, PROCESS_PART, SYSTEM_SUM, SYSTEM_PART, POOL_SIZE, POOL_PARKED),
    *(CPU_SECONDS, STARTED, OPEN_FILES, MOST_FILES, TASKS, BUILD),
)


def collect(node: Node) -> Iterator[Family]:
    memory, cpu = node.memory, node.cpu
    yield MEMORY_USAGE.value(memory.usage)
    yield MEMORY_LIMIT.value(memory.soft_limit)
    yield MEMORY_LOW.value(memory.low_threshold)
    yield OVER_LIMIT.value(memory.over_limit_count)
    yield LOW.value(memory.low_count)
    yield PROCESS_SUM.value(round(cpu.process, 1))
    yield PROCESS_PART.value(round(cpu.process / cpu.count, 1))
    yield SYSTEM_SUM.value(round(cpu.system, 1))
    yield SYSTEM_PART.value(round(cpu.system / cpu.count, 1))
    signing, idle = node.policy.env.state(SigningThreads).threads
    workers = threading.active_count() - 1 - signing
    busy = trio.to_thread.current_default_thread_limiter().borrowed_tokens + len(node.spools)
    yield POOL_SIZE.each({"dkimsign": signing, "other": workers})
    yield POOL_PARKED.each({"dkimsign": idle, "other": max(0, workers - busy)})
    yield CPU_SECONDS.value(time.process_time())
    yield STARTED.value(node.started)
    yield OPEN_FILES.value(_open_files())
    yield MOST_FILES.value(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield TASKS.value(trio.lowlevel.current_statistics().tasks_living)
    yield BUILD.each({_version(): 1})


@cache
def _version() -> str:
    return version("kumo-py")


def _open_files() -> int | None:
    """Linux 6.2 and later tell without a list of them, which may be long."""
    try:
        return os.stat(_DESCRIPTORS).st_size or None
    except OSError:
        return None
