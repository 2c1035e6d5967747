"""The client's side of SMTP (RFC 5321), pipelined as far as the server allows (RFC 2920).

A session awaits the replies to a script of commands, in order.  In full pipelining the write that
ends a body also carries the next message's MAIL, RCPT and DATA: one write and, with a server that
answers in one go, one read per message.  That case has a short cut; everything else takes the
general way, reply by reply.

The latency of a message runs from the write of its MAIL to the reply to its body.  In full
pipelining this includes the server's work on the message before it.
"""

from __future__ import annotations

import math
import re
import time
from enum import StrEnum
from typing import TYPE_CHECKING

from .connection import RECV_BYTES, WOULD_BLOCK, Connection, shown

if TYPE_CHECKING:
    from .ledger import Ledger
    from .options import Options
    from .payload import Envelope, SmtpPayload
    from .reactor import Reactor

_MOST_REPLY_BYTES = 65536


class Stage(StrEnum):
    """What a reply answers."""

    GREETING = "connect"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    RSET = "RSET"
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA"
    BODY = "the message"
    NO_BODY = "an empty message"
    QUIT = "QUIT"


_ENVELOPE = (Stage.MAIL, Stage.RCPT, Stage.DATA)
_RESET_ENVELOPE = (Stage.RSET, *_ENVELOPE)
_BODY = (Stage.BODY,)
_BODY_ENVELOPE = (Stage.BODY, *_ENVELOPE)

_ENVELOPE_LINES = b"MAIL FROM:<%b>%b\r\nRCPT TO:<%b>\r\nDATA\r\n"
_ALL_WELL = re.compile(rb"250 [^\n]*\n25[01] [^\n]*\n25[01] [^\n]*\n354 [^\n]*\n").fullmatch
_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])([ -]|\r?\Z)")


