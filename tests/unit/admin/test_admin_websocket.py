"""WebSocket on a connection of the HTTP API: what a client gets, and what bounds it. The clock is virtual."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import memory_stream_pair
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from kumo_py.admin.connection import Connection
from kumo_py.admin.exchange import Request as HttpRequest
from kumo_py.admin.exchange import Response, text_response
from kumo_py.admin.websocket import (
    DEAD_TIME,
    MAX_REQUEST,
    PING_INTERVAL,
    REQUEST_TIME,
    SEND_TIME,
    websocket_response,
)
from kumo_py.net.transport import StreamTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from trio.testing import MockClock

UPGRADE = (
    b"GET /stream HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
"""With the key of RFC 6455 §1.3."""


class Counting:
    """A stream of numbers: as many as it is asked for, and more when told so."""

    def __init__(self) -> None:
        self.is_open = False
        self.begun: bytes | None = None
        self._left = 0
        self._more = trio.Event()

    @contextmanager
    def open(self) -> Iterator[None]:
        self.is_open = True
        try:
            yield
        finally:
            self.is_open = False

    def begin(self, request: bytes) -> None:
        self.begun = request
        self.add(int(request))

    def add(self, count: int) -> None:
        self._left += count
        self._more.set()

    async def wait(self) -> None:
        if not self._left:
            self._more = trio.Event()
            await self._more.wait()

    def take(self) -> list[bytes]:
        taken = min(self._left, 100)
        self._left -= taken
        return [b"%d" % number for number in range(taken)]


class Peer:
    """A client's end, and what it is connected to."""

    def __init__(self, stream: trio.abc.Stream, connection: Connection, numbers: Counting) -> None:
        self.stream = stream
        self.connection = connection
        self.numbers = numbers
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []

    async def send(self, *events: Event) -> None:
        for event in events:
            await self.stream.send_all(self.protocol.send(event))

    async def event(self) -> Event:
        while not self._events:
            data = await self.stream.receive_some()
            assert data, "closed"
            self.protocol.receive_data(bytes(data))
            self._events = list(self.protocol.events())
        return self._events.pop(0)

    async def shake_hands(self) -> None:
        await self.send(Request(host="h", target="/stream"))
        assert isinstance(await self.event(), AcceptConnection)

    async def texts(self, count: int) -> list[str]:
        found = [await self.event() for _ in range(count)]
        assert all(isinstance(event, TextMessage) for event in found), found
        return [event.data for event in found if isinstance(event, Message)]

    async def close(self) -> tuple[int, str | None]:
        """The code and reason with which the node ends the connection, which it does."""
        while not isinstance(event := await self.event(), CloseConnection):
            assert isinstance(event, Ping | TextMessage), event
        assert await self.ended() == b""
        return int(event.code), event.reason

    async def ended(self) -> bytes:
        rest = b""
        while data := await self.stream.receive_some():
            rest += bytes(data)
        return rest


@asynccontextmanager
async def peer() -> AsyncIterator[Peer]:
    """The connection has ended when the block does."""
    here, there = memory_stream_pair()
    numbers = Counting()

    async def answer(request: HttpRequest) -> Response:
        if request.target != "/stream":
            return text_response("page")
        return websocket_response(request, numbers)

    connection = Connection(StreamTransport(there), answer, 1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, None)
        yield Peer(here, connection, numbers)
        await here.aclose()
    assert not numbers.is_open


async def test_a_stream() -> None:
    async with peer() as client:
        await client.shake_hands()
        assert client.numbers.is_open, "before the client has said what it wants"
        await client.send(TextMessage("3"))
        assert await client.texts(3) == ["0", "1", "2"]
        client.numbers.add(250)
        assert len(await client.texts(250)) == 250
        await client.send(CloseConnection(1000, "enough"))
        assert await client.close() == (1000, "enough")


async def test_the_handshake_of_the_standard() -> None:
    async with peer() as client:
        await client.stream.send_all(UPGRADE + b"\r\n")
        answer = bytes(await client.stream.receive_some())
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer


