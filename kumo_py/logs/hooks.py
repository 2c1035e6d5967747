"""Hooks: delivery log records that become messages, or that the policy sees at once.

A log hook makes a message of each record and asks the policy (`should_enqueue_log_record`) whether to queue it. That
is done by workers, so that who logs need not wait, unless `back_pressure` records are pending. Records of
messages that are log records themselves are left alone: they would never end.

A record is pending until its message is handed over; what is pending when the node stops is handed over by `drain`.
A spool that fails makes the hook try again, as often as it takes while the node runs.

A disposition hook fires `log_disposition_NAME` with the message and the record while the record is logged.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson
import structlog
import trio

from kumo_py.core.histogram import Histogram
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.core.templates import TemplateError
from kumo_py.logs.config import per_record
from kumo_py.logs.record_type import RecordType
from kumo_py.logs.selection import HeaderSelection, MetaSelection
from kumo_py.message.message import Message
from kumo_py.spool.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kumo_py.core.policy import Policy
    from kumo_py.core.templates import Template, Templates
    from kumo_py.logs.config import DispositionHookConfig, LogHookConfig, PerRecord, RecordKey

log = structlog.get_logger("kumo_py.logs.hooks")

LOG_RECORD = "LogRecord"
"""The reception_protocol of messages that are log records."""
EVENT = "should_enqueue_log_record"
RETRY_INTERVAL = 1.0
"""Seconds after which records are handed over again that the spool did not take."""
_BATCH = 64
"""Records that a worker handles at a time: their messages share a sync."""
_WORKERS = 16
"""Workers of a hook at most; there are several only while the policy lets one wait."""


class MessageSink(Protocol):
    """Where the messages of records go: the node's queues."""

    def new_id(self) -> bytes: ...

    async def enqueue(self, messages: Sequence[Message], *, deferred_spool: bool) -> None:
        """Save them, unless deferred, and put them into their queues. Raises SpoolError."""
        ...


@dataclass(slots=True)
class _Pending:
    """A record on its way. msg: made of it and wanted by the policy."""

    kind: RecordType
    line: bytes
    sender: str
    recipients: tuple[str, ...]
    meta: Mapping[str, object]
    msg: Message | None = None


