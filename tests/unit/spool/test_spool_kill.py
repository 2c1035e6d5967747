"""kill -9 of a real process that stores and removes as fast as it can."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from spool_disks import config

from kumo_py.spool import open_spool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Forks a victim for each line of its input, so that Python starts and imports only once.
PARENT = """
import itertools, os, sys
sys.path.insert(0, sys.argv[1])
import trio
from spool_disks import config
from kumo_py.spool import open_spool, segment_log
segment_log.SEGMENT_BYTES = 200_000

def tell(text):
    os.write(1, text.encode() + b"\\n")

async def main(run):
    tell(f"{os.getpid()}")
    spool = await open_spool(config(sys.argv[2], kind=sys.argv[3]))
    counter = itertools.count(run << 32)

    async def session():
        while True:
            number = next(counter)
            id = number.to_bytes(16, "big")
            data = id * (number % 50 + 1)
            tickets = [spool.store(id, data)]
            if number % 3 == 0:
                tickets.append(spool.store(id, data + b"replaced"))
            for ticket in tickets:
                await spool.wait_durable(ticket)
            tell(f"+{number}")
            if number % 4:
                tell(f"-{number}")
                spool.remove(id)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(session)

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        trio.run(main, int(line))
    os.waitpid(pid, 0)
    tell("end")
"""


@contextmanager
def parent(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    here = os.path.dirname(__file__)
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, here, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def run_victim(process: subprocess.Popen[bytes], run: int, bytes_until_killed: int) -> list[str]:
    """Start a victim, kill it after it has said so much; returns what it acknowledged."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"%d\n" % run)
    process.stdin.flush()
    said = b""
    killed = False
    while not said.endswith(b"end\n"):
        part = os.read(process.stdout.fileno(), 500)
        assert part
        said += part
        if not killed and len(said) > bytes_until_killed:
            os.kill(int(said.partition(b"\n")[0]), signal.SIGKILL)
            killed = True
    assert killed, "the victim ended by itself"
    return said.decode().split("\n")[1:-2]


@pytest.mark.parametrize(("kind", "kills"), [("SegmentLog", 20), ("LocalDisk", 4), ("RocksDB", 4)])
async def test_what_was_acknowledged_survives_kill_9(kind: str, kills: int, tmp_path: Path) -> None:
    root = str(tmp_path / "spool")
    dice = random.Random(kills)
    alive: set[int] = set()
    with parent(root, kind) as process:
        for run in range(kills):
            for line in run_victim(process, run, dice.randrange(10, 8000)):
                number = int(line[1:])
                if line[0] == "+":
                    alive.add(number)
                else:
                    alive.discard(number)
            spool = await open_spool(config(root, kind=kind))
            found = set()
            for id in spool.ids():
                number = int.from_bytes(id, "big")
                data = await spool.load(id)
                whole = id * (number % 50 + 1)
                assert data in (whole, whole + b"replaced")
                assert data.endswith(b"replaced") == (number % 3 == 0) or number not in alive
                found.add(number)
            assert alive <= found
            # What is there beyond that was stored and not yet acknowledged, or removed in the last moments.
            extra = found - alive
            assert all(number >> 32 == run for number in extra)
            assert len(extra) < 200
            for number in extra:
                spool.remove(number.to_bytes(16, "big"))
            if kind == "SegmentLog":
                assert all("unfinished records" in problem for problem in spool.problems)
            await spool.aclose()
    assert len(alive) > kills
