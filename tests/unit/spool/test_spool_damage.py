"""Torn tails, flipped bits, forged records."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from spool_disks import ROOT, MemoryDisk, config, contents, key, save

from kumo_py.spool import SpoolError, open_spool, segment_recovery
from kumo_py.spool.records import (
    HEADER,
    RECORD,
    Scan,
    check_record,
    file_header,
    removals_record,
    unpack_removals,
)

if TYPE_CHECKING:
    from pathlib import Path

SEGMENT = f"{ROOT}/0000000001.seg"


async def disk_with(*messages: bytes) -> MemoryDisk:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    for number, data in enumerate(messages):
        await save(spool, number, data)
    await spool.aclose()
    return disk


def content(disk: MemoryDisk, path: str = SEGMENT) -> bytearray:
    return disk._file(path).content


async def reopen(disk: MemoryDisk) -> tuple[dict[bytes, bytes], list[str]]:
    spool = await open_spool(config(), disk.after_kill())
    found, problems = await contents(spool), spool.problems
    await spool.aclose()
    return found, problems


async def test_a_tail_torn_at_every_byte_is_cut() -> None:
    disk = await disk_with(b"first", b"second", b"the last one")
    whole = bytes(content(disk))
    start = len(whole) - RECORD - len(b"the last one")
    kept = {key(0): b"first", key(1): b"second"}
    for size in range(start, len(whole)):
        for tail in (b"", bytes(len(whole) - size), bytes(byte ^ 0xFF for byte in whole[size:])):
            content(disk)[:] = whole[:size] + tail
            spool = await open_spool(config(), disk.after_kill())
            length = len(whole[:size] + tail) - start
            assert await contents(spool) == kept
            cut = [f"{SEGMENT}: cut {length} bytes of unfinished records"] if length else []
            assert spool.problems in (cut, [f"{SEGMENT}: message {key(2).hex()} is damaged", *cut])
            await save(spool, 2, b"again")
            await spool.aclose()
    content(disk)[:] = whole
    assert await reopen(disk) == ({**kept, key(2): b"the last one"}, [])


async def test_the_cut_is_made_on_disk() -> None:
    disk = await disk_with(b"first", b"second")
    size = len(content(disk))
    content(disk).extend(b"half a record")
    for problems in ([f"{SEGMENT}: cut 13 bytes of unfinished records"], []):
        spool = await open_spool(config(), disk)
        assert spool.problems == problems
        assert len(content(disk)) == size
        await spool.aclose()


async def test_a_segment_torn_in_its_header_holds_nothing() -> None:
    disk = await disk_with(b"first")
    for size in range(HEADER):
        torn = disk.after_kill()
        del content(torn)[size:]
        spool = await open_spool(config(), torn)
        assert len(spool) == 0
        await spool.aclose()
        assert torn.listdir(ROOT) == ["lock"]


async def test_a_flipped_bit_anywhere_costs_one_message_at_most() -> None:
    messages = [b"message %d" % number * 5 for number in range(3)]
    disk = await disk_with(*messages)
    whole = bytes(content(disk))
    expected = {key(number): data for number, data in enumerate(messages)}
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        content(disk)[:] = damaged
        found, problems = await reopen(disk)
        lost = expected.keys() - found.keys()
        assert found == {id: data for id, data in expected.items() if id not in lost}
        hit = (position - HEADER) // (RECORD + len(messages[0]))
        assert lost == ({key(hit)} if position >= HEADER else set())
        assert len(problems) in (1, 2)
        if position >= HEADER and (position - HEADER) % (RECORD + len(messages[0])) >= RECORD:
            assert f"{SEGMENT}: message {key(hit).hex()} is damaged" in problems


async def test_damage_in_the_middle_is_reported_with_its_place() -> None:
    disk = await disk_with(b"first", b"second", b"third")
    content(disk)[HEADER + RECORD + 5 + 3] ^= 4  # in the header of the second record
    assert await reopen(disk) == (
        {key(0): b"first", key(2): b"third"},
        [f"{SEGMENT}: skipped {RECORD + 6} damaged bytes at offset {HEADER + RECORD + 5}"],
    )


async def test_damage_found_on_loading_is_reported_then() -> None:
    disk = await disk_with(b"first", b"second")
    spool = await open_spool(config(), disk)
    content(disk)[-1] ^= 1
    with pytest.raises(SpoolError, match="is damaged"):
        await spool.load(key(1))
    with pytest.raises(SpoolError, match="is damaged"):
        await spool.load(key(1))
    assert len(spool.problems) == 1
    assert await spool.load(key(0)) == b"first"
    await spool.aclose()


async def test_old_segments_are_checked_by_header_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_recovery, "_VERIFIED", 0)
    disk = await disk_with(b"x" * 5_000_000, b"first", b"second")
    spool = await open_spool(config(), disk)
    await save(spool, 3, b"newest")
    await spool.aclose()
    content(disk)[HEADER + RECORD + 100] ^= 1
    spool = await open_spool(config(), disk)
    assert spool.problems == []
    assert await spool.load(key(1)) == b"first"
    assert await spool.load(key(3)) == b"newest"
    with pytest.raises(SpoolError, match="is damaged"):
        await spool.load(key(0))
    await spool.aclose()


async def test_a_segment_with_neither_header_nor_first_record_is_kept() -> None:
    disk = await disk_with(b"first", b"second")
    content(disk)[:HEADER] = bytes(HEADER)
    content(disk)[HEADER] ^= 1
    spool = await open_spool(config(), disk)
    assert spool.problems == [f"{SEGMENT}: no record can be recognised; the file is left as it is"]
    await spool.aclose()
    assert SEGMENT.rpartition("/")[2] in disk.listdir(ROOT)


async def test_a_message_cannot_smuggle_a_record_in() -> None:
    """Even when the search for the next record runs through it."""
    forged = removals_record(b"guessed!", [(key(0), 1, 1 << 32 | 1 << 30)])
    disk = await disk_with(b"victim", b"".join([forged, file_header(b"guessed!"), forged]), b"third")
    content(disk)[HEADER + RECORD + 6 + 2] ^= 1
    found, _ = await reopen(disk)
    assert found == {key(0): b"victim", key(2): b"third"}


def test_removals_survive_packing() -> None:
    removals = [(key(1), 1, 7 << 32 | 500), (key(2), 3, 3 << 32)]
    record = removals_record(b"8 bytes!", removals)
    assert unpack_removals(memoryview(record)[RECORD:]) == removals
    assert check_record(record, key(1)) is None


def test_a_file_that_is_shorter_than_it_was_said_to_be() -> None:
    data = file_header(b"8 bytes!") + removals_record(b"8 bytes!", [(key(1), 1, 1 << 32)])
    scan = Scan(
        lambda size, offset: data[:-1][offset : offset + size], len(data) + 1000, verify=True, window=16
    )
    assert scan.open()
    assert list(scan.records(HEADER, scan.marker)) == []
    assert scan.end == HEADER


async def test_foreign_files_are_let_alone(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("not ours")
    (tmp_path / "1.seg").write_text("not ours either")
    spool = await open_spool(config(str(tmp_path)))
    assert spool.problems == []
    await spool.aclose()
    assert sorted(os.listdir(tmp_path)) == ["1.seg", "README", "lock"]


async def test_a_hundred_thousand_messages_are_found_quickly(tmp_path: Path) -> None:
    spool = await open_spool(config(str(tmp_path), flush=False))
    data = bytes(1024)
    for number in range(100_000):
        ticket = spool.store(key(number), data)
    await spool.wait_durable(ticket)
    await spool.aclose()
    before = time.process_time()
    spool = await open_spool(config(str(tmp_path)))
    took = time.process_time() - before
    assert len(spool) == 100_000
    assert took < 2.0  # 0.2 where nothing else runs
    await spool.aclose()
