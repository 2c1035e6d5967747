"""How busy the CPUs are: with this process, and with all of them (KumoMTA's `process_cpu_usage_…` and `system_…`)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import trio

_INTERVAL = 3.0
"""Seconds between looks, as in KumoMTA."""
_STAT = Path("/proc/stat")
_IDLE = slice(3, 5)
"""Of the machine's times: idle, and waiting for a disk (proc_stat(5))."""


class CpuUsage:
    """Percent of one CPU; several may add up to more than 100."""

    def __init__(self) -> None:
        self.count = os.cpu_count() or 1
        self.process = 0.0
        self.system = 0.0

    async def watch(self) -> None:
        """Keep the numbers up to date, for ever."""
        at, process, (busy, total) = time.monotonic(), time.process_time(), _machine()
        while True:
            await trio.sleep(_INTERVAL)
            at_last, process_last, busy_last, total_last = at, process, busy, total
            at, process, (busy, total) = time.monotonic(), time.process_time(), _machine()
            if at > at_last:
                self.process = 100.0 * (process - process_last) / (at - at_last)
            if total > total_last:
                self.system = 100.0 * self.count * (busy - busy_last) / (total - total_last)


def _machine() -> tuple[int, int]:
    """Busy and all ticks of all CPUs so far; zeros where the system does not tell."""
    try:
        first = _STAT.read_bytes().partition(b"\n")[0]
    except OSError:
        return 0, 0
    ticks = [int(field) for field in first.split()[1:9]]
    return sum(ticks) - sum(ticks[_IDLE]), sum(ticks)
