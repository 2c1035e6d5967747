"""DATA (RFC 5321 §4.1.1.4) and BDAT (RFC 3030): receiving a content.

Whatever becomes of a content, its transaction ends with it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from kumo_py.proto.content import DataResult, Fault, check_content
from kumo_py.smtp_in import replies
from kumo_py.smtp_in.reception import receive
from kumo_py.smtp_in.replies import Reply

if TYPE_CHECKING:
    from kumo_py.proto.command import Command
    from kumo_py.smtp_in.session import Answer, Session


_FAULTS: Final = {
    Fault.TOO_BIG: "Data too big",
    Fault.LINE_TOO_LONG: "Line too long",
    Fault.BAD_LINE_ENDINGS: "Invalid line endings in DATA",
}
"""What a trace says of them."""
MOST_HOPS: Final = 50
"""Received headers of a message; with more it is going round in circles (RFC 5321 §6.3)."""


def data(session: Session, _command: Command) -> Reply:
    transaction = session.transaction
    if transaction is None:
        return replies.MAIL_FIRST
    if not transaction.recipients:
        return replies.RCPT_FIRST
    if transaction.chunks is not None:
        return replies.BDAT_BEGUN
    params = session.params
    session.receiver.begin_data(
        params.max_message_size, params.line_length_hard_limit, params.invalid_line_endings
    )
    if transaction.stopwatch is not None:
        transaction.stopwatch.content_begins()
    session.mode = _read_content
    return replies.GO_AHEAD


def _read_content(session: Session) -> Answer:
    result = session.receiver.next_data()
    if result is None:
        return None
    session.read_commands()
    session.line = b"DATA"
    return _conclude(session, result)


def bdat(session: Session, command: Command) -> Answer:
    """The chunk follows at once, so it must be read even if it is not wanted (RFC 3030 §2)."""
    transaction = session.transaction
    left = session.params.max_message_size
    if transaction is None or not transaction.recipients:
        left = 0
    else:
        left -= transaction.received
    session.receiver.begin_bdat(command.size, left)
    session.mode = partial(_read_chunk, command)
    return session.mode(session)


def _read_chunk(command: Command, session: Session) -> Answer:
    chunk = session.receiver.next_bdat()
    if chunk is None:
        return None
    session.read_commands()
    transaction = session.transaction
    if transaction is None:
        return replies.MAIL_FIRST
    if not transaction.recipients:
        return replies.RCPT_FIRST
    if not isinstance(chunk, bytes):
        session.concluded = True
        return replies.FAULTS[chunk]
    transaction.keep(chunk)
    if not command.last:
        return Reply(250, f"2.0.0 {len(chunk)} octets received")
    content = b"".join(transaction.chunks or ())
    if not content.endswith(b"\r\n"):
        content += b"\r\n"  # DATA, by which it leaves us, cannot end otherwise
    params = session.params
    return _conclude(
        session, check_content(content, params.line_length_hard_limit, params.invalid_line_endings)
    )


def _conclude(session: Session, result: DataResult) -> Answer:
    session.concluded = True
    session.endpoint.counters.receptions += 1
    transaction = session.transaction
    if transaction is not None and transaction.stopwatch is not None:
        transaction.stopwatch.content_ends()
    if result.fault is not None:
        if session.trace.watchers:
            session.traced.diagnostic("ERROR", _FAULTS[result.fault])
        return replies.FAULTS[result.fault]
    if _hops(result.content) > MOST_HOPS:
        return replies.LOOP
    return receive(session, result)


def _hops(content: bytes) -> int:
    """How many Received headers it has, spelled as we spell them: a loop through us has many."""
    end = content.find(b"\r\n\r\n")
    return content.count(b"\nReceived:", 0, len(content) if end < 0 else end) + content.startswith(
        b"Received:"
    )
