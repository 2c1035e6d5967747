"""Reports about our own mail among what is received: Feedback and OOB records (`log_arf`, `log_oob`).

A feedback report (RFC 5965) is logged as Feedback in the place of its Reception. A delivery status notification
(RFC 3464) that reaches the envelope sender of a message of ours is an out-of-band bounce: each recipient that failed
gets an OOB record with the remote server's answer. What claims to be a report and is malformed is mail like any other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from kumo_py.logs import LogContext, Peer, RecordType
from kumo_py.message.arf import parse_arf
from kumo_py.message.dsn import parse_dsn
from kumo_py.message.message import Message
from kumo_py.proto.reply import EnhancedCode, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.logs import DeliveryLog
    from kumo_py.message.dsn import PerRecipient

T = TypeVar("T")

_RECEIVED = Response(250)
_match_reply = re.compile(r"([245]\d\d)[ -](.*)", re.ASCII | re.DOTALL).fullmatch


class ReceivedReports:
    """See `services.Reports`. One per node."""

    def __init__(self, log: DeliveryLog) -> None:
        self._log = log

    def is_feedback(self, msg: Message) -> bool:
        return _read(msg, parse_arf) is not None

    def is_bounce(self, msg: Message) -> bool:
        return _read(msg, parse_dsn) is not None

    async def log_feedback(self, msg: Message, context: LogContext) -> None:
        report = _read(msg, parse_arf)
        table = None if report is None else report.to_table()
        await self._log.record(
            RecordType.Feedback, msg, _RECEIVED, context, queue=msg.queue_name, feedback_report=table
        )

    async def log_bounces(self, msg: Message, context: LogContext) -> None:
        report = _read(msg, parse_dsn)
        if report is None or not self._log.wants(RecordType.OOB):
            return
        addr = "0.0.0.0" if context.peer is None else context.peer.addr
        reporter = LogContext(peer=Peer(report.per_message.reporting_mta.name, addr))
        for failed in report.per_recipient:
            if failed.action == "failed":
                recipient = (failed.original_recipient or failed.final_recipient).recipient
                # The report is addressed to the envelope sender of the message that it is about.
                about = Message(msg.id, msg.recipients[0], (recipient,), msg.meta, msg.data)
                about.size = 0  # that of the message it is about is not known
                await self._log.record(
                    RecordType.OOB, about, _response(failed), reporter, queue=msg.queue_name
                )


def _read(msg: Message, parse: Callable[[bytes], T | None]) -> T | None:
    """What the message is, read; None if it is no such report."""
    try:
        return parse(msg.data)
    except ValueError:
        return None


def _response(failed: PerRecipient) -> Response:
    """The remote server's answer, as far as the report tells it."""
    status = failed.status
    enhanced = EnhancedCode(status.class_, status.subject, status.detail)
    diagnostic = failed.diagnostic_code
    if diagnostic is None or diagnostic.diagnostic_type.lower() != "smtp":
        return Response(550, enhanced, "")
    match = _match_reply(diagnostic.diagnostic)
    if match is None:
        return Response(550, enhanced, diagnostic.diagnostic)
    return Response(int(match[1]), enhanced, match[2])
