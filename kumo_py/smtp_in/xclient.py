"""XCLIENT: a trusted proxy says whom it speaks for (Postfix XCLIENT_README, as far as KumoMTA goes)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.policy import Rejection
from kumo_py.net.transport import format_address
from kumo_py.proto.xclient import xclient_endpoints
from kumo_py.smtp_in import replies
from kumo_py.smtp_in.opening import ask_for_options, banner
from kumo_py.smtp_in.replies import Reply

if TYPE_CHECKING:
    from kumo_py.proto.command import Command
    from kumo_py.proto.xclient import XclientEndpoints
    from kumo_py.smtp_in.session import Answer, Session


def xclient(session: Session, command: Command) -> Answer:
    if not session.params.allow_xclient:
        return replies.XCLIENT_DENIED
    if session.transaction is not None:
        return replies.XCLIENT_IN_TRANSACTION
    return _believe(session, xclient_endpoints(command.params))


async def _believe(session: Session, ends: XclientEndpoints) -> Reply:
    """Answers with the banner; the options are those for the new addresses."""
    session.set_addresses(
        _changed(session.local, session.local_ip, ends.destaddr, ends.destport),
        _changed(session.peer, session.peer_ip, ends.addr, ends.port),
        "XCLIENT",
    )
    session.params = session.endpoint.session_params(session.local_ip, session.peer_ip, session.meta.values)
    try:
        await ask_for_options(session)
    except Rejection as err:
        return Reply(err.code, err.text, disconnect=err.disconnect, closes=True)
    return banner(session)


def _changed(address: str, ip: str, new_ip: str | None, new_port: int | None) -> str:
    port = int(address.rpartition(":")[2]) if new_port is None else new_port
    return format_address((ip if new_ip is None else new_ip, port))
