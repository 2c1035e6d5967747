"""Every disk call failing in turn: nothing reported durable is lost, nothing reported failed comes back."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest
from spool_disks import CALLS, ROOT, FaultyOps, MemoryDisk, config, contents, key, quiet, save, settled

from kumo_py.spool import SpoolError, open_spool, segment_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.spool import Spool

WRITING = [
    *("open", "close", "writev", "fdatasync", "ftruncate"),
    *("rename", "link", "unlink", "mkdir", "rmdir", "fsync_dir"),
]
KINDS = ["SegmentLog", "LocalDisk"]


class Ledger:
    """What the spool has promised."""

    def __init__(self) -> None:
        self.durable: dict[bytes, bytes] = {}
        self.failed: set[bytes] = set()
        self.removed: set[bytes] = set()

    async def store(self, spool: Spool, *numbers: int, mark: str = "") -> bool:
        """Store as one batch; whether it was confirmed."""
        data = {key(number): f"{mark} message {number}".encode() * 9 for number in numbers}
        tickets = [spool.store(id, part) for id, part in data.items()]
        try:
            for ticket in tickets:
                await spool.wait_durable(ticket)
        except SpoolError:
            self.failed.update(data.values())
            return False
        self.durable.update(data)
        return True

    def remove(self, spool: Spool, number: int) -> None:
        spool.remove(key(number))
        self.removed.add(self.durable.pop(key(number), b""))

    def check(self, found: dict[bytes, bytes], *, removals_written: bool) -> None:
        assert not self.failed & set(found.values())
        extra = {data for id, data in found.items() if self.durable.get(id) != data}
        assert {id: found.get(id) for id in self.durable} == self.durable
        assert not extra if removals_written else extra <= self.removed


async def scenario(spool: Spool, ledger: Ledger) -> None:
    """A bit of everything; batches may fail on the way."""
    await ledger.store(spool, 1, 2, 3)
    ledger.remove(spool, 2)
    await ledger.store(spool, 4, 5)
    await ledger.store(spool, 1, mark="new")
    ledger.remove(spool, 3)
    ledger.remove(spool, 4)
    await settled(spool)
    await ledger.store(spool, 6)
    await quiet(spool)


def failing(name: str, first: int, last: float, fault: int | str) -> Callable[[str, int], int | str | None]:
    return lambda call, count: fault if call == name and first <= count <= last else None


async def run_with_fault(
    name: str, first: int, last: float, fault: int | str, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> int:
    """Run the scenario with one call failing from its `first` to its `last` time; how often it was called."""
    monkeypatch.setattr(segment_log, "SEGMENT_BYTES", 700)
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    spool = await open_spool(config(**options), ops)
    ops.counts.update(dict.fromkeys(CALLS, 0))
    ops.fault = failing(name, first, last, fault)
    ledger = Ledger()
    await scenario(spool, ledger)
    calls = ops.counts[name]
    ops.fault = lambda call, count: None  # the fault goes
    ledger.check(await contents(spool), removals_written=True)
    ends = [disk.after_kill(), disk.after_power_cut()]
    for after in ends if options.get("flush", True) else ends[:1]:
        reopened = await open_spool(config(**options), after)
        ledger.check(await contents(reopened), removals_written=False)
        await reopened.aclose()

    assert await ledger.store(spool, 7, 8)
    await quiet(spool)
    ledger.check(await contents(spool), removals_written=True)
    after = disk.after_kill()
    reopened = await open_spool(config(**options), after)
    ledger.check(await contents(reopened), removals_written=True)
    assert len(reopened) == len(spool)
    await reopened.aclose()
    if options["kind"] == "LocalDisk" and name != "unlink":
        assert disk.listdir(f"{ROOT}/new") == []
    await spool.aclose()
    return calls


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WRITING)
async def test_one_call_fails_once(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count, calls = 0, 1
    while count < min(calls, 12):
        count += 1
        fault = errno.EIO if count % 2 else errno.ENOSPC
        calls = await run_with_fault(name, count, count, fault, monkeypatch, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WRITING)
async def test_one_call_fails_until_the_fault_goes(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in (1, 2, 4):
        await run_with_fault(name, first, float("inf"), errno.EIO, monkeypatch, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flush", [True, False])
async def test_short_writes(kind: str, flush: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in range(1, 8):
        await run_with_fault("writev", count, count, "short", monkeypatch, kind=kind, flush=flush)


async def test_a_short_write_is_continued(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes what it likes, byte counts that end inside and between buffers."""
    writev = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, buffers: writev(fd, [b"".join(buffers)[:41]]))
    spool = await open_spool(config(str(tmp_path)))
    ledger = Ledger()
    assert await ledger.store(spool, *range(50))
    await spool.aclose()
    spool = await open_spool(config(str(tmp_path)))
    ledger.check(await contents(spool), removals_written=True)
    await spool.aclose()


