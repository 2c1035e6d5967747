"""Compaction that an operator asks for: of every segment in which anything is dead, now."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from spool_disks import ROOT, FaultyOps, MemoryDisk, config, contents, held_back, key, save, settled

from kumo_py.spool import SpoolConfig, SpoolError, open_spool, segment_log

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_log, "SEGMENT_BYTES", 1000)


def size(disk: MemoryDisk) -> int:
    return sum(disk.file_size(f"{ROOT}/{name}") for name in disk.listdir(ROOT) if name != "lock")


async def test_only_what_counts_is_left() -> None:
    """Of three messages a segment one is dead: too few for compaction by itself."""
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    for number in range(12):
        await save(spool, number, b"%02d" % number * 100)
    for number in range(0, 12, 3):
        spool.remove(key(number))
    await settled(spool)
    before = size(disk)
    kept = await contents(spool)
    assert len(kept) == 8
    with trio.fail_after(5):
        await spool.compact()
    await settled(spool)
    record = 200 + segment_log.RECORD
    assert 8 * record < size(disk) < 8 * record + 300 < before
    assert await contents(spool) == kept
    with trio.fail_after(5):
        await spool.compact()  # there is nothing left to do
    await spool.aclose()
    again = await open_spool(config(), disk)
    assert again.problems == []
    assert await contents(again) == kept
    await again.aclose()


async def test_an_empty_spool_and_one_without_dead_parts() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    with trio.fail_after(5):
        await spool.compact()
    await save(spool, 1, b"x" * 300)
    before = disk.listdir(ROOT)
    with trio.fail_after(5):
        await spool.compact()
    assert disk.listdir(ROOT) == before
    await spool.aclose()


async def test_messages_come_and_go_meanwhile() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    for number in range(30):
        await save(spool, number, b"x" * 300)
    for number in range(0, 30, 2):
        spool.remove(key(number))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(spool.compact)
        nursery.start_soon(spool.compact)
        for number in range(30, 60):
            await save(spool, number, b"y" * 300)
            spool.remove(key(number - 29))
    found = await contents(spool)
    assert set(found) == {key(number) for number in range(31, 60)}
    with trio.fail_after(5):
        await spool.compact()
    await spool.aclose()
    again = await open_spool(config(), disk.after_kill())
    assert (await contents(again), again.problems) == (found, [])
    await again.aclose()


async def test_a_disk_that_takes_nothing_is_told_of() -> None:
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    spool = await open_spool(config(), ops)
    for number in range(6):
        await save(spool, number, b"x" * 300)
    for number in (0, 2, 4):
        spool.remove(key(number))
    await settled(spool)
    ops.fault = lambda name, count: errno.ENOSPC if name == "writev" else None
    with trio.fail_after(5), pytest.raises(SpoolError, match="No space left"):
        await spool.compact()
    ops.fault = lambda name, count: None
    with trio.fail_after(5):
        await spool.compact()
    assert set(await contents(spool)) == {key(number) for number in (1, 3, 5)}
    await spool.aclose()
    with pytest.raises(SpoolError, match="is closed"):
        await spool.compact()


async def test_damage_is_told_of() -> None:
    """What can be copied is; the damaged message stays where it is."""
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    for number in range(6):
        await save(spool, number, b"%d" % number * 300)
    for number in (0, 2, 4):
        spool.remove(key(number))
    await settled(spool)
    fd = disk.open(f"{ROOT}/0000000001.seg", os.O_RDWR)
    raw = disk.pread(fd, 2000, 0)
    assert raw.count(b"1" * 300) == 1
    disk._open[fd].content[raw.index(b"1" * 300)] ^= 1
    with trio.fail_after(5), pytest.raises(SpoolError, match=f"message {key(1).hex()} is damaged"):
        await spool.compact()
    assert await spool.load(key(3)) == b"3" * 300
    assert len(spool) == 3
    await spool.aclose()


async def test_an_end_in_the_middle() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    for number in range(40):
        await save(spool, number, b"x" * 300)
    for number in range(0, 40, 3):
        spool.remove(key(number))
    found = await contents(spool)

    async def compact() -> None:
        with pytest.raises(SpoolError, match="is closed"):
            await spool.compact()

    async with trio.open_nursery() as nursery, held_back(spool):
        nursery.start_soon(compact)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(spool.aclose)
        await trio.testing.wait_all_tasks_blocked()
    again = await open_spool(config(), disk)
    assert (await contents(again), again.problems) == (found, [])
    await again.aclose()


async def test_other_kinds(tmp_path: Path) -> None:
    disk = await open_spool(SpoolConfig(name="data", path=str(tmp_path / "files"), kind="LocalDisk"))
    with pytest.raises(SpoolError, match="nothing to compact: it keeps a file for each message"):
        await disk.compact()
    await disk.aclose()
    pytest.importorskip("rocksdict")
    rocks = await open_spool(SpoolConfig(name="data", path=str(tmp_path / "rocks"), kind="RocksDB"))
    for number in range(200):
        rocks.store(key(number), bytes([number]) * 20_000)
    await rocks.wait_durable(rocks.store(key(200), b"last"))
    for number in range(200):
        rocks.remove(key(number))
    await rocks.wait_durable(rocks.store(key(201), b"x"))
    await rocks.compact()
    assert sum(file.stat().st_size for file in (tmp_path / "rocks").glob("*.sst")) < 20_000
    assert await rocks.load(key(200)) == b"last"
    await rocks.aclose()
    with pytest.raises(SpoolError, match="cannot compact spool 'data'"):
        await rocks.compact()
