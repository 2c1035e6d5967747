"""A node of fakes around real SMTP sessions, over memory streams and, if the test asks for it, the virtual clock."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio
from trio.testing import memory_stream_pair

from kumo_py.core.options import convert
from kumo_py.net.transport import StreamTransport
from kumo_py.smtp_in.endpoint import Endpoint
from kumo_py.smtp_in.params import ListenerParams
from kumo_py.smtp_in.services import Services

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from kumo_py.logs import LogContext, RecordType
    from kumo_py.message.message import Message
    from kumo_py.proto.reply import Response

HOST = "mx.test"
WALL = 1_763_768_000.0
DATE = "Fri, 21 Nov 2025 23:33:20 +0000"


class ScriptedPolicy:
    """Python handlers, sync or async, under the events' names."""

    def __init__(self, handlers: dict[str, Callable[..., Any]]) -> None:
        self.handlers = handlers
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def handles(self, event: str) -> bool:
        return event in self.handlers

    def start(self, event: str, *args: Any) -> Awaitable[Any] | None:
        return self.ask(event, *args)

    async def ask(self, event: str, *args: Any) -> Any:
        self.asked.append((event, args))
        handler = self.handlers.get(event)
        answer = None if handler is None else handler(*args)
        return await answer if inspect.isawaitable(answer) else answer

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.asked]


class FakeQueues:
    """Takes everything, unless an error is set for a queue's name."""

    def __init__(self) -> None:
        self.inserted: list[tuple[Message, str]] = []
        self.resolve_errors: dict[str, Exception] = {}
        self.insert_errors: dict[str, Exception] = {}
        self.before_resolve: Callable[[str], Any] | None = None

    async def resolve(self, name: str) -> str:
        if self.before_resolve is not None:
            await self.before_resolve(name)
        if name in self.resolve_errors:
            raise self.resolve_errors[name]
        return name

    async def insert(self, msg: Message, queue: str) -> None:
        if queue in self.insert_errors:
            raise self.insert_errors[queue]
        self.inserted.append((msg, queue))

    @property
    def messages(self) -> list[Message]:
        return [msg for msg, _ in self.inserted]


class FakeSpool:
    """Keeps what is saved in a dict; `fail` is called before each save."""

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}
        self.fail: Callable[[Message], Any] | None = None
        self.saves: list[int] = []
        """How many messages each call was about."""

    async def save(self, *messages: Message) -> None:
        self.saves.append(len(messages))
        try:
            for msg in messages:
                if self.fail is not None and inspect.isawaitable(result := self.fail(msg)):
                    await result
                self.stored[msg.id] = msg.data
                msg.data_saved = msg.meta_saved = msg.spooled = True
        except BaseException:
            for msg in messages:
                self.remove(msg)
            raise

    async def load(self, msg: Message) -> None:
        msg.load_data(self.stored[msg.id])

    def remove(self, msg: Message) -> None:
        self.stored.pop(msg.id, None)
        msg.data_saved = msg.meta_saved = msg.spooled = False


class FakeLog:
    """Keeps the records; shape of a record: (kind, message, response, context)."""

    def __init__(self) -> None:
        self.records: list[tuple[RecordType, Message, Response, LogContext]] = []
        self.rejections: list[tuple[str | None, tuple[str, ...], Response, LogContext]] = []

        self.wanted = True
        self.audit: Any = None

    def wants(self, kind: RecordType) -> bool:
        return self.wanted

    async def record(
        self, kind: RecordType, msg: Message, response: Response, context: LogContext, **_: Any
    ) -> None:
        self.records.append((kind, msg, response, context))

    async def record_rejection(
        self,
        sender: str | None,
        recipients: Iterable[str],
        response: Response,
        context: LogContext,
        meta: dict[str, object],
    ) -> None:
        self.rejections.append((sender, tuple(recipients), response, context))

    @property
    def kinds(self) -> list[str]:
        return [kind.value for kind, *_ in self.records]


