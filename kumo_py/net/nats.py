"""A NATS client that publishes: one connection to one of several servers, for any number of tasks at once.

`run` keeps the connection: it tries the servers in turn, answers their PINGs, sends its own, and begins anew when the
connection ends. What is published meanwhile waits for a connection, within its time. An acknowledgement of JetStream
is a message to an inbox of ours; what waits for one when the connection ends fails, and may have been stored.
"""

from __future__ import annotations

import math
import random
import secrets
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
import structlog
import trio

from kumo_py.core.duration import format_duration
from kumo_py.net.client_tls import client_context, problem, without_login
from kumo_py.net.http import connect as open_transport
from kumo_py.proto.nats import (
    Delivery,
    Info,
    NatsKey,
    NatsProtocolError,
    Parser,
    Refusal,
    Word,
    check_subject,
    connect,
    header_block,
    publish,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from kumo_py.net.transport import SocketTransport
    from kumo_py.proto.nats import Operation

log = structlog.get_logger("kumo_py.net.nats")

DEFAULT_PORT = 4222
CONNECTION_TIMEOUT = 5.0
PING_INTERVAL = 60.0
REQUEST_TIMEOUT = 10.0
"""Seconds, unless the options say otherwise; as KumoMTA has them."""
CAPACITY = 2048
LONGEST_DELAY = 4.0
"""Seconds between two rounds over the servers, at most."""
_MOST_PINGS = 2
_MOST_DISCOVERED = 256


class NatsError(OSError):
    """Nothing was published, or nobody says that it was; the text says why."""


class _NotSent(NatsError):
    """The connection ended before any of the message was sent."""


class Server(NamedTuple):
    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = None
    name: str = ""
    """Of what was configured: for the certificate of a server that another one told of."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_server(url: str) -> Server:
    """Parse HOST[:PORT], nats://[USER:PASSWORD@]HOST[:PORT], or tls:// for TLS. Raises ValueError."""
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        port = parts.port
    except ValueError as err:
        raise ValueError(f"'{without_login(url)}' is not the address of a NATS server: {err}") from None
    if parts.scheme not in ("nats", "tls") or not parts.hostname:
        raise ValueError(
            f"'{without_login(url)}' is not the address of a NATS server: "
            "write HOST:PORT, nats://HOST:PORT or tls://HOST:PORT"
        )
    return Server(
        parts.hostname,
        DEFAULT_PORT if port is None else port,
        parts.scheme == "tls",
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
        parts.hostname,
    )


class Login(NamedTuple):
    """What a client shows; at most one of password, token and key."""

    username: str | None = None
    password: str | None = None
    token: str | None = None
    key: NatsKey | None = None
    jwt: str | None = None


class NatsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to connect; durations in seconds."""

    servers: tuple[Server, ...]
    name: str | None = None
    no_echo: bool = False
    max_reconnects: int = 0
    """Attempts in a row; 0 is without end."""
    connection_timeout: float = CONNECTION_TIMEOUT
    tls_required: bool = False
    tls_first: bool = False
    certificate: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    ping_interval: float = PING_INTERVAL
    capacity: int = CAPACITY
    """Messages that may be on their way at once; more wait."""
    inbox_prefix: str = "_INBOX"
    request_timeout: float = REQUEST_TIMEOUT
    retry_on_initial_connect: bool = False
    ignore_discovered_servers: bool = False
    retain_servers_order: bool = False


class Stored(msgspec.Struct, frozen=True):
    """JetStream's acknowledgement."""

    stream: str
    seq: int
    domain: str = ""
    duplicate: bool = False
    val: str = ""


class _StoreError(msgspec.Struct, frozen=True):
    description: str = "no reason given"
    code: int = 0
    err_code: int = 0


class _Acknowledgement(msgspec.Struct, frozen=True):
    error: _StoreError | None = None


class _Waiting:
    """Somebody waits for an acknowledgement."""

    __slots__ = ("_done", "_error", "_reply", "subject")

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self._done = trio.Event()
        self._reply: Delivery | None = None
        self._error: NatsError | None = None

    def answer(self, reply: Delivery) -> None:
        self._reply = reply
        self._done.set()

    def fail(self, error: NatsError) -> None:
        self._error = error
        self._done.set()

    async def reply(self) -> Delivery:
        """Raises NatsError."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._reply is not None
        return self._reply


class _Connection:
    """One connection, from CONNECT to its end."""

    def __init__(self, server: Server, transport: SocketTransport, settings: NatsSettings) -> None:
        self.server = server
        self.info = Info()
        self.ended: str | None = None
        """Why, once it has."""
        self.waiting: dict[str, _Waiting] = {}
        """By the last word of the inbox's subject."""
        self._transport = transport
        self._settings = settings
        self._parser = Parser()
        self._sending = trio.Lock()
        self._pings = 0
        """Without an answer."""
        self._inbox = f"{settings.inbox_prefix}.{secrets.token_hex(11)}"
        self._last_number = 0
        self._serving = trio.CancelScope()

    def close(self) -> None:
        self._transport.close()

    # -- the beginning -----------------------------------------------------------------------------------
    async def open(self, login: Login, tls: Callable[[], Awaitable[ssl.SSLContext]]) -> None:
        """Raises OSError or NatsProtocolError."""
        settings, server = self._settings, self.server
        if settings.tls_first:
            await self._transport.start_tls(await tls(), server_hostname=server.name)
        operation = await self._receive()
        if not isinstance(operation, Info):
            raise NatsError(f"it does not begin with INFO but with {operation}")
        self.info = operation
        if not settings.tls_first and (settings.tls_required or server.tls or self.info.tls_required):
            if not (self.info.tls_required or self.info.tls_available):
                raise NatsError("TLS is required, and the server does not offer it")
            if not self._parser.is_empty:
                raise NatsError("the server went on in the clear after it said that TLS begins")
            await self._transport.start_tls(await tls(), server_hostname=server.name)
        await self._transport.send_all(connect(self._introduction(login)))
        while True:
            match await self._receive():
                case Word("PONG"):
                    break
                case Refusal(text):
                    raise NatsError(f"the server refuses the connection: {text}")
        await self._transport.send_all(f"SUB {self._inbox}.* 1\r\n".encode())

    def _introduction(self, login: Login) -> dict[str, object]:
        settings, server, info = self._settings, self.server, self.info
        said: dict[str, object] = {
            "verbose": False,
            "pedantic": False,
            "tls_required": self._transport.tls is not None,
            "lang": "kumo-py",
            "version": "1",
            "protocol": 1,
            "echo": not settings.no_echo,
            "headers": True,
            "no_responders": True,
        }
        if settings.name is not None:
            said["name"] = settings.name
        if server.username is not None:
            login = Login(server.username, server.password or "")
        if login.username is not None:
            said["user"], said["pass"] = login.username, login.password or ""
        if login.token is not None:
            said["auth_token"] = login.token
        if login.key is not None and info.nonce is not None:
            said["sig"] = login.key.sign(info.nonce)
            if login.jwt is not None:
                said["jwt"] = login.jwt
            else:
                said["nkey"] = login.key.public
        return said

    async def _receive(self) -> Operation:
        while (operation := self._parser.next()) is None:
            data = await self._transport.receive()
            if not data:
                raise NatsError("the server closed the connection")
            self._parser.feed(data)
        return operation

    # -- its life ----------------------------------------------------------------------------------------
    async def serve(self, discovered: Callable[[Info], None]) -> None:
        """Returns when the connection has ended; `ended` says why then."""
        try:
            with self._serving:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._ping)
                    await self._read(discovered)
        finally:
            self.end("the client was closed")

    def end(self, reason: str) -> None:
        """Use it no more; who waits for an acknowledgement hears why."""
        if self.ended is None:
            self.ended = reason
            self._serving.cancel()
        for waiting in self.waiting.values():
            waiting.fail(NatsError(f"{self.server}: {self.ended} before the message was acknowledged"))
        self.waiting.clear()

    async def _read(self, discovered: Callable[[Info], None]) -> None:
        refusal = ""
        try:
            while True:
                match await self._receive():
                    case Delivery() as delivery:
                        waiting = self.waiting.pop(delivery.subject.rpartition(".")[2], None)
                        if waiting is not None:
                            waiting.answer(delivery)
                    case Word("PING"):
                        await self.send([b"PONG\r\n"])
                    case Word("PONG"):
                        self._pings = 0
                    case Info() as info:
                        self.info = info
                        discovered(info)
                    case Refusal(text):
                        refusal = f" ({text})"
                        self._refused(text)
        except (OSError, NatsProtocolError) as err:
            self.end(f"{problem(err)}{refusal}")

    def _refused(self, text: str) -> None:
        """Permissions are refused by subject, and the connection stays."""
        for number, waiting in list(self.waiting.items()):
            if f'"{waiting.subject}"' in text:
                waiting.fail(NatsError(f"{self.server}: {text}"))
                del self.waiting[number]

    async def _ping(self) -> None:
        with suppress(OSError):  # the reader sees it too
            while True:
                await trio.sleep(self._settings.ping_interval)
                if self._pings == _MOST_PINGS:
                    self.end(f"no answer to {_MOST_PINGS} PINGs")
                self._pings += 1
                await self.send([b"PING\r\n"])

    async def send(self, parts: list[bytes]) -> None:
        """Raises OSError."""
        async with self._sending:
            if self.ended is not None:
                raise _NotSent(f"{self.server}: {self.ended}")
            whole = False
            try:
                await self._transport.send_parts(parts)
                whole = True
            finally:
                if not whole:
                    self.end("the connection ended within a message")

    async def store(self, subject: str, headers: bytes, payload: bytes) -> Delivery:
        """Publish and wait for the answer. Raises OSError."""
        self._last_number += 1
        number = str(self._last_number)
        waiting = self.waiting[number] = _Waiting(subject)
        try:
            await self.send(publish(subject, f"{self._inbox}.{number}", headers, payload))
            return await waiting.reply()
        finally:
            self.waiting.pop(number, None)


