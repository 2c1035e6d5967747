"""After the end of a content: from one transaction to its messages, in the spool and in their queues.

    smtp_server_data → batches → per batch: Received, smtp_server_message_received, X-KumoRef
    → queues are resolved → may it be relayed? → all are saved → commit → all are logged → all are inserted → 250

Until the commit anything that fails, one rejection, or the passing of `data_processing_timeout` refuses the
whole transaction and leaves nothing in the spool. After it the messages are ours: a client that does not hear
our 250 will send them again, so nothing may cut that short.

KumoMTA logs Reception for what it then answers with 550, and forgets a batch without a record if it may not be
relayed while others of the transaction may; here the first leaves no record, the second a Bounce.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.logs import RecordType
from kumo_py.message.message import Message
from kumo_py.message.trace import received, received_start, supplemental
from kumo_py.proto.address import split_address
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue.deferred_injection import DEFERRED_QUEUE
from kumo_py.smtp_in import replies
from kumo_py.smtp_in.relay import check_relaying
from kumo_py.smtp_in.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence
    from typing import Any

    from kumo_py.proto.content import DataResult
    from kumo_py.smtp_in.envelope import Transaction
    from kumo_py.smtp_in.relay import Relaying
    from kumo_py.smtp_in.session import Answer, Session

log = structlog.get_logger("kumo_py.smtp_in")

NULL_QUEUE: Final = "null"
"""Messages of this queue are logged and dropped."""
_RECEIVED: Final = Response(250)
_NOT_RELAYED: Final = Response(550, EnhancedCode(5, 7, 1), "relaying not permitted")


class _Accepted:
    """One message of the transaction and what is to become of it."""

    __slots__ = ("is_bounce", "is_feedback", "msg", "queue", "queue_name", "relay")

    def __init__(self, msg: Message, queue_name: str) -> None:
        self.msg = msg
        self.queue_name = queue_name
        self.queue: Any = None
        self.relay = False
        """May be queued."""
        self.is_feedback = False
        self.is_bounce = False

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything that can be done with it."""
        return self.relay or self.is_feedback or self.is_bounce or self.queue_name == NULL_QUEUE

    @property
    def is_queued(self) -> bool:
        """Whether it is for the spool and a queue."""
        return self.relay and self.queue_name != NULL_QUEUE


def receive(session: Session, result: DataResult) -> Answer:
    """Take over what the transaction's client sent, or raise Rejection or PolicyError.

    Nothing has to be waited for if the policy sends a lone message to the null queue at once, and nobody logs it:
    that is answered here. For all else there is `_receive`.
    """
    services, transaction = session.services, session.transaction
    assert transaction is not None
    policy = services.policy
    if (
        len(transaction.recipients) != 1
        or session.params.deferred_queue
        or not policy.handles("smtp_server_message_received")
        or policy.handles("smtp_server_data")
        or policy.handles("smtp_server_split_transaction")
    ):
        return _receive(session, transaction, result, None, None)
    msg = _base_message(session, transaction, result)
    if session.params.trace_headers.received_header:
        msg.prepend(_received(session, transaction, msg))
    watched = bool(session.trace.watchers)
    if watched:
        rest = session.traced.start("smtp_server_message_received", (msg, session.meta))
    else:
        rest = policy.start("smtp_server_message_received", msg, session.meta)
    if (
        rest is not None
        or watched
        or msg.queue_name != NULL_QUEUE
        or services.reports is not None
        or services.log.wants(RecordType.Reception)
    ):
        return _receive(session, transaction, result, msg, rest)
    session.conclude()
    return _accepted_as([msg], "OK")


