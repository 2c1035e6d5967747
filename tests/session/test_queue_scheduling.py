"""Scheduled queues: how they are named and configured, when a message is tried, when it is given up."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import WALL, constant, start_node, start_sender

from kumo_py.core.duration import Duration
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.limits.spec import ThrottleSpec
from kumo_py.proto.reply import Response
from kumo_py.queue.config import EgressPool, QueueConfig
from kumo_py.queue.context import InsertReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from kumo_py.message.message import Message

TICK = 0.06
LATER = Response(451, None, "later")


@pytest.mark.parametrize(
    ("recipient", "meta", "name", "asked"),
    [
        ("to@B.Test", {}, "b.test", ("b.test", None, None, None)),
        ("to@b.test", {"tenant": "t"}, "t@b.test", ("b.test", "t", None, None)),
        ("to@b.test", {"campaign": "c"}, "c:@b.test", ("b.test", "", "c", None)),
        ("to@b.test", {"campaign": "c", "tenant": "t"}, "c:t@b.test", ("b.test", "t", "c", None)),
        ("to@b.test", {"routing_domain": "r.test"}, "b.test!r.test", ("b.test", None, None, "r.test")),
        ("to@b.test", {"queue": "x:y@c.test!z"}, "x:y@c.test!z", ("c.test", "y", "x", "z")),
    ],
)
async def test_a_queue_is_named_by_metadata_and_recipient(
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    recipient: str,
    meta: dict[str, object],
    name: str,
    asked: tuple[Any, ...],
) -> None:
    node = await start_node(nursery)
    msg = node.make_message(recipient, meta=meta)
    queue = await node.queues.resolve(msg.queue_name)
    assert queue.name == name
    assert node.policy.asked == [("get_queue_config", *asked)]


async def test_a_configuration_that_fails_is_not_asked_for_a_minute(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def fail(*_: object) -> None:
        raise PolicyError("get_queue_config: policy.lua:7: no such table")

    node = await start_node(nursery, {"get_queue_config": fail})
    for _ in range(3):
        with pytest.raises(PolicyError, match=r"policy.lua:7"):
            await node.queues.resolve("b.test")
    assert node.policy.count("get_queue_config") == 1
    await trio.sleep(59.9)
    with pytest.raises(PolicyError):
        await node.queues.resolve("b.test")
    assert node.policy.count("get_queue_config") == 1
    await trio.sleep(0.2)
    with pytest.raises(PolicyError):
        await node.queues.resolve("b.test")
    assert node.policy.count("get_queue_config") == 2
    node.policy.handlers["get_queue_config"] = constant(None)
    await trio.sleep(60.1)
    assert (await node.queues.resolve("b.test")).config == QueueConfig()


async def test_a_remembered_failure_does_not_grow(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    def fail(*_: object) -> None:
        raise PolicyError("broken")

    def depth(error: BaseException) -> int:
        traceback, count = error.__traceback__, 0
        while traceback is not None:
            traceback, count = traceback.tb_next, count + 1
        return count

    node = await start_node(nursery, {"get_queue_config": fail})
    depths = []
    for _ in range(5):
        with pytest.raises(PolicyError) as caught:
            await node.queues.resolve("b.test")
        depths.append(depth(caught.value))
    assert depths[4] <= depths[1]


async def test_a_queue_that_is_set_up_twice_at_once_is_asked_for_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def slow(*_: object) -> QueueConfig:
        await trio.sleep(1)
        return QueueConfig(retry_interval=Duration(7))

    node = await start_node(nursery, {"get_queue_config": slow})
    found = []

    async def resolve() -> None:
        found.append(await node.queues.resolve("b.test"))

    async with trio.open_nursery() as many:
        for _ in range(10):
            many.start_soon(resolve)
    assert node.policy.count("get_queue_config") == 1
    assert len(set(map(id, found))) == 1


@pytest.mark.parametrize("event", ["get_egress_pool", "get_egress_source"])
async def test_a_broken_pool_or_source_shows_before_the_message_is_accepted(
    autojump_clock: MockClock, nursery: trio.Nursery, event: str
) -> None:
    def fail(*_: object) -> None:
        raise PolicyError(f"{event}: boom")

    pool = {"name": "p", "entries": [{"name": "s"}]}
    handlers: dict[str, Callable[..., Any]] = {
        "get_queue_config": constant(QueueConfig(egress_pool="p")),
        "get_egress_pool": constant(_pool(pool)),
        event: fail,
    }
    node = await start_node(nursery, handlers)
    with pytest.raises(PolicyError, match="boom"):
        await node.queues.resolve("b.test")


def _pool(table: dict[str, Any]) -> EgressPool:
    from kumo_py.core.options import convert

    return convert(table, EgressPool, "pool")


async def test_a_queue_takes_a_new_configuration_after_its_refresh_interval(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _ = await start_sender(
        nursery, {"get_queue_config": constant(QueueConfig(retry_interval=Duration(10)))}
    )
    queue = await node.queues.resolve("b.test")
    node.policy.handlers["get_queue_config"] = constant(QueueConfig(retry_interval=Duration(20)))
    await trio.sleep(59)
    assert (await node.queues.resolve("b.test")).config.retry_interval == Duration(10)
    await trio.sleep(1)
    assert (await node.queues.resolve("b.test")).config.retry_interval == Duration(20)
    assert await node.queues.resolve("b.test") is queue


async def test_a_refresh_that_fails_keeps_the_old_configuration(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def fail(*_: object) -> None:
        raise PolicyError("broken")

    node = await start_node(nursery, {"get_queue_config": constant(QueueConfig(retry_interval=Duration(10)))})
    await node.queues.resolve("b.test")
    node.policy.handlers["get_queue_config"] = fail
    await trio.sleep(61)
    assert (await node.queues.resolve("b.test")).config.retry_interval == Duration(10)
    assert node.policy.count("get_queue_config") == 2


async def test_a_waiting_message_is_tried_under_the_configuration_of_that_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, {"get_queue_config": constant(QueueConfig())})
    sender.outcome = sender.defer
    await node.send()
    await trio.sleep(1)
    node.policy.handlers["get_queue_config"] = constant(
        QueueConfig(protocol=_smtp_to("[127.0.0.1]:2500"), retry_interval=Duration(7200))
    )
    await trio.sleep(2000)
    assert [sent.queue for sent in sender.sent] == [
        "unspecified->mx.b.test@smtp_client",
        "unspecified->mx_list:[127.0.0.1]:2500@smtp_client",
    ]


def _smtp_to(*hosts: str) -> Any:
    from kumo_py.queue.config import DeliveryProtocol, SmtpProtocol

    return DeliveryProtocol(smtp=SmtpProtocol(mx_list=list(hosts)))


async def test_a_protocol_that_is_not_there_yet_is_an_error_of_the_queue(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    from kumo_py.core.options import convert

    protocol = {"xfer": {"target": "http://other.test:8000"}}
    config = convert({"protocol": protocol}, QueueConfig, "kumo.make_queue_config")
    node = await start_node(nursery, {"get_queue_config": constant(config)})
    with pytest.raises(PolicyError, match="does not deliver by xfer"):
        await node.send()


async def test_the_null_queue_drops_without_a_record(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    msg = await node.send(meta={"queue": "null"})
    await trio.sleep(100)
    assert (node.log.records, sender.sent) == ([], [])
    assert not node.in_spool(msg)
    assert node.policy.asked == []


@pytest.mark.option("make_queue_config.retry_interval")
@pytest.mark.option("make_queue_config.max_retry_interval")
async def test_retries_follow_the_formula(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    config = QueueConfig(
        retry_interval=Duration("5m"), max_retry_interval=Duration("20m"), max_age=Duration("3h")
    )
    node, sender = await start_sender(nursery, {"get_queue_config": constant(config)}, seed=42)
    sender.outcome = sender.defer
    msg = await node.send()
    await trio.sleep(3 * 3600)
    random = Random(42)
    expected, attempt, late = 0.0, 0, 0.0
    for at in sender.times:
        assert expected <= at <= expected + TICK
        # Jitter is within half of min(5 min / 20, 60 s) either way, in whole seconds.
        jitter = int(random.random() * 15.0 - 7.5)
        expected = at + min(300 * 2**attempt, 1200) + jitter
        attempt += 1
        late = at
    assert attempt == len(sender.times) == 11
    # The last one's next attempt would have come after max_age.
    assert expected > 3 * 3600 >= late
    assert node.log.kinds == ["TransientFailure"] * attempt + ["Expiration"]
    assert [record.attempts for record in node.log.of("TransientFailure")] == list(range(attempt))
    last = node.log.records[-1]
    assert (last.code, str(last.response.enhanced), last.site, last.attempts) == (551, "5.4.7", "", attempt)
    assert last.content.startswith("Next delivery time would be 3h ")
    assert last.content.endswith(" after creation, which exceeds max_age=3h")
    assert not node.in_spool(msg)
    assert len(node.queues.wheel) == 0


async def test_by_default_the_second_attempt_comes_after_twenty_minutes(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome = sender.defer
    await node.send()
    await trio.sleep(4000)
    first, second, third = sender.times
    assert first == 0.0
    assert 1170 <= second - first <= 1230 + TICK
    assert 2370 <= third - second <= 2430 + TICK


@pytest.mark.option("make_queue_config.max_age")
async def test_expiry_is_judged_by_the_next_attempt(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    config = QueueConfig(retry_interval=Duration(600), max_age=Duration(3600))
    node, sender = await start_sender(nursery, {"get_queue_config": constant(config)})
    sender.outcome = sender.defer
    await node.send(age=3100)
    await trio.sleep(1)
    assert node.log.brief == [("TransientFailure", 451), ("Expiration", 551)]
    age = 3700 + int(Random(1).random() * 30 - 15)
    wait = f"1h {age % 3600 // 60}m {age % 60}s".replace(" 0s", "")
    expected = f"Next delivery time would be {wait} after creation, which exceeds max_age=1h"
    assert node.log.records[1].content == expected


async def test_a_message_that_is_only_held_back_expires_by_its_age(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = await start_node(nursery, {"get_queue_config": constant(QueueConfig(max_age=Duration(3600)))})
    msg = node.make_message(age=3595)
    await node.spool.save(msg)
    await node.queues.requeue(
        msg, LATER, (InsertReason.MESSAGE_RATE_THROTTLE,), count_attempt=False, delay=30.0
    )
    (record,) = node.log.records
    assert (record.kind, record.code, str(record.response.enhanced)) == ("Expiration", 551, "5.4.7")
    assert (record.site, record.attempts) == ("localhost", 0)
    assert not node.in_spool(msg)


# -- requeue_message -----------------------------------------------------------------------------------
async def test_requeue_message_is_told_why(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery, {"requeue_message": constant(None)})
    sender.outcome = sender.defer
    msg = await node.send()
    await trio.sleep(1)
    assert node.policy.asked[-1] == (
        "requeue_message",
        msg,
        "451 4.0.0 later",
        ["LoggedTransientFailure"],
        True,
        None,
    )


async def test_a_rejection_in_requeue_message_bounces_even_with_4xx(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def reject(msg: Message, *_: object) -> None:
        raise Rejection(450, "enough")

    node, sender = await start_sender(nursery, {"requeue_message": reject})
    sender.outcome = sender.defer
    msg = await node.send()
    await trio.sleep(3000)
    assert node.log.brief == [("TransientFailure", 451), ("Bounce", 450)]
    assert node.log.records[1].content == "enough"
    assert not node.in_spool(msg)
    assert len(sender.sent) == 1


async def test_requeue_message_may_move_the_message_to_another_queue_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def move(msg: Message, *_: object) -> None:
        msg.set_meta("routing_domain", "c.test")

    node, sender = await start_sender(nursery, {"requeue_message": move})

    async def outcome(ready: Any, msg: Message) -> None:
        await (sender.defer if "mx.b" in ready.name else sender.deliver)(ready, msg)

    sender.outcome = outcome
    await node.send()
    await trio.sleep(1)
    assert [(sent.queue, sent.at) for sent in sender.sent] == [
        ("unspecified->mx.b.test@smtp_client", 0.0),
        ("unspecified->mx.c.test@smtp_client", 0.0),
    ]
    assert [(record.kind, record.queue, record.attempts) for record in node.log.records] == [
        ("TransientFailure", "b.test", 0),
        ("Delivery", "b.test!c.test", 1),
    ]


async def test_an_error_in_requeue_message_keeps_the_message_in_its_queue(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def fail(*_: object) -> None:
        raise PolicyError("requeue_message: policy.lua:3: nil")

    node, sender = await start_sender(nursery, {"requeue_message": fail})
    sender.outcome = sender.defer
    msg = await node.send()
    await trio.sleep(1300)
    assert len(sender.sent) == 2
    assert node.in_spool(msg)


async def test_a_message_is_kept_when_its_new_queue_has_no_configuration(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    broken = True

    def config(domain: str, *_: object) -> QueueConfig:
        if broken and domain == "c.test":
            raise PolicyError("get_queue_config: policy.lua:9: boom")
        return QueueConfig(retry_interval=Duration(60))

    def move(msg: Message, *_: object) -> None:
        msg.set_meta("queue", "c.test")

    node, sender = await start_sender(nursery, {"requeue_message": move, "get_queue_config": config})

    async def outcome(ready: Any, msg: Message) -> None:
        await (sender.defer if "mx.b" in ready.name else sender.deliver)(ready, msg)

    sender.outcome = outcome
    msg = await node.send()
    await trio.sleep(400)
    # Nothing may be sent by the defaults: they know neither the source nor the route that the policy wants.
    assert [sent.queue for sent in sender.sent] == ["unspecified->mx.b.test@smtp_client"]
    assert node.in_spool(msg)
    broken = False
    await trio.sleep(200)
    assert [sent.queue for sent in sender.sent[1:]] == ["unspecified->mx.c.test@smtp_client"]
    assert not node.in_spool(msg)


async def test_without_a_configuration_no_message_expires(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    broken = False

    def config(*_: object) -> QueueConfig:
        if broken:
            raise PolicyError("boom")
        return QueueConfig(max_age=Duration("30d"))

    node, sender = await start_sender(nursery, {"get_queue_config": config})
    # Older than the default max_age of 7 days.
    msg = node.make_message(age=8 * 86400)
    await node.spool.save(msg)
    broken = True
    await node.queues.requeue(msg, LATER, (InsertReason.LOGGED_TRANSIENT_FAILURE,))
    await trio.sleep(600)
    assert node.log.records == []
    broken = False
    await trio.sleep(200)
    assert [sent.id for sent in sender.sent] == [msg.id]


# -- throttles -----------------------------------------------------------------------------------------
@pytest.mark.option("make_queue_config.max_message_rate")
async def test_max_message_rate_holds_messages_back_without_an_attempt(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    config = QueueConfig(max_message_rate=ThrottleSpec.parse("10/m,max_burst=1"))
    handlers = {"get_queue_config": constant(config), "requeue_message": constant(None)}
    node, sender = await start_sender(nursery, handlers)
    for _ in range(3):
        await node.send()
    (asked,) = [asked for asked in node.policy.asked if asked[0] == "requeue_message"][:1]
    assert asked[2] == "451 4.4.4 KumoMTA internal: b.test throttled message rate, delay=6.000s"
    assert asked[3:] == (["Received", "MessageRateThrottle"], False, pytest.approx(6.0))
    await trio.sleep(30)
    assert sender.times == [
        pytest.approx(0.0),
        pytest.approx(6.0, abs=TICK),
        pytest.approx(12.0, abs=2 * TICK),
    ]
    assert {record.attempts for record in node.log.records} == {0}
    delayed = node.log.of("Delayed")
    assert [record.code for record in delayed] == [400, 400, 400]
    assert delayed[0].content.startswith("Context: Received, MessageRateThrottle. Next due in 6s")
    assert delayed[2].content.startswith("Context: DueTimeWasReached, MessageRateThrottle. Next due in 6s")


async def test_throttle_insert_ready_queue_delays_by_up_to_a_minute_without_an_attempt(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def throttle(msg: Message) -> None:
        if len(node.log.of("Delayed")) < 3:
            msg.due = node.wall() + 600

    node, sender = await start_sender(nursery, {"throttle_insert_ready_queue": throttle}, seed=5)
    await node.send()
    await trio.sleep(400)
    random = Random(5)
    waits = [random.random() * 60 for _ in range(3)]
    # The due time that the event set is replaced (KumoMTA does so).
    assert sender.times == [pytest.approx(sum(waits), abs=4 * TICK)]
    assert [record.kind for record in node.log.records] == ["Delayed"] * 3 + ["Delivery"]
    assert node.log.records[-1].attempts == 0
    assert "ThrottledByThrottleInsertReadyQueue" in node.log.records[0].content


async def test_an_error_in_throttle_insert_ready_queue_is_the_injectors_problem(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def fail(msg: Message) -> None:
        raise PolicyError("throttle_insert_ready_queue: boom")

    node, sender = await start_sender(nursery, {"throttle_insert_ready_queue": fail})
    with pytest.raises(PolicyError, match="boom"):
        await node.send()
    assert sender.sent == []


async def test_an_error_in_throttle_insert_ready_queue_loses_no_queued_message(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def fail(msg: Message) -> None:
        raise PolicyError("throttle_insert_ready_queue: boom")

    def move(msg: Message, *_: object) -> None:
        msg.set_meta("queue", "c.test")

    node, sender = await start_sender(nursery, {"requeue_message": move})

    async def outcome(ready: Any, msg: Message) -> None:
        await (sender.defer if "mx.b" in ready.name else sender.deliver)(ready, msg)

    sender.outcome = outcome
    msg = await node.send(saved=False)
    node.policy.handlers["throttle_insert_ready_queue"] = fail
    await trio.sleep(300)
    assert len(sender.sent) == 1
    assert node.in_spool(msg)
    del node.policy.handlers["throttle_insert_ready_queue"]
    await trio.sleep(120)
    assert [sent.queue for sent in sender.sent[1:]] == ["unspecified->mx.c.test@smtp_client"]
    assert node.log.kinds[-1] == "Delivery"


async def test_a_message_with_a_due_time_waits_for_it(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    msg = node.make_message()
    msg.due = WALL + 500.0
    await node.put(msg)
    await trio.sleep(499)
    assert sender.sent == []
    assert node.in_spool(msg)
    await trio.sleep(2)
    assert sender.times == [pytest.approx(500.0, abs=TICK)]
    (delayed, _) = node.log.records
    assert (delayed.kind, delayed.at) == ("Delayed", 0.0)
    assert delayed.content.startswith("Context: Received. Next due in 8m 20s")


async def test_an_earlier_message_wakes_the_sleeping_queue(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    for wait in (5000.0, 50.0, 500.0):
        msg = node.make_message()
        msg.due = WALL + wait
        await node.put(msg)
    await trio.sleep(6000)
    assert sender.times == [pytest.approx(wait, abs=TICK) for wait in (50.0, 500.0, 5000.0)]


# -- reaping -------------------------------------------------------------------------------------------
async def test_an_unused_queue_is_dropped_after_ten_minutes(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _ = await start_sender(nursery)
    await node.send()
    await trio.sleep(590)
    assert list(node.queues.scheduled) == ["b.test"]
    assert len(node.queues.ready) == 1
    await trio.sleep(60)
    assert node.queues.scheduled == {}
    assert node.queues.ready == {}
    await node.send()
    await trio.sleep(1)
    assert node.log.kinds == ["Delivery"] * 2


async def test_a_queue_with_waiting_messages_is_never_dropped(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    msg = node.make_message()
    msg.due = WALL + 5000
    await node.put(msg)
    await trio.sleep(4999)
    assert list(node.queues.scheduled) == ["b.test"]
    await trio.sleep(2)
    assert sender.ids == [msg.id]
