"""Pools: which source a message leaves from."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import Handlers, constant, start_node, start_sender

from kumo_py.limits.spec import ThrottleSpec
from kumo_py.queue.config import (
    EgressPath,
    EgressPool,
    EgressSource,
    PoolEntry,
    QueueConfig,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

    from kumo_py.queue.ready import ReadyQueue


def path(**options: Any) -> Handlers:
    return {"get_egress_path_config": constant(EgressPath(**options))}


def pool(*entries: tuple[str, int], **options: Any) -> Handlers:
    """A queue whose pool has these sources."""
    made = EgressPool(name="p", entries=[PoolEntry(name=name, weight=weight) for name, weight in entries])
    return {
        "get_queue_config": constant(QueueConfig(egress_pool="p", **options)),
        "get_egress_pool": constant(made),
        "get_egress_source": lambda name: EgressSource(name=name),
    }


@pytest.mark.option("make_egress_pool.entries.weight")
@pytest.mark.option("make_egress_pool.entries.name")
@pytest.mark.option("make_queue_config.egress_pool")
async def test_sources_are_chosen_by_weighted_round_robin(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    handlers = {**pool(("s1", 3), ("s2", 1), ("unused", 0)), **path()}
    node, sender = await start_sender(nursery, handlers)
    for _ in range(8):
        await node.send()
        await trio.sleep(0.5)
    assert sender.sources == ["s1", "s1", "s1", "s2"] * 2


async def test_each_scheduled_queue_has_its_own_turn(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, {**pool(("s1", 1), ("s2", 1)), **path()})
    for _ in range(2):
        await node.send("to@b.test")
        await node.send("to@c.test")
    await trio.sleep(1)
    chosen = {(sent.source, sent.queue.partition("->")[2]) for sent in sender.sent}
    assert chosen == {(source, f"mx.{domain}.test@smtp_client") for source in ("s1", "s2") for domain in "bc"}


async def test_a_full_source_is_left_out(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node = await start_node(nursery, {**pool(("s1", 1), ("s2", 1)), **path(max_ready=2)})

    async def never(ready: ReadyQueue) -> None:
        await trio.sleep_forever()

    node.queues.dispatchers["smtp_client"] = never
    await node.send()
    node.queues.ready["s1->mx.b.test@smtp_client"].path = EgressPath(max_ready=1)
    for _ in range(2):
        await node.send()
    assert {name: len(queue.messages) for name, queue in node.queues.ready.items()} == {
        "s1->mx.b.test@smtp_client": 1,
        "s2->mx.b.test@smtp_client": 2,
    }
    await node.send()
    assert node.log.kinds == ["Delayed"]


@pytest.mark.option("make_egress_path.source_selection_rate")
async def test_a_source_that_is_throttled_is_left_out(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    limited = EgressPath(source_selection_rate=ThrottleSpec.parse("1/h"))
    handlers: Handlers = {
        **pool(("s1", 1), ("s2", 1)),
        "get_egress_path_config": lambda route, source, site: limited if source == "s1" else EgressPath(),
    }
    node, sender = await start_sender(nursery, handlers)
    for _ in range(5):
        await node.send()
    await trio.sleep(1)
    assert Counter(sender.sources) == {"s1": 1, "s2": 4}


@pytest.mark.option("make_egress_path.additional_source_selection_rates")
async def test_when_all_sources_are_throttled_an_attempt_is_counted(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    limited = EgressPath(additional_source_selection_rates={"all": ThrottleSpec.parse("1/h")})
    node, _ = await start_sender(
        nursery, {**pool(("s1", 1), ("s2", 1)), "get_egress_path_config": constant(limited)}
    )
    await node.send()
    msg = await node.send()
    (failure,) = node.log.of("TransientFailure")
    assert (failure.code, str(failure.response.enhanced)) == (451, "4.4.4")
    assert (
        failure.content
        == "KumoMTA internal: no sources for b.test pool=`p` are eligible for selection at this time"
    )
    assert failure.context.egress_pool == "p"
    assert msg.attempts == 1


@pytest.mark.parametrize("entries", [[], [("s1", 0)]])
async def test_an_empty_pool_counts_an_attempt(
    autojump_clock: MockClock, nursery: trio.Nursery, entries: list[tuple[str, int]]
) -> None:
    node, _ = await start_sender(nursery, {**pool(*entries), "requeue_message": constant(None)})
    msg = await node.send()
    (record,) = node.log.records
    assert (record.kind, record.code) == ("TransientFailure", 451)
    assert record.content == "KumoMTA internal: no sources available for b.test pool=`p`"
    assert msg.attempts == 1
    asked = node.policy.asked[-1]
    assert asked[3:] == (["Received", "LoggedTransientFailure", "FailedToInsertIntoReadyQueue"], True, None)


async def test_a_changed_pool_is_taken_up_after_its_ttl(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, {**pool(("s1", 1)), **path()})
    await node.send()
    await trio.sleep(1)
    changed = EgressPool(name="p", entries=[PoolEntry(name="s2")])
    node.policy.handlers["get_egress_pool"] = constant(changed)
    await trio.sleep(62)
    await node.send()
    await trio.sleep(1)
    assert sender.sources == ["s1", "s2"]
