"""What stays in memory, what goes to the spool when, and what a sick spool does to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import BODY, WALL, Handlers, constant, start_node, start_sender

from kumo_py.core.duration import Duration
from kumo_py.limits.spec import LimitSpec
from kumo_py.logs import LogContext
from kumo_py.message.message import Message
from kumo_py.proto.reply import Response
from kumo_py.queue.config import EgressPath, QueueConfig, ShrinkPolicy
from kumo_py.queue.context import InsertReason
from kumo_py.queue.memory import MemoryState
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from trio.testing import MockClock

    from kumo_py.queue.ready import ReadyQueue

SICK = SpoolError("cannot write to spool 'data' at /spool: Input/output error", 5)
ONE_CONNECTION: Handlers = {"get_egress_path_config": constant(EgressPath(connection_limit=LimitSpec(1)))}


# -- leaving memory ------------------------------------------------------------------------------------
@pytest.mark.option("make_queue_config.shrink_policy")
@pytest.mark.parametrize(
    ("policies", "wait", "data", "meta"),
    [
        ([], 1200, False, False),
        ([("0s", "NoShrink")], 1200, True, True),
        ([("0s", "NoShrink"), ("10m", "ShrinkData"), ("1h", "ShrinkDataAndMeta")], 300, True, True),
        ([("0s", "NoShrink"), ("10m", "ShrinkData"), ("1h", "ShrinkDataAndMeta")], 600.1, False, True),
        ([("0s", "NoShrink"), ("10m", "ShrinkData"), ("1h", "ShrinkDataAndMeta")], 3700, False, False),
        ([("10m", "NoShrink")], 300, False, False),
    ],
)
async def test_a_waiting_message_leaves_memory_as_the_shrink_policy_says(
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    policies: list[tuple[str, Any]],
    wait: float,
    data: bool,
    meta: bool,
) -> None:
    shrink = [ShrinkPolicy(interval=Duration(after), policy=policy) for after, policy in policies]
    node = await start_node(nursery, {"get_queue_config": constant(QueueConfig(shrink_policy=shrink))})
    msg = node.make_message()
    msg.due = WALL + wait
    await node.put(msg)
    assert (msg.data_loaded, msg.meta_loaded) == (data, meta)
    # Whatever the policy, it was in memory only and is not any more.
    assert node.in_spool(msg)


async def test_a_message_comes_back_whole(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery)
    seen: list[tuple[str, tuple[str, ...], dict[str, object], bytes]] = []

    async def outcome(ready: ReadyQueue, msg: Message) -> None:
        await node.spool.load(msg)
        seen.append((msg.sender, msg.recipients, dict(msg.meta), msg.data))
        await (sender.defer if len(seen) == 1 else sender.deliver)(ready, msg)

    sender.outcome = outcome
    content = BODY + "höre\r\n".encode()
    msg = await node.send("to@b.test", "und@b.test", meta={"tenant": "t", "n": 1}, data=content)
    await trio.sleep(1)
    assert (msg.data_loaded, msg.meta_loaded) == (False, False)
    await trio.sleep(1300)
    assert (
        seen[0] == seen[1] == ("from@a.test", ("to@b.test", "und@b.test"), {"tenant": "t", "n": 1}, content)
    )
    assert node.log.kinds == ["TransientFailure", "Delivery"]
    assert not node.data.stored
    assert not node.meta.stored


async def test_what_a_handler_changed_is_spooled_before_it_leaves_memory(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def mark(msg: Message, *_: object) -> None:
        msg.set_meta("tries", 1)

    node, sender = await start_sender(nursery, {"requeue_message": mark})
    sender.outcome = sender.defer
    msg = await node.send()
    await trio.sleep(1)
    del node.policy.handlers["requeue_message"]
    assert not msg.meta_loaded
    await node.spool.load_meta(msg)
    assert msg.get_meta("tries") == 1


async def test_an_unsaved_message_is_not_written_while_it_is_on_its_way(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _ = await start_sender(nursery)
    await node.send(saved=False)
    await trio.sleep(1)
    assert node.log.kinds == ["Delivery"]
    assert (node.data.stores, node.meta.stores) == (0, 0)


async def test_bodies_beyond_the_budget_leave_memory(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, ONE_CONNECTION, body_budget=10 * len(BODY))
    sender.duration = 500.0
    messages = [await node.send() for _ in range(30)]
    await trio.sleep(1)
    waiting = messages[1:]
    assert sum(msg.data_loaded for msg in waiting) == 10
    sender.duration = 0.0
    await trio.sleep(600)
    assert node.log.kinds == ["Delivery"] * 30
    assert node.queues.memory.held == 0


async def test_unsaved_bodies_stay_whatever_the_budget(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, ONE_CONNECTION, body_budget=1)
    sender.duration = 1.0
    for _ in range(10):
        await node.send(saved=False)
    await trio.sleep(20)
    assert node.log.kinds == ["Delivery"] * 10
    assert node.queues.memory.held == 0


# -- when memory is short ------------------------------------------------------------------------------
@pytest.mark.option("make_egress_path.low_memory_reduction_policy")
@pytest.mark.option("make_egress_path.no_memory_reduction_policy")
@pytest.mark.parametrize("policy", ["ShrinkDataAndMeta", "ShrinkData", "NoShrink"])
@pytest.mark.parametrize("state", list(MemoryState))
async def test_on_the_way_to_a_ready_queue_messages_leave_memory_that_is_short(
    autojump_clock: MockClock, nursery: trio.Nursery, state: MemoryState, policy: Any
) -> None:
    options = {f"{state.value}_memory_reduction_policy": policy} if state is not MemoryState.OK else {}
    path = EgressPath(connection_limit=LimitSpec(1), **options)
    node, sender = await start_sender(nursery, {"get_egress_path_config": constant(path)})
    node.queues.memory_state = lambda: state
    sender.duration = 10.0
    _, waiting = await node.send(saved=False), await node.send(saved=False)
    shrunk = state is not MemoryState.OK and policy != "NoShrink"
    assert node.in_spool(waiting) == shrunk
    assert waiting.data_loaded == (not shrunk)
    assert waiting.meta_loaded == (not shrunk or policy == "ShrinkData")
    await node.log.reach(2)
    assert node.log.kinds == ["Delivery", "Delivery"]


async def test_at_the_limit_ready_queues_give_up_what_they_hold_and_keep_their_order(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, ONE_CONNECTION)
    sender.duration = 1.0
    messages = [await node.send(saved=False) for _ in range(150)]
    waiting = messages[1:]
    await trio.sleep(0.5)
    node.queues.memory.shrink_all()
    await trio.sleep(0.2)
    assert all(node.in_spool(msg) for msg in waiting)
    assert not any(msg.data_loaded or msg.meta_loaded for msg in waiting)
    assert node.queues.memory.held == 0
    await node.log.reach(150)
    assert sender.ids == [msg.id for msg in messages]


async def test_at_the_limit_a_ready_queue_opens_few_connections(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    node.queues.memory_state = lambda: MemoryState.NONE
    sender.duration = 5.0
    for _ in range(30):
        await node.send()
    await trio.sleep(3)
    assert sender.peak == 2
    node.queues.memory_state = lambda: MemoryState.OK
    await trio.sleep(2)
    assert sender.peak > 2


# -- the end -------------------------------------------------------------------------------------------
async def test_what_is_only_in_memory_is_saved_at_the_end(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, ONE_CONNECTION)
    sender.duration = 10.0
    messages = [await node.send(saved=False) for _ in range(300)]
    await trio.sleep(1)
    assert not node.data.stored
    await node.stop()
    assert sender.ids == [messages[0].id]
    assert set(node.data.stored) == set(node.meta.stored) == {msg.id for msg in messages[1:]}


async def test_a_message_that_comes_after_the_end_is_for_the_next_start(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A session may still finish its DATA when the queues have ended."""
    node, sender = await start_sender(nursery)
    await node.stop()
    msg = await node.send(saved=False)
    assert node.in_spool(msg)
    assert sender.sent == []
    dropped = await node.send(saved=False, meta={"queue": "null"})
    assert not node.in_spool(dropped)


