"""Delivery waits while the spool cannot note what was delivered, unless the policy says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from queue_harness import start_sender

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_messages_wait_by_their_schedule(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery)
    node.queues.spool.meta.unhealthy = True
    await node.send()
    assert node.log.brief == [("Delayed", 451)]
    text = "KumoMTA internal: delivery suspended: spool unhealthy: removals cannot be written"
    assert node.log.records[0].content == text
    await trio.sleep(600)
    assert sender.times == []
    node.queues.spool.meta.unhealthy = False
    await node.log.reach(2)
    assert node.log.kinds == ["Delayed", "Delivery"]
    assert sender.times[0] > 19 * 60


async def test_dispatchers_take_no_more(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _sender = await start_sender(nursery)
    await node.send()
    await node.log.reach(1)
    [ready] = node.queues.ready.values()
    node.queues.spool.data.unhealthy = True
    assert not await ready.wait()


async def test_the_policy_may_take_the_risk(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _sender = await start_sender(nursery)
    node.queues.spool.data.unhealthy = True
    node.queues.suspend_when_spool_unhealthy = False
    await node.send()
    await node.log.reach(1)
    assert node.log.kinds == ["Delivery"]
