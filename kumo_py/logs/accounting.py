"""How many messages were received and delivered, by month, in an SQLite database (`configure_accounting_db_path`).

One row a month, as KumoMTA has it; a message counts once for each recipient, and log records that are messages
do not count. What is counted is written every five minutes and at the end, in a thread.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.logs.record_type import RecordType

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger("kumo_py.logs.accounting")

FLUSH_INTERVAL = 300.0
"""Seconds between writes."""
_BUSY = 30.0
"""Seconds to wait for somebody else who writes."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounting (
    event_time DATETIME NOT NULL PRIMARY KEY,
    received int NOT NULL,
    delivered int NOT NULL
)
"""
_ADD = """
INSERT INTO accounting (event_time, received, delivered) VALUES (?, ?, ?)
ON CONFLICT (event_time) DO UPDATE
SET received = received + excluded.received, delivered = delivered + excluded.delivered
"""


class Accounting:
    """The counts since the last write, and where they go. clock: Unix seconds."""

    __slots__ = ("_clock", "delivered", "path", "received")

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        self.path = path
        self._clock = clock
        self.received = 0
        self.delivered = 0

    def note(self, kind: RecordType, recipients: int) -> None:
        """Count a message."""
        if kind is RecordType.Reception:
            self.received += recipients
        elif kind is RecordType.Delivery:
            self.delivered += recipients

    async def serve(self) -> None:
        """Write every FLUSH_INTERVAL until cancelled."""
        while True:
            await trio.sleep(FLUSH_INTERVAL)
            if self.received or self.delivered:
                await self.flush()

    async def flush(self) -> None:
        """Write what is counted; what cannot be written is kept for the next time."""
        received, delivered = self.received, self.delivered
        month = time.strftime("%Y-%m-01 00:00:00", time.gmtime(self._clock()))
        try:
            with trio.CancelScope(shield=True):  # so that it is known whether the counts were written
                await trio.to_thread.run_sync(_add, self.path, month, received, delivered)
        except (sqlite3.Error, OSError) as err:
            log.error("cannot write the accounting database", path=self.path, error=str(err))
        else:
            self.received -= received
            self.delivered -= delivered


def _add(path: str, month: str, received: int, delivered: int) -> None:
    with closing(sqlite3.connect(path, timeout=_BUSY)) as db, db:
        db.execute(_SCHEMA)
        db.execute(_ADD, (month, received, delivered))
