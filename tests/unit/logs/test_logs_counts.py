"""What the delivery log counts: for a ready queue, for the node, and the last error."""

from __future__ import annotations

import pytest

from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.logs import DeliveryCounts, DeliveryLog, LastError, LogContext, RecordType
from kumo_py.message.message import Message
from kumo_py.proto.reply import EnhancedCode, Response

NOW = 1757675281.5
IDS = SpoolIdSource(b"\x01\x02\x03\x04\x05\x06", 7)
OK = Response(250, None, "ok")


def message(*recipients: str) -> Message:
    return Message(IDS.next(int(NOW * 1e9)), "from@a.test", recipients or ("to@b.test",), {}, b"\r\nbody\r\n")


async def test_three_deliveries_two_transient_failures_and_a_bounce() -> None:
    log, counts = DeliveryLog("node", lambda: NOW), DeliveryCounts()
    context = LogContext(site="a->b@smtp_client", counts=counts)
    later, never = Response(451, EnhancedCode(4, 7, 1), "not\r\nnow"), Response(550, None, "never")
    for kind, response in (
        (RecordType.Delivery, OK),
        (RecordType.TransientFailure, later),
        (RecordType.Delivery, OK),
        (RecordType.TransientFailure, later),
        (RecordType.Delivery, OK),
    ):
        await log.record(kind, message(), response, context)
    assert (counts.delivered, counts.transfailed, counts.failed) == (3, 2, 0)
    assert counts.last_error == (NOW, "451 4.7.1 not now")
    await log.record(RecordType.Bounce, message(), never, context)
    assert (counts.delivered, counts.transfailed, counts.failed) == (3, 2, 1)
    assert counts.last_error == (NOW, "550 never")


async def test_each_recipient_counts() -> None:
    log, counts = DeliveryLog("node", lambda: NOW), DeliveryCounts()
    context = LogContext(counts=counts)
    msg = message("a@b.test", "b@b.test", "c@b.test")
    await log.record(RecordType.Delivery, msg, OK, context, recipients=["a@b.test", "b@b.test"])
    await log.record(RecordType.Bounce, msg, Response(550, None, "no"), context, recipients=["c@b.test"])
    assert (counts.delivered, counts.transfailed, counts.failed) == (2, 0, 1)


@pytest.mark.parametrize(
    "kind", [RecordType.Reception, RecordType.Delayed, RecordType.AdminRebind, RecordType.Expiration]
)
async def test_what_is_no_attempt_counts_for_the_node_only(kind: RecordType) -> None:
    log, counts = DeliveryLog("node", lambda: NOW), DeliveryCounts()
    await log.record(kind, message(), OK, LogContext(counts=counts))
    assert (counts.delivered, counts.transfailed, counts.failed, counts.last_error) == (0, 0, 0, None)
    assert {kind: count for kind, count in log.outcomes.items() if count} == {kind: 1}


async def test_deferred_injection_that_is_done_is_a_delivery() -> None:
    log, counts = DeliveryLog("node", lambda: NOW), DeliveryCounts()
    await log.record(RecordType.DeferredInjectionRebind, message(), OK, LogContext(counts=counts))
    assert counts.delivered == 1


async def test_outcomes_without_a_ready_queue() -> None:
    log = DeliveryLog("node", lambda: NOW)
    errors: list[tuple[str | None, LastError]] = []
    log.on_failure = lambda msg, queue, error: errors.append((queue, error))
    refusal, two = Response(500, None, "x" * 5000), message("a@b.test", "c@b.test")
    await log.record(RecordType.Bounce, two, refusal, LogContext(), queue="b.test")
    await log.record(RecordType.Delivery, message(), OK, LogContext())
    await log.record_rejection("from@a.test", [], Response(550, None, "no"), LogContext(), {})
    assert (log.outcomes[RecordType.Bounce], log.outcomes[RecordType.Delivery]) == (2, 1)
    assert log.outcomes[RecordType.Rejection] == 1
    assert errors == [("b.test", (NOW, f"500 {'x' * 996}"))]
