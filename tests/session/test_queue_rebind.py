"""Rebinding: messages that wait move to other queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import constant, start_sender

from kumo_py.core.duration import Duration
from kumo_py.core.options import OptionError, convert
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.queue.admin import RebindRequest
from kumo_py.queue.config import QueueConfig
from kumo_py.queue.rebind import rebind
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from queue_harness import Handlers, QueueNode, Sender
    from trio.testing import MockClock

    from kumo_py.message.message import Message


def request(**options: Any) -> RebindRequest:
    return convert({"reason": "moved", "data": {}, **options}, RebindRequest, "rebind")


async def waiting(
    nursery: trio.Nursery, handlers: Handlers | None = None, **meta: object
) -> tuple[QueueNode, Sender, Message]:
    """A message for b.test whose first attempt has failed at the start."""
    node, sender = await start_sender(nursery, handlers)
    sender.outcome = sender.defer
    msg = await node.send(meta=meta)
    await node.log.reach(1)
    await trio.sleep(60)
    sender.outcome = sender.deliver
    return node, sender, msg


async def test_a_message_that_changes_its_queue_goes_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender, msg = await waiting(nursery)
    assert await rebind(node.queues, request(data={"routing_domain": "c.test"}, reason="via c")) == 1
    await node.log.reach(3)
    moved, delivered = node.log.records[1:]
    assert (moved.kind, moved.code, moved.queue) == ("AdminRebind", 250, "b.test!c.test")
    assert moved.content == "Rebound from b.test to b.test!c.test: via c"
    assert (moved.site, moved.attempts) == ("", 1)
    assert delivered.kind == "Delivery"
    assert sender.sent[1].queue == "unspecified->mx.c.test@smtp_client"
    assert 60 <= sender.sent[1].at < 62
    assert not node.in_spool(msg)
    assert node.queues.scheduled["b.test"].delayed == 0


async def test_one_that_stays_keeps_its_time_and_the_change(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, sender, msg = await waiting(nursery)
    assert await rebind(node.queues, request(data={"note": "seen"})) == 0
    assert not msg.meta_loaded  # it has left memory again
    await node.spool.load_meta(msg)
    assert msg.get_meta("note") == "seen"
    await node.log.reach(2)
    assert node.log.kinds == ["TransientFailure", "Delivery"]
    assert 19 * 60 < sender.times[1] < 21 * 60


async def test_always_flush(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender, msg = await waiting(nursery)
    assert await rebind(node.queues, request(always_flush=True)) == 0
    await node.log.reach(2)
    assert node.log.kinds == ["TransientFailure", "Delivery"]  # no AdminRebind: it is where it was
    assert sender.times[1] < 62
    assert msg.attempts == 1


async def test_without_records(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, _ = await waiting(nursery)
    await rebind(node.queues, request(data={"routing_domain": "c.test"}, suppress_logging=True))
    await node.log.reach(2)
    assert node.log.kinds == ["TransientFailure", "Delivery"]


@pytest.mark.parametrize(
    ("criteria", "matches"),
    [
        ({}, True),
        ({"domain": "b.test"}, True),
        ({"domain": "c.test"}, False),
        ({"tenant": "t"}, True),
        ({"tenant": "t", "campaign": "c", "domain": "b.test"}, True),
        ({"tenant": "t", "campaign": "x"}, False),
        ({"routing_domain": "b.test"}, False),
    ],
)
async def test_criteria(
    autojump_clock: MockClock, nursery: trio.Nursery, criteria: dict[str, str], matches: bool
) -> None:
    node, _, _ = await waiting(nursery, tenant="t", campaign="c")
    assert await rebind(node.queues, request(data={"queue": "c.test"}, **criteria)) == matches


async def test_into_null_it_disappears(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, msg = await waiting(nursery)
    assert await rebind(node.queues, request(data={"queue": "null"})) == 1
    assert node.log.kinds == ["TransientFailure", "AdminRebind"]
    assert not node.in_spool(msg)
    assert not node.queues.in_hand


async def test_past_its_lifetime_it_expires(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    def config(domain: str, *_: object) -> QueueConfig:
        return QueueConfig(max_age=Duration(30)) if domain == "c.test" else QueueConfig()

    node, _, msg = await waiting(nursery, {"get_queue_config": config})
    await rebind(node.queues, request(data={"queue": "c.test"}))
    assert node.log.kinds == ["TransientFailure", "AdminRebind", "Expiration"]
    assert not node.in_spool(msg)


# -- the event -------------------------------------------------------------------------------------------------
async def test_the_event_decides(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    def handle(msg: Message, data: dict[str, str]) -> None:
        msg.set_meta("queue", data["to"])

    node, sender, _ = await waiting(nursery, {"rebind_message": handle})
    await rebind(node.queues, request(data={"to": "c.test"}, trigger_rebind_event=True))
    await node.log.reach(3)
    assert node.log.kinds == ["TransientFailure", "AdminRebind", "Delivery"]
    assert sender.sent[1].queue.startswith("unspecified->mx.c.test")


@pytest.mark.parametrize("error", [PolicyError("policy.lua:3: oops"), Rejection(550, "no")])
async def test_an_event_that_fails_leaves_the_message_where_it_is(
    autojump_clock: MockClock, nursery: trio.Nursery, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    node, _, msg = await waiting(nursery, {"rebind_message": fail})
    assert await rebind(node.queues, request(trigger_rebind_event=True)) == 0
    assert node.log.kinds == ["TransientFailure"]
    assert node.in_spool(msg)
    assert node.queues.scheduled["b.test"].delayed == 1


async def test_the_event_must_have_a_handler(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, _ = await waiting(nursery)
    with pytest.raises(PolicyError, match="no handler for 'rebind_message'"):
        await rebind(node.queues, request(trigger_rebind_event=True))


# -- what goes wrong -------------------------------------------------------------------------------------------
async def test_a_queue_that_cannot_be_set_up_is_not_moved_to(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def config(domain: str, *_: object) -> QueueConfig:
        if domain == "c.test":
            raise PolicyError("policy.lua:7: no such table")
        return QueueConfig()

    node, sender, msg = await waiting(nursery, {"get_queue_config": config})
    assert await rebind(node.queues, request(data={"routing_domain": "x", "queue": "c.test"})) == 0
    assert node.in_spool(msg)
    assert node.log.kinds == ["TransientFailure"]
    assert len(sender.sent) == 1


async def test_a_message_that_cannot_be_read_waits(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _, msg = await waiting(nursery)
    node.meta.unreadable = SpoolError("cannot read: Input/output error", 5)
    assert await rebind(node.queues, request(data={"queue": "c.test"})) == 0
    node.meta.unreadable = None
    await node.log.reach(2)  # within a minute, by its old queue
    assert node.log.kinds == ["TransientFailure", "Delivery"]
    assert not node.in_spool(msg)


async def test_what_is_in_a_ready_queue_stays(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_sender(nursery, {"get_queue_config": constant(QueueConfig())})
    sender.duration = 10.0
    await node.send()
    await trio.sleep(1)
    assert await rebind(node.queues, request(data={"queue": "c.test"})) == 0


def test_data_is_text() -> None:
    with pytest.raises(OptionError, match="data"):
        request(data={"a": 1})
    with pytest.raises(OptionError, match="option 'reason' is required"):
        convert({"data": {}}, RebindRequest, "rebind")
