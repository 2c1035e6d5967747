"""Segments: when they are made, kept, compacted and removed."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.lowlevel
from spool_disks import (
    ROOT,
    FaultyOps,
    MemoryDisk,
    config,
    contents,
    held_back,
    key,
    quiet,
    save,
    settled,
)

from kumo_py.spool import SpoolError, open_spool, segment_log, segment_writer
from kumo_py.spool.ledger import Ledger, Segment
from kumo_py.spool.records import RECORD

if TYPE_CHECKING:
    from kumo_py.spool import Spool


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_log, "SEGMENT_BYTES", 1000)


def segments(disk: MemoryDisk) -> list[int]:
    return sorted(int(name[:10]) for name in disk.listdir(ROOT) if name != "lock")


async def after_kill(disk: MemoryDisk) -> dict[bytes, bytes]:
    spool = await open_spool(config(), disk.after_kill())
    assert spool.problems == []
    found = await contents(spool)
    await spool.aclose()
    return found


async def test_a_dead_segment_goes_at_once() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    for number in range(10):
        await save(spool, number, b"x" * 300)
    assert segments(disk) == [1, 2, 3, 4, 5]
    for number in (2, 3, 4):
        spool.remove(key(number))
    await settled(spool)
    assert segments(disk) == [1, 3, 4, 5]
    for number in (0, 1, 5, 6, 7):
        spool.remove(key(number))
    await settled(spool)
    assert segments(disk) == [5]
    await spool.aclose()


async def test_a_dead_segment_waits_for_what_its_removals_void() -> None:
    """Segment 1 keeps one message alive; the removals of its others are in segment 2."""
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    await save(spool, 0, b"long-lived" * 40)
    await save(spool, 1, b"x" * 300)
    await save(spool, 2, b"x" * 300)
    spool.remove(key(1))
    await save(spool, 3, b"x" * 300)
    await save(spool, 4, b"x" * 300)
    spool.remove(key(2))
    spool.remove(key(3))
    await settled(spool)
    assert segments(disk) == [1, 2, 3]
    assert await after_kill(disk) == {key(0): b"long-lived" * 40, key(4): b"x" * 300}
    spool.remove(key(0))
    await settled(spool)
    assert segments(disk) == [3]
    await spool.aclose()


async def test_compaction_when_quiet() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    for number in range(40):
        await save(spool, number, b"x" * 200)
    for number in range(40):
        if number % 8:
            spool.remove(key(number))
    await settled(spool)
    before = len(segments(disk))
    await quiet(spool)
    assert len(segments(disk)) < before / 2
    expected = {key(number): b"x" * 200 for number in range(0, 40, 8)}
    assert await contents(spool) == expected
    assert await after_kill(disk) == expected
    reopened = await open_spool(config(), disk.after_power_cut())
    assert (await contents(reopened)).items() >= expected.items()
    await reopened.aclose()
    names = segments(disk)
    await quiet(spool)
    assert segments(disk) == names  # nothing is copied twice
    for number in range(0, 40, 8):
        spool.remove(key(number))
    await spool.aclose()
    assert segments(disk) == []


async def test_removals_outlive_compaction_as_long_as_they_must() -> None:
    """Segment 1 is dense and stays; the segment with the removals of its dead messages is compacted."""
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    for number in range(3):
        await save(spool, number, b"x" * 250)
    for number in range(10, 13):
        await save(spool, number, b"y" * 250)
    spool.remove(key(0))
    for number in range(20, 23):
        await save(spool, number, b"z" * 250)
    for number in (10, 11, 12, 20, 21, 22):
        spool.remove(key(number))
    await save(spool, 30, b"last" * 60)
    for _ in range(3):
        await quiet(spool)
    expected = {key(1): b"x" * 250, key(2): b"x" * 250, key(30): b"last" * 60}
    assert 1 in segments(disk)
    assert await after_kill(disk) == expected
    assert await contents(spool) == expected
    await spool.aclose()


async def test_replaced_messages_stay_replaced_through_compaction_and_removal() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    for number in range(3):
        await save(spool, number, b"x" * 250)
    await save(spool, 0, b"new" * 90)
    await save(spool, 5, b"z" * 500)
    await save(spool, 0, b"newer" * 50)
    assert segments(disk) == [1, 2, 3]
    spool.remove(key(5))
    for number in range(10, 14):
        await save(spool, number, b"y" * 250)
        spool.remove(key(number))
    await quiet(spool)
    assert await after_kill(disk) == {key(0): b"newer" * 50, key(1): b"x" * 250, key(2): b"x" * 250}
    spool.remove(key(0))
    for number in range(10, 16):
        await save(spool, number, b"y" * 250)
        spool.remove(key(number))
        await quiet(spool)
    assert 1 in segments(disk)  # it still holds the oldest copy of message 0
    assert await after_kill(disk) == {key(1): b"x" * 250, key(2): b"x" * 250}
    await spool.aclose()


async def test_compaction_under_load_when_much_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_log, "_PRESSURE_BYTES", 2000)
    now = [0.0]
    disk = MemoryDisk()
    spool = await open_spool(config(), disk, clock=lambda: now[0])
    for number in range(40):
        await save(spool, number, b"x" * 190)
    before = segments(disk)
    for number in range(40):
        if number % 4:
            spool.remove(key(number))
    await settled(spool)
    assert set(before) <= set(segments(disk))  # too young
    now[0] = 100.0
    for number in range(100, 140):
        await save(spool, number, b"y" * 10)
    await settled(spool)
    assert not set(before[:-1]) & set(segments(disk))
    expected = {key(number): b"x" * 190 for number in range(0, 40, 4)}
    assert (await after_kill(disk)).items() >= expected.items()
    await spool.aclose()


async def sparse(spool: Spool) -> dict[bytes, bytes]:
    """Make segment 1 sparse; returns what is alive."""
    for number in range(4):
        await save(spool, number, b"x" * 190)
    for number in range(4, 7):
        await save(spool, number, b"y" * 290)
    for number in range(3):
        spool.remove(key(number))
    await settled(spool)
    return {key(3): b"x" * 190, **{key(number): b"y" * 290 for number in range(4, 7)}}


@pytest.mark.parametrize("action", ["remove", "replace", "remove and store again"])
@pytest.mark.parametrize("when", ["between reading and writing", "during the write"])
async def test_removed_or_replaced_while_it_is_copied(action: str, when: str) -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    expected = await sparse(spool)
    async with held_back(spool) as jobs:
        spool._on_quiet()
        step = jobs.pop()
        step.run()
        assert [id for id, _, _ in step.stores] == [key(3)]
        if when == "during the write":
            spool._on_done(step)
        if "remove" in action:
            spool.remove(key(3))
            expected.pop(key(3))
        if action != "remove":
            spool.store(key(3), b"new")
            expected[key(3)] = b"new"
        if when != "during the write":
            spool._on_done(step)
    await settled(spool)
    assert await contents(spool) == expected
    assert await after_kill(disk) == expected
    await quiet(spool)
    assert 1 not in segments(disk)
    assert await after_kill(disk) == expected
    await spool.aclose()


@pytest.mark.parametrize("name", ["open", "pread", "writev", "fdatasync", "unlink", "fsync_dir"])
async def test_compaction_fails(name: str) -> None:
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    now = [0.0]
    spool = await open_spool(config(), ops, clock=lambda: now[0])
    expected = await sparse(spool)
    ops.fault = lambda call, count: errno.EIO if call == name else None
    await quiet(spool)
    ops.fault = lambda call, count: None
    assert await contents(spool) == expected
    assert await after_kill(disk) == expected
    now[0] = 10.0
    await quiet(spool)
    await save(spool, 9, b"nine")
    assert await contents(spool) == {**expected, key(9): b"nine"}
    assert await after_kill(disk) == {**expected, key(9): b"nine"}
    assert bool(spool.problems) == (name in ("open", "pread", "unlink", "fsync_dir"))
    await spool.aclose()


async def test_a_damaged_message_keeps_its_segment_until_it_is_removed() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    expected = await sparse(spool)
    location = spool._index[key(3)]
    disk._file(f"{ROOT}/0000000001.seg").content[(location >> 32 & 0xFFFF) + RECORD] ^= 1
    await quiet(spool)
    assert spool.problems == [f"{ROOT}/0000000001.seg: message {key(3).hex()} is damaged"]
    with pytest.raises(SpoolError, match="is damaged"):
        await spool.load(key(3))
    assert 1 in segments(disk)
    spool.remove(key(3))
    await settled(spool)
    assert 1 not in segments(disk)
    expected.pop(key(3))
    assert await contents(spool) == expected
    await spool.aclose()


async def test_a_load_that_compaction_overtakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The segment is gone when the reader's thread comes to open it."""
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    expected = await sparse(spool)
    await spool.aclose()
    disk = disk.after_kill()
    ops = FaultyOps(disk)
    spool = await open_spool(config(), ops)
    await save(spool, 50, b"z")
    run_sync = trio.to_thread.run_sync

    async def late(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        monkeypatch.setattr(segment_log, "SEGMENT_BYTES", 1000)
        await quiet(spool)
        return await run_sync(*args, **options)

    monkeypatch.setattr(trio.to_thread, "run_sync", late)
    assert await spool.load(key(3)) == expected[key(3)]
    assert 1 not in segments(disk)

    async def too_late(*args: Any, **options: Any) -> Any:
        for id in list(spool.ids()):
            spool.remove(id)
        await settled(spool)
        return await run_sync(*args, **options)

    spool._close_segment(spool._ledger.segments[2])
    monkeypatch.setattr(trio.to_thread, "run_sync", too_late)
    with pytest.raises(KeyError):
        await spool.load(key(5))
    await spool.aclose()


async def test_descriptors_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_log, "_OPEN_SEGMENTS", 3)
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    for number in range(40):
        await save(spool, number, b"x" * 300)
    assert len(segments(disk)) == 20
    assert len(disk._open) <= 3 + 2  # the active segment and the lock
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(spool.load, key(number))
    assert len(disk._open) <= 3 + 2
    await spool.aclose()
    assert len(disk._open) == 0
    spool = await open_spool(config(), disk)
    assert len(await contents(spool)) == 40
    assert len(disk._open) <= 3 + 2
    await spool.aclose()
    assert len(disk._open) == 0