async def test_what_comes_right_behind_the_request() -> None:
    protocol = WSConnection(ConnectionType.CLIENT)
    request = protocol.send(Request(host="h", target="/stream"))
    async with peer() as client:
        early = b"\x81\x81\0\0\0\x002"  # a text, "2", under a mask of zeros
        client.protocol = protocol
        await client.stream.send_all(request + early)
        assert isinstance(await client.event(), AcceptConnection)
        assert await client.texts(2) == ["0", "1"]


async def test_after_another_request() -> None:
    async with peer() as client:
        await client.stream.send_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"page" in bytes(await client.stream.receive_some())
        await client.shake_hands()


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ((b"Upgrade: websocket\r\n", b""), 400, b"Upgrade: websocket"),
        ((b"Connection: Upgrade\r\n", b""), 400, b"Connection: Upgrade"),
        ((b"Version: 13", b"Version: 12"), 426, b"sec-websocket-version: 13"),
        ((b"Sec-WebSocket-Version: 13\r\n", b""), 400, b"Sec-WebSocket-Version"),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhl"), 400, b"16 octets in base64"),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"%%%"), 400, b"not a WebSocket request"),
        ((b"Host: h", b"Host: xn--\xff"), 400, b"not a WebSocket request"),
        ((b"Connection: Upgrade", b"Connection: \xff"), 400, b"not a WebSocket request"),
        ((b"GET", b"HEAD"), 405, b"allow: GET"),
        ((b"GET", b"POST"), 405, b"allow: GET"),
    ],
)
async def test_requests_that_do_not_ask_for_it(change: tuple[bytes, bytes], status: int, text: bytes) -> None:
    async with peer() as client:
        await client.stream.send_all(UPGRADE.replace(*change) + b"\r\n")
        answer = bytes(await client.stream.receive_some())
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert text.lower() in answer.lower()
        assert not client.numbers.is_open


async def test_a_request_that_makes_no_sense() -> None:
    async with peer() as client:
        await client.shake_hands()
        await client.send(TextMessage("three"))
        assert await client.close() == (1008, "invalid literal for int() with base 10: b'three'")


async def test_nothing_is_asked_for(autojump_clock: MockClock) -> None:
    async with peer() as client:
        await client.shake_hands()
        start = trio.current_time()
        assert (await client.close())[0] == 1008
        assert trio.current_time() - start == pytest.approx(REQUEST_TIME)


async def test_more_is_asked_for() -> None:
    async with peer() as client:
        await client.shake_hands()
        await client.send(TextMessage("0"), TextMessage("1"))
        assert await client.close() == (1008, "nothing more can be asked for")


async def test_pings_of_the_client() -> None:
    async with peer() as client:
        await client.shake_hands()
        await client.send(TextMessage("0"), *[Ping(b"%d" % number) for number in range(1000)])
        for number in range(1000):
            assert await client.event() == Pong(b"%d" % number)


async def test_a_client_that_lives(autojump_clock: MockClock) -> None:
    """It answers pings, and has nothing else to say."""
    async with peer() as client:
        await client.shake_hands()
        await client.send(TextMessage("0"))
        start = trio.current_time()
        for _ in range(10):
            ping = await client.event()
            assert isinstance(ping, Ping)
            await client.send(ping.response())
        assert trio.current_time() - start == pytest.approx(10 * PING_INTERVAL)
        client.numbers.add(1)
        assert await client.texts(1) == ["0"]


async def test_a_client_that_is_gone(autojump_clock: MockClock) -> None:
    """Nothing comes from it, though what is sent seems to arrive."""
    async with peer() as client:
        await client.shake_hands()
        await client.send(TextMessage("0"))
        start = trio.current_time()
        with trio.move_on_after(DEAD_TIME - 1):
            while True:
                client.numbers.add(1)
                await trio.sleep(1)
        assert client.numbers.is_open
        assert (await client.close())[1] == f"nothing was heard for {DEAD_TIME:g}s"
        assert trio.current_time() - start == pytest.approx(DEAD_TIME)


