"""Dispatchers that hang, fail or are cut off, and policies that hang: no message is lost, and others go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import QueueNode, constant, start_node, start_sender

from kumo_py.core.duration import Duration
from kumo_py.limits.spec import LimitSpec
from kumo_py.queue.config import DeliveryProtocol, EgressPath, LuaProtocol, QueueConfig
from kumo_py.queue.context import InsertReason

if TYPE_CHECKING:
    from pathlib import Path

    from queue_harness import Handlers
    from trio.testing import MockClock

    from kumo_py.message.message import Message
    from kumo_py.queue.ready import ReadyQueue


def path(**options: Any) -> dict[str, Any]:
    return {"get_egress_path_config": constant(EgressPath(connection_limit=LimitSpec(1), **options))}


async def hang(*_: object) -> None:
    await trio.sleep_forever()


# -- the watchdog ----------------------------------------------------------------------------------------------
@pytest.mark.option("make_egress_path.dispatcher_progress_watchdog_timeout")
async def test_a_dispatcher_that_hangs_is_cancelled_and_its_message_tried_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, path(dispatcher_progress_watchdog_timeout=Duration(30)))
    sender.outcome = hang
    msg = await node.send()
    await node.log.reach(1)
    sender.outcome = sender.deliver
    (record,) = node.log.records
    assert 30 <= record.at < 33
    assert (record.kind, record.code, str(record.response.enhanced)) == ("Delayed", 451, "4.4.1")
    assert record.content.startswith("dispatcher watchdog aborted task; phase=Starting detail=None session=")
    assert record.context.session_id is not None
    assert record.context.session_id in record.content
    assert (record.site, record.context.egress_source) == (sender.sent[0].queue, "unspecified")
    await node.log.reach(2)
    assert node.log.kinds == ["Delayed", "Delivery"]
    assert [ready.aborted for ready in node.queues.ready.values()] == [1]
    assert msg.attempts == 0
    assert node.log.records[1].at < 30 + 61 + 3
    assert not node.queues.in_hand
    assert sender.open <= 1


@pytest.mark.parametrize(
    ("options", "protocol", "timeout"),
    [
        ({}, None, 600.0),
        ({"data_dot_timeout": Duration(500)}, None, 1000.0),
        (dict.fromkeys(("mail_from_timeout", "rcpt_to_timeout", "data_timeout"), Duration(1)), None, 600.0),
        (
            dict.fromkeys(
                ("mail_from_timeout", "rcpt_to_timeout", "data_timeout", "data_dot_timeout"), Duration(1)
            ),
            None,
            60.0,
        ),
        ({"data_dot_timeout": Duration(500)}, LuaProtocol(constructor="x"), 600.0),
    ],
)
def test_the_time_without_progress(
    options: dict[str, Any], protocol: LuaProtocol | None, timeout: float
) -> None:
    from kumo_py.queue.running import watchdog_timeout

    assert watchdog_timeout(EgressPath(**options), DeliveryProtocol(custom_lua=protocol)) == timeout


async def test_dispatchers_that_are_idle_or_get_on_are_left_alone(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    options = {"dispatcher_progress_watchdog_timeout": Duration(30), "idle_timeout": Duration(100)}
    node, sender = await start_sender(nursery, path(**options))
    sender.duration = 25.0
    for _ in range(6):
        await node.send()
    await node.log.reach(6)
    await trio.sleep(80)
    await node.send()
    await node.log.reach(7)
    assert node.log.kinds == ["Delivery"] * 7
    assert len(sender.connections) == 1


async def test_a_dispatcher_that_fails_gives_back_what_it_had(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)

    async def fail(ready: ReadyQueue, msg: Message) -> None:
        sender.outcome = sender.deliver
        raise RuntimeError("a bug")

    sender.outcome = fail
    msg = await node.send(saved=False)
    await node.log.reach(2)
    assert node.log.kinds == ["Delayed", "Delivery"]
    assert node.log.records[0].content.startswith("Context: DispatcherDrop. Next due in ")
    assert msg.attempts == 0
    assert not node.queues.in_hand


# -- the end ---------------------------------------------------------------------------------------------------
@pytest.mark.option("make_egress_path.system_shutdown_timeout")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"system_shutdown_timeout": Duration(7)}, 7.0),
        (
            {
                "mail_from_timeout": Duration(1),
                "rcpt_to_timeout": Duration(2),
                "data_timeout": Duration(4),
                "data_dot_timeout": Duration(8),
            },
            15.0,
        ),
    ],
)
async def test_sessions_have_a_while_to_finish(
    autojump_clock: MockClock, nursery: trio.Nursery, options: dict[str, Any], expected: float
) -> None:
    node, sender = await start_sender(nursery, path(**options))
    sender.outcome = hang
    msg = await node.send(saved=False)
    await trio.sleep(1)
    began = trio.current_time()
    await node.stop()
    assert trio.current_time() - began == pytest.approx(expected, abs=0.1)
    assert node.in_spool(msg)  # it was only in memory
    assert node.log.records == []


async def test_a_session_that_finishes_in_time_is_not_cut_off(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, path(system_shutdown_timeout=Duration(7)))
    sender.duration = 5.0
    await node.send()
    await trio.sleep(1)
    await node.stop()
    assert node.log.kinds == ["Delivery"]


@pytest.mark.parametrize("where", ["record", "event", "save", "resolve"])
async def test_a_node_that_is_cut_off_saves_what_is_being_requeued(
    autojump_clock: MockClock, nursery: trio.Nursery, where: str
) -> None:
    """With deferred_spool it is in memory only, until its first failure is dealt with."""
    async with trio.open_nursery() as life:
        node, sender = await start_sender(life)
        sender.outcome = sender.defer
        if where == "record":
            node.log.record = hang  # type: ignore[method-assign]
        elif where == "event":
            node.policy.handlers["requeue_message"] = hang
        elif where == "save":
            node.data.wait_durable = hang  # type: ignore[method-assign]
        else:

            def move(msg: Message, *_: object) -> None:
                msg.set_meta("queue", "c.test")
                node.policy.handlers["get_queue_config"] = hang

            node.policy.handlers["requeue_message"] = move
        msg = node.make_message()
        await node.put(msg)
        await trio.sleep(5)
        assert not node.in_spool(msg) or where == "save"
        assert len(node.queues.wheel) == 0
        if where == "save":
            node.data.stored.clear()
            node.meta.stored.clear()
            del node.data.wait_durable
        life.cancel_scope.cancel()
    assert node.in_spool(msg)


# -- policies ----------------------------------------------------------------------------------------------------
async def test_a_path_event_that_hangs_holds_up_nobody(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, path(idle_timeout=Duration(3)))
    sender.duration = 50.0
    for _ in range(4):
        await node.send()
    await trio.sleep(10)
    node.policy.handlers["get_egress_path_config"] = hang
    await trio.sleep(290)
    # The connection has kept its lease all the time, and idle ones were closed.
    assert node.log.kinds == ["Delivery"] * 4
    assert sender.peak == 1
    assert sender.open == 0
    assert node.policy.count("get_egress_path_config") == 2  # nobody asks again while it hangs


@pytest.mark.parametrize(
    "event", ["get_queue_config", "get_egress_path_config", "throttle_insert_ready_queue"]
)
async def test_an_event_that_hangs_does_not_hold_up_what_is_due(
    autojump_clock: MockClock, nursery: trio.Nursery, event: str
) -> None:
    async def handle(first: Any, *_: object) -> None:
        domain = first if isinstance(first, str) else first.recipients[0].partition("@")[2]
        if domain == "c.test" and node.now > 50:
            await trio.sleep_forever()

    node, sender = await start_sender(nursery)
    due = node.wall() + 100
    messages = []
    for domain in ("c.test", "b.test"):
        for _ in range(3):
            msg = node.make_message(f"to@{domain}")
            await node.spool.save(msg)
            msg.due = due
            await node.queues.insert(msg, await node.queues.resolve(domain))
            messages.append(msg)
    node.policy.handlers[event] = handle
    await trio.sleep(110)
    # Of c.test, what need not ask goes by the old configuration.
    assert {msg.id for msg in messages[3:]} <= set(sender.ids)
    assert all(100 <= at < 106 for at in sender.times)
    assert all(node.in_spool(msg) for msg in messages if msg.id not in sender.ids)
    assert len(sender.ids) < len(messages)
    await node.stop()  # those that hang do not keep it from ending


@pytest.mark.parametrize("event", ["requeue_message", "get_queue_config"])
async def test_errors_that_nobody_foresaw_make_a_message_wait(
    autojump_clock: MockClock, nursery: trio.Nursery, event: str
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    node, sender = await start_sender(nursery)
    sender.outcome = sender.defer
    if event == "get_queue_config":
        node.policy.handlers["requeue_message"] = lambda msg, *_: msg.set_meta("queue", "other@b.test")
        msg = node.make_message()
        await node.spool.save(msg)
        queue = await node.queues.resolve(msg.queue_name)
        node.policy.handlers[event] = fail
        await node.queues.insert(msg, queue)
    else:
        node.policy.handlers[event] = fail
        msg = await node.send()
    await node.log.reach(1)
    await trio.sleep(1)
    assert len(node.queues.wheel) == 1
    assert node.in_spool(msg)
    assert len(sender.connections) == 1  # the dispatcher has survived
    node.policy.handlers.pop("requeue_message", None)
    node.policy.handlers.pop("get_queue_config", None)
    sender.outcome = sender.deliver
    await node.log.reach(2)
    assert node.log.kinds == ["TransientFailure", "Delivery"]


async def test_an_error_that_nobody_foresaw_does_not_end_promotion(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome = sender.defer
    msg = await node.send()
    await node.log.reach(1)
    sender.outcome = sender.deliver

    async def fail(_: str) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(node.queues, "resolve", fail)
        await trio.sleep(1300)
        assert node.queues.scheduled["b.test"].delayed == 1
        assert node.in_spool(msg)
    await node.log.reach(2)
    assert node.log.kinds == ["TransientFailure", "Delivery"]
    assert node.queues.scheduled["b.test"].delayed == 0


async def test_a_handler_that_breaks_the_queue_name_makes_the_message_wait(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(
        nursery, {"requeue_message": lambda msg, *_: msg.set_meta("queue", {"not": "a name"})}
    )
    sender.outcome = sender.defer
    msg = await node.send()
    await node.log.reach(1)
    await trio.sleep(1)
    assert node.in_spool(msg)
    assert not node.queues.in_hand
    assert len(sender.connections) == 1


# -- maildirs ----------------------------------------------------------------------------------------------------
async def test_a_slow_maildir_does_not_hold_up_other_messages(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(domain: str, *_: object) -> QueueConfig:
        if domain == "b.test":
            return QueueConfig()
        return QueueConfig(protocol=DeliveryProtocol(maildir_path=str(tmp_path)))

    handlers: Handlers = {"get_queue_config": config}
    node, _ = await start_sender(nursery, handlers)
    at_work = peak = 0

    async def slow(*_: object) -> None:
        nonlocal at_work, peak
        at_work += 1
        peak = max(peak, at_work)
        await trio.sleep(100)
        at_work -= 1

    monkeypatch.setattr(node.queues.maildir, "deliver", slow)
    later = node.now + 60
    for number in range(30):
        msg = node.make_message("to@b.test" if number % 5 == 4 else "to@dir.test")
        await node.spool.save(msg)
        msg.due = node.wall() - node.now + later
        await node.queues.insert(msg, await node.queues.resolve(msg.queue_name))
    await node.log.reach(30 + 6)
    deliveries = node.log.of("Delivery")
    assert len(deliveries) == 6
    assert all(60 <= record.at < 62 for record in deliveries)
    assert peak == 4
    await node.stop()


async def test_maildirs_take_what_is_due_and_who_injects_waits(nursery: trio.Nursery, tmp_path: Path) -> None:
    protocol = DeliveryProtocol(maildir_path=str(tmp_path))
    node: QueueNode = await start_node(
        nursery, {"get_queue_config": constant(QueueConfig(protocol=protocol))}
    )
    await node.send()
    assert node.log.kinds == ["Delivery"]  # already
    msg = node.make_message()
    await node.spool.save(msg)
    queue = await node.queues.resolve(msg.queue_name)
    await node.queues.insert_or_wait(msg, queue, (InsertReason.DUE,))
    await node.log.reach(2)
    assert node.log.kinds == ["Delivery", "Delivery"]
    assert len(list((tmp_path / "new").iterdir())) == 2
    assert not node.queues.in_hand
