"""The commands of one transaction, and how their replies add up (RFC 5321 §3.3, RFC 2920)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kumo_py.proto.address import AddressError
from kumo_py.proto.client import mail_command, rcpt_command
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.smtp_out.connection import Connection, PeerClosed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kumo_py.message.message import Message
    from kumo_py.queue.config import EgressPath


_ACCEPTED: Final = Response(250)


class Refused(Exception):
    """The transaction came to nothing; one response for each of its recipients."""

    def __init__(self, responses: list[Response]) -> None:
        super().__init__(responses[0].to_single_line())
        self.responses = responses


class Untried(Exception):
    """The server had gone before it saw an envelope that was sent ahead: the message is as it was."""


class Envelope:
    """MAIL and RCPT commands of one transaction of a message."""

    __slots__ = ("mail", "msg", "rcpts", "recipients", "reset")

    def __init__(
        self, msg: Message, recipients: Sequence[str], connection: Connection, path: EgressPath
    ) -> None:
        """Raises Refused when the server lacks what the message needs, or an address has no wire form."""
        self.msg = msg
        self.recipients = recipients
        self.reset = connection.use_rset
        """Whether it begins with RSET."""
        extensions = connection.extensions
        eight_bit = not msg.data.isascii()
        utf8 = not (msg.sender.isascii() and all(item.isascii() for item in recipients))
        if not path.ignore_8bit_checks:
            if eight_bit and "8BITMIME" not in extensions:
                raise self._refused(
                    EnhancedCode(5, 6, 3), "DATA is 8bit, destination does not support 8BITMIME"
                )
            if utf8 and "SMTPUTF8" not in extensions:
                raise self._refused(
                    EnhancedCode(5, 6, 7), "envelope is 8bit, destination does not support SMTPUTF8"
                )
        try:
            self.mail = mail_command(
                msg.sender,
                body_8bitmime=eight_bit and "8BITMIME" in extensions,
                smtputf8=utf8 and "SMTPUTF8" in extensions,
            )
            self.rcpts = [rcpt_command(item) for item in recipients]
        except AddressError as err:
            raise self._refused(EnhancedCode(5, 1, 3), str(err)) from err

    def _refused(self, code: EnhancedCode, text: str) -> Refused:
        response = Response(554, code, f"KumoMTA internal: {text}")
        return Refused([response] * len(self.recipients))

    def pipelined(self, connection: Connection) -> bytes:
        """All commands in one write; marks the connection as used."""
        start = b"RSET\r\n" if self.reset else b""
        connection.use_rset = True
        if len(self.rcpts) == 1:
            return b"%b%b%bDATA\r\n" % (start, self.mail, self.rcpts[0])
        return b"".join([start, self.mail, *self.rcpts, b"DATA\r\n"])


async def pipelined_replies(
    connection: Connection, envelope: Envelope, path: EgressPath, *, ahead: bool
) -> list[Response]:
    """The replies to a pipelined envelope: one for each recipient, some of them 250. Raises Refused.

    With `ahead`, a server that closes instead of answering has not tried the message: raises Untried.
    """
    reset = envelope.reset
    timeout = path.rset_timeout if reset else path.mail_from_timeout
    try:
        if await connection.go_ahead(reset + 1 + len(envelope.rcpts), timeout, path.mail_from_timeout):
            return [_ACCEPTED] * len(envelope.rcpts)
        response = await connection.reply("RSET" if reset else _shown(envelope.mail), timeout)
    except PeerClosed:
        if ahead:
            raise Untried from None
        raise
    if ahead and response.code == 421:
        raise Untried
    if reset:
        reset_response = response
        response = await connection.reply(_shown(envelope.mail), path.mail_from_timeout)
        if reset_response.code != 250:
            response = reset_response
    answers = [await connection.reply(_shown(rcpt), path.rcpt_to_timeout) for rcpt in envelope.rcpts]
    data = await connection.reply("DATA", path.data_timeout)
    usable = response.code == 250 and any(answer.code == 250 for answer in answers)
    if data.code == 354 and not usable:
        # RFC 2920 §3.1: the server took DATA all the same; end it with nothing in it.
        await connection.send([b".\r\n"], ".", path.data_dot_timeout)
        await connection.reply(".", path.data_dot_timeout)
    if response.code != 250:
        raise Refused([response] * len(answers))
    if not usable:
        raise Refused(answers)
    if data.code != 354:
        raise Refused([data if answer.code == 250 else answer for answer in answers])
    return answers


async def stepwise_replies(connection: Connection, envelope: Envelope, path: EgressPath) -> list[Response]:
    """The same for a server without PIPELINING: command by command. Raises Refused."""
    if envelope.reset:
        response = await connection.command("RSET", path.rset_timeout)
        if response.code != 250:
            raise Refused([response] * len(envelope.rcpts))
    connection.use_rset = True
    response = await connection.command(_shown(envelope.mail), path.mail_from_timeout)
    if response.code != 250:
        raise Refused([response] * len(envelope.rcpts))
    answers = [await connection.command(_shown(rcpt), path.rcpt_to_timeout) for rcpt in envelope.rcpts]
    if not any(answer.code == 250 for answer in answers):
        raise Refused(answers)
    data = await connection.command("DATA", path.data_timeout)
    if data.code != 354:
        raise Refused([data if answer.code == 250 else answer for answer in answers])
    return answers


def _shown(command: bytes) -> str:
    return command[:-2].decode()
