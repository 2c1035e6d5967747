"""kumo.make_message and kumo.inject_message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fake_node import FakeNode

from kumo_py.core.policy import PolicyError
from kumo_py.core.spool_id import created

if TYPE_CHECKING:
    from policy_host import MakePolicy, RecordingHost

MAKE = "local m = kumo.make_message('me@a.test', 'you@b.test', 'Subject: x\\r\\n\\r\\nhi\\r\\n')\n"


@pytest.fixture
def node(host: RecordingHost) -> FakeNode:
    host.node = FakeNode()
    return host.node


async def run(policy: MakePolicy, body: str) -> None:
    lua = policy(f"kumo.on('main', function()\n{body}\nend)")
    await lua.load()
    await lua.ask("main")


async def test_a_message_is_made_and_injected(
    policy: MakePolicy, host: RecordingHost, node: FakeNode
) -> None:
    await run(
        policy,
        MAKE
        + """
        assert(m:sender().email == 'me@a.test' and m:recipient().domain == 'b.test')
        assert(m:get_data() == 'Subject: x\\r\\n\\r\\nhi\\r\\n' and m:get_meta('queue') == nil)
        m:set_meta('tenant', 'acme')
        kumo.inject_message(m)
        """,
    )
    ((queue, msg),) = node.queues.inserted
    assert queue == "acme@b.test"
    assert node.queues.in_spool(msg)
    assert created(msg.id) == pytest.approx(host.wall(), abs=5)
    assert node.log.records == []


async def test_ids_differ_and_the_null_sender_is_fine(policy: MakePolicy, node: FakeNode) -> None:
    await run(
        policy, "for i = 1, 3 do kumo.inject_message(kumo.make_message('', 'u@b.test', 'X: y\\r\\n')) end"
    )
    messages = [msg for _, msg in node.queues.inserted]
    assert len({msg.id for msg in messages}) == 3
    assert {msg.sender for msg in messages} == {""}


async def test_deferred_spool_saves_nothing_yet(policy: MakePolicy, node: FakeNode) -> None:
    await run(policy, MAKE + "kumo.inject_message(m, true)")
    ((_, msg),) = node.queues.inserted
    assert not node.queues.in_spool(msg)
    await run(policy, MAKE + "kumo.inject_message(m, false)")
    assert node.queues.in_spool(node.queues.inserted[1][1])


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("broken", "kumo.inject_message: get_queue_config: policy.lua:7: nothing known of b.test"),
        ("full", "kumo.inject_message: b.test takes nothing"),
        ("sick", "kumo.inject_message: cannot write to spool 'data': No space left on device"),
    ],
)
async def test_what_cannot_be_injected_leaves_nothing(
    policy: MakePolicy, node: FakeNode, fault: str, error: str
) -> None:
    node.queues.broken = {"b.test"} if fault == "broken" else set()
    node.queues.full = {"b.test"} if fault == "full" else set()
    node.queues.data.failing = fault == "sick"
    with pytest.raises(PolicyError) as caught:
        await run(policy, MAKE + "kumo.inject_message(m)")
    assert f"policy.lua:4: {error}" in str(caught.value)
    assert node.queues.inserted == []
    assert node.queues.data.stored == node.queues.meta.stored == {}
    # The policy may go on.
    await run(
        policy, MAKE + "local ok, err = pcall(kumo.inject_message, m); assert(not ok and #tostring(err) > 20)"
    )


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("kumo.make_message('a b', 'you@b.test', '')", "argument 'sender' must be an address: 'a b' is not"),
        (
            "kumo.make_message('me@a.test', nil, '')",
            "argument 'recipient' must be an address or a string, got nil",
        ),
        ("kumo.make_message('me@a.test', 'you@b.test')", "argument 'body' must be a string, got nil"),
        ("kumo.inject_message('x')", "argument 'msg' must be a message, got string 'x'"),
    ],
)
async def test_arguments_are_checked(policy: MakePolicy, node: FakeNode, call: str, error: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, call)
    assert "policy.lua:3: kumo." in str(caught.value)
    assert error in str(caught.value)


async def test_without_a_node_there_are_no_queues(policy: MakePolicy) -> None:
    with pytest.raises(PolicyError, match=r"policy.lua:4: kumo.inject_message: there are no queues yet"):
        await run(policy, MAKE + "kumo.inject_message(m)")