async def test_a_descriptor_is_not_closed_under_its_reader() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    await save(spool, 1, b"one!")
    segment = spool._ledger.segments[1]
    segment.readers += 1
    await spool.aclose()
    assert len(disk._open) == 1
    segment.readers -= 1
    assert segment.unwanted
    spool._close_segment(segment)
    assert len(disk._open) == 0


async def test_a_message_larger_than_a_segment() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    await save(spool, 1, b"x" * 5000)
    await save(spool, 2, b"two")
    assert segments(disk) == [1, 2]
    assert await after_kill(disk) == {key(1): b"x" * 5000, key(2): b"two"}
    await spool.aclose()


async def test_compaction_goes_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_log, "SEGMENT_BYTES", 100_000)
    monkeypatch.setattr(segment_writer, "_STEP_RECORDS", 20)
    monkeypatch.setattr(segment_writer, "_STEP_BYTES", 300)
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    for number in range(200):
        spool.store(key(number), os.urandom(100))
    await settled(spool)
    for number in range(200):
        if number % 5:
            spool.remove(key(number))
    before = await contents(spool)
    await settled(spool)
    spool._seal(spool._active)
    await quiet(spool)
    assert segments(disk) == [2]
    assert await contents(spool) == before
    assert await after_kill(disk) == before
    await spool.aclose()


def test_the_ledger_keeps_a_removal_while_a_copy_may_exist() -> None:
    ledger = Ledger()
    for number in (1, 2, 3, 5):
        ledger.segments[number] = Segment(number, "", b"")
    assert ledger.needed(3, 3)
    assert not ledger.needed(4, 4)
    assert not ledger.needed(3, 3, holder=3)
    assert ledger.needed(3, 4)
    assert ledger.needed(2, 3, holder=3)
    assert not ledger.needed(4, 5, holder=5)
    assert not ledger.needed(4, 4)
    assert not ledger.needed(6, 9)


async def test_being_quiet_ends_the_pause_between_searches() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk, clock=lambda: 0.0)
    expected = await sparse(spool)
    spool._search_from = 5.0
    await quiet(spool)
    assert 1 not in segments(disk)
    assert await contents(spool) == expected
    await spool.aclose()
