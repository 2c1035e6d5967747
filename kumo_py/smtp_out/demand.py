"""What TLS a connection must have before it may carry a message: the path's `enable_tls`, MTA-STS and DANE.

DANE wins over MTA-STS, and both over the path (RFC 8461 §2, RFC 7672). Neither lowers what the path demands. Both
belong to a message's domain, and domains that share their hosts share a ready queue: so a connection is made for one
message's destination, and each message of another domain is looked at before it rides along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kumo_py.dns import DnsError, TlsaRecord, split_port
from kumo_py.message.queue_name import QueueName
from kumo_py.smtp_out.connection import ConnectionFailed
from kumo_py.smtp_out.dane import DaneResult

if TYPE_CHECKING:
    from kumo_py.dns import Resolver
    from kumo_py.dns.mta_sts import Mode
    from kumo_py.message.message import Message
    from kumo_py.queue.config import EgressPath, TlsMode
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.smtp_out.connection import Connection
    from kumo_py.smtp_out.dane import DaneFinding


_UNKNOWN = "the domain's MTA-STS policy cannot be looked up"


class Destination(NamedTuple):
    """What is known of a message's domain."""

    mta_sts: Mode = "None"
    """The mode of its policy, if the path heeds it."""
    mx_is_secure: bool = False
    """Whether the choice of its hosts can be trusted, if DANE is asked for."""
    hosts: frozenset[str] = frozenset()
    """If either applies, the only hosts that it does to."""
    is_known: bool = True
    """False if the domain cannot be looked up just now: then the most is demanded, so that nobody gains by that."""


class Demand(NamedTuple):
    """What TLS there must be."""

    mode: TlsMode
    because: str
    """Whose demand it is: the beginning of an error's text."""
    tlsa: tuple[TlsaRecord, ...] = ()
    """With DANE: what the certificate must match, in place of the system's authorities."""

    @property
    def verifies(self) -> bool:
        """Whether the peer must prove who it is."""
        return self.mode in ("Opportunistic", "Required")

    @property
    def is_opportunistic(self) -> bool:
        return self.mode in ("Opportunistic", "OpportunisticInsecure")


async def destination_of(msg: Message | None, ready: ReadyQueue, resolver: Resolver) -> Destination:
    """The domain that a message is routed by, nearly always from the resolver's cache."""
    path = ready.path
    if ready.mx is None:
        smtp = ready.protocol.smtp
        return Destination("None", smtp is not None and smtp.treat_mx_list_as_secure)
    heeds_policy = path.enable_mta_sts and resolver.mta_sts is not None
    if not heeds_policy and not path.enable_dane:
        return Destination()
    route = ready.route
    if msg is not None and msg.meta_loaded:
        route = QueueName.parse(msg.queue_name).route
    try:
        mx = await resolver.lookup_mx(route)
    except DnsError:
        return Destination("Enforce" if heeds_policy else "None", path.enable_dane, is_known=False)
    mode: Mode = mx.mta_sts if heeds_policy else "None"
    mx_is_secure = path.enable_dane and mx.is_secure
    promised = mode == "Enforce" or mx_is_secure
    hosts = frozenset(split_port(item)[0] for item in mx.hosts) if promised else frozenset[str]()
    return Destination(mode, mx_is_secure, hosts)


def is_host_of(name: str, destination: Destination) -> bool:
    """Whether the host is one of those that the promise is about.

    Sites of different hosts can have the same name, and then the same ready queue: somebody else's hosts.
    """
    return not destination.hosts or name in destination.hosts


def all_may_ride(
    ready: ReadyQueue, resolver: Resolver, made_for: Destination, connection: Connection
) -> bool:
    """Whether `may_ride` holds for every message of the ready queue."""
    path = ready.path
    if ready.mx is None:
        return True
    heeds_policy = path.enable_mta_sts and resolver.mta_sts is not None
    if not heeds_policy and not path.enable_dane:
        return True
    varying = [part for part in ready.site_name.split(".") if part[:1] == "(" or part[-1:] == "?"]
    return (
        len(varying) <= 1  # otherwise the name may be that of several sites
        and (connection.authenticated or not heeds_policy)
        and (made_for.mx_is_secure or not path.enable_dane)
    )


def may_ride(
    path: EgressPath, made_for: Destination, connection: Connection, host: str, other: Destination
) -> bool:
    """Whether a message for `other` may go over a connection to `host` that was made for `made_for`."""
    if other == made_for:
        return True
    if not is_host_of(host, other):
        return False
    if other.mx_is_secure and not made_for.mx_is_secure:
        return False  # its TLSA records have not been asked for
    if connection.authenticated:
        return True
    if other.mta_sts == "Enforce":
        return False
    # Only the domain that tests its policy said that a bad certificate should not matter.
    return made_for.mta_sts != "Testing" or connection.tls is None or path.enable_tls != "Opportunistic"


def demand(path: EgressPath, destination: Destination, dane: DaneFinding | None) -> Demand:
    """Raises ConnectionFailed when DANE's demand is not known."""
    mode = path.enable_tls
    because = f"enable_tls={mode}"
    if dane is not None:
        if dane.result is DaneResult.TEMPFAIL:
            raise ConnectionFailed(f"DANE records cannot be looked up securely: {dane.problem}")
        if dane.result is DaneResult.OK:
            return Demand("Required", "DANE", dane.records)
        if dane.result is DaneResult.UNUSABLE and mode != "Required":
            # RFC 7672 §2.2: encrypted all the same, though nobody is authenticated.
            mode, because = "RequiredInsecure", "DANE (none of its records is usable)"
    if destination.mta_sts == "Enforce":
        return Demand("Required", "MTA-STS" if destination.is_known else _UNKNOWN)
    if destination.mta_sts == "Testing" and mode == "Opportunistic":
        mode, because = "OpportunisticInsecure", "MTA-STS testing"
    return Demand(mode, because)
