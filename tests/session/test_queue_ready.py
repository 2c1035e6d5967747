"""Ready queues: which site, how full, how many connections, how long they idle."""

from __future__ import annotations

import math
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import Handlers, QueueNode, Sender, constant, start_node, start_sender
from trio.testing import MockClock, wait_all_tasks_blocked

from kumo_py.core.duration import Duration
from kumo_py.core.policy import PolicyError
from kumo_py.limits.spec import LimitSpec, ThrottleSpec
from kumo_py.proto.reply import Response
from kumo_py.queue.config import (
    DeliveryProtocol,
    EgressPath,
    EgressPool,
    EgressSource,
    NamedHost,
    PoolEntry,
    QueueConfig,
    SmtpProtocol,
)
from kumo_py.queue.context import InsertReason

if TYPE_CHECKING:
    from kumo_py.queue.ready import ReadyQueue

TICK = 0.06
SITE = "unspecified->mx.b.test@smtp_client"


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


def smtp_to(*hosts: str | NamedHost) -> QueueConfig:
    return QueueConfig(protocol=DeliveryProtocol(smtp=SmtpProtocol(mx_list=list(hosts))))


# -- names ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("config", "name"),
    [
        (QueueConfig(), "unspecified->mx.b.test@smtp_client"),
        (smtp_to("h1.test", "[127.0.0.1]:25"), "unspecified->mx_list:h1.test,[127.0.0.1]:25@smtp_client"),
        (
            smtp_to(NamedHost(name="h", addr="127.0.0.1:2525")),
            "unspecified->mx_list:127.0.0.1:2525@smtp_client",
        ),
    ],
)
async def test_a_ready_queue_is_named_by_source_site_and_protocol(
    autojump_clock: MockClock, nursery: trio.Nursery, config: QueueConfig, name: str
) -> None:
    node, _ = await start_sender(nursery, {"get_queue_config": constant(config)})
    await node.send()
    await trio.lowlevel.checkpoint()
    assert list(node.queues.ready) == [name]
    (asked,) = [asked for asked in node.policy.asked if asked[0] == "get_egress_path_config"]
    site = name.removeprefix("unspecified->").removesuffix("@smtp_client")
    assert asked == ("get_egress_path_config", "b.test", "unspecified", site)


