"""What a ready queue tells of its dispatchers and of the connections that it may not open; ending a dispatcher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from queue_harness import constant, start_sender

from kumo_py.limits.spec import LimitSpec, ThrottleSpec
from kumo_py.logs import RecordType
from kumo_py.queue.config import EgressPath
from kumo_py.queue.message_rates import admitted

if TYPE_CHECKING:
    from queue_harness import QueueNode
    from trio.testing import MockClock

    from kumo_py.message.message import Message
    from kumo_py.queue.ready import ReadyQueue


def path(**options: Any) -> dict[str, Any]:
    return {"get_egress_path_config": constant(EgressPath(**options))}


def ready_queue(node: QueueNode, domain: str = "b.test") -> ReadyQueue:
    return node.queues.ready[f"unspecified->mx.{domain}@smtp_client"]


async def hang(*_: object) -> None:
    await trio.sleep_forever()


async def test_a_dispatcher_at_work_and_an_idle_one(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery, path())
    began = trio.current_time()
    sender.duration = 3.0
    await node.send()
    await trio.sleep(1.0)
    ready = ready_queue(node)
    [(running, idle_since)] = ready.dispatchers
    assert (running.phase, idle_since) == ("Starting", None)
    assert running.began == began
    await trio.sleep(3.0)
    [(same, idle_since)] = ready.dispatchers
    assert same is running
    assert idle_since == began + 3.0
    await trio.sleep(10.0)
    assert ready.dispatchers == []


async def test_counts_outlive_their_dispatchers(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery, path(connection_limit=LimitSpec(1)))

    async def count(ready: ReadyQueue, msg: Message) -> None:
        ready.running.counts.note(RecordType.Delivery, 2)
        ready.running.counts.last_error = (node.wall(), "later")
        await sender.deliver(ready, msg)

    sender.outcome = count
    for number in range(3):
        await node.send()
        await trio.sleep(0.1)
        ready = ready_queue(node)
        [(running, _)] = ready.dispatchers
        assert running.counts.delivered == 2
        assert ready.counts.delivered == 2 * (number + 1)
        before = node.wall()
        await trio.sleep(30.0)
        assert ready.dispatchers == []
    assert ready.counts.delivered == 6
    assert ready.counts.last_error is not None
    assert ready.counts.last_error[0] <= before
    assert len(sender.connections) == 3


async def test_ending_a_dispatcher(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """What it had in hand is tried again within a minute, and no attempt is counted."""
    node, sender = await start_sender(nursery, path(connection_limit=LimitSpec(1)))
    sender.outcome = hang
    msg = await node.send()
    await trio.sleep(1.0)
    ready = ready_queue(node)
    [(running, _)] = ready.dispatchers
    assert not ready.abort_dispatcher("another")
    assert ready.abort_dispatcher(running.session_id)
    assert not ready.abort_dispatcher(running.session_id)
    sender.outcome = sender.deliver
    await trio.sleep(0.1)
    assert sender.open == 0
    assert ready.connections == 0
    assert node.queues.scheduled["b.test"].delayed == 1
    await node.log.reach(2)
    assert node.log.kinds == ["Delayed", "Delivery"]
    assert node.log.records[1].at <= 62
    assert msg.attempts == 0
    assert not node.queues.in_hand


async def test_ending_an_idle_dispatcher(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _ = await start_sender(nursery, path())
    await node.send()
    await trio.sleep(1.0)
    ready = ready_queue(node)
    [(running, idle_since)] = ready.dispatchers
    assert idle_since is not None
    assert ready.abort_dispatcher(running.session_id)
    await trio.sleep(0.1)
    assert (ready.dispatchers, ready.connections, ready.idle_connections) == ([], 0, 0)
    await node.send()
    await trio.sleep(0.1)
    assert node.log.kinds == ["Delivery"] * 2


async def test_a_shared_limit(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """The refusal is told of while the queue wants a connection, with the time when it began."""
    options = {"additional_connection_limits": {"shared": LimitSpec(1)}}
    node, sender = await start_sender(nursery, path(**options))
    sender.outcome = hang
    await node.send()
    await trio.sleep(1.0)
    assert ready_queue(node).refusals == {}
    await node.send("to@c.test")
    since = node.wall()
    waiting = ready_queue(node, "c.test")
    for _ in range(5):
        [(name, refusal)] = waiting.refusals.items()
        assert (name, refusal.context, refusal.since) == (
            "connection_limited",
            "TooManyLeases for shared",
            since,
        )
        await trio.sleep(1.0)
    [(running, _)] = ready_queue(node).dispatchers
    sender.outcome = sender.deliver
    ready_queue(node).abort_dispatcher(running.session_id)
    await trio.sleep(1.0)
    assert waiting.refusals == {}
    assert len(waiting.dispatchers) == 1


async def test_a_rate_of_connections(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery, path(max_connection_rate=ThrottleSpec.parse("1/min")))
    sender.outcome = hang
    for _ in range(6):
        await node.send()
    ready = ready_queue(node)
    await trio.sleep(10.0)
    [(name, refusal)] = ready.refusals.items()
    assert name == "connection_rate_throttled"
    assert refusal.context == "max_connection_rate throttling for 1m"
    assert refusal.since == node.wall() - 10.0
    await trio.sleep(53.0)
    assert ready.connections == 2


async def test_a_rate_of_messages(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(
        nursery, path(max_message_rate=ThrottleSpec.parse("20/min,max_burst=1"))
    )
    phases = []

    async def obey(ready: ReadyQueue, msg: Message) -> None:
        ready.running.phase = "DeliveringMessage"
        if await admitted(node.queues, ready, [msg]):
            phases.append(ready.running.phase)
            await sender.deliver(ready, msg)

    sender.outcome = obey
    for _ in range(2):
        await node.send()
    ready = ready_queue(node)
    await trio.sleep(1.0)
    [(running, _)] = ready.dispatchers
    assert running.phase == "MessageRateThrottled"
    await node.log.reach(2)
    assert phases == ["DeliveringMessage"] * 2
