"""MAIL, RCPT and RSET: the envelope (RFC 5321 §4.1.1.2, §4.1.1.3, §4.1.1.5) and its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.smtp_in import replies
from kumo_py.smtp_in.relay import check_relaying
from kumo_py.smtp_in.replies import Reply
from kumo_py.smtp_in.times import RARELY, Stopwatch

if TYPE_CHECKING:
    from kumo_py.proto.address import Params
    from kumo_py.proto.command import Command
    from kumo_py.smtp_in.session import Answer, Session


_SMALL_CHUNK: Final = 8192
"""Octets."""


class Transaction:
    """What a client has said of the message that it is about to send."""

    __slots__ = ("chunks", "received", "recipients", "sender", "stopwatch", "utf8")

    def __init__(self, sender: str, *, utf8: bool) -> None:
        self.sender = sender
        self.stopwatch: Stopwatch | None = None
        """If this one is timed."""
        self.utf8 = utf8
        """The client asked for SMTPUTF8 (RFC 6531)."""
        self.recipients: list[str] = []
        self.chunks: list[bytes] | None = None
        """What came with BDAT, once the first one was seen; `received` octets."""
        self.received = 0

    def keep(self, chunk: bytes) -> None:
        """Add what came with a BDAT; small chunks are glued together, or each would cost many times its size."""
        self.received += len(chunk)
        chunks = self.chunks
        if not chunks:
            self.chunks = [chunk]
        elif len(chunk) + len(chunks[-1]) < _SMALL_CHUNK:
            chunks[-1] += chunk
        else:
            chunks.append(chunk)


def mail(session: Session, command: Command) -> Answer:
    if session.transaction is not None:
        return replies.MAIL_TWICE
    if command.params and (refusal := _judge_mail_params(session, command.params)) is not None:
        return refusal
    transaction = Transaction(command.argument, utf8="SMTPUTF8" in command.params)
    endpoint = session.endpoint
    if not endpoint.counters.receptions & RARELY:
        transaction.stopwatch = Stopwatch(endpoint.times)
    if session.services.policy.handles("smtp_server_mail_from"):
        return _ask_mail(session, transaction)
    session.transaction = transaction
    return replies.MAIL_OK


async def _ask_mail(session: Session, transaction: Transaction) -> Reply:
    await session.ask("smtp_server_mail_from", transaction.sender, session.meta)
    session.transaction = transaction
    return replies.MAIL_OK


def rcpt(session: Session, command: Command) -> Answer:
    transaction = session.transaction
    if transaction is None:
        return replies.MAIL_FIRST
    if command.params and not session.foreign_extensions:
        return _unknown("RCPT TO", next(iter(command.params)))
    policy = session.services.policy
    if policy.handles("get_listener_domain") or policy.handles("smtp_server_rcpt_to"):
        return _ask_rcpt(session, transaction, command.argument)
    if not session.relay_host:
        return _relaying_denied(session)
    if (refusal := _over_limit(session, transaction)) is not None:
        return refusal
    session.recipients_counted += 1
    transaction.recipients.append(command.argument)
    return replies.RCPT_OK


async def _ask_rcpt(session: Session, transaction: Transaction, recipient: str) -> Reply:
    try:
        relaying = await check_relaying(session, transaction.sender, recipient)
    except Rejection as err:
        raise PolicyError(f"get_listener_domain must not reject, but said {err}") from err
    if not relaying.accepts:
        return _relaying_denied(session)
    if (refusal := _over_limit(session, transaction)) is not None:
        return refusal
    session.recipients_counted += 1
    if session.services.policy.handles("smtp_server_rcpt_to"):
        await session.ask("smtp_server_rcpt_to", recipient, session.meta)
    transaction.recipients.append(recipient)
    return replies.RCPT_OK


def _relaying_denied(session: Session) -> Reply:
    return Reply(550, f"5.7.1 relaying not permitted for {session.peer}")


def _over_limit(session: Session, transaction: Transaction) -> Reply | None:
    params = session.params
    if len(transaction.recipients) >= params.max_recipients_per_message:
        return replies.TOO_MANY_RECIPIENTS
    if session.recipients_counted < params.max_messages_per_connection:
        return None
    if transaction.recipients:
        return replies.TOO_MANY_ON_CONNECTION
    return Reply(421, f"4.5.3 {params.hostname} too many recipients on this connection")


def rset(session: Session, _command: Command) -> Reply:
    session.transaction = None
    return replies.RESET


def _judge_mail_params(session: Session, params: Params) -> Reply | None:
    """RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 (SMTPUTF8), RFC 4954 (AUTH); the rest is unknown."""
    for name, value in params.items():
        match name, value:
            case "SIZE", str() if value.isascii() and value.isdigit() and len(value) <= 20:
                if int(value) > session.params.max_message_size:
                    return replies.TOO_BIG
            case "BODY", str() if value.upper() in _BODIES:
                pass
            case "SMTPUTF8", None:
                pass
            case "AUTH", str():
                pass
            case (("SIZE" | "BODY" | "SMTPUTF8" | "AUTH"), _):
                return Reply(501, f"5.5.4 the value of {name} is not valid")
            case _ if not session.foreign_extensions:
                return _unknown("MAIL FROM", name)
    return None


_BODIES: Final = ("7BIT", "8BITMIME")


def _unknown(command: str, name: str) -> Reply:
    return Reply(555, f"5.5.4 {command} parameter {name} is not supported")
