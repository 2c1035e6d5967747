#!/usr/bin/env python3
"""What a long queue costs: memory and CPU per queued message, and the time to read it all back at start.

    bench/queue_memory.py [--count 1000000] [--dir var/queue-memory]

Messages are made, saved in real segment logs and delayed in the queues, as after a first failed attempt; then the
spool is opened again by a fresh process, as at a start.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import trio

from kumo_py.core.policy import SilentPolicy
from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.daemon.clock import wall_clock
from kumo_py.dns import Resolver, ZoneBackend
from kumo_py.limits.lease import Leases
from kumo_py.limits.throttle import Throttles
from kumo_py.logs import DeliveryLog
from kumo_py.message.message import Message
from kumo_py.queue.context import InsertReason
from kumo_py.queue.enumeration import enumerate_spool
from kumo_py.queue.queues import Queues
from kumo_py.spool import SpoolConfig, open_spool
from kumo_py.spool.messages import MessageSpool

BODY = b"Subject: queued\r\n\r\n" + b"x" * 200 + b"\r\n"
AT_ONCE = 5000
"""Messages stored before their durability is awaited."""


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def open_queues(directory: Path) -> Queues:
    spools = [
        await open_spool(
            SpoolConfig(name=name, path=str(directory / name), min_free_space=0, min_free_inodes=0)
        )
        for name in ("data", "meta")
    ]
    wall = wall_clock()
    return Queues(
        policy=SilentPolicy(),
        spool=MessageSpool(*spools),
        delivery_log=DeliveryLog("bench", wall),
        resolver=Resolver(backend=ZoneBackend()),  # no DNS is asked
        throttles=Throttles(),
        leases=Leases(),
        wall=wall,
    )


async def fill(directory: Path, count: int) -> None:
    queues = await open_queues(directory)
    ids = SpoolIdSource(os.urandom(6), 1)
    before, cpu = rss_mb(), cpu_s()
    insert_cpu = 0.0
    async with trio.open_nursery() as nursery:
        await nursery.start(queues.serve)
        for start in range(0, count, AT_ONCE):
            batch = []
            for number in range(start, min(start + AT_ONCE, count)):
                recipient = f"user{number}@domain{number % 500}.test"
                msg = Message(
                    ids.next(time.time_ns()), "sender@example.test", (recipient,), {"tenant": "t"}, BODY
                )
                batch.append(msg)
            async with trio.open_nursery() as saving:
                for msg in batch:
                    saving.start_soon(queues.spool.save, msg)
            started = cpu_s()
            for msg in batch:
                msg.due = queues.wall() + 3600 + (msg.id[0] * 14)
                await queues.insert(msg, await queues.resolve(msg.queue_name), (InsertReason.ENUMERATED,))
            insert_cpu += cpu_s() - started
            if start // AT_ONCE % 20 == 0:
                print(f"  {start:>9} queued, {rss_mb():.0f} MB", file=sys.stderr)
        del batch
        grown = rss_mb() - before
        print(
            f"{count} queued: {grown:.0f} MB more ({grown * 2**20 / count:.0f} bytes each, spool index included), "
            f"insert {insert_cpu * 1e6 / count:.1f} µs, all {(cpu_s() - cpu) * 1e6 / count:.0f} µs CPU each"
        )
        queues.stop()
    await queues.spool.data.aclose()
    await queues.spool.meta.aclose()


async def restart(directory: Path) -> None:
    started, cpu = time.perf_counter(), cpu_s()
    queues = await open_queues(directory)
    found = queues.spool.reconcile()
    opened = time.perf_counter() - started
    # Nobody knows their domains here, so that all are delayed again.
    async with trio.open_nursery() as nursery:
        await nursery.start(queues.serve)
        queues.stopping = True
        await enumerate_spool(queues, found)
        print(
            f"{len(found)} read back: index {opened:.1f} s, all {time.perf_counter() - started:.1f} s "
            f"({(cpu_s() - cpu) * 1e6 / max(1, len(found)):.0f} µs CPU each), {rss_mb():.0f} MB in all"
        )
        nursery.cancel_scope.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--dir", type=Path, default=Path("var/queue-memory"))
    parser.add_argument("--restart", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.restart:
        trio.run(restart, options.dir)
        return
    shutil.rmtree(options.dir, ignore_errors=True)
    trio.run(fill, options.dir, options.count)
    subprocess.run([sys.executable, __file__, "--restart", "--dir", str(options.dir)], check=True)
    shutil.rmtree(options.dir, ignore_errors=True)


if __name__ == "__main__":
    main()