async def test_a_message_that_fails_during_the_end_is_saved(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    sender.duration = 5.0
    sender.outcome = sender.defer
    msg = await node.send(saved=False)
    await trio.sleep(1)
    await node.stop()
    assert node.in_spool(msg)
    assert node.log.kinds == ["TransientFailure"]


async def test_a_spool_that_hangs_does_not_keep_the_node_from_ending(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, sender = await start_sender(nursery, ONE_CONNECTION)
    sender.duration = 1.0
    for _ in range(3):
        await node.send(saved=False)

    async def hang(ticket: int) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(node.data, "wait_durable", hang)
    with trio.fail_after(60):
        await node.stop()


# -- a sick spool --------------------------------------------------------------------------------------
async def test_a_spool_that_fails_on_requeue_keeps_the_message(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)

    async def outcome(ready: ReadyQueue, msg: Message) -> None:
        await (sender.defer if len(sender.sent) == 1 else sender.deliver)(ready, msg)

    sender.outcome = outcome
    msg = await node.send(saved=False)
    node.data.failing = node.meta.failing = SICK
    await trio.sleep(1)
    assert (node.log.kinds, msg.data_loaded) == (["TransientFailure"], True)
    await trio.sleep(1300)
    assert sender.ids == [msg.id, msg.id]
    assert node.log.kinds == ["TransientFailure", "Delivery"]


async def test_what_could_not_be_saved_is_tried_again_at_the_end(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome = sender.defer
    node.data.failing = SICK
    msg = await node.send(saved=False)
    await trio.sleep(1)
    assert not node.in_spool(msg)
    node.data.failing = None
    await node.stop()
    assert node.in_spool(msg)


async def test_metadata_that_is_no_json_keeps_the_message_in_memory(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def spoil(msg: Message, *_: object) -> None:
        msg.set_meta("spoiled", object())

    node, sender = await start_sender(nursery, {"requeue_message": spoil})
    sender.outcome = sender.defer
    msg = await node.send()
    await trio.sleep(1300)
    assert sender.ids == [msg.id, msg.id]


@pytest.mark.parametrize("reason", ["throttled", "refused"])
async def test_unreadable_metadata_waits_for_the_spool_to_recover(
    autojump_clock: MockClock, nursery: trio.Nursery, reason: str
) -> None:
    """Messages back from their first attempt have nothing in memory; then the ready queue must be emptied."""
    node, sender = await start_sender(nursery)
    again = False

    async def outcome(ready: ReadyQueue, msg: Message) -> None:
        if not again:
            await sender.defer(ready, msg)
            return
        ready.put_back(msg)
        node.meta.unreadable = SICK
        response = Response(451, None, reason)
        await ready.requeue_all(response, InsertReason.MESSAGE_RATE_THROTTLE, delay=1.0, count_attempt=False)
        sender.outcome = sender.deliver

    sender.outcome = outcome
    msg = await node.send()
    await trio.sleep(1)
    again = True
    await trio.sleep(1300)
    assert node.in_spool(msg)
    assert len(node.queues.wheel) == 1
    node.meta.unreadable = None
    await trio.sleep(120)
    assert node.log.kinds == ["TransientFailure", "Delivery"]
    assert not node.in_spool(msg)


async def test_a_message_that_is_gone_from_the_spool_is_let_go(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = await start_node(nursery)
    msg = Message.from_spool(node.make_message().id)
    await node.queues.requeue(msg, Response(451, None, "x"), (InsertReason.LOGGED_TRANSIENT_FAILURE,))
    assert len(node.queues.wheel) == 0


async def test_content_that_is_gone_bounces(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node = await start_node(nursery)
    msg = node.make_message()
    await node.queues.unreadable(msg, KeyError(msg.id), LogContext())
    assert node.log.brief == [("Bounce", 551)]


async def test_content_that_cannot_be_read_now_is_tried_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = await start_node(nursery)
    msg = node.make_message()
    await node.spool.save(msg)
    await node.queues.unreadable(msg, SICK, LogContext())
    assert node.log.brief == [("TransientFailure", 451)]
    assert (len(node.queues.wheel), msg.attempts) == (1, 1)
