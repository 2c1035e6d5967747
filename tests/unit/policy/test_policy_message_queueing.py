"""Saving, shrinking, counting and importing: what concerns a message's place in spool and queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest
from fake_node import FakeNode

from kumo_py.core.policy import PolicyError
from kumo_py.message.connection import ConnectionMeta

if TYPE_CHECKING:
    from policy_host import MakePolicy, RecordingHost

    from kumo_py.message.message import Message


@pytest.fixture
def node(host: RecordingHost) -> FakeNode:
    host.node = FakeNode()
    return host.node


async def run(policy: MakePolicy, msg: Message, body: str) -> None:
    """A handler of smtp_server_message_received with this body."""
    lua = policy(f"kumo.on('smtp_server_message_received', function(msg, conn_meta)\n{body}\nend)")
    await lua.load()
    await lua.ask("smtp_server_message_received", msg, ConnectionMeta({}, "192.0.2.1"))


async def test_save_writes_both_parts_once(policy: MakePolicy, node: FakeNode, msg: Message) -> None:
    await run(policy, msg, "msg:save()")
    assert node.queues.in_spool(msg)
    assert msg.data_saved
    node.queues.data.failing = True
    await run(policy, msg, "msg:save()")  # nothing is left to be written
    msg.set_data(b"X: y\r\n\r\n")
    with pytest.raises(PolicyError, match=r"policy.lua:3: message:save: cannot write .*: No space left"):
        await run(policy, msg, "msg:save()")


async def test_shrink_saves_and_lets_go_of_the_content(
    policy: MakePolicy, node: FakeNode, host: RecordingHost, msg: Message
) -> None:
    await run(policy, msg, "assert(msg:shrink() == true); assert(msg:shrink_data() == false)")
    assert node.queues.in_spool(msg)
    assert not msg.data_loaded
    # Whatever needs content or metadata gets it.
    await run(policy, msg, "assert(msg:queue_name() == 'example.org'); assert(#msg:get_data() > 10)")
    assert host.named("load_message") == [msg.id]
    await run(policy, msg, "assert(msg:shrink_data() == true)")


async def test_force_sync_reaches_the_spool(policy: MakePolicy, node: FakeNode, msg: Message) -> None:
    await run(policy, msg, "msg:save()")
    assert node.queues.data.synced == []
    await run(policy, msg, "msg:set_force_sync(true); msg:set_meta('a', 1); msg:save()")
    assert (node.queues.data.synced, node.queues.meta.synced) == ([], [msg.id])
    await run(policy, msg, "msg:set_force_sync(false); msg:set_meta('a', 2); msg:save()")
    assert node.queues.meta.synced == [msg.id]
    with pytest.raises(PolicyError, match="argument 'force' must be true or false, got nil"):
        await run(policy, msg, "msg:set_force_sync()")


async def test_attempts_can_be_counted(policy: MakePolicy, msg: Message) -> None:
    await run(
        policy,
        msg,
        "assert(msg:num_attempts() == 0); msg:increment_num_attempts(); assert(msg:num_attempts() == 1)",
    )
    assert msg.attempts == 1


async def test_import_headers_follows_its_rules(policy: MakePolicy, msg: Message) -> None:
    msg.set_data(
        b"Received: one\r\nX-Campaign-Id: c1\r\nReceived: two\r\nx-tag: a\r\nX-Tag: =?utf-8?q?b=C3=BC?=\r\n"
        b"Subject: hello\r\n world\r\n\r\nX-Body: no\r\n"
    )
    await run(
        policy,
        msg,
        """
        msg:import_headers {
          { name = 'x-campaign-id', target = 'campaign', remove = true },
          { name = 'Received', match = 'all' },
          { name = 'X-*', match = 'first', transform = 'pascal_case', remove = true },
          { name = 'SUBJECT' },
          { name = 'X-Nothing', match = 'all' },
        }
        """,
    )
    assert msg.meta == {"campaign": "c1", "received": ["one", "two"], "XTag": "a", "subject": "hello world"}
    assert msg.data == b"Received: one\r\nReceived: two\r\nSubject: hello\r\n world\r\n\r\nX-Body: no\r\n"


@pytest.mark.parametrize(
    ("transform", "key"),
    [
        ("snake_case", "x_campaign_id"),
        ("kebab_case", "x-campaign-id"),
        ("camel_case", "xCampaignId"),
        ("pascal_case", "XCampaignId"),
    ],
)
async def test_import_headers_names_keys(policy: MakePolicy, msg: Message, transform: str, key: str) -> None:
    msg.set_data(b"X-CAMPAIGN-Id: 1\r\nX-Campaign-Id: 2\r\n\r\n")
    await run(policy, msg, f"msg:import_headers {{ {{ name = 'X-*', transform = '{transform}' }} }}")
    assert msg.meta == {key: "2"}


@pytest.mark.parametrize(
    ("specs", "error"),
    [
        ("{ { name = '*' } }", "option '[1]': '*' must be the name of a header, with at most a * at its end"),
        ("{ { name = '' } }", "option '[1]': '' must be the name of a header"),
        ("{ { name = 'X-*-Y' } }", "must be the name of a header"),
        ("{ { name = 'X-**' } }", "must be the name of a header"),
        (
            "{ { name = 'X' }, { name = 'X-*', target = 'x' } }",
            "option '[2]': 'target' cannot be used with 'X-*'",
        ),
        ("{ { name = 'X', mach = 'all' } }", "unknown option '[1].mach' (did you mean 'match'?)"),
        ("{ { name = 'X', match = 'every' } }", "option '[1].match' must be one of 'all', 'first', 'last'"),
        ("{ { target = 'x' } }", "option '[1].name' is required"),
        ("{ name = 'X' }", "the argument must be a list, got a table"),
    ],
)
async def test_import_headers_says_what_is_wrong(
    policy: MakePolicy, msg: Message, specs: str, error: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, msg, f"msg:import_headers {specs}")
    assert error in str(caught.value)
    assert "policy.lua:3: message:import_headers: " in str(caught.value)


async def test_auth_info_is_a_copy(policy: MakePolicy, msg: Message) -> None:
    await run(
        policy,
        msg,
        """
        local info = conn_meta:auth_info()
        assert(info.peer_address == '192.0.2.1' and #info.identities == 0 and #info.groups == 0)
        info.groups[1] = 'admin'
        assert(#conn_meta:auth_info().groups == 0)
        """,
    )
    conn = ConnectionMeta({}, "192.0.2.1")
    conn.identities, conn.groups = (("joe", "GenericAuth"),), ("staff",)
    lua = policy(
        "kumo.on('smtp_server_message_received', function(msg, conn_meta)\n"
        "msg:set_meta('info', conn_meta:auth_info())\nend)"
    )
    await lua.load()
    await lua.ask("smtp_server_message_received", msg, conn)
    assert orjson.loads(orjson.dumps(msg.meta["info"])) == {
        "peer_address": "192.0.2.1",
        "identities": [{"identity": "joe", "context": "GenericAuth"}],
        "groups": ["staff"],
    }
