"""Hostile bytes to a real HTTP listener: bodies without end, bombs, smuggling, floods, drips.

Whatever is sent, the node answers it once or hangs up, runs no request that was not sent in the clear order, keeps
nothing, and goes on answering others.
"""

from __future__ import annotations

import gzip
import random
import resource
import zlib
from typing import TYPE_CHECKING

import orjson
import pytest
import trio
import zstandard
from http_wire import STRANGER, TRUSTED, USER, Wire, address_of, http_node
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kumo_py.admin import connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from kumo_py.daemon import Node

pytestmark = pytest.mark.time_limit(60)

LIMIT = 100_000
"""request_body_limit of these nodes."""
JSON = "Content-Type: application/json\r\n"
SUSPEND = "/api/admin/suspend/v1"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with http_node(tmp_path, f"request_body_limit = {LIMIT}") as node:
        yield node
        async with Wire(address_of(node)) as wire:
            assert (await wire.ask("GET", "/api/check-liveness/v1")).status == 200


def memory() -> int:
    """The most that the process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# -- large bodies --------------------------------------------------------------------------------------------------
async def test_more_than_the_limit_with_a_length(node: Node) -> None:
    async with Wire(address_of(node)) as wire:
        for size in (LIMIT + 1, 10 * LIMIT, 10**12, 10**18):
            await wire.send(f"POST {SUSPEND} HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: {size}\r\n\r\n")
            await wire.send(b" " * min(size, LIMIT + 1000))
            answer = await wire.answer()
            assert answer is not None
            assert answer.status == 413
            assert size == LIMIT + 1 or answer.headers[b"connection"] == b"close"
    assert node.admin.list_suspensions() == []


@pytest.mark.parametrize(
    "length", ["-1", "+5", "0x10", "1e3", "5, 5", "5 5", "", "5;", "\u0665", "9" * 5000, "5.0"]
)
async def test_lengths_that_are_none(node: Node, length: str) -> None:
    async with Wire(address_of(node)) as wire:
        await wire.send(f"POST {SUSPEND} HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: {length}\r\n\r\nhello")
        answer = await wire.answer()
        assert answer is None or answer.status in (400, 413)
        # Two equal lengths are one (RFC 9110 section 8.6), and "hello" is no JSON.
        assert length == "5, 5" or await wire.is_closed()


async def test_a_chunked_body_without_end(node: Node) -> None:
    before = memory()
    async with Wire(address_of(node)) as wire:
        await wire.send(f"POST {SUSPEND} HTTP/1.1\r\nHost: x\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(400):
            await wire.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        answer = await wire.answer()
        assert answer is not None
        assert answer.status == 413
    assert memory() - before < 32 << 20


async def test_many_tiny_chunks(node: Node) -> None:
    """A chunk for each octet costs the node no more than its share."""
    body = b'{"reason": "x"' + b" " * 20_000 + b"}"
    async with Wire(address_of(node)) as wire:
        await wire.send(f"POST {SUSPEND} HTTP/1.1\r\nHost: x\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n")
        await wire.send(b"".join(b"1\r\n%c\r\n" % octet for octet in body) + b"0\r\n\r\n")
        answer = await wire.answer()
        assert answer is not None
        assert answer.status == 200


async def test_a_stranger_sends_what_he_likes(node: Node) -> None:
    """What nobody wants is not kept."""
    before = memory()
    async with Wire(address_of(node), STRANGER) as wire:
        await wire.send(f"POST {SUSPEND} HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: {10**9}\r\n\r\n")
        for _ in range(200):
            await wire.send(bytes(0x10000))
        answer = await wire.answer()
        assert answer is None or answer.status == 401
    assert memory() - before < 16 << 20


def zstd_frames(data: bytes, count: int) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data) * count


def zstd_window(log: int) -> bytes:
    """A frame that asks for a window of that size."""
    params = zstandard.ZstdCompressionParameters(window_log=log, enable_ldm=False)
    compressing = zstandard.ZstdCompressor(compression_params=params).compressobj()
    return compressing.compress(b" " * 1000) + compressing.flush()


ZEROS = bytes(200 << 20)
BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gzip": ("gzip", lambda: gzip.compress(ZEROS, 9)),
    "deflate": ("deflate", lambda: zlib.compress(ZEROS, 9)),
    "gzip in members": ("gzip", lambda: gzip.compress(bytes(1 << 20)) * 50),
    "zstd": ("zstd", lambda: zstd_frames(ZEROS, 1)),
    "zstd in frames": ("zstd", lambda: zstd_frames(bytes(1 << 20), 500)),
    "zstd in empty frames": ("zstd", lambda: zstd_frames(b"", 5000)),
    "zstd with skippable frames": ("zstd", lambda: b"\x50\x2a\x4d\x18\x00\x00\x00\x00" * 5000),
    "zstd with a window of 128 MB": ("zstd", lambda: zstd_window(27)),
}


@pytest.mark.parametrize("what", BOMBS)
async def test_bombs(node: Node, what: str) -> None:
    """What is packed is taken out up to the limit, and no further."""
    coding, make = BOMBS[what]
    body = make()[:LIMIT]
    before = memory()
    async with Wire(address_of(node)) as wire:
        answer = await wire.ask("POST", SUSPEND, f"{JSON}Content-Encoding: {coding}\r\n", body)
        assert answer.status in (400, 413), answer
        assert answer.took < 1.0
    assert memory() - before < 32 << 20
    assert node.admin.list_suspensions() == []


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_what_is_packed_badly(node: Node, coding: str) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.ZstdCompressor().compress}[
        coding
    ]
    good = pack(b'{"reason": "x"}')
    rng = random.Random(1)
    spoiled = [bytes(rng.choice([octet, 255 - octet]) for octet in good) for _ in range(20)]
    async with Wire(address_of(node)) as wire:
        for body in [b"", b"\0", good[:-1], good[:5], good[1:], *spoiled]:
            answer = await wire.ask("POST", SUSPEND, f"{JSON}Content-Encoding: {coding}\r\n", body)
            assert answer.status in (400, 413, 422), (body, answer)
        for other in (
            "gzip, gzip",
            "br",
            "compress",
            f"{coding};q=1",
            "x",
            "identity, identity",
            f"{coding},",
        ):
            answer = await wire.ask("POST", SUSPEND, f"{JSON}Content-Encoding: {other}\r\n", good)
            assert answer.status == 415, (other, answer)
        twice = f"{JSON}Content-Encoding: {coding}\r\nContent-Encoding: {coding}\r\n"
        assert (await wire.ask("POST", SUSPEND, twice, good)).status == 400
        assert node.admin.list_suspensions() == []
        answer = await wire.ask("POST", SUSPEND, f"{JSON}Content-Encoding: {coding}\r\n", good)
        assert answer.status == 200


# -- slow ones -----------------------------------------------------------------------------------------------------
async def test_heads_and_bodies_in_drips(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """An octet now and then keeps nobody waiting: the time is that of the whole, not of the next octet."""
    monkeypatch.setattr(connection, "HEAD_TIME", 0.3)
    monkeypatch.setattr(connection, "BODY_TIME", 0.3)
    monkeypatch.setattr(connection, "LINGER_TIME", 0.1)

    async def drip(start: str, more: str, status: int | None) -> None:
        async with Wire(address_of(node)) as wire, trio.open_nursery() as nursery:
            await wire.connected()

            async def send() -> None:
                await wire.send(start)
                for octet in more:
                    await wire.send(octet)
                    await trio.sleep(0.05)

            began = trio.current_time()
            nursery.start_soon(send)
            answer = await wire.answer()
            assert (None if answer is None else answer.status) == status
            assert trio.current_time() - began < 3
            nursery.cancel_scope.cancel()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, "", "GET /metrics HTTP/1.1\r\n" * 5, None)
            nursery.start_soon(drip, "GET /metrics HTTP/1.1\r\n", "X-Header: value\r\n" * 5, None)
            head = f"POST {SUSPEND} HTTP/1.1\r\nHost: x\r\n{JSON}"
            nursery.start_soon(drip, f"{head}Content-Length: 1000\r\n\r\n", '{"reason": "' * 10, 408)
            nursery.start_soon(drip, f"{head}Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n" * 20, 408)


async def test_who_does_not_read_is_left(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests without end whose answers nobody takes: the node stops reading them."""
    monkeypatch.setattr(connection, "SEND_TIME", 0.3)
    before = memory()
    async with Wire(address_of(node)) as wire:
        with trio.move_on_after(1.5):
            for _ in range(5000):
                await wire.send("GET /console/console.js HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
    assert memory() - before < 32 << 20


# -- smuggling -----------------------------------------------------------------------------------------------------
SMUGGLED = f"POST {SUSPEND} HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: 15\r\n\r\n" + '{"reason": "x"}'
"""Would leave a trace."""

FRAMINGS = {
    "a length and chunks": f"Content-Length: {len(SMUGGLED)}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": f"Transfer-Encoding: chunked\r\nContent-Length: {len(SMUGGLED)}\r\n\r\n0\r\n\r\n",
    "a length of 0 and chunks": "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": f"Content-Length: 0\r\nContent-Length: {len(SMUGGLED)}\r\n\r\n",
    "two lengths the other way": f"Content-Length: {len(SMUGGLED)}\r\nContent-Length: 0\r\n\r\n",
    "lengths in a list": f"Content-Length: 0, {len(SMUGGLED)}\r\n\r\n",
    "another coding": "Transfer-Encoding: xchunked\r\n\r\n",
    "chunked twice": "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked and identity": "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "two transfer codings": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "white space before the colon": "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "white space before a length's colon": f"Content-Length : {len(SMUGGLED)}\r\n\r\n",
    "a tab before the colon": "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "white space before the name": "X: y\r\n Transfer-Encoding: chunked\r\n\r\n",
    "a fold in the value": "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a fold in a length": "Content-Length: 1\r\n 0\r\n\r\n",
    "a vertical tab": "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "NUL": "Transfer-Encoding: \0chunked\r\n\r\n0\r\n\r\n",
    "quotes": 'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "bare LF": f"Content-Length: 0\nX: y\n\n{SMUGGLED}",
    "bare CR": "X: y\rTransfer-Encoding: chunked\r\n\r\n",
    "bare CR before the end": "Content-Length: 0\r\n\r\r\n",
    "CR CR LF": "X: y\r\r\nContent-Length: 0\r\n\r\n",
    "a header without a colon": "Transfer-Encoding chunked\r\n\r\n",
    "an empty name": ": chunked\r\n\r\n",
    "a name of two words": "Transfer Encoding: chunked\r\n\r\n",
    "a chunk size with a sign": "Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "a chunk size below zero": "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "a chunk size in 0x": "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk size with a _": "Transfer-Encoding: chunked\r\n\r\n0_5\r\nhello\r\n0\r\n\r\n",
    "no chunk size": "Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
    "a huge chunk size": f"Transfer-Encoding: chunked\r\n\r\n{'f' * 32}\r\nhello\r\n0\r\n\r\n",
    "a chunk that is longer": "Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
    "a chunk without its line end": "Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
    "a chunk size with LF": "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "a chunk extension with LF": "Transfer-Encoding: chunked\r\n\r\n5;x=\ny\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.0 with chunks": "\r\n",
}
READ_AS_TWO = ("white space before the name", "a fold in the value", "bare LF", "lengths in a list")
"""A fold is a space (RFC 9112 section 5.2), LF alone a line end (section 2.2)."""


@pytest.mark.parametrize("what", FRAMINGS)
async def test_no_request_inside_of_another(node: Node, what: str) -> None:
    """Each is refused, or read in the one way that the grammar allows: with the connection closed if in doubt."""
    version = "1.0" if "1.0" in what else "1.1"
    for path in (SUSPEND, "/api/check-liveness/v1", "/metrics"):
        method = "POST" if path == SUSPEND else "GET"
        async with Wire(address_of(node)) as wire:
            more = "Transfer-Encoding: chunked\r\n" if version == "1.0" else ""
            await wire.send(
                f"{method} {path} HTTP/{version}\r\nHost: x\r\n{JSON}{more}{FRAMINGS[what]}{SMUGGLED}"
            )
            statuses = []
            while len(statuses) < 3:
                answer = await wire.answer()
                if answer is None:
                    break
                statuses.append(answer.status)
                if answer.headers.get(b"connection") == b"close" or await wire.is_closed(0.02):
                    break
                if not wire.has_more:
                    break
        assert statuses or "1.0" in what
        # Where the first request is complete by the grammar, what follows is one of its own.
        assert len(statuses) == 1 or what in READ_AS_TWO, statuses
    assert what in READ_AS_TWO or node.admin.list_suspensions() == []


async def test_requests_one_behind_the_other(node: Node) -> None:
    """All answered, in their order; a refused one with a body ends the connection."""
    async with Wire(address_of(node)) as wire:
        await wire.send(
            "GET /api/check-liveness/v1 HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
            * 200
        )
        for _ in range(200):
            for status in (200, 404):
                answer = await wire.answer()
                assert answer is not None
                assert answer.status == status
        await wire.send(f"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{SMUGGLED}")
        answer = await wire.answer()
        assert answer is not None
        assert (answer.status, answer.headers[b"connection"]) == (404, b"close")
        assert await wire.is_closed()
    assert node.admin.list_suspensions() == []


async def test_who_logs_in_does_not_stay_logged_in(node: Node) -> None:
    """Credentials are those of one request, not of the connection that others may share behind a proxy."""
    async with Wire(address_of(node), STRANGER) as wire:
        body = orjson.dumps({"envelope_sender": "a@b.example", "recipients": [], "content": "x"})
        assert (await wire.ask("POST", "/api/inject/v1", USER + JSON, body)).status == 200
        assert (await wire.ask("POST", "/api/inject/v1", JSON, b"")).status == 401
        assert (await wire.ask("POST", "/api/inject/v1", USER + JSON, body)).status == 200


# -- heads ---------------------------------------------------------------------------------------------------------
HEADS = {
    "1,000 headers": "".join(f"X-{n}: y\r\n" for n in range(1000)),
    "a header of 1 MB": f"X: {'y' * 1_000_000}\r\n",
    "a name of 100 KB": f"{'X' * 100_000}: y\r\n",
    "1,000 times the same": "X-Forwarded-For: 127.0.0.1\r\n" * 1000,
    "bytes": "X: \u00e9\u20ac\r\n",
    "an empty value": "X:\r\n",
    "Expect": "Expect: 200-ok\r\n",
    "Upgrade": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n",
    "WebSocket": "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n",
    "Range": f"Range: bytes={','.join('0-' for _ in range(1000))}\r\n",
    "Connection": "Connection: close, keep-alive, X-A, Transfer-Encoding\r\n",
    "two hosts": "Host: y\r\n",
    "Accept-Encoding": "Accept-Encoding: gzip;q=0, *;q=0.0000001, br;q=1e9\r\n",
    "If-None-Match": f"If-None-Match: {'W/' * 1000}\r\n",
}


@pytest.mark.parametrize("what", HEADS)
async def test_heads(node: Node, what: str) -> None:
    for peer, expected in ((TRUSTED, (200, 304)), (STRANGER, (401,))):
        async with Wire(address_of(node), peer) as wire:
            await wire.send(
                f"GET /console/console.js HTTP/1.1\r\nHost: {address_of(node)}\r\n{HEADS[what]}\r\n"
            )
            answer = await wire.answer()
            assert answer is not None
            assert answer.status in (*expected, 400, 403, 431), answer
            assert answer.took < 1.0


LINES = (
    b"", b"\0", b"\r\n\r\n", b"GET", b"GET /", b"GET / HTTP/2.0", b"GET / HTTP/9.9", b"GET / http/1.1",
    b"GET  / HTTP/1.1", b"GET / HTTP/1.1 x", b"GET /\0 HTTP/1.1", b"GET /\xff HTTP/1.1", b"GET /a b HTTP/1.1",
    b" GET / HTTP/1.1", b"G\xc9T / HTTP/1.1", b"GET\t/\tHTTP/1.1", b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"EHLO example\r\nMAIL FROM:<a@b.example>",
    b"CONNECT 127.0.0.1:25 HTTP/1.1", b"GET " + b"/" * 100_000 + b" HTTP/1.1", b"X" * 100_000 + b" / HTTP/1.1",
    b"GET http:///x HTTP/1.1", b"GET \\ HTTP/1.1", b"GET ?x HTTP/1.1", b"GET %00 HTTP/1.1",
)  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
async def test_request_lines(node: Node, monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    monkeypatch.setattr(connection, "HEAD_TIME", 0.3)
    async with Wire(address_of(node)) as wire:
        await wire.send(line + b"\r\nHost: x\r\n\r\n")
        answer = await wire.answer()
        assert answer is None or 400 <= answer.status < 506, answer
        assert answer is None or answer.status not in (500, 502, 503)


# -- anything ------------------------------------------------------------------------------------------------------
PIECES = st.sampled_from(
    [
        b"GET /metrics HTTP/1.1\r\n", b"POST " + SUSPEND.encode() + b" HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n", b"\n",
        b"\r", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n",
        b"5\r\nhello\r\n", b"Content-Type: application/json\r\n", b"Content-Encoding: gzip\r\n",
        b"Expect: 100-continue\r\n", b"\0", b" ", b":", b"Connection: close\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"{}", b"\x1f\x8b", b"\xff", b"HTTP/1.0",
    ]
)  # fmt: skip


def test_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random pieces of requests, whole and byte by byte: never a failure of ours, never a hang."""
    monkeypatch.setattr(connection, "HEAD_TIME", 0.05)
    monkeypatch.setattr(connection, "BODY_TIME", 0.05)
    monkeypatch.setattr(connection, "IDLE_TIME", 0.05)
    monkeypatch.setattr(connection, "LINGER_TIME", 0.05)
    found: list[bytes] = []

    @settings(
        max_examples=150,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(PIECES | st.binary(max_size=20), max_size=12).map(b"".join))
    def collect(data: bytes) -> None:
        found.append(data)

    collect()

    async def attack(address: str, data: bytes, limit: trio.CapacityLimiter, *, bytewise: bool) -> None:
        async with limit, Wire(address) as wire:
            if bytewise:
                for n in range(len(data)):
                    await wire.send(data[n : n + 1])
            else:
                await wire.send(data)
            while (answer := await wire.answer(within=5.0)) is not None:
                assert answer.status not in (500, 502, 503), (data, answer)
                if answer.headers.get(b"connection") == b"close":
                    break

    async def run() -> None:
        limit = trio.CapacityLimiter(20)
        async with http_node(tmp_path) as node:
            async with trio.open_nursery() as nursery:
                for n, data in enumerate(found):
                    nursery.start_soon(
                        lambda d, b: attack(address_of(node), d, limit, bytewise=b), data, n % 3 == 0
                    )
            async with Wire(address_of(node)) as wire:
                assert (await wire.ask("GET", "/api/check-liveness/v1")).status == 200

    trio.run(run)
