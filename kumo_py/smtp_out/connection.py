"""One connection to a remote server: greeting, EHLO, STARTTLS, AUTH, and commands with their replies.

It knows the protocol and nothing of queues. Whoever owns it bounds each wait by moving `deadline`; the watch
of SmtpDelivery cancels what is overdue. Reply bytes that came before TLS are never believed after it
(RFC 3207 §4.2).
"""

from __future__ import annotations

import ssl
from math import inf
from typing import TYPE_CHECKING

import trio

from kumo_py.proto.client import parse_ehlo
from kumo_py.proto.reply import ReplyError, ReplyReader, Response
from kumo_py.proto.sasl import encode_plain

if TYPE_CHECKING:
    from kumo_py.logs import SourceAddress, Tls
    from kumo_py.net.transport import Transport
    from kumo_py.queue.config import EgressPath
    from kumo_py.smtp_out.tracing import SessionTrace


class ConnectionFailed(Exception):
    """No usable session with this host; the text says how far it came."""

    advice = ""
    """What a record says first when all hosts failed in this way."""


class PeerClosed(ConnectionFailed):
    """The remote server closed the connection while a reply was due."""


class TlsFailed(ConnectionFailed):
    """The TLS handshake failed."""


class Connection:
    """The session with one host over a transport that it owns."""

    __slots__ = (
        "_replies",
        "authenticated",
        "deadline",
        "extensions",
        "source_address",
        "tls",
        "traced",
        "transport",
        "use_rset",
        "waiting_for",
    )

    def __init__(self, transport: Transport, source_address: SourceAddress, traced: SessionTrace) -> None:
        self.transport = transport
        self.traced = traced
        self.source_address = source_address
        """Where the server sees it come from."""
        self._replies = ReplyReader()
        self.extensions: dict[str, str | None] = {}
        self.tls: Tls | None = None
        """Once TLS stands."""
        self.authenticated = False
        """Whether the server has proved who it is."""
        self.deadline = inf
        """When (trio time) the network wait that is under way is too long; infinite while there is none."""
        self.waiting_for: tuple[str, float] = ("", 0.0)
        """What that wait is for, and how many seconds it may take."""
        self.use_rset = False
        """Whether the next transaction begins with RSET: something was sent before it."""

    async def reply(self, command: str | None, timeout: float) -> Response:
        """The reply to a command that was sent. Raises PeerClosed or ConnectionFailed."""
        replies = self._replies
        try:
            response = replies.next(command)
            if response is None:
                self._wait_for(command or "the banner", timeout)
                while response is None:
                    data = await self.transport.receive()
                    if not data:
                        raise PeerClosed(f"connection closed by peer while waiting for {self.waiting_for[0]}")
                    if self.traced.trace.watchers:
                        self.traced.received(data)
                    replies.feed(data)
                    response = replies.next(command)
        except ReplyError as err:
            raise ConnectionFailed(f"unexpected reply to {command}: {err}") from err
        except OSError as err:
            raise PeerClosed(f"waiting for {self.waiting_for[0]}: {_reason(err)}") from err
        self.deadline = inf
        return response

    async def go_ahead(self, count: int, timeout: float, then_timeout: float) -> bool:
        """Whether the replies that come next are `count` times 250 and then 354, as they nearly always are.

        They are taken then, all at once. If not, nothing is: `reply` tells how it is, a closed connection included.
        `timeout` bounds the wait for the first of them, `then_timeout` each further one (seconds).
        """
        replies = self._replies
        data = b"\n"
        while (accepted := replies.go_ahead(count)) is None:
            if b"\n" in data:  # octets that come singly gain no time
                self._wait_for("the envelope", timeout)
            try:
                data = await self.transport.receive()
            except OSError:
                break
            if not data:
                break
            if self.traced.trace.watchers:
                self.traced.received(data)
            replies.feed(data)
            timeout = then_timeout
        self.deadline = inf
        return accepted is True

    async def send(self, parts: list[bytes], what: str, timeout: float, content: int = 0) -> None:
        """Write, within `timeout` seconds; the deadline stands until the next reply. Raises PeerClosed.

        `content` is how many of the parts, the first ones, are a message's content: the others are commands.
        """
        self._wait_for(what, timeout)
        if self.traced.trace.watchers:
            self.traced.sent(parts, content)
        try:
            await self.transport.send_parts(parts)
        except OSError as err:
            raise PeerClosed(f"sending {what}: {_reason(err)}") from err

    async def command(self, line: str, timeout: float) -> Response:
        """Send one command and await its reply; `timeout` in seconds."""
        await self.send([line.encode() + b"\r\n"], line, timeout)
        return await self.reply(line, timeout)

    def _wait_for(self, what: str, timeout: float) -> None:
        self.waiting_for = (what, timeout)
        self.deadline = trio.current_time() + timeout

    def alive(self) -> bool:
        """Whether an idle connection is still good: anything the server says unasked means it isn't."""
        try:
            return self.transport.poll() is None and not self._replies.pending
        except OSError:
            return False

    async def greet(self, ehlo_domain: str, path: EgressPath) -> None:
        """Banner and EHLO (RFC 5321 §3.1, §3.2). Raises ConnectionFailed."""
        banner = await self.reply(None, path.banner_timeout)
        if banner.code != 220:
            raise ConnectionFailed(f"banner: {banner.to_single_line()}")
        await self.ehlo(ehlo_domain, path)

    async def ehlo(self, ehlo_domain: str, path: EgressPath) -> None:
        verb = "LHLO" if path.use_lmtp else "EHLO"
        response = await self.command(f"{verb} {ehlo_domain}", path.ehlo_timeout)
        if response.code != 250:
            raise ConnectionFailed(f"{verb}: {response.to_single_line()}")
        self.extensions = parse_ehlo(response.content)

    async def start_tls(self, context: ssl.SSLContext, host: str, path: EgressPath) -> None:
        """STARTTLS and the handshake; EHLO is to follow, as nothing of before counts any more.

        Raises ConnectionFailed; TlsFailed when the handshake failed: then the connection is in the clear as before.
        """
        response = await self.command("STARTTLS", path.starttls_timeout)
        if response.code != 220:
            raise ConnectionFailed(f"STARTTLS: {response.to_single_line()}")
        if self._replies.pending:
            raise ConnectionFailed(
                "STARTTLS: the server sent more in the clear after its reply (RFC 3207 §4.2)"
            )
        self._wait_for("the TLS handshake", path.starttls_timeout)
        try:
            await self.transport.start_tls(context, server_hostname=host)
        except (OSError, ValueError) as err:  # ValueError: a name that is no host's
            raise TlsFailed(f"TLS handshake with {host}: {_reason(err)}") from err

    async def authenticate(self, username: str, password: bytes, timeout: float) -> None:
        """AUTH PLAIN with an initial response (RFC 4954, RFC 4616); seconds. Raises ConnectionFailed."""
        try:
            response = encode_plain(username, password)
        except ValueError as err:
            raise ConnectionFailed(f"AUTH PLAIN: {err}") from None
        await self.send([b"AUTH PLAIN %b\r\n" % response], "AUTH PLAIN", timeout)
        answer = await self.reply("AUTH PLAIN", timeout)
        if answer.code != 235:
            raise ConnectionFailed(f"AUTH PLAIN as {username}: {answer.to_single_line()}")

    async def quit(self) -> None:
        """Say good-bye; the server's answer is not waited for long."""
        try:
            await self.command("QUIT", 2.0)
        except ConnectionFailed:
            return

    def close(self) -> None:
        self.transport.close()


def _reason(err: Exception) -> str:
    if isinstance(err, ssl.SSLCertVerificationError):
        return f"certificate not valid: {err.verify_message}"
    return getattr(err, "strerror", None) or str(err) or type(err).__name__
