"""Listing messages: as a stream and in pages, while they come, move and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from queue_harness import QueueNode, Sender, constant, start_sender

from kumo_py.core.duration import Duration
from kumo_py.core.options import convert
from kumo_py.limits.spec import LimitSpec
from kumo_py.queue.census import Census, waiting
from kumo_py.queue.config import EgressPath, QueueConfig
from kumo_py.queue.operations import Flush, Hold, Release
from kumo_py.queue.roster import Roster
from kumo_py.queue.selection import Selection
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from queue_harness import Handlers
    from trio.testing import MockClock

    from kumo_py.message.message import Message
    from kumo_py.queue.roster import Row

ONE = {"get_egress_path_config": constant(EgressPath(connection_limit=LimitSpec(1)))}


def roster(node: QueueNode, **criteria: Any) -> Roster:
    return Roster(node.queues, convert(criteria, Selection, "test"))


async def listed(node: QueueNode, limit: int | None = None, **criteria: Any) -> list[Row]:
    return [row async for row in roster(node, **criteria).all(limit)]


def ids(rows: list[Row]) -> list[object]:
    return [row["id"] for row in rows]


async def deferred(
    nursery: trio.Nursery, count: int, handlers: Handlers | None = None
) -> tuple[QueueNode, Sender, list[Message]]:
    """Messages whose first attempt has failed; a minute later."""
    node, sender = await start_sender(nursery, handlers)
    sender.outcome = sender.defer
    messages = [await node.send() for _ in range(count)]
    await node.log.reach(count)
    await trio.sleep(60)
    return node, sender, messages


async def test_what_is_shown_of_a_message_that_waits(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _, [msg] = await deferred(nursery, 1)
    node.queues.scheduled["b.test"].last_error = node.wall(), "451 4.0.0 later"
    [row] = await listed(node)
    due, error = row.pop("due"), row.pop("last_error")
    assert row == {
        "id": msg.id.hex(),
        "queue": "b.test",
        "sender": "from@a.test",
        "recipients": ("to@b.test",),
        "size": len(node.data.stored[msg.id]),
        "arrived": "2025-11-21T23:33:20Z",
        "attempts": 1,
        "held": None,
        "where": "scheduled",
    }
    assert "2025-11-21T23:52" < str(due) < "2025-11-21T23:55"
    assert error == {"when": "2025-11-21T23:34:20Z", "text": "451 4.0.0 later"}
    assert not msg.meta_loaded


async def test_what_is_shown_of_a_held_one(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, *_ = await deferred(nursery, 2)
    await Hold(node.queues, Selection(), "why not").run()
    rows = await listed(node, held=True)
    assert len(rows) == 2
    assert rows[0]["held"] == {"reason": "why not", "since": "2025-11-21T23:34:20Z"}
    assert (rows[0]["where"], rows[0]["due"]) == ("scheduled", None)
    assert not await listed(node, held=False)


async def test_where_messages_are(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery, ONE)
    sender.duration = 10.0
    tried, ready = await node.send(), await node.send(saved=False)
    await trio.sleep(1)
    found = {row["id"]: row["where"] for row in await listed(node)}
    assert found == {tried.id.hex(): "delivering", ready.id.hex(): "ready"}
    await trio.sleep(60)
    assert not await listed(node)


async def test_an_unknown_size_is_asked_of_the_spool(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _, [msg] = await deferred(nursery, 1)
    msg.size = 0  # as after a restart
    [row] = await listed(node)
    assert row["size"] == len(node.data.stored[msg.id])
    del node.data.stored[msg.id]
    [row] = await listed(node)
    assert row["size"] is None


async def test_a_message_that_an_operator_has_moved_is_shown_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _, messages = await deferred(nursery, 3)
    await Flush(node.queues, Selection()).run()
    await node.log.reach(6)
    await Hold(node.queues, Selection(), "").run()
    await Release(node.queues, Selection()).run()
    await trio.sleep(1)
    assert len(list(waiting(node.queues))) > 3
    assert sorted(ids(await listed(node))) == sorted(msg.id.hex() for msg in messages)  # type: ignore[type-var]
    rows, _ = await roster(node).page(10, None)
    assert ids(rows) == [msg.id.hex() for msg in messages]


async def test_one_that_cannot_be_read_or_has_gone_is_left_out(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _, messages = await deferred(nursery, 2)
    del node.meta.stored[messages[0].id]
    assert ids(await listed(node)) == [messages[1].id.hex()]
    node.meta.unreadable = SpoolError("cannot read: Input/output error", 5)
    assert not await listed(node)
    assert await roster(node).page(10, None) == ([], None)


async def test_a_limit(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, *_ = await deferred(nursery, 5)
    assert len(await listed(node, limit=3)) == 3
    assert len(await listed(node, limit=9)) == 5


async def test_pages_go_by_the_time_of_arrival(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome = sender.defer
    ages = [float((7919 * number) % 997) * 30 for number in range(40)]
    messages = [await node.send(age=age) for age in ages]
    await node.log.reach(40)
    await trio.sleep(1)
    in_order = [
        msg.id.hex() for _, msg in sorted(zip(ages, messages, strict=True), key=lambda pair: -pair[0])
    ]
    seen: list[object] = []
    after: bytes | None = None
    sizes = []
    while True:
        rows, after = await roster(node).page(7, after)
        seen += ids(rows)
        sizes.append(len(rows))
        if after is None:
            break
        await Flush(node.queues, Selection()).run()  # all of them move
        await trio.sleep(1)
    assert seen == in_order
    assert sizes == [7, 7, 7, 7, 7, 5]


async def test_a_full_last_page_is_the_last(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, messages = await deferred(nursery, 6)
    rows, after = await roster(node).page(3, None)
    assert after == messages[2].id
    rows, after = await roster(node).page(3, after)
    assert ids(rows) == [msg.id.hex() for msg in messages[3:]]
    assert after is None


async def test_pages_by_sender_may_be_short(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome = sender.defer
    for number in range(9):
        await node.send(sender="x@a.test" if number in (0, 8) else "y@a.test")
    await node.log.reach(9)
    await trio.sleep(1)
    found, after = [], None
    for _ in range(5):
        rows, after = await roster(node, sender="X@a.test").page(2, after)
        found.append(len(rows))
    assert found == [1, 0, 0, 0, 1]
    assert after is None


async def test_messages_that_stay_are_met_whatever_they_do(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Between two rows of a stream all messages go from the wheel to ready queues and back."""
    config = QueueConfig(max_retry_interval=Duration(1200))
    node, _, messages = await deferred(nursery, 100, {"get_queue_config": constant(config)})
    found: list[object] = []
    async for row in roster(node).all(None):
        found.append(row["id"])
        if len(found) % 10 == 0:
            await Flush(node.queues, Selection()).run()
            await trio.sleep(0.01 * len(found))
    assert sorted(found) == sorted(msg.id.hex() for msg in messages)  # type: ignore[type-var]


async def test_reading_envelopes_has_a_bounded_rate(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, *_ = await deferred(nursery, 2000)
    started = node.now
    assert len(await listed(node)) == 2000
    assert 0.04 < node.now - started < 0.07


async def test_a_census_copies_nothing_that_waits(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, messages = await deferred(nursery, 300)
    census = Census(node.queues)
    assert census.size == 300
    await Flush(node.queues, Selection()).run()
    met = [msg for piece in census.others(64) for msg in piece]
    assert sorted(msg.id for msg in met) == sorted(msg.id for msg in messages)
