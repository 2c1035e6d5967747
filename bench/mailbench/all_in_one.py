"""Generator, relay and sink on this machine together: the demo, and whether it's fast enough."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from pathlib import Path

from .server import ServerError

DEMO = Path(__file__).resolve().parents[2] / "tools/demo/demo.py"
TARGET, GOAL = 750, 1400
"""Messages of TARGET_SIZE per second."""
TARGET_SIZE = "100kb"
_LAST_LINE = re.compile(r"demo: sent=(\d+) delivered=(\d+) lost=(\d+) rate=([0-9.]+)/s mmh=([0-9.]+)")


def all_in_one(size: str, count: int, sessions: int, rounds: int) -> None:
    """Run and print; size as traffic-gen reads it. Raises ServerError if a message was lost."""
    rates = [_demo(size, count, sessions) for _ in range(rounds)]
    rate = statistics.median(rates)
    print(
        f"{size}: {rate:.0f} msg/s, {rate * 3600 / 1e6:.2f} million messages an hour, the median of {rounds}"
    )
    if size.lower() != TARGET_SIZE:
        return
    for name, wanted in (("target", TARGET), ("goal", GOAL)):
        print(f"{'pass' if rate >= wanted else 'missed':6} {name} of {wanted} msg/s at {size}")


def _demo(size: str, count: int, sessions: int) -> float:
    """Messages per second, from the start to the last delivery."""
    options = f"--count {count} --body-size {size} --concurrency {sessions}"
    command = [sys.executable, str(DEMO), *options.split()]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, flush=True)
    found = _LAST_LINE.search(done.stdout)
    if done.returncode or found is None:
        raise ServerError(f"the demo ended with {done.returncode}")
    return float(found[4])
