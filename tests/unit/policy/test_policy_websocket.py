"""kumo.http.connect_websocket: reading messages from a real server."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio_websocket
import trustme
from policy_host import run
from web_server import Answer, web_server

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from policy_host import MakePolicy

    Talk = Callable[[trio_websocket.WebSocketConnection], Awaitable[None]]


@asynccontextmanager
async def websocket_server(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The URL of a server that agrees to every handshake, and then talks."""

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        await talk(await request.accept(extra_headers=[(b"X-Server", request.path.encode())]))

    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(trio_websocket.serve_websocket, serve, "127.0.0.1", 0, ssl_context=tls)
        )
        yield f"{'wss' if tls else 'ws'}://127.0.0.1:{server.port}/path?q=1"
        nursery.cancel_scope.cancel()


async def test_messages_until_the_server_closes(policy: MakePolicy) -> None:
    async def talk(peer: trio_websocket.WebSocketConnection) -> None:
        await peer.send_message("text ü")
        await peer.ping(b"are you there")  # returns when it is answered
        await peer.send_message(b"\0\xff")
        await peer.send_message("x" * 200_000)
        await peer.aclose(1000, "bye")

    async with websocket_server(talk) as url:
        result = await run(
            policy,
            """
            local stream, response = kumo.http.connect_websocket(...)
            return {
              response:status_code(), response:status_reason(), response:headers()['x-server'], response:text(),
              stream:recv(), stream:recv() == '\\0\\xff', #stream:recv(), tostring(stream:recv()),
              tostring(stream:recv()),
            }
            """,
            url,
        )
    assert result == [101, "Switching Protocols", "/path?q=1", "", "text ü", True, 200_000, "nil", "nil"]


async def test_batches(policy: MakePolicy) -> None:
    async def talk(peer: trio_websocket.WebSocketConnection) -> None:
        await peer.send_message("one")
        await peer.send_message("two")
        await trio.sleep(0.3)
        await peer.send_message("three")
        await peer.aclose()

    async with websocket_server(talk) as url:
        result = await run(
            policy,
            """
            local stream = kumo.http.connect_websocket(...)
            local batches = { stream:recv_batch(0.1), stream:recv_batch '10ms', stream:recv_batch '1 minute' }
            local ok, problem = pcall(stream.recv_batch, stream, 1)
            return { batches, ok, problem }
            """,
            url,
        )
    assert result[0] == [["one", "two"], [], ["three"]]
    assert result[1:] == [False, "policy.lua:6: websocket:recv_batch: the websocket is closed"]


async def test_tls(policy: MakePolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(tls)

    async def talk(peer: trio_websocket.WebSocketConnection) -> None:
        await peer.send_message("private")

    async with websocket_server(talk, tls) as url:
        ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert await run(policy, "return (kumo.http.connect_websocket(...)):recv()", url) == "private"


async def test_a_stream_outlives_its_event(policy: MakePolicy) -> None:
    async def talk(peer: trio_websocket.WebSocketConnection) -> None:
        for n in range(2):
            await peer.send_message(str(n))
        await peer.get_message()  # until the client is gone

    async with websocket_server(_until_gone(talk)) as url:
        lua = policy(
            "local stream\n"
            f"kumo.on('connect', function() stream = kumo.http.connect_websocket '{url}' end)\n"
            "kumo.on('recv', function() return stream:recv() end)"
        )
        await lua.load()
        await lua.ask("connect")
        assert [await lua.ask("recv"), await lua.ask("recv")] == ["0", "1"]
        with trio.move_on_after(0.02) as scope:
            await lua.ask("recv")
        assert scope.cancelled_caught
        lua.close()


def _until_gone(talk: Talk) -> Talk:
    async def talk_on(peer: trio_websocket.WebSocketConnection) -> None:
        with pytest.raises(trio_websocket.ConnectionClosed):
            await talk(peer)

    return talk_on


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(403), "HTTP error: 403 Forbidden instead of switching protocols"),
        (b"", "closed the connection before it answered"),
        (b"220 smtp.example\r\n\r\n", "does not speak the WebSocket protocol"),
    ],
)
async def test_a_server_that_does_not_agree(policy: MakePolicy, answer: Answer | bytes, words: str) -> None:
    async with web_server() as server:
        server.answers["/"] = answer
        with pytest.raises(PolicyError, match=words):
            await run(policy, "kumo.http.connect_websocket(...)", server.url.replace("http", "ws"))


async def test_only_websocket_urls(policy: MakePolicy) -> None:
    with pytest.raises(
        PolicyError, match=r"policy\.lua:3: .*'http://h/' is not a URL that begins with ws://"
    ):
        await run(policy, "kumo.http.connect_websocket 'http://h/'")
