"""STARTTLS (RFC 3207), and TLS from the first octet (RFC 8314 §3.3)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import structlog

from kumo_py.logs import Tls
from kumo_py.smtp_in import replies

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from kumo_py.proto.command import Command
    from kumo_py.smtp_in.replies import Reply
    from kumo_py.smtp_in.session import Session

log = structlog.get_logger("kumo_py.smtp_in")


async def starttls(session: Session, _command: Command) -> Reply:
    if session.tls is not None:
        return replies.TLS_ALREADY
    try:
        context = await session.services.tls_context(session.params)
    except Exception as err:
        # The client may go on in the clear, which is better than a connection it has to open again.
        log.error("TLS is not available", listener=session.local, error=str(err))
        return replies.TLS_UNAVAILABLE
    session.upgrade = partial(_upgrade, context)
    return replies.START_TLS


async def _upgrade(context: ssl.SSLContext, session: Session) -> None:
    """After it nothing that came before counts any more (RFC 3207 §4.2). Raises OSError if TLS fails."""
    session.upgrade = None
    session.transaction = None
    session.helo = None
    session.esmtp = False
    session.foreign_extensions = False
    session.meta.values.pop("ehlo_domain", None)
    await handshake(session, context)


async def handshake(session: Session, context: ssl.SSLContext) -> None:
    """Raises OSError: a connection whose handshake failed is of no use."""
    await session.shake_hands(context)
    tls = session.transport.tls
    assert tls is not None
    cipher = tls.cipher()
    session.tls = Tls(cipher[0] if cipher else "", tls.version() or "", _subject(tls))
    values = session.meta.values
    values["tls_cipher"] = session.tls.cipher
    values["tls_protocol_version"] = session.tls.protocol_version
    if session.tls.subject_name:
        values["tls_peer_subject_name"] = session.tls.subject_name
    session.identity_changed()


def _subject(tls: ssl.SSLSocket | ssl.SSLObject) -> list[str]:
    """The subject of a verified client certificate as `CN=...`, `O=...`, ..."""
    certificate = tls.getpeercert()
    # ((("commonName", "client"),), ...): Python's types say less.
    subject = cast("Iterable[Iterable[tuple[str, str]]]", (certificate or {}).get("subject", ()))
    return [f"{_SHORT_NAMES.get(name, name)}={value}" for entry in subject for name, value in entry]


_SHORT_NAMES = {
    "commonName": "CN",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
}
"""OpenSSL's, as far as they differ from the long ones that Python shows."""
