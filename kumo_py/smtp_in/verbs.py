"""Command lines, and the table of who answers which verb."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kumo_py.proto.command import Command, parse_command
from kumo_py.proto.content import Fault
from kumo_py.smtp_in import replies
from kumo_py.smtp_in.auth import auth
from kumo_py.smtp_in.data import bdat, data
from kumo_py.smtp_in.envelope import mail, rcpt, rset
from kumo_py.smtp_in.greeting import ehlo, helo
from kumo_py.smtp_in.tls import starttls
from kumo_py.smtp_in.xclient import xclient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kumo_py.smtp_in.replies import Reply
    from kumo_py.smtp_in.session import Answer, Session

Verb: TypeAlias = "Callable[[Session, Command], Answer]"


def read_command(session: Session) -> Answer:
    """The mode of a session most of the time. Raises CommandError."""
    line = session.receiver.next_line(session.params.line_length_hard_limit)
    if line is None:
        return None
    if isinstance(line, Fault):
        session.line = None
        if session.trace.watchers:
            session.traced.diagnostic("ERROR", "Line too long")
        return replies.LINE_TOO_LONG
    session.line = line
    command = parse_command(line)
    return VERBS[command.verb](session, command)


def _always(reply: Reply) -> Verb:
    return lambda _session, _command: reply


VERBS: Mapping[str, Verb] = {
    "AUTH": auth,
    "BDAT": bdat,
    "DATA": data,
    "EHLO": ehlo,
    "EXPN": _always(replies.UNIMPLEMENTED),
    "HELO": helo,
    "HELP": _always(replies.HELP),
    "LHLO": _always(replies.UNIMPLEMENTED),
    "MAIL": mail,
    "NOOP": _always(replies.NOTHING_DONE),
    "QUIT": _always(replies.GOODBYE),
    "RCPT": rcpt,
    "RSET": rset,
    "STARTTLS": starttls,
    "UNKNOWN": _always(replies.UNIMPLEMENTED),
    "VRFY": _always(replies.VRFY_NOTHING),
    "XCLIENT": xclient,
}
