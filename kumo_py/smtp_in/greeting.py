"""EHLO and HELO (RFC 5321 §4.1.1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.proto.reply import format_reply
from kumo_py.smtp_in.replies import Reply

if TYPE_CHECKING:
    from kumo_py.proto.command import Command
    from kumo_py.smtp_in.session import Answer, Session

_EXTENSIONS = ("PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "CHUNKING")


def ehlo(session: Session, command: Command) -> Answer:
    extensions = [*_EXTENSIONS, f"SIZE {session.params.max_message_size}"]
    extensions.append("STARTTLS" if session.tls is None else "AUTH PLAIN")
    if session.params.allow_xclient:
        extensions.append("XCLIENT ADDR PORT DESTADDR DESTPORT")
    session.foreign_extensions = False
    if session.services.policy.handles("smtp_server_ehlo"):
        return _ask_ehlo(session, command.argument, extensions)
    lines = _ehlo_lines(session, command.argument, extensions)
    # Only the first line could be too long for one, or hold what format_reply replaces.
    wire = format_reply(250, lines[0])
    if wire.count(b"\n") == 1:
        rest = "\r\n250-".join(extensions[:-1])
        wire = b"250-%b250-%b\r\n250 %b\r\n" % (wire[4:], rest.encode(), extensions[-1].encode())
        return Reply(250, "\n".join(lines), wire=wire)
    return Reply(250, "\n".join(lines))


async def _ask_ehlo(session: Session, domain: str, extensions: list[str]) -> Reply:
    answer = await session.ask("smtp_server_ehlo", domain, session.meta, list(extensions))
    if answer is not None:
        session.foreign_extensions = not set(extensions).issuperset(answer)
        extensions = answer
    return Reply(250, "\n".join(_ehlo_lines(session, domain, extensions)))


def _ehlo_lines(session: Session, domain: str, extensions: list[str]) -> list[str]:
    _greeted(session, domain, esmtp=True)
    return [f"{session.params.hostname} Aloha {domain}", *extensions]


def helo(session: Session, command: Command) -> Answer:
    if session.services.policy.handles("smtp_server_ehlo"):
        return _ask_helo(session, command.argument)
    return _helo_reply(session, command.argument)


async def _ask_helo(session: Session, domain: str) -> Reply:
    await session.ask("smtp_server_ehlo", domain, session.meta)
    return _helo_reply(session, domain)


def _helo_reply(session: Session, domain: str) -> Reply:
    _greeted(session, domain, esmtp=False)
    return Reply(250, f"Hello {domain}!")


def _greeted(session: Session, domain: str, *, esmtp: bool) -> None:
    session.helo = domain
    session.esmtp = esmtp
    session.meta.values["ehlo_domain"] = domain
    session.transaction = None  # RFC 5321 §4.1.4
    session.identity_changed()
