"""The queue of listeners with `deferred_queue`: what becomes of its messages, and when they are tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import MemorySpool, Sender, constant, start_node

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.limits.spec import LimitSpec, ThrottleSpec
from kumo_py.queue.config import EgressPath
from kumo_py.queue.deferred_injection import DEFERRED_QUEUE, DeferredInjection
from kumo_py.queue.enumeration import enumerate_spool
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from queue_harness import QueueNode
    from trio.testing import MockClock

    from kumo_py.message.connection import ConnectionMeta
    from kumo_py.message.message import Message

EVENT = "smtp_server_message_deferred_inject"
SITE = f"unspecified->{DEFERRED_QUEUE}@defersmtpinject"


async def start(
    nursery: trio.Nursery,
    handler: Callable[..., Any] | None = None,
    *,
    spools: tuple[MemorySpool, MemorySpool] | None = None,
    **handlers: Callable[..., Any],
) -> tuple[QueueNode, Sender]:
    events = {**handlers, EVENT: handler or constant(None)}
    node = await start_node(nursery, events, spools=spools)
    DeferredInjection(node.queues)
    return node, Sender(node)


async def receive(node: QueueNode, meta: dict[str, object] | None = None, **options: Any) -> Message:
    """As a listener does."""
    msg = await node.send(meta={"queue": DEFERRED_QUEUE} | (meta or {}), **options)
    await trio.sleep(0.1)
    return msg


async def test_the_handler_decides_where_a_message_goes(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    seen = []

    def handle(msg: Message, connection: ConnectionMeta) -> None:
        seen.append((msg.get_meta("queue"), connection.get("queue"), connection.get("kept")))
        connection.values["lost"] = 1
        msg.set_meta("tenant", "acme")
        msg.prepend(b"X-Signed: yes\r\n")

    node, sender = await start(nursery, handle)
    msg = await receive(node, {"kept": "a"})
    assert seen == [(None, None, "a")]
    assert [sent.queue for sent in sender.sent] == ["unspecified->mx.b.test@smtp_client"]
    assert [(r.kind, r.code, r.content, r.queue) for r in node.log.records] == [
        ("DeferredInjectionRebind", 250, "ok", "acme@b.test"),
        ("Delivery", 250, "ok", "acme@b.test"),
    ]
    first = node.log.records[0]
    assert (first.site, first.context.delivery_protocol) == (SITE, "DeferredSmtpInjection")
    assert msg.data.startswith(b"X-Signed: yes\r\nSubject")
    assert "lost" not in msg.meta
    assert not node.in_spool(msg)
    # Of its own queue the policy is not asked, of its path it is.
    assert ("get_egress_path_config", DEFERRED_QUEUE, "unspecified", DEFERRED_QUEUE) in node.policy.asked
    assert [asked[1] for asked in node.policy.asked if asked[0] == "get_queue_config"] == ["b.test"]


@pytest.mark.parametrize(
    ("meta", "auth_info"),
    [
        ({}, {"peer_address": None, "identities": [], "groups": []}),
        (
            {"received_from": "[2001:db8::1]:25", "authn_id": "me", "authz_id": "her"},
            {
                "peer_address": "2001:db8::1",
                "identities": [
                    {"identity": "me", "context": "SmtpAuthPlainAuthentication"},
                    {"identity": "her", "context": "SmtpAuthPlainAuthorization"},
                ],
                "groups": [],
            },
        ),
        (
            {"received_from": "192.0.2.1:4567", "authn_id": 7},
            {"peer_address": "192.0.2.1", "identities": [], "groups": []},
        ),
        ({"received_from": ["odd"]}, {"peer_address": None, "identities": [], "groups": []}),
        ({"received_from": "nowhere:25"}, {"peer_address": None, "identities": [], "groups": []}),
    ],
)
async def test_the_connection_is_made_of_the_metadata(
    autojump_clock: MockClock, nursery: trio.Nursery, meta: dict[str, object], auth_info: dict[str, object]
) -> None:
    seen = []
    node, _ = await start(nursery, lambda msg, connection: seen.append(connection.auth_info()))
    await receive(node, meta)
    assert seen == [auth_info]


@pytest.mark.parametrize("code", [500, 550, 599])
async def test_a_rejection_bounces(autojump_clock: MockClock, nursery: trio.Nursery, code: int) -> None:
    node, sender = await start(nursery, failing(Rejection(code, "never")))
    msg = await receive(node)
    assert [(r.kind, r.code, r.content, r.queue) for r in node.log.records] == [
        ("Bounce", code, "never", DEFERRED_QUEUE)
    ]
    assert not node.in_spool(msg)
    await trio.sleep(3600)
    assert sender.sent == []


def failing(*errors: Exception) -> Callable[..., None]:
    """A handler that fails so many times."""
    left = list(errors)

    def handle(*_: object) -> None:
        if left:
            raise left.pop(0)

    return handle


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (Rejection(451, "later"), 451, "later"),
        (Rejection(421, "bye"), 421, "bye"),
        (Rejection(399, "odd"), 399, "odd"),
        (PolicyError("policy.lua:3: oops"), 450, "policy.lua:3: oops"),
    ],
)
async def test_anything_else_is_tried_again_after_a_minute(
    autojump_clock: MockClock, nursery: trio.Nursery, error: Exception, code: int, text: str
) -> None:
    node, sender = await start(nursery, failing(error, error))
    await receive(node)
    (failure,) = node.log.records
    assert (failure.kind, failure.code, failure.content) == ("TransientFailure", code, text)
    assert failure.queue == DEFERRED_QUEUE
    await node.log.reach(4)
    assert node.log.kinds == ["TransientFailure", "TransientFailure", "DeferredInjectionRebind", "Delivery"]
    times = [record.at for record in node.log.records]
    assert times[1] == pytest.approx(60, abs=2)
    assert times[2] - times[1] == pytest.approx(120, abs=2)
    assert len(sender.sent) == 1


async def test_what_cannot_find_its_queue_is_tried_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The event too, as it may be what was wrong."""
    configure = failing(PolicyError("no such table"), Rejection(550, "not this one"))
    names: list[object] = [7, DEFERRED_QUEUE, None, None, None]

    node, _ = await start(
        nursery,
        lambda msg, connection: msg.set_meta("queue", names.pop(0)),
        get_queue_config=configure,
    )
    await receive(node)
    await node.log.reach(6)
    failures = node.log.of("TransientFailure")
    assert [failure.code for failure in failures] == [450] * 4
    assert failures[0].content == "metadata 'queue' must be a string, got int 7"
    assert f"left the message in {DEFERRED_QUEUE}" in failures[1].content
    assert [failure.content for failure in failures[2:]] == ["no such table", "550 not this one"]
    assert node.log.kinds[4:] == ["DeferredInjectionRebind", "Delivery"]
    assert names == []


