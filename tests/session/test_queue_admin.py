"""An operator suspends and bounces queues: what happens to the messages in them, and to those that come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import WALL, QueueNode, constant, start_sender
from trio.testing import wait_all_tasks_blocked

from kumo_py.core.options import OptionError, convert
from kumo_py.limits.spec import LimitSpec
from kumo_py.queue.admin import BounceRequest, SuspendReadyRequest, SuspendRequest
from kumo_py.queue.config import EgressPath, EgressPool, EgressSource, PoolEntry, QueueConfig

if TYPE_CHECKING:
    from trio.testing import MockClock

SITE = "unspecified->mx.b.test@smtp_client"
_ONE = LimitSpec(1)
SUSPENDED = "KumoMTA internal: scheduled queue is suspended: "


def suspend(node: QueueNode, **criteria: Any) -> str:
    return node.queues.admin.suspend(convert({"reason": "maintenance", **criteria}, SuspendRequest, "test"))


def suspend_ready(node: QueueNode, name: str = SITE, **options: Any) -> str:
    request = convert({"name": name, "reason": "blocked", **options}, SuspendReadyRequest, "test")
    return node.queues.admin.suspend_ready(request)


async def bounce(node: QueueNode, *, delayed: bool = False, **criteria: Any) -> str:
    rule = node.queues.admin.bounce(convert({"reason": "bad send", **criteria}, BounceRequest, "test"))
    if delayed:
        await node.queues.sweep.delayed(rule)
    return rule.id


# -- scheduled queues ------------------------------------------------------------------------------------
async def test_a_suspended_queue_counts_attempts_and_goes_on_by_its_schedule(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    suspend(node, domain="b.test", duration="25m")
    msg = await node.send()
    assert node.log.brief == [("TransientFailure", 451)]
    (record,) = node.log.records
    assert record.content == f"{SUSPENDED}maintenance"
    assert (record.site, record.response.enhanced) == ("b.test", (4, 4, 4))
    assert msg.attempts == 1
    await node.log.reach(3)  # once more while suspended, then sent
    assert node.log.kinds == ["TransientFailure", "TransientFailure", "Delivery"]
    assert 19 * 60 < node.log.records[1].at < 21 * 60
    assert sender.times[0] > 58 * 60


@pytest.mark.parametrize(
    ("criteria", "held"),
    [
        ({}, {"b.test", "t@b.test", "c:t@b.test", "c:t@b.test!c.test", "c.test"}),
        ({"domain": "b.test"}, {"b.test", "t@b.test", "c:t@b.test", "c:t@b.test!c.test"}),
        ({"tenant": "t"}, {"t@b.test", "c:t@b.test", "c:t@b.test!c.test"}),
        ({"domain": "c.test", "tenant": "t"}, set()),
        ({"campaign": "c", "domain": "b.test", "tenant": "t"}, {"c:t@b.test", "c:t@b.test!c.test"}),
        ({"routing_domain": "c.test"}, {"c:t@b.test!c.test"}),
        ({"queue_names": ["t@b.test", "c.test"], "domain": "x"}, {"t@b.test", "c.test"}),
    ],
)
async def test_criteria(
    autojump_clock: MockClock, nursery: trio.Nursery, criteria: dict[str, Any], held: set[str]
) -> None:
    node, _ = await start_sender(nursery)
    suspend(node, **criteria)
    for name in ("b.test", "t@b.test", "c:t@b.test", "c:t@b.test!c.test", "c.test"):
        await node.send(meta={"queue": name})
    await node.log.reach(5)
    assert {record.queue for record in node.log.of("TransientFailure")} == held


async def test_a_suspension_ends_with_its_id(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _ = await start_sender(nursery)
    id = suspend(node, domain="b.test")
    rules = node.queues.admin
    assert rules.suspensions.remove(id)
    assert not rules.suspensions.remove(id)
    await node.send()
    await node.log.reach(1)
    assert node.log.kinds == ["Delivery"]
    assert not rules


async def test_a_new_rule_for_the_same_queues_replaces_the_old_one(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _ = await start_sender(nursery)
    old = suspend(node, domain="b.test", reason="first")
    new = suspend(node, domain="b.test", reason="second", duration="1h")
    suspend(node, domain="b.test", tenant="t")
    await trio.sleep(30)
    first, second = node.queues.admin.list_suspensions()
    assert (first["id"], first["reason"], first["duration"]) == (new, "second", "59m 30s")
    assert (second["tenant"], second["duration"]) == ("t", "4m 30s")
    assert old != new
    await trio.sleep(300)
    assert [entry["id"] for entry in node.queues.admin.list_suspensions()] == [new]


async def test_what_lies_in_a_ready_queue_is_met_by_a_new_suspension(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(
        nursery, {"get_egress_path_config": constant(EgressPath(connection_limit=_ONE))}
    )
    sender.duration = 5.0
    first = await node.send()
    waits = [await node.send(meta={"tenant": tenant}) for tenant in ("a", "b", "a")]
    await trio.sleep(1.0)
    waits[0].shrink_meta()
    suspend(node, tenant="a")
    await wait_all_tasks_blocked()
    assert [(record.id, record.site) for record in node.log.of("TransientFailure")] == [
        (waits[0].id, SITE),
        (waits[2].id, SITE),
    ]
    await node.log.reach(4)
    assert sender.ids[:2] == [first.id, waits[1].id]


async def test_a_message_that_a_dispatcher_gives_back_is_met_by_the_rules(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)

    async def give_back(ready: Any, msg: Any) -> None:
        suspend(node)
        ready.put_back(msg)

    sender.outcome = give_back
    msg = await node.send()
    await node.log.reach(1)
    assert [(record.kind, record.id) for record in node.log.records] == [("TransientFailure", msg.id)]


# -- ready queues ----------------------------------------------------------------------------------------
async def test_a_suspended_ready_queue_gives_its_messages_back(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(
        nursery, {"get_egress_path_config": constant(EgressPath(connection_limit=_ONE))}
    )
    sender.duration = 1.0
    for _ in range(3):
        await node.send()
    await trio.sleep(0.5)
    suspend_ready(node)
    await wait_all_tasks_blocked()
    problem = (
        "KumoMTA internal: no sources for b.test pool=`unspecified` are eligible for selection at this time"
    )
    assert [(record.kind, record.content, record.attempts) for record in node.log.records] == [
        ("TransientFailure", problem, 0),
        ("TransientFailure", problem, 0),
    ]
    await node.log.reach(5)
    assert len(sender.sent) == 3
    assert sender.closed[0] < 1.5  # the session ended with the message in hand, not after its idle time
    assert sender.times[1] > 19 * 60


async def test_other_sources_take_over(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pool = EgressPool(name="p", entries=[PoolEntry(name="one"), PoolEntry(name="two")])
    node, sender = await start_sender(
        nursery,
        {
            "get_queue_config": constant(QueueConfig(egress_pool="p")),
            "get_egress_pool": constant(pool),
            "get_egress_source": lambda name: EgressSource(name=name),
        },
    )
    suspend_ready(node, "one->mx.b.test@smtp_client", duration="1m")
    for _ in range(4):
        await node.send()
    await node.log.reach(4)
    assert set(sender.sources) == {"two"}
    await trio.sleep(61)
    for _ in range(4):
        await node.send()
    await node.log.reach(8)
    assert "one" in sender.sources


async def test_ready_suspensions_are_listed_and_end(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _ = await start_sender(nursery)
    rules = node.queues.admin
    suspend_ready(node, "other", duration=1)
    id = suspend_ready(node, expires="2025-11-21T23:34:20.5Z")
    assert node.wall() == WALL
    await trio.sleep(2)
    assert rules.list_ready_suspensions() == [
        {
            "id": id,
            "name": SITE,
            "reason": "blocked",
            "duration": "58s 500ms",
            "expires": "2025-11-21T23:34:20.500000Z",
        }
    ]
    assert rules.end_ready_suspension(id)
    assert not rules.end_ready_suspension(id)
    await node.send()
    await node.log.reach(1)
    assert node.log.kinds == ["Delivery"]


# -- bounces ---------------------------------------------------------------------------------------------
async def test_messages_that_come_while_a_bounce_lives(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _ = await start_sender(nursery)
    id = await bounce(node, domain="b.test", duration="1m")
    gone = await node.send()
    spared = await node.send("to@c.test")
    await node.log.reach(2)
    record = node.log.of("AdminBounce")[0]
    assert (record.id, record.code, record.response.enhanced) == (gone.id, 551, (5, 7, 1))
    assert (record.content, record.site) == ("Administrator bounced with reason: bad send", "localhost")
    assert not node.in_spool(gone)
    assert node.log.of("Delivery")[0].id == spared.id
    (entry,) = node.queues.admin.list_bounces()
    assert (entry["id"], entry["bounced"], entry["total_bounced"]) == (id, {"b.test": 1}, 1)
    await trio.sleep(61)
    await node.send()
    await node.log.reach(3)
    assert node.log.kinds[2] == "Delivery"


async def test_messages_that_wait_bounce_when_they_are_due(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome = sender.defer
    msg = await node.send()
    await node.log.reach(1)
    await bounce(node, duration="1h")
    assert node.in_spool(msg)
    await node.log.reach(2)
    assert node.log.kinds == ["TransientFailure", "AdminBounce"]
    assert node.log.records[1].at > 19 * 60
    assert not node.in_spool(msg)


async def test_messages_that_wait_can_be_bounced_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender = await start_sender(nursery)
    sender.outcome = sender.defer
    waiting = [await node.send(f"u{n}@{'bc'[n % 2]}.test") for n in range(200)]
    await node.log.reach(200)
    await bounce(node, delayed=True, domain="b.test", duration=1)
    bounced = {record.id for record in node.log.of("AdminBounce")}
    assert bounced == {msg.id for msg in waiting[::2]}
    assert [node.in_spool(msg) for msg in waiting[:2]] == [False, True]
    assert node.queues.scheduled["b.test"].delayed == 0
    await node.log.reach(400)
    assert {record.queue for record in node.log.records[300:]} == {"c.test"}


async def test_messages_in_a_ready_queue_bounce(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(
        nursery, {"get_egress_path_config": constant(EgressPath(connection_limit=_ONE))}
    )
    sender.duration = 5.0
    first, second = await node.send(), await node.send()
    await trio.sleep(1.0)
    await bounce(node)
    await node.log.reach(2)
    assert [(record.kind, record.id) for record in node.log.records] == [
        ("AdminBounce", second.id),
        ("Delivery", first.id),
    ]
    assert sender.ids == [first.id]


async def test_a_bounce_without_records(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _ = await start_sender(nursery)
    await bounce(node, suppress_logging=True)
    msg = await node.send()
    assert not node.in_spool(msg)
    assert node.log.records == []
    assert node.queues.admin.list_bounces()[0]["total_bounced"] == 1


async def test_a_rule_that_comes_while_a_message_is_placed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def slow_path(*_: object) -> EgressPath:
        await trio.sleep(1.0)
        return EgressPath(connection_limit=_ONE)

    node, sender = await start_sender(nursery, {"get_egress_path_config": slow_path})
    sender.duration = 1.0
    nursery.start_soon(node.send)
    nursery.start_soon(node.send)
    await trio.sleep(0.5)
    await bounce(node)
    await trio.sleep(3.0)
    assert "AdminBounce" in node.log.kinds
    assert len(node.log.records) == 2


# -- requests --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"domain": "x"}, "option 'reason' is required"),
        ({"reason": "x", "domian": "x"}, r"unknown option 'domian' \(did you mean 'domain'\?\)"),
        ({"reason": "x", "expires": "tomorrow"}, "'tomorrow' is not a time: write a date, time and zone"),
        ({"reason": "x", "expires": "2026-01-01T00:00:00"}, "is not a time"),
        ({"reason": "x", "duration": "soon"}, "'soon' is not a duration"),
    ],
)
def test_wrong_requests(request_: dict[str, object], problem: str) -> None:
    with pytest.raises(OptionError, match=problem):
        convert(request_, SuspendRequest, "test")


async def test_a_rule_whose_time_is_past_does_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _ = await start_sender(nursery)
    suspend(node, expires="2020-01-01T00:00:00.123456789Z")
    await node.send()
    await node.log.reach(1)
    assert node.log.kinds == ["Delivery"]
    assert node.queues.admin.list_suspensions() == []
