"""The commands of one transaction, and how their replies add up (RFC 5321 §3.3, RFC 2920)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kumo_py.proto.address import AddressError
from kumo_py.proto.client import mail_command, rcpt_command
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.smtp_out.connection import Connection, ConnectionFailed, PeerClosed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kumo_py.message.message import Message
    from kumo_py.queue.config import EgressPath


_ACCEPTED: Final = Response(250)


class Refused(Exception):
    """The transaction came to nothing; one response for each of its recipients.

    With `closed` the server has gone, or is about to.
    """

    def __init__(self, responses: list[Response], *, closed: bool = False) -> None:
        super().__init__(responses[0].to_single_line())
        self.responses = responses
        self.closed = closed


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


async def envelope_replies(
    connection: Connection, envelope: Envelope, path: EgressPath, *, pipelined: bool, ahead: bool
) -> list[Response]:
    """The replies to an envelope: one for each recipient, some of them 2xx. Raises Refused or ConnectionFailed.

    A `pipelined` one is on its way already, else it is sent command by command. With `ahead`, a server that closes
    instead of answering has not tried the message: raises Untried.
    """
    count = len(envelope.rcpts)
    timeout = path.rset_timeout if envelope.reset else path.mail_from_timeout
    if pipelined and await connection.go_ahead(envelope.reset + 1 + count, timeout, path.mail_from_timeout):
        return [_ACCEPTED] * count
    ask = connection.reply if pipelined else connection.command
    connection.use_rset = True
    try:
        mail = _ACCEPTED
        if envelope.reset:
            # Whatever it makes of RSET, its answer to MAIL tells whether there was something to reset.
            mail = await ask("RSET", path.rset_timeout)
        if mail.code != 421:
            mail = await ask(_shown(envelope.mail), path.mail_from_timeout)
    except PeerClosed:
        if ahead:
            raise Untried from None
        raise
    if ahead and mail.code == 421:
        raise Untried
    if not mail.is_success:
        closed = mail.code == 421 or (pipelined and not await _pass_over(connection, count, path))
        raise Refused([mail] * count, closed=closed)
    answers: list[Response] = []
    for rcpt in envelope.rcpts:
        answers.append(await ask(_shown(rcpt), path.rcpt_to_timeout))
        if answers[-1].code == 421:
            answers += answers[-1:] * (count - len(answers))
            raise Refused(_for_accepted(answers, answers[-1]), closed=True)
    if not any(answer.is_success for answer in answers):
        closed = pipelined and not await _pass_over(connection, 0, path)
        raise Refused(answers, closed=closed)
    data = await ask("DATA", path.data_timeout)
    if data.code == 354:
        return answers
    if data.is_success:
        raise ConnectionFailed(f"unexpected reply to DATA: {data.to_single_line()}")
    raise Refused(_for_accepted(answers, data), closed=data.code == 421)


async def lmtp_replies(
    connection: Connection, answers: Sequence[Response], path: EgressPath
) -> list[Response]:
    """What became of the content: a reply for each recipient that was accepted (RFC 2033 §4.2).

    Raises ConnectionFailed; Refused if the server has answered for some of them before it went.
    """
    replies: list[Response] = []
    for answer in answers:
        try:
            replies.append(
                await connection.reply(".", path.data_dot_timeout) if answer.is_success else answer
            )
        except ConnectionFailed as err:
            if not any(reply.command == "." for reply in replies):
                raise
            lost = Response(400, None, f"KumoMTA internal: failed to send message: {err}", ".")
            raise Refused(
                [*replies, *_for_accepted(list(answers[len(replies) :]), lost)], closed=True
            ) from err
    return replies


async def _pass_over(connection: Connection, rcpts: int, path: EgressPath) -> bool:
    """Take what else an envelope is answered that was refused; whether the server is still there then."""
    try:
        for _ in range(rcpts):
            await connection.reply("RCPT", path.rcpt_to_timeout)
        data = await connection.reply("DATA", path.data_timeout)
        if data.code == 354:
            # RFC 2920 §3.1: the server took DATA all the same; end it with nothing in it.
            await connection.send([b".\r\n"], ".", path.data_dot_timeout)
            data = await connection.reply(".", path.data_dot_timeout)
    except ConnectionFailed:
        return False
    return data.code != 421


def _for_accepted(answers: list[Response], response: Response) -> list[Response]:
    """Recipients that were accepted share what came of it."""
    return [response if answer.is_success else answer for answer in answers]


def _shown(command: bytes) -> str:
    return command[:-2].decode()
