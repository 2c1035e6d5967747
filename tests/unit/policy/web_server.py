"""A small HTTP/1.1 server on loopback that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import h11
import trio

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass
class Answer:
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    """Declared by Content-Length unless the headers have Transfer-Encoding or Connection: close."""


@dataclass
class WebServer:
    """`answers` by target; a target that is not there gets 404. A function may wait, or return raw octets."""

    port: int = 0
    answers: dict[str, Answer | bytes | Callable[[Asked], Awaitable[Answer | bytes]]] = field(
        default_factory=dict
    )
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    changed: trio.Event = field(default_factory=trio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def until_open(self, count: int) -> None:
        """Wait until that many connections are open."""
        with trio.fail_after(5):
            while self.open != count:
                await self.changed.wait()

    def _count(self, difference: int) -> None:
        self.open += difference
        self.changed.set()
        self.changed = trio.Event()

    async def serve(self, tls: ssl.SSLContext | None, plain: trio.SocketStream) -> None:
        self.connections += 1
        self._count(1)
        try:
            stream: trio.abc.Stream = plain
            if tls is not None:
                stream = trio.SSLStream(plain, tls, server_side=True, https_compatible=True)
            await self._talk(stream)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(plain)
            self._count(-1)

    async def _talk(self, stream: trio.abc.Stream) -> None:
        state = h11.Connection(h11.SERVER, max_incomplete_event_size=200_000)
        head: h11.Request | None = None
        body = b""
        while True:
            event = state.next_event()
            if event is h11.NEED_DATA:
                state.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
                asked = Asked(head.method.decode(), head.target.decode(), headers, body)
                self.asked.append(asked)
                answer = self.answers.get(asked.target, Answer(404))
                if callable(answer):
                    answer = await _unless_gone(stream, answer, asked)
                if isinstance(answer, bytes):
                    await stream.send_all(answer)
                    return
                await stream.send_all(self._rendered(state, answer))
                if state.our_state is h11.MUST_CLOSE:
                    return
                state.start_next_cycle()
            else:
                return

    @staticmethod
    def _rendered(state: h11.Connection, answer: Answer) -> bytes:
        headers = list(answer.headers)
        if not any(name.lower() in ("transfer-encoding", "connection") for name, _ in headers):
            headers.append(("Content-Length", str(len(answer.body))))
        parts = (
            state.send(h11.Response(status_code=answer.status, headers=headers)),
            state.send(h11.Data(data=answer.body)),
            state.send(h11.EndOfMessage()),
        )
        return b"".join(part or b"" for part in parts)


async def _unless_gone(
    stream: trio.abc.Stream, answer: Callable[[Asked], Awaitable[Answer | bytes]], asked: Asked
) -> Answer | bytes:
    """The answer, but for a client that closes the connection first."""
    result: Answer | bytes = b""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await stream.receive_some(1)
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        result = await answer(asked)
        nursery.cancel_scope.cancel()
    return result


@asynccontextmanager
async def web_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[WebServer]:
    """A server that runs as long as the block."""
    server = WebServer()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            partial(trio.serve_tcp, partial(server.serve, tls), 0, host="127.0.0.1")
        )
        server.port = listeners[0].socket.getsockname()[1]
        try:
            yield server
        finally:
            nursery.cancel_scope.cancel()
