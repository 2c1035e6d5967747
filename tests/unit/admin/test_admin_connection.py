"""HTTP/1.1 on one connection: what a client gets, and what bounds it. The clock is virtual."""

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import repeat
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from kumo_py.admin import connection
from kumo_py.admin.connection import Connection
from kumo_py.admin.exchange import Refusal, Request, Response, text_response
from kumo_py.net.transport import StreamTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

LIMIT = 1000


async def numbers(count: int) -> AsyncGenerator[bytes, None]:
    for number in range(count):
        yield b"%d " % number * 1000


async def answer(request: Request) -> Response:
    match request.target:
        case "/echo":
            return Response(await request.read())
        case "/stream":
            return Response(numbers(10))
        case "/refuse":
            raise Refusal(401, "no", [(b"www-authenticate", b"Basic")])
        case "/fail":
            raise RuntimeError("secret")
        case "/slow":
            await trio.sleep(100)
    return text_response(f"{request.method} {request.target} of {request.peer_ip}")


@asynccontextmanager
async def client() -> AsyncIterator[tuple[trio.abc.Stream, Connection]]:
    """A client's end, and the connection; it has ended when the block does."""
    here, there = memory_stream_pair()
    one = Connection(StreamTransport(there, "127.0.0.1:8000", "[2001:db8::1]:40000"), answer, LIMIT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, None)
        yield here, one
        await here.aclose()


async def received(stream: trio.abc.Stream, until: bytes) -> bytes:
    """What comes, up to some octets."""
    text = b""
    while until not in text:
        piece = bytes(await stream.receive_some())
        assert piece, text
        text += piece
    return text


async def send_until_closed(stream: trio.abc.Stream, pieces: Iterable[bytes], pause: float) -> int:
    """How many octets were taken."""
    sent = 0
    try:
        for piece in pieces:
            await stream.send_all(piece)
            sent += len(piece)
            await trio.sleep(pause)
    except trio.BrokenResourceError:
        return sent
    raise AssertionError("the connection was not closed")


async def everything(stream: trio.abc.Stream) -> bytes:
    text = b""
    while piece := await stream.receive_some():
        text += piece
    return text


async def test_requests_follow_each_other(autojump_clock: object) -> None:
    async with client() as (stream, _):
        await stream.send_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n")
        text = await received(stream, b"GET /b of")
        assert text.count(b"HTTP/1.1 200") == 2
        assert b"GET /a of 2001:db8::1" in text
        assert b"\r\nx-content-type-options: nosniff\r\n" in text.lower()
        await stream.send_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        assert (await received(stream, b"\r\n\r\nabc")).startswith(b"HTTP/1.1 200")


