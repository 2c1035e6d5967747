"""One thread, one epoll: opens connections at a bearable pace, tells them what is ready, ends on time.

All connections are opened before the first message goes out: a run has the concurrency it was asked
for.  No more than _WINDOW connections wait for their greeting at a time, so that the peer's listen queue
does not overflow; one that has waited a second no longer counts.  When the ports of one
source address are used up and the target is on the loopback, further 127.0.0.x addresses serve.
"""

from __future__ import annotations

import errno
import heapq
import math
import os
import select
import socket
import ssl
import time
from collections import deque
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .connection import Connection
    from .ledger import Ledger
    from .options import Options
    from .summary import Summary

_WINDOW = 256
_CONNECTIONS_PER_SOURCE = 20_000  # of the 28,232 ports that Linux offers by default
_MOST_SOURCES = 64
_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h: choose the port at connect, by the whole address pair
_DRAIN = {"count": 0.0, "duration": 10.0, "signal": 2.0, "error": 0.0}  # seconds
_GOODBYE = 5.0  # seconds to wait for the reply to QUIT
_TICK = 1.0  # seconds between progress reports
_EVENTS = 1024  # taken from epoll at a time
_READABLE = select.EPOLLIN
_OPENING_SLEEP = 0.01  # seconds between looks at how far the other workers are
_MOST_SLEEP = 0.2  # seconds after which a stop is noticed at the latest


class StopRequest:
    """Set from a signal handler: 1 asks the run to finish, 2 to break off."""

    __slots__ = ("level",)

    def __init__(self) -> None:
        self.level = 0

    def ask(self) -> None:
        """One more request to stop."""
        self.level += 1

    def break_off(self) -> None:
        """Stop without waiting for replies."""
        self.level = 2


