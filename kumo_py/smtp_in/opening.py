"""The begin of a session, up to the banner: load shedding, PROXY header, implicit TLS, options, the policy's say.

The order is KumoMTA's (README, 13): smtp_server_get_dynamic_parameters, smtp_server_connection_accepted, 220.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kumo_py.core.policy import Rejection
from kumo_py.net.transport import format_address
from kumo_py.proto.proxy import ProxyError, parse_proxy_header
from kumo_py.smtp_in import replies
from kumo_py.smtp_in.replies import Hangup, Reply
from kumo_py.smtp_in.tls import handshake

if TYPE_CHECKING:
    from kumo_py.smtp_in.session import Answer, Session


def open_session(session: Session) -> Answer:
    """The first mode: before anything is read or sent."""
    session.read_commands()
    hostname = session.params.hostname
    if session.endpoint.stopping:
        return replies.shutting_down(hostname)
    if (refusal := session.services.refusing()) is not None:
        session.endpoint.counters.denied += 1
        return Reply(421, f"4.3.2 {hostname} {refusal}")
    if session.params.require_proxy_protocol:
        session.mode = read_proxy_header
        return None
    return _greet(session)


def read_proxy_header(session: Session) -> Answer:
    """A mode: what comes before the client's first octet. Closes without a word if it is no PROXY header."""
    arrived = session.receiver.take_rest()
    try:
        header = parse_proxy_header(arrived)
    except ProxyError as err:
        raise Hangup(f"no PROXY header: {err}") from None
    if header is None:
        session.receiver.feed(arrived)
        return None
    session.receiver.feed(arrived[header.consumed :])
    session.set_addresses(
        session.local if header.destination is None else format_address(header.destination),
        session.peer if header.source is None else format_address(header.source),
        "Proxy protocol",
    )
    session.params = session.endpoint.session_params(session.local_ip, session.peer_ip, session.meta.values)
    return _greet(session)


async def _greet(session: Session) -> Reply:
    session.read_commands()
    if session.endpoint.params.implicit_tls:
        if session.receiver.pending:
            # It came together with the PROXY header, and what is read can't be given to the TLS layer any more.
            raise Hangup("data before the TLS handshake")
        await handshake(session, await session.services.tls_context(session.params))
    try:
        await ask_for_options(session)
        if session.services.policy.handles("smtp_server_connection_accepted"):
            await session.ask("smtp_server_connection_accepted", session.meta)
    except Rejection as err:
        return Reply(err.code, err.text, disconnect=err.disconnect, closes=True)
    return banner(session)


async def ask_for_options(session: Session) -> None:
    """Let the policy change the options. Raises Rejection or PolicyError."""
    if session.services.policy.handles("smtp_server_get_dynamic_parameters"):
        overrides = await session.ask("smtp_server_get_dynamic_parameters", session.local, session.meta)
        if overrides is not None:
            session.params = replace(session.params)
            session.params.apply(overrides, session.local_ip, session.peer_ip, session.meta.values)
    session.identity_changed()


def banner(session: Session) -> Reply:
    return Reply(220, f"{session.params.hostname} {session.params.banner}")
