"""One connection of an HTTP/1.1 client (RFC 9112): its requests, one after the other, and their responses.

h11 is the grammar, SocketTransport the socket, as for the client in `net/http.py`. Whatever a client does is bounded
here: the time that it takes, and what it makes us keep. A body is read only when an endpoint asks for it, so that
nobody who may not use an endpoint makes us take what he sends.
"""

from __future__ import annotations

from contextlib import aclosing, suppress
from email.utils import formatdate
from typing import TYPE_CHECKING

import h11
import structlog
import trio

from kumo_py.admin.exchange import TEXT, Refusal, Request, Response
from kumo_py.core.cidr import split_host_port

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from kumo_py.net.transport import Transport

log = structlog.get_logger("kumo_py.admin")

MAX_HEAD = 32 * 1024
"""Octets of a request line and headers."""
HEAD_TIME = 10.0
"""Seconds in which a request line and headers arrive; also for a TLS handshake."""
IDLE_TIME = 75.0
"""Seconds for which a connection is kept between two requests."""
BODY_TIME = 30.0
"""Seconds that a body may take, and one more for each KiB of it."""
SEND_TIME = 30.0
"""Seconds in which a client must take each piece of a response, and one more for each KiB of it."""
LINGER_TIME = 2.0
"""Seconds for which what nobody wants is read: closing at once could destroy the response (RFC 9112 §9.6)."""
LINGER_SIZE = 1 << 20
"""Octets of that."""

_WORTH_A_WRITE = 4096
"""Octets; less waits for what follows, so that a short response goes out in one write."""


