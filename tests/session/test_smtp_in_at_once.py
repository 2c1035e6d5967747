"""Messages that are answered where they arrive: a lone one, sent to the null queue by a handler that awaits nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from smtp_in_harness import HOST, MakeNode

from kumo_py.core.policy import PolicyError, Rejection

if TYPE_CHECKING:
    from kumo_py.message.message import Message

BODY = b"Subject: x\r\n\r\nhello\r\n"
EVENT = "smtp_server_message_received"


def to_null(msg: Message, _meta: object) -> None:
    msg.set_meta("queue", "null")


def at_once(node: Any) -> list[Message]:
    """Have the policy's events run where they are started, as those of Lua do; what they were given."""
    seen: list[Message] = []

    def start(event: str, msg: Message, meta: object) -> None:
        seen.append(msg)
        node.policy.handlers[event](msg, meta)

    node.policy.start = start
    return seen


async def another(client: Any) -> str:
    """One more transaction of the session, in one write; the reply to its content."""
    await client.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<to@b.test>\r\nDATA\r\n")
    assert await client.codes(3) == ["250", "250", "354"]
    await client.send(BODY + b".\r\n")
    reply: str = await client.reply()
    return reply


async def test_the_client_hears_the_id_and_nothing_is_kept(smtp_node: MakeNode) -> None:
    node = smtp_node({EVENT: to_null})
    node.log.wanted = False
    seen = at_once(node)
    client = node.connect()
    assert await client.deliver(BODY) == f"250 OK ids={seen[0].id.hex()}"
    assert await another(client) == f"250 OK ids={seen[1].id.hex()}"
    assert len(seen) == 2
    assert seen[0].id != seen[1].id
    assert b"Received: from" in seen[0].data
    assert node.queues.inserted == []
    assert node.spool.stored == {}


async def test_another_queue_takes_the_long_way(smtp_node: MakeNode) -> None:
    node = smtp_node({EVENT: lambda msg, meta: msg.set_meta("tenant", "t")})
    seen = at_once(node)
    assert (await node.connect().deliver(BODY)).startswith("250 OK ids=")
    assert [(msg, queue) for msg, queue in node.queues.inserted] == [(seen[0], "t@b.test")]


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (Rejection(550, "5.7.1 not you"), "550 5.7.1 not you"),
        (PolicyError("policy.lua:3: oops"), f"421 4.3.0 {HOST} technical difficulties"),
    ],
)
async def test_a_refusal_ends_the_transaction(smtp_node: MakeNode, error: Exception, reply: str) -> None:
    def handler(*_args: object) -> None:
        raise error

    node = smtp_node({EVENT: handler})
    at_once(node)
    client = node.connect()
    assert await client.deliver(BODY) == reply
    if not reply.startswith("421"):
        node.policy.handlers[EVENT] = to_null
        node.log.wanted = False
        assert (await another(client)).startswith("250 OK")
    assert node.queues.inserted == []
