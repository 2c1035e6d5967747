"""Whatever a server does, and whenever it goes: a message is neither lost nor recorded twice, and nothing hangs."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import BODY
from smtp_out_harness import (
    ENVELOPE_REPLIES,
    EXTENSIONS,
    TIMEOUTS,
    Closed,
    Server,
    egress,
    routed_to,
    start_delivery,
    usual,
)

from kumo_py.core.duration import Duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtp_out_harness import DeliveryNode, Peer, Script
    from trio.testing import MockClock

BARE = ("8BITMIME",)
RETRY = Duration(10)


def breaking(before: Callable[[Peer], Any], how: str) -> Script:
    """A server that does something and is gone then."""

    async def script(peer: Peer) -> None:
        await before(peer)
        if how == "RST":
            peer.reset()

    return script


async def before_banner(peer: Peer) -> None:
    pass


async def in_banner(peer: Peer) -> None:
    await peer.send(b"220 pe")


async def after_banner(peer: Peer) -> None:
    await peer.send("220 peer")
    await peer.line()


async def in_ehlo(peer: Peer) -> None:
    await peer.send("220 peer")
    await peer.line()
    await peer.send(b"250-peer\r\n250-8BIT")


async def after_ehlo(peer: Peer) -> None:
    await peer.greet(*BARE)


async def at_mail(peer: Peer) -> None:
    await peer.greet(*BARE)
    await peer.line()


async def in_mail(peer: Peer) -> None:
    await at_mail(peer)
    await peer.send(b"25")


async def at_rcpt(peer: Peer) -> None:
    await at_mail(peer)
    await peer.send("250 ok")
    await peer.line()


async def at_data(peer: Peer) -> None:
    await at_rcpt(peer)
    await peer.send("250 ok")
    await peer.line()


async def at_content(peer: Peer) -> None:
    await at_data(peer)
    await peer.send("354 go")


async def in_content(peer: Peer) -> None:
    await at_content(peer)
    await peer._receive()


async def after_content(peer: Peer) -> None:
    await at_content(peer)
    await peer.content()


async def in_last_reply(peer: Peer) -> None:
    await after_content(peer)
    await peer.send(b"250-queued\r\n25")


async def after_envelope(peer: Peer) -> None:
    await peer.greet(*EXTENSIONS)
    await peer.line()


async def in_envelope_replies(peer: Peer) -> None:
    await after_envelope(peer)
    await peer.send(b"250 ok\r\n250 o")


async def after_pipelined_content(peer: Peer) -> None:
    await after_envelope(peer)
    await peer.send(*ENVELOPE_REPLIES)
    await peer.line()
    await peer.line()
    await peer.content()


UNESTABLISHED = [before_banner, in_banner, after_banner, in_ehlo]
ESTABLISHED = [
    after_ehlo,
    at_mail,
    in_mail,
    at_rcpt,
    at_data,
    at_content,
    in_content,
    after_content,
    in_last_reply,
    after_envelope,
    in_envelope_replies,
    after_pipelined_content,
]


async def one_failure_then_delivery(node: DeliveryNode, server: Server) -> str:
    """The message fails once, is kept, and goes through at its next attempt; the failure's text."""
    msg = await node.send()
    await node.log.reach(1)
    (failure,) = node.log.records
    assert failure.kind == "TransientFailure"
    assert node.in_spool(msg)
    await node.log.reach(2)
    assert node.log.records[1].kind == "Delivery"
    assert (node.log.records[1].attempts, failure.attempts) == (1, 0)
    assert node.log.records[1].at == pytest.approx(10, abs=1.5)
    await trio.sleep(0.5)
    assert not node.in_spool(msg)
    await node.stop()
    assert len(node.log.records) == 2
    assert server.contents == [BODY + b".\r\n"]
    return failure.content


# -- gone at each stage --------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("before", UNESTABLISHED)
async def test_gone_before_the_session_stands(
    mock_clock: MockClock, nursery: trio.Nursery, before: Callable[[Peer], Any], how: str
) -> None:
    server = Server(breaking(before, how), usual())
    node = await start_delivery(mock_clock, nursery, server, queue=routed_to(server.mx, retry_interval=RETRY))
    text = await one_failure_then_delivery(node, server)
    assert text.startswith("KumoMTA internal: failed to connect to any candidate hosts: ")
    assert server.address in text
    failure = node.log.records[0]
    assert (failure.code, failure.context.peer) == (400, None)


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("before", ESTABLISHED)
async def test_gone_during_the_transaction(
    mock_clock: MockClock, nursery: trio.Nursery, before: Callable[[Peer], Any], how: str
) -> None:
    server = Server(breaking(before, how), usual())
    node = await start_delivery(mock_clock, nursery, server, queue=routed_to(server.mx, retry_interval=RETRY))
    text = await one_failure_then_delivery(node, server)
    assert text.startswith("KumoMTA internal: failed to send message: ")
    failure = node.log.records[0]
    assert failure.code == 400
    assert failure.context.peer is not None
    assert failure.context.peer.addr == server.address


