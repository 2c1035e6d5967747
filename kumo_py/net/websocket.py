"""A WebSocket client (RFC 6455) that reads when it is asked to: no task runs in the background.

wsproto is the protocol. Pings are answered while somebody receives. The owner closes it; `close` never waits and
needs no running trio.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from weakref import finalize

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from kumo_py.net.http import Headers, HttpError, HttpResponse, connect

if TYPE_CHECKING:
    import ssl

    from kumo_py.core.url import Url
    from kumo_py.net.transport import SocketTransport

MAX_MESSAGE = 64 * 1024 * 1024
"""Octets of a message, all its frames together."""


class WebSocket:
    """An open connection."""

    def __init__(self, transport: SocketTransport) -> None:
        self._transport = transport
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._turn = trio.Lock()
        self._parts: list[bytes] = []
        self._size = 0
        self._open = True
        finalize(self, transport.close)

    async def receive(self) -> bytes | None:
        """The next message; None once the connection is closed. Raises OSError. A cancelled wait loses nothing."""
        async with self._turn:
            while self._open:
                for event in self._protocol.events():
                    if isinstance(event, Message):
                        if (message := self._message(event)) is not None:
                            return message
                    elif isinstance(event, Ping):
                        await self._send(event.response())
                    elif isinstance(event, CloseConnection):
                        with suppress(LocalProtocolError, OSError):
                            await self._send(event.response())
                        self.close()
                        return None
                await self._read()
            return None

    def close(self) -> None:
        """Close now."""
        self._open = False
        self._transport.close()

    async def shake_hands(self, url: Url) -> HttpResponse:
        """Raises OSError unless the server agrees (RFC 6455 §4.1)."""
        await self._send(Request(host=url.authority, target=url.target))
        while True:
            for event in self._protocol.events():
                if isinstance(event, AcceptConnection):
                    headers: Headers = [(name.lower(), value) for name, value in event.extra_headers]
                    if event.subprotocol is not None:
                        headers.append((b"sec-websocket-protocol", event.subprotocol.encode()))
                    return HttpResponse(101, headers, b"", url)
                if isinstance(event, RejectConnection):
                    raise HttpError(
                        f"HTTP error: {_status(event.status_code)} instead of switching protocols"
                    )
            if not self._open:
                raise HttpError("the server closed the connection before it answered")
            await self._read()

    async def _read(self) -> None:
        data = await self._transport.receive()
        if not data:
            self.close()
            return
        try:
            self._protocol.receive_data(data)
        except RemoteProtocolError as err:
            self.close()
            raise HttpError(f"the server does not speak the WebSocket protocol: {err}") from None

    async def _send(self, event: Event) -> None:
        await self._transport.send_all(self._protocol.send(event))

    def _message(self, event: Message[Any]) -> bytes | None:
        """A whole message, if this was the last piece of it."""
        if isinstance(event, TextMessage):
            self._parts.append(event.data.encode())
        elif isinstance(event, BytesMessage):
            self._parts.append(bytes(event.data))
        self._size += len(self._parts[-1])
        if self._size > MAX_MESSAGE:
            self.close()
            raise HttpError(f"a message is larger than {MAX_MESSAGE} octets")
        if not event.message_finished:
            return None
        message = b"".join(self._parts)
        self._parts, self._size = [], 0
        return message


def _status(code: int) -> str:
    """As KumoMTA words it, which its shaping helper looks for."""
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


async def open_websocket(url: Url, tls: ssl.SSLContext | None) -> tuple[WebSocket, HttpResponse]:
    """A connection and the response that opened it. Raises OSError."""
    websocket = WebSocket(await connect(url.host, url.port, tls))
    try:
        return websocket, await websocket.shake_hands(url)
    except BaseException:
        websocket.close()
        raise
