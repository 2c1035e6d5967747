"""EHLO and HELO (RFC 5321 §4.1.1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.smtp_in.replies import Reply

if TYPE_CHECKING:
    from kumo_py.proto.command import Command
    from kumo_py.smtp_in.session import Session

_EXTENSIONS = ("PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "CHUNKING")


async def ehlo(session: Session, command: Command) -> Reply:
    params = session.params
    first = f"{params.hostname} Aloha {command.argument}"
    extensions = [*_EXTENSIONS, f"SIZE {params.max_message_size}"]
    extensions.append("STARTTLS" if session.tls is None else "AUTH PLAIN")
    if params.allow_xclient:
        extensions.append("XCLIENT ADDR PORT DESTADDR DESTPORT")
    session.foreign_extensions = False
    if session.services.policy.handles("smtp_server_ehlo"):
        answer = await session.services.policy.ask(
            "smtp_server_ehlo", command.argument, session.meta, list(extensions)
        )
        if answer is not None:
            session.foreign_extensions = not set(extensions).issuperset(answer)
            extensions = answer
    _greeted(session, command.argument, esmtp=True)
    return Reply(250, "\n".join([first, *extensions]))


async def helo(session: Session, command: Command) -> Reply:
    if session.services.policy.handles("smtp_server_ehlo"):
        await session.services.policy.ask("smtp_server_ehlo", command.argument, session.meta)
    _greeted(session, command.argument, esmtp=False)
    return Reply(250, f"Hello {command.argument}!")


def _greeted(session: Session, domain: str, *, esmtp: bool) -> None:
    session.helo = domain
    session.esmtp = esmtp
    session.meta.values["ehlo_domain"] = domain
    session.transaction = None  # RFC 5321 §4.1.4
    session.identity_changed()
