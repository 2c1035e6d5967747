"""Accounting: what counts, when it is written, and what a failing database costs."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import trio
from structlog.testing import capture_logs

from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.logs import DeliveryLog, LogContext, RecordType
from kumo_py.message.message import Message
from kumo_py.proto.reply import Response

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

NODE = "557f3ad4-2c8c-11ee-976e-782d7e12e173"
SEPTEMBER = 1757675281.5
IDS = SpoolIdSource(bytes(6), 0)


def rows(path: Path) -> list[tuple[str, int, int]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("select * from accounting order by event_time").fetchall()


async def note(log: DeliveryLog, kind: RecordType, *recipients: str, protocol: str = "ESMTP") -> None:
    msg = Message(IDS.next(int(SEPTEMBER * 1e9)), "a@b", recipients, {"reception_protocol": protocol}, b"x")
    await log.record(kind, msg, Response(250), LogContext())


async def written(log: DeliveryLog) -> None:
    """Wait for the thread that writes, which the virtual clock does not wait for."""
    while log._accounting is not None and log._accounting.received:
        await trio.to_thread.run_sync(time.sleep, 0.005)


async def test_receptions_and_deliveries_count_by_recipient(tmp_path: Path) -> None:
    path = tmp_path / "accounting.db"
    log = DeliveryLog(NODE, lambda: SEPTEMBER)
    log.set_accounting(str(path))
    assert [kind for kind in RecordType if log.wants(kind)] == [RecordType.Reception, RecordType.Delivery]
    await note(log, RecordType.Reception, "a@b", "c@d")
    await note(log, RecordType.Delivery, "a@b")
    await note(log, RecordType.Bounce, "c@d")
    await note(log, RecordType.Delivery, "a@b", protocol="LogRecord")
    await log.aclose()
    assert rows(path) == [("2025-09-01 00:00:00", 2, 1)]


async def test_counts_are_written_every_five_minutes_and_added_up(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "accounting.db"
    now = SEPTEMBER
    log = DeliveryLog(NODE, lambda: now)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.serve)
        log.set_accounting(str(path))
        await note(log, RecordType.Reception, "a@b")
        await trio.sleep(299)
        assert not path.exists()
        await trio.sleep(1)
        await written(log)
        assert rows(path) == [("2025-09-01 00:00:00", 1, 0)]
        await note(log, RecordType.Reception, "a@b")
        await trio.sleep(300)
        await written(log)
        now += 30 * 86400.0
        await note(log, RecordType.Delivery, "a@b")
        nursery.cancel_scope.cancel()
    await log.aclose()
    assert rows(path) == [("2025-09-01 00:00:00", 2, 0), ("2025-10-01 00:00:00", 0, 1)]


async def test_a_database_that_cannot_be_written_costs_no_count(tmp_path: Path) -> None:
    log = DeliveryLog(NODE, lambda: SEPTEMBER)
    log.set_accounting(str(tmp_path / "none" / "accounting.db"))
    await note(log, RecordType.Reception, "a@b")
    accounting = log._accounting
    assert accounting is not None
    with capture_logs() as logged:
        await accounting.flush()
    assert logged[0]["event"] == "cannot write the accounting database"
    log.set_accounting(str(tmp_path / "accounting.db"))
    await log.aclose()
    assert rows(tmp_path / "accounting.db") == [("2025-09-01 00:00:00", 1, 0)]
