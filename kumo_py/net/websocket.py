"""WebSocket connections (RFC 6455), as client and as server, that read when they are asked to: no task runs in the
background.

wsproto is the protocol. Pings are answered while somebody receives. The owner closes it; `close` never waits and
needs no running trio. What a peer makes us keep is bounded: a message by its size, and by the number of its pieces.
"""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from weakref import finalize

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from kumo_py.net.http import Headers, HttpError, HttpResponse, connect

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from kumo_py.core.url import Url
    from kumo_py.net.transport import Transport

MAX_MESSAGE = 64 * 1024 * 1024
"""Octets of a message, all its frames together."""
MAX_REFUSAL = 4096
"""Octets of what a server says instead of switching protocols."""
_MOST_PIECES = 16384
"""Of a message, empty ones counted: they would cost time without end."""
_EVENTS_PER_TURN = 64
"""What is read before other tasks get a turn."""


class UpgradeRefused(HttpError):
    """The server answers as to any other request: its status, and the begin of its text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP error: {_status(status)} instead of switching protocols")
        self.status = status
        self.text = text


class NoUpgrade(ValueError):
    """A request that does not ask to switch to this protocol as it should; the status and headers to answer."""

    def __init__(self, text: str, status: int = 400, headers: Headers | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or []


class WebSocket:
    """An open connection, once `shake_hands` or `accept` has returned."""

    def __init__(
        self, transport: Transport, protocol: WSConnection | None = None, *, max_message: int = MAX_MESSAGE
    ) -> None:
        """`protocol` is what `server_side` gave; without one it is a client."""
        self._transport = transport
        self._protocol = protocol or WSConnection(ConnectionType.CLIENT)
        self._max_message = max_message
        self._turn = trio.Lock()
        self._parts: list[bytes] = []
        self._pieces = 0
        self._size = 0
        self._open = True
        self._sending = trio.Lock()
        self._torn = False
        """A send was cut off in the middle: nothing that follows would be understood."""
        self.heard_at = trio.current_time()
        """When the peer last sent anything (trio time)."""
        self.close_reason: str | None = None
        """What the peer said when it closed the connection."""
        finalize(self, transport.close)

    async def receive(self) -> bytes | None:
        """The next message; None once the connection is closed. Raises OSError. A cancelled wait loses nothing."""
        async with self._turn:
            count = 0
            while self._open:
                for event in self._protocol.events():
                    if isinstance(event, Message):
                        if (message := await self._message(event)) is not None:
                            return message
                    elif isinstance(event, Ping):
                        await self._send(event.response())
                    elif isinstance(event, CloseConnection):
                        self.close_reason = event.reason
                        with suppress(LocalProtocolError, OSError):
                            await self._send(event.response())
                        self.close()
                        return None
                    count += 1
                    if count % _EVENTS_PER_TURN == 0:
                        await trio.lowlevel.checkpoint()
                await self._read()
            return None

    async def send_texts(self, texts: Iterable[bytes]) -> None:
        """Messages of UTF-8 text, in one write. Raises OSError."""
        await self._send(*[TextMessage(text.decode()) for text in texts])

    async def ping(self) -> None:
        """Make the peer say something. Raises OSError."""
        await self._send(Ping())

    async def say_goodbye(self, code: int, reason: str) -> None:
        """Tell the peer why the connection is about to be closed (RFC 6455 §7.4), if it can still be told."""
        if self._open and not self._torn:
            with suppress(LocalProtocolError, OSError):
                await self._send(CloseConnection(code, reason))

    def close(self) -> None:
        """Close now."""
        self._open = False
        self._transport.close()

    async def shake_hands(self, url: Url, headers: Headers | None = None) -> HttpResponse:
        """Raises OSError unless the server agrees (RFC 6455 §4.1); UpgradeRefused if it says why."""
        await self._send(Request(host=url.authority, target=url.target, extra_headers=headers or []))
        refusal: UpgradeRefused | None = None
        while True:
            for event in self._protocol.events():
                if isinstance(event, AcceptConnection):
                    received: Headers = [(name.lower(), value) for name, value in event.extra_headers]
                    if event.subprotocol is not None:
                        received.append((b"sec-websocket-protocol", event.subprotocol.encode()))
                    return HttpResponse(101, received, b"", url)
                if isinstance(event, RejectConnection):
                    refusal = UpgradeRefused(event.status_code, "")
                    if not event.has_body:
                        raise refusal
                elif isinstance(event, RejectData) and refusal is not None:
                    refusal.text += event.data.decode("utf-8", "replace")
                    if event.body_finished or len(refusal.text) > MAX_REFUSAL:
                        raise refusal
            if not self._open:
                raise refusal or HttpError("the server closed the connection before it answered")
            await self._read()

    async def accept(self, early: bytes = b"") -> None:
        """Agree, as the server; `early` is what the client sent behind its request. Raises OSError."""
        await self._send(AcceptConnection())
        if early:
            self._feed(early)

    async def _read(self) -> None:
        data = await self._transport.receive()
        if not data:
            self.close()
            return
        self.heard_at = trio.current_time()
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        try:
            self._protocol.receive_data(data)
        except RemoteProtocolError as err:
            self.close()
            raise HttpError(f"the server does not speak the WebSocket protocol: {err}") from None

    async def _send(self, *events: Event) -> None:
        async with self._sending:
            data = b"".join([self._protocol.send(event) for event in events])
            self._torn = True
            await self._transport.send_all(data)
            self._torn = False

    async def _message(self, event: Message[Any]) -> bytes | None:
        """A whole message, if this was the last piece of it."""
        piece = event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
        if piece:
            self._parts.append(piece)
        self._size += len(piece)
        self._pieces += 1
        if self._size > self._max_message or self._pieces > _MOST_PIECES:
            text = f"a message is larger than {self._max_message} octets"
            if self._pieces > _MOST_PIECES:
                text = f"a message has more than {_MOST_PIECES} pieces"
            await self.say_goodbye(CloseReason.MESSAGE_TOO_BIG, text)
            self.close()
            raise HttpError(text)
        if not event.message_finished:
            return None
        message = b"".join(self._parts)
        self._parts, self._size, self._pieces = [], 0, 0
        return message


def server_side(headers: Headers, target: str) -> WSConnection:
    """The protocol for a GET request that asks to switch to it (RFC 6455 §4.2.1). Raises NoUpgrade."""
    protocol = WSConnection(ConnectionType.SERVER)
    try:
        protocol.initiate_upgrade_connection(headers, target)
        keys = [value for name, value in headers if name == b"sec-websocket-key"]
        if len(keys) != 1 or len(base64.b64decode(keys[0], validate=True)) != 16:
            raise NoUpgrade("Sec-WebSocket-Key must be 16 octets in base64")
    except RemoteProtocolError as err:
        status = getattr(err.event_hint, "status_code", 400)
        raise NoUpgrade(str(err), status, list(getattr(err.event_hint, "headers", []))) from None
    except (UnicodeError, binascii.Error, LocalProtocolError) as err:
        raise NoUpgrade(f"not a WebSocket request: {err}") from None
    for _ in protocol.events():
        pass  # the request itself
    return protocol


def _status(code: int) -> str:
    """As KumoMTA words it, which its shaping helper looks for."""
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


async def open_websocket(
    url: Url, tls: ssl.SSLContext | None, headers: Headers | None = None
) -> tuple[WebSocket, HttpResponse]:
    """A connection, asked for with these headers too, and the response that opened it. Raises OSError."""
    transport = await connect(url.host, url.port, tls)
    transport.keep_alive()
    websocket = WebSocket(transport)
    try:
        return websocket, await websocket.shake_hands(url, headers)
    except BaseException:
        websocket.close()
        raise
