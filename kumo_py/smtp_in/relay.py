"""Who may send to whom: `relay_hosts`, and `get_listener_domain` for the sender's and the recipient's domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from kumo_py.proto.address import split_address

if TYPE_CHECKING:
    from kumo_py.smtp_in.params import ListenerDomain
    from kumo_py.smtp_in.session import Session

_REMEMBERED_DOMAINS = 16
"""Per session, so that a client with many domains does not fill the memory."""


class Relaying(NamedTuple):
    """What is allowed for one sender and recipient."""

    allowed: bool
    """The message may be queued."""
    log_arf: bool = False
    """It is also accepted if it is a feedback report; `relay_arf`: and queued then."""
    relay_arf: bool = False
    log_oob: bool = False
    """The same for bounces."""
    relay_oob: bool = False

    @property
    def accepts(self) -> bool:
        """Whether RCPT is answered with 250."""
        return self.allowed or self.log_arf or self.log_oob


_ALLOWED: Final = Relaying(True)
_DENIED: Final = Relaying(False)


async def check_relaying(session: Session, sender: str, recipient: str) -> Relaying:
    """Raises Rejection, which KumoMTA takes for an error here (README, 11), or PolicyError."""
    if not session.services.policy.handles("get_listener_domain"):
        return _ALLOWED if session.relay_host else _DENIED
    from_domain = await _listener_domain(session, split_address(sender)[1])
    to_domain = await _listener_domain(session, split_address(recipient)[1])
    allowed = (
        session.relay_host
        or (from_domain is not None and session.peer_ip in from_domain.relay_from)
        or (to_domain is not None and to_domain.relay_to)
    )
    if to_domain is None or not to_domain.accepts_reports:
        return _ALLOWED if allowed else _DENIED
    return Relaying(
        allowed,
        to_domain.log_arf not in _IGNORE,
        to_domain.log_arf in _RELAY,
        to_domain.log_oob not in _IGNORE,
        to_domain.log_oob in _RELAY,
    )


_IGNORE: Final = ("Ignore", False)
_RELAY: Final = ("LogThenRelay", True)


async def _listener_domain(session: Session, domain: str) -> ListenerDomain | None:
    known = session.domains
    if domain in known:
        return known[domain]
    answer: ListenerDomain | None = await session.ask(
        "get_listener_domain", domain, session.local, session.meta, about=f" domain={domain}"
    )
    if len(known) >= _REMEMBERED_DOMAINS:
        del known[next(iter(known))]
    known[domain] = answer
    return answer