async def _receive(
    session: Session,
    transaction: Transaction,
    result: DataResult,
    msg: Message | None,
    rest: Awaitable[object] | None,
) -> Reply:
    """All the way. `msg`: the transaction's one message, if it has been made; `rest`: of its received event.

    Raises Rejection, PolicyError, SpoolError.
    """
    session.begin_work()
    made: list[Message] = []
    try:
        if msg is None:
            messages = await _make_messages(session, transaction, result, made)
        else:
            made.append(msg)
            messages = made
            if rest is not None:
                await rest
        accepted = [await _route(session, msg) for msg in messages]
        queued = [it for it in accepted if it.is_queued]
        if not queued and not any(it.is_wanted for it in accepted):
            _forget(session, made)
            return replies.NOT_RELAYED
        if queued:
            await _save(session, queued)
        await session.commit()
    except BaseException:
        _forget(session, made)
        raise
    await _log(session, accepted)
    if len(queued) < len(made):
        _forget(session, [it.msg for it in accepted if not it.is_queued])
    failed = await _insert(session, queued) if queued else 0
    if failed and failed == len(accepted):
        return replies.technical_difficulties(session.params.hostname)
    return _accepted_as(messages, "PARTIAL" if failed else "OK")


def _accepted_as(messages: Sequence[Message], verdict: str) -> Reply:
    text = f"{verdict} ids={' '.join([msg.id.hex() for msg in messages])}"
    if len(messages) == 1:
        return Reply(250, text, wire=b"250 %b\r\n" % text.encode())
    return Reply(250, text)


def _base_message(session: Session, transaction: Transaction, result: DataResult) -> Message:
    return Message(
        session.services.new_id(),
        transaction.sender,
        tuple(transaction.recipients),
        dict(session.meta.values),
        result.content,
        dot_lines=result.has_leading_dots,
    )


# -- until the commit -------------------------------------------------------------------------------
async def _make_messages(
    session: Session, transaction: Transaction, result: DataResult, made: list[Message]
) -> list[Message]:
    """The transaction's messages. `made` gets all that the policy saw, and may have saved."""
    policy, params = session.services.policy, session.params
    base = _base_message(session, transaction, result)
    made.append(base)
    if policy.handles("smtp_server_data"):
        await session.ask("smtp_server_data", base, session.meta)
    batches = None
    if policy.handles("smtp_server_split_transaction"):
        batches = await session.ask("smtp_server_split_transaction", base, session.meta)
    if not base.data_loaded:
        await _load(session, base)
    if batches is None and len(base.recipients) > 1:
        batches = _batches(session, base.recipients)
    if batches is not None:
        _split(session, base, batches, made)
        if not batches:
            return []
    for msg in made:
        if params.trace_headers.received_header:
            msg.prepend(_received(session, transaction, msg))
        if params.deferred_queue:
            msg.set_meta("queue", DEFERRED_QUEUE)
        elif policy.handles("smtp_server_message_received"):
            await session.ask("smtp_server_message_received", msg, session.meta)
    return made


def _batches(session: Session, recipients: Sequence[str]) -> Sequence[Sequence[str]]:
    if session.params.batch_handling == "BifurcateAlways":
        return [(recipient,) for recipient in recipients]
    by_domain: dict[str, list[str]] = {}
    for recipient in recipients:
        by_domain.setdefault(split_address(recipient)[1].lower(), []).append(recipient)
    return list(by_domain.values())


def _split(session: Session, base: Message, batches: Sequence[Sequence[str]], made: list[Message]) -> None:
    """Make a message of each batch; the base message serves for the first."""
    if not all(batches):
        raise PolicyError("smtp_server_split_transaction: a batch must have at least one recipient")
    new_id = session.services.new_id
    made.extend(base.fork(new_id(), tuple(batch)) for batch in batches[1:])
    for batch in batches[:1]:
        base.set_envelope(base.sender, tuple(batch))


def _received(session: Session, transaction: Transaction, msg: Message) -> bytes:
    if transaction.utf8:
        start = _received_start(session, utf8=True)
    else:
        start = session.received_start = session.received_start or _received_start(session, utf8=False)
    return received(start, msg.id, msg.recipients[0], session.clock.date())


def _received_start(session: Session, *, utf8: bool) -> bytes:
    """With the protocol name of RFC 3848 or RFC 6531 §4.3 (KumoMTA: always one of ESMTP*)."""
    protocol = "UTF8SMTP" if utf8 else "ESMTP" if session.esmtp else "SMTP"
    tls = session.tls
    if tls is not None and protocol != "SMTP":
        protocol += "SA" if session.authenticated else "S"
    return received_start(
        session.helo,
        session.peer_ip,
        session.params.hostname,
        session.local_ip,
        protocol,
        None if tls is None else f"{tls.protocol_version}:{tls.cipher}",
    )


