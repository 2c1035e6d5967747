"""A Redis client: a pool of connections to one server, or to those of a cluster.

A command that is cancelled or fails takes its connection with it. A server may have closed an idle connection:
then the command is sent once more, over a new one. In a cluster each command goes to the server that has its key,
as CLUSTER SLOTS and the servers' redirections tell (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec).
"""

from __future__ import annotations

import binascii
import hashlib
import socket
import ssl
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit
from weakref import finalize

import msgspec
import trio

from kumo_py.core.duration import Duration
from kumo_py.core.histogram import Histogram
from kumo_py.net.http import connect
from kumo_py.net.transport import SocketTransport
from kumo_py.proto.resp import NOTHING, Parser, RespError, ServerError, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from kumo_py.proto.resp import Reply

DEFAULT_POOL = 10
DEFAULT_TIMEOUT = 30.0
"""Seconds to connect, to wait for a connection, and for a reply, unless the options say so."""
MAX_REPLY = 64 << 20
"""Octets of a reply."""
_MOST_REDIRECTIONS = 5
_KEY_IS_THIRD = frozenset((b"EVAL", b"EVALSHA", b"EVAL_RO", b"EVALSHA_RO", b"FCALL", b"FCALL_RO"))


class RedisError(OSError):
    """The server refused the command, or cannot be reached; the text says which."""


class RedisOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """KumoMTA's options of `redis.open` and `kumo.configure_redis_throttles`."""

    node: str | list[str]
    """A URL, or those of a cluster's servers."""
    cluster: bool | None = None
    read_from_replicas: bool = False
    """Not supported: reads go to the primaries."""
    username: str | None = None
    password: str | None = None
    pool_size: int = DEFAULT_POOL
    connect_timeout: Duration | None = None
    recycle_timeout: Duration | None = None
    """Has no meaning here: a connection is not tried before it is used again."""
    wait_timeout: Duration | None = None
    response_timeout: Duration | None = None

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError("node must name at least one server")
        if self.pool_size < 1:
            raise ValueError("pool_size must be at least 1")
        for url in self.urls:
            parse_redis_url(url)

    @property
    def urls(self) -> list[str]:
        return [self.node] if isinstance(self.node, str) else self.node

    @property
    def is_cluster(self) -> bool:
        return self.cluster if self.cluster is not None else not isinstance(self.node, str)


class Server(NamedTuple):
    """Where a server is: a host and a port, or the path of a socket."""

    host: str
    port: int
    tls: bool = False
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Login(NamedTuple):
    username: str | None
    password: str | None
    db: int


