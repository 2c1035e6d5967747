"""Messages with several recipients: each has its own outcome, and none is sent a copy twice."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trio
from smtp_out_harness import Server, answering, egress, routed_to, start_delivery, usual

from kumo_py.core.duration import Duration

if TYPE_CHECKING:
    from queue_harness import Record
    from smtp_out_harness import Peer
    from trio.testing import MockClock

BARE = ("8BITMIME",)
EXTENSIONS = pytest.mark.parametrize("extensions", [(), BARE])


def rcpt(name: str) -> str:
    return f"RCPT TO:<{name}@b.test>"


def outcome(record: Record) -> tuple[str, int, list[str]]:
    return (record.kind, record.code, [address.partition("@")[0] for address in record.recipients])


def addresses(*names: str) -> list[str]:
    return [f"{name}@b.test" for name in names]


def delivered(server: Server) -> Counter[str]:
    """How many copies each recipient was sent."""
    return Counter(
        line.removeprefix("RCPT TO:<").partition("@")[0]
        for message in server.messages
        for line in message.rcpts
    )


@EXTENSIONS
async def test_one_transaction_for_all(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...]
) -> None:
    server = Server(usual(*extensions))
    node = await start_delivery(mock_clock, nursery, server)
    await node.send(*addresses("one", "two", "three"))
    await node.done(1)
    assert [outcome(record) for record in node.log.records] == [("Delivery", 250, ["one", "two", "three"])]
    assert delivered(server) == Counter(["one", "two", "three"])
    assert len(server.messages) == 1


@EXTENSIONS
async def test_mixed_outcomes(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...]
) -> None:
    replies = {
        rcpt("later"): "450 4.2.1 busy",
        rcpt("never"): "550 5.1.1 unknown",
        rcpt("no"): "550 5.1.1 unknown",
    }
    server = Server(answering(replies, *extensions))
    node = await start_delivery(mock_clock, nursery, server)
    msg = await node.send(*addresses("later", "one", "never", "two", "no"))
    await node.done(3)
    assert sorted(outcome(record) for record in node.log.records) == [
        ("Bounce", 550, ["never"]),
        ("Bounce", 550, ["no"]),
        ("Delivery", 250, ["one", "two"]),
        ("TransientFailure", 450, ["later"]),
    ]
    assert delivered(server) == Counter(["one", "two"])
    await node.spool.load_meta(msg)
    assert (msg.recipients, msg.attempts, node.in_spool(msg)) == (("later@b.test",), 1, True)


async def test_equal_refusals_are_one_record(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(usual(MAIL="550 5.7.1 no"))
    node = await start_delivery(mock_clock, nursery, server)
    await node.send(*addresses("one", "two"))
    await node.done(1)
    assert [outcome(record) for record in node.log.records] == [("Bounce", 550, ["one", "two"])]


async def test_only_the_rest_is_tried_again(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    first, second = answering({rcpt("later"): "450 busy"}), usual()
    server = Server(first, second)
    queue = routed_to(server.mx, retry_interval=Duration(10))
    node = await start_delivery(mock_clock, nursery, server, queue=queue)
    await node.send(*addresses("one", "later"))
    await node.done(3)
    assert delivered(server) == Counter(["one", "later"])
    assert node.log.kinds.count("Delivery") == 2
    assert not node.data.stored


@EXTENSIONS
@pytest.mark.parametrize("refusal", ["450 all busy", "550 none of you"])
async def test_all_refused(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...], refusal: str
) -> None:
    server = Server(usual(*extensions, RCPT=refusal))
    node = await start_delivery(mock_clock, nursery, server)
    msg = await node.send(*addresses("one", "two"))
    await node.done(2)
    assert {record.code for record in node.log.records} == {int(refusal[:3])}
    assert node.in_spool(msg) == refusal.startswith("4")
    assert server.messages == []


@EXTENSIONS
async def test_a_refused_content_is_refused_for_those_that_were_accepted(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...]
) -> None:
    server = Server(answering({rcpt("never"): "550 unknown", ".": "451 try again"}, *extensions))
    node = await start_delivery(mock_clock, nursery, server)
    msg = await node.send(*addresses("one", "never", "two"))
    await node.done(2)
    assert sorted(outcome(record) for record in node.log.records) == [
        ("Bounce", 550, ["never"]),
        ("TransientFailure", 451, ["one", "two"]),
    ]
    await node.spool.load_meta(msg)
    assert msg.recipients == ("one@b.test", "two@b.test")


async def test_lmtp_answers_for_each_recipient(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    """RFC 2033 §4.2."""
    answers = [["250 one", "450 two is full", "550 three is gone"], ["250 ok"]]

    async def script(peer: Peer) -> None:
        await peer.greet()
        while True:
            line = await peer.line()
            if line == "DATA":
                await peer.send("354 go")
                await peer.content()
                await peer.send(*answers.pop(0))
                continue
            await peer.send("550 unknown" if line == rcpt("no") else "250 ok")

    node = await start_delivery(mock_clock, nursery, Server(script), path=egress(use_lmtp=True))
    msg = await node.send(*addresses("one", "no", "two", "three"))
    await node.send(*addresses("next"))
    await node.done(5)
    assert [outcome(record) for record in node.log.records] == [
        ("Delivery", 250, ["one"]),
        ("Bounce", 550, ["no"]),
        ("TransientFailure", 450, ["two"]),
        ("Bounce", 550, ["three"]),
        ("Delivery", 250, ["next"]),
    ]
    await node.spool.load_meta(msg)
    assert msg.recipients == ("two@b.test",)


# -- more than one transaction -------------------------------------------------------------------------
@pytest.mark.option("make_egress_path.max_recipients_per_batch")
@EXTENSIONS
async def test_batches(mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...]) -> None:
    server = Server(usual(*extensions))
    node = await start_delivery(mock_clock, nursery, server, path=egress(max_recipients_per_batch=2))
    await node.send(*addresses("a", "b", "c", "d", "e"))
    await node.send(*addresses("f"))
    await node.done(4)
    assert [outcome(record) for record in node.log.records] == [
        ("Delivery", 250, ["a", "b"]),
        ("Delivery", 250, ["c", "d"]),
        ("Delivery", 250, ["e"]),
        ("Delivery", 250, ["f"]),
    ]
    assert delivered(server) == Counter("abcdef")
    assert len(server.peers) == 1
    assert {record.attempts for record in node.log.records} == {0}


@EXTENSIONS
@pytest.mark.parametrize(
    "refusal", ["452 too many recipients", "552 too many recipients", "451 4.5.3 enough"]
)
async def test_too_many_recipients_follow_at_once_without_a_record(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...], refusal: str
) -> None:
    async def two_at_a_time(peer: Peer) -> None:
        await peer.greet(*(extensions or ("PIPELINING",)))
        count = 0
        while True:
            line = await peer.line()
            if line.startswith("MAIL"):
                count = 0
            if line == "DATA":
                await peer.send("354 go")
                await peer.content()
            count += line.startswith("RCPT")
            await peer.send(refusal if line.startswith("RCPT") and count > 2 else "250 ok")

    server = Server(two_at_a_time)
    node = await start_delivery(mock_clock, nursery, server)
    await node.send(*addresses("a", "b", "c", "d", "e"))
    await node.send(*addresses("f"))
    await node.done(4)
    assert [outcome(record) for record in node.log.records] == [
        ("Delivery", 250, ["a", "b"]),
        ("Delivery", 250, ["c", "d"]),
        ("Delivery", 250, ["e"]),
        ("Delivery", 250, ["f"]),
    ]
    assert node.now < 1


async def test_too_many_is_no_excuse_for_the_first(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(usual(RCPT="452 4.2.2 mailbox full"))
    node = await start_delivery(mock_clock, nursery, server)
    msg = await node.send("one@b.test")
    await node.done(1)
    assert [outcome(record) for record in node.log.records] == [("TransientFailure", 452, ["one"])]
    assert msg.attempts == 1


@EXTENSIONS
@pytest.mark.parametrize("rest", ["452 too many recipients", "450 busy"])
async def test_a_server_that_never_takes_anybody_is_asked_a_bounded_number_of_times(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...], rest: str
) -> None:
    """The first of each transaction is busy, the others are too many: nobody may be tried twice at once."""

    async def script(peer: Peer) -> None:
        await peer.greet(*(extensions or ("PIPELINING",)))
        first = True
        while True:
            line = await peer.line()
            if line.startswith("RCPT"):
                await peer.send("450 busy" if first else rest)
                first = False
                continue
            first = True
            await peer.send("503 no recipients" if line == "DATA" else "250 ok")

    server = Server(script)
    node = await start_delivery(mock_clock, nursery, server)
    msg = await node.send(*addresses("a", "b", "c", "d"))
    await trio.sleep(3)
    asked = Counter(line for line in server.commands[0] if line.startswith("RCPT"))
    tried = Counter(name for record in node.log.records for name in record.recipients)
    assert tried == Counter(addresses("a", "b", "c", "d"))
    assert max(asked.values()) <= 4
    assert msg.attempts == 1
    await node.spool.load_meta(msg)
    assert sorted(msg.recipients) == addresses("a", "b", "c", "d")


@EXTENSIONS
async def test_who_failed_in_one_batch_is_not_tried_in_the_next(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...]
) -> None:
    server = Server(answering({rcpt("b"): "450 greylisted"}, *extensions))
    node = await start_delivery(mock_clock, nursery, server, path=egress(max_recipients_per_batch=2))
    msg = await node.send(*addresses("a", "b", "c"))
    await node.done(3)
    assert [outcome(record) for record in node.log.records] == [
        ("Delivery", 250, ["a"]),
        ("TransientFailure", 450, ["b"]),
        ("Delivery", 250, ["c"]),
    ]
    await node.spool.load_meta(msg)
    assert (msg.recipients, msg.attempts) == (("b@b.test",), 1)


async def test_the_rest_of_a_batch_survives_a_broken_connection(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def one_transaction(peer: Peer) -> None:
        await peer.greet("8BITMIME")
        for _ in range(3):
            await peer.line()
            await peer.send("250 ok")
        await peer.line()
        await peer.send("354 go")
        peer.server.messages.append(None)  # type: ignore[arg-type]
        await peer.content()
        await peer.send("250 ok")

    server = Server(one_transaction)
    node = await start_delivery(mock_clock, nursery, server, path=egress(max_recipients_per_batch=2))
    msg = await node.send(*addresses("a", "b", "c"))
    await node.done(2)
    assert [outcome(record) for record in node.log.records] == [
        ("Delivery", 250, ["a", "b"]),
        ("TransientFailure", 400, ["c"]),
    ]
    await node.spool.load_meta(msg)
    assert msg.recipients == ("c@b.test",)


@EXTENSIONS
async def test_a_thousand_recipients(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...]
) -> None:
    names = [f"u{number}" for number in range(1000)]
    server = Server(answering({rcpt("u7"): "550 unknown", rcpt("u999"): "450 busy"}, *extensions))
    node = await start_delivery(mock_clock, nursery, server)
    msg = await node.send(*addresses(*names))
    await node.done(12)
    assert delivered(server) == Counter(name for name in names if name not in ("u7", "u999"))
    assert len(server.messages) == 10
    await node.spool.load_meta(msg)
    assert msg.recipients == ("u999@b.test",)