async def test_more_buffers_than_the_system_takes_at_once(tmp_path: Any) -> None:
    spool = await open_spool(config(str(tmp_path)))
    ledger = Ledger()
    assert await ledger.store(spool, *range(3000))
    await spool.aclose()
    spool = await open_spool(config(str(tmp_path)))
    ledger.check(await contents(spool), removals_written=True)
    await spool.aclose()


@pytest.mark.parametrize(
    ("faults", "left"),
    [
        ({"writev"}, ["0000000001.seg", "lock"]),  # truncated
        ({"fdatasync"}, ["0000000001.69.cut", "lock"]),
        ({"writev", "ftruncate"}, ["0000000001.69.cut", "lock"]),
    ],
)
async def test_how_a_failed_batch_is_undone(faults: set[str], left: list[str]) -> None:
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    spool = await open_spool(config(), ops)
    await save(spool, 1, b"good")
    ops.fault = lambda name, count: ("short" if name == "writev" else errno.EIO) if name in faults else None
    with pytest.raises(SpoolError, match="cannot write to spool 'data' at /spool"):
        await save(spool, 2, b"bad")
    assert sorted(disk.listdir(ROOT)) == left
    ops.fault = lambda name, count: None
    await save(spool, 3, b"good again")
    for after in (disk.after_kill(), disk.after_power_cut()):
        reopened = await open_spool(config(), after)
        assert await contents(reopened) == {key(1): b"good", key(3): b"good again"}
        assert reopened.problems == []
        await reopened.aclose()
    await spool.aclose()


@pytest.mark.parametrize("first", [True, False])
async def test_a_segment_whose_sync_failed_is_not_used_on(first: bool) -> None:
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    spool = await open_spool(config(), ops)
    if not first:
        await save(spool, 1, b"good")
    ops.fault = failing("fdatasync", ops.counts["fdatasync"] + 1, ops.counts["fdatasync"] + 1, errno.EIO)
    with pytest.raises(SpoolError):
        await save(spool, 2, b"bad")
    await save(spool, 3, b"good again")
    await settled(spool)
    kept = [] if first else ["0000000001.seg"]
    assert sorted(disk.listdir(ROOT)) == [*kept, "0000000002.seg", "lock"]
    await spool.aclose()


async def test_while_a_failed_batch_cannot_be_undone_none_is_taken() -> None:
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    spool = await open_spool(config(), ops)
    await save(spool, 1, b"good")
    faults = {"fdatasync", "ftruncate", "rename"}
    ops.fault = lambda name, count: errno.EIO if name in faults else None
    with pytest.raises(SpoolError):
        await save(spool, 2, b"bad")
    faults.discard("fdatasync")
    with pytest.raises(SpoolError):
        await save(spool, 3, b"would be fine")
    faults.clear()
    await save(spool, 4, b"good again")
    reopened = await open_spool(config(), disk.after_kill())
    assert await contents(reopened) == {key(1): b"good", key(4): b"good again"}
    await reopened.aclose()
    await spool.aclose()


async def test_a_removal_is_tried_again_until_it_is_written() -> None:
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    spool = await open_spool(config(), ops)
    await save(spool, 1, b"one")
    await save(spool, 2, b"two")
    ops.fault = lambda name, count: errno.ENOSPC if name == "writev" else None
    spool.remove(key(1))
    await settled(spool)
    ops.fault = lambda name, count: None
    await quiet(spool)
    reopened = await open_spool(config(), disk.after_kill())
    assert list(reopened.ids()) == [key(2)]
    await reopened.aclose()
    await spool.aclose()


