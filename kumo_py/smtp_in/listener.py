"""A listener: one bound socket, a task for each session, and how they come to an end.

    listener = Listener(params)
    listener.bind()                                       # at once, so that a wrong address is noticed
    address = await nursery.start(listener.serve, services)
    await listener.stop(grace)                            # from another task; `serve` returns then

Running out of file descriptors or memory pauses accepting, and nothing else.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import structlog
import trio

from kumo_py.core.cidr import split_host_port
from kumo_py.net.transport import SocketTransport, format_address
from kumo_py.smtp_in.endpoint import Endpoint
from kumo_py.smtp_in.wire import PolledTransport, Poller

if TYPE_CHECKING:
    from kumo_py.smtp_in.params import ListenerParams
    from kumo_py.smtp_in.services import Services

log = structlog.get_logger("kumo_py.smtp_in")

BACKLOG: Final = 8192
"""Connections that the kernel completes before we take them; it lowers this to its own limit."""
_ACCEPT_PAUSE: Final = 0.2
"""Seconds without accepting after the system refused us a socket."""
_ACCEPTS_PER_TURN: Final = 64
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Listener:
    """Owns its socket from `bind` to the end of `serve`."""

    def __init__(self, params: ListenerParams) -> None:
        self.params = params
        self.endpoint: Endpoint | None = None
        """The sessions' side, while `serve` runs: counters, and the sessions themselves."""
        self._socket: socket.socket | None = None
        self._accepting = trio.CancelScope()
        self._working = trio.CancelScope()
        self._ended = trio.Event()

    def bind(self, *, reuse_port: bool = False) -> str:
        """Bind and listen; returns the address, `ip:port`, with the port the kernel chose for port 0.

        reuse_port: several processes share the address (SO_REUSEPORT). Raises ValueError for what is no address
        and OSError when it can't be had; the texts are for people.
        """
        host, port = split_host_port(self.params.listen)
        if port is None:
            raise ValueError(
                f"listen: '{self.params.listen}' has no port: write 'ip:port', such as '0.0.0.0:25'"
            )
        try:
            found = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST
            )
        except socket.gaierror:
            raise ValueError(
                f"listen: '{self.params.listen}' is not an address: write 'ip:port', such as '0.0.0.0:25'"
            ) from None
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # Accepted sockets inherit it.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
            listening.setblocking(False)
        except OSError as err:
            listening.close()
            raise OSError(
                err.errno, f"cannot listen on {self.params.listen}: {os.strerror(err.errno or 0)}"
            ) from err
        self._socket = listening
        return format_address(listening.getsockname())

    async def serve(
        self, services: Services, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Accept and serve until `stop`, and until the last session has ended. Reports the bound address."""
        if self._socket is None:
            self.bind()
        assert self._socket is not None
        self.endpoint = Endpoint(self.params, services)
        poller = Poller() if hasattr(select, "epoll") else None
        try:
            with self._socket, self._working:
                async with trio.open_nursery() as support:
                    support.start_soon(self.endpoint.sweep)
                    if poller is not None:
                        support.start_soon(poller.run)
                    async with trio.open_nursery() as sessions:
                        task_status.started(format_address(self._socket.getsockname()))
                        with self._accepting:
                            await self._accept(self._socket, sessions, poller)
                        self._socket.close()
                    support.cancel_scope.cancel()
        finally:
            if poller is not None:
                poller.close()
            self._ended.set()

    async def stop(self, grace: float) -> None:
        """Accept nothing more, end sessions at their next command, and after `grace` seconds in any case.

        Returns when all have ended. Called again, a shorter grace holds: `stop(0)` ends everything now.
        """
        self._accepting.cancel()
        self._working.deadline = min(self._working.deadline, trio.current_time() + grace)
        if self.endpoint is None:
            self.close()
            return
        self.endpoint.stop()
        await self._ended.wait()

    def close(self) -> None:
        """Give the address up without having served."""
        if self._socket is not None:
            self._socket.close()

    async def _accept(self, listening: socket.socket, sessions: trio.Nursery, poller: Poller | None) -> None:
        assert self.endpoint is not None
        endpoint = self.endpoint
        bound = listening.getsockname()
        # Bound to all addresses, each connection has its own.
        local = None if ip_address(bound[0]).is_unspecified else format_address(bound)
        paused = False
        while True:
            await trio.lowlevel.wait_readable(listening)
            for _ in range(_ACCEPTS_PER_TURN):
                try:
                    accepted, address = listening.accept()
                except BlockingIOError:
                    break
                except OSError as err:
                    if err.errno in _EXHAUSTED:
                        if not paused:
                            log.error(
                                "no new connections are accepted for now", error=os.strerror(err.errno or 0)
                            )
                        paused = True
                        await trio.sleep(_ACCEPT_PAUSE)
                        break
                    continue  # that connection failed before we had it (accept(2))
                if paused:
                    paused = False
                    log.info("connections are accepted again")
                if len(endpoint.sessions) >= self.params.max_connections:
                    self._turn_away(accepted)
                    continue
                try:
                    transport = self._transport(accepted, local, address, poller)
                except OSError as err:
                    log.error("a connection could not be served", error=str(err))
                    accepted.close()
                    continue
                sessions.start_soon(endpoint.run, endpoint.admit(transport))

    def _transport(
        self, accepted: socket.socket, local: str | None, peer: tuple[str, int], poller: Poller | None
    ) -> SocketTransport:
        """Raises OSError."""
        if poller is None:
            return SocketTransport(accepted)
        accepted.setblocking(False)
        return PolledTransport(
            accepted, local or format_address(accepted.getsockname()), format_address(peer), poller
        )

    def _turn_away(self, accepted: socket.socket) -> None:
        """One try to say why; what costs more would help whoever makes all these connections."""
        assert self.endpoint is not None
        self.endpoint.counters.denied += 1
        hostname = self.params.hostname or self.endpoint.services.hostname
        with accepted, suppress(OSError):
            accepted.setblocking(False)
            accepted.send(f"421 4.3.2 {hostname} too many concurrent sessions. Try later\r\n".encode())
