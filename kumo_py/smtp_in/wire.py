"""Accepted connections: many sockets behind one epoll, and steps of a conversation that need no task switch.

A session is a task, which a trio program must wake to read each command: that costs more than the command itself.
So a session hands its transport a *step*, a plain function from the octets that arrived to those that go back. The
transport runs it whenever something arrives, and wakes the task only when the step says that it can't go on
without waiting (a policy event, a finished content, the end). Tasks, scopes and cancellation stay as they are: a
session in `exchange` is a task that waits, and can be cancelled there.

`Poller` owns an epoll in which each socket is registered once, edge-triggered, instead of twice per command as
`wait_readable` does, and one task that waits for all of them together. Inside TLS `exchange` is a loop over
receive and send_all. (epoll is Linux'; elsewhere a listener uses plain SocketTransports.)
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from kumo_py.net.transport import RECEIVE_SIZE, SocketTransport

if TYPE_CHECKING:
    import socket
    import ssl

    from kumo_py.net.transport import Transport

Step: TypeAlias = Callable[[bytes], "bytes | None"]
"""What arrived (b"": the end) → what to send (b"": nothing yet), or None to go on in the task."""

_EVENTS_PER_TURN: Final = 64
"""Steps that run before other tasks get a turn."""
_READS_PER_TURN: Final = 4


async def exchange(transport: Transport, step: Step) -> None:
    """Run steps until one returns None. Raises OSError, and whatever a step raises."""
    if isinstance(transport, PolledTransport) and transport.is_polled:
        await transport.exchange(step)
        return
    while (answer := step(await transport.receive())) is not None:
        if answer:
            await transport.send_all(answer)


class Poller:
    """One per listener; `run` beside the sessions, `close` after them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._end_events = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
        self._transports: dict[int, PolledTransport] = {}

    async def run(self) -> None:
        """Step the transports on which something arrives."""
        epoll, transports = self._epoll, self._transports
        fd = epoll.fileno()
        while True:
            await trio.lowlevel.wait_readable(fd)
            for fileno, events in epoll.poll(0, _EVENTS_PER_TURN):
                if (transport := transports.get(fileno)) is not None:
                    transport.on_event(ended=bool(events & self._end_events))

    def register(self, fileno: int, transport: PolledTransport) -> None:
        self._epoll.register(fileno, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        self._transports[fileno] = transport

    def unregister(self, fileno: int) -> None:
        """Before the descriptor is closed or given to somebody else."""
        if self._transports.pop(fileno, None) is not None:
            self._epoll.unregister(fileno)

    def forget(self, fileno: int) -> None:
        """Before it is closed: the kernel does the rest."""
        self._transports.pop(fileno, None)

    def close(self) -> None:
        self._epoll.close()


class PolledTransport(SocketTransport):
    """A connection of a Poller. Edge-triggered: what has been announced is remembered until it has been read."""

    __slots__ = ("_ended", "_error", "_fileno", "_poller", "_ready", "_rest", "_step", "_task")

    def __init__(self, sock: socket.socket, local: str, peer: str, poller: Poller) -> None:
        """Takes a socket that does not block and has TCP_NODELAY."""
        self._sock = sock
        self._tls = None
        self.local = local
        self.peer = peer
        self._poller: Poller | None = poller
        self._fileno = sock.fileno()
        self._step: Step | None = None
        self._task: trio.lowlevel.Task | None = None
        """The task, while it waits in `exchange`."""
        self._ready = False
        """Something may be there that nobody has read."""
        self._ended = False
        """The peer has closed: the end can be read without waiting."""
        self._rest: memoryview | None = None
        """What a step wanted to send and the kernel did not take."""
        self._error: Exception | None = None
        poller.register(self._fileno, self)

    @property
    def is_polled(self) -> bool:
        """Not any more after start_tls."""
        return self._poller is not None

    async def exchange(self, step: Step) -> None:
        """See the function of this name."""
        self._step = step
        while True:
            if not ((self._ready or self._ended) and self._advance()):
                self._task = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)
            if (error := self._error) is not None:
                self._error = None
                raise error
            if (rest := self._rest) is None:
                return
            self._rest = None
            await self._send_rest(rest)
            await trio.lowlevel.checkpoint()

    def on_event(self, *, ended: bool) -> None:
        """The poller's: something has arrived, perhaps the end."""
        if ended:
            self._ended = True
        task = self._task
        if task is None:
            self._ready = True
        elif self._advance():
            self._task = None
            trio.lowlevel.reschedule(task)

    def _stop_waiting(self, _raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _advance(self) -> bool:
        """Step through what is there; whether the task must take over."""
        step = self._step
        assert step is not None
        try:
            for _ in range(_READS_PER_TURN):
                self._ready = False
                data = self._sock.recv(RECEIVE_SIZE)
                # A short read empties the socket, so that the next octet makes another edge (epoll(7)).
                self._ready = len(data) == RECEIVE_SIZE
                answer = step(data)
                if answer is None:
                    return True
                if answer and not self._sent(answer):
                    return True
                if not (self._ready or self._ended):
                    return False
            self._ready = True
            self._rest = memoryview(b"")  # others first
        except BlockingIOError:
            self._ended = False  # an event that was meant for an earlier owner of the descriptor
            return False
        except Exception as err:
            self._error = err
        return True

    def _sent(self, data: bytes) -> bool:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return True
        self._rest = memoryview(data)[sent:]
        return False

    async def start_tls(self, context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        if self._poller is not None:
            self._poller.unregister(self._fileno)
            self._poller = None
        await super().start_tls(context, server_hostname=server_hostname)

    def close(self) -> None:
        if self._poller is not None:
            self._poller.forget(self._fileno)
        self._step = None  # it refers to the session, and that to us
        super().close()