def parse_redis_url(url: str) -> tuple[Server, Login]:
    """Parse redis://[user][:password@]host[:port][/db], rediss:// for TLS, or unix:///path. Raises ValueError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as err:
        raise ValueError(f"{url!r} is not a Redis URL: {err}") from None
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if parts.scheme in ("unix", "redis+unix") and parts.path:
        return Server("", 0, path=unquote(parts.path)), Login(username, password, 0)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError(
            f"{url!r} is not a Redis URL: write redis://HOST:PORT, rediss:// for TLS, or unix:///PATH"
        )
    db = parts.path.strip("/") or "0"
    if not db.isascii() or not db.isdigit():
        raise ValueError(f"{url!r} is not a Redis URL: the database '{db}' is not a number")
    server = Server(parts.hostname, 6379 if port is None else port, parts.scheme == "rediss")
    return server, Login(username, password, int(db))


class _Connection:
    """One connection, one command at a time."""

    __slots__ = ("_parser", "_transport", "server", "was_used")

    def __init__(self, server: Server, transport: SocketTransport) -> None:
        self.server = server
        self.was_used = False
        self._transport = transport
        self._parser = Parser()

    async def ask(self, arguments: Sequence[bytes]) -> Reply:
        """Raises OSError or RespError; EOFError if the server closed before it said anything."""
        await self._transport.send_all(encode(arguments))
        received = 0
        while (reply := self._parser.next()) is NOTHING:
            data = await self._transport.receive()
            if not data:
                raise EOFError if received == 0 else OSError("the connection was closed within a reply")
            received += len(data)
            if received > MAX_REPLY:
                raise RespError(f"a reply is longer than {MAX_REPLY >> 20} MiB")
            self._parser.feed(data)
        return reply

    def close(self) -> None:
        self._transport.close()


class RedisClient:
    """See the module. `close` never waits."""

    def __init__(self, options: RedisOptions) -> None:
        """Raises ValueError."""
        self.options = options
        first, self._login = parse_redis_url(options.urls[0])
        self._seeds = [parse_redis_url(url)[0] for url in options.urls]
        if options.username is not None or options.password is not None:
            self._login = Login(
                options.username or self._login.username,
                options.password or self._login.password,
                self._login.db,
            )
        self.label = ",".join(f"redis://{server}" for server in self._seeds)
        """Which servers, for the metrics."""
        self.times: defaultdict[tuple[str, str], Histogram] = defaultdict(Histogram)
        """Seconds that operations took, by kind (query, script) and how they ended (ok, error)."""
        self._first = first
        self._idle: defaultdict[Server, list[_Connection]] = defaultdict(list)
        self._places = trio.Semaphore(options.pool_size)
        self._context: ssl.SSLContext | None = None
        self._slots: list[tuple[int, int, Server]] = []
        self._scripts: dict[bytes, bytes] = {}
        finalize(self, _close, self._idle)

    async def command(self, *arguments: bytes) -> Reply:
        """Send a command and return the reply. Raises RedisError, also for the server's own errors."""
        reply = await self.ask(*arguments)
        if isinstance(reply, ServerError):
            raise RedisError(str(reply))
        return reply

    async def ask(self, *arguments: bytes) -> Reply:
        """As `command`, but the server's own error is a reply. Raises RedisError."""
        if not arguments:
            raise RedisError("a command has at least a name")
        return await self._timed("query", self._ask(arguments))

    async def _timed(self, operation: str, work: Awaitable[Reply]) -> Reply:
        """Raises RedisError."""
        started, status = trio.current_time(), "error"
        try:
            reply = await work
            if not isinstance(reply, ServerError):
                status = "ok"
            return reply
        finally:
            self.times[operation, status].observe(trio.current_time() - started)

    async def _ask(self, arguments: Sequence[bytes]) -> Reply:
        try:
            with trio.fail_after(_seconds(self.options.wait_timeout)):
                await self._places.acquire()
        except trio.TooSlowError:
            raise RedisError(f"none of {self.options.pool_size} connections became free in time") from None
        try:
            return await self._routed(arguments)
        finally:
            self._places.release()

    async def script(self, text: bytes, keys: Sequence[bytes], *arguments: bytes) -> Reply:
        """Run a Lua script of ours in the server. Raises RedisError."""
        reply = await self._timed("script", self._script(text, keys, arguments))
        if isinstance(reply, ServerError):
            raise RedisError(str(reply))
        return reply

    async def _script(self, text: bytes, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Reply:
        digest = self._scripts.get(text)
        if digest is None:
            digest = self._scripts[text] = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        rest = (b"%d" % len(keys), *keys, *arguments)
        reply = await self._ask((b"EVALSHA", digest, *rest))
        if isinstance(reply, ServerError) and reply.code == "NOSCRIPT":
            reply = await self._ask((b"EVAL", text, *rest))
        return reply

    def close(self) -> None:
        """Close the connections that are not in use."""
        _close(self._idle)

    # -- one command -----------------------------------------------------------------------------------
    async def _routed(self, arguments: Sequence[bytes]) -> Reply:
        if not self.options.is_cluster:
            return await self._at(self._first, arguments)
        server = await self._server_for(arguments)
        asking = False
        for _ in range(_MOST_REDIRECTIONS):
            reply = await self._at(server, arguments, asking=asking)
            if not isinstance(reply, ServerError) or reply.code not in ("MOVED", "ASK"):
                return reply
            server, asking = self._redirected(reply, server), reply.code == "ASK"
            if not asking:
                self._slots.clear()
        raise RedisError(f"the cluster redirects without end: {reply}")

    async def _at(self, server: Server, arguments: Sequence[bytes], *, asking: bool = False) -> Reply:
        while True:
            connection = self._idle[server].pop() if self._idle[server] else await self._connect(server)
            done = False
            try:
                with trio.fail_after(_seconds(self.options.response_timeout)):
                    if asking:
                        await connection.ask((b"ASKING",))
                    reply = await connection.ask(arguments)
                done = True
            except EOFError:
                if connection.was_used:
                    continue
                raise RedisError(f"{server} closed the connection") from None
            except trio.TooSlowError:
                raise RedisError(f"{server} did not answer in time") from None
            except (OSError, RespError) as err:
                if connection.was_used and isinstance(err, ConnectionError):
                    continue
                raise RedisError(f"{server}: {err}") from err
            finally:
                if done:
                    connection.was_used = True
                    self._idle[server].append(connection)
                else:
                    connection.close()
            return reply

    async def _connect(self, server: Server) -> _Connection:
        try:
            with trio.fail_after(_seconds(self.options.connect_timeout)):
                connection = _Connection(server, await self._transport(server))
                try:
                    await self._log_in(connection)
                except BaseException:
                    connection.close()
                    raise
                return connection
        except trio.TooSlowError:
            raise RedisError(f"{server} could not be connected to in time") from None
        except EOFError:
            raise RedisError(f"{server} closed the connection") from None
        except RedisError:
            raise
        except (OSError, RespError) as err:
            raise RedisError(f"{server} cannot be connected to: {err}") from err

    async def _transport(self, server: Server) -> SocketTransport:
        if server.path is not None:
            stream = await trio.open_unix_socket(server.path)
            return SocketTransport(socket.socket(fileno=stream.socket.detach()))
        if server.tls and self._context is None:
            self._context = await trio.to_thread.run_sync(ssl.create_default_context)
        return await connect(server.host, server.port, self._context if server.tls else None)

    async def _log_in(self, connection: _Connection) -> None:
        username, password, db = self._login
        commands = []
        if password is not None:
            commands.append([b"AUTH", *([username.encode()] if username else []), password.encode()])
        if db:
            commands.append([b"SELECT", b"%d" % db])
        for command in commands:
            reply = await connection.ask(command)
            if isinstance(reply, ServerError):
                raise RedisError(f"{connection.server} refuses {command[0].decode()}: {reply}")

    # -- a cluster -------------------------------------------------------------------------------------
    async def _server_for(self, arguments: Sequence[bytes]) -> Server:
        if not self._slots:
            await self._learn_slots()
        name = arguments[0].upper()
        position = 3 if name in _KEY_IS_THIRD else 1
        if position < len(arguments):
            slot = key_slot(arguments[position])
            for first, last, server in self._slots:
                if first <= slot <= last:
                    return server
        return self._slots[0][2] if self._slots else self._seeds[0]

    async def _learn_slots(self) -> None:
        """Raises RedisError if no server of the cluster answers."""
        problem: RedisError | None = None
        for seed in self._seeds:
            try:
                reply = await self._at(seed, (b"CLUSTER", b"SLOTS"))
            except RedisError as err:
                problem = err
                continue
            if isinstance(reply, ServerError):
                raise RedisError(f"{seed}: {reply}")
            self._slots = [
                (first, last, Server(host.decode() or seed.host, port, seed.tls))
                for first, last, (host, port, *_), *_ in reply
            ]
            return
        if problem is not None:
            raise problem

    def _redirected(self, error: ServerError, server: Server) -> Server:
        host, _, port = str(error).split(" ")[-1].rpartition(":")
        if not port.isdigit():
            raise RedisError(f"{server} redirects to nowhere: {error}")
        return Server(host or server.host, int(port), server.tls)


def _close(idle: dict[Server, list[_Connection]]) -> None:
    for connections in idle.values():
        while connections:
            connections.pop().close()


def key_slot(key: bytes) -> int:
    """The slot of a key, or of what it has in braces."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % 16384


def _seconds(duration: Duration | None) -> float:
    return DEFAULT_TIMEOUT if duration is None else float(duration)
