"""An operator flushes, holds, releases and deletes messages: in whatever state they are, and over restarts."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio
from queue_harness import QueueNode, Sender, constant, start_node, start_sender

from kumo_py.core.duration import Duration
from kumo_py.core.options import OptionError, convert
from kumo_py.core.policy import PolicyError
from kumo_py.limits.spec import LimitSpec
from kumo_py.message.scheduling import parse_schedule
from kumo_py.queue.admin import BounceRequest, RebindRequest, SuspendReadyRequest, SuspendRequest
from kumo_py.queue.config import EgressPath, QueueConfig
from kumo_py.queue.enumeration import enumerate_spool
from kumo_py.queue.hold import HELD_KEY, NEVER, held_by
from kumo_py.queue.operations import Delete, Flush, Hold, Operation, Release
from kumo_py.queue.rebind import rebind
from kumo_py.queue.selection import Selection
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from queue_harness import Handlers
    from trio.testing import MockClock

    from kumo_py.message.message import Message
    from kumo_py.queue.ready import ReadyQueue

LATER = 7200.0
"""Seconds in which a message would be tried several times."""
ONE = {"get_egress_path_config": constant(EgressPath(connection_limit=LimitSpec(1)))}
"""One connection at a time."""


def selection(*messages: Message, **criteria: Any) -> Selection:
    return convert({"ids": [msg.id.hex() for msg in messages], **criteria}, Selection, "test")


async def hold(node: QueueNode, *messages: Message, **criteria: Any) -> Hold:
    operation = Hold(node.queues, selection(*messages, **criteria), "looks like spam")
    await operation.run()
    return operation


async def release(node: QueueNode, *messages: Message, **criteria: Any) -> Release:
    operation = Release(node.queues, selection(*messages, **criteria))
    await operation.run()
    return operation


async def flush(node: QueueNode, *messages: Message, force: bool = False, **criteria: Any) -> Flush:
    operation = Flush(node.queues, selection(*messages, **criteria), force=force)
    await operation.run()
    return operation


async def delete(node: QueueNode, *messages: Message, quietly: bool = False, **criteria: Any) -> Delete:
    operation = Delete(node.queues, selection(*messages, **criteria), "not wanted", suppress_logging=quietly)
    await operation.run()
    return operation


def counts(operation: Operation) -> dict[str, int]:
    """What is not zero, without how much was looked at."""
    progress = operation.progress
    names = [name for name in progress.__slots__ if name not in ("total", "examined")]
    return {name: value for name in names if (value := getattr(progress, name))}


def queued(node: QueueNode, name: str = "b.test") -> tuple[int, int]:
    """Messages of a queue that wait, and those of them that are held."""
    queue = node.queues.scheduled[name]
    return queue.delayed, queue.held


async def deferred(nursery: trio.Nursery, handlers: Handlers | None = None, **meta: Any) -> Any:
    """A node, its sender, and a message whose first attempt has failed; a minute later."""
    node, sender = await start_sender(nursery, handlers)
    sender.outcome = sender.defer
    msg = await node.send(meta=meta)
    await node.log.reach(1)
    await trio.sleep(60)
    sender.outcome = sender.deliver
    return node, sender, msg


async def restarted(nursery: trio.Nursery, old: QueueNode, handlers: Handlers | None = None) -> Any:
    """Another node that finds what the old one has in its spool, as after kill -9."""
    node = await start_node(nursery, handlers, spools=(old.data, old.meta))
    sender = Sender(node)
    await enumerate_spool(node.queues, node.spool.reconcile())
    return node, sender


# -- hold ------------------------------------------------------------------------------------------------------
async def test_a_held_message_is_not_tried_and_does_not_expire(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    config = QueueConfig(max_age=Duration(3600))
    node, sender, msg = await deferred(nursery, {"get_queue_config": constant(config)})
    assert counts(await hold(node, msg)) == {"matched": 1, "changed": 1}
    assert queued(node) == (1, 1)
    assert msg.due == NEVER
    assert not msg.meta_loaded
    await trio.sleep(LATER)
    assert len(sender.sent) == 1
    assert node.log.kinds == ["TransientFailure"]
    assert node.in_spool(msg)
    assert queued(node) == (1, 1)
    assert not node.queues.in_hand


async def test_why_it_is_held_is_kept_with_it(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, msg = await deferred(nursery)
    await hold(node, msg)
    meta = orjson.loads(node.meta.stored[msg.id])["meta"]
    assert meta[HELD_KEY] == {"reason": "looks like spam", "since": node.queues.held[msg].since}
    assert 0.0 <= node.wall() - node.queues.held[msg].since < 0.01


async def test_holding_twice_changes_nothing(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, msg = await deferred(nursery)
    await hold(node, msg)
    assert counts(await hold(node, msg)) == {"matched": 1, "unchanged": 1}
    assert queued(node) == (1, 1)


async def test_what_lies_in_a_ready_queue_is_taken_out(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, ONE)
    sender.duration = 10.0
    messages = [await node.send() for _ in range(4)]
    await trio.sleep(1)
    assert counts(await hold(node, *messages[2:])) == {"matched": 2, "changed": 2}
    await trio.sleep(100)
    assert sender.ids == [msg.id for msg in messages[:2]]
    assert queued(node) == (2, 2)
    assert node.queues.memory.held == 0


async def test_one_that_is_being_tried_is_held_when_it_comes_back(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome, sender.duration = sender.defer, 10.0
    msg = await node.send()
    await trio.sleep(1)
    assert counts(await hold(node, msg)) == {"matched": 1, "in_flight": 1}
    assert queued(node) == (0, 0)
    await trio.sleep(LATER)
    assert len(sender.sent) == 1
    assert node.log.kinds == ["TransientFailure"]
    assert queued(node) == (1, 1)
    assert msg.attempts == 1
    assert not node.queues.orders


async def test_one_that_is_delivered_is_not(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery)
    sender.duration = 10.0
    msg = await node.send()
    await trio.sleep(1)
    await hold(node, msg)
    await trio.sleep(60)
    assert node.log.kinds == ["Delivery"]
    assert not node.queues.orders
    assert not node.queues.held


async def test_one_that_would_expire_when_it_comes_back_is_held(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    config = QueueConfig(max_age=Duration(60))
    node, sender = await start_sender(nursery, {"get_queue_config": constant(config)})
    sender.outcome, sender.duration = sender.defer, 10.0
    msg = await node.send()
    await trio.sleep(1)
    await hold(node, msg)
    await trio.sleep(60)
    assert node.log.kinds == ["TransientFailure"]
    assert queued(node) == (1, 1)


async def test_one_that_a_dispatcher_gives_back_untried_is_held(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)

    async def give_back(ready: ReadyQueue, msg: Message) -> None:
        ready.put_back(msg)
        await trio.sleep(1)

    sender.outcome, sender.duration = give_back, 10.0
    msg = await node.send()
    await trio.sleep(1)
    await hold(node, msg)
    await trio.sleep(LATER)
    assert len(sender.sent) == 1
    assert queued(node) == (1, 1)


async def test_an_order_open_at_the_end_is_carried_out(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome, sender.duration = sender.defer, 10.0
    to_hold, to_delete = await node.send(), await node.send("to@c.test")
    await trio.sleep(1)
    await hold(node, to_hold)
    await delete(node, to_delete)
    await node.stop()
    assert not node.in_spool(to_delete)
    assert sorted(node.log.kinds) == ["AdminBounce", "TransientFailure", "TransientFailure"]
    again, _ = await restarted(nursery, node)
    assert queued(again) == (1, 1)


async def test_a_policy_that_fails_keeps_nothing_from_being_held(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _, msg = await deferred(nursery)
    await hold(node, msg)

    def fail(*_: object) -> None:
        raise PolicyError("policy.lua:1: oops")

    again, sender = await restarted(nursery, node, {"get_queue_config": fail})
    await trio.sleep(LATER)
    assert not sender.sent
    assert [held.reason for held in again.queues.held.values()] == ["looks like spam"]
    again.policy.handlers.clear()
    assert counts(await release(again)) == {"matched": 1, "changed": 1}
    await trio.sleep(60)
    assert sender.ids == [msg.id]


async def test_a_spool_that_cannot_be_read_for_a_while_keeps_it_held(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _, msg = await deferred(nursery)
    await hold(node, msg)
    node.meta.unreadable = SpoolError("cannot read: Input/output error", 5)
    again, sender = await restarted(nursery, node)
    node.meta.unreadable = None
    await trio.sleep(LATER)
    assert not sender.sent
    assert queued(again) == (1, 1)


async def test_a_spool_that_cannot_be_written_holds_it_in_memory(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender, msg = await deferred(nursery)
    node.meta.failing = SpoolError("cannot write: No space left on device", 28)
    await hold(node, msg)
    await trio.sleep(LATER)
    assert len(sender.sent) == 1
    node.meta.failing = None
    await node.stop()
    again, _ = await restarted(nursery, node)
    assert queued(again) == (1, 1)


# -- over a restart ----------------------------------------------------------------------------------------------
async def test_it_is_still_held_after_a_restart(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    expires = {"get_queue_config": constant(QueueConfig(max_age=Duration(3600)))}
    node, _, msg = await deferred(nursery, expires)
    held = await hold(node, msg)
    assert held.progress.changed == 1
    await trio.sleep(LATER)
    again, sender = await restarted(nursery, node, expires)
    await trio.sleep(LATER)
    assert not sender.sent
    assert not again.log.records
    assert queued(again) == (1, 1)
    [(found, why)] = again.queues.held.items()
    assert (found.id, why.reason) == (msg.id, "looks like spam")
    await release(again)
    await again.log.reach(1)
    assert again.log.kinds == ["Delivery"]
    assert not again.meta.stored


async def test_a_released_one_is_not(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender, msg = await deferred(nursery)
    sender.outcome = sender.defer
    await hold(node, msg)
    await release(node, msg)
    await node.log.reach(2)
    assert HELD_KEY not in orjson.loads(node.meta.stored[msg.id])["meta"]
    again, sender = await restarted(nursery, node)
    assert not again.queues.held
    await again.log.reach(1)
    assert sender.ids == [msg.id]


@pytest.mark.parametrize("value", [None, "yes", 3, [], False])
def test_what_is_no_table_holds_nothing(value: object) -> None:
    assert held_by({HELD_KEY: value}) is None


@pytest.mark.parametrize(("value", "reason"), [({}, ""), ({"reason": "x", "since": "y"}, "x")])
def test_any_table_does(value: object, reason: str) -> None:
    held = held_by({HELD_KEY: value})
    assert held is not None
    assert held.reason == reason


# -- release -----------------------------------------------------------------------------------------------------
async def test_release(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender, msg = await deferred(nursery)
    await hold(node, msg)
    await trio.sleep(LATER)
    assert counts(await release(node, msg)) == {"matched": 1, "changed": 1}
    assert msg.attempts == 1
    await node.log.reach(2)
    assert LATER + 60 <= sender.times[1] < LATER + 62
    assert queued(node) == (0, 0)
    assert not node.in_spool(msg)


async def test_the_slot_that_was_left_does_not_send_it(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender, msg = await deferred(nursery)
    sender.outcome = sender.defer
    for _ in range(3):
        await hold(node, msg)
        await release(node, msg)
    await trio.sleep(10)
    assert len(sender.sent) == 4
    await hold(node, msg)
    await trio.sleep(LATER)
    assert len(sender.sent) == 4


async def test_release_without_ids_is_about_held_ones_only(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _, msg = await deferred(nursery)
    assert counts(await release(node)) == {}
    assert counts(await release(node, msg)) == {"matched": 1, "unchanged": 1}
    assert queued(node) == (1, 0)


async def test_release_lifts_an_order_to_hold(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome, sender.duration = sender.defer, 10.0
    msg = await node.send()
    await trio.sleep(1)
    await hold(node, msg)
    assert counts(await release(node, msg)) == {"matched": 1, "changed": 1}
    await trio.sleep(60)
    assert queued(node) == (1, 0)


async def test_a_released_message_waits_for_its_schedule(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender, msg = await deferred(nursery)
    msg.schedule = parse_schedule({"first_attempt": "2025-11-22T02:00:00Z"}, "test")
    await hold(node, msg)
    await release(node, msg)
    await trio.sleep(60)
    assert len(sender.sent) == 1
    assert queued(node) == (1, 0)
    await node.log.reach(3)
    assert node.log.kinds == ["TransientFailure", "Delayed", "Delivery"]
    assert sender.times[1] >= 8800


# -- what reaches held messages ----------------------------------------------------------------------------------
async def test_rebinding_moves_it_and_it_stays_held(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender, msg = await deferred(nursery)
    await hold(node, msg)
    request = convert({"reason": "moved", "data": {"queue": "c.test"}}, RebindRequest, "rebind")
    assert await rebind(node.queues, request) == 1
    assert (queued(node), queued(node, "c.test")) == ((0, 0), (1, 1))
    assert node.log.kinds == ["TransientFailure", "AdminRebind"]
    assert await rebind(node.queues, request) == 0
    assert queued(node, "c.test") == (1, 1)
    await trio.sleep(LATER)
    assert len(sender.sent) == 1
    await release(node, msg)
    await node.log.reach(3)
    assert sender.sent[1].queue.startswith("unspecified->mx.c.test")


async def test_bounce_rules_reach_it(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, msg = await deferred(nursery)
    await hold(node, msg)
    rule = node.queues.admin.bounce(convert({"reason": "bad send"}, BounceRequest, "test"))
    await node.queues.sweep.delayed(rule)
    assert node.log.kinds == ["TransientFailure", "AdminBounce"]
    assert queued(node) == (0, 0)
    assert not node.in_spool(msg)
    assert not node.queues.held


async def test_bounce_rules_reach_it_at_a_start(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, msg = await deferred(nursery)
    await hold(node, msg)
    again = await start_node(nursery, spools=(node.data, node.meta))
    again.queues.admin.bounce(convert({"reason": "bad send"}, BounceRequest, "test"))
    await enumerate_spool(again.queues, again.spool.reconcile())
    assert again.log.kinds == ["AdminBounce"]
    assert not again.in_spool(msg)


# -- flush -------------------------------------------------------------------------------------------------------
async def test_flush_tries_at_once(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender, msg = await deferred(nursery)
    assert counts(await flush(node)) == {"matched": 1, "changed": 1}
    assert msg.attempts == 1
    await node.log.reach(2)
    assert node.log.kinds == ["TransientFailure", "Delivery"]
    assert 60 <= sender.times[1] < 62
    assert queued(node) == (0, 0)


async def test_a_flushed_message_that_fails_goes_on_by_its_schedule(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender, msg = await deferred(nursery)
    sender.outcome = sender.defer
    await flush(node, msg)
    await node.log.reach(2)
    assert msg.attempts == 2
    await node.log.reach(3)
    assert 39 * 60 < sender.times[2] - sender.times[1] < 41 * 60


async def test_flush_does_not_prolong_a_life(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    config = QueueConfig(max_age=Duration(1500))
    node, sender, _ = await deferred(nursery, {"get_queue_config": constant(config)})
    sender.outcome = sender.defer
    await flush(node)
    await node.log.reach(3)
    assert node.log.kinds == ["TransientFailure", "TransientFailure", "Expiration"]


async def test_flush_leaves_held_ones(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender, msg = await deferred(nursery)
    await hold(node, msg)
    assert counts(await flush(node)) == {"matched": 1, "held": 1}
    assert len(sender.sent) == 1


async def test_flush_leaves_suspended_ones(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender, msg = await deferred(nursery)
    node.queues.admin.suspend(convert({"reason": "maintenance", "domain": "b.test"}, SuspendRequest, "test"))
    assert counts(await flush(node)) == {"matched": 1, "suspended": 1}
    await trio.sleep(60)
    assert node.log.kinds == ["TransientFailure"]
    assert (msg.attempts, len(sender.sent)) == (1, 1)


async def test_flush_leaves_what_leads_to_a_suspended_ready_queue(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _, msg = await deferred(nursery)
    name = "unspecified->mx.b.test@smtp_client"
    node.queues.admin.suspend_ready(convert({"reason": "x", "name": name}, SuspendReadyRequest, "test"))
    assert counts(await flush(node)) == {"matched": 1, "suspended": 1}
    assert msg.attempts == 1


SCHEDULE = {"first_attempt": "2025-11-22T02:00:00Z"}


async def test_flush_respects_a_schedule(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender, msg = await deferred(nursery)
    msg.schedule = parse_schedule(SCHEDULE, "test")
    queue = node.queues.scheduled["b.test"]
    node.queues.out_of_wheel(msg, queue)
    node.queues.into_wheel(msg, queue, node.wall() + 20_000)
    assert counts(await flush(node)) == {"matched": 1, "scheduled": 1}
    await node.log.reach(2)
    assert 8800 <= sender.times[1] < 8900
    assert queued(node) == (0, 0)


async def test_flush_by_force_does_not(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender, msg = await deferred(nursery)
    msg.schedule = parse_schedule(SCHEDULE, "test")
    assert counts(await flush(node, force=True)) == {"matched": 1, "changed": 1}
    await node.log.reach(2)
    assert sender.times[1] < 62


async def test_flush_changes_nothing_for_those_that_may_go_already(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, ONE)
    sender.duration = 10.0
    for _ in range(3):
        await node.send()
    await trio.sleep(1)
    assert counts(await flush(node)) == {"matched": 3, "unchanged": 3}
    await trio.sleep(60)
    assert len(sender.sent) == 3


# -- delete ------------------------------------------------------------------------------------------------------
async def test_delete_removes_it_with_a_record(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender, msg = await deferred(nursery)
    assert counts(await delete(node, msg)) == {"matched": 1, "changed": 1}
    record = node.log.records[1]
    assert (record.kind, record.code, record.queue) == ("AdminBounce", 551, "b.test")
    assert record.content == "Administrator deleted with reason: not wanted"
    assert not node.in_spool(msg)
    assert queued(node) == (0, 0)
    await trio.sleep(LATER)
    assert len(sender.sent) == 1


async def test_delete_without_a_record(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, msg = await deferred(nursery)
    node.meta.loads = 0
    await delete(node, msg, quietly=True)
    assert node.log.kinds == ["TransientFailure"]
    assert not node.in_spool(msg)
    assert node.meta.loads == 0


async def test_delete_reaches_messages_everywhere(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender, waits = await deferred(nursery, ONE)
    sender.duration, sender.outcome = 10.0, sender.defer
    tried, held, ready = [await node.send() for _ in range(3)]
    await trio.sleep(1)
    await hold(node, held)
    assert counts(await delete(node)) == {"matched": 4, "changed": 3, "in_flight": 1}
    await trio.sleep(60)
    assert not node.meta.stored
    assert not node.data.stored
    assert queued(node) == (0, 0)
    assert not node.queues.held
    assert not node.queues.orders
    deleted = sorted(record.id for record in node.log.of("AdminBounce"))
    assert deleted == sorted(msg.id for msg in (waits, tried, held, ready))


async def test_the_last_order_counts(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome, sender.duration = sender.defer, 10.0
    msg = await node.send()
    await trio.sleep(1)
    await hold(node, msg)
    await delete(node, msg)
    await trio.sleep(60)
    assert node.log.kinds == ["TransientFailure", "AdminBounce"]
    assert not node.in_spool(msg)


# -- which messages ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({}, "abcd"),
        ({"queue_names": ["b.test", "t@c.test"]}, "ac"),
        ({"domain": "B.test"}, "ab"),
        ({"tenant": "t"}, "bc"),
        ({"tenant": "t", "domain": "b.test"}, "b"),
        ({"campaign": "k"}, "d"),
        ({"routing_domain": "c.TEST"}, "d"),
        ({"sender": "From@A.test"}, "ac"),
        ({"sender": ""}, "b"),
        ({"sender": "@x.test"}, "d"),
        ({"recipient": "second@b.test"}, "a"),
        ({"recipient": "@c.test"}, "c"),
        ({"recipient": "to@b.test", "sender": ""}, "b"),
        ({"older_than": "10m"}, "a"),
        ({"older_than": "10m", "tenant": "t"}, ""),
    ],
)
@pytest.mark.parametrize("where", ["waiting", "ready"])
async def test_criteria(
    autojump_clock: MockClock, nursery: trio.Nursery, criteria: dict[str, Any], expected: str, where: str
) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome = sender.defer
    if where == "ready":
        node.queues.dispatchers["smtp_client"] = idle
    messages = {
        "a": await node.send("to@b.test", "second@b.test", age=1200.0),
        "b": await node.send("to@b.test", sender="", meta={"tenant": "t"}),
        "c": await node.send("to@c.test", meta={"tenant": "t"}),
        "d": await node.send(
            "x@d.test", sender="s@x.test", meta={"campaign": "k", "routing_domain": "c.test"}
        ),
    }
    if where == "waiting":
        await node.log.reach(4)
        await trio.sleep(1)
        assert not any(msg.meta_loaded for msg in messages.values())
    else:
        for msg in messages.values():
            msg.shrink_meta()
    found = await hold(node, **criteria)
    assert {name for name, msg in messages.items() if msg in node.queues.held} == set(expected)
    assert counts(found).get("changed", 0) == len(expected)


async def idle(ready: ReadyQueue) -> None:
    """A dispatcher that takes nothing."""
    await trio.sleep_forever()


async def test_what_an_id_or_a_queue_decides_is_not_read(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _, msg = await deferred(nursery)
    node.meta.loads = 0
    assert counts(await flush(node, queue_names=["c.test"])) == {}
    assert counts(await flush(node, older_than="1h")) == {}
    assert node.meta.loads == 0
    assert counts(await flush(node, sender="else@a.test")) == {}
    assert node.meta.loads == 1
    assert not msg.meta_loaded


async def test_ids_that_are_not_there_are_named(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, msg = await deferred(nursery)
    gone = node.make_message()
    operation = await flush(node, msg, gone)
    assert operation.missing == {gone.id}
    assert counts(operation) == {"matched": 1, "changed": 1}


def test_an_id_is_one() -> None:
    with pytest.raises(OptionError, match="'nonsense' is not a spool id"):
        convert({"ids": ["nonsense"]}, Selection, "test")


async def test_many_are_changed_at_a_bounded_rate(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome = sender.defer
    for _ in range(1000):
        await node.send()
    await node.log.reach(1000)
    await trio.sleep(1)
    started = node.now
    assert counts(await hold(node, sender="from@a.test")) == {"matched": 1000, "changed": 1000}
    assert 0.2 <= node.now - started < 0.4
    assert queued(node) == (1000, 1000)


async def test_what_cannot_be_read_is_counted(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, msg = await deferred(nursery)
    node.meta.unreadable = SpoolError("cannot read: Input/output error", 5)
    assert counts(await hold(node, msg)) == {"matched": 1, "failed": 1}
    assert counts(await hold(node, sender="x@y")) == {"failed": 1}
    node.meta.unreadable = None
    await node.log.reach(2)  # it has waited, and is tried
    assert node.log.kinds == ["TransientFailure", "Delivery"]


async def test_an_operation_ends_with_the_node(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, msg = await deferred(nursery)
    await node.stop()
    operation = await hold(node, msg)
    assert operation.error == "it ended early: the node is shutting down"
    assert counts(operation) == {}


async def test_an_error_that_nobody_foresaw_loses_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, sender, msg = await deferred(nursery)

    async def fail(*_: object) -> int:
        raise RuntimeError("oops")

    monkeypatch.setattr(node.queues.holding, "hold", fail)
    operation = await hold(node, msg)
    assert operation.error == "it ended early: RuntimeError: oops"
    assert not node.queues.in_hand
    await node.log.reach(3)
    assert node.log.kinds == ["TransientFailure", "Delayed", "Delivery"]
    assert sender.ids == [msg.id, msg.id]


# -- while it is on its way --------------------------------------------------------------------------------------
def slow_down(node: QueueNode, wait: Callable[[], Awaitable[None]]) -> None:
    """Let each write of metadata wait."""
    durable = node.meta.wait_durable

    async def wait_durable(ticket: int) -> None:
        await wait()
        await durable(ticket)

    node.meta.wait_durable = wait_durable  # type: ignore[method-assign]


async def five_seconds(*_: object) -> None:
    await trio.sleep(5)


async def test_held_on_its_way_into_a_ready_queue(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery, {"throttle_insert_ready_queue": five_seconds})
    msg = node.make_message()
    nursery.start_soon(node.put, msg)
    await trio.sleep(1)
    assert counts(await hold(node, msg)) == {"matched": 1, "in_flight": 1}
    await trio.sleep(LATER)
    assert not sender.sent
    assert queued(node) == (1, 1)


async def test_held_on_its_way_into_the_wheel(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome = sender.defer
    slow_down(node, five_seconds)
    msg = await node.send(saved=False)
    await node.log.reach(1)
    await trio.sleep(1)
    assert counts(await hold(node, msg)) == {"matched": 1, "in_flight": 1}
    await trio.sleep(LATER)
    assert len(sender.sent) == 1
    assert queued(node) == (1, 1)


async def test_deleted_while_it_is_being_held(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, msg = await deferred(nursery)
    slow_down(node, five_seconds)
    nursery.start_soon(hold, node, msg)
    await trio.sleep(1)
    assert counts(await delete(node, msg)) == {"matched": 1, "in_flight": 1}
    await trio.sleep(60)
    assert not node.in_spool(msg)
    assert queued(node) == (0, 0)
    assert not node.queues.held


async def test_one_that_is_sent_before_its_turn_comes(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """It waits when the request comes, lies in a ready queue when it is looked at, and is then taken."""
    node, sender = await start_sender(nursery, ONE)
    sender.outcome = sender.defer
    for _ in range(1000):
        await node.send()
    await node.log.reach(1000)
    await trio.sleep(1)
    sender.duration = 0.15
    queue = node.queues.scheduled["b.test"]
    several = list(node.queues.wheel)
    await hold(node, *several[:500])  # these come first
    last, busy = several[500:502]
    for msg, wait in ((busy, 0.0), (last, 0.05)):
        node.queues.out_of_wheel(msg, queue)
        node.queues.into_wheel(msg, queue, node.wall() + wait)
    await trio.sleep(0.04)
    assert counts(await delete(node)) == {"matched": 1000, "changed": 998, "in_flight": 2}
    await trio.sleep(60)
    assert not node.meta.stored


# -- whatever races ----------------------------------------------------------------------------------------------
class _World:
    """Mail and operators that do at random whatever they can, and a node that is killed now and then."""

    def __init__(self, nursery: trio.Nursery, seed: int) -> None:
        self.random = Random(seed)
        self.nursery = nursery
        self.sent: list[bytes] = []
        self.records: list[tuple[str, bytes]] = []
        self.calm = False
        self.tally: Counter[tuple[str, str]] = Counter()

    async def start(self, data: Any = None, meta: Any = None) -> None:
        self.node = node = QueueNode(
            {
                "get_egress_path_config": constant(EgressPath(connection_limit=LimitSpec(3), max_ready=8)),
                "get_queue_config": constant(QueueConfig(retry_interval=Duration(7), max_age=Duration(1e6))),
                "throttle_insert_ready_queue": self.dawdle,
            },
            seed=self.random.randrange(1000),
        )
        node._serial = len(self.sent)
        if data is not None:
            node.data.stored, node.meta.stored = dict(data), dict(meta)
        slow_down(node, self.dawdle)
        self.sender = Sender(node)
        self.sender.outcome = self.outcome
        self.scope = await self.nursery.start(self._serve)
        await enumerate_spool(node.queues, node.spool.reconcile())

    async def _serve(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.node.queues.serve)
                task_status.started(scope)

    async def dawdle(self, *_: object) -> None:
        if not self.calm:
            await trio.sleep(self.random.choice((0.0, 0.0, 0.001, 0.05)))

    async def outcome(self, ready: ReadyQueue, msg: Message) -> None:
        node = self.node
        assert msg not in node.queues.held
        await trio.sleep(self.random.choice((0.0, 0.01, 0.5)))
        fate = "deliver" if self.calm else self.random.choice(("deliver", "defer", "defer", "back", "abort"))
        if fate == "deliver":
            await self.sender.deliver(ready, msg)
        elif fate == "defer":
            await self.sender.defer(ready, msg)
        elif fate == "back":
            ready.put_back(msg)
            await trio.sleep(0.2)
        else:
            ready.running.abort()
            await trio.sleep_forever()

    async def act(self) -> None:
        """One request of an operator."""
        node, random = self.node, self.random
        criteria = random.choice(
            (
                {},
                {"queue_names": ["b.test"]},
                {"tenant": "t"},
                {"sender": "from@a.test"},
                {"ids": [id.hex() for id in random.sample(self.sent, min(3, len(self.sent)))]},
            )
        )
        chosen = convert(criteria, Selection, "test")
        kind = random.choice(
            ("hold", "hold", "release", "release", "flush", "flush", "delete", "rebind", "stop")
        )
        if kind == "hold":
            await self.run(Hold(node.queues, chosen, "x"))
        elif kind == "release":
            await self.run(Release(node.queues, chosen))
        elif kind == "flush":
            await self.run(Flush(node.queues, chosen))
        elif kind == "delete":
            if "ids" in criteria:
                await self.run(Delete(node.queues, chosen, "x"))
        elif kind == "rebind":
            data = {"tenant": random.choice(("t", "u"))}
            await rebind(node.queues, convert({"reason": "x", "data": data}, RebindRequest, "rebind"))
        else:
            request = {"reason": "x", "domain": "c.test", "duration": "2s"}
            node.queues.admin.suspend(convert(request, SuspendRequest, "test"))
            request = {"reason": "x", "name": "unspecified->mx.b.test@smtp_client", "duration": "1s"}
            node.queues.admin.suspend_ready(convert(request, SuspendReadyRequest, "test"))

    async def run(self, operation: Operation) -> None:
        await operation.run()
        assert operation.error is None
        for name, count in counts(operation).items():
            self.tally[type(operation).__name__, name] += count

    def check(self) -> None:
        """Every message is in one place, and the counts are right."""
        queues = self.node.queues
        held: dict[int, int] = {}
        for msg in queues.held:
            assert msg.queue is not None
            assert msg not in queues.in_hand
            held[id(msg.queue)] = held.get(id(msg.queue), 0) + 1
        waits: dict[int, set[Message]] = {}
        for msg in [*queues.wheel, *queues.promotion.waiting, *queues.held]:
            if msg.queue is not None:
                waits.setdefault(id(msg.queue), set()).add(msg)
        for queue in queues.scheduled.values():
            assert queue.held == held.get(id(queue), 0)
            assert queue.delayed == len(waits.get(id(queue), ()))
        ready = [msg for found in queues.ready.values() for msg in found.messages]
        waiting = set().union(*waits.values())
        assert len(ready) == len(set(ready))
        assert not waiting.intersection(ready)
        assert not waiting.intersection(queues.in_hand)
        known = {msg.id for msg in (*waiting, *ready, *queues.in_hand)}
        assert known == set(self.node.meta.stored)

    async def kill(self) -> None:
        """kill -9, and a start with what the spool has."""
        data, meta = dict(self.node.data.stored), dict(self.node.meta.stored)
        self.records += [(record.kind, record.id) for record in self.node.log.records]
        self.scope.cancel()
        self.sender.outcome = self.sender.deliver
        await self.start(data, meta)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_races_nothing_is_lost_or_sent_twice(
    autojump_clock: MockClock, nursery: trio.Nursery, seed: int
) -> None:
    world = _World(nursery, seed)
    random = world.random
    await world.start()
    for step in range(150):
        for _ in range(random.randrange(4)):
            msg = await world.node.send(
                random.choice(("to@b.test", "to@c.test")), meta={"tenant": random.choice(("t", "u"))}
            )
            world.sent.append(msg.id)
        async with trio.open_nursery() as operators:
            for _ in range(random.randrange(3)):
                operators.start_soon(world.act)
        await trio.sleep(random.choice((0.0, 0.003, 0.3, 2.0)))
        world.check()
        if step % 40 == 39:
            await world.kill()
    world.calm = True
    for _ in range(3):
        await trio.sleep(100)
        await Release(world.node.queues, Selection()).run()
    await trio.sleep(3000)
    world.check()
    await world.kill()
    await trio.sleep(1)
    queues = world.node.queues
    assert not world.node.meta.stored
    assert not queues.in_hand
    assert not queues.held
    assert not queues.orders
    assert queues.memory.held == 0
    ends = [id for kind, id in world.records if kind in ("Delivery", "AdminBounce")]
    assert sorted(ends) == sorted(world.sent)
    assert world.tally["Hold", "changed"] > 100
    assert world.tally["Hold", "in_flight"] > 0
    assert world.tally["Release", "changed"] > 100
    assert world.tally["Flush", "changed"] > 20