async def test_a_full_disk_recovers_by_deliveries_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removals need room too; but a segment with nothing alive goes without them."""
    monkeypatch.setattr(segment_log, "SEGMENT_BYTES", 700)
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    spool = await open_spool(config(), ops)
    for number in range(10):
        await save(spool, number, b"x" * 300)
    ops.fault = lambda name, count: errno.ENOSPC if name == "writev" else None
    before = len(disk.listdir(ROOT))
    for number in range(9):
        spool.remove(key(number))
    await settled(spool)
    assert len(disk.listdir(ROOT)) < before - 2
    with pytest.raises(SpoolError, match="No space left"):
        await save(spool, 10, b"x" * 300)
    spool.remove(key(9))
    await settled(spool)
    await quiet(spool)
    assert not [name for name in disk.listdir(ROOT) if name != "lock" and disk.file_size(f"{ROOT}/{name}")]
    spool.store(key(11), b"never written")
    await spool.aclose()

    spool = await open_spool(config(), ops)  # full as the disk is
    assert len(spool) == 0
    ops.fault = lambda name, count: None
    await save(spool, 12, b"room again")
    await spool.aclose()


async def test_removals_that_cannot_be_written_at_the_end_are_reported() -> None:
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    spool = await open_spool(config(), ops)
    await save(spool, 1, b"one")
    await save(spool, 2, b"two")
    ops.fault = lambda name, count: errno.EIO if name == "writev" else None
    spool.remove(key(1))
    await spool.aclose()
    assert spool.problems == ["spool 'data' at /spool: 1 removals could not be written"]


async def test_the_last_sync_fails() -> None:
    ops = FaultyOps(MemoryDisk())
    spool = await open_spool(config(), ops)
    await save(spool, 1, b"one")
    ops.fault = lambda name, count: errno.EIO if name == "fdatasync" else None
    with pytest.raises(SpoolError, match="cannot sync spool 'data'"):
        await spool.aclose()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["open", "listdir", "mkdir", "flock", "fsync_dir"])
async def test_opening_fails_cleanly(name: str, kind: str) -> None:
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    ops.fault = failing(name, 1, 1, errno.EIO)
    with pytest.raises(SpoolError, match="cannot open spool 'data' at /spool: Input/output error"):
        await open_spool(config(kind=kind), ops)
    spool = await open_spool(config(kind=kind), ops)
    await save(spool, 1, b"one")
    await spool.aclose()


async def test_a_segment_that_cannot_be_read_when_opening() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    await save(spool, 1, b"one")
    await spool.aclose()
    ops = FaultyOps(disk)
    ops.fault = failing("pread", 1, 1, errno.EIO)
    spool = await open_spool(config(), ops)
    assert spool.problems == ["/spool/0000000001.seg: unreadable after offset 0: Input/output error"]
    await save(spool, 2, b"two")
    spool.remove(key(2))
    await quiet(spool)
    await spool.aclose()
    assert "0000000001.seg" in disk.listdir(ROOT)  # nobody knows what it holds
    spool = await open_spool(config(), disk)
    assert await contents(spool) == {key(1): b"one"}
    await spool.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_that_cannot_be_read(kind: str) -> None:
    ops = FaultyOps(MemoryDisk())
    spool = await open_spool(config(kind=kind), ops)
    await save(spool, 1, b"one")
    ops.fault = lambda name, count: errno.EIO if name.startswith("pread") else None
    with pytest.raises(SpoolError, match="Input/output error") as caught:
        await spool.load(key(1))
    assert caught.value.errno == errno.EIO
    ops.fault = lambda name, count: None
    assert await spool.load(key(1)) == b"one"
    await spool.aclose()


async def test_a_disk_without_answer_counts_as_full() -> None:
    now = [0.0]
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    spool = await open_spool(config(), ops, clock=lambda: now[0])
    assert not spool.free_space_low()
    ops.fault = lambda name, count: errno.EIO if name == "statvfs" else None
    assert not spool.free_space_low()
    now[0] = 1.0
    assert spool.free_space_low()
    await spool.aclose()
