"""What a server may send to the HTTP and WebSocket clients: a response, or one of the declared errors."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import h11
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.utilities import generate_accept_token

from kumo_py.core.url import parse_url
from kumo_py.net.http import HttpPool, HttpRequest, _Connection, _head, _Stale
from kumo_py.net.websocket import WebSocket

if TYPE_CHECKING:
    import ssl

URL = parse_url("http://h/")
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)


class Scripted:
    """A transport that gives out what it was made with, and then the end."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = [chunk for chunk in chunks if chunk]

    async def receive(self) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""

    async def send_all(self, data: bytes) -> None:
        """To a WebSocket's request, agree first."""
        key = data.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        if key:
            self.chunks.insert(0, SWITCHED % generate_accept_token(key))

    async def send_parts(self, parts: list[bytes]) -> None:
        pass

    def close(self) -> None:
        pass


def answered(chunks: list[bytes]) -> Any:
    """The response or the error."""
    request = HttpRequest("POST", URL, [], b"content")
    connection = _Connection((False, "h", 80), Scripted(chunks))  # type: ignore[arg-type]

    async def exchange() -> Any:
        try:
            return await connection.exchange(_head(request), request, 1000)
        except (OSError, h11.RemoteProtocolError, _Stale) as err:
            return err

    return trio.run(exchange)


@given(
    st.lists(
        st.binary() | st.sampled_from([GOOD, b"HTTP/1.1 ", b"100 Continue\r\n\r\n", b"\r\n", b"\r\n\r\n"])
    )
)
@settings(deadline=None, max_examples=60)
def test_any_octets_are_a_response_or_an_error(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    for arriving in (chunks, [whole], [whole[n : n + 1] for n in range(len(whole))]):
        answered(arriving)


@pytest.mark.parametrize("cut", range(1, len(GOOD)))
def test_a_response_is_the_same_however_it_arrives(cut: int) -> None:
    response = answered([GOOD[:cut], GOOD[cut:]])
    assert response == answered([GOOD])
    assert (response.status, response.body) == (200, b"ok")


_FRAMES = st.sampled_from(
    [b"\x81\x02hi", b"\x82\x01\xff", b"\x89\x00", b"\x88\x00", b"\x01\x01a", b"\x80\x01b"]
)


@given(st.lists(st.binary(max_size=40) | _FRAMES))
@settings(deadline=None, max_examples=60)
def test_any_octets_are_messages_or_an_error(chunks: list[bytes]) -> None:
    async def receive_all() -> None:
        websocket = WebSocket(Scripted(chunks))  # type: ignore[arg-type]
        assert (await websocket.shake_hands(parse_url("ws://h/", ("ws",)))).status == 101
        with suppress(OSError):
            while await websocket.receive() is not None:
                pass

    trio.run(receive_all)


@pytest.mark.parametrize("header", [(b"bad name", b"x"), (b"content-length", b"abc"), (b"a", b"b\nc")])
async def test_what_cannot_be_sent_is_said_so(header: tuple[bytes, bytes]) -> None:
    async def no_tls() -> ssl.SSLContext:
        raise AssertionError

    with pytest.raises(OSError, match="GET http://h/: "):
        await HttpPool(no_tls).fetch(HttpRequest("GET", URL, [header]), max_body=1)
