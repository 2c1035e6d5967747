"""One of a run's connections: opened, lost and opened again by the reactor; never blocks.

A session (smtp, http) builds on it.  The message tail, shared by all connections, is handed to the
kernel from where it lies: what does not fit waits as memory views, not as copies.

An OSError of any method means that the connection is lost; the reactor then calls `lost`.
"""

from __future__ import annotations

import math
import select
import ssl
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from .ledger import Ledger
    from .reactor import Reactor

RECV_BYTES = 16384  # a whole TLS record: nothing stays inside OpenSSL unseen by epoll
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_IN = select.EPOLLIN
_OUT = select.EPOLLOUT
_JOIN_BELOW = 8192  # bytes of tail below which copying is cheaper than a vectored write
_BACKOFF_FIRST = 0.1  # seconds, doubled per failure
_BACKOFF_MOST = 5.0
_GIVE_UP_AFTER = 60.0  # seconds of failures, in a run that no duration ends


class Connection:
    """A slot for one connection at a time.

    since: monotonic time since which a reply is awaited, or infinity.
    done: messages transferred and answered on the present connection.
    events: what epoll watches it for.
    up: past its greeting.
    leaving: all is said, only the peer's goodbye is awaited.
    in_window: among those that the reactor is opening.
    """

    __slots__ = (
        "_failing_since",
        "_failures",
        "_handshaking",
        "_out",
        "_tls",
        "done",
        "events",
        "fd",
        "in_window",
        "leaving",
        "ledger",
        "opened_at",
        "reactor",
        "recv",
        "send",
        "since",
        "sock",
        "up",
    )

    sock: socket.socket
    recv: Callable[[int], bytes]
    send: Callable[[bytes | memoryview], int]

    def __init__(self, reactor: Reactor, ledger: Ledger) -> None:
        self.reactor = reactor
        self.ledger = ledger
        self.fd = -1
        self.events = 0
        self.since = math.inf
        self.done = 0
        self.up = False
        self.leaving = False
        self.in_window = False
        self.opened_at = 0.0
        self._out: list[memoryview] = []
        self._tls = self._handshaking = False
        self._failures = 0
        self._failing_since = 0.0

    # what a session defines

    opening_events = _IN  # what shows that the connect has succeeded

    def begin(self) -> None:
        """The connect has been started: say what is awaited."""
        raise NotImplementedError

    def received(self, data: bytes) -> None:
        """Bytes from the peer."""
        raise NotImplementedError

    def next_message(self) -> None:
        """Send the next message if there is one, else wait or say goodbye."""
        raise NotImplementedError

    def abandon(self, reason: str) -> None:
        """The connection is gone: settle the messages that were on it."""
        raise NotImplementedError

    def awaited(self) -> str:
        """What reply is awaited, for error messages."""
        raise NotImplementedError

    # life

    def open(self, sock: socket.socket) -> None:
        """Take over a socket whose connect is in progress."""
        self._take(sock)
        self.fd = sock.fileno()
        self.opened_at = self.since = time.monotonic()
        self.done = 0
        self.leaving = False
        self._tls = self._handshaking = False
        self.events = self.opening_events
        self.begin()

    def _take(self, sock: socket.socket) -> None:
        self.sock = sock
        self.recv = sock.recv
        self.send = sock.send

    def greeted(self, now: float) -> None:
        """The peer is there: count the connection and its latency."""
        self.up = True
        self.ledger.summary.connect.record(now - self.opened_at)
        self.reactor.came_up(self)

    def lost(self, reason: str) -> None:
        """The connection failed: settle its messages, then try again later."""
        if self.leaving or self.ledger.summary.stopped_by == "error":
            self.close()
            self.reactor.retire()
            return
        reason = f"{self.reactor.target} {reason}"
        self.ledger.broken(reason)
        self.drop(reason)

    def drop(self, reason: str) -> None:
        """Close the connection; try again after a while that grows with every failure in a row."""
        self._leave(reason)
        now = time.monotonic()
        if self.done or not self._failures:
            self._failures = 0
            self._failing_since = now
        delay = min(_BACKOFF_MOST, _BACKOFF_FIRST * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        if self.reactor.endless and now + delay - self._failing_since > _GIVE_UP_AFTER:
            self.reactor.retire()
        else:
            self.reactor.reopen(self, now + delay)

    def renew(self, reason: str) -> None:
        """The peer wants no more on this connection, which is its right: open another."""
        self.ledger.summary.reconnects += 1
        self._leave(f"{self.reactor.target} {reason}")
        self.reactor.reopen(self)

    def end(self) -> None:
        """All is said: close for good."""
        self._leave("")
        self.reactor.retire()

    def _leave(self, reason: str) -> None:
        self.close()
        self.abandon(reason)

    def close(self) -> None:
        """Close the socket; nothing if it is closed."""
        if self.fd >= 0:
            self.reactor.went_down(self)
            self.sock.close()
            self.fd = -1
            self.up = False
            self.since = math.inf
            self._out.clear()

    # bytes

    def ready(self, events: int) -> None:
        """Epoll has something other than plain readability to say."""
        if events & _OUT:
            self.writable()
        if events & ~_OUT and self.fd >= 0:
            self.readable()

    def writable(self) -> None:
        """The kernel takes more."""
        if self._handshaking:
            self._handshake()
        else:
            self.flush()

    def readable(self) -> None:
        """Read what has arrived and pass it on."""
        if self._handshaking:
            self._handshake()
            return
        try:
            data = self.recv(RECV_BYTES)
        except WOULD_BLOCK:
            return
        if data:
            self.received(data)
        else:
            self.closed_by_peer()

    def closed_by_peer(self) -> None:
        """The peer ended the connection without a word."""
        if self.since == math.inf and self.done:
            self.renew("closed an idle connection")
        else:
            self.lost(f"closed the connection while {self.awaited()} was awaited")

    def transmit(self, head: bytes, tail: bytes = b"", more: bytes = b"") -> None:
        """Send the parts in this order, as far as the kernel takes them now; keep the rest."""
        if self._out or (self._tls and len(tail) >= _JOIN_BELOW):
            self._out += [memoryview(part) for part in (head, tail, more) if part]
            self.flush()
            return
        parts: tuple[bytes, ...]
        sent = 0
        try:
            if len(tail) < _JOIN_BELOW:
                data = head + tail + more if tail else head
                parts = (data,)
                sent = self.send(data)
                if sent == len(data):
                    return
            else:
                parts = (head, tail, more)
                sent = self.sock.sendmsg(parts)
                if sent == len(head) + len(tail) + len(more):
                    return
        except WOULD_BLOCK:
            pass
        for part in parts:
            if sent < len(part):
                self._out.append(memoryview(part)[sent:])
            sent = max(0, sent - len(part))
        self._watch(_IN | _OUT)

    def flush(self) -> None:
        """Send what is kept; ask to be told when the kernel takes more, if it must be."""
        out = self._out
        try:
            while out:
                sent = self.send(out[0])
                if sent < len(out[0]):
                    out[0] = out[0][sent:]
                else:
                    del out[0]
        except WOULD_BLOCK:
            self._watch(_IN | _OUT)
            return
        self._watch(_IN)

    def _watch(self, events: int) -> None:
        if events != self.events:
            self.events = events
            self.reactor.watch(self)

    # TLS

    def start_tls(self) -> None:
        """Go on under TLS: shake hands, then call `secured`."""
        sock = self.reactor.tls.wrap_socket(self.sock, do_handshake_on_connect=False)
        self._take(sock)
        self._tls = self._handshaking = True
        self._handshake()

    def _handshake(self) -> None:
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            self.sock.do_handshake()
        except ssl.SSLWantWriteError:
            self._watch(_IN | _OUT)
        except ssl.SSLWantReadError:
            self._watch(_IN)
        else:
            self._handshaking = False
            self._watch(_IN)
            self.secured()

    def secured(self) -> None:
        """The TLS handshake is done."""
        raise NotImplementedError


def shown(text: bytes) -> str:
    """What the peer said, fit for one line of a terminal."""
    line = text[:500].decode("utf-8", "replace").strip()
    return "".join(char if char.isprintable() else "?" for char in line)
