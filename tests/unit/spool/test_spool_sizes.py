"""How large a message is, as far as a spool knows without reading it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from spool_disks import config, key, save

from kumo_py.spool import open_spool

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", ["SegmentLog", "LocalDisk", "RocksDB"])
async def test_size_of(kind: str, tmp_path: Path) -> None:
    options = config(str(tmp_path / "spool"), kind=kind)
    spool = await open_spool(options)
    ticket = spool.store(key(1), b"hello")
    assert spool.size_of(key(1)) == 5  # not yet written
    await spool.wait_durable(ticket)
    await save(spool, 2, b"x" * 70_000)
    known = kind == "SegmentLog"
    for _ in range(2):
        assert spool.size_of(key(1)) == (5 if known else None)
        assert spool.size_of(key(2)) == (70_000 if known else None)
        assert spool.size_of(key(3)) is None
        await spool.aclose()
        spool = await open_spool(options)
    spool.remove(key(1))
    assert spool.size_of(key(1)) is None
    await spool.aclose()
