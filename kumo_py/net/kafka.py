"""A Kafka producer: librdkafka's, whose delivery reports reach trio's tasks.

librdkafka has threads of its own for brokers. One thread more polls it, which waits without the GIL, and hands what was
reported meanwhile to trio's thread in one go. `send` waits while the producer's queue is full, and then for the report.
What is still queued when the producer is closed is sent first, within FLUSH_TIME.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
import trio
from confluent_kafka import KafkaError, KafkaException, Producer

from kumo_py.core.duration import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import Message

log = structlog.get_logger("kumo_py.net.kafka")

DEFAULT_TIMEOUT = 60.0
"""Seconds for a record, unless it says otherwise; also librdkafka's, so that it does not try on when nobody waits."""
FLUSH_TIME = 5.0
"""Seconds."""
_POLL_TIME = 0.25
_SAY_AGAIN = 60.0  # seconds until the same problem is logged again
_SERVERS = frozenset(("bootstrap.servers", "metadata.broker.list", "test.mock.num.brokers"))
_OURS = frozenset(("error_cb", "logger"))


class ProducerError(OSError):
    """The record was not sent, or nobody says that it was; the text says why."""


@dataclass(frozen=True, slots=True)
class Record:
    topic: str
    payload: bytes
    key: str | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int = -1
    """-1: by the key, or any."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds."""


class _Report:
    """Of one record."""

    __slots__ = ("_reports", "done", "error", "offset", "partition")

    def __init__(self, reports: list[_Report]) -> None:
        self._reports = reports
        self.done = trio.Event()
        self.error: str | None = None
        self.partition: int | None = None
        self.offset: int | None = None

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """In the polling thread."""
        if error is None:
            self.partition, self.offset = message.partition(), message.offset()
        else:
            self.error = error.str()
        self._reports.append(self)


