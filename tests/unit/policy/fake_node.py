"""Queues, spool and delivery log that keep what they are given, for policies that make messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from kumo_py.core.policy import PolicyError
from kumo_py.spool import SpoolError
from kumo_py.spool.messages import MessageSpool

if TYPE_CHECKING:
    from kumo_py.logs import LogContext, RecordType
    from kumo_py.message.message import Message
    from kumo_py.proto.reply import Response


class DictSpool:
    """`synced` has the ids whose stores asked for a sync."""

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}
        self.synced: list[bytes] = []
        self.failing = False

    def store(self, id: bytes, data: bytes, *, sync: bool = False) -> int:
        if self.failing:
            raise SpoolError("cannot write to spool 'data': No space left on device")
        self.stored[id] = data
        if sync:
            self.synced.append(id)
        return len(self.stored)

    async def wait_durable(self, ticket: int) -> None:
        await trio.lowlevel.checkpoint()

    async def load(self, id: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.stored[id]

    def remove(self, id: bytes) -> None:
        self.stored.pop(id, None)


class FakeQueues:
    """`inserted`: queue and message; names in `broken` cannot be set up, `full` ones take nothing."""

    def __init__(self) -> None:
        self.data, self.meta = DictSpool(), DictSpool()
        self.spool = MessageSpool(self.data, self.meta)  # type: ignore[arg-type]  # fakes
        self.inserted: list[tuple[str, Message]] = []
        self.broken: set[str] = set()
        self.full: set[str] = set()

    async def resolve(self, name: str) -> str:
        await trio.lowlevel.checkpoint()
        if name in self.broken:
            raise PolicyError(f"get_queue_config: policy.lua:7: nothing known of {name}")
        return name

    async def insert(self, msg: Message, queue: str) -> None:
        await trio.lowlevel.checkpoint()
        if queue in self.full:
            raise SpoolError(f"{queue} takes nothing")
        self.inserted.append((queue, msg))

    def forget(self, msg: Message) -> None:
        self.spool.remove(msg)

    def in_spool(self, msg: Message) -> bool:
        return msg.id in self.data.stored and msg.id in self.meta.stored


class FakeLog:
    """`records`: kind, message, code and text."""

    def __init__(self) -> None:
        self.records: list[tuple[str, Message, int, str]] = []
        self.contexts: list[LogContext] = []

    def wants(self, kind: RecordType) -> bool:
        return True

    async def record(
        self, kind: RecordType, msg: Message, response: Response, context: LogContext, **_: Any
    ) -> None:
        self.records.append((kind.value, msg, response.code, response.content))
        self.contexts.append(context)


class FakeNode:
    """What `RecordingHost.node` may be."""

    def __init__(self) -> None:
        self.queues = FakeQueues()
        self.log = FakeLog()
