"""WebSocket connections of the HTTP API (RFC 6455): a stream of events for a client that says once what it wants.

Who may open one is decided as for any other request, before anything is switched. A client cannot hold anything up: it
has REQUEST_TIME to say what it wants and SEND_TIME to take what is sent; one that nothing is heard of for DEAD_TIME,
not even an answer to a ping, is gone. When the node stops it is told so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import structlog
import trio
from wsproto.frame_protocol import CloseReason

from kumo_py.admin.exchange import Refusal, Response
from kumo_py.net.websocket import NoUpgrade, WebSocket, server_side

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from kumo_py.admin.exchange import Request
    from kumo_py.net.transport import Transport

log = structlog.get_logger("kumo_py.admin")

MAX_REQUEST = 64 * 1024
"""Octets of what a client says."""
REQUEST_TIME = 10.0
"""Seconds in which it says so."""
SEND_TIME = 60.0
"""Seconds in which it takes what is sent at once, some 64 KiB."""
PING_INTERVAL = 20.0
"""Seconds."""
DEAD_TIME = 3.5 * PING_INTERVAL
"""Seconds; not just when a ping is sent."""
_GOODBYE_TIME = 1.0
"""Seconds that telling why the connection ends may take."""

_End: TypeAlias = tuple[CloseReason, str]
"""Why a connection ends, for the client."""
_GONE: Final = (CloseReason.NORMAL_CLOSURE, "")
"""It knows."""


class Stream(Protocol):
    """What a client gets."""

    def open(self) -> AbstractContextManager[None]:
        """Held while the client is connected, from just before it learns that it is."""
        ...

    def begin(self, request: bytes) -> None:
        """The client has said what it wants. Raises ValueError, whose text it is told."""
        ...

    async def wait(self) -> None:
        """Until there is something to send."""
        ...

    def take(self) -> list[bytes]:
        """What is to be sent next, messages of UTF-8 text: some 64 KiB."""
        ...


def websocket_response(request: Request, stream: Stream) -> Response:
    """Raises Refusal for a request that does not ask for a WebSocket."""
    if request.method != "GET":
        raise Refusal(405, "use GET, and ask for a WebSocket", [(b"allow", b"GET")])
    try:
        protocol = server_side(request.headers, request.target)
    except NoUpgrade as err:
        raise Refusal(err.status, f"this endpoint is a WebSocket: {err}", err.headers) from None

    async def take_over(transport: Transport, early: bytes) -> None:
        websocket = WebSocket(transport, protocol, max_message=MAX_REQUEST)
        end: _End = (CloseReason.GOING_AWAY, "the node is shutting down")  # if this is cancelled
        try:
            with stream.open():
                await websocket.accept(early)
                end = await _serve(websocket, stream)
        finally:
            with trio.move_on_after(_GOODBYE_TIME, shield=True):
                await websocket.say_goodbye(*end)

    return Response(status=101, take_over=take_over)


async def _serve(websocket: WebSocket, stream: Stream) -> _End:
    """Raises OSError."""
    request = None
    with trio.move_on_after(REQUEST_TIME) as scope:
        request = await websocket.receive()
    if scope.cancelled_caught:
        return CloseReason.POLICY_VIOLATION, f"nothing was asked for within {REQUEST_TIME:g}s"
    if request is None:
        return _GONE
    try:
        stream.begin(request)
    except ValueError as err:
        return CloseReason.POLICY_VIOLATION, str(err)
    end = _GONE
    async with trio.open_nursery() as nursery:

        async def until_it_ends(part: Callable[[WebSocket, Stream], Awaitable[_End]]) -> None:
            nonlocal end
            try:
                end = await part(websocket, stream)
            except OSError as err:
                log.debug("a WebSocket broke off", error=str(err))
            nursery.cancel_scope.cancel()

        nursery.start_soon(until_it_ends, _send)
        nursery.start_soon(until_it_ends, _listen)
    return end


async def _send(websocket: WebSocket, stream: Stream) -> _End:
    """Raises OSError."""
    ping_at = trio.current_time() + PING_INTERVAL
    while True:
        with trio.move_on_at(ping_at) as scope:
            await stream.wait()
        with trio.move_on_after(SEND_TIME) as patience:
            if scope.cancelled_caught or ping_at <= trio.current_time():
                ping_at = trio.current_time() + PING_INTERVAL
                await websocket.ping()
            if texts := stream.take():
                await websocket.send_texts(texts)
        if patience.cancelled_caught:
            return CloseReason.POLICY_VIOLATION, f"what was sent was not taken within {SEND_TIME:g}s"
        await trio.lowlevel.checkpoint()


async def _listen(websocket: WebSocket, _stream: Stream) -> _End:
    """Until the client closes the connection, is gone, or says what it should not. Raises OSError."""
    while True:
        with trio.move_on_at(websocket.heard_at + DEAD_TIME):
            if await websocket.receive() is None:
                return _GONE
            return CloseReason.POLICY_VIOLATION, "nothing more can be asked for"
        if websocket.heard_at + DEAD_TIME <= trio.current_time():
            return CloseReason.POLICY_VIOLATION, f"nothing was heard for {DEAD_TIME:g}s"
