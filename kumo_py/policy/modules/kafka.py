"""The `kumo.kafka` module: records to Apache Kafka. Needs the extra `kafka`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from kumo_py.core.duration import Duration
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.shared_clients import Handle, Payload, RecordTable, SharedClients, require_package
from kumo_py.policy.types import INTEGER, TEXT, ListOf, TableOf, Values

if TYPE_CHECKING:
    from kumo_py.net.kafka import KafkaProducer, Record  # noqa: F401 (in quotes below)
    from kumo_py.policy.context import LuaContext

kafka = Owner("kumo.kafka")

MOST_AT_ONCE = 10_000
"""Records of a batch."""

_Partition = Annotated[int, msgspec.Meta(ge=-1, lt=1 << 31)]


class KafkaRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`producer:send`."""

    topic: str
    payload: Payload
    partition: _Partition = -1
    """By the key, or any, unless set."""
    key: str | None = None
    headers: dict[str, str] = {}
    timeout: Duration = Duration(60)
    """How long to wait for the broker's acknowledgement."""

    def record(self) -> Record:
        from kumo_py.net.kafka import Record

        return Record(
            self.topic,
            self.payload,
            self.key,
            tuple((name, value.encode()) for name, value in sorted(self.headers.items())),
            self.partition,
            self.timeout,
        )


class KafkaHandle(Handle["KafkaProducer"]):
    """A policy's hold on a producer."""


class KafkaProducers(SharedClients["KafkaProducer"]):
    """The node's, by their configuration."""


producer = Kind("kafka_producer", KafkaHandle)

_RECORD = RecordTable(KafkaRecord)


@kafka.function("build_producer", Param("config", TableOf(TEXT)), result=producer.type)
async def build_producer(ctx: LuaContext, config: dict[str, str]) -> KafkaHandle:
    """Make a producer from librdkafka's configuration properties; those with the same ones share it."""
    require_package("kumo.kafka", "confluent_kafka", "kafka")
    from kumo_py.net.kafka import KafkaProducer

    if ctx.env.validating:
        return KafkaHandle()
    shared, leave = ctx.env.state(KafkaProducers).join(
        ctx, frozenset(config.items()), "the Kafka producer", lambda: KafkaProducer(config)
    )
    handle = KafkaHandle(shared, leave)
    try:
        await shared.ready()
    except BaseException:
        handle.close()
        raise
    return handle


@producer.function("send", Param("record", _RECORD), result=Values(INTEGER, INTEGER))
async def send(ctx: LuaContext, handle: KafkaHandle, record: KafkaRecord) -> tuple[int | None, int | None]:
    """Send a record, and wait for the broker's acknowledgement: the partition and the offset there."""
    return await handle.client.send(record.record())


@producer.function(
    "send_batch",
    Param("records", ListOf(_RECORD)),
    result=Values(ListOf(INTEGER), ListOf(TEXT)),
    since="2025.01.23-7273d2bc",
)
async def send_batch(
    ctx: LuaContext, handle: KafkaHandle, records: list[KafkaRecord]
) -> tuple[list[int], list[str]]:
    """Send records in their order, and wait for all of them: the indexes of those that failed, and their errors."""
    if len(records) > MOST_AT_ONCE:
        raise ValueError(f"a batch has at most {MOST_AT_ONCE} records, got {len(records)}")
    problems = await handle.client.send_batch([record.record() for record in records])
    failed = [(index, problem) for index, problem in enumerate(problems, 1) if problem is not None]
    return [index for index, _ in failed], [problem for _, problem in failed]


@producer.function("close", since="2024.09.02-c5476b89")
def close(ctx: LuaContext, handle: KafkaHandle) -> None:
    """Give the producer up. It is closed, after what it has queued is sent, unless another one shares it."""
    handle.close()