async def test_a_response_that_comes_in_pieces(autojump_clock: object) -> None:
    async with client() as (stream, _):
        await stream.send_all(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        text = await received(stream, b"0\r\n\r\n")
        assert b"transfer-encoding: chunked" in text.lower()
        assert text.count(b"9 ") >= 1000
        await stream.send_all(b"HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\nHEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
        text = await received(stream, b"content-length: 22\r\n\r\n")
        assert not text.endswith(b"of")
        assert b"9 9 " not in text
        await stream.send_all(b"GET /stream HTTP/1.0\r\n\r\n")
        text = await everything(stream)
        assert b"chunked" not in text
        assert text.endswith(b"9 ")


async def test_a_body_may_be_asked_for(autojump_clock: object) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with client() as (stream, _):
        await stream.send_all(head % b"/echo")
        assert await received(stream, b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
        await stream.send_all(b"abc")
        await received(stream, b"\r\n\r\nabc")
        await stream.send_all(head % b"/refuse")  # this one is not
        text = await everything(stream)
        assert text.startswith(b"HTTP/1.1 401 ")
        assert b"\r\nconnection: close\r\n" in text.lower()


async def test_what_is_refused_is_not_kept(autojump_clock: object) -> None:
    """The body is read for a moment, so that the client sees the response, and thrown away."""
    async with client() as (stream, _):
        await stream.send_all(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        began = trio.current_time()
        sent = await send_until_closed(stream, repeat(bytes(65536)), 0.01)
        assert sent <= connection.LINGER_SIZE + 2 * 65536
        assert trio.current_time() - began <= connection.LINGER_TIME + 0.1
        assert (await received(stream, b"\r\n\r\nno")).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n" + bytes(1001), 413),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1001, 413),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000, 431),
        (b"GET /a HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400),
        (b"EHLO client.example\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /fail HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 500),
    ],
)
async def test_bad_requests(autojump_clock: object, request_: bytes, status: int) -> None:
    async with client() as (stream, _):
        await stream.send_all(request_)
        text = await everything(stream)
        assert text.startswith(b"HTTP/1.1 %d " % status)
        assert status == 413 or b"\r\nconnection: close\r\n" in text.lower()
        assert b"secret" not in text


async def test_a_client_that_takes_its_time(autojump_clock: object) -> None:
    async with client() as (stream, _):  # for the first request
        assert await everything(stream) == b""
        assert trio.current_time() == pytest.approx(connection.HEAD_TIME)
    began = trio.current_time()
    async with client() as (stream, _):  # between two requests
        await stream.send_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        await everything(stream)
        assert trio.current_time() - began == pytest.approx(connection.IDLE_TIME)


async def test_an_octet_now_and_then(autojump_clock: object) -> None:
    async with client() as (stream, _):
        began = trio.current_time()
        head = b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 1000
        await send_until_closed(stream, (bytes([octet]) for octet in head), 1)
        assert trio.current_time() - began <= connection.HEAD_TIME + 1
    async with client() as (stream, _):
        began = trio.current_time()
        await stream.send_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n")
        await send_until_closed(stream, repeat(b"x"), 1)
        assert trio.current_time() - began <= connection.BODY_TIME + connection.LINGER_TIME + 2
        assert (await received(stream, b"too long")).startswith(b"HTTP/1.1 408 ")


async def test_a_client_that_reads_nothing(autojump_clock: object) -> None:
    """Sends hang when buffers are full; then the connection ends, and what makes the response is closed."""
    closed = False

    async def endless() -> AsyncGenerator[bytes, None]:
        nonlocal closed
        try:
            while True:
                yield bytes(8192)
        finally:
            closed = True

    async def stream_it(request: Request) -> Response:
        return Response(endless())

    here, there = trio.testing.lockstep_stream_pair()
    await_end = Connection(StreamTransport(there), stream_it, LIMIT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(await_end.run, None)
        await here.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        began = trio.current_time()
    assert connection.SEND_TIME <= trio.current_time() - began <= connection.SEND_TIME + 20
    assert closed


async def test_the_end(autojump_clock: object) -> None:
    async with client() as (stream, one):
        await stream.send_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        await received(stream, b"GET /a of")
        began = trio.current_time()
        one.end()  # at once when idle
        assert await everything(stream) == b""
        assert trio.current_time() == began
    async with client() as (stream, one):
        await stream.send_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await trio.sleep(1)
        one.end()  # after the request in hand
        text = await everything(stream)
        assert b"\r\nconnection: close\r\n" in text.lower()
        assert b"GET /slow" in text
    async with client() as (stream, one):
        one.end()
        assert await everything(stream) == b""


FRAGMENTS = [
    b"GET /a HTTP/1.1\r\n",
    b"POST /echo HTTP/1.1\r\n",
    b"CONNECT x:1 HTTP/1.1\r\n",
    b"Host: x\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b"5\r\nabcde\r\n",
    b"0\r\n\r\n",
    b"\r\n",
]


@settings(max_examples=150)
@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=40)), max_size=12))
def test_any_input_is_answered_or_ends_the_connection(pieces: list[bytes]) -> None:
    """Whole or byte by byte, the answers are the same, and nothing is raised."""

    async def run(chunks: list[bytes]) -> bytes:
        async with client() as (stream, _):
            with trio.move_on_after(1000):
                try:
                    for chunk in chunks:
                        await stream.send_all(chunk)
                        await trio.lowlevel.checkpoint()
                except trio.BrokenResourceError:
                    pass
                return await everything(stream)
        raise AssertionError("the connection did not end")

    whole = b"".join(pieces)
    answers = []
    for chunks in ([whole] if whole else [], [bytes([octet]) for octet in whole]):
        text = trio.run(run, chunks, clock=trio.testing.MockClock(autojump_threshold=0))
        assert text == b"" or text.startswith(b"HTTP/1.1 ")
        answers.append([line[:12] for line in text.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")])
    assert answers[0] == answers[1]
