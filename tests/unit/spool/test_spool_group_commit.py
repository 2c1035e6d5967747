"""Tickets, batches, waiters, and the options."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
import trio
from spool_disks import ROOT, FaultyOps, MemoryDisk, config, contents, held_back, key, quiet, save, settled
from trio.testing import wait_all_tasks_blocked

from kumo_py.core.options import OptionError, convert
from kumo_py.spool import SpoolConfig, SpoolError, group_commit, open_spool
from kumo_py.spool.writer import Job

if TYPE_CHECKING:
    from trio.testing import MockClock

    from kumo_py.spool.group_commit import GroupCommit


async def test_many_waiters_share_one_sync() -> None:
    ops = FaultyOps(MemoryDisk())
    spool = await open_spool(config(), ops)
    async with trio.open_nursery() as nursery, held_back(spool):
        nursery.start_soon(save, spool, 0, b"the first one alone, or with some of the others")
        await wait_all_tasks_blocked()
        for number in range(1, 50):
            nursery.start_soon(save, spool, number, b"x" * number)
        await wait_all_tasks_blocked()
    assert ops.counts["fdatasync"] == 2
    assert ops.counts["writev"] == 3  # one of them is the lock file's
    assert len(spool) == 50
    await spool.aclose()


async def test_a_batch_lingers_only_for_those_who_came_before(autojump_clock: MockClock) -> None:
    ops = FaultyOps(MemoryDisk())
    spool = await open_spool(config(), ops)

    async def batches(*sizes: int) -> float:
        started = trio.current_time()
        for size in sizes:
            async with trio.open_nursery() as nursery:
                for number in range(size):
                    nursery.start_soon(save, spool, number, b"x")
        return trio.current_time() - started

    assert await batches(1, 1) == 0
    assert await batches(20, 20, 20) == pytest.approx(0)
    assert await batches(1) == pytest.approx(group_commit.LINGER)
    assert await batches(*[1] * 20) < 15 * group_commit.LINGER
    assert await batches(1) == 0
    written = ops.counts["writev"]
    spool.remove(key(1))
    await trio.sleep(group_commit.LINGER * 1.01)
    await settled(spool)
    assert ops.counts["writev"] == written + 1
    await spool.aclose()


async def test_removals_are_written_at_once_but_not_synced() -> None:
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    spool = await open_spool(config(), ops)
    await save(spool, 1, b"one")
    await save(spool, 2, b"two")
    synced = ops.counts["fdatasync"]
    spool.remove(key(1))
    await settled(spool)
    assert ops.counts["fdatasync"] == synced
    reopened = await open_spool(config(), disk.after_kill())
    assert list(reopened.ids()) == [key(2)]
    await reopened.aclose()
    await spool.aclose()


async def test_no_sync_without_flush_until_the_end() -> None:
    ops = FaultyOps(MemoryDisk())
    spool = await open_spool(config(flush=False), ops)
    await save(spool, 1, b"one")
    assert ops.counts["fdatasync"] == 0
    await spool.aclose()
    assert ops.counts["fdatasync"] == 1


async def test_stored_and_removed_at_once_never_reaches_the_disk() -> None:
    ops = FaultyOps(MemoryDisk())
    spool = await open_spool(config(), ops)
    before = ops.counts["writev"]
    ticket = spool.store(key(1), b"one")
    spool.remove(key(1))
    assert len(spool) == 0
    await spool.wait_durable(ticket)
    await settled(spool)
    assert ops.counts["writev"] == before
    # The same with a waiter that comes when the batch has long been emptied.
    ticket = spool.store(key(1), b"one")
    spool.remove(key(1))
    await settled(spool)
    with trio.fail_after(1):
        await spool.wait_durable(ticket)
    await spool.aclose()


async def test_a_pending_replacement_is_removed_with_what_it_replaces() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    await save(spool, 1, b"old")
    spool.store(key(1), b"new")
    spool.remove(key(1))
    with pytest.raises(KeyError):
        await spool.load(key(1))
    await settled(spool)
    reopened = await open_spool(config(), disk.after_kill())
    assert list(reopened.ids()) == []
    await reopened.aclose()
    await spool.aclose()


async def test_a_failed_replacement_leaves_the_old_record() -> None:
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    spool = await open_spool(config(), ops)
    await save(spool, 1, b"old")
    ops.fault = lambda name, count: errno.EIO if name == "fdatasync" else None
    with pytest.raises(SpoolError) as caught:
        await save(spool, 1, b"new")
    assert caught.value.errno == errno.EIO
    assert str(caught.value) == "cannot write to spool 'data' at /spool: Input/output error"
    assert await spool.load(key(1)) == b"old"
    ops.fault = lambda name, count: None
    reopened = await open_spool(config(), disk.after_kill())
    assert await contents(reopened) == {key(1): b"old"}
    await reopened.aclose()
    await spool.aclose()


async def test_each_waiter_of_a_failed_batch_is_told_also_one_that_comes_late() -> None:
    ops = FaultyOps(MemoryDisk())
    spool = await open_spool(config(), ops)
    good = spool.store(key(0), b"good")
    await spool.wait_durable(good)
    ops.fault = lambda name, count: errno.ENOSPC if name == "writev" else None
    told = []

    async def wait(ticket: int) -> None:
        try:
            await spool.wait_durable(ticket)
        except SpoolError as error:
            told.append(error)

    bad = []
    for _ in range(3):
        bad.append(spool.store(key(1), b"bad"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, bad[-1])
            nursery.start_soon(wait, bad[-1])
    assert len({id(error) for error in told}) == 6
    ops.fault = lambda name, count: None
    later = spool.store(key(2), b"good")
    await spool.wait_durable(later)
    for ticket in bad:
        with pytest.raises(SpoolError, match="No space left on device"):
            await spool.wait_durable(ticket)
    await spool.wait_durable(good)
    await spool.wait_durable(later)
    with pytest.raises(ValueError, match="gave out no ticket"):
        await spool.wait_durable(later + 5)
    await spool.aclose()


async def test_failures_are_not_remembered_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "_MAX_FAILURES", 2)
    ops = FaultyOps(MemoryDisk())
    spool = await open_spool(config(), ops)
    tickets = []
    for number in range(8):
        ops.fault = lambda name, count, bad=number % 2: errno.EIO if name == "writev" and bad else None
        tickets.append(spool.store(key(number), b"x"))
        await settled(spool)
    assert len(spool._failures) == 2
    await spool.wait_durable(tickets[6])
    for ticket, text in (
        (tickets[7], "Input/output"),
        (tickets[5], "Input/output"),
        (tickets[1], "no longer knows"),
    ):
        with pytest.raises(SpoolError, match=text):
            await spool.wait_durable(ticket)
    await spool.aclose()


async def test_a_waiter_may_be_cancelled() -> None:
    spool = await open_spool(config(), MemoryDisk())
    async with held_back(spool):
        first, second = spool.store(key(1), b"one"), spool.store(key(2), b"two")
        with trio.move_on_after(0.001) as scope:
            await spool.wait_durable(first)
        assert scope.cancelled_caught
    await spool.wait_durable(second)
    assert await contents(spool) == {key(1): b"one", key(2): b"two"}
    await spool.aclose()


async def test_a_large_backlog_is_cut_into_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "_MAX_RECORDS", 10)
    monkeypatch.setattr(group_commit, "_MAX_BYTES", 1000)
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    tickets = [spool.store(key(number), b"x") for number in range(35)]
    assert [tickets.count(ticket) for ticket in sorted(set(tickets))] == [10, 10, 10, 5]
    assert len({spool.store(key(100 + number), b"x" * 600) for number in range(4)}) == 2
    assert len(spool) == 39
    assert await spool.load(key(3)) == b"x"
    spool.remove(key(3))
    for ticket in reversed(tickets):
        await spool.wait_durable(ticket)
    for number in range(35):
        spool.remove(key(number))
    await settled(spool)
    reopened = await open_spool(config(), disk.after_kill())
    assert set(reopened.ids()) == {key(100 + number) for number in range(4)}
    await reopened.aclose()
    await spool.aclose()


async def test_many_removals_that_failed_are_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "_MAX_RECORDS", 10)
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    spool = await open_spool(config(), ops)
    for number in range(36):
        spool.store(key(number), b"x")
    await settled(spool)
    ops.fault = lambda name, count: errno.EIO if name == "writev" else None
    for number in range(35):
        spool.remove(key(number))
    await settled(spool)
    assert len(spool._retry) == 35
    ops.fault = lambda name, count: None
    await quiet(spool)
    assert spool._retry == []
    reopened = await open_spool(config(), disk.after_kill())
    assert list(reopened.ids()) == [key(35)]
    await reopened.aclose()
    await spool.aclose()


async def test_a_spool_is_unhealthy_until_removals_are_written() -> None:
    ops = FaultyOps(MemoryDisk())
    spool = await open_spool(config(), ops)
    await save(spool, 1, b"x")
    assert not spool.unhealthy
    ops.fault = lambda name, count: errno.EIO if name == "writev" else None
    spool.remove(key(1))
    await settled(spool)
    assert spool.unhealthy
    ops.fault = lambda name, count: None
    await quiet(spool)
    await settled(spool)
    assert not spool.unhealthy
    await spool.aclose()


async def test_closing_writes_what_is_pending() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    await save(spool, 1, b"one")
    spool.store(key(2), b"two")
    spool.remove(key(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await spool.aclose()
    assert scope.cancelled_caught
    await spool.aclose()
    reopened = await open_spool(config(), disk.after_power_cut())
    assert await contents(reopened) == {key(2): b"two"}
    await reopened.aclose()


async def test_what_comes_during_the_last_sync_is_refused() -> None:
    spool = await open_spool(config(), MemoryDisk())
    await save(spool, 1, b"one")
    async with held_back(spool), trio.open_nursery() as nursery:
        nursery.start_soon(spool.aclose)
        await wait_all_tasks_blocked()
        ticket = spool.store(key(2), b"two")
        nursery.cancel_scope.cancel()
    await spool.aclose()
    with pytest.raises(SpoolError, match="it is closed"):
        await spool.wait_durable(ticket)


async def test_a_clean_end_of_an_empty_spool_leaves_no_segment() -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(), disk)
    for number in range(3):
        await save(spool, number, b"x")
        spool.remove(key(number))
    await spool.aclose()
    assert disk.listdir(ROOT) == ["lock"]


@pytest.mark.parametrize(("id", "data"), [(b"short", b"x"), (key(1), "text"), (key(1), bytearray(b"x"))])
async def test_wrong_arguments_are_refused_at_once(id: bytes, data: Any) -> None:
    spool = await open_spool(config(), MemoryDisk())
    with pytest.raises(TypeError, match="16 bytes"):
        spool.store(id, data)
    await spool.aclose()


async def test_a_batch_that_cannot_be_laid_out_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    spool = await open_spool(config(), MemoryDisk())
    begin = spool._begin

    def too_large(batch: Any) -> None:
        raise OverflowError("too large")

    monkeypatch.setattr(spool, "_begin", too_large)
    with pytest.raises(SpoolError, match="too large"):
        await save(spool, 1, b"imagine 4 GiB here")
    monkeypatch.setattr(spool, "_begin", begin)
    await save(spool, 2, b"two")
    assert list(spool.ids()) == [key(2)]
    await spool.aclose()


async def test_the_writer_tells_when_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kumo_py.spool.writer.QUIET", 0.001)
    spool = await open_spool(config(), MemoryDisk())
    await save(spool, 1, b"one")
    with trio.fail_after(5):
        while not cast("GroupCommit", spool)._quiet:  # noqa: ASYNC110
            await trio.sleep(0.001)
    await spool.aclose()


def test_the_thread_ends_when_trio_has_ended_without_closing() -> None:

    async def main() -> GroupCommit:
        spool = await open_spool(config(), MemoryDisk())
        await save(spool, 1, b"one")
        return spool

    class Nothing(Job):
        def run(self) -> None:
            pass

    spool = trio.run(main)
    spool._writer.submit(Nothing())
    spool._writer._thread.join(5)
    assert not spool._writer._thread.is_alive()


@pytest.mark.parametrize(
    ("options", "free", "inodes", "low"),
    [
        ({}, 0.1, 0.1, False),
        ({}, 0.099, 0.5, True),
        ({}, 0.5, 0.099, True),
        ({"min_free_space": "60%"}, 0.5, 0.5, True),
        ({"min_free_space": 4096 * 500}, 0.5, 0.5, False),
        ({"min_free_space": 4096 * 500 + 1}, 0.5, 0.5, True),
        ({"min_free_inodes": "500"}, 0.5, 0.5, False),
        ({"min_free_inodes": 501}, 0.5, 0.5, True),
        ({"min_free_space": 0, "min_free_inodes": "0%"}, 0.0, 0.0, False),
    ],
)
async def test_free_space(options: dict[str, Any], free: float, inodes: float, low: bool) -> None:
    disk = MemoryDisk()
    disk.free, disk.inodes = free, inodes
    spool = await open_spool(config(**options), disk, clock=lambda: 0.0)
    assert spool.free_space_low() is low
    disk.free = disk.inodes = 1.0
    assert spool.free_space_low() is low  # looked up once a second
    await spool.aclose()


def test_options_as_a_policy_gives_them() -> None:
    table = {
        "name": "data",
        "path": "/var/spool/data",
        "kind": "RocksDB",
        "min_free_space": 1e9,
        "rocks_params": {
            "compression_type": "Zstd",
            "log_file_time_to_roll": "1 day",
            "max_open_files": 10.0,
        },
    }
    spool = convert(table, SpoolConfig, "kumo.define_spool")
    assert spool.flush is True
    assert spool.min_free_space == 1_000_000_000
    assert spool.rocks_params
    assert spool.rocks_params.log_file_time_to_roll == 86_400
    assert spool.rocks_params.max_open_files == 10
    assert SpoolConfig(name="data", path="/x").kind == "SegmentLog"


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"min_free_space": "ten"}, "must be a percentage such as \"10%\" or a number, got 'ten'"),
        ({"min_free_inodes": "101%"}, "option 'min_free_inodes' must be"),
        ({"min_free_inodes": -1}, "option 'min_free_inodes' must be"),
        ({"kind": "Maildir"}, "must be one of 'LocalDisk', 'RocksDB', 'SegmentLog'"),
        ({"flsh": True}, "did you mean 'flush'"),
        ({"rocks_params": {"compression_type": "snappy"}}, "rocks_params.compression_type"),
    ],
)
def test_wrong_options_are_explained(more: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        convert({"name": "data", "path": "/x", **more}, SpoolConfig, "kumo.define_spool")
    assert text in str(caught.value)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"path": "/x"}, SpoolConfig)