class NatsClient:
    """See the module."""

    def __init__(self, settings: NatsSettings, login: Callable[[], Awaitable[Login]]) -> None:
        """`login` is asked anew for each connection; it raises ValueError, KeyError or OSError."""
        self._settings = settings
        self._login = login
        self._servers = list(settings.servers)
        self._connection: _Connection | None = None
        self._room = trio.Semaphore(settings.capacity)
        self._context: ssl.SSLContext | None = None
        self._problem = "no server was tried yet"
        self._rounds = 0
        self._gave_up = False
        self._change = trio.Event()
        """Set, and replaced, when there is a connection, or none of the servers gave one."""

    # -- the connection ----------------------------------------------------------------------------------
    async def run(self) -> None:
        """Keep a connection until cancelled, or given up."""
        settings = self._settings
        attempts = 0
        was_connected = settings.retry_on_initial_connect
        try:
            while True:
                for server in self._in_turn():
                    attempts += 1
                    if await self._use(server):
                        attempts, self._rounds, was_connected = 0, 0, True
                        break
                    if settings.max_reconnects and attempts > settings.max_reconnects and was_connected:
                        self._problem += f" (given up after {attempts} attempts)"
                        return
                else:
                    if not self._rounds:
                        log.warning("nats: no server gives a connection", problem=self._problem)
                    self._rounds += 1
                    self._changed()
                    if not was_connected:
                        return
                await trio.sleep(min(LONGEST_DELAY, 0.05 * 2 ** min(self._rounds, 10)))
        finally:
            self._gave_up = True
            self._changed()

    def _in_turn(self) -> Sequence[Server]:
        if not self._settings.retain_servers_order:
            random.shuffle(self._servers)
        return tuple(self._servers)

    async def _use(self, server: Server) -> bool:
        """Connect and stay connected; whether that began well."""
        settings = self._settings
        connection: _Connection | None = None
        try:
            with trio.fail_after(settings.connection_timeout):
                login = await self._login()
                # With tls_first the greeting comes after the handshake, otherwise before it.
                transport = await open_transport(server.host, server.port)
                connection = _Connection(server, transport, settings)
                await connection.open(login, self._tls)
        except trio.TooSlowError:
            self._problem = f"{server}: no connection within {format_duration(settings.connection_timeout)}"
        except (OSError, ValueError, KeyError, NatsProtocolError) as err:
            self._problem = f"{server}: {problem(err)}"
        else:
            log.info("nats: connected", server=str(server))
            self._discovered(connection.info)
            self._connection = connection
            self._changed()
            await connection.serve(self._discovered)
            self._problem = f"{server}: {connection.ended}"
            log.warning("nats: no connection any more", problem=self._problem)
            return True
        finally:
            self._connection = None
            if connection is not None:
                connection.close()
        return False

    async def _tls(self) -> ssl.SSLContext:
        settings = self._settings
        if self._context is None:
            self._context = await client_context(
                settings.certificate, settings.client_cert, settings.client_key
            )
        return self._context

    def _discovered(self, info: Info) -> None:
        """Learn of other servers of the cluster."""
        if self._settings.ignore_discovered_servers:
            return
        known = {(server.host, server.port) for server in self._servers}
        first = self._settings.servers[0]
        for url in info.connect_urls:
            with suppress(ValueError):
                host, port = parse_server(url)[:2]
                if (host, port) not in known and len(self._servers) < _MOST_DISCOVERED:
                    name = first.name if _is_address(host) else host
                    self._servers.append(first._replace(host=host, port=port, name=name))

    def _changed(self) -> None:
        self._change.set()
        self._change = trio.Event()

    async def connected(self) -> None:
        """Wait for a connection. Raises NatsError when no server gives one."""
        await self._connected(rounds=1)

    async def _connected(self, rounds: float = math.inf) -> _Connection:
        """The connection, when there is one, unless so many rounds over the servers were in vain."""
        until = self._rounds + rounds
        while (connection := self._connection) is None or connection.ended is not None:
            if self._gave_up or self._rounds >= until:
                raise NatsError(self._problem)
            await self._change.wait()
        return connection

    # -- messages ----------------------------------------------------------------------------------------
    async def publish(
        self, subject: str, payload: bytes, headers: Mapping[str, str], *, acknowledged: bool
    ) -> Stored | None:
        """Publish; with `acknowledged`, once a stream has stored it. Raises NatsError or ValueError."""
        check_subject(subject)
        block = header_block(headers)
        timeout = self._settings.request_timeout
        try:
            with trio.fail_after(timeout):
                async with self._room:
                    while True:
                        with suppress(_NotSent):
                            return await self._publish(subject, payload, block, acknowledged)
        except trio.TooSlowError:
            state = "" if self._connection is not None else f"; there is no connection: {self._problem}"
            raise NatsError(
                f"{subject}: no acknowledgement within {format_duration(timeout)}{state}"
            ) from None
        except OSError as err:
            raise NatsError(problem(err)) from err

    async def _publish(self, subject: str, payload: bytes, block: bytes, acknowledged: bool) -> Stored | None:
        connection = await self._connected()
        self._check(connection, block, payload)
        if not acknowledged:
            await connection.send(publish(subject, "", block, payload))
            return None
        return _stored(subject, await connection.store(subject, block, payload))

    def _check(self, connection: _Connection, block: bytes, payload: bytes) -> None:
        size = len(block) + len(payload)
        if size > connection.info.max_payload:
            raise ValueError(
                f"the message has {size} octets, and the server takes at most {connection.info.max_payload}"
            )
        if block and not connection.info.headers:
            raise ValueError(f"{connection.server} does not know headers")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _stored(subject: str, reply: Delivery) -> Stored:
    """Raises NatsError."""
    if reply.status == 503:
        raise NatsError(f"no stream found for the subject '{subject}'")
    try:
        error = msgspec.json.decode(reply.payload, type=_Acknowledgement).error
        if error is None:
            return msgspec.json.decode(reply.payload, type=Stored)
    except msgspec.MsgspecError as err:
        raise NatsError(f"'{subject}' is not stored by JetStream; it answers {reply.payload[:80]!r}") from err
    raise NatsError(
        f"JetStream refuses the message: {error.description} (code {error.err_code or error.code})"
    )
