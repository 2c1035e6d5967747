"""Servers that speak no SMTP, or too much of it: bounded, and never taken for an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from smtp_out_harness import ENVELOPE_REPLIES, TIMEOUTS, Server, egress, start_delivery, usual

from kumo_py.core.duration import Duration

if TYPE_CHECKING:
    from smtp_out_harness import Peer, Script
    from trio.testing import MockClock

BARE = ("8BITMIME",)


def endless(piece: bytes, greeted: bool) -> Script:
    async def script(peer: Peer) -> None:
        if greeted:
            await peer.greet(*BARE)
            await peer.line()
        for _ in range(2000):
            await peer.send(piece)
        await trio.sleep_forever()

    return script


@pytest.mark.parametrize("greeted", [False, True])
@pytest.mark.parametrize(
    "piece",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x16\x03\x01\x02\x00" * 1000,
        b"\0" * 5000,
        b"250-more\r\n",
        b"220-more\r\n",
        b"220-x\r\n250 y\r\n",
        b"999 no such code\r\n",
        b"2500 too long\r\n",
        b"25\r\n",
        b"\r\n",
        b"\n\n\n\n",
        b"x" * 10_000,
        b"250 " + b"x" * 10_000,
        b"\xff\xfe\r\n",
    ],
)
async def test_nonsense_is_bounded(
    mock_clock: MockClock, nursery: trio.Nursery, piece: bytes, greeted: bool
) -> None:
    server = Server(endless(piece, greeted))
    node = await start_delivery(mock_clock, nursery, server, path=egress(**TIMEOUTS))
    msg = await node.send()
    await node.log.reach(1)
    (record,) = node.log.records
    assert record.kind in ("TransientFailure", "Bounce")
    assert record.code in (400, 421)
    assert node.in_spool(msg)
    assert len(record.content) < 1000
    await node.stop()


async def test_replies_in_single_octets(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        async def spell(*lines: str) -> None:
            for octet in "".join(f"{line}\r\n" for line in lines).encode():
                await peer.send(bytes([octet]))
                await trio.lowlevel.checkpoint()

        await spell("220 peer")
        await peer.line()
        await spell("250-peer", "250 PIPELINING")
        for _ in range(2):
            while await peer.line() != "DATA":
                pass
            await spell(*(["250 ok"] if len(peer.server.messages) else []), *ENVELOPE_REPLIES)
            peer.server.messages.append((await peer.content(),))  # type: ignore[arg-type]
            await spell("250-queued", "250 as 7")
        await peer.converse()

    server = Server(script)
    node = await start_delivery(mock_clock, nursery, server)
    for _ in range(2):
        await node.send()
    await node.done(2)
    assert [record.content for record in node.log.records] == ["queued\nas 7"] * 2


async def test_an_answer_that_comes_too_early_ends_the_idle_connection(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    """What a server says unasked must not be taken for the answer to the next message."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        for _ in range(3):
            await peer.line()
        await peer.send(*ENVELOPE_REPLIES)
        await peer.content()
        await peer.send("250 queued", "250 ok", "250 ok", "354 go", "250 queued the next one too")
        await peer.line()

    server = Server(script, usual())
    node = await start_delivery(mock_clock, nursery, server, path=egress(idle_timeout=Duration(60)))
    await node.send()
    await node.log.reach(1)
    await trio.sleep(1)
    await node.send()
    await node.done(2)
    assert len(server.messages) == 1
