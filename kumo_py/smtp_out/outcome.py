"""What becomes of a message after a transaction: records, and the spool or the queue.

2xx is delivered; 3xx, 4xx and 503 (a confused session) are transient; other 5xx bounce. Too many recipients in
one transaction is no failure of those beyond the limit: they go again at once, without a record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.logs import RecordType
from kumo_py.message.queue_name import QueueName
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue.context import InsertReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kumo_py.logs import LogContext
    from kumo_py.message.message import Message
    from kumo_py.queue.queues import Queues

log = structlog.get_logger("kumo_py.smtp_out")

_REWRITE = "smtp_client_rewrite_delivery_status"


async def settle(
    queues: Queues,
    msg: Message,
    recipients: Sequence[str],
    responses: list[Response],
    context: LogContext,
    untried: int,
    next_host: bool,
) -> int:
    """Log the responses, one for each recipient, and forget or requeue the message.

    `untried` is how many of its recipients follow on these and may go at once, beyond one transaction's limit;
    those after them have failed and wait, unless the message is tried on the `next_host`. Returns how many may go at
    once now, at the front: if any, the message is still the caller's.
    """
    if len(responses) == 1 == len(msg.recipients) and responses[0].is_success:
        await queues.log.record(RecordType.Delivery, msg, responses[0], context)
        queues.forget(msg)
        return 0
    if queues.policy.handles(_REWRITE):
        responses = [await _rewritten(queues, msg, response) for response in responses]
    tried = len(recipients)
    at_once, left = list(msg.recipients[tried : tried + untried]), list(msg.recipients[tried + untried :])
    groups: dict[tuple[RecordType, int, str, str | None], tuple[Response, list[str]]] = {}
    for index, (recipient, response) in enumerate(zip(recipients, responses, strict=True)):
        if index > 0 and _too_many(response):
            at_once.append(recipient)
            continue
        kind = _kind(response)
        if kind is RecordType.TransientFailure:
            left.append(recipient)
        key = (kind, response.code, response.content, response.command)
        groups.setdefault(key, (response, []))[1].append(recipient)
    failure: Response | None = None
    for (kind, *_), (response, affected) in groups.items():
        if kind is RecordType.TransientFailure:
            failure = response
        await queues.log.record(kind, msg, response, context, recipients=affected)
    if not left and not at_once:
        queues.forget(msg)
        return 0
    msg.set_envelope(msg.sender, (*at_once, *left))
    if next_host:
        return len(msg.recipients)
    if not at_once:
        failure = failure or Response(400, None, "KumoMTA internal: retrying failed batch")
        await queues.requeue(msg, failure, (InsertReason.LOGGED_TRANSIENT_FAILURE,))
    return len(at_once)


def _kind(response: Response) -> RecordType:
    if response.is_success:
        return RecordType.Delivery
    return RecordType.TransientFailure if response.is_transient else RecordType.Bounce


def _too_many(response: Response) -> bool:
    """Whether RCPT was refused for the number of recipients (RFC 5321 §4.5.3.1.10, RFC 3463 X.5.3)."""
    if response.command is None or not response.command.startswith("RCPT"):
        return False
    if response.enhanced is None:
        return response.code in (452, 552)
    return response.enhanced == EnhancedCode(4, 5, 3)


async def _rewritten(queues: Queues, msg: Message, response: Response) -> Response:
    if response.code == 250 or response.command is None:  # what this node said itself
        return response
    name = QueueName.parse(msg.queue_name)
    try:
        code = await queues.policy.ask(
            _REWRITE, response.to_single_line(), name.domain, name.tenant, name.campaign, name.route
        )
    except (PolicyError, Rejection) as err:
        log.error(f"{_REWRITE} failed; the status stays", error=str(err))
        return response
    if code is None or code == response.code:
        return response
    content = f"{response.content} (kumomta: status was rewritten from {response.code} -> {code})"
    return Response(code, response.enhanced, content, response.command)
