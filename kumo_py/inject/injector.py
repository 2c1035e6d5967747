"""From a request to messages in their queues: make, ask the policy, save, log, insert.

    request → Expansion → per recipient: message, Received, http_message_generated, X-KumoRef, queue resolved
    → saved together, a group at a time → Reception → inserted

A recipient that fails is counted and named with the reason, and leaves nothing in the spool; the others go on. A queue
that cannot be set up, as one rejection in the event, fails its recipient before anything is logged (KumoMTA logs
Reception, then Bounce). Queue `null` drops the message and counts as success.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import structlog
import trio

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.inject.expansion import Expansion
from kumo_py.inject.origin import GENERATOR_QUEUE
from kumo_py.logs import LogContext, Peer, RecordType
from kumo_py.message.message import Message
from kumo_py.message.trace import rfc5322_date, supplemental
from kumo_py.proto.address import AddressError, parse_address, split_address
from kumo_py.proto.reply import Response
from kumo_py.queue.scheduled import NULL_QUEUE
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from kumo_py.core.policy import Policy
    from kumo_py.core.templates import Templates
    from kumo_py.inject.origin import Origin
    from kumo_py.inject.request import InjectRequest, Recipient
    from kumo_py.limits.spec import ThrottleSpec
    from kumo_py.logs import DeliveryLog
    from kumo_py.queue.queues import Queues

log = structlog.get_logger("kumo_py.inject")

_RECEIVED = Response(250, None, "")
_GROUP = 64
"""Messages that are saved together, to share a sync of the disk."""
_GROUP_BYTES = 4 << 20
_TURN = 8
"""Messages made in one go before other tasks get a turn; fewer if they are larger than _LARGE octets."""
_LARGE = 16 << 10
_RATE_KEY = "kumomta.httpinject.ratelimit"


class Node(Protocol):
    """What an injector needs of its node."""

    @property
    def hostname(self) -> str: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def queues(self) -> Queues: ...
    @property
    def log(self) -> DeliveryLog: ...
    @property
    def templates(self) -> Templates: ...
    def wall(self) -> float: ...
    def new_id(self) -> bytes: ...


class InjectResult(msgspec.Struct, frozen=True):
    """The answer. errors: `address: reason`, in the order of failed_recipients."""

    success_count: int = 0
    fail_count: int = 0
    failed_recipients: list[str] = []
    errors: list[str] = []


@dataclass(slots=True)
class Outcome:
    """What became of a request's recipients."""

    successes: int = 0
    failures: list[tuple[Recipient, Exception]] = field(default_factory=list)

    def result(self) -> InjectResult:
        addresses = [recipient.email for recipient, _ in self.failures]
        errors = [f"{recipient.email}: {err}" for recipient, err in self.failures]
        return InjectResult(self.successes, len(addresses), addresses, errors)


class _Ready(NamedTuple):
    """A message whose queue is known."""

    recipient: Recipient
    msg: Message
    queue: Any


