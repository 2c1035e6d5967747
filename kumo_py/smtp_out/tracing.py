"""What an outgoing session tells its trace (logs/trace.py), while somebody watches.

A Write holds one command, or a content, or the end of one; a Read what arrived together. An envelope that rides behind
a content (conversation.py) is told with what is known of its own message, before the replies to the one before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.logs.trace import HIDDEN, diagnostic
from kumo_py.message.queue_name import QueueName
from kumo_py.smtp_out.plan import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kumo_py.dns import HostAddress
    from kumo_py.logs import SourceAddress
    from kumo_py.logs.trace import Level, Meta, Trace
    from kumo_py.message.message import Message
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.smtp_out.work import Work


class SessionTrace:
    """Of one session. Callers ask `trace.watchers` first."""

    __slots__ = (
        "_base",
        "_closed",
        "_conversing",
        "_host",
        "_message",
        "_plan",
        "_ready",
        "_session_id",
        "_source",
        "_work",
        "trace",
    )

    def __init__(self, trace: Trace, ready: ReadyQueue, session_id: str, work: Work) -> None:
        self.trace = trace
        self._ready = ready
        self._session_id = session_id
        self._work = work
        self._plan: tuple[HostAddress, ...] | None = None
        self._host: HostAddress | None = None
        """What it is connected to, or was; and where from."""
        self._source: SourceAddress | None = None
        self._base: Meta | None = None
        """What is known of the session and its host, once it is asked for."""
        self._conversing = False
        self._message: tuple[bytes, Meta] | None = None
        """The message that was told of last: its id, and what is known of it."""
        self._closed = False

    # -- hosts -------------------------------------------------------------------------------------
    def begin(self, plan: Sequence[HostAddress] | None) -> None:
        """The session begins, with these hosts; None: the domain takes no mail."""
        self._plan = None if plan is None else tuple(plan)
        if self.trace.watchers:
            self._tell("BeginSession")

    def connected(self, host: HostAddress, source: SourceAddress) -> None:
        self._host, self._source = host, source
        self._base = None
        self._closed = self._conversing = False
        if self.trace.watchers:
            self._tell("Connected")

    def established(self) -> None:
        """From here on what is told is about the message in hand."""
        self._conversing = True

    def closed(self) -> None:
        """The connection is closed."""
        self._closed = True
        if self.trace.watchers:
            self._tell("Closed")

    def end(self) -> None:
        """The session is over. One that never came to a connection closes with it, so that there is an end to see."""
        if not self._closed:
            self.closed()

    def diagnostic(self, level: Level, message: str) -> None:
        if self.trace.watchers:
            self._tell("Diagnostic", diagnostic(level, message))

    # -- messages ----------------------------------------------------------------------------------
    def obtained(self, msg: Message) -> None:
        """The message is the next to be sent."""
        self._message = None  # its recipients may be fewer than before
        self._tell("MessageObtained", msg=msg)

    def sent(self, parts: Sequence[bytes], content: int) -> None:
        """The parts are on their way; so many of them, the first ones, are a message's content and its end."""
        if not content:
            self._commands(parts)
            return
        self._tell("Write", parts[0])
        self._tell("Write", b"".join(parts[1:content]))
        if (ahead := self._work.ahead) is not None:
            self.obtained(ahead.msg)
            self._commands(parts[content:], ahead.msg)

    def _commands(self, parts: Sequence[bytes], msg: Message | None = None) -> None:
        for line in b"".join(parts).splitlines(keepends=True):
            if line.startswith(b"AUTH "):
                line = b"%b %b\r\n" % (b" ".join(line.split()[:2]), HIDDEN.encode())
            self._tell("Write", line, msg)

    def received(self, data: bytes) -> None:
        self._tell("Read", data)

    def _tell(self, kind: str, data: bytes | Meta | None = None, msg: Message | None = None) -> None:
        base = self._base
        if base is None:
            base = self._base = self._of_session()
        if msg is None and self._conversing:
            msg = self._work.in_hand
        if msg is not None and msg.meta_loaded and (self._message is None or self._message[0] != msg.id):
            self._message = msg.id, _of_message(msg)
        meta = base if self._message is None else {**base, **self._message[1]}
        self.trace.tell(self.trace.event(meta, kind, data))

    def _of_session(self) -> Meta:
        ready = self._ready
        meta: dict[str, object] = {
            "egress_pool": ready.pool,
            "egress_source": ready.source.name,
            "id": self._session_id,
            "ready_queue_name": ready.name,
            "mx_plan": _plan(self._plan),
        }
        if self._host is not None and self._source is not None:
            meta["source_address"] = self._source.address
            meta["mx_host"] = self._host.name
            meta["mx_address"] = shown(self._host)
        return meta


def _plan(hosts: Sequence[HostAddress] | None) -> object:
    """KumoMTA's ResolvedMxAddresses: what is tried first comes last."""
    if hosts is None:
        return "NullMx"
    return {
        "Addresses": [
            {"name": host.name, "addr": shown(host), "is_secure": host.is_secure} for host in hosts[::-1]
        ]
    }


def _of_message(msg: Message) -> Meta:
    queue_name = msg.queue_name
    name = QueueName.parse(queue_name)
    told: dict[str, object] = {
        "message_id": msg.id.hex(),
        "sender": msg.sender,
        "recipient": list(msg.recipients),
        "domain": name.domain,
        "routing_domain": name.routing_domain,
        "queue_name": queue_name,
    }
    if name.campaign is not None:
        told["campaign"] = name.campaign
    if name.tenant is not None:
        told["tenant"] = name.tenant
    return told