class SmtpSession(Connection):
    """A connection that sends messages by SMTP.

    current: the message whose body is under way; offered: the one whose envelope is.
    """

    __slots__ = (
        "_at",
        "_current",
        "_current_at",
        "_inbox",
        "_look_ahead",
        "_mail_end",
        "_needs_reset",
        "_offered",
        "_offered_at",
        "_options",
        "_payload",
        "_pipelining",
        "_refusal",
        "_reply_lines",
        "_script",
        "_unsent",
    )

    def __init__(self, reactor: Reactor, ledger: Ledger, options: Options, payload: SmtpPayload) -> None:
        super().__init__(reactor, ledger)
        self._options = options
        self._payload = payload
        self._current: Envelope | None = None
        self._offered: Envelope | None = None
        self._current_at = self._offered_at = 0.0

    def begin(self) -> None:
        self._script: tuple[Stage, ...] = (Stage.GREETING,)
        self._at = 0
        self._inbox = b""
        self._reply_lines: list[bytes] = []
        self._unsent: list[bytes] = []
        self._refusal = ""
        self._needs_reset = self._pipelining = self._look_ahead = False
        self._mail_end = b""

    def awaited(self) -> str:
        if self._at < len(self._script):
            return f"the reply to {self._script[self._at]}"
        return "a message to send"

    def abandon(self, reason: str) -> None:
        if self._current is not None:
            self.ledger.failed(time.monotonic(), reason)
            self._current = None
        if self._offered is not None:
            self.ledger.give_back(self._offered)
            self._offered = None

    # the hot path

    def readable(self) -> None:
        if self._script is not _BODY_ENVELOPE or self._at or self._inbox or self._reply_lines:
            super().readable()
            return
        try:
            data = self.recv(RECV_BYTES)
        except WOULD_BLOCK:
            return
        if _ALL_WELL(data) and not self._out:
            now = time.monotonic()
            self.done += 1
            self.ledger.accepted(now, now - self._current_at)
            self._send_body(now)
        elif data:
            self.received(data)
        else:
            self.closed_by_peer()

    def _send_body(self, now: float) -> None:
        """Send the body of the offered message, and the next envelope if there is one."""
        message = self._offered
        assert message is not None
        self._current = message
        self._current_at = self._offered_at
        self.since = now
        self._at = 0
        head = self._payload.head(message, time.time())
        following = self.ledger.claim(now) if self._look_ahead else None
        self._offered = following
        if following is None:
            self._script = _BODY
            self.transmit(head, self._payload.tail)
        else:
            self._offered_at = now
            self._script = _BODY_ENVELOPE
            self.transmit(
                head,
                self._payload.tail,
                _ENVELOPE_LINES % (following[1], self._mail_end, following[2]),
            )

    # replies

    def received(self, data: bytes) -> None:
        *lines, self._inbox = (self._inbox + data).split(b"\n")
        if len(self._inbox) > _MOST_REPLY_BYTES:
            self.lost(f"sent a reply line of more than {_MOST_REPLY_BYTES} bytes")
            return
        for index, line in enumerate(lines, 1):
            shape = _REPLY_LINE.match(line)
            if shape is None:
                self.lost(f"sent what is no SMTP reply: {shown(line)}")
                return
            self._reply_lines.append(line)
            if shape[2] == b"-":
                if len(self._reply_lines) * 8 > _MOST_REPLY_BYTES:
                    self.lost("sent a reply without end")
                    return
                continue
            reply, self._reply_lines = self._reply_lines, []
            self._take_reply(int(shape[1]), reply, lines[index] if index < len(lines) else self._inbox)
            if self.fd < 0:
                return

    def _take_reply(self, code: int, lines: list[bytes], following: bytes) -> None:
        """Act on one reply; `following` is the line that has arrived behind it, whole or not."""
        text = " / ".join(map(shown, lines))
        if self._at >= len(self._script):
            if code == 421 and self.done:
                self.renew(f"closed the connection with: {text}")
            else:
                self.lost(f"said unasked: {text}")
            return
        stage = self._script[self._at]
        self._at += 1
        said = f"answered {stage} with: {text}"
        if following and self._at == len(self._script) and not following.startswith(b"421"):
            # It was said before the next command, so it's no answer to that one.  After STARTTLS
            # it may be an attacker's (CVE-2011-0411).
            self.lost(f"{said} and went on unasked: {shown(following)}")
            return
        match stage:
            case Stage.GREETING | Stage.EHLO | Stage.STARTTLS:
                self._negotiate(stage, code, lines, said)
            case Stage.MAIL | Stage.RCPT | Stage.DATA:
                self._take_envelope_reply(stage, code, said)
            case Stage.BODY:
                self._take_body_reply(code, said)
            case Stage.RSET:
                self._send_unsent()
            case Stage.NO_BODY:
                self._offered_refused()
            case Stage.QUIT:
                self.end()

    def _negotiate(self, stage: Stage, code: int, lines: list[bytes], said: str) -> None:
        if code != (250 if stage is Stage.EHLO else 220):
            self.lost(said)
        elif stage is Stage.GREETING:
            self.greeted(time.monotonic())
            self._say(Stage.EHLO)
        elif stage is Stage.STARTTLS:
            self.start_tls()
        else:
            offered = {line[4:].strip().upper() for line in lines[1:]}
            if self._options.starttls and not self._tls:
                if b"STARTTLS" in offered:
                    self._say(Stage.STARTTLS)
                else:
                    self.lost("does not offer STARTTLS, which was asked for")
                return
            asked = self._options.pipelining
            self._pipelining = asked != "off" and b"PIPELINING" in offered
            self._look_ahead = asked == "full" and self._pipelining
            if self._payload.eight_bit and b"8BITMIME" in offered:
                self._mail_end = b" BODY=8BITMIME"
            self.reactor.admit(self)

    def secured(self) -> None:
        self._say(Stage.EHLO)

    def _take_envelope_reply(self, stage: Stage, code: int, said: str) -> None:
        if code == 354 if stage is Stage.DATA else code // 100 == 2:
            if not self._refusal:
                if stage is Stage.DATA:
                    self._send_body(time.monotonic())
                else:
                    self._send_unsent()
                return
            if stage is Stage.DATA:  # RFC 2920 section 3.1: it must be ended all the same
                self._script = (Stage.NO_BODY,)
                self._at = 0
                self.transmit(b".\r\n")
        elif self.done and not self._refusal and (code == 421 or "451 4.5.3" in said):
            # The connection has carried as many messages as this server wants.
            self.renew(said)
        else:
            self._refusal = self._refusal or said
            if code == 421:
                self._settle_refused()
                self.drop(said)
            elif stage is Stage.DATA or self._unsent:
                self._offered_refused()

    def _offered_refused(self) -> None:
        self._settle_refused()
        self._needs_reset = True
        self.next_message()

    def _settle_refused(self) -> None:
        self.ledger.failed(time.monotonic(), f"{self.reactor.target} {self._refusal}")
        self._refusal = ""
        self._offered = None
        self._unsent.clear()

    def _take_body_reply(self, code: int, said: str) -> None:
        now = time.monotonic()
        self.since = now
        self._current = None
        self.done += 1
        if code // 100 == 2:
            self.ledger.accepted(now, now - self._current_at)
        else:
            self.ledger.failed(now, f"{self.reactor.target} {said}")
            if code == 421:
                self.drop(said)
                return
        if self._script is _BODY:
            self.next_message()

    # commands

    def next_message(self) -> None:
        now = time.monotonic()
        message = self.ledger.claim(now)
        if message is not None:
            self._offer(message, now)
        elif self.ledger.has_work:
            self._script = ()
            self._at = 0
            self.since = math.inf
            self.reactor.wait_for_gate(self)
        else:
            self.leaving = True
            self._say(Stage.QUIT)

    def _offer(self, message: Envelope, now: float) -> None:
        self._offered = message
        self._offered_at = self.since = now
        self._at = 0
        self._script = _RESET_ENVELOPE if self._needs_reset else _ENVELOPE
        commands = _ENVELOPE_LINES % (message[1], self._mail_end, message[2])
        if self._needs_reset:
            commands = b"RSET\r\n" + commands
            self._needs_reset = False
        if self._pipelining:
            self.transmit(commands)
        else:
            self._unsent = commands.splitlines(keepends=True)
            self._send_unsent()

    def _send_unsent(self) -> None:
        """Send the next command to a server without pipelining; nothing is left to send to others."""
        if self._unsent:
            self.since = time.monotonic()
            self.transmit(self._unsent.pop(0))

    def _say(self, stage: Stage) -> None:
        command = stage.encode()
        if stage is Stage.EHLO:
            command += f" traffic-gen.{self._options.domain_suffix or 'invalid'}".encode()
        self._script = (stage,)
        self._at = 0
        self.since = time.monotonic()
        self.transmit(command + b"\r\n")
