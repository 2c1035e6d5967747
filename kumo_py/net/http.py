"""An HTTP/1.1 client (RFC 9112): a pool of connections that keeps what it may use again.

h11 is the grammar, SocketTransport the socket. A request costs about a quarter of the CPU time that it costs with
httpx (docs/dependencies.md). The caller bounds the time, by a cancel scope; everything else is bounded here:
headers by 64 KiB, bodies by what the caller says, idle connections by number and age.

The pool owns the idle connections, `send` the one that it uses. `close` never waits and needs no running trio, so
that a garbage collector may call it.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import h11
import structlog
import trio

from kumo_py.net.client_tls import problem
from kumo_py.net.transport import SocketTransport

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from kumo_py.core.url import Url

log = structlog.get_logger("kumo_py.net.http")

Headers: TypeAlias = list[tuple[bytes, bytes]]

MAX_HEAD = 64 * 1024
"""Octets of a response's status line and headers."""
MAX_IDLE = 64
"""Idle connections of a pool, all servers together."""
MAX_REDIRECTS = 10

_IDEMPOTENT = ("GET", "PUT", "HEAD", "DELETE", "OPTIONS")
_SECRET_HEADERS = (b"authorization", b"cookie", b"proxy-authorization", b"www-authenticate")
_BODY_HEADERS = (b"content-type", b"content-length", b"content-encoding")


class HttpError(OSError):
    """No usable response; the text says how far the request came."""


class _Stale(Exception):
    """The server had closed an idle connection before it saw the request."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is sent. Header names are in lower case; Host and Content-Length are added where they lack."""

    method: str
    url: Url
    headers: Headers
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What came back, body included."""

    status: int
    headers: Headers
    """Names in lower case, in the order of arrival."""
    body: bytes
    url: Url
    """Where it came from, after redirects."""


class HttpPool:
    """Connections to any number of servers."""

    def __init__(
        self,
        tls: Callable[[], Awaitable[ssl.SSLContext]],
        *,
        idle_timeout: float = 90.0,
        verbose: bool = False,
    ) -> None:
        """`tls` gives the context for https, when it is first needed; `idle_timeout` is in seconds.

        verbose: log what becomes of connections, at the level debug.
        """
        self._tls = tls
        self._idle_timeout = idle_timeout
        self._verbose = verbose
        self._idle: dict[_Connection, None] = {}  # the one that was used last at the end
        self._closed = False

    async def fetch(self, request: HttpRequest, *, max_body: int) -> HttpResponse:
        """Send a request and follow redirects. Raises HttpError."""
        for _ in range(MAX_REDIRECTS + 1):
            response = await self.send(request, max_body=max_body)
            following = _redirected(request, response)
            if following is None:
                return response
            request = following
        raise HttpError(f"{request.method} {request.url}: more than {MAX_REDIRECTS} redirects")

    async def send(self, request: HttpRequest, *, max_body: int) -> HttpResponse:
        """One request, one response of at most `max_body` octets. Raises HttpError."""
        url = request.url
        origin = (url.is_secure, url.host, url.port)
        head = _head(request)
        try:
            connection = self._take(origin)
            if connection is not None:
                try:
                    return await self._exchange(connection, request, head, max_body)
                except _Stale:
                    if request.method not in _IDEMPOTENT:
                        raise HttpError("the server closed the connection before it answered") from None
            connection = await self._connect(origin)
            try:
                return await self._exchange(connection, request, head, max_body)
            except _Stale:
                raise HttpError("the server closed the connection before it answered") from None
        except (OSError, h11.ProtocolError) as err:
            raise HttpError(f"{request.method} {url}: {problem(err)}") from err

    def close(self) -> None:
        """Close what is idle; what is in use is closed after its response."""
        self._closed = True
        for connection in self._idle:
            connection.transport.close()
        self._idle.clear()

    async def _exchange(
        self, connection: _Connection, request: HttpRequest, head: h11.Request, max_body: int
    ) -> HttpResponse:
        reusable = False
        try:
            response = await connection.exchange(head, request, max_body)
            reusable = connection.is_reusable
            return response
        finally:
            if reusable and not self._closed:
                self._keep(connection)
            else:
                self._drop(connection, "closed after use")

    def _take(self, origin: tuple[bool, str, int]) -> _Connection | None:
        """An idle connection on which nothing has arrived; it is not the pool's any more."""
        self._expire()
        for connection in reversed(list(self._idle)):
            if connection.origin == origin:
                break
        else:
            return None
        del self._idle[connection]
        try:
            unasked = connection.transport.poll()
        except OSError:
            unasked = b""
        if unasked is None:
            self._say("used again", connection)
            return connection
        self._drop(connection, "was closed by the server")
        return self._take(origin)

    def _keep(self, connection: _Connection) -> None:
        connection.idle_since = trio.current_time()
        self._idle[connection] = None
        if len(self._idle) > MAX_IDLE:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            self._drop(oldest, "too many idle connections")

    def _expire(self) -> None:
        limit = trio.current_time() - self._idle_timeout
        while self._idle and (oldest := next(iter(self._idle))).idle_since <= limit:
            del self._idle[oldest]
            self._drop(oldest, "idle for too long")

    def _drop(self, connection: _Connection, reason: str) -> None:
        connection.transport.close()
        self._say(reason, connection)

    def _say(self, what: str, connection: _Connection) -> None:
        if self._verbose:
            secure, host, port = connection.origin
            log.debug("http connection", what=what, host=host, port=port, tls=secure)

    async def _connect(self, origin: tuple[bool, str, int]) -> _Connection:
        secure, host, port = origin
        tls = await self._tls() if secure else None
        transport = await connect(host, port, tls)
        connection = _Connection(origin, transport)
        self._say("opened", connection)
        return connection


