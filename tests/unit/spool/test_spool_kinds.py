"""Every kind of spool, on a real disk: what goes in comes out, also after a restart."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from spool_disks import MemoryDisk, config, contents, held_back, key, save, settled
from trio.testing import wait_all_tasks_blocked

from kumo_py.spool import RocksParams, SpoolError, open_spool
from kumo_py.spool import open as open_module
from kumo_py.spool.local_disk import message_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = ["SegmentLog", "LocalDisk", "RocksDB"]


@pytest.fixture(params=KINDS)
def options(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    return lambda **more: config(str(tmp_path / "spool"), kind=request.param, **more)


async def test_what_is_stored_is_loaded_before_and_after_a_restart(options: Callable[..., Any]) -> None:
    big = os.urandom(300_000)
    spool = await open_spool(options())
    first, second = spool.store(key(1), b"one"), spool.store(key(2), big)
    assert await spool.load(key(1)) == b"one"  # not yet written
    assert len(spool) == 2
    await spool.wait_durable(first)
    await spool.wait_durable(second)
    await save(spool, 3, b"")
    assert await contents(spool) == {key(1): b"one", key(2): big, key(3): b""}
    await spool.aclose()

    spool = await open_spool(options())
    assert spool.problems == []
    assert spool.notice is None
    assert await contents(spool) == {key(1): b"one", key(2): big, key(3): b""}
    await spool.aclose()


async def test_removed_and_replaced(options: Callable[..., Any]) -> None:
    spool = await open_spool(options())
    await save(spool, 1, b"one")
    await save(spool, 2, b"two")
    await save(spool, 2, b"two, again")
    spool.remove(key(1))
    spool.remove(key(7))
    with pytest.raises(KeyError):
        await spool.load(key(1))
    await settled(spool)
    assert await contents(spool) == {key(2): b"two, again"}
    await spool.aclose()
    spool = await open_spool(options())
    assert await contents(spool) == {key(2): b"two, again"}
    spool.remove(key(2))
    await spool.aclose()
    spool = await open_spool(options())
    assert list(spool.ids()) == []
    await spool.aclose()


async def test_ids_may_change_while_they_are_listed(options: Callable[..., Any]) -> None:
    spool = await open_spool(options())
    for number in range(10):
        await save(spool, number, b"x")
    seen = []
    for id in spool.ids():
        seen.append(id)
        spool.remove(id)
        if id == key(0):
            spool.remove(key(9))
            spool.store(key(50), b"new")
    assert seen == [key(number) for number in range(9)]
    assert list(spool.ids()) == [key(50)]
    await spool.aclose()


async def test_removed_while_it_is_written(options: Callable[..., Any]) -> None:
    spool = await open_spool(options())
    async with held_back(spool):
        ticket = spool.store(key(1), b"one")
        await wait_all_tasks_blocked()
        spool.remove(key(1))
        assert len(spool) == 0
    await spool.wait_durable(ticket)
    with pytest.raises(KeyError):
        await spool.load(key(1))
    await settled(spool)
    await save(spool, 1, b"second life")
    assert await spool.load(key(1)) == b"second life"
    await spool.aclose()
    spool = await open_spool(options())
    assert await contents(spool) == {key(1): b"second life"}
    await spool.aclose()


async def test_without_flush(options: Callable[..., Any]) -> None:
    spool = await open_spool(options(flush=False))
    await save(spool, 1, b"one")
    await spool.aclose()
    spool = await open_spool(options(flush=False))
    assert await contents(spool) == {key(1): b"one"}
    await spool.aclose()


@pytest.mark.parametrize("kind", ["SegmentLog", "LocalDisk"])
async def test_a_store_may_ask_for_a_sync_of_its_own(kind: str) -> None:
    disk = MemoryDisk()
    spool = await open_spool(config(kind=kind, flush=False), disk)
    await save(spool, 1, b"one")
    await spool.wait_durable(spool.store(key(2), b"two", sync=True))
    await save(spool, 3, b"three")
    after = await open_spool(config(kind=kind, flush=False), disk.after_power_cut())
    assert (await contents(after)).get(key(2)) == b"two"
    assert key(3) not in after.ids()
    await after.aclose()
    await spool.aclose()


async def test_rocksdb_syncs_only_what_asks_for_it(tmp_path: Path) -> None:
    spool = await open_spool(config(str(tmp_path), kind="RocksDB", flush=False))
    database = spool._database
    spool._database = Mock(wraps=database)
    await save(spool, 1, b"one")
    await spool.wait_durable(spool.store(key(2), b"two", sync=True))
    assert [call.args[1].sync for call in spool._database.write.call_args_list] == [False, True]
    spool._database = database
    await spool.aclose()


async def test_a_second_opener_is_refused_by_name(options: Callable[..., Any]) -> None:
    spool = await open_spool(options())
    with pytest.raises(SpoolError, match=f"in use by process {os.getpid()} .*directory of its own"):
        await open_spool(options())
    await spool.aclose()
    await (await open_spool(options())).aclose()


async def test_a_closed_spool_says_so(options: Callable[..., Any]) -> None:
    spool = await open_spool(options())
    await spool.aclose()
    await spool.aclose()
    with pytest.raises(SpoolError, match="is closed"):
        spool.store(key(1), b"one")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
async def test_messages_of_another_kind_are_not_overlooked(kind: str, other: str, tmp_path: Path) -> None:
    spool = await open_spool(config(str(tmp_path), kind=kind))
    await save(spool, 1, b"one")
    await spool.aclose()
    if kind == other or (kind, other) == ("SegmentLog", "RocksDB"):
        spool = await open_spool(config(str(tmp_path), kind=other))
        assert await contents(spool) == {key(1): b"one"}
        assert (spool.notice is None) == (kind == other)
        await spool.aclose()
    else:
        with pytest.raises(SpoolError, match=f"set kind = '{kind}'"):
            await open_spool(config(str(tmp_path), kind=other))


async def test_rocksdb_without_rocksdict_is_a_segment_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_module, "find_spec", lambda name: None)
    spool = await open_spool(config(str(tmp_path), kind="RocksDB"))
    assert spool.notice
    assert "kumo-py[rocksdb]" in spool.notice
    await save(spool, 1, b"one")
    await spool.aclose()
    monkeypatch.undo()
    spool = await open_spool(config(str(tmp_path), kind="RocksDB"))
    assert await contents(spool) == {key(1): b"one"}
    assert spool.notice
    assert "used on" in spool.notice
    await spool.aclose()


async def test_rocksdb_data_without_rocksdict_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await open_spool(config(str(tmp_path), kind="RocksDB"))
    await save(spool, 1, b"one")
    await spool.aclose()
    monkeypatch.setattr(open_module, "find_spec", lambda name: None)
    with pytest.raises(SpoolError, match=r"install kumo-py\[rocksdb\]"):
        await open_spool(config(str(tmp_path), kind="RocksDB"))


async def test_all_rocks_params_are_taken_or_named(tmp_path: Path) -> None:
    params = RocksParams(
        increase_parallelism=2,
        optimize_level_style_compaction=1 << 22,
        optimize_universal_style_compaction=1 << 22,
        paranoid_checks=True,
        compression_type="Lz4",
        compaction_readahead_size=1 << 16,
        level_compaction_dynamic_level_bytes=True,
        max_open_files=100,
        write_buffer_size=1 << 20,
        level0_stop_writes_trigger=30,
        memtable_huge_page_size=0,
        limit_concurrent_loads=2,
        limit_concurrent_stores=3,
        log_level="Warn",
        allow_error_unlatch=False,
    )
    spool = await open_spool(config(str(tmp_path), kind="RocksDB", rocks_params=params))
    assert spool.notice == (
        "rocks_params without effect here: log_level, limit_concurrent_stores, allow_error_unlatch"
    )
    await save(spool, 1, b"one")
    assert await spool.load(key(1)) == b"one"
    await spool.aclose()


async def test_a_failed_write_to_rocksdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = await open_spool(config(str(tmp_path), kind="RocksDB"))
    await save(spool, 1, b"one")
    write = spool._database.write

    def fail(*arguments: Any) -> None:
        raise Exception("IO error: No space left on device")  # what rocksdict raises

    spool._database = Mock(write=fail)
    spool.remove(key(1))
    with pytest.raises(SpoolError, match=r"cannot write to spool 'data' at .*: IO error: No space left"):
        await save(spool, 2, b"two")
    assert list(spool.ids()) == []
    spool._database = write.__self__
    await save(spool, 3, b"three")
    await spool.aclose()
    spool = await open_spool(config(str(tmp_path), kind="RocksDB"))
    assert await contents(spool) == {key(3): b"three"}
    await spool.aclose()


async def test_local_disk_has_the_layout_of_kumomta(tmp_path: Path) -> None:
    id = bytes.fromhex("d7ef132b5d7711eea8c8000c29c33806")
    path = tmp_path / "data/d7/ef/13/2b/5d7711eea8c8000c29c33806"
    assert message_path(str(tmp_path), id) == str(path)
    spool = await open_spool(config(str(tmp_path), kind="LocalDisk"))
    await spool.wait_durable(spool.store(id, b"hello"))
    assert path.read_bytes() == b"hello"
    assert os.listdir(tmp_path / "new") == []
    spool.remove(id)
    await spool.aclose()
    assert os.listdir(tmp_path / "data") == []


async def test_local_disk_tidies_up_when_opened(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/orphan").write_text("half a mess")
    (tmp_path / "data/aa/bb/cc/dd").mkdir(parents=True)
    (tmp_path / "data/README").write_text("hello")
    spool = await open_spool(config(str(tmp_path), kind="LocalDisk"))
    assert spool.problems == [f"{tmp_path}/data/README: not part of the spool"]
    assert len(spool) == 0
    assert os.listdir(tmp_path / "new") == []
    assert os.listdir(tmp_path / "data") == ["README"]
    await spool.aclose()


async def test_local_disk_message_that_vanished(tmp_path: Path) -> None:
    spool = await open_spool(config(str(tmp_path), kind="LocalDisk"))
    await save(spool, 1, b"one")
    os.unlink(message_path(str(tmp_path), key(1)))
    with pytest.raises(SpoolError, match="No such file"):
        await spool.load(key(1))
    await spool.aclose()


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match=r"cannot open spool 'data' at .*: Not a directory"):
        await open_spool(config(str(tmp_path / "file" / "spool")))
