"""What queues count for the metrics, and what is left of it when they are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from queue_harness import constant, start_sender

from kumo_py.admin.metrics.residents import Residents
from kumo_py.admin.metrics.sums import sum_up
from kumo_py.core.duration import Duration
from kumo_py.limits.spec import ThrottleSpec
from kumo_py.logs import RecordType
from kumo_py.proto.reply import Response
from kumo_py.queue.config import EgressPath, QueueConfig
from kumo_py.queue.context import InsertReason

if TYPE_CHECKING:
    import pytest
    from queue_harness import QueueNode, Sender
    from trio.testing import MockClock

    from kumo_py.message.message import Message
    from kumo_py.queue.ready import ReadyQueue

ZONE = """
$ORIGIN test.
b.test. 300 IN MX 10 mx.b.test.
mx.b.test. 300 IN A 192.0.2.1
c.test. 300 IN MX 10 mx.c.test.
mx.c.test. 300 IN A 192.0.2.2
d.test. 300 IN MX 10 mx.d.test.
mx.d.test. 300 IN A 192.0.2.3
"""
LATER = Response(451, None, "not now")


def providers(**by_domain: str) -> dict[str, Any]:
    """Paths of these providers, by the first label of the domain."""
    return {
        "get_egress_path_config": lambda domain, *_: EgressPath(
            provider_name=by_domain.get(domain.partition(".")[0]), idle_timeout=Duration(5)
        )
    }


def recording(node: QueueNode) -> Any:
    """An outcome that is recorded, as SMTP sessions do: what is sent to `later` fails for now."""

    async def outcome(ready: ReadyQueue, msg: Message) -> None:
        context = ready.log_context(ready.running)
        await node.spool.load_meta(msg)
        if msg.recipients[0].startswith("later"):
            await node.log.record(RecordType.TransientFailure, msg, LATER, context)
            await node.queues.requeue(msg, LATER, (InsertReason.LOGGED_TRANSIENT_FAILURE,))
        else:
            await node.log.record(RecordType.Delivery, msg, Response(250), context)
            node.queues.forget(msg)

    return outcome


async def started(nursery: trio.Nursery, handlers: dict[str, Any]) -> tuple[QueueNode, Sender]:
    node, sender = await start_sender(nursery, handlers, zone=ZONE)
    sender.outcome = recording(node)
    return node, sender


async def test_sums_do_not_fall_when_ready_queues_go(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _ = await started(nursery, providers(b="big", c="big", d="small"))
    for recipient in ("a@b.test", "a@b.test", "later@b.test", "a@c.test", "a@d.test"):
        await node.send(recipient)
    await trio.sleep(1)
    before = await sum_up(node.queues)
    assert (before.by_service["smtp_client"].delivered, before.by_service["smtp_client"].transfailed) == (
        4,
        1,
    )
    assert before.counts_by_provider["big"].delivered == 3
    assert before.counts_by_path["small", "unspecified", "unspecified"].delivered == 1
    assert before.by_service["smtp_client:unspecified->mx.b.test@smtp_client"].delivered == 2
    # All but the one to c.test are used no more.
    for _ in range(8):
        await trio.sleep(100)
        await node.send("a@c.test")
    await trio.sleep(1)
    after = await sum_up(node.queues)
    assert list(node.queues.ready) == ["unspecified->mx.c.test@smtp_client"]
    assert after.by_service["smtp_client"].delivered == 12
    assert "smtp_client:unspecified->mx.b.test@smtp_client" not in after.by_service
    assert after.counts_by_provider["big"].delivered == 11, "b.test's belong to a provider that has queues"
    assert "small" not in after.counts_by_provider


async def test_providers_without_a_name_are_sites(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _ = await started(nursery, {})
    await node.send("a@b.test")
    await trio.sleep(1)
    sums = await sum_up(node.queues)
    assert {provider: counts.delivered for provider, counts in sums.counts_by_provider.items()} == {
        "mx.b.test": 1
    }


async def test_full_ready_queues(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    full = {"get_egress_path_config": constant(EgressPath(max_ready=1, max_message_rate=None))}
    node, sender = await started(nursery, full)
    sender.duration = 1000.0
    for _ in range(40):
        await node.send("a@b.test")
    await trio.sleep(0.5)
    sums = await sum_up(node.queues)
    queue = node.queues.scheduled["b.test"]
    assert queue.full_delays == sums.by_service["smtp_client"].overflows >= queue.delayed == 38
    assert sums.delaying == [queue]
    assert sums.waiting + sums.lying + len(node.queues.in_hand) == 40


async def test_throttled_messages(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    slow = {
        "get_queue_config": constant(QueueConfig(max_message_rate=ThrottleSpec.parse("1/h"))),
        "throttle_insert_ready_queue": lambda msg: None,
    }
    node, _ = await started(nursery, slow)
    for _ in range(3):
        await node.send("a@b.test")
    queue = node.queues.scheduled["b.test"]
    assert (queue.rate_delays, queue.event_delays, queue.full_delays) == (2, 0, 0)


async def test_messages_that_the_policy_holds_back(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    def later(msg: Message) -> None:
        msg.set_due(node.wall() + 100.0, node.wall())

    node, _ = await started(nursery, {"throttle_insert_ready_queue": later})
    await node.send("a@b.test")
    queue = node.queues.scheduled["b.test"]
    assert (queue.rate_delays, queue.event_delays, queue.full_delays) == (0, 1, 0)


async def test_lateness(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _ = await started(nursery, {"get_queue_config": constant(QueueConfig(retry_interval=Duration(60)))})
    await node.send("later@b.test")
    await trio.sleep(200)
    times = node.queues.times
    attempts = len(node.log.of("TransientFailure"))
    assert attempts > 1
    assert times.tardiness.counts[0] == times.reinsert_tardiness.counts[0] == attempts - 1
    assert node.queues.promotion.pops == sum(times.pop.counts) >= attempts - 1
    assert sum(times.pop_interval.counts) == node.queues.promotion.pops - 1


async def test_what_is_in_memory(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await started(nursery, {})
    sender.duration = 1000.0
    for recipient in ("a@b.test", "a@b.test", "a@c.test"):
        await node.send(recipient)
    waiting = node.make_message("a@d.test")
    waiting.due = node.wall() + 1000.0
    await node.put(waiting)
    residents = Residents()
    await residents.look(node.queues)
    assert waiting.spooled
    assert not waiting.data_loaded
    assert (residents.with_data, residents.with_meta) == (3, 3)
    await node.spool.load_meta(waiting)
    await trio.sleep(10)
    await residents.look(node.queues)
    assert residents.with_meta == 4


async def test_looking_costs_a_hundredth_of_the_time(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, _ = await started(nursery, {})
    ticks = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    residents = Residents()
    waiting = node.make_message("a@d.test")
    waiting.due = node.wall() + 1e6
    await node.put(waiting)
    await residents.look(node.queues)
    assert residents.with_meta == 0
    await node.spool.load_meta(waiting)
    await trio.sleep(99)  # the look took a second
    await residents.look(node.queues)
    assert residents.with_meta == 0
    await trio.sleep(1.1)
    await residents.look(node.queues)
    assert residents.with_meta == 1
