"""What `msg:set_scheduling` does to a message on its way through the queues."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trio
from queue_harness import WALL, QueueNode, constant, start_sender

from kumo_py.core.duration import Duration
from kumo_py.message.rfc3339 import rfc3339
from kumo_py.message.scheduling import Schedule, parse_schedule
from kumo_py.proto.reply import Response
from kumo_py.queue.config import QueueConfig
from kumo_py.queue.enumeration import enumerate_spool

if TYPE_CHECKING:
    from trio.testing import MockClock

    from kumo_py.message.message import Message

TICK = 0.06
HOUR = 3600.0


def at(seconds: float) -> str:
    """So many seconds after the start; that is on Friday 2025-11-21 at 23:33:20 UTC."""
    return rfc3339(datetime.fromtimestamp(WALL + seconds, UTC))


def schedule(**fields: object) -> Schedule:
    return parse_schedule(fields, "test")


async def scheduled(node: QueueNode, age: float = 0.0, **fields: object) -> Message:
    msg = node.make_message(age=age)
    msg.set_schedule(schedule(**fields), node.wall())
    await node.spool.save(msg)
    return msg


async def test_the_first_attempt_waits_for_its_time(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery)
    await node.put(await scheduled(node, first_attempt=at(5000)))
    await trio.sleep(6000)
    assert sender.times == [pytest.approx(5000.0, abs=TICK)]
    assert node.log.kinds == ["Delayed", "Delivery"]
    assert node.log.records[0].content.startswith(
        "Context: Received, ScheduledForLater. Next due in 1h 23m 20s"
    )


async def test_a_retry_waits_for_the_window(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome = sender.defer
    # Open until 23:40: the retry 20 minutes later falls outside, so it comes at midnight.
    await node.put(await scheduled(node, dow="Fri,Sat", tz="Etc/UTC", start="00:00:00", end="23:40:00"))
    await trio.sleep(HOUR)
    assert sender.times == [pytest.approx(0.0, abs=TICK), pytest.approx(1600.0, abs=TICK)]


async def test_expires_stands_for_max_age(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    config = QueueConfig(max_age=Duration(60))
    node, sender = await start_sender(nursery, {"get_queue_config": constant(config)})
    sender.outcome = sender.defer
    msg = await node.put(await scheduled(node, expires=at(2 * HOUR)))
    await trio.sleep(3 * HOUR)
    # 0 and 20 minutes; 60 minutes; then 140 minutes would be past the two hours.
    assert len(sender.times) == 3
    expiration = node.log.records[-1]
    assert (expiration.kind, expiration.code) == ("Expiration", 551)
    assert expiration.content.endswith(
        f"which exceeds the expiry time {at(2 * HOUR)} configured via set_scheduling"
    )
    assert not node.in_spool(msg)


async def test_a_message_that_is_only_put_back_still_expires_by_max_age(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    config = QueueConfig(max_age=Duration(60))
    node, _ = await start_sender(nursery, {"get_queue_config": constant(config)})
    msg = await scheduled(node, age=50.0, expires=at(2 * HOUR))
    await node.queues.requeue(msg, Response(451, None, "later"), (), count_attempt=False, delay=20.0)
    assert node.log.kinds == ["Expiration"]
    assert "exceeds max_age=1m" in node.log.records[0].content


async def test_a_restart_keeps_the_schedule(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    old = QueueNode({})
    later = await scheduled(old, age=HOUR, first_attempt=at(500))
    expired = await scheduled(old, age=HOUR, expires=at(-1))
    # Older than max_age, but its own expiry is far.
    lasting = await scheduled(old, age=8 * 24 * HOUR, expires=at(30 * 24 * HOUR))
    node, sender = await start_sender(nursery, spools=(old.data, old.meta))
    await enumerate_spool(node.queues, node.spool.reconcile())
    assert [(record.kind, record.id) for record in node.log.records] == [("Expiration", expired.id)]
    await trio.sleep(1000)
    sent = {one.id: one.at for one in sender.sent}
    assert sent == {lasting.id: pytest.approx(0.0, abs=TICK), later.id: pytest.approx(500.0, abs=TICK)}
