"""Deferred generation: requests that lie in a queue until their messages are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import QueueNode, Sender, constant, start_node

from kumo_py.core.options import convert
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.core.templates import Templates
from kumo_py.inject import Generator, Injector, InjectRequest, InjectResult, Origin
from kumo_py.queue.config import EgressPath
from kumo_py.queue.enumeration import enumerate_spool
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from trio.testing import MockClock

    from kumo_py.message.message import Message

ORIGIN = Origin(
    {
        "peer_address": "192.0.2.7",
        "identities": [{"identity": "joe", "context": "HttpBasicAuth"}],
        "groups": [],
    },
    "192.0.2.7",
    "192.0.2.1",
    "mx.a.test",
)
QUEUE = "unspecified->generator.kumomta.internal@httpinject"


class InjectingNode:
    """A node with an injector, whose messages a Sender takes."""

    hostname = "mx.a.test"

    def __init__(self, node: QueueNode) -> None:
        self.node = node
        self.policy: Any = node.policy
        self.queues = node.queues
        self.log: Any = node.log
        self.wall = node.wall
        self.templates = Templates(node.wall)
        self.injector = Injector(self)
        self.sender = Sender(node)
        self._ids = SpoolIdSource(b"inject", 0)
        Generator(node.queues, self.injector)

    def new_id(self) -> bytes:
        return self._ids.next(int(self.wall() * 1e9))

    @classmethod
    async def start(cls, nursery: trio.Nursery, *, spools: Any = None, **handlers: Any) -> InjectingNode:
        return cls(await start_node(nursery, handlers, spools=spools))

    async def inject(self, *emails: str, **fields: Any) -> InjectResult:
        table = {
            "envelope_sender": "me@a.test",
            "recipients": [{"email": email} for email in emails],
            "content": "Subject: to {{ email }}\n\nhi",
            "deferred_generation": True,
        }
        return await self.injector.inject(convert(table | fields, InjectRequest, "test"), ORIGIN)


async def test_a_request_is_answered_at_once_and_expanded_later(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    seen: list[tuple[Message, Any]] = []
    node = await InjectingNode.start(nursery, http_message_generated=lambda *args: seen.append(args))
    assert await node.inject("one@b.test", "two@c.test") == InjectResult()
    assert seen == []
    (reception,) = node.log.records
    assert (reception.kind, reception.queue) == ("Reception", "generator.kumomta.internal")
    assert reception.recipients == ("",)
    assert len(node.node.data.stored) == 1
    await trio.sleep(1)
    assert [msg.recipients for msg, _ in seen] == [("one@b.test",), ("two@c.test",)]
    assert seen[0][1] == ORIGIN.auth
    assert {key: value for key, value in seen[0][0].meta.items() if key != "extra"} == {
        "http_auth": "joe",
        "reception_protocol": "HTTP",
        "received_from": "192.0.2.7",
        "received_via": "192.0.2.1",
        "hostname": "mx.a.test",
    }
    assert len(node.sender.sent) == 2
    assert sorted(node.log.kinds) == ["Delivery"] * 3 + ["Reception"] * 3
    (done,) = [record for record in node.log.of("Delivery") if record.site == QUEUE]
    assert (done.code, done.content, done.context.delivery_protocol) == (250, "ok", "HttpInjectionGenerator")
    assert not node.node.data.stored
    assert not node.node.meta.stored


async def test_the_policy_configures_the_path_only(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    path = constant(EgressPath(max_ready=7))
    node = await InjectingNode.start(nursery, get_queue_config=constant(None), get_egress_path_config=path)
    await node.inject("one@b.test")
    asked = [args for args in node.policy.asked if "generator.kumomta.internal" in args]
    assert asked == [
        ("get_egress_path_config", "generator.kumomta.internal", "unspecified", "generator.kumomta.internal")
    ]
    assert node.queues.ready[QUEUE].path.max_ready == 7


async def test_a_request_survives_a_restart(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    old = InjectingNode(QueueNode({}))
    old.queues.stopping = True
    await old.inject("one@b.test")
    assert len(old.node.data.stored) == 1
    node = await InjectingNode.start(nursery, spools=(old.node.data, old.node.meta))
    await enumerate_spool(node.queues, node.queues.spool.reconcile())
    await trio.sleep(1)
    assert len(node.sender.sent) == 1
    assert not node.node.data.stored


async def test_a_recipient_for_whom_nothing_can_be_made_bounces(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def choose(msg: Message, auth: object) -> None:
        if msg.recipients[0].startswith("no"):
            raise Rejection(552, "not you")

    node = await InjectingNode.start(nursery, http_message_generated=choose)
    await node.inject("one@b.test", "no@b.test", "odd")
    await trio.sleep(1)
    bounces = [(record.recipients, record.code, record.site) for record in node.log.of("Bounce")]
    assert bounces == [(("no@b.test",), 552, QUEUE), (("odd",), 550, QUEUE)]
    assert len(node.sender.sent) == 1
    assert not node.node.data.stored


@pytest.mark.parametrize(
    "error", [PolicyError("http_message_generated: policy.lua:3: oops"), SpoolError("cannot write")]
)
async def test_what_fails_for_now_is_tried_again_for_those_that_are_left(
    autojump_clock: MockClock, nursery: trio.Nursery, error: Exception
) -> None:
    failing = [error]

    def choose(msg: Message, auth: object) -> None:
        if msg.recipients[0] == "two@b.test" and failing:
            raise failing.pop()

    node = await InjectingNode.start(nursery, http_message_generated=choose)
    await node.inject("one@b.test", "two@b.test", "three@b.test")
    await trio.sleep(1)
    (failure,) = node.log.of("TransientFailure")
    assert (failure.code, failure.content) == (451, f"1 recipients are left: {error}")
    assert len(node.sender.sent) == 2
    assert len(node.node.data.stored) == 1
    await trio.sleep(20)
    assert len(node.sender.sent) == 3
    assert node.policy.count("http_message_generated") == 4
    assert not node.node.data.stored


async def test_deferred_spool_saves_neither_request_nor_messages(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = await InjectingNode.start(nursery)
    await node.inject("one@b.test", deferred_spool=True)
    assert not node.node.data.stored
    await trio.sleep(1)
    assert len(node.sender.sent) == 1
    assert node.node.data.stores == 0


async def test_content_that_is_no_request_bounces(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node = await InjectingNode.start(nursery)
    msg = node.node.make_message(meta={"queue": "generator.kumomta.internal"}, data=b"{}")
    await node.node.put(msg)
    await trio.sleep(1)
    (bounce,) = node.log.records
    assert (bounce.kind, bounce.code) == ("Bounce", 500)
    assert "envelope_sender" in bounce.content
