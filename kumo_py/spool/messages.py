"""The message spool: messages and their two records, content in `data`, envelope and metadata in `meta`.

A message is in the spool when both records are; content is written first, and a message whose metadata is
missing at start-up is not one (its content is removed). Metadata is JSON, so that a person can read it.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import orjson

from kumo_py.core.histogram import Histogram
from kumo_py.core.spool_id import LOWEST, TIMED
from kumo_py.message.message import NO_META
from kumo_py.message.scheduling import parse_schedule
from kumo_py.spool.errors import SpoolError

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.spool import Spool


class MessageSpool:
    """Saves, loads and forgets whole messages in a pair of spools."""

    def __init__(self, data: Spool, meta: Spool) -> None:
        self.data = data
        self.meta = meta
        self.save_time = Histogram()
        self.meta_load_time = Histogram()
        self.data_load_time = Histogram()

    @property
    def unhealthy(self) -> bool:
        """Whether what is delivered now may be delivered again, because removals cannot be written."""
        return self.meta.unhealthy or self.data.unhealthy

    async def save(self, *messages: Message) -> None:
        """Write what is not saved yet and wait until it is durable; several share one sync.

        Raises SpoolError; of messages that were not in the spool before, nothing is left there then.
        """
        started = perf_counter() if messages[0].id[LOWEST] < TIMED else None
        waits: list[tuple[Spool, int]] = []
        try:
            for msg in messages:
                if not msg.data_saved:
                    waits.append((self.data, _store(self.data, msg, msg.data)))
                if not msg.meta_saved:
                    waits.append((self.meta, _store(self.meta, msg, encode_meta(msg))))
            for spool, ticket in waits:
                await spool.wait_durable(ticket)
        except BaseException:
            # What was never answered for must not come back at the next start.
            for msg in messages:
                if not msg.spooled:
                    self.meta.remove(msg.id)
                    self.data.remove(msg.id)
                    msg.data_saved = msg.meta_saved = False
            raise
        for msg in messages:
            msg.data_saved = msg.meta_saved = msg.spooled = True
        if started is not None:
            self.save_time.observe(perf_counter() - started)

    async def load_meta(self, msg: Message) -> None:
        """Bring envelope and metadata into memory. Raises KeyError or SpoolError."""
        if not msg.meta_loaded:
            started = perf_counter()
            decode_meta(msg, await self.meta.load(msg.id))
            self.meta_load_time.observe(perf_counter() - started)

    async def load(self, msg: Message) -> None:
        """Bring all of it into memory. Raises KeyError or SpoolError."""
        await self.load_meta(msg)
        if not msg.data_loaded:
            started = perf_counter()
            msg.load_data(await self.data.load(msg.id))
            self.data_load_time.observe(perf_counter() - started)

    def reconcile(self) -> list[bytes]:
        """The messages found at start-up; halves, which were never answered with 250, are removed.

        To be called before anything is stored.
        """
        with_data, with_meta = set(self.data.ids()), set(self.meta.ids())
        for half in with_data - with_meta:
            self.data.remove(half)
        for half in with_meta - with_data:
            self.meta.remove(half)
        return [item for item in self.meta.ids() if item in with_data]

    def remove(self, msg: Message) -> None:
        """Forget a message; metadata first, so that no start-up finds one without content."""
        if not (msg.meta_saved or msg.data_saved or msg.spooled):
            return
        self.meta.remove(msg.id)
        self.data.remove(msg.id)
        msg.data_saved = msg.meta_saved = msg.spooled = False


def _store(spool: Spool, msg: Message, record: bytes) -> int:
    if msg.force_sync:
        return spool.store(msg.id, record, sync=True)
    return spool.store(msg.id, record)


def encode_meta(msg: Message) -> bytes:
    fields = {"sender": msg.sender, "recipients": msg.recipients, "meta": msg.meta}
    if msg.schedule is not None:
        fields["schedule"] = msg.schedule.to_table()
    return orjson.dumps(fields)


def decode_meta(msg: Message, record: bytes) -> None:
    """Fill a message from its metadata record. Raises ValueError if it isn't one, SpoolError if it may be later."""
    fields = orjson.loads(record)
    try:
        msg.sender = fields["sender"]
        msg.recipients = tuple(fields["recipients"])
        msg.meta = fields["meta"]
        schedule = fields.get("schedule")
    except (KeyError, TypeError) as err:
        raise ValueError(f"metadata record of {msg.id.hex()} lacks {err}") from None
    if schedule is not None:
        try:
            msg.schedule = parse_schedule(schedule, f"metadata record of {msg.id.hex()}")
        except ValueError as err:
            # Most likely this machine has no time zones any more: that can be put right, so the message waits.
            msg.meta = NO_META
            raise SpoolError(str(err)) from err