class Injector:
    """One per node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.recipient_rate: ThrottleSpec | None = None
        """`kumo.set_httpinject_recipient_rate_limit`; not for what the policy injects."""

    async def wait_for_rate(self, recipients: int) -> None:
        """Wait until so many recipients are within the rate; for requests of the HTTP API."""
        while recipients > 0 and (rate := self.recipient_rate) is not None:
            portion = min(recipients, rate.burst)
            wait = await self._node.queues.rates.admit(_RATE_KEY, rate, portion)
            if wait > 0.0:
                await trio.sleep(wait)
            else:
                recipients -= portion

    async def build(self, request: InjectRequest, origin: Origin) -> list[Message]:
        """The messages of a request, in memory only; no event is asked.

        Raises ContentError, or ValueError if one of the recipients fails.
        """
        sender, expansion = self._prepare(request)
        made = []
        for recipient in request.recipients:
            made.append(self._make(request, expansion, sender, recipient, origin))
            await trio.lowlevel.checkpoint()
        return made

    async def inject(self, request: InjectRequest, origin: Origin) -> InjectResult:
        """Queue the messages of a request, or the request itself if it says so.

        Raises ContentError, ValueError for the sender; of a deferred request also what its queue raises.
        """
        sender, expansion = self._prepare(request)
        if request.deferred_generation:
            await self._defer(request, sender, origin)
            return InjectResult()
        return (await self._run(request, sender, expansion, origin)).result()

    async def run(self, request: InjectRequest, origin: Origin) -> Outcome:
        """Queue the messages of a request now. Raises ContentError, ValueError for the sender."""
        return await self._run(request, *self._prepare(request), origin)

    async def _run(
        self, request: InjectRequest, sender: str, expansion: Expansion, origin: Origin
    ) -> Outcome:
        run = _Run(self._node, request, origin)
        try:
            for number, recipient in enumerate(request.recipients, 1):
                size = 0
                try:
                    msg = self._make(request, expansion, sender, recipient, origin)
                    size = msg.size
                    await run.add(recipient, msg)
                except Exception as err:
                    run.failed(recipient, err)
                if number % _TURN == 0 or size > _LARGE:
                    await trio.lowlevel.checkpoint()
            await run.flush()
        except BaseException:
            run.abandon()
            raise
        return run.outcome

    def _prepare(self, request: InjectRequest) -> tuple[str, Expansion]:
        try:
            sender = parse_address(request.envelope_sender)
        except AddressError as err:
            raise ValueError(f"envelope_sender: {err}") from None
        return sender, Expansion(request, self._node.templates)

    def _make(
        self, request: InjectRequest, expansion: Expansion, sender: str, recipient: Recipient, origin: Origin
    ) -> Message:
        node = self._node
        now = node.wall()
        address = parse_address(recipient.email)
        meta = origin.metadata()
        if recipient.metadata:
            meta["extra"] = dict(recipient.metadata)
        msg = Message(node.new_id(), sender, (address,), meta, expansion.expand(recipient, now))
        if request.trace_headers.received_header:
            msg.prepend(
                f"Received: from {split_address(sender)[1] or 'unspecified'} ({origin.peer_ip})\r\n"
                f"  by {node.hostname} (KumoMTA)\r\n"
                f"  with HTTP id {msg.id.hex()} for <{address}>;\r\n"
                f"  {rfc5322_date(now)}\r\n".encode()
            )
        return msg

    async def _defer(self, request: InjectRequest, sender: str, origin: Origin) -> None:
        """Queue the request as a message of its own, for the generator."""
        node = self._node
        content = msgspec.json.encode(msgspec.structs.replace(request, deferred_generation=False))
        meta = origin.metadata() | {"queue": GENERATOR_QUEUE, "auth_info": origin.auth}
        msg = Message(node.new_id(), sender, ("",), meta, content)
        queue = await node.queues.resolve(GENERATOR_QUEUE)
        if not request.deferred_spool:
            await node.queues.spool.save(msg)
        await _take_over(node, msg, queue, origin)


class _Run:
    """One request under way: messages that wait to be saved together, and what became of the others."""

    def __init__(self, node: Node, request: InjectRequest, origin: Origin) -> None:
        self._node = node
        self._queues = node.queues  # ValueError until the node runs
        self._request = request
        self._origin = origin
        self._waiting: list[_Ready] = []
        self._waiting_bytes = 0
        self.outcome = Outcome()

    def failed(self, recipient: Recipient, err: Exception) -> None:
        if not isinstance(err, ValueError | PolicyError | Rejection | SpoolError):
            log.exception("injection failed", recipient=recipient.email)
        self.outcome.failures.append((recipient, err))

    def abandon(self) -> None:
        """Leave nothing of what waits in the spool, where the policy may have put it."""
        for one in self._waiting:
            self._queues.forget(one.msg)

    async def add(self, recipient: Recipient, msg: Message) -> None:
        """Ask the policy where it is to go, and let it wait for its group. Raises what the policy raises."""
        node, queues, trace = self._node, self._queues, self._request.trace_headers
        try:
            if node.policy.handles("http_message_generated"):
                await node.policy.ask("http_message_generated", msg, self._origin.auth)
            name = msg.queue_name
            if name == NULL_QUEUE:
                self.outcome.successes += 1
                queues.forget(msg)
                return
            queue = await queues.resolve(name)
            if trace.supplemental_header:
                await queues.spool.load(msg)  # the policy may have shrunk it
                msg.prepend(
                    supplemental(trace.header_name, msg.recipients, msg.meta, trace.include_meta_names)
                )
        except BaseException:
            queues.forget(msg)
            raise
        self._waiting.append(_Ready(recipient, msg, queue))
        self._waiting_bytes += msg.size
        if len(self._waiting) >= _GROUP or self._waiting_bytes >= _GROUP_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Save, log and insert what waits."""
        waiting, queues = self._waiting, self._queues
        self._waiting_bytes = 0
        if waiting and not self._request.deferred_spool:
            try:
                await queues.spool.save(*[one.msg for one in waiting])
            except Exception as err:
                for one in waiting:
                    queues.forget(one.msg)
                    self.failed(one.recipient, err)
                waiting.clear()
        while waiting:
            one = waiting[0]
            try:
                await _take_over(self._node, one.msg, one.queue, self._origin)
                self.outcome.successes += 1
            except Exception as err:
                self.failed(one.recipient, err)
            waiting.pop(0)


async def _take_over(node: Node, msg: Message, queue: Any, origin: Origin) -> None:  # noqa: ANN401
    """Log a message and insert it. If no queue takes it, it gets a Bounce, and nothing of it is kept."""
    name = msg.queue_name
    context = LogContext(peer=Peer("", origin.peer_ip))
    await node.log.record(RecordType.Reception, msg, _RECEIVED, context, queue=name)
    try:
        await node.queues.insert(msg, queue)
    except Exception as err:
        text = f"KumoMTA internal: insertion into {name} failed: {err}"
        await node.log.record(RecordType.Bounce, msg, Response(500, None, text), LogContext(), queue=name)
        node.queues.forget(msg)
        raise