async def test_the_routing_domain_decides_on_the_site(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    await node.send(meta={"routing_domain": "c.test"})
    await trio.sleep(1)
    assert [sent.queue for sent in sender.sent] == ["unspecified->mx.c.test@smtp_client"]


async def test_two_addresses_of_one_host_name_are_two_sites(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def config(domain: str, *_: object) -> QueueConfig:
        return smtp_to(NamedHost(name="h.test", addr="127.0.0.1" if domain == "b.test" else "127.0.0.2"))

    node, sender = await start_sender(nursery, {"get_queue_config": config})
    await node.send("to@b.test")
    await node.send("to@c.test")
    await trio.sleep(1)
    assert len({sent.queue for sent in sender.sent}) == 2


async def test_domains_of_one_site_share_a_ready_queue(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    zone = "$ORIGIN test.\nb MX 10 mx\nc MX 10 mx\nmx A 127.0.0.1\n"
    node, sender = await start_sender(nursery, zone=zone)
    await node.send("to@b.test")
    await node.send("to@c.test")
    await trio.sleep(1)
    assert [sent.queue for sent in sender.sent] == ["unspecified->mx.test@smtp_client"] * 2


async def test_a_new_mx_is_taken_up(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    from kumo_py.dns import Resolver, ZoneBackend

    node, sender = await start_sender(nursery)
    await node.send()
    await trio.sleep(61)
    node.queues.resolver = Resolver(
        backend=ZoneBackend(["$ORIGIN test.\nb MX 10 mx.new\nmx.new A 127.0.0.1\n"])
    )
    await node.send()
    await trio.sleep(1)
    assert sender.sent[-1].queue == "unspecified->mx.new.test@smtp_client"


async def test_a_domain_without_an_answer_is_tried_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _ = await start_sender(nursery, failures={"b.test": "SERVFAIL"})
    msg = await node.send()
    (record,) = node.log.records
    assert (record.kind, record.code, str(record.response.enhanced)) == ("TransientFailure", 451, "4.4.4")
    assert record.content.startswith("failed to resolve queue b.test: ")
    assert (msg.attempts, node.in_spool(msg), len(node.queues.wheel)) == (1, True, 1)


async def test_a_broken_path_handler_delays_the_message(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def fail(*_: object) -> None:
        raise PolicyError("get_egress_path_config: policy.lua:5: boom")

    node, _ = await start_sender(nursery, {"get_egress_path_config": fail})
    msg = await node.send()
    (record,) = node.log.records
    assert record.content == "failed to resolve queue b.test: get_egress_path_config: policy.lua:5: boom"
    assert (msg.attempts, node.in_spool(msg)) == (1, True)


# -- a full ready queue --------------------------------------------------------------------------------
@pytest.mark.option("make_egress_path.max_ready")
async def test_a_full_ready_queue_delays_without_an_attempt(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = await start_node(nursery, {**path(max_ready=2), "requeue_message": constant(None)}, seed=3)

    async def never(ready: ReadyQueue) -> None:
        await trio.sleep_forever()

    node.queues.dispatchers["smtp_client"] = never
    messages = [await node.send() for _ in range(4)]
    random = Random(3)
    assert [record.kind for record in node.log.records] == ["Delayed"] * 2
    for msg, record in zip(messages[2:], node.log.records, strict=True):
        wait = random.random() * 60
        assert msg.due - node.wall() == pytest.approx(wait, abs=1e-5)
        assert record.response.code == 400
        assert record.content.startswith("Context: Received, ReadyQueueWasFull. Next due in ")
        assert (record.attempts, record.site) == (0, "")
    assert len(node.queues.ready[SITE].messages) == 2
    assert node.policy.count("requeue_message") == 0


async def test_delayed_by_a_full_ready_queue_they_all_come_through(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, path(max_ready=5, connection_limit=LimitSpec(1)))
    sender.duration = 1.0
    messages = [await node.send() for _ in range(50)]
    await trio.sleep(200)
    assert Counter(sender.ids) == Counter(msg.id for msg in messages)
    assert {record.attempts for record in node.log.of("Delivery")} == {0}


async def test_a_ready_queue_that_becomes_smaller_gives_back_what_came_last(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, path(max_ready=20, connection_limit=LimitSpec(1)))
    sender.duration = 20.0
    messages = [await node.send() for _ in range(12)]
    await trio.sleep(1)
    node.policy.handlers.update(path(max_ready=5, connection_limit=LimitSpec(1)))
    await trio.sleep(62)
    ready = node.queues.ready[SITE]
    delayed = node.log.of("Delayed")
    # Of the eight that were left after a minute.
    assert [record.id for record in delayed] == [msg.id for msg in messages[:8:-1]]
    assert [msg.id for msg in ready.messages] == [msg.id for msg in messages[4:9]]
    reasons = "Context: MaxReadyWasReducedByConfigUpdate, ReadyQueueWasFull. "
    assert all(record.content.startswith(reasons) for record in delayed)
    await trio.sleep(500)
    assert Counter(sender.ids) == Counter(msg.id for msg in messages)


# -- connections ---------------------------------------------------------------------------------------
async def _connections(nursery: trio.Nursery, length: int, limit: int) -> int:
    node = await start_node(nursery, path(connection_limit=LimitSpec(limit), max_ready=100_000))
    opened = 0

    async def never(ready: ReadyQueue) -> None:
        nonlocal opened
        opened += 1
        await trio.sleep_forever()

    node.queues.dispatchers["smtp_client"] = never
    for _ in range(length):
        await node.send(saved=False)
    await wait_all_tasks_blocked()
    return opened


@pytest.mark.parametrize(
    ("length", "limit"),
    [
        (1, 32),
        (2, 32),
        (3, 32),
        (10, 32),
        (50, 32),
        (150, 32),
        (151, 32),
        (30, 1),
        (5, 100_000),
        (700, 2_000),
    ],
)
async def test_connections_follow_the_length_of_the_queue(
    autojump_clock: MockClock, nursery: trio.Nursery, length: int, limit: int
) -> None:
    """KumoMTA's goal: ceil(limit · (1 - e^(-0.023 · length))), no more than there are messages."""
    goal = min(math.ceil(limit * (1 - math.exp(-0.023 * length))), length)
    assert await _connections(nursery, length, limit) == goal


async def test_a_huge_connection_limit_costs_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with trio.fail_after(5):
        assert await _connections(nursery, 3, 10**12) == 3


@pytest.mark.option("make_egress_path.connection_limit")
async def test_the_connection_limit_is_never_exceeded(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, path(connection_limit=LimitSpec(3), max_ready=1000))
    sender.duration = 0.7
    messages = [await node.send() for _ in range(200)]
    await trio.sleep(100)
    assert sender.peak == 3
    assert Counter(sender.ids) == Counter(msg.id for msg in messages)
    assert sender.open == 0


async def test_leases_outlive_their_duration_while_the_connection_lives(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, path(connection_limit=LimitSpec(1), idle_timeout=Duration(1)))
    sender.duration = 300.0
    for _ in range(3):
        await node.send()
    await trio.sleep(1000)
    assert sender.peak == 1
    assert len(sender.sent) == 3


@pytest.mark.option("make_egress_path.additional_connection_limits")
async def test_additional_limits_are_shared_by_name_across_paths(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    options = {"connection_limit": LimitSpec(10), "additional_connection_limits": {"both": LimitSpec(4)}}
    node, sender = await start_sender(nursery, path(max_ready=1000, idle_timeout=Duration(0.1), **options))
    sender.duration = 0.5
    for number in range(100):
        await node.send("to@b.test" if number % 2 else "to@c.test")
    await trio.sleep(300)
    assert sender.peak == 4
    assert len(sender.sent) == 100
    assert {sent.queue for sent in sender.sent} == {SITE, SITE.replace("mx.b", "mx.c")}


async def test_a_denied_connection_is_opened_when_the_place_is_free(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    options = {"additional_connection_limits": {"both": LimitSpec(1)}, "idle_timeout": Duration(1)}
    node, sender = await start_sender(nursery, path(**options))
    sender.duration = 10.0
    await node.send("to@b.test")
    await trio.sleep(1)
    await node.send("to@c.test")
    await trio.sleep(30)
    assert sender.times == [pytest.approx(0.0), pytest.approx(12.5, abs=2.0)]


@pytest.mark.option("make_egress_path.max_connection_rate")
async def test_max_connection_rate_spaces_connections(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    rate = ThrottleSpec.parse("6/m,max_burst=1")
    node, sender = await start_sender(nursery, path(max_connection_rate=rate, connection_limit=LimitSpec(10)))
    sender.duration = 1000.0
    for _ in range(200):
        await node.send(saved=False)
    await trio.sleep(59)
    assert sender.connections[0] == 0.0
    gaps = [
        later - earlier for earlier, later in zip(sender.connections, sender.connections[1:], strict=False)
    ]
    assert len(gaps) == 5
    assert all(10.0 <= gap <= 11.1 for gap in gaps)


@pytest.mark.option("make_egress_path.idle_timeout")
async def test_idle_timeout_closes_connections(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery, path(idle_timeout=Duration(8)))
    await node.send()
    await trio.sleep(7)
    assert sender.open == 1
    await node.send()
    await trio.sleep(7)
    assert sender.open == 1
    await trio.sleep(2.1)
    assert sender.closed == [pytest.approx(15.5, abs=0.6)]
    assert len(sender.connections) == 1


async def test_the_last_to_idle_works_first_so_that_others_can_close(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, path(idle_timeout=Duration(5)))
    sender.duration = 0.1
    for _ in range(4):
        await node.send()
    await trio.sleep(1)
    busy = sender.open
    assert busy > 1
    for _ in range(10):
        await node.send()
        await trio.sleep(1)
    assert sender.open == 1
    assert len(sender.connections) == busy


async def test_a_message_whose_dispatcher_went_away_is_taken_by_an_idle_one(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Two idle connections; the one that is woken finds its peer gone."""
    node = await start_node(nursery, path(idle_timeout=Duration(60)))
    sender = Sender(node)
    broken = 0

    async def run(ready: ReadyQueue) -> None:
        nonlocal broken
        while True:
            msg = ready.take()
            if msg is not None:
                await trio.sleep(0.1)
                await sender.deliver(ready, msg)
            elif not await ready.wait():
                return
            elif broken:
                broken -= 1
                return

    node.queues.dispatchers["smtp_client"] = run
    for _ in range(4):
        await node.send()
    await trio.sleep(1)
    assert node.queues.ready[SITE].idle_connections > 1
    broken = 1
    await node.send()
    await trio.sleep(0.5)
    assert node.log.kinds == ["Delivery"] * 5


async def test_a_dispatcher_that_fails_leaves_the_node_and_the_queue_alive(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    failures = 2

    async def run(ready: ReadyQueue) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise RuntimeError("a bug")
        await sender.run(ready)

    node.queues.dispatchers["smtp_client"] = run
    msg = await node.send()
    await trio.sleep(5)
    assert sender.ids == [msg.id]


async def test_cancelled_queues_end_although_messages_wait(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as inner:
            node, sender = await start_sender(inner, path(connection_limit=LimitSpec(2)))
            sender.duration = 100.0
            messages = [await node.send(saved=False) for _ in range(40)]
            await trio.sleep(1)
            inner.cancel_scope.cancel()
    assert sender.peak == 2
    # Two were in the hands of dispatchers, the others in the ready queue still: all in memory only.
    assert all(node.in_spool(msg) for msg in messages)


async def test_a_path_is_refreshed_while_messages_wait(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, path(connection_limit=LimitSpec(1)))
    sender.duration = 10.0
    for _ in range(100):
        await node.send(saved=False)
    await trio.sleep(55)
    assert sender.peak == 1
    node.policy.handlers.update(path(connection_limit=LimitSpec(5)))
    await trio.sleep(30)
    assert sender.peak == 5


async def test_a_path_is_refreshed_although_nothing_ever_waits(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _ = await start_sender(nursery, path(idle_timeout=Duration(10)))
    await node.send()
    await trio.sleep(1)
    node.policy.handlers.update(path(idle_timeout=Duration(20)))
    for _ in range(150):
        await trio.sleep(0.5)
        await node.send()
    assert node.queues.ready[SITE].path.idle_timeout == Duration(20)
    assert node.policy.count("get_egress_path_config") == 2


async def test_a_path_is_refreshed_before_the_first_message_after_a_pause(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, path(max_ready=10))
    await node.send()
    await trio.sleep(300)
    assert node.policy.count("get_egress_path_config") == 1
    node.policy.handlers.update(path(max_ready=20))
    await node.send()
    assert node.queues.ready[SITE].path.max_ready == 20
    await trio.sleep(1)
    assert len(sender.sent) == 2


async def test_requeue_all_empties_the_ready_queue(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node = await start_node(nursery)

    async def never(ready: ReadyQueue) -> None:
        await trio.sleep_forever()

    node.queues.dispatchers["smtp_client"] = never
    messages = [await node.send() for _ in range(3)]
    await node.queues.ready[SITE].requeue_all(
        Response(451, None, "throttled"), InsertReason.MESSAGE_RATE_THROTTLE, delay=30.0, count_attempt=False
    )
    assert [msg.due - node.wall() for msg in messages] == [pytest.approx(30.0)] * 3
    assert [msg.attempts for msg in messages] == [0] * 3
    assert not node.queues.ready[SITE].messages


async def test_stop_closes_idle_connections_and_waits_for_busy_ones(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery, path(idle_timeout=Duration(60)))
    await node.send("to@b.test")
    await trio.sleep(1)
    sender.duration = 7.0
    await node.send("to@c.test")
    await trio.sleep(1)
    assert sender.open == 2
    before = node.now
    await node.stop()
    assert sender.open == 0
    assert node.now - before == pytest.approx(6.0)
    assert node.log.kinds == ["Delivery"] * 2


async def test_nothing_new_is_tried_after_stop(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node: QueueNode
    node, sender = await start_sender(nursery, path(connection_limit=LimitSpec(1)))
    sender.duration = 5.0
    for _ in range(3):
        await node.send(saved=False)
    await trio.sleep(1)

    async def run(ready: ReadyQueue) -> None:
        raise AssertionError("a new session after stop")

    node.queues.dispatchers["smtp_client"] = run
    node.queues.stop()
    await trio.sleep(20)
    assert sender.open == 1 or node.ended.is_set()