async def _load(session: Session, msg: Message) -> None:
    """Bring content back that the policy shrank. Raises SpoolError."""
    if session.services.spool is not None:
        await session.services.spool.load(msg)


async def _route(session: Session, msg: Message) -> _Accepted:
    """Find the queue, and whether the message may go there."""
    it = _Accepted(msg, msg.queue_name)
    if not msg.data_loaded:
        await _load(session, msg)
    trace = session.params.trace_headers
    if trace.supplemental_header and it.queue_name != NULL_QUEUE:
        msg.prepend(supplemental(trace.header_name, msg.recipients, msg.meta, trace.include_meta_names))
    try:
        if it.queue_name != NULL_QUEUE:
            session.stage = "resolve"
            it.queue = await session.services.queues.resolve(it.queue_name)
        relaying = await check_relaying(session, msg.sender, msg.recipients[0])
    except Rejection as err:
        raise PolicyError(f"queue {it.queue_name} can't take a message: {err}") from err
    it.relay = relaying.allowed
    if relaying.log_arf or relaying.log_oob:
        _look_for_report(session, it, relaying)
    if session.trace.watchers:
        is_report = it.is_feedback or it.is_bounce
        session.traced.disposition(msg, it.queue_name, relaying, enqueued=it.relay, is_report=is_report)
    return it


def _look_for_report(session: Session, it: _Accepted, relaying: Relaying) -> None:
    reports = session.services.reports
    if reports is None:
        return
    if relaying.log_arf and reports.is_feedback(it.msg):
        it.is_feedback = True
        it.relay = relaying.relay_arf
    elif relaying.log_oob and reports.is_bounce(it.msg):
        it.is_bounce = True
        it.relay = relaying.relay_oob


async def _save(session: Session, queued: Sequence[_Accepted]) -> None:
    """All at once, so that they share one sync of the disk. Raises SpoolError."""
    spool = session.services.spool
    if spool is None or session.params.deferred_spool:
        return
    session.stage = "spool"
    await spool.save(*[it.msg for it in queued])


def _forget(session: Session, messages: Iterable[Message]) -> None:
    """Leave nothing of them in the spool."""
    spool = session.services.spool
    if spool is not None:
        for msg in messages:
            spool.remove(msg)


# -- after it ---------------------------------------------------------------------------------------
async def _log(session: Session, accepted: Iterable[_Accepted]) -> None:
    for it in accepted:
        try:
            await _log_one(session, it)
        except Exception:
            # It is ours by now; a record that could not be written is no reason to lose it.
            log.exception("a record is missing from the delivery log", id=it.msg.id.hex())


async def _log_one(session: Session, it: _Accepted) -> None:
    delivery_log, reports = session.services.log, session.services.reports
    if it.is_feedback and reports is not None:
        await reports.log_feedback(it.msg, session.log_context)
    elif delivery_log.wants(RecordType.Reception):
        await delivery_log.record(
            RecordType.Reception, it.msg, _RECEIVED, session.log_context, queue=it.queue_name
        )
    if it.is_bounce and reports is not None:
        await reports.log_bounces(it.msg, session.log_context)
    if not it.is_wanted:
        await delivery_log.record(
            RecordType.Bounce, it.msg, _NOT_RELAYED, session.log_context, queue=it.queue_name
        )


async def _insert(session: Session, queued: Iterable[_Accepted]) -> int:
    """Returns how many messages no queue took."""
    failed = 0
    for it in queued:
        try:
            await session.services.queues.insert(it.msg, it.queue)
        except Exception as err:
            failed += 1
            await _unwind(session, it, err)
    return failed


async def _unwind(session: Session, it: _Accepted, err: Exception) -> None:
    """No queue took it: it has a Reception record, so it gets a Bounce too."""
    if session.trace.watchers:
        session.traced.diagnostic("ERROR", f"no queue took message {it.msg.id.hex()}: {err}")
    log.error("a message could not be queued", id=it.msg.id.hex(), queue=it.queue_name, error=str(err))
    response = Response(500, None, f"KumoMTA internal: insertion into {it.queue_name} failed: {err}")
    await session.services.log.record(
        RecordType.Bounce, it.msg, response, session.log_context, queue=it.queue_name
    )
    _forget(session, [it.msg])
