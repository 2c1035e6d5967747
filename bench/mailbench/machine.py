"""How fast this machine is just now, and who else uses it."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

from .process_group import TICKS

_PROBE_LOOPS = 20_000
_PROBE_PERIOD = 0.1


class SpeedProbe(threading.Thread):
    """Times a fixed piece of work, ten times a second, while its context is entered.

    Virtual cores change their speed by a factor of two within seconds, and CPU time changes with them.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._halt = threading.Event()
        self._samples: list[float] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._halt.set()
        self.join()

    @property
    def nanoseconds(self) -> float:
        """CPU time of one loop of the work, the mean of all samples."""
        return statistics.mean(self._samples)

    def run(self) -> None:
        while True:
            begin, x = time.thread_time_ns(), 0
            for i in range(_PROBE_LOOPS):
                x += i * i & 7
            self._samples.append((time.thread_time_ns() - begin) / _PROBE_LOOPS)
            if self._halt.wait(_PROBE_PERIOD):
                return


def busy() -> float:
    """CPU seconds that the machine's cores have worked, for anybody."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = (
        int(field) / TICKS for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return user + nice + system + irq + softirq


def wait_until_quiet(patience: float, cores: float) -> None:
    """Wait until all programs together use less than so many cores, `patience` seconds at most."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before, begin = busy(), time.monotonic()
        time.sleep(0.5)
        if busy() - before < cores * (time.monotonic() - begin):
            return


def own_cpu() -> float:
    """CPU seconds of this program itself."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def describe() -> str:
    """Cores, kernel, Python, and the commit that is measured."""
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    try:
        here = Path(__file__).parent
        describe_commit = ["git", "describe", "--always", "--dirty"]
        commit = subprocess.check_output(
            describe_commit, cwd=here, text=True, stderr=subprocess.DEVNULL
        ).strip()
    except (OSError, subprocess.SubprocessError):
        commit = "unknown"
    python = platform.python_version()
    return f"{os.cpu_count()} × {model}, Linux {platform.release()}, Python {python}, commit {commit}"