@pytest.mark.parametrize("size", [100, 3_000_000])
@pytest.mark.parametrize("before", [at_content, in_content])
async def test_gone_while_the_content_is_sent(
    mock_clock: MockClock, nursery: trio.Nursery, before: Callable[[Peer], Any], size: int
) -> None:
    server = Server(breaking(before, "RST"), usual())
    node = await start_delivery(mock_clock, nursery, server, queue=routed_to(server.mx, retry_interval=RETRY))
    msg = await node.send(data=b"x" * size + b"\r\n")
    await node.done(2)
    assert node.log.brief == [("TransientFailure", 400), ("Delivery", 250)]
    assert len(server.contents[0]) == size + 5
    assert not node.in_spool(msg)


# -- gone between messages -----------------------------------------------------------------------------
@pytest.mark.parametrize("last_words", [b"", b"421 4.3.2 too many messages\r\n", b"25"])
@pytest.mark.parametrize("extensions", [(), BARE])
async def test_a_message_that_was_sent_ahead_is_untried(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...], last_words: bytes
) -> None:
    """A server with a limit of one message a connection closes instead of looking at the next envelope."""

    async def one_message(peer: Peer) -> None:
        await peer.greet(*extensions)
        for reply in ("250 ok", "250 ok", "354 go"):
            await peer.line()
            await peer.send(reply)
        content = await peer.content()
        peer.server.messages.append((content,))  # type: ignore[arg-type]
        await peer.send(b"250 queued\r\n" + (last_words if not extensions else b""))

    server = Server(one_message)
    node = await start_delivery(mock_clock, nursery, server)
    messages = [await node.send() for _ in range(4)]
    if extensions:
        # Without pipelining it cannot be known: the command was sent, and not answered.
        await node.log.reach(4)
        assert set(node.log.kinds) == {"Delivery", "TransientFailure"}
    else:
        await node.done(4)
        assert node.log.kinds == ["Delivery"] * 4
        assert {record.attempts for record in node.log.records} == {0}
        assert [record.id for record in node.log.records] == [msg.id for msg in messages]
        assert len(server.messages) == 4
    assert len({record.id for record in node.log.records}) == 4


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "dot"])
@pytest.mark.parametrize("extensions", [(), BARE])
async def test_421_closes_the_connection(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...], verb: str
) -> None:
    server = Server(usual(*extensions, **{verb: "421 4.3.2 closing"}), usual(*extensions))
    node = await start_delivery(mock_clock, nursery, server)
    first, *rest = [await node.send() for _ in range(3)]
    await node.done(3)
    assert [(record.id, record.kind, record.code) for record in node.log.records] == [
        (first.id, "TransientFailure", 421),
        *((msg.id, "Delivery", 250) for msg in rest),
    ]
    failure = node.log.records[0]
    assert failure.content == "closing"
    assert failure.response.command is not None
    assert failure.response.command.startswith(verb.replace("dot", "."))
    assert len(server.peers) == 2


@pytest.mark.parametrize("extensions", [(), BARE])
async def test_421_to_rset(mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...]) -> None:
    server = Server(usual(*extensions, RSET="421 4.7.0 no junk commands"))
    node = await start_delivery(mock_clock, nursery, server)
    messages = [await node.send() for _ in range(3)]
    await node.done(3)
    kinds = {record.id: record.kind for record in node.log.records}
    assert len(kinds) == 3
    if not extensions:
        assert node.log.kinds == ["Delivery"] * 3
    assert kinds[messages[0].id] == "Delivery"