class LogHook:
    """One `kumo.configure_log_hook`."""

    def __init__(self, config: LogHookConfig, policy: Policy, templates: Templates) -> None:
        self.name = config.name
        self.latency = Histogram()
        """Of taking records."""
        self.waits = 0
        """How often a record had to wait for room."""
        self.meta = MetaSelection(config.meta)
        self.headers = HeaderSelection(config.headers)
        self.templates = compiled_templates(config.per_record, templates)
        """The types that it takes, with their template if they have one."""
        self._policy = policy
        self._deferred_spool = config.deferred_spool
        self._back_pressure = config.back_pressure
        self._pending: deque[_Pending] = deque()
        self._arrived = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._workers = 0
        self._nursery: trio.Nursery | None = None
        self.sink: MessageSink | None = None
        """Where its messages go."""
        self._stopping = False
        if any(one.suffix or one.log_dir or one.segment_header for one in config.per_record.values()):
            log.warning(f"log hook {self.name}: suffix, log_dir and segment_header are for log files only")

    async def put(
        self,
        kind: RecordType,
        line: bytes,
        sender: str,
        recipients: Sequence[str],
        meta: Mapping[str, object],
    ) -> None:
        """Take a record; waits only while `back_pressure` records are pending. line: its JSON, LF included."""
        if len(self._pending) >= self._back_pressure:
            self.waits += 1
        while len(self._pending) >= self._back_pressure and not self._stopping:
            await self._room.park()
        self._pending.append(_Pending(kind, line, sender, tuple(recipients), meta))
        if self._arrived:
            self._arrived.unpark()
        elif self._nursery is not None and len(self._pending) > _BATCH and self._workers < _WORKERS:
            self._start_worker(self._nursery)

    async def serve(self) -> None:
        """Work until cancelled; `sink` is set."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._start_worker(nursery)
        raise AssertionError  # the first worker never ends

    @property
    def pending(self) -> int:
        """Records that are not in a queue yet."""
        return len(self._pending)

    def _start_worker(self, nursery: trio.Nursery) -> None:
        self._workers += 1
        nursery.start_soon(self._work, self._workers == 1)

    async def _work(self, is_first: bool) -> None:
        try:
            while True:
                while self._pending:
                    await self._take_batch()
                if not is_first:
                    return
                await self._arrived.park()
        finally:
            self._workers -= 1

    async def drain(self) -> None:
        """Hand over what is pending, for the last time. After `serve`."""
        self._nursery = None
        self._stopping = True
        self._room.unpark_all()
        while self._pending and self.sink is not None:
            await self._take_batch()
        if self._pending:
            log.error("log records are lost: the node ends before it had queues", hook=self.name)

    async def _take_batch(self) -> None:
        batch = [self._pending.popleft() for _ in range(min(_BATCH, len(self._pending)))]
        if self._room:
            self._room.unpark_all()
        done = 0
        try:
            for record in batch:
                if record.msg is None:
                    record.msg = await self._message(record)
            wanted = [record.msg for record in batch if record.msg is not None]
            if wanted:
                await self._hand_over(wanted)
            done = len(batch)
        except Exception:
            # A bug must not stop the node, nor come again and again with the same records.
            log.exception("log records are lost", hook=self.name, records=len(batch))
            done = len(batch)
        finally:
            self._pending.extendleft(reversed(batch[done:]))  # cancelled: `drain` goes on

    async def _message(self, record: _Pending) -> Message | None:
        """The message of a record, if the policy wants it."""
        if not self._policy.handles(EVENT):
            return None
        assert self.sink is not None
        values: dict[str, Any] = orjson.loads(record.line)
        body = rendered(self.templates[record.kind], record.line, values)
        meta = {**record.meta, "log_record": values, "reception_protocol": LOG_RECORD}
        msg = Message(self.sink.new_id(), record.sender, record.recipients, meta, body)
        try:
            return msg if await self._policy.ask(EVENT, msg, self.name) else None
        except (PolicyError, Rejection) as err:
            log.error(f"{EVENT} failed; the record is not queued", hook=self.name, error=str(err))
            return None

    async def _hand_over(self, messages: list[Message]) -> None:
        assert self.sink is not None
        while True:
            try:
                await self.sink.enqueue(messages, deferred_spool=self._deferred_spool)
            except SpoolError as err:
                log.error("log records wait: the spool fails", hook=self.name, error=str(err))
                if self._stopping:
                    log.error("log records are lost", hook=self.name, records=len(messages))
                    return
                await trio.sleep(RETRY_INTERVAL)
            else:
                return


class DispositionHook:
    """One `kumo.configure_log_disposition_hook`."""

    def __init__(self, config: DispositionHookConfig, policy: Policy) -> None:
        self.name = config.name
        self.latency = Histogram()
        """Of the policy's handler."""
        self.kinds = frozenset(kind for kind in RecordType if per_record(config.per_record, kind).enable)
        self._policy = policy
        self._event = f"log_disposition_{config.name}"
        without = ("template", "suffix", "log_dir", "segment_header")
        if any(getattr(one, name) for one in config.per_record.values() for name in without):
            log.warning(f"disposition hook {self.name}: of per_record only enable has an effect")

    async def fire(self, msg: Message, line: bytes) -> None:
        """Let the policy see a record. Errors are logged."""
        try:
            await self._policy.ask(self._event, msg, orjson.loads(line))
        except (PolicyError, Rejection) as err:
            log.error(f"{self._event} failed", id=msg.id.hex(), error=str(err))


def compiled_templates(
    options: dict[RecordKey, PerRecord], templates: Templates
) -> dict[RecordType, Template | None]:
    """The types that are enabled, with their template if they have one."""
    compiled: dict[RecordType, Template | None] = {}
    for kind in RecordType:
        own = per_record(options, kind)
        if own.enable:
            compiled[kind] = None if own.template is None else templates.compile(kind, own.template)
    return compiled


def rendered(template: Template | None, line: bytes, values: dict[str, Any] | None = None) -> bytes:
    """A record's text by its template, LF at its end; its JSON if there is none, or if that fails."""
    if template is None:
        return line
    if values is None:
        values = orjson.loads(line)
    try:
        text = template.render({**values, "log_record": values})
    except TemplateError as err:
        log.error("a log record's template failed; the record is JSON", error=str(err))
        return line
    body = text.encode("utf-8", "replace")
    return body if body.endswith(b"\n") else body + b"\n"
