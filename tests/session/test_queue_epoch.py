"""When queues ask the policy again: by their interval, or when the config epoch changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import constant, start_sender

from kumo_py.core.duration import Duration
from kumo_py.core.policy import PolicyError
from kumo_py.queue.config import EgressPath, EgressPool, EgressSource, PoolEntry, QueueConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from kumo_py.queue.config import RefreshStrategy

EVENTS = ("get_queue_config", "get_egress_pool", "get_egress_source", "get_egress_path_config")


def handlers(strategy: RefreshStrategy) -> dict[str, Callable[..., Any]]:
    return {
        "get_queue_config": lambda *_: QueueConfig(egress_pool="p", refresh_strategy=strategy),
        "get_egress_pool": lambda name: EgressPool(name=name, entries=[PoolEntry(name="one")]),
        "get_egress_source": lambda name: EgressSource(name=name),
        "get_egress_path_config": lambda *_: EgressPath(refresh_strategy=strategy),
    }


@pytest.mark.option("make_egress_path.refresh_interval")
@pytest.mark.option("make_egress_pool.ttl")
@pytest.mark.option("make_egress_source.ttl")
@pytest.mark.option("make_queue_config.refresh_interval")
@pytest.mark.parametrize("event", EVENTS)
async def test_each_has_its_own_time(autojump_clock: MockClock, nursery: trio.Nursery, event: str) -> None:
    soon, late = Duration(20), Duration(500)

    def lasts(asked: str) -> Duration:
        return soon if asked == event else late

    # A queue that asks for its configuration anew is what asks for a pool, and a path for a source.
    queue = soon if event == "get_egress_pool" else lasts("get_queue_config")
    path = soon if event == "get_egress_source" else lasts("get_egress_path_config")
    made = {
        "get_queue_config": constant(QueueConfig(egress_pool="p", refresh_interval=queue)),
        "get_egress_pool": lambda name: EgressPool(
            name=name, entries=[PoolEntry(name="one")], ttl=lasts("get_egress_pool")
        ),
        "get_egress_source": lambda name: EgressSource(name=name, ttl=lasts("get_egress_source")),
        "get_egress_path_config": constant(EgressPath(refresh_interval=path)),
    }
    node, _ = await start_sender(nursery, made)
    await node.send()
    await trio.sleep(19)
    await node.send()
    assert node.policy.count(event) == 1
    await trio.sleep(2)
    await node.send()
    assert node.policy.count(event) == 2
    await node.log.reach(3)


async def test_by_the_clock(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _ = await start_sender(nursery, handlers("Ttl"))
    await node.send()
    await trio.sleep(61)
    await node.send()
    await node.log.reach(2)
    assert [node.policy.count(event) for event in EVENTS] == [2, 2, 2, 2]
    node.queues.epoch_changed()
    await node.send()
    await node.log.reach(3)
    assert [node.policy.count(event) for event in EVENTS] == [2, 2, 2, 2]


@pytest.mark.option("make_egress_path.refresh_strategy")
@pytest.mark.option("make_queue_config.refresh_strategy")
async def test_by_the_epoch(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _ = await start_sender(nursery, handlers("Epoch"))
    for _ in range(3):
        await node.send()
        await trio.sleep(100)
    assert [node.policy.count(event) for event in EVENTS] == [1, 1, 1, 1]
    for epoch in (1, 2):
        node.queues.epoch_changed()
        assert node.queues.directory.epoch == epoch
        await node.send()
        await node.send()
        await node.log.reach(3 + 2 * epoch)
        assert [node.policy.count(event) for event in EVENTS] == [1 + epoch] * 4


async def test_an_epoch_that_changes_while_the_policy_answers(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def slow(*_: object) -> QueueConfig:
        await trio.sleep(1)
        return QueueConfig(refresh_strategy="Epoch")

    async def slow_path(*_: object) -> EgressPath:
        await trio.sleep(1)
        return EgressPath(refresh_strategy="Epoch")

    node, _ = await start_sender(nursery, {"get_queue_config": slow, "get_egress_path_config": slow_path})
    for count in (2, 3):
        node.queues.epoch_changed()
        nursery.start_soon(node.send)
        await trio.sleep(0.5)
        node.queues.epoch_changed()
        await trio.sleep(1)
        node.queues.epoch_changed()
        await trio.sleep(5)
        await node.send()
        await node.log.reach(2 * count - 2)
    assert [node.policy.count("get_queue_config"), node.policy.count("get_egress_path_config")] == [4, 4]


async def test_a_refresh_that_fails_is_tried_again(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _ = await start_sender(nursery, handlers("Epoch"))
    await node.send()
    await node.log.reach(1)

    def broken(*_: object) -> Any:
        raise PolicyError("broken")

    node.policy.handlers["get_queue_config"] = broken
    node.queues.epoch_changed()
    await node.send()
    await node.log.reach(2)
    node.policy.handlers["get_queue_config"] = lambda *_: QueueConfig(max_age=QueueConfig().max_age)
    await trio.sleep(30)
    await node.send()
    assert node.queues.scheduled["b.test"].config.refresh_strategy == "Epoch"
    await trio.sleep(31)
    await node.send()
    assert node.queues.scheduled["b.test"].config.refresh_strategy == "Ttl"


async def test_queues_that_could_not_be_set_up_are_tried_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _ = await start_sender(nursery)

    def broken(*_: object) -> Any:
        raise PolicyError("broken")

    node.policy.handlers["get_queue_config"] = broken
    with pytest.raises(PolicyError):
        await node.send()
    del node.policy.handlers["get_queue_config"]
    with pytest.raises(PolicyError):
        await node.send()
    node.queues.epoch_changed()
    await node.send()
    await node.log.reach(1)
    assert node.log.kinds == ["Delivery"]
