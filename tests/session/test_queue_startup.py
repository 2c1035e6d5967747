"""What the spool holds finds its queue again when a node starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest
import trio
from queue_harness import MemorySpool, QueueNode, Sender, constant, start_node, start_sender

from kumo_py.core.duration import Duration
from kumo_py.core.policy import PolicyError
from kumo_py.queue.config import QueueConfig
from kumo_py.queue.enumeration import enumerate_spool
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from kumo_py.message.message import Message

    Handler = Callable[..., object]

SICK = SpoolError("cannot read spool 'meta' at /spool: Input/output error", 5)


async def restart(nursery: trio.Nursery, old: QueueNode, **handlers: Handler) -> tuple[QueueNode, Sender]:
    """A second node over the spools of the first."""
    node, sender = await start_sender(nursery, handlers, spools=(old.data, old.meta))
    await enumerate_spool(node.queues, node.spool.reconcile())
    return node, sender


async def spooled(node: QueueNode, age: float = 0.0, **meta: object) -> Message:
    msg = node.make_message(age=age, meta=dict(meta))
    await node.spool.save(msg)
    return msg


async def test_new_messages_go_at_once(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    old = QueueNode({})
    messages = [await spooled(old, age=60) for _ in range(200)]
    node, sender = await restart(nursery, old)
    await trio.sleep(1)
    assert sorted(sender.ids) == sorted(msg.id for msg in messages)
    assert set(node.log.kinds) == {"Delivery"}
    assert not node.meta.stored


@pytest.mark.parametrize(
    ("age", "attempts", "due_age"),
    [
        (0, 0, 0),
        (1199, 0, 1199),
        (1200, 1, 1200),
        (3599, 1, 3599),
        # Two attempts: due at creation + the delay of attempt 1 (2400 s), long past.
        (3700, 2, 3700),
        (8400, 3, 8400),
    ],
)
async def test_attempts_are_inferred_from_the_age(
    autojump_clock: MockClock, nursery: trio.Nursery, age: float, attempts: int, due_age: float
) -> None:
    old = QueueNode({})
    await spooled(old, age=age)
    node, sender = await restart(nursery, old)
    await trio.sleep(1)
    assert sender.times == [pytest.approx(due_age - age, abs=0.1)]
    assert node.log.records[0].attempts == attempts


async def test_a_message_between_its_attempts_waits(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """With the interval capped, creation plus the delays of attempts 1..n-1 may lie in the future of nobody;
    whatever the rule gives, a message is never tried before it nor dropped after it."""
    config = QueueConfig(retry_interval=Duration(100), max_retry_interval=Duration(100))
    old = QueueNode({})
    await spooled(old, age=950)
    node, sender = await restart(nursery, old, get_queue_config=constant(config))
    await trio.sleep(1)
    (sent,) = sender.sent
    assert sent.at == pytest.approx(0.0)
    assert node.log.records[0].attempts == 9


async def test_too_old_messages_expire(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    old = QueueNode({})
    msg = await spooled(old, age=8 * 86400)
    node, sender = await restart(nursery, old)
    assert node.log.brief == [("Expiration", 551)]
    assert sender.sent == []
    assert not node.in_spool(msg)


async def test_halves_are_removed(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    old = QueueNode({})
    whole, no_meta, no_data = [await spooled(old) for _ in range(3)]
    old.meta.remove(no_meta.id)
    old.data.remove(no_data.id)
    node, sender = await restart(nursery, old)
    await trio.sleep(1)
    assert sender.ids == [whole.id]
    assert (node.data.stored, node.meta.stored) == ({}, {})


async def test_metadata_keeps_the_queue(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    old = QueueNode({})
    await spooled(old, routing_domain="c.test")
    _, sender = await restart(nursery, old)
    await trio.sleep(1)
    assert [sent.queue for sent in sender.sent] == ["unspecified->mx.c.test@smtp_client"]


async def test_null_queue_messages_are_dropped(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    old = QueueNode({})
    msg = await spooled(old, queue="null")
    node, _ = await restart(nursery, old)
    assert node.log.records == []
    assert not node.in_spool(msg)


@pytest.mark.parametrize(
    "record",
    [
        b"not json",
        b"{}",
        b"[]",
        b"7",
        orjson.dumps({"sender": "a@b.test", "recipients": ["c@d.test"], "meta": {"queue": 7}}),
    ],
)
async def test_unusable_metadata_bounces(
    autojump_clock: MockClock, nursery: trio.Nursery, record: bytes
) -> None:
    old = QueueNode({})
    msg, good = await spooled(old), await spooled(old)
    old.meta.stored[msg.id] = record
    node, sender = await restart(nursery, old)
    await trio.sleep(1)
    bounce, _ = node.log.records
    assert (bounce.kind, bounce.code, str(bounce.response.enhanced)) == ("Bounce", 551, "5.1.3")
    assert bounce.content.startswith("Failed to compute queue name: ")
    assert bounce.site == "localhost"
    assert not node.in_spool(msg)
    assert sender.ids == [good.id]


async def test_one_odd_message_does_not_stop_the_start(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    old = QueueNode({})
    odd, good = await spooled(old), await spooled(old)
    old.meta.stored[odd.id] = orjson.dumps({"sender": "a@b.test", "recipients": [7], "meta": {}})
    _, sender = await restart(nursery, old)
    await trio.sleep(1)
    assert sender.ids == [good.id]


async def test_an_id_without_a_time_does_not_stop_the_start(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    old = QueueNode({})
    good = await spooled(old)
    foreign = bytes(16)
    old.data.stored[foreign], old.meta.stored[foreign] = old.data.stored[good.id], old.meta.stored[good.id]
    node, sender = await restart(nursery, old)
    await trio.sleep(1)
    assert sender.ids == [good.id]
    assert foreign in node.data.stored


async def test_metadata_that_cannot_be_read_just_now_is_kept(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    old = QueueNode({})
    msg = await spooled(old)
    old.meta.unreadable = SICK
    node, sender = await restart(nursery, old)
    await trio.sleep(100)
    assert node.log.records == []
    assert node.in_spool(msg)
    node.meta.unreadable = None
    await trio.sleep(61)
    assert sender.ids == [msg.id]


async def test_a_broken_policy_keeps_everything_in_the_spool(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    broken = True

    def config(*_: object) -> None:
        if broken:
            raise PolicyError("get_queue_config: boom")

    old = QueueNode({})
    messages = [await spooled(old, age=10) for _ in range(5)]
    node, sender = await restart(nursery, old, get_queue_config=config)
    await trio.sleep(200)
    assert all(node.in_spool(msg) for msg in messages)
    assert sender.sent == []
    broken = False
    await trio.sleep(130)
    assert sorted(sender.ids) == sorted(msg.id for msg in messages)


async def test_spool_message_enumerated_may_change_the_message(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def move(msg: Message) -> None:
        msg.set_meta("queue", "c.test")

    old = QueueNode({})
    msg = await spooled(old)
    node, sender = await restart(nursery, old, spool_message_enumerated=move)
    await trio.sleep(1)
    assert [(sent.id, sent.queue) for sent in sender.sent] == [(msg.id, "unspecified->mx.c.test@smtp_client")]
    assert node.log.kinds == ["Delivery"]


async def test_what_is_delivered_during_the_enumeration_is_passed_over(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    old = QueueNode({})
    gone, there = await spooled(old), await spooled(old)
    node, sender = await start_sender(nursery, spools=(old.data, old.meta))
    found = node.spool.reconcile()
    node.data.remove(gone.id)
    node.meta.remove(gone.id)
    await enumerate_spool(node.queues, found)
    await trio.sleep(1)
    assert sender.ids == [there.id]


async def test_a_thousand_messages_do_not_overrun_a_small_ready_queue(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    old = QueueNode({})
    messages = [await spooled(old) for _ in range(1500)]
    node, sender = await restart(nursery, old)
    await trio.sleep(62)
    assert sorted(sender.ids) == sorted(msg.id for msg in messages)
    # One that found no room is logged as Delayed: enumeration alone would be no reason.
    assert {record.content.partition(".")[0] for record in node.log.of("Delayed")} <= {
        "Context: Enumerated, ReadyQueueWasFull"
    }


async def test_an_empty_spool_is_no_work(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node = await start_node(nursery, spools=(MemorySpool("data"), MemorySpool("meta")))
    assert node.spool.reconcile() == []
    await enumerate_spool(node.queues, [])