class Reactor:
    """Runs the sessions of one worker until their work is done.

    all_open: called when this worker's connections are open; whether those of all workers are.
    on_tick: called with the monotonic time about once a second.
    target: for error messages.  endless: only the message count ends the run, no duration.
    """

    def __init__(
        self,
        options: Options,
        ledger: Ledger,
        stop: StopRequest,
        all_open: Callable[[], bool],
        on_tick: Callable[[float], None],
    ) -> None:
        self.target = options.target
        self.endless = options.duration is None
        self._timeout = options.timeout
        self._duration = options.duration
        self._ledger = ledger
        self._summary: Summary = ledger.summary
        self._stop = stop
        self._stops_seen = 0
        self._all_open = all_open
        self._on_tick = on_tick
        self._family, self._address = resolve(options.target.host, options.target.port)
        self._loopback = self._family == socket.AF_INET and ip_address(self._address[0]).is_loopback
        self._source = 0
        self._epoll = select.epoll()
        self._sessions: dict[int, Connection] = {}
        self._to_open: deque[Connection] = deque()
        self._resting: list[tuple[float, int, Connection]] = []  # to be opened again at a time
        self._rests = 0
        self._at_gate: dict[Connection, None] = {}
        self._gate_at = math.inf
        self._opening = 0
        self._live = 0
        self._ends_at = math.inf  # no new messages from then on
        self._over_at = math.inf  # nor replies
        self._sending = False
        self._draining = False
        self._started = 0.0
        self._tick_at = 0.0
        self._wake = 0.0

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """TLS without verification: a load test's server has any certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def run(self, sessions: Iterable[Connection]) -> None:
        """Open the sessions and serve them until all are done, time is up, or an error ends the run."""
        self._to_open.extend(sessions)
        self._live = len(self._to_open)
        now = self._started = time.monotonic()
        self._tick_at = now + _TICK
        if self._duration is not None:
            self._ends_at = now + self._duration
        try:
            self._loop()
        finally:
            for session in list(self._sessions.values()):
                session.close()
            self._epoll.close()

    def _loop(self) -> None:
        poll = self._epoll.poll
        find = self._sessions.get
        summary = self._summary
        while self._live:
            now = time.monotonic()
            if now >= self._wake:
                self._do_due(now)
            if self._stop.level != self._stops_seen:
                self._take_stop(now)
            if self._to_open:
                self._open_some()
            elif not (self._sending or self._opening) and self._all_open():
                self._sending = True
                self._summary.opening = now - self._started
                self._open_gate()
            if not self._live or now >= self._over_at:
                break
            sleep = min(self._wake - now, _MOST_SLEEP if self._sending else _OPENING_SLEEP)
            for fd, events in poll(max(0.0, sleep), _EVENTS):
                session = find(fd)
                if session is None:
                    continue
                try:
                    if events == _READABLE:
                        session.readable()
                    else:
                        session.ready(events)
                except OSError as error:
                    session.lost(_reason(error))
            if summary.stopped_by and not self._draining:
                self._drain()

    # called by connections

    def watch(self, session: Connection) -> None:
        """Epoll shall watch for the session's `events`."""
        self._epoll.modify(session.fd, session.events)

    def came_up(self, session: Connection) -> None:
        """The session was greeted."""
        self._leave_window(session)
        summary = self._summary
        summary.connections += 1
        summary.connections_now += 1
        summary.peak_connections = max(summary.peak_connections, summary.connections_now)

    def went_down(self, session: Connection) -> None:
        """The session is about to close its socket (which takes it out of epoll)."""
        self._leave_window(session)
        del self._sessions[session.fd]
        self._at_gate.pop(session, None)
        if session.up:
            self._summary.connections_now -= 1

    def reopen(self, session: Connection, when: float | None = None) -> None:
        """Open the session again, now or at a monotonic time, if there will be anything to send."""
        if self._draining or not self._ledger.has_work:
            self.retire()
        elif when is None:
            self._to_open.append(session)
        else:
            self._rests += 1
            heapq.heappush(self._resting, (when, self._rests, session))
            self._wake = min(self._wake, when)

    def retire(self) -> None:
        """One session is done for good."""
        self._live -= 1

    def admit(self, session: Connection) -> None:
        """The session is ready for its first message: at once, or when all others are."""
        if self._sending or self._draining:
            session.next_message()
        else:
            session.since = math.inf
            self._at_gate[session] = None

    def wait_for_gate(self, session: Connection) -> None:
        """Ask the session again for its next message when the throttle lets one pass."""
        self._at_gate[session] = None
        if self._gate_at == math.inf:
            self._gate_at = time.monotonic() + self._ledger.gate_wait
            self._wake = min(self._wake, self._gate_at)

    # time

    def _do_due(self, now: float) -> None:
        if now >= self._ends_at:
            self._ends_at = math.inf
            self._ledger.stop("duration")
            self._drain()
        if now >= self._gate_at:
            self._open_gate()
        while self._resting and self._resting[0][0] <= now:
            self._to_open.append(heapq.heappop(self._resting)[2])
        if now >= self._tick_at:
            self._tick_at = now + _TICK
            self._sweep(now)
            self._on_tick(now)
        rested = self._resting[0][0] if self._resting else math.inf
        self._wake = min(self._ends_at, self._over_at, self._gate_at, self._tick_at, rested)

    def _open_gate(self) -> None:
        """Let the waiting sessions ask, in their order, until one is refused again."""
        self._gate_at = math.inf
        while self._at_gate and self._gate_at == math.inf:
            session = next(iter(self._at_gate))
            del self._at_gate[session]
            try:
                session.next_message()
            except OSError as error:
                session.lost(_reason(error))

    def _sweep(self, now: float) -> None:
        """End the waits that last too long."""
        for session in list(self._sessions.values()):
            if session.in_window and now - session.opened_at > _TICK:
                self._leave_window(session)
            limit = _GOODBYE if session.leaving else self._timeout
            if now - session.since > limit:
                session.lost(f"said nothing for {limit:g} s while {session.awaited()} was awaited")

    def _take_stop(self, now: float) -> None:
        self._stops_seen = self._stop.level
        self._ledger.stop("signal")
        if self._draining or self._stops_seen > 1:
            self._over_at = now
        else:
            self._drain()

    def _drain(self) -> None:
        """Wait only for the replies to what has been sent."""
        self._draining = True
        self._over_at = time.monotonic() + _DRAIN[self._summary.stopped_by]
        self._wake = min(self._wake, self._over_at)
        self._live -= len(self._to_open) + len(self._resting)
        self._to_open.clear()
        self._resting.clear()
        for session in list(self._sessions.values()):
            if not session.up:
                session.end()
        while self._at_gate:
            self._open_gate()

    # connects

    def _open_some(self) -> None:
        while self._to_open and self._opening < _WINDOW:
            session = self._to_open.popleft()
            if not self._ledger.has_work:
                self.retire()
                continue
            try:
                session.open(self._connect())
                self._sessions[session.fd] = session
                session.in_window = True
                self._opening += 1
                self._epoll.register(session.fd, session.events)
            except OSError as error:
                session.lost(_reason(error))

    def _leave_window(self, session: Connection) -> None:
        if session.in_window:
            session.in_window = False
            self._opening -= 1

    def _connect(self) -> socket.socket:
        """A socket whose connect is in progress.  OSError if it cannot be."""
        source = self._source
        if self._loopback:
            source = max(source, len(self._sessions) // _CONNECTIONS_PER_SOURCE)
        while True:
            sock = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            code = self._start_connect(sock, source)
            if code in (0, errno.EINPROGRESS):
                return sock
            sock.close()
            if code != errno.EADDRNOTAVAIL:
                raise OSError(code, os.strerror(code))
            source += 1
            if not self._loopback or source >= _MOST_SOURCES:
                raise OSError(
                    code,
                    f"no free local port for connection {len(self._sessions) + 1}: widen "
                    "net.ipv4.ip_local_port_range or ask for less --concurrency",
                )
            self._source = source

    def _start_connect(self, sock: socket.socket, source: int) -> int:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            sock.setsockopt(socket.SOL_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"127.0.0.{source + 1}", 0))
        return sock.connect_ex(self._address)


def resolve(host: str, port: int) -> tuple[int, tuple[str, int]]:
    """The address family and socket address of the target, IPv4 first; ValueError if there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"target {host}: {error.strerror}") from None
    family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    return family, (str(address[0]), port)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"failed in TLS: {error.reason or error}"
    return f"failed: {error.strerror or error}"