@pytest.mark.parametrize(("verb", "reply"), [("MAIL", "554 5.7.1 blocked"), ("RCPT", "550 5.1.1 unknown")])
async def test_a_refusal_before_the_end_counts(
    mock_clock: MockClock, nursery: trio.Nursery, verb: str, reply: str
) -> None:
    """A server that says no and closes, without answering the rest of a pipelined envelope."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        for word in ("MAIL", "RCPT", "DATA"):
            await peer.line()
            await peer.send(reply if word == verb else "250 ok")
            if word == verb:
                return

    server = Server(script, usual())
    node = await start_delivery(mock_clock, nursery, server)
    first, second = [await node.send() for _ in range(2)]
    await node.done(2)
    assert [(record.id, record.kind) for record in node.log.records] == [
        (first.id, "Bounce"),
        (second.id, "Delivery"),
    ]
    assert node.log.records[0].response.to_single_line() == reply


@pytest.mark.parametrize("last_words", [b"", b"421 4.4.2 idle too long\r\n", b"250 ok\r\n", "RST"])
async def test_a_server_that_leaves_an_idle_connection_costs_no_attempt(
    mock_clock: MockClock, nursery: trio.Nursery, last_words: bytes | str
) -> None:
    async def script(peer: Peer) -> None:
        async def leave() -> None:
            await peer.server.left.wait()  # type: ignore[attr-defined]
            if isinstance(last_words, str):
                peer.reset()
            else:
                await peer.send(last_words)
                with trio.CancelScope(shield=True):
                    await peer.stream.aclose()
            raise Closed

        await peer.greet()
        for _ in range(3):
            await peer.line()
        await peer.send(*ENVELOPE_REPLIES)
        peer.server.messages.append((await peer.content(),))  # type: ignore[arg-type]
        await peer.send("250 queued")
        await leave()

    server = Server(script, usual())
    server.left = trio.Event()  # type: ignore[attr-defined]
    node = await start_delivery(mock_clock, nursery, server, path=egress(idle_timeout=Duration(60)))
    await node.send()
    await node.log.reach(1)
    server.left.set()  # type: ignore[attr-defined]
    await trio.sleep(1)
    await node.send()
    await node.done(2)
    assert node.log.kinds == ["Delivery"] * 2
    assert {record.attempts for record in node.log.records} == {0}
    assert len(server.peers) == 2


# -- refusals before the session stands ----------------------------------------------------------------
@pytest.mark.parametrize("banner", ["554 5.7.1 no service", "421 4.3.2 busy", "250 hello", "220"])
async def test_banners(mock_clock: MockClock, nursery: trio.Nursery, banner: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(banner)
        await peer.line()
        await peer.ehlo()
        await peer.converse()

    server = Server(script)
    node = await start_delivery(mock_clock, nursery, server)
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    if banner == "220":
        assert record.kind == "Delivery"
    else:
        assert (record.kind, record.code) == ("TransientFailure", 400)
        assert banner in record.content


async def test_ehlo_refused(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.send("220 peer")
        await peer.line()
        await peer.send("502 5.5.1 what?")
        await peer.line()

    server = Server(script)
    node = await start_delivery(mock_clock, nursery, server)
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert (record.kind, record.code) == ("TransientFailure", 400)
    assert "EHLO: 502 5.5.1 what?" in record.content
    assert server.commands == [["EHLO me.test"]]


# -- time ----------------------------------------------------------------------------------------------


def then_silent(before: Callable[[Peer], Any]) -> Script:
    async def script(peer: Peer) -> None:
        await before(peer)
        await trio.sleep_forever()

    return script


@pytest.mark.option("make_egress_path.banner_timeout")
@pytest.mark.option("make_egress_path.ehlo_timeout")
@pytest.mark.option("make_egress_path.mail_from_timeout")
@pytest.mark.option("make_egress_path.rcpt_to_timeout")
@pytest.mark.option("make_egress_path.data_timeout")
@pytest.mark.option("make_egress_path.data_dot_timeout")
@pytest.mark.parametrize(
    ("before", "seconds", "code", "what"),
    [
        (before_banner, 3, 400, "the banner"),
        (in_banner, 3, 400, "the banner"),
        (after_banner, 4, 400, "EHLO me.test"),
        (in_ehlo, 4, 400, "EHLO me.test"),
        (at_mail, 5, 421, "MAIL FROM:<from@a.test>"),
        (in_mail, 5, 421, "MAIL FROM:<from@a.test>"),
        (at_rcpt, 6, 421, "RCPT TO:<to@b.test>"),
        (at_data, 7, 421, "DATA"),
        (after_content, 8, 421, "."),
        (in_last_reply, 8, 421, "."),
        (after_envelope, 5, 421, ""),
        (in_envelope_replies, 5, 421, ""),
        (after_pipelined_content, 8, 421, "."),
    ],
)
async def test_every_wait_has_its_timeout(
    mock_clock: MockClock,
    nursery: trio.Nursery,
    before: Callable[[Peer], Any],
    seconds: int,
    code: int,
    what: str,
) -> None:
    server = Server(then_silent(before), usual())
    node = await start_delivery(mock_clock, nursery, server, path=egress(**TIMEOUTS))
    msg = await node.send()
    await node.log.reach(1)
    (record,) = node.log.records
    assert (record.kind, record.code) == ("TransientFailure", code)
    assert seconds <= record.at <= seconds + 1.1
    assert what in record.content
    assert f"{seconds}s" in record.content
    if code == 421:
        assert str(record.response.enhanced) == "4.4.2"
        start = f"KumoMTA internal: failed to send message to {record.site} "
        assert record.content.startswith(start)
        assert "Timed Out waiting" in record.content
    assert node.in_spool(msg)
    await node.stop()


@pytest.mark.option("make_egress_path.rset_timeout")
@pytest.mark.parametrize("extensions", [EXTENSIONS, BARE])
async def test_rset_has_its_timeout(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet(*extensions)
        for reply in ENVELOPE_REPLIES:
            await peer.line()
            await peer.send(reply)
        await peer.content()
        await peer.send("250 queued")
        assert await peer.line() == "RSET"
        await trio.sleep_forever()

    node = await start_delivery(mock_clock, nursery, Server(script), path=egress(**TIMEOUTS))
    for _ in range(2):
        await node.send()
    await node.done(2)
    delivery, failure = node.log.records
    assert (delivery.kind, failure.kind, failure.code) == ("Delivery", "TransientFailure", 421)
    assert 2 <= failure.at <= 3.1


async def test_a_server_that_does_not_read_the_content(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(then_silent(at_content))
    node = await start_delivery(mock_clock, nursery, server, path=egress(**TIMEOUTS))
    await node.send(data=b"x" * 20_000_000)
    await node.done(1)
    (record,) = node.log.records
    assert (record.kind, record.code) == ("TransientFailure", 421)
    assert 8 <= record.at <= 9.2


async def test_a_slow_but_steady_server_is_waited_for(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    """Each reply takes nearly its whole timeout."""

    async def script(peer: Peer) -> None:
        await trio.sleep(2.9)
        await peer.send("220 peer")
        await peer.line()
        await trio.sleep(3.9)
        await peer.ehlo()
        for seconds, reply in ((4.9, "250 ok"), (4.9, "250 ok"), (4.9, "354 go")):
            await peer.line()
            await trio.sleep(seconds)
            await peer.send(reply)
        await peer.content()
        await trio.sleep(7.9)
        await peer.send("250 queued")

    node = await start_delivery(mock_clock, nursery, Server(script), path=egress(**TIMEOUTS))
    await node.send()
    await node.done(1)
    assert node.log.brief == [("Delivery", 250)]


@pytest.mark.parametrize("extensions", [(), BARE])
async def test_octets_that_come_singly_gain_no_time(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet(*extensions)
        await peer.line()
        await peer.send(b"250 ")
        while True:
            await trio.sleep(1)
            await peer.send(b"x")

    node = await start_delivery(mock_clock, nursery, Server(script), path=egress(**TIMEOUTS))
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert (record.kind, record.code) == ("TransientFailure", 421)
    assert record.at <= 12


async def test_connecting_has_its_timeout(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    """A listener whose queue is full does not answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(address)
        queue = routed_to(f"[127.0.0.1]:{address[1]}")
        path = egress(connect_timeout=Duration(4))
        node = await start_delivery(mock_clock, nursery, queue=queue, path=path)
        await node.send()
        await node.done(1)
        for client in waiting:
            client.close()
    (record,) = node.log.records
    assert (record.kind, record.code) == ("TransientFailure", 400)
    assert f"127.0.0.1:{address[1]}" in record.content
    assert "timed out after 4s" in record.content
    assert record.at == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("reply", ["250 queued", "450 later", "550 never"])
async def test_a_reply_in_the_last_moment_counts(
    mock_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, reply: str
) -> None:
    """The watch gives a session up in the very moment in which its reply has come."""
    from kumo_py.smtp_out.connection import Connection

    server = Server(usual(dot=reply), usual())
    node = await start_delivery(mock_clock, nursery, server)
    original = Connection.reply

    async def reply_then_cancel(self: Connection, command: str | None, timeout: float) -> Any:
        response = await original(self, command, timeout)
        if command == "." and len(server.peers) == 1:
            (session,) = node.delivery._sessions
            session._scope.cancel()
        return response

    monkeypatch.setattr(Connection, "reply", reply_then_cancel)
    messages = [await node.send(saved=False) for _ in range(3)]
    await node.done(3)
    kind = {"2": "Delivery", "4": "TransientFailure", "5": "Bounce"}[reply[0]]
    assert node.log.kinds == [kind, "Delivery", "Delivery"]
    assert [record.id for record in node.log.records] == [msg.id for msg in messages]
    assert node.in_spool(messages[0]) == (kind == "TransientFailure")
