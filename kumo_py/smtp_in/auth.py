"""AUTH PLAIN (RFC 4954, RFC 4616), inside TLS only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kumo_py.core.policy import PolicyError
from kumo_py.proto.content import Fault
from kumo_py.proto.sasl import PlainCredentials, decode_plain
from kumo_py.smtp_in import replies
from kumo_py.smtp_in.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kumo_py.core.acl import Identity
    from kumo_py.proto.command import Command
    from kumo_py.smtp_in.session import Answer, Session

_AUTHENTICATION = "SmtpAuthPlainAuthentication"
_AUTHORIZATION = "SmtpAuthPlainAuthorization"
_RESPONSE_LIMIT = 16384
"""Octets of the line after 334."""


def auth(session: Session, command: Command) -> Answer:
    mechanism = command.argument
    if session.authenticated:
        return replies.AUTH_TWICE
    if session.transaction is not None:
        return replies.AUTH_IN_TRANSACTION
    if mechanism.upper() != "PLAIN":
        return Reply(504, f"5.5.4 AUTH {mechanism} not supported")
    if session.tls is None:
        return replies.AUTH_IN_CLEAR
    if command.initial is None:
        session.mode = read_response
        return replies.AUTH_GO_AHEAD
    return _authenticate(session, decode_plain(command.initial))


def read_response(session: Session) -> Answer:
    """The mode after 334."""
    line = session.receiver.next_line(_RESPONSE_LIMIT)
    if line is None:
        return None
    session.read_commands()
    if isinstance(line, Fault):
        return replies.AUTH_TOO_LONG
    return _authenticate(session, decode_plain(line.decode("ascii", "replace")))


async def _authenticate(session: Session, credentials: PlainCredentials) -> Reply:
    """Ask the policy, which answers with a bool, or with the identities it found."""
    policy = session.services.policy
    answer = None
    if policy.handles("smtp_server_auth_plain"):
        answer = await session.ask("smtp_server_auth_plain", *credentials, session.meta)
    meta = session.meta
    if answer is None or answer is False:
        await _log(session, credentials.authc, success=False)
        return replies.AUTH_INVALID
    if answer is True:
        authz, authc = credentials.authz, credentials.authc
        meta.identities += ((authz, _AUTHORIZATION), (authc, _AUTHENTICATION))
    else:
        authz, authc = _identities(answer)
        meta.identities += tuple((entry["identity"], entry["context"]) for entry in answer["identities"])
        meta.groups += tuple(answer["groups"])
    session.authenticated = True
    meta.values["authz_id"] = authz
    meta.values["authn_id"] = authc
    session.identity_changed()
    await _log(session, credentials.authc, success=True)
    return replies.AUTH_OK


async def _log(session: Session, name: str, *, success: bool) -> None:
    """Write to the audit log, if there is one."""
    audit = session.services.log.audit
    if audit is not None:
        identity: Identity = {"identity": name, "context": _AUTHENTICATION}
        await audit.authenticated(identity, session.meta.auth_info(), success=success)


def _identities(auth_info: Mapping[str, Any]) -> tuple[str, str]:
    """The authorization and the authentication identity of an AuthInfo (KumoMTA `kumo.aaa.make_auth_info`)."""
    by_context = {entry["context"]: entry["identity"] for entry in auth_info["identities"]}
    if not by_context:
        raise PolicyError("smtp_server_auth_plain: an AuthInfo must name at least one identity")
    authc = by_context.get(_AUTHENTICATION, auth_info["identities"][0]["identity"])
    return by_context.get(_AUTHORIZATION, authc), authc