class Client:
    """The other end. A reply is shown as "CODE text", its lines separated by newlines."""

    def __init__(self, stream: trio.abc.Stream, ended: trio.Event) -> None:
        self.stream = stream
        self.ended = ended
        """Set when the session has come to its end."""
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def reply(self) -> str:
        lines = []
        while True:
            while b"\r\n" not in self._buffer:
                data = await self.stream.receive_some()
                assert data, f"closed after {lines} {self._buffer!r}"
                self._buffer += data
            line, self._buffer = self._buffer.split(b"\r\n", 1)
            lines.append(line[4:].decode())
            if line[3:4] != b"-":
                return f"{line[:3].decode()} " + "\n".join(lines)

    async def replies(self, count: int) -> list[str]:
        return [await self.reply() for _ in range(count)]

    async def codes(self, count: int) -> list[str]:
        return [reply[:3] for reply in await self.replies(count)]

    async def command(self, line: str | bytes) -> str:
        await self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return await self.reply()

    async def commands(self, *lines: str) -> list[str]:
        return [await self.command(line) for line in lines]

    async def greet(self) -> str:
        """Banner and EHLO; returns the reply to the latter."""
        await self.reply()
        return await self.command("EHLO client.test")

    async def start_data(self, sender: str = "from@a.test", *recipients: str) -> None:
        await self.greet()
        assert (await self.command(f"MAIL FROM:<{sender}>")).startswith("250")
        for recipient in recipients or ("to@b.test",):
            assert (await self.command(f"RCPT TO:<{recipient}>")).startswith("250")
        assert (await self.command("DATA")).startswith("354")

    async def deliver(self, content: bytes = b"Subject: x\r\n\r\nhello\r\n", *recipients: str) -> str:
        """A whole transaction after the greeting; the reply to its content."""
        await self.start_data("from@a.test", *recipients)
        await self.send(content + b".\r\n")
        return await self.reply()

    async def closed(self) -> bytes:
        """What still came, once the server has closed the connection."""
        rest = self._buffer
        while data := await self.stream.receive_some():
            rest += data
        return rest


class Node:
    """Services of fakes, one endpoint, and clients for it."""

    def __init__(
        self,
        nursery: trio.Nursery,
        handlers: dict[str, Callable[..., Any]] | None = None,
        **options: Any,
    ) -> None:
        self._nursery = nursery
        ids = itertools.count(1)
        self.policy = ScriptedPolicy({} if handlers is None else handlers)
        self.queues = FakeQueues()
        self.spool = FakeSpool()
        self.log = FakeLog()
        self.refusal: str | None = None
        self.services = Services(
            policy=self.policy,
            queues=self.queues,
            spool=self.spool,  # type: ignore[arg-type]  # a fake
            log=self.log,  # type: ignore[arg-type]  # a fake
            new_id=lambda: next(ids).to_bytes(16),
            wall=lambda: WALL,
            refusing=lambda: self.refusal,
            tls_context=self._tls_context,
            hostname=HOST,
        )
        self.server_context: Any = None
        self.endpoint = Endpoint(convert(options, ListenerParams, "kumo.start_esmtp_listener"), self.services)
        nursery.start_soon(self.endpoint.sweep)

    async def _tls_context(self, params: Any) -> Any:
        if self.server_context is None:
            raise OSError("no certificate")
        return self.server_context

    def connect(self, peer: str = "127.0.0.1:40000") -> Client:
        """A new session, from the given address."""
        ours, theirs = memory_stream_pair()
        ended = trio.Event()
        session = self.endpoint.admit(StreamTransport(theirs, "192.0.2.1:25", peer))

        async def run() -> None:
            await self.endpoint.run(session)
            ended.set()

        self._nursery.start_soon(run)
        return Client(ours, ended)

    @property
    def message(self) -> Message:
        """The only message that was queued."""
        (message,) = self.queues.messages
        return message

    @property
    def rejections(self) -> list[tuple[str | None, str | None, int, str | None]]:
        """Sender, last recipient, code and command of each Rejection record."""
        return [
            (sender, recipients[-1] if recipients else None, response.code, response.command)
            for sender, recipients, response, _ in self.log.rejections
        ]


MakeNode = Callable[..., Node]