class Connection:
    """Runs until the client leaves, `end` is called, or somebody breaks a rule. Owns its transport."""

    def __init__(
        self, transport: Transport, answer: Callable[[Request], Awaitable[Response]], max_body: int
    ) -> None:
        """`answer` may raise Refusal; `max_body` is in octets."""
        self._transport = transport
        self._answer = answer
        self._max_body = max_body
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._peer_ip = split_host_port(transport.peer)[0]
        self._local_ip = split_host_port(transport.local)[0]
        self._waiting = trio.CancelScope()
        self._ending = False
        self._requests = 0

    async def run(self, tls: ssl.SSLContext | None) -> None:
        """Serve the client. Raises nothing."""
        try:
            if tls is not None:
                with trio.fail_after(HEAD_TIME):
                    await self._transport.start_tls(tls)
            while await self._serve_one():
                self._h11.start_next_cycle()
        except (OSError, trio.TooSlowError) as err:
            log.debug("an HTTP connection broke off", peer=self._peer_ip, error=str(err))
        except Exception:
            log.exception("an HTTP connection broke off", peer=self._peer_ip)
        finally:
            self._transport.close()

    def end(self) -> None:
        """End after the request in hand; at once, if there is none."""
        self._ending = True
        self._waiting.cancel()

    async def _serve_one(self) -> bool:
        """Whether there may be another request."""
        is_head = False
        try:
            head = await self._receive_head()
            if head is None:
                return False
            is_head = head.method == b"HEAD"
            _refuse_doubtful(head)
            response = await self._respond(head)
            if response.take_over is not None:
                await self._hand_over(response.take_over)
                return False
        except h11.RemoteProtocolError as err:
            response = Response(f"not HTTP: {err}".encode(), err.error_status_hint)
            self._ending = True  # what follows may be anything
        keep = self._is_received() and not self._ending
        await self._send(response, is_head=is_head, close=not keep)
        if self._h11.their_state in (h11.SEND_BODY, h11.ERROR) or (not keep and self._h11.trailing_data[0]):
            await self._linger()
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    async def _receive_head(self) -> h11.Request | None:
        """None if the client left or was too slow, or if `end` was called.

        Raises OSError or h11.RemoteProtocolError.
        """
        self._waiting = scope = trio.CancelScope()
        if self._ending:
            return None
        begun = self._requests == 0 or bool(self._h11.trailing_data[0])
        self._requests += 1
        scope.deadline = trio.current_time() + (HEAD_TIME if begun else IDLE_TIME)
        with scope:
            while True:
                event = self._h11.next_event()
                if type(event) is h11.Request:
                    return event
                if event is not h11.NEED_DATA:
                    return None
                self._h11.receive_data(await self._transport.receive())
                if not begun:
                    begun = True
                    scope.deadline = trio.current_time() + HEAD_TIME
        return None

    async def _respond(self, head: h11.Request) -> Response:
        """Raises OSError or h11.RemoteProtocolError."""
        try:
            method, target = head.method.decode("ascii"), head.target.decode("ascii")
            request = Request(
                method, target, list(head.headers), self._peer_ip, self._local_ip, self._read_body
            )
            return await self._answer(request)
        except Refusal as err:
            return Response(err.text.encode("utf-8", "replace"), err.status, TEXT, err.headers)
        except (OSError, h11.RemoteProtocolError):
            raise
        except Exception:
            log.exception("an HTTP request failed", method=head.method, target=head.target)
            return Response(b"Error: this should not happen; the diagnostic log says more", 500)

    async def _hand_over(self, take_over: Callable[[Transport, bytes], Awaitable[None]]) -> None:
        """Raises OSError or trio.TooSlowError."""
        self._waiting = scope = trio.CancelScope()
        if self._ending:
            scope.cancel()
        with scope:
            await take_over(self._transport, self._h11.trailing_data[0])

    async def _read_body(self) -> bytes:
        """Raises Refusal, OSError or h11.RemoteProtocolError."""
        if self._h11.they_are_waiting_for_100_continue:
            start = self._h11.send(h11.InformationalResponse(status_code=100, headers=[]))
            await self._write(start or b"")
        parts: list[bytes] = []
        size = 0
        until = trio.current_time() + BODY_TIME
        with trio.move_on_at(until) as scope:
            while True:
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    self._h11.receive_data(await self._transport.receive())
                elif type(event) is h11.Data:
                    size += len(event.data)
                    if size > self._max_body:
                        raise too_large()
                    parts.append(bytes(event.data))
                    scope.deadline = until + size / 1024
                else:
                    return b"".join(parts)
        raise Refusal(408, "the request body took too long")

    def _is_received(self) -> bool:
        """Whether nothing of the request is still to come. What is here of a body that nobody wants is dropped."""
        with suppress(h11.RemoteProtocolError):
            while self._h11.their_state is h11.SEND_BODY and self._h11.next_event() is not h11.NEED_DATA:
                pass
        return self._h11.their_state is h11.DONE

    async def _send(self, response: Response, *, is_head: bool, close: bool) -> None:
        """Raises OSError or trio.TooSlowError."""
        state, body = self._h11, response.body
        headers = [
            (b"date", formatdate(usegmt=True).encode()),
            (b"content-type", response.content_type),
            (b"x-content-type-options", b"nosniff"),
            *response.headers,
        ]
        if isinstance(body, bytes):
            headers.append((b"content-length", b"%d" % len(body)))
        if close:
            headers.append((b"connection", b"close"))
        start = state.send(h11.Response(status_code=response.status, headers=headers)) or b""
        if isinstance(body, bytes):
            if not is_head:
                start += state.send(h11.Data(data=body)) or b""
        else:
            async with aclosing(body):
                if not is_head:
                    async for piece in body:
                        if len(start) >= _WORTH_A_WRITE:
                            await self._write(start)
                            start = b""
                        start += state.send(h11.Data(data=piece)) or b""
        await self._write(start + (state.send(h11.EndOfMessage()) or b""))

    async def _write(self, data: bytes) -> None:
        if data:
            with trio.fail_after(SEND_TIME + len(data) / 1024):
                await self._transport.send_all(data)

    async def _linger(self) -> None:
        left = LINGER_SIZE
        with trio.move_on_after(LINGER_TIME):
            while left > 0 and (data := await self._transport.receive()):
                left -= len(data)


def _refuse_doubtful(head: h11.Request) -> None:
    """Raises h11.RemoteProtocolError for what h11 takes, and others may read in another way."""
    names = {name for name, _ in head.headers}
    if b"content-length" in names and b"transfer-encoding" in names:  # RFC 9112 §6.1
        raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
    if b"transfer-encoding" in names and head.http_version < b"1.1":  # the same
        raise h11.RemoteProtocolError("Transfer-Encoding in HTTP/1.0")
    if not head.http_version.startswith(b"1."):
        raise h11.RemoteProtocolError("use HTTP/1.1", error_status_hint=505)


def too_large() -> Refusal:
    """What KumoMTA answers."""
    return Refusal(413, "Failed to buffer the request body: length limit exceeded")
