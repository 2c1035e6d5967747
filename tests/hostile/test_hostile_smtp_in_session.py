"""Hostile clients against real sessions: smuggling, floods, drips, junk."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
import trio.testing
from smtp_in_harness import HOST, MakeNode, Node

LOOK_ALIKES = [
    b"\n.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\0\r\n.\r\0\n",
    b"\r\n.\r\0\n",
    b"\r\r\n.\r\r\n",
    b"\n\r\n.\r\r\n",
    b"\x85.\x85",
    b"\xe2\x80\xa8.\xe2\x80\xa8",
    b"\r\n\x2e\x0b\r\n",
]
SMUGGLED = b"MAIL FROM:<evil@a.test>\r\nRCPT TO:<victim@b.test>\r\nDATA\r\nSubject: smuggled\r\n\r\n"


@pytest.fixture
async def make_node() -> Any:
    async with trio.open_nursery() as nursery:
        yield lambda *args, **options: Node(nursery, *args, **options)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("endings", ["Deny", "Allow", "Fix"])
@pytest.mark.parametrize("mark", LOOK_ALIKES)
@pytest.mark.parametrize("cut", [None, 0, 1, 2, 3])
async def test_end_of_data_look_alikes(make_node: MakeNode, endings: str, mark: bytes, cut: Any) -> None:
    """Never two messages, whatever stands between them; whole, or cut anywhere inside the mark."""
    node = make_node(invalid_line_endings=endings)
    client = node.connect()
    await client.start_data()
    first = b"Subject: first\r\n\r\nhello"
    wire = first + mark + SMUGGLED + b"bye\r\n.\r\n"
    if cut is None:
        await client.send(wire)
    else:
        await client.send(wire[: len(first) + cut])
        await trio.testing.wait_all_tasks_blocked()
        await client.send(wire[len(first) + cut :])
    reply = await client.reply()
    bare = b"\r" in mark.replace(b"\r\n", b"") or b"\n" in mark.replace(b"\r\n", b"")
    assert reply[:3] == ("552" if endings == "Deny" and bare else "250")
    assert (await client.command("NOOP"))[:3] == "250"
    assert [msg.sender for msg in node.queues.messages] == ([] if reply[:3] == "552" else ["from@a.test"])
    if endings == "Fix" and node.queues.inserted:
        content = node.message.data.replace(b"\r\n", b"")
        assert b"\r" not in content
        assert b"\n" not in content


async def test_lines_without_end(make_node: MakeNode) -> None:
    node = make_node()
    client = node.connect()
    await client.greet()
    (session,) = node.endpoint.sessions
    for _ in range(200):
        await client.send(b"x" * 65536)
        await trio.testing.wait_all_tasks_blocked()
        assert len(session.receiver._buffer) <= 65536 + 1000
    await client.send(b"\r\n")
    assert await client.reply() == "500 5.2.3 line too long"
    assert (await client.command("NOOP"))[:3] == "250"


@pytest.mark.parametrize("begin", ["DATA\r\n", "BDAT 99999999999999999999\r\n", "BDAT 13107200 LAST\r\n"])
async def test_contents_without_end(make_node: MakeNode, begin: str) -> None:
    node = make_node(max_message_size=100_000)
    client = node.connect()
    await client.greet()
    await client.commands("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>")
    await client.send(begin.encode())
    (session,) = node.endpoint.sessions
    for _ in range(200):
        await client.send(b"x" * 65536)
        await trio.testing.wait_all_tasks_blocked()
        kept = sum(len(chunk) for chunk in session.receiver._chunks) + len(session.receiver._buffer)
        assert kept <= 100_000 + 2 * 65536
    if begin.startswith("DATA"):
        assert (await client.reply())[:3] == "354"
        await client.send(b"\r\n.\r\n")
    if begin.endswith("LAST\r\n") or begin.startswith("DATA"):
        assert await client.reply() == "552 5.3.4 message too big"
        assert (await client.command("NOOP"))[:3] == "250"


async def test_a_hundred_thousand_recipients(make_node: MakeNode) -> None:
    node = make_node()
    client = node.connect()
    await client.greet()
    await client.command("MAIL FROM:<a@b.test>")
    (session,) = node.endpoint.sessions
    batch = 1000
    for start in range(0, 100_000, batch):
        await client.send(b"".join(b"RCPT TO:<u%d@d.test>\r\n" % (start + i) for i in range(batch)))
        answers = b""
        while answers.count(b"\n") < batch:
            answers += await client.stream.receive_some()
        assert {line[:3] for line in answers.splitlines()} <= {b"250", b"452"}
    assert len(session.transaction.recipients) == 1024
    await client.command("DATA")
    await client.send(b"Subject: x\r\n\r\n.\r\n")
    reply = await client.reply()
    assert reply.startswith("250 OK ids=")
    assert len(node.queues.inserted) == 1024


async def test_pipelined_flood_is_answered_in_bounded_pieces(make_node: MakeNode) -> None:
    node = make_node()
    client = node.connect()
    await client.reply()
    await client.send(b"EHLO c.test\r\n" * 20_000)
    (session,) = node.endpoint.sessions
    most = 0
    for _ in range(20_000):
        assert (await client.reply())[:3] == "250"
        most = max(most, len(session._out))
    assert most <= 256
    assert await client.command("NOOP") == "250 the goggles do nothing"


async def test_talking_before_the_banner(make_node: MakeNode) -> None:
    node = make_node()
    client = node.connect()
    await client.send(b"EHLO c.test\r\nQUIT\r\n")
    assert await client.codes(3) == ["220", "250", "221"]
    assert await client.closed() == b""


async def test_others_get_a_turn_during_a_flood(make_node: MakeNode) -> None:
    """A client that sends without pause does not keep the loop for itself."""
    node = make_node()
    flooder = node.connect()
    await flooder.greet()
    other = node.connect()

    async def flood() -> None:
        while True:
            await flooder.send(b"NOOP\r\n" * 10_000)
            await flooder.stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        with trio.fail_after(5):
            await other.greet()
            assert await other.command("NOOP") == "250 the goggles do nothing"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "line",
    [
        b"EHLO evil\x00.test",
        b"EHLO evil\nX-Injected: yes",
        b"EHLO \x1b[31mred",
        b"EHLO " + b"a" * 300,
        b"MAIL FROM:<a\r@b.test>",
        b"MAIL FROM:<a@b.test\n>",
        b'MAIL FROM:<"a\x00"@b.test>',
        b"MAIL FROM:<a@b.test> SIZE=1\x0b",
        b"MAIL FROM:<a@b.test> X=\x00",
        "MAIL FROM:<a\x85@b.test>".encode(),
        b"NOOP \x07",
        b"VRFY a\nb",
        b"XCLIENT ADDR=1.2.3.4\nPORT=5",
        b"\x00",
        b"",
        b" ",
        b"\xff\xfe\xfd",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1",
    ],
)
async def test_control_characters_and_junk_are_refused(make_node: MakeNode, line: str) -> None:
    node = make_node(allow_xclient=True)
    client = node.connect()
    await client.reply()
    assert (await client.command(line))[0] == "5"
    assert await client.command("EHLO c.test") != ""
    (session,) = node.endpoint.sessions
    assert session.transaction is None
    assert session.meta.values["ehlo_domain"] == "c.test"


async def test_what_is_not_sane_never_reaches_a_header(make_node: MakeNode) -> None:
    """Whatever a client says before DATA, the trace headers keep their lines."""
    node = make_node()
    client = node.connect()
    await client.reply()
    for line in ("EHLO [IPv6:2001:db8::1]", 'MAIL FROM:<"a b"@b.test>', 'RCPT TO:<"c\\\\d"@d.test>', "DATA"):
        assert (await client.command(line))[0] in "23"
    await client.send(b"Subject: x\r\n\r\n.\r\n")
    assert (await client.reply())[:3] == "250"
    head = node.message.data.split(b"\r\n\r\n")[0].split(b"\r\n")
    names = [line.split(b":")[0] for line in head if line[:1] not in b" \t"]
    assert names == [b"X-KumoRef", b"Received", b"Subject"]


COMMANDS = [
    b"EHLO c.test\r\n",
    b"HELO c.test\r\n",
    b"MAIL FROM:<a@b.test>\r\n",
    b"MAIL FROM:<a@b.test> SIZE=10 BODY=8BITMIME\r\n",
    b"RCPT TO:<c@d.test>\r\n",
    b"DATA\r\n",
    b"Subject: x\r\n\r\nbody\r\n.\r\n",
    b"\r\n.\r\n",
    b"BDAT 5\r\nx\r\n\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 3 LAST\r\na\nb",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"STARTTLS\r\n",
    b"AUTH PLAIN\r\n",
    b"XCLIENT ADDR=1.2.3.4\r\n",
    b"junk\r\n",
    b"\xff\r\n",
    b"\n.\n",
    b"x" * 2000 + b"\r\n",
]


@pytest.mark.parametrize("seed", range(30))
async def test_random_conversations(make_node: MakeNode, seed: int) -> None:
    """Any order of commands, cut anywhere: the same replies as when it comes whole, and no error of ours."""
    rng = random.Random(seed)
    wire = b"".join(rng.choice(COMMANDS) for _ in range(60))

    async def converse(pieces: list[bytes]) -> tuple[bytes, list[bytes]]:
        node = make_node()
        client = node.connect()
        await client.reply()
        for piece in pieces:
            await client.send(piece)
            await trio.testing.wait_all_tasks_blocked()
        await client.stream.send_stream.aclose()
        answers = await client.closed()
        assert b"technical difficulties" not in answers
        return answers, [msg.data for msg in node.queues.messages]

    whole = await converse([wire])
    cuts = sorted(rng.sample(range(len(wire)), 40))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert await converse(pieces) == whole


async def test_drips_in_every_place(make_node: MakeNode, autojump_clock: trio.testing.MockClock) -> None:
    """One octet in five seconds: after EHLO, in a command, in DATA, in a chunk, in AUTH; all are shut out in time."""
    node = make_node(client_timeout="20s")
    for begin in (
        b"",
        b"EHLO c.test\r\n",
        b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n",
        b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 1000\r\n",
    ):
        client = node.connect()
        started = trio.current_time()
        await client.send(begin)
        while not client.ended.is_set():
            await client.send(b"x")
            await trio.sleep(5)
        assert trio.current_time() - started < 35
        assert f"421 4.3.2 {HOST} idle too long\r\n".encode() in await client.closed()
    assert node.endpoint.sessions == set()