async def connect(host: str, port: int, tls: ssl.SSLContext | None = None) -> SocketTransport:
    """A connection to the first address of a name that answers. Raises OSError."""
    stream = await trio.open_tcp_stream(host, port)
    sock = socket.socket(fileno=stream.socket.detach())
    try:
        transport = SocketTransport(sock)
    except OSError:  # reset already
        sock.close()
        raise
    if tls is not None:
        try:
            await transport.start_tls(tls, server_hostname=host)
        except BaseException:
            transport.close()
            raise
    return transport


class _Connection:
    """One connection and the state of its protocol."""

    __slots__ = ("_h11", "idle_since", "origin", "transport", "was_used")

    def __init__(self, origin: tuple[bool, str, int], transport: SocketTransport) -> None:
        self.origin = origin
        """Whether it is TLS, host and port."""
        self.transport = transport
        self.idle_since = 0.0
        """Trio time."""
        self.was_used = False
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)

    @property
    def is_reusable(self) -> bool:
        state = self._h11
        return state.our_state is h11.DONE and state.their_state is h11.DONE and not state.trailing_data[0]

    async def exchange(self, head: h11.Request, request: HttpRequest, max_body: int) -> HttpResponse:
        """Raises HttpError, OSError, h11.ProtocolError, or _Stale."""
        state = self._h11
        may_be_stale, self.was_used = self.was_used, True
        if may_be_stale:
            state.start_next_cycle()
        parts = [state.send(head) or b""]
        if request.body:
            parts += state.send_with_data_passthrough(h11.Data(data=request.body)) or ()
        parts.append(state.send(h11.EndOfMessage()) or b"")
        refused: OSError | None = None
        try:
            await self.transport.send_parts(parts)
        except OSError as err:  # the response may be there all the same: a server that refuses the body
            refused = err
        response: h11.Response | None = None
        body: list[bytes] = []
        size = 0
        while True:
            event = state.next_event()
            if event is h11.NEED_DATA:
                try:
                    data = await self.transport.receive()
                except OSError:
                    data = b""
                    if response is not None:
                        raise
                if not data and response is None:
                    if refused is not None and not may_be_stale:
                        raise refused
                    raise _Stale
                state.receive_data(data)
            elif type(event) is h11.Data:
                size += len(event.data)
                if size > max_body:
                    raise HttpError(f"the response is larger than {max_body} octets")
                body.append(bytes(event.data))
            elif type(event) is h11.Response:
                response = event
            elif type(event) is h11.EndOfMessage:
                assert response is not None
                return HttpResponse(response.status_code, list(response.headers), b"".join(body), request.url)


def _head(request: HttpRequest) -> h11.Request:
    """Raises HttpError for headers that cannot be sent."""
    headers = request.headers
    names = {name for name, _ in headers}
    if b"host" not in names:
        headers = [(b"host", request.url.authority.encode()), *headers]
    if b"content-length" not in names and (request.body or request.method in ("POST", "PUT")):
        headers = [*headers, (b"content-length", b"%d" % len(request.body))]
    try:
        return h11.Request(method=request.method, target=request.url.target, headers=headers)
    except h11.LocalProtocolError as err:
        raise HttpError(f"{request.method} {request.url}: {err}") from None


def _redirected(request: HttpRequest, response: HttpResponse) -> HttpRequest | None:
    """What a redirect asks for (RFC 9110 §15.4); None if it is none, or leads nowhere."""
    if response.status not in (301, 302, 303, 307, 308):
        return None
    location = next((value for name, value in response.headers if name == b"location"), None)
    if location is None:
        return None
    try:
        url = request.url.join(location.decode("utf-8", "replace"))
    except ValueError:
        return None
    headers = [item for item in request.headers if item[0] != b"host"]
    if (url.host, url.port) != (request.url.host, request.url.port):
        headers = [item for item in headers if item[0] not in _SECRET_HEADERS]
    if response.status in (307, 308) or request.method in ("GET", "HEAD"):
        return replace(request, url=url, headers=headers)
    headers = [item for item in headers if item[0] not in _BODY_HEADERS]
    return HttpRequest("GET", url, headers)