async def test_without_a_handler_a_message_goes_on(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node = await start_node(nursery)
    DeferredInjection(node.queues)
    Sender(node)
    await receive(node)
    assert node.log.kinds == ["DeferredInjectionRebind", "Delivery"]


async def test_a_message_may_be_dropped(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start(nursery, lambda msg, _: msg.set_meta("queue", "null"))
    msg = await receive(node)
    assert node.log.kinds == ["DeferredInjectionRebind"]
    assert not node.in_spool(msg)
    assert sender.sent == []


async def test_a_message_that_the_handler_shrank_goes_on(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def handle(msg: Message, _: object) -> None:
        msg.set_meta("tenant", "acme")
        await node.spool.save(msg)
        msg.shrink_data()
        msg.shrink_meta()

    node, _ = await start(nursery, handle)
    await receive(node)
    assert node.log.records[0].queue == "acme@b.test"


@pytest.mark.parametrize("gone", [True, False])
async def test_what_the_spool_does_not_give_back(
    autojump_clock: MockClock, nursery: trio.Nursery, gone: bool
) -> None:
    node, _ = await start(nursery)
    msg = node.make_message(meta={"queue": DEFERRED_QUEUE})
    await node.spool.save(msg)
    msg.shrink_data()
    if gone:
        node.data.stored.clear()
    else:
        node.data.unreadable = SpoolError("sick")
    await node.put(msg)
    await trio.sleep(0.1)
    assert node.policy.count(EVENT) == 0
    node.data.unreadable = None
    if gone:
        assert node.log.kinds == ["Bounce"]
    else:
        await node.log.reach(3)
        assert node.log.kinds == ["TransientFailure", "DeferredInjectionRebind", "Delivery"]


async def test_a_node_that_stops_leaves_the_event_for_the_next(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Whether the message waits, is in the handler, or waits for the path's rate."""
    spools = MemorySpool("data"), MemorySpool("meta")
    async with trio.open_nursery() as first_life:

        async def hang(msg: Message, _: object) -> None:
            msg.set_meta("half", "done")
            await trio.sleep_forever()

        path = EgressPath(connection_limit=LimitSpec(2), max_message_rate=ThrottleSpec(1, 2))
        node, _ = await start(first_life, hang, spools=spools, get_egress_path_config=constant(path))
        found = {(await node.send(meta={"queue": DEFERRED_QUEUE, "n": n})).id for n in range(40)}
        await trio.sleep(1)
        assert node.policy.count(EVENT) == 1
        (ready,) = node.queues.ready.values()
        assert (ready.connections, len(ready.messages)) == (2, 38)
        node.queues.stop()
        await trio.sleep(1)
        first_life.cancel_scope.cancel()
    assert node.log.records == []
    node, _ = await start(nursery, spools=spools)
    await enumerate_spool(node.queues, node.spool.reconcile())
    await trio.sleep(1)
    assert {asked[1].id for asked in node.policy.asked if asked[0] == EVENT} == found
    assert {record.id for record in node.log.of("Delivery")} == found
    assert not spools[0].stored
    assert not spools[1].stored


async def test_what_waits_in_its_own_queue_is_not_asked_about_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Of what a dispatcher has in its hands when a node is cut off, the spool has what was received."""
    spools = MemorySpool("data"), MemorySpool("meta")
    async with trio.open_nursery() as first_life:
        node, sender = await start(first_life, lambda msg, _: msg.set_meta("tenant", "acme"), spools=spools)
        sender.duration = 60.0
        in_hand, waiting = await receive(node), await receive(node)
        node.queues.stop()
        first_life.cancel_scope.cancel()
    assert node.log.kinds == ["DeferredInjectionRebind"] * 2
    node, _ = await start(nursery, spools=spools)
    await enumerate_spool(node.queues, node.spool.reconcile())
    await trio.sleep(1)
    assert [asked[1].id for asked in node.policy.asked if asked[0] == EVENT] == [in_hand.id]
    delivered = {record.id: record.queue for record in node.log.of("Delivery")}
    assert delivered == {in_hand.id: "b.test", waiting.id: "acme@b.test"}


async def test_the_limits_of_the_path(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    open_now, peak = 0, 0

    async def handle(msg: Message, _: object) -> None:
        nonlocal open_now, peak
        open_now += 1
        peak = max(peak, open_now)
        await trio.sleep(0.1)
        open_now -= 1

    path = EgressPath(
        connection_limit=LimitSpec(2), max_message_rate=ThrottleSpec(3, 1), max_deliveries_per_connection=2
    )
    node, _ = await start(
        nursery, handle, get_egress_path_config=lambda route, *_: path if route == DEFERRED_QUEUE else None
    )
    for _ in range(40):
        await node.send(meta={"queue": DEFERRED_QUEUE})
    await node.log.reach(80)
    assert peak == 2
    assert node.log.kinds.count("DeferredInjectionRebind") == 40
    assert node.now == pytest.approx(37 / 3, abs=1)  # three at once, then three a second


async def test_a_rate_that_is_used_up_sends_the_queue_back(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    path = EgressPath(max_message_rate=ThrottleSpec(1, 60))
    node, _ = await start(
        nursery, get_egress_path_config=lambda route, *_: path if route == DEFERRED_QUEUE else None
    )
    first, second = await receive(node), await receive(node)
    assert [record.id for record in node.log.of("DeferredInjectionRebind")] == [first.id]
    delayed = node.log.of("Delayed")
    assert [(record.id, "MessageRateThrottle" in record.content) for record in delayed] == [(second.id, True)]
    await node.log.reach(5)
    assert second.attempts == 0
    assert node.log.records[-1].id == second.id
