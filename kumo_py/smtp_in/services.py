"""What an SMTP listener needs of its node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kumo_py.logs.trace import Trace

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from kumo_py.core.policy import Policy
    from kumo_py.logs import DeliveryLog, LogContext
    from kumo_py.message.message import Message
    from kumo_py.smtp_in.params import SessionParams
    from kumo_py.spool.messages import MessageSpool


class Queues(Protocol):
    """Where accepted messages go; what `resolve` returns is only handed back to `insert`."""

    async def resolve(self, name: str) -> Any:  # noqa: ANN401 - each kind of Queues has its own
        """The scheduled queue of this name. Any exception means that nobody can deliver through it now."""
        ...

    async def insert(self, msg: Message, queue: Any) -> None:  # noqa: ANN401
        """Take the message over. If it raises, it has not."""
        ...


class Reports(Protocol):
    """Knows reports about our own mail among what is received; asked for domains with `log_arf`, `log_oob`."""

    def is_feedback(self, msg: Message) -> bool:
        """Whether it is a feedback report (RFC 5965)."""
        ...

    def is_bounce(self, msg: Message) -> bool:
        """Whether it is a delivery status notification (RFC 3464)."""
        ...

    async def log_feedback(self, msg: Message, context: LogContext) -> None:
        """Write the Feedback record that stands in the place of Reception."""
        ...

    async def log_bounces(self, msg: Message, context: LogContext) -> None:
        """Write an OOB record for each failed recipient."""
        ...


@dataclass(slots=True)
class Services:
    """A node, as its listeners see it."""

    policy: Policy
    queues: Queues
    spool: MessageSpool | None
    """None for a node that only drops what it receives: queue `null`, or `deferred_spool`."""
    log: DeliveryLog
    new_id: Callable[[], bytes]
    """Makes a spool id."""
    wall: Callable[[], float]
    """Unix time."""
    refusing: Callable[[], str | None]
    """While load is shed: the text after `421 4.3.2 HOST `; None normally."""
    tls_context: Callable[[SessionParams], Awaitable[ssl.SSLContext]]
    """The server's context for these options; cached by its owner."""
    hostname: str
    """Stands for `hostname` where the options don't name one."""
    reports: Reports | None = None
    """None: what comes for a domain with `log_arf` or `log_oob` is mail like any other."""
    trace: Trace = field(default_factory=Trace)
