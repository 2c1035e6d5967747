"""Micro-benchmarks of what each message goes through, on the real code: µs of CPU, the least of many repetitions."""

from __future__ import annotations

import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from kumo_py.core.policy import SilentPolicy
from kumo_py.logs import DeliveryLog, LocalLogsConfig, LogContext, Peer, RecordType
from kumo_py.message.connection import ConnectionMeta
from kumo_py.message.message import Message
from kumo_py.policy import LuaPolicy
from kumo_py.proto.client import mail_command, rcpt_command, stuff
from kumo_py.proto.command import parse_command
from kumo_py.proto.content import Fault
from kumo_py.proto.reply import EnhancedCode, ReplyReader, Response
from kumo_py.proto.server import Receiver
from kumo_py.spool import SpoolConfig, open_spool

from .targets import size_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    Work = Callable[[int], Awaitable[None]]
    """Does something so many times."""
    Benchmark = Callable[[int], AbstractAsyncContextManager[Work]]
    """Prepares it for a size of message in bytes."""

SECONDS_EACH = 0.03
REPETITIONS = 20
BATCH = 32
"""Messages that the disk gets at once."""

_ID = bytes.fromhex("d7d8a0c2c74711f0a1b2010203040506")
_SENDER, _RECIPIENT = "sender@client.test", "rcpt@dest.test"
_POLICY = """
local kumo = require 'kumo'
local cached = kumo.memoize(function(key) return { key } end, { name = 'cached', ttl = '1h', capacity = 10 })
kumo.on('smtp_server_message_received', function(msg, conn)
  HANDLER
end)
"""


def micro(wanted: list[str]) -> None:
    """Run those whose name holds one of the words, or all, and print."""
    for benchmark, sizes in BENCHMARKS.items():
        name = benchmark.__name__
        if not wanted or any(word in name for word in wanted):
            for size in sizes:
                print(f"{trio.run(_least, benchmark, size):8.2f} µs  {name}, {size_text(size)}", flush=True)


async def _least(benchmark: Benchmark, size: int) -> float:
    """Microseconds of this process, its threads included, for doing it once."""
    async with benchmark(size) as work:
        count, spent = BATCH, 0.0
        while spent < SECONDS_EACH:
            count *= 2
            spent = await _time(work, count)
        return min([await _time(work, count) for _ in range(REPETITIONS)]) / count * 1e6


async def _time(work: Work, count: int) -> float:
    begin = time.process_time()
    await work(count)
    return time.process_time() - begin


