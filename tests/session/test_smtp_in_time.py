"""Deadlines and the end of a listener, on the virtual clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from smtp_in_harness import HOST, Client, MakeNode, Node

if TYPE_CHECKING:
    from kumo_py.message.message import Message

BODY = b"Subject: x\r\n\r\nhello\r\n"
IDLE = f"421 4.3.2 {HOST} idle too long"


async def test_idle_client(smtp_node: MakeNode, autojump_clock: trio.testing.MockClock) -> None:
    node = smtp_node(client_timeout="10s")
    client = node.connect()
    await client.greet()
    started = trio.current_time()
    assert await client.reply() == IDLE
    assert 10 <= trio.current_time() - started <= 12
    assert await client.closed() == b""
    assert node.rejections == []


async def test_every_command_renews_the_time(
    smtp_node: MakeNode, autojump_clock: trio.testing.MockClock
) -> None:
    client = smtp_node(client_timeout="10s").connect()
    await client.greet()
    for _ in range(5):
        await trio.sleep(8)
        assert await client.command("NOOP") == "250 the goggles do nothing"


async def test_dripping_command_is_cut_off(
    smtp_node: MakeNode, autojump_clock: trio.testing.MockClock
) -> None:
    client = smtp_node(client_timeout="60s").connect()
    await client.greet()
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drip, client)
        assert await client.reply() == IDLE
        assert trio.current_time() - started < 70
        nursery.cancel_scope.cancel()


async def test_dripping_content_is_cut_off(
    smtp_node: MakeNode, autojump_clock: trio.testing.MockClock
) -> None:
    node = smtp_node(client_timeout="60s")
    client = node.connect()
    await client.start_data()
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drip, client)
        assert await client.reply() == IDLE
        assert trio.current_time() - started < 70
        nursery.cancel_scope.cancel()
    assert node.rejections == []


async def _drip(client: Client) -> None:
    """One octet every five seconds."""
    while True:
        try:
            await client.send(b"x")
        except trio.BrokenResourceError:
            return
        await trio.sleep(5)


async def test_slow_but_steady_content_is_taken(
    smtp_node: MakeNode, autojump_clock: trio.testing.MockClock
) -> None:
    """2 KiB/s for ten minutes: far beyond client_timeout, but not too slow."""
    node = smtp_node(client_timeout="10s")
    client = node.connect()
    await client.start_data()
    for _ in range(300):
        await client.send((b"x" * 62 + b"\r\n") * 64)
        await trio.sleep(2)
    await client.send(b".\r\n")
    assert (await client.reply()).startswith("250 OK")


async def test_client_that_does_not_read_is_closed(
    smtp_node: MakeNode, autojump_clock: trio.testing.MockClock
) -> None:
    node = smtp_node(client_timeout="10s")
    client = node.connect()
    await client.greet()
    (session,) = node.endpoint.sessions

    async def never(data: bytes) -> None:
        await trio.sleep_forever()

    session.transport.__class__ = type(
        "Stuck", (type(session.transport),), {"__slots__": (), "send_all": lambda self, data: never(data)}
    )
    await client.send(b"NOOP\r\n")
    started = trio.current_time()
    await client.ended.wait()
    assert trio.current_time() - started <= 16


@pytest.mark.parametrize(
    ("event", "stage"),
    [
        ("smtp_server_data", "rx"),
        ("smtp_server_split_transaction", "rx"),
        ("smtp_server_message_received", "rx"),
        ("resolve", "resolve"),
        ("spool", "spool"),
    ],
)
async def test_processing_deadline(
    smtp_node: MakeNode, autojump_clock: trio.testing.MockClock, event: str, stage: str
) -> None:
    stuck = True

    async def hang(*_args: Any) -> None:
        if stuck:
            await trio.sleep_forever()

    node = smtp_node({event: hang}, data_processing_timeout="30s", client_timeout="10s")
    if event == "resolve":
        node.queues.before_resolve = hang
    if event == "spool":
        node.spool.fail = lambda msg: hang() if msg.recipients == ("c@d.test",) else None
    client = node.connect()
    await client.start_data("a@b.test", "b@c.test", "c@d.test")
    started = trio.current_time()
    await client.send(BODY + b".\r\n")
    assert await client.reply() == f"451 4.4.5 data_processing_timeout exceeded ({stage})"
    assert 30 <= trio.current_time() - started <= 32
    assert node.queues.inserted == []
    assert node.spool.stored == {}
    assert node.log.records == []
    assert node.rejections == [("a@b.test", "c@d.test", 451, "DATA")]
    # The session goes on.
    stuck = False
    await client.command("MAIL FROM:<a@b.test>")
    await client.command("RCPT TO:<b@c.test>")
    await client.command("DATA")
    await client.send(BODY + b".\r\n")
    assert (await client.reply()).startswith("250 OK")


async def test_a_slow_policy_is_not_the_clients_fault(
    smtp_node: MakeNode, autojump_clock: trio.testing.MockClock
) -> None:
    async def slow(*_args: Any) -> None:
        await trio.sleep(100)

    node = smtp_node({"smtp_server_mail_from": slow}, client_timeout="10s")
    client = node.connect()
    await client.greet()
    assert await client.command("MAIL FROM:<a@b.test>") == "250 2.1.0 OK"


# -- the end of a listener -------------------------------------------------------------------------------
STOPPING = f"421 4.3.2 {HOST} shutting down"


async def test_waiting_session_is_told_at_once(smtp_node: MakeNode) -> None:
    node = smtp_node()
    client = node.connect()
    await client.greet()
    await client.command("MAIL FROM:<a@b.test>")
    await trio.testing.wait_all_tasks_blocked()
    node.endpoint.stop()
    assert await client.reply() == STOPPING
    assert await client.closed() == b""
    assert node.rejections == []


async def test_content_is_finished_first(smtp_node: MakeNode) -> None:
    node = smtp_node()
    client = node.connect()
    await client.start_data()
    await client.send(BODY)
    await trio.testing.wait_all_tasks_blocked()
    node.endpoint.stop()
    await client.send(b".\r\n")
    assert (await client.reply()).startswith("250 OK")
    assert await client.reply() == STOPPING
    assert await client.closed() == b""
    assert len(node.queues.inserted) == 1


async def test_session_in_a_handler_answers_first(smtp_node: MakeNode) -> None:
    release = trio.Event()

    async def wait(*_args: Any) -> None:
        await release.wait()

    node = smtp_node({"smtp_server_mail_from": wait})
    client = node.connect()
    await client.greet()
    await client.send(b"MAIL FROM:<a@b.test>\r\n")
    await trio.testing.wait_all_tasks_blocked()
    node.endpoint.stop()
    release.set()
    assert await client.replies(2) == ["250 2.1.0 OK", STOPPING]


async def test_new_session_while_stopping(smtp_node: MakeNode) -> None:
    node = smtp_node()
    node.endpoint.stop()
    client = node.connect()
    assert await client.reply() == STOPPING


async def test_cancelled_before_the_commit_leaves_nothing() -> None:
    async def hang(msg: Message) -> None:
        if msg.recipients == ("c@d.test",):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        node = Node(nursery)
        node.spool.fail = hang
        client = node.connect()
        await client.start_data("a@b.test", "b@c.test", "c@d.test")
        await client.send(BODY + b".\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert len(node.spool.stored) == 1
        nursery.cancel_scope.cancel()
    assert node.spool.stored == {}
    assert node.endpoint.sessions == set()
    assert node.log.records == []
