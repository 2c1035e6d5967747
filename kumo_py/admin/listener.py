"""One HTTP listener: a bound socket, a task for each connection, and how they come to an end."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.admin.connection import Connection
from kumo_py.admin.routes import Api
from kumo_py.core.cidr import split_host_port
from kumo_py.net.transport import SocketTransport, format_address

if TYPE_CHECKING:
    import ssl

    from kumo_py.admin.node import Node
    from kumo_py.admin.shared import Shared
    from kumo_py.policy.params import HttpListenerParams

log = structlog.get_logger("kumo_py.admin")

MAX_STRANGERS = 256
"""Connections of hosts that are not trusted. The trusted ones are not counted, so that nobody shuts them out."""
_BACKLOG = 1024
_ACCEPT_PAUSE = 0.2
"""Seconds without accepting after the system refused us a socket."""
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 21\r\n\r\ntoo many connections\n"


class HttpListener:
    """Owns its socket from `bind` to the end of `serve`."""

    def __init__(self, node: Node, shared: Shared, params: HttpListenerParams) -> None:
        self.params = params
        self._node = node
        self._shared = shared
        self._socket: socket.socket | None = None
        self._connections: set[Connection] = set()
        self._strangers = 0
        self._accepting = trio.CancelScope()
        self._ended: trio.Event | None = None
        """There while `serve` runs."""

    def bind(self) -> None:
        """Bind and listen. Raises OSError when the address can't be had."""
        listen = self.params.listen  # checked with the other options
        host, port = split_host_port(listen)
        flags = socket.AI_PASSIVE | socket.AI_NUMERICHOST
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except OSError as err:
            listening.close()
            text = f"cannot listen on {listen}: {os.strerror(err.errno or 0)}"
            raise OSError(err.errno, text) from err
        self._socket = listening

    @property
    def address(self) -> str:
        """`ip:port`, with the port that the kernel chose for port 0."""
        assert self._socket is not None
        return format_address(self._socket.getsockname())

    async def tls_context(self) -> ssl.SSLContext | None:
        """None without TLS. Raises OSError or ValueError."""
        params = self.params
        if not params.use_tls:
            return None
        hostname = params.hostname or self._node.hostname
        return await self._node.tls_context(hostname, params.tls_certificate, params.tls_private_key)

    async def serve(self) -> None:
        """Accept and serve until `stop`, and until the last connection has ended."""
        assert self._socket is not None
        api = Api(self._node, self._shared, self.params, self.address)
        self._ended = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                with self._socket, self._accepting:
                    await self._accept(self._socket, api, nursery)
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Accept nothing more; returns when the requests in hand are answered."""
        self._accepting.cancel()
        for connection in list(self._connections):
            connection.end()
        if self._ended is not None:
            await self._ended.wait()

    def close(self) -> None:
        """Give the address up without having served."""
        if self._socket is not None:
            self._socket.close()

    async def _accept(self, listening: socket.socket, api: Api, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listening)
            try:
                accepted, address = listening.accept()
            except BlockingIOError:
                continue
            except OSError as err:
                if err.errno in _EXHAUSTED:
                    log.error("no HTTP connections are accepted for now", error=os.strerror(err.errno or 0))
                    await trio.sleep(_ACCEPT_PAUSE)
                continue  # else that connection failed before we had it (accept(2))
            trusted = api.trusts(address[0])
            if not trusted and self._strangers >= MAX_STRANGERS:
                accepted.setblocking(False)
                with accepted, suppress(OSError):
                    accepted.send(_TOO_MANY)
                continue
            self._strangers += not trusted
            nursery.start_soon(self._run, accepted, api, trusted)

    async def _run(self, accepted: socket.socket, api: Api, trusted: bool) -> None:
        try:
            try:
                transport = SocketTransport(accepted)
            except OSError:  # reset already
                accepted.close()
                return
            try:
                tls = await self.tls_context()
            except (OSError, ValueError) as err:
                log.error(f"https on {self.params.listen}: the certificate cannot be used: {err}")
                transport.close()
                return
            connection = Connection(transport, api.answer, self.params.request_body_limit)
            self._connections.add(connection)
            try:
                await connection.run(tls)
            finally:
                self._connections.discard(connection)
        finally:
            self._strangers -= not trusted
