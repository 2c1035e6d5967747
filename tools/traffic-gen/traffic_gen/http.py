"""Injection by HTTP/1.1 (RFC 9112): KumoMTA's POST /api/inject/v1, one request at a time per connection.

A message is accepted when the reply is 2xx and does not count it as failed; its latency runs from
the write of its request to the end of the reply.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .connection import Connection, shown

if TYPE_CHECKING:
    from .ledger import Ledger
    from .options import Options
    from .payload import Envelope, HttpPayload
    from .reactor import Reactor

_MOST_REPLY_BYTES = 1 << 20
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked[ \t]*\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[^\r\n]*close", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,7})[^\r\n]*\r\n")


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole reply; `keep_alive`: the connection may carry another request."""

    status: int
    body: bytes
    keep_alive: bool


def parse_reply(data: bytes, closed: bool = False) -> HttpReply | None:
    """The reply that `data` holds, None while it is incomplete; interim (1xx) replies are skipped.

    `closed`: nothing more will come.  Raises ValueError on what is no HTTP/1 reply.
    """
    head_end = data.find(b"\r\n\r\n") + 4
    if head_end < 4:
        if not b"HTTP/1."[: len(data)] == data[:7]:
            raise ValueError("no HTTP/1 reply")
        return None
    status = _STATUS.match(data)
    if status is None:
        raise ValueError("no HTTP/1 reply")
    code = int(status[2])
    if code < 200:
        return parse_reply(data[head_end:], closed) if len(data) > head_end else None
    head, rest = data[: head_end - 2], data[head_end:]
    keep_alive = status[1] == b"1" and not _CLOSE.search(head)
    if _CHUNKED.search(head):
        chunked = _join_chunks(rest)
        return None if chunked is None else HttpReply(code, chunked, keep_alive)
    length = _LENGTH.search(head)
    if length is not None:
        size = int(length[1])
        return HttpReply(code, rest[:size], keep_alive) if len(rest) >= size else None
    if code in (204, 304):
        return HttpReply(code, b"", keep_alive)
    return HttpReply(code, rest, False) if closed else None


def _join_chunks(data: bytes) -> bytes | None:
    body = b""
    at = 0
    while True:
        line = _CHUNK.match(data, at)
        if line is None:
            if b"\n" in data[at:]:
                raise ValueError("a broken chunked reply")
            return None
        size = int(line[1], 16)
        at = line.end() + size + 2
        if not size:
            # The trailer section is empty or ends with an empty line.
            return body if b"\r\n\r\n" in data[line.end() - 2 :] else None
        if len(data) < at:
            return None
        body += data[line.end() : at - 2]


class HttpSession(Connection):
    """A connection that injects messages by HTTP, `--http-batch-size` of them per request."""

    __slots__ = ("_batch", "_inbox", "_options", "_payload")

    opening_events = select.EPOLLOUT

    def __init__(self, reactor: Reactor, ledger: Ledger, options: Options, payload: HttpPayload) -> None:
        super().__init__(reactor, ledger)
        self._options = options
        self._payload = payload
        self._batch: list[Envelope] = []
        self._inbox = b""

    def begin(self) -> None:
        self._inbox = b""

    def awaited(self) -> str:
        if not self.up:
            return "the connect"
        return "the reply to an injection" if self._batch else "a message to send"

    def abandon(self, reason: str) -> None:
        if self._batch:
            self.ledger.failed(time.monotonic(), reason, len(self._batch))
            self._batch = []

    def writable(self) -> None:
        if self.up:
            self.flush()
            return
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        self.greeted(time.monotonic())
        self.flush()
        self.reactor.admit(self)

    def next_message(self) -> None:
        now = time.monotonic()
        self._batch = self.ledger.claim_batch(now, self._options.http_batch_size)
        if self._batch:
            self.since = now
            self.transmit(self._payload.request(self._batch, time.time()), self._payload.tail)
        elif self.ledger.has_work:
            self.since = math.inf
            self.reactor.wait_for_gate(self)
        else:
            self.end()

    def received(self, data: bytes) -> None:
        self._inbox += data
        self._take_reply(closed=False)

    def closed_by_peer(self) -> None:
        if not (self._batch and self._inbox and self._take_reply(closed=True)):
            super().closed_by_peer()

    def _take_reply(self, *, closed: bool) -> bool:
        """Settle the request if its reply is whole; True if nothing remains to be done for it."""
        if not self._batch:
            self.lost(f"said unasked: {shown(self._inbox)}")
            return True
        try:
            reply = parse_reply(self._inbox, closed)
            if reply is None and len(self._inbox) > _MOST_REPLY_BYTES:
                raise ValueError("a reply without end")
        except ValueError as error:
            self.lost(f"sent {error}: {shown(self._inbox)}")
            return True
        if reply is None:
            return False
        self._inbox = b""
        self._settle(reply)
        if reply.keep_alive:
            self.next_message()
        else:
            self.renew("closes the connection after each reply")
        return True

    def _settle(self, reply: HttpReply) -> None:
        now = time.monotonic()
        latency = now - self.since
        batch, self._batch = len(self._batch), []
        self.done += 1
        refused = batch
        if reply.status // 100 == 2:
            refused = 0 if self._options.http_defer_generation else min(batch, fail_count(reply.body))
        if refused:
            said = f"{self.reactor.target} answered the injection with: {reply.status} {shown(reply.body)}"
            self.ledger.failed(now, said, refused)
        for _ in range(batch - refused):
            self.ledger.accepted(now, latency)


def fail_count(body: bytes) -> int:
    """How many recipients an injection reply says to have failed; 0 for a body of another kind."""
    try:
        count = json.loads(body)["fail_count"]
    except (ValueError, KeyError, TypeError):
        return 0
    return count if isinstance(count, int) and count > 0 else 0