def _content(size: int) -> bytes:
    """A small header, and text in lines of 72."""
    line = b"x" * 70 + b"\r\n"
    return b"From: a@client.test\r\nSubject: test\r\n\r\n" + line * (size // len(line))


def _message(size: int) -> Message:
    meta: dict[str, object] = {"received_via": "127.0.0.1:2025", "received_from": "127.0.0.1:40000"}
    return Message(_ID, _SENDER, (_RECIPIENT,), meta, _content(size), dot_lines=False)


@asynccontextmanager
async def proto_receive(size: int) -> AsyncIterator[Work]:
    """The three commands and the content of a transaction."""
    envelope = [
        b"MAIL FROM:<%b>\r\n" % _SENDER.encode(),
        b"RCPT TO:<%b>\r\n" % _RECIPIENT.encode(),
        b"DATA\r\n",
    ]
    wire = _content(size) + b".\r\n"
    pieces = [wire[start : start + 65_536] for start in range(0, len(wire), 65_536)]
    receiver = Receiver()

    async def work(count: int) -> None:
        for _ in range(count):
            for command in envelope:
                receiver.feed(command)
                line = receiver.next_line()
                assert line is not None
                assert not isinstance(line, Fault)
                parse_command(line)
            receiver.begin_data(max_size=10_000_000, line_limit=998, line_endings="Deny")
            result = None
            for piece in pieces:
                receiver.feed(piece)
                result = receiver.next_data()
            assert result is not None

    yield work


@asynccontextmanager
async def proto_send(size: int) -> AsyncIterator[Work]:
    """What a pipelining client writes for a message, and the four replies."""
    content = _content(size)
    pipelined = b"250 2.1.0 OK\r\n250 2.1.5 OK\r\n354 Send it\r\n"
    reader = ReplyReader()

    async def work(count: int) -> None:
        for _ in range(count):
            b"".join([mail_command(_SENDER), rcpt_command(_RECIPIENT), b"DATA\r\n"])
            stuff(content, has_leading_dots=False, has_clean_endings=True)
            reader.feed(pipelined)
            for command in ("MAIL", "RCPT", "DATA"):
                reader.next(command)
            reader.feed(b"250 2.0.0 OK ids=00112233445566778899aabbccddeeff\r\n")
            assert reader.next(".") is not None

    yield work


@asynccontextmanager
async def _handler(code: str, size: int) -> AsyncIterator[Work]:
    """smtp_server_message_received with a handler of that code."""
    with tempfile.TemporaryDirectory() as directory:
        path = trio.Path(directory, "policy.lua")
        await path.write_text(_POLICY.replace("HANDLER", code))
        host: Any = None  # the policy asks nothing of the node
        policy = LuaPolicy(Path(path), host, trio.current_time)
        await policy.load()
    connection = ConnectionMeta({"received_via": "127.0.0.1:2025"})
    msg = _message(size)

    async def work(count: int) -> None:
        for _ in range(count):
            await policy.ask("smtp_server_message_received", msg, connection)

    yield work
    policy.close()


def lua_empty(size: int) -> AbstractAsyncContextManager[Work]:
    """What an event costs whose handler does nothing."""
    return _handler("", size)


def lua_three_calls(size: int) -> AbstractAsyncContextManager[Work]:
    """set_meta, get_meta and sender."""
    return _handler(
        "msg:set_meta('tenant', msg:get_meta 'received_from') local domain = msg:sender().domain", size
    )


def lua_async_call(size: int) -> AbstractAsyncContextManager[Work]:
    """A call that waits, if only for its turn: trio's own checkpoint is in it."""
    return _handler("kumo.sleep(0)", size)


def lua_memoized(size: int) -> AbstractAsyncContextManager[Work]:
    """A memoized function whose table is in the cache, and a look into it."""
    return _handler("local first = cached('a')[1]", size)


@asynccontextmanager
async def log_records(size: int) -> AsyncIterator[Work]:
    """The Reception and the Delivery of a message, compressed and written."""
    with tempfile.TemporaryDirectory() as directory:
        log = DeliveryLog("557f3ad4-2c8c-11ee-976e-782d7e12e173", time.time, SilentPolicy())
        await log.add_local(LocalLogsConfig(log_dir=directory))
        msg = _message(size)
        received, delivered = (
            Response(250),
            Response(250, EnhancedCode(2, 0, 0), "OK ids=00112233445566778899"),
        )
        incoming = LogContext(peer=Peer("client.test", "127.0.0.1:40000"))
        outgoing = LogContext(
            site="unspecified->dest.test@smtp_client", peer=Peer("dest.test", "127.0.0.1:2026")
        )

        async def work(count: int) -> None:
            for _ in range(count):
                await log.record(RecordType.Reception, msg, received, incoming, queue="dest.test")
                await log.record(RecordType.Delivery, msg, delivered, outgoing, queue="dest.test")

        yield work
        await log.aclose()


@asynccontextmanager
async def spool_store_remove(size: int) -> AsyncIterator[Work]:
    """Content and metadata written in synced batches of 32, then removed."""
    with tempfile.TemporaryDirectory() as directory:
        data = await open_spool(SpoolConfig(name="data", path=f"{directory}/data"))
        meta = await open_spool(SpoolConfig(name="meta", path=f"{directory}/meta"))
        content, metadata = _content(size), b"m" * 200

        async def work(count: int) -> None:
            for start in range(0, count, BATCH):
                ids = [number.to_bytes(16) for number in range(start, start + BATCH)]
                tickets = [(data.store(id, content), meta.store(id, metadata)) for id in ids]
                for data_ticket, meta_ticket in tickets:
                    await data.wait_durable(data_ticket)
                    await meta.wait_durable(meta_ticket)
                for id in ids:
                    meta.remove(id)
                    data.remove(id)

        yield work
        await data.aclose()
        await meta.aclose()


BENCHMARKS: dict[Benchmark, tuple[int, ...]] = {
    proto_receive: (1024, 102_400),
    proto_send: (1024, 102_400),
    lua_empty: (1024,),
    lua_three_calls: (1024,),
    lua_async_call: (1024,),
    lua_memoized: (1024,),
    log_records: (1024,),
    spool_store_remove: (1024, 102_400),
}
"""With the sizes of messages."""