class _Log:
    """What librdkafka has to say, through our log; it is called in the polling thread."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token

    def log(self, level: int, text: str, *args: object) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(log.debug, text % args)


class KafkaProducer:
    """See the module. `run` makes the producer; `ready` says whether that went well."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        """`settings` are librdkafka's configuration properties. Raises ValueError."""
        if not _SERVERS & settings.keys():
            raise ValueError("no brokers are given: set ['bootstrap.servers'] = 'HOST:PORT,HOST:PORT'")
        for name in _OURS & settings.keys():
            raise ValueError(f'No such configuration property: "{name}"')
        self._settings = dict(settings)
        if not {"message.timeout.ms", "delivery.timeout.ms"} & self._settings.keys():
            self._settings["message.timeout.ms"] = str(int(1000 * DEFAULT_TIMEOUT))
        self._producer: Producer | None = None
        self._reports: list[_Report] = []
        """Those of one poll; only the polling thread has them."""
        self._last_error: str | None = None
        self._said = 0.0
        """When it was logged; trio time."""
        self._problem = "the producer was closed"
        self._is_closing = False
        self._made = trio.Event()
        self._settled = trio.Event()
        """Set, and replaced, when there are reports."""
        self._ended = trio.Event()

    # -- life --------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            await self._serve(trio.lowlevel.current_trio_token())
        except (KafkaException, TypeError, ValueError) as err:
            self._problem = _text(err)
        finally:
            self._made.set()

    async def _serve(self, token: trio.lowlevel.TrioToken) -> None:
        """Raises KafkaException, TypeError or ValueError for settings that are wrong."""
        self._producer = await trio.to_thread.run_sync(self._make, token)
        thread = threading.Thread(target=self._poll, args=(self._producer, token), name="kafka", daemon=True)
        thread.start()
        self._made.set()
        try:
            await trio.sleep_forever()
        finally:
            self._producer = None
            self._is_closing = True
            with trio.move_on_after(2 * FLUSH_TIME, shield=True):
                await self._ended.wait()

    def _make(self, token: trio.lowlevel.TrioToken) -> Producer:
        def went_wrong(error: KafkaError) -> None:
            with suppress(trio.RunFinishedError):
                if error.code() != KafkaError._ALL_BROKERS_DOWN:  # what is said of each of them tells more
                    token.run_sync_soon(self._went_wrong, error.str())

        return Producer(self._settings | {"error_cb": went_wrong}, logger=_Log(token))

    def _went_wrong(self, error: str) -> None:
        """What concerns no record in particular, such as a broker that is down; librdkafka goes on trying."""
        now = trio.current_time()
        if error != self._last_error or now > self._said + _SAY_AGAIN:
            log.warning("kafka", problem=error)
            self._said = now
        self._last_error = error

    def _poll(self, producer: Producer, token: trio.lowlevel.TrioToken) -> None:
        with suppress(trio.RunFinishedError):
            while not self._is_closing:
                producer.poll(_POLL_TIME)
                self._hand_over(token)
            producer.flush(FLUSH_TIME)
            producer.purge()
            producer.poll(0)
            self._hand_over(token)
            token.run_sync_soon(self._ended.set)

    def _hand_over(self, token: trio.lowlevel.TrioToken) -> None:
        if self._reports:
            token.run_sync_soon(self._settle, self._reports[:])
            self._reports.clear()

    def _settle(self, reports: list[_Report]) -> None:
        for report in reports:
            report.done.set()
        self._settled.set()
        self._settled = trio.Event()

    # -- records -----------------------------------------------------------------------------------------
    async def ready(self) -> Producer:
        """Wait until the producer is made. Raises ProducerError."""
        await self._made.wait()
        if self._producer is None:
            raise ProducerError(self._problem)
        return self._producer

    async def send(self, record: Record) -> tuple[int | None, int | None]:
        """Send a record; the partition that has it now, and its offset there. Raises ProducerError."""
        deadline = _deadline(record)
        return await self._reported(record, await self._queued(record, deadline), deadline)

    async def send_batch(self, records: Sequence[Record]) -> list[str | None]:
        """Send records in their order; for each what went wrong, or None."""
        under_way: list[tuple[Record, float, _Report | ProducerError]] = []
        for record in records:
            deadline = _deadline(record)
            try:
                under_way.append((record, deadline, await self._queued(record, deadline)))
            except ProducerError as err:
                under_way.append((record, deadline, err))
        problems: list[str | None] = []
        for record, deadline, report in under_way:
            try:
                if isinstance(report, ProducerError):
                    raise report
                await self._reported(record, report, deadline)
                problems.append(None)
            except ProducerError as err:
                problems.append(str(err))
        return problems

    async def _queued(self, record: Record, deadline: float) -> _Report:
        """Queue a record, when there is room. Raises ProducerError."""
        report = _Report(self._reports)
        with trio.move_on_at(deadline):
            while not self._queue(await self.ready(), record, report):
                await self._settled.wait()
            return report
        raise self._failed(record, f"the producer's queue was full for {format_duration(record.timeout)}")

    async def _reported(
        self, record: Record, report: _Report, deadline: float
    ) -> tuple[int | None, int | None]:
        """Wait for what became of a record. Raises ProducerError."""
        with trio.move_on_at(deadline):
            await report.done.wait()
        if not report.done.is_set():
            raise self._failed(record, f"no acknowledgement within {format_duration(record.timeout)}")
        if report.error is not None:
            raise self._failed(record, report.error)
        self._last_error = None
        return report.partition, report.offset

    def _failed(self, record: Record, error: str) -> ProducerError:
        cause = "" if self._last_error in (None, error) else f"; {self._last_error}"
        return ProducerError(f"{record.topic}: {error}{cause}")

    def _queue(self, producer: Producer, record: Record, report: _Report) -> bool:
        """Whether there was room."""
        try:
            producer.produce(
                record.topic,
                record.payload,
                record.key,
                record.partition,
                on_delivery=report.delivered,
                headers=list(record.headers) or None,
            )
        except BufferError:
            return False
        except (KafkaException, TypeError, ValueError) as err:
            raise ProducerError(f"{record.topic}: {_text(err)}") from None
        return True


def _deadline(record: Record) -> float:
    return trio.current_time() + record.timeout


def _text(err: Exception) -> str:
    return err.args[0].str() if isinstance(err, KafkaException) else str(err)