async def test_a_client_that_reads_nothing(mock_clock: MockClock) -> None:
    """A send that does not come to its end is given up."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    numbers = Counting()

    async def answer(request: HttpRequest) -> Response:
        return websocket_response(request, numbers)

    connection = Connection(StreamTransport(theirs), answer, 1000)
    protocol = WSConnection(ConnectionType.CLIENT)
    mock_clock.autojump_threshold = 0.01
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, None)
        await ours.send_all(protocol.send(Request(host="h", target="/stream")))
        await ours.receive_some()
        await ours.send_all(b"\x81\x81\0\0\0\x009")
        start = trio.current_time()
    assert trio.current_time() - start == pytest.approx(min(SEND_TIME, DEAD_TIME))
    assert not numbers.is_open


@pytest.mark.parametrize("asked", [False, True])
async def test_the_node_stops(asked: bool) -> None:
    async with peer() as client:
        await client.shake_hands()
        if asked:
            await client.send(TextMessage("1"))
            await client.texts(1)
        client.connection.end()
        assert await client.close() == (1001, "the node is shutting down")


@pytest.mark.parametrize("asked", [False, True])
async def test_an_abrupt_end(asked: bool) -> None:
    async with peer() as client:
        await client.shake_hands()
        if asked:
            await client.send(TextMessage("1"))
            await client.texts(1)
        assert isinstance(client.stream, trio.StapledStream)
        client.stream.send_stream.close()  # type: ignore[attr-defined]
        assert await client.ended() == b""


# -- hostile frames ------------------------------------------------------------------------------------------------
def frame(head: int, payload: bytes, *, masked: bool = True) -> bytes:
    """One frame; its mask is zeros."""
    size = len(payload)
    length = (
        bytes([size])
        if size < 126
        else b"\x7e" + size.to_bytes(2)
        if size < 65536
        else b"\x7f" + size.to_bytes(8)
    )
    if not masked:
        return bytes([head]) + length + payload
    return bytes([head, length[0] | 0x80]) + length[1:] + bytes(4) + payload


TEXT, MORE, END, PING = 0x01, 0x00, 0x80, 0x89
HOSTILE = {
    "unmasked": (frame(0x81, b"1", masked=False), 1002),
    "bad UTF-8": (frame(0x81, b"\xff\xfe"), 1007),
    "UTF-8 that is cut off": (frame(0x81, b"\xe2\x82"), 1007),
    "reserved bits": (frame(0xF1, b"1"), 1002),
    "an unknown opcode": (frame(0x83, b"1"), 1002),
    "a ping in pieces": (frame(0x09, b"1"), 1002),
    "a long ping": (frame(PING, b"x" * 126), 1002),
    "a continuation of nothing": (frame(END, b"1"), 1002),
    "a text within a text": (frame(TEXT, b"1") + frame(TEXT, b"1"), 1002),
    "a text that is too long": (frame(0x81, b"1" * (MAX_REQUEST + 1)), 1009),
    "octets that are too many": (frame(0x82, b"1" * (MAX_REQUEST + 1)), 1009),
    "pieces that are too many octets": (frame(TEXT, b"1" * 999) + frame(MORE, b"1" * 999) * 70, 1009),
    "empty pieces without end": (frame(TEXT, b"") + frame(MORE, b"") * 20000, 1009),
    "the begin of an endless text": (
        b"\x81\xff" + (1 << 62).to_bytes(8) + bytes(4) + b"1" * (MAX_REQUEST + 1),
        1009,
    ),
}


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_frames(name: str, asked: bool) -> None:
    octets, code = HOSTILE[name]
    async with peer() as client:
        await client.shake_hands()
        if asked:
            await client.send(TextMessage("1"))
            await client.texts(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.stream.send_all, octets)
            assert (await client.close())[0] == code


async def test_other_tasks_run_while_frames_pour_in() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with peer() as client:
        await client.shake_hands()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await client.stream.send_all(frame(TEXT, b"") + frame(MORE, b"") * 10000 + frame(PING, b"!"))
            assert await client.event() == Pong(b"!")
            nursery.cancel_scope.cancel()
    assert turns > 100


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_whatever_is_sent(pieces: list[bytes]) -> None:
    """A connection ends, and nothing is raised (warnings of tasks would be errors)."""

    async def main() -> None:
        async with peer() as client:
            await client.shake_hands()
            with suppress(trio.BrokenResourceError):
                for piece in pieces:
                    await client.stream.send_all(piece)
            assert isinstance(client.stream, trio.StapledStream)
            client.stream.send_stream.close()  # type: ignore[attr-defined]
            await client.ended()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
