"""kumo.api.inject: requests of a policy, what its event sees, and what becomes of the recipients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from fake_node import FakeNode

from kumo_py.core.policy import PolicyError
from kumo_py.message.arf import supplemental_trace

if TYPE_CHECKING:
    from policy_host import MakePolicy, RecordingHost
    from trio.testing import MockClock

REQUEST = """
local request = {
  envelope_sender = 'me@a.test',
  recipients = { { email = 'one@b.test', name = 'One' }, { email = 'two@c.test', metadata = { k = 'v' } } },
  content = 'Subject: hello {{ name }}\\n\\nhi\\n',
}
"""


@pytest.fixture
def node(host: RecordingHost) -> FakeNode:
    host.node = FakeNode()
    return host.node


async def run(policy: MakePolicy, body: str, handlers: str = "") -> None:
    lua = policy(f"kumo.on('main', function()\n{body}\nend)\n{handlers}")
    await lua.load()
    await lua.ask("main")


async def test_messages_are_built_and_left_to_the_policy(policy: MakePolicy, node: FakeNode) -> None:
    await run(
        policy,
        REQUEST
        + """
        local messages = kumo.api.inject.build_v1(request)
        assert(#messages == 2)
        local one, two = messages[1], messages[2]
        assert(one:sender().email == 'me@a.test' and one:recipient().email == 'one@b.test')
        assert(one:get_first_named_header_value('Subject') == 'hello One')
        assert(one:get_meta('reception_protocol') == 'HTTP' and one:get_meta('http_auth') == 'kumomta.internal')
        assert(one:get_meta('received_from') == '127.0.0.1' and one:get_meta('extra') == nil)
        assert(two:get_meta('extra').k == 'v' and one:id() ~= two:id())
        """,
        "kumo.on('http_message_generated', function() error 'not asked' end)",
    )
    assert node.queues.inserted == []
    assert node.queues.data.stored == {}


async def test_messages_are_injected(policy: MakePolicy, node: FakeNode) -> None:
    await run(
        policy,
        REQUEST
        + """
        request.trace_headers = { include_meta_names = { 'tenant' } }
        local result = kumo.api.inject.inject_v1(request)
        assert(result.success_count == 2 and result.fail_count == 0)
        assert(#result.failed_recipients == 0 and #result.errors == 0)
        """,
        """
        kumo.on('http_message_generated', function(msg, auth_info)
          assert(auth_info.peer_address == '127.0.0.1' and auth_info.identities[1].context == 'LocalSystem')
          msg:set_meta('tenant', auth_info.identities[1].identity)
        end)
        """,
    )
    assert [queue for queue, _ in node.queues.inserted] == [
        "kumomta.internal@b.test",
        "kumomta.internal@c.test",
    ]
    for _, msg in node.queues.inserted:
        assert node.queues.in_spool(msg)
        assert msg.data.startswith(b"X-KumoRef: ")
        assert supplemental_trace(msg.data) == {"recipient": msg.recipients[0], "tenant": "kumomta.internal"}
    assert [(kind, code) for kind, _, code, _ in node.log.records] == [("Reception", 250)] * 2
    peer = node.log.contexts[0].peer
    assert peer is not None
    assert (peer.name, peer.addr) == ("", "127.0.0.1")


async def test_the_received_header_is_there_if_wanted(policy: MakePolicy, node: FakeNode) -> None:
    await run(
        policy,
        REQUEST
        + """
        request.trace_headers = { received_header = true, supplemental_header = false }
        kumo.api.inject.inject_v1(request)
        """,
    )
    _, msg = node.queues.inserted[0]
    assert msg.data.startswith(
        b"Received: from a.test (127.0.0.1)\r\n  by mx.example.com (KumoMTA)\r\n"
        b"  with HTTP id %b for <one@b.test>;\r\n  Fri, 15 Jan 2027 08:0" % msg.id.hex().encode()
    )


async def test_one_recipient_fails_and_the_others_go_on(policy: MakePolicy, node: FakeNode) -> None:
    node.queues.broken = {"broken.test"}
    node.queues.full = {"full.test"}
    await run(
        policy,
        """
        local recipients = {}
        for email in ('a@b.test no r@b.test x@broken.test y@full.test n@null.test z@b.test'):gmatch '%S+' do
          table.insert(recipients, { email = email })
        end
        local result = kumo.api.inject.inject_v1 { envelope_sender = '', recipients = recipients, content = 'A: b\\n' }
        assert(result.success_count == 3 and result.fail_count == 4)
        assert(table.concat(result.failed_recipients, ' ') == 'no r@b.test x@broken.test y@full.test')
        assert(result.errors[1]:find("^no: 'no' is not a mail address"))
        assert(result.errors[2] == 'r@b.test: 550 not you')
        assert(result.errors[3]:find 'nothing known of broken.test')
        assert(result.errors[4]:find '^y@full.test: .*takes nothing')
        """,
        """
        kumo.on('http_message_generated', function(msg)
          local recipient = msg:recipient()
          if recipient.user == 'r' then msg:save() kumo.reject(550, 'not you') end
          if recipient.domain == 'null.test' then msg:set_meta('queue', 'null') end
        end)
        """,
    )
    assert [msg.recipients[0] for _, msg in node.queues.inserted] == ["a@b.test", "z@b.test"]
    assert set(node.queues.data.stored) == {msg.id for _, msg in node.queues.inserted}
    logged = [(kind, msg.recipients[0]) for kind, msg, _, _ in node.log.records]
    assert logged == [
        ("Reception", "a@b.test"),
        ("Reception", "y@full.test"),
        ("Bounce", "y@full.test"),
        ("Reception", "z@b.test"),
    ]


async def test_a_sick_spool_fails_its_recipients(policy: MakePolicy, node: FakeNode) -> None:
    node.queues.data.failing = True
    await run(
        policy,
        REQUEST
        + """
        local result = kumo.api.inject.inject_v1(request)
        assert(result.success_count == 0 and result.fail_count == 2)
        assert(result.errors[2]:find 'No space left on device')
        request.deferred_spool = true
        assert(kumo.api.inject.inject_v1(request).success_count == 2)
        """,
    )
    assert len(node.queues.inserted) == 2
    assert node.queues.data.stored == {}


async def test_many_recipients_share_the_disk(policy: MakePolicy, node: FakeNode) -> None:
    saves: list[int] = []
    save = node.queues.spool.save

    async def counted(*messages: object) -> None:
        saves.append(len(messages))
        await save(*messages)  # type: ignore[arg-type]

    node.queues.spool.save = counted  # type: ignore[method-assign]
    await run(
        policy,
        """
        local recipients = {}
        for n = 1, 150 do recipients[n] = { email = 'u' .. n .. '@b.test' } end
        local request = { envelope_sender = '', recipients = recipients, content = 'A: b\\n' }
        assert(kumo.api.inject.inject_v1(request).success_count == 150)
        """,
    )
    assert saves == [64, 64, 22]
    assert len(node.queues.inserted) == 150


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("request.content = '{{ name'", "inject_v1: failed parsing field 'content' as template"),
        ("request.envelope_sender = 'x'", "inject_v1: envelope_sender: 'x' is not a mail address"),
        ("request.recipients = nil", "inject_v1: option 'recipients' is required"),
        ("request.content = { text = 'x' }", "inject_v1: unknown option 'content.text'"),
    ],
)
async def test_a_request_that_cannot_be_used(
    policy: MakePolicy, node: FakeNode, change: str, error: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, f"{REQUEST}\n{change}\nkumo.api.inject.inject_v1(request)")
    assert f"kumo.api.inject.{error}" in str(caught.value)


async def test_nothing_is_injected_before_the_node_runs(policy: MakePolicy) -> None:
    with pytest.raises(PolicyError, match=r"kumo.api.inject.inject_v1: there are no queues yet"):
        await run(policy, REQUEST + "kumo.api.inject.inject_v1(request)")


async def test_build_raises_for_a_recipient(policy: MakePolicy, node: FakeNode) -> None:
    with pytest.raises(PolicyError, match=r"kumo.api.inject.build_v1: 'no' is not a mail address"):
        await run(policy, REQUEST + "request.recipients[2].email = 'no'\nkumo.api.inject.build_v1(request)")


async def test_the_rate_of_recipients(
    policy: MakePolicy, host: RecordingHost, node: FakeNode, autojump_clock: MockClock
) -> None:
    await run(policy, "kumo.set_httpinject_recipient_rate_limit('10/s')")
    node.queues.rates = host.throttles  # type: ignore[attr-defined]
    began = trio.current_time()
    await host.injector.wait_for_rate(10)
    assert trio.current_time() == began
    await host.injector.wait_for_rate(25)
    assert trio.current_time() - began == pytest.approx(2.5, abs=0.01)
    await run(policy, "kumo.set_httpinject_recipient_rate_limit(nil)")
    await host.injector.wait_for_rate(10_000)
    assert trio.current_time() - began == pytest.approx(2.5, abs=0.01)
    with pytest.raises(
        PolicyError, match=r"policy.lua:3: kumo.set_httpinject_recipient_rate_limit: 'lots' is not a"
    ):
        await run(policy, "kumo.set_httpinject_recipient_rate_limit('lots')")
