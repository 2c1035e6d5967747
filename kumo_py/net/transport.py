"""A connection, as thin as it can be: receive what is there, send it all, start TLS, close.

Raw non-blocking sockets under trio's `wait_readable`: a third of the cost of `SocketStream`. The wait
comes first, because in request/response traffic a receive that is tried first nearly always misses.
Deadlines are the owner's: a session has one cancel scope, not one per call.

The surface is narrow on purpose, so that tests can run a session over memory streams and trio's virtual
clock (StreamTransport), and a different event loop could be put below it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import Protocol

import trio

RECEIVE_SIZE = 65536
JOIN_BELOW = 16384
"""Octets up to which one copy is cheaper than a scatter write."""
_KEEP_ALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""Seconds without traffic, seconds between probes, and probes (tcp(7))."""


class Transport(Protocol):
    """What a session needs of its connection. One task reads, one (the same) writes."""

    local: str
    """The local address, `ip:port`."""
    peer: str
    """The peer's address, `ip:port`."""

    async def receive(self) -> bytes:
        """What has arrived, at least a byte; b"" at the end. Raises OSError (ssl.SSLError is one)."""
        ...

    async def send_all(self, data: bytes) -> None:
        """Returns when the kernel has taken all of it. Raises OSError."""
        ...

    async def send_parts(self, parts: list[bytes]) -> None:
        """The same for several buffers in one go, without joining big ones."""
        ...

    def poll(self) -> bytes | None:
        """What has arrived unasked, b"" if the peer has closed, None if there is nothing. Never waits.

        Raises OSError.
        """
        ...

    async def start_tls(self, context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        """Handshake as a client if a server_hostname is given, else as the server.

        Raises OSError: then the connection is in the clear, as before. Raises ValueError for a name that no host
        can have: then it is of no use.
        """
        ...

    @property
    def tls(self) -> ssl.SSLSocket | ssl.SSLObject | None:
        """The TLS layer, once it stands: for cipher, version and certificate."""
        ...

    def close(self) -> None:
        """Close now, without waiting."""
        ...


def format_address(address: tuple[str, int] | tuple[str, int, int, int] | str) -> str:
    """`ip:port`, `[ip6]:port`, or a unix socket's path."""
    if isinstance(address, str):
        return address
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class SocketTransport:
    """A connected TCP socket, which it owns."""

    __slots__ = ("_sock", "_tls", "local", "peer")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._tls: ssl.SSLSocket | None = None
        self.local = format_address(sock.getsockname())
        self.peer = format_address(sock.getpeername())

    @property
    def tls(self) -> ssl.SSLSocket | None:
        return self._tls

    def fileno(self) -> int:
        return self._sock.fileno()

    async def receive(self) -> bytes:
        if self._tls is not None:
            return await self._receive_tls(self._tls)
        sock = self._sock
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                return sock.recv(RECEIVE_SIZE)
            except BlockingIOError:
                continue

    async def _receive_tls(self, sock: ssl.SSLSocket) -> bytes:
        while True:
            if not sock.pending():
                await trio.lowlevel.wait_readable(sock)
            try:
                return sock.recv(RECEIVE_SIZE)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(sock)
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return b""

    async def send_all(self, data: bytes) -> None:
        sock = self._sock
        try:
            sent = sock.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            sent = 0
        if sent != len(data):
            await self._send_rest(memoryview(data)[sent:])

    async def send_parts(self, parts: list[bytes]) -> None:
        if self._tls is not None or sum(map(len, parts)) < JOIN_BELOW:
            await self.send_all(b"".join(parts))
            return
        try:
            sent = self._sock.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
            else:
                await self._send_rest(memoryview(part)[sent:])
                sent = 0

    def poll(self) -> bytes | None:
        try:
            return self._sock.recv(RECEIVE_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    async def _send_rest(self, rest: memoryview) -> None:
        sock = self._sock
        while rest:
            await trio.lowlevel.wait_writable(sock)
            try:
                rest = rest[sock.send(rest) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                continue
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(sock)

    async def start_tls(self, context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        sock = context.wrap_socket(
            self._sock,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        self._sock = sock
        try:
            await _shake_hands(sock)
        except OSError:
            self._sock = socket.socket(fileno=sock.detach())
            self._sock.setblocking(False)
            raise
        self._tls = sock

    def close(self) -> None:
        self._sock.close()

    def keep_alive(self) -> None:
        """Where nothing may come for long: notice within two minutes that the peer's host is gone."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            if (option := getattr(socket, name, None)) is not None:
                self._sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def reset(self) -> None:
        """Close with RST instead of FIN: for tests of what a peer does then."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


async def _shake_hands(sock: ssl.SSLSocket) -> None:
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            await trio.lowlevel.wait_readable(sock)
        except ssl.SSLWantWriteError:
            await trio.lowlevel.wait_writable(sock)
        else:
            return


class StreamTransport:
    """Any trio stream: for sessions over memory streams and the virtual clock."""

    __slots__ = ("_stream", "_tls_stream", "local", "peer")

    def __init__(
        self, stream: trio.abc.Stream, local: str = "127.0.0.1:25", peer: str = "127.0.0.1:40000"
    ) -> None:
        self._stream = stream
        self._tls_stream: trio.SSLStream[trio.abc.Stream] | None = None
        self.local = local
        self.peer = peer

    @property
    def tls(self) -> ssl.SSLObject | None:
        if self._tls_stream is None:
            return None
        return self._tls_stream._ssl_object

    async def receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(RECEIVE_SIZE))
        except trio.BrokenResourceError as err:
            raise ConnectionResetError(str(err)) from err

    async def send_all(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as err:
            raise ConnectionResetError(str(err)) from err

    async def send_parts(self, parts: list[bytes]) -> None:
        await self.send_all(b"".join(parts))

    def poll(self) -> bytes | None:
        return None

    async def start_tls(self, context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        tls = trio.SSLStream(
            self._stream,
            context,
            server_hostname=server_hostname,
            server_side=server_hostname is None,
            https_compatible=True,
        )
        try:
            await tls.do_handshake()
        except trio.BrokenResourceError as err:
            raise (
                err.__cause__ if isinstance(err.__cause__, OSError) else ConnectionResetError(str(err))
            ) from err
        self._stream = self._tls_stream = tls

    def close(self) -> None:
        stream = self._stream
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        if isinstance(stream, trio.StapledStream):
            for half in (stream.send_stream, stream.receive_stream):
                half.close()
        elif isinstance(stream, trio.SocketStream):
            stream.socket.close()
