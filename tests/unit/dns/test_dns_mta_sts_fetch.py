"""MTA-STS policies from an HTTPS server of our own, on loopback."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from kumo_py.dns import mta_sts_fetch
from kumo_py.dns.mta_sts import MtaStsError
from kumo_py.dns.mta_sts_fetch import PolicyFetcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PLAIN = b"Content-Type: text/plain; charset=us-ascii\r\n"


def response(body: bytes, head: bytes = PLAIN, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, head, len(body), body)


@asynccontextmanager
async def server(
    reply: bytes | None, monkeypatch: pytest.MonkeyPatch, name: str = "localhost"
) -> AsyncIterator[PolicyFetcher]:
    """A server that answers every request so, and a fetcher that asks and trusts it."""
    authority = trustme.CA()

    async def tls() -> ssl.SSLContext:
        return ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())

    monkeypatch.setattr(mta_sts_fetch, "default_tls", tls)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)

    async def answer(stream: trio.abc.Stream) -> None:
        secured = trio.SSLStream(stream, context, server_side=True)
        with trio.move_on_after(5):
            try:
                request = await secured.receive_some(4096)
                assert request.startswith(b"GET /example.com.txt HTTP/1.1\r\n")
                if reply is None:
                    await trio.sleep_forever()
                await secured.send_all(reply or b"")
            except trio.BrokenResourceError:
                return
            finally:
                await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        yield PolicyFetcher(f"https://localhost:{listener.socket.getsockname()[1]}/{{}}.txt")
        nursery.cancel_scope.cancel()


async def test_a_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(response(b"version: STSv1\r\n"), monkeypatch) as fetch:
        assert await fetch("example.com") == "version: STSv1\r\n"
        assert await fetch("example.com") == "version: STSv1\r\n"


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (response(b"", status=b"404 Not Found"), "status 404"),
        (response(b"", PLAIN + b"Location: /other\r\n", b"302 Found"), "status 302"),
        (response(b"version: STSv1", b"Content-Type: text/html\r\n"), "not text/plain"),
        (response(b"version: STSv1", b""), "not text/plain"),
        (response(b"x" * 65537), "larger than 65536 octets"),
        (b"nonsense\r\n\r\n", "localhost"),
    ],
)
async def test_what_is_no_policy(reply: bytes, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(reply, monkeypatch) as fetch:
        with pytest.raises(MtaStsError, match=problem):
            await fetch("example.com")


async def test_a_certificate_for_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(response(b""), monkeypatch, "other.example") as fetch:
        with pytest.raises(MtaStsError, match="TLS"):
            await fetch("example.com")


async def test_a_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mta_sts_fetch, "PATIENCE", 0.2)
    async with server(None, monkeypatch) as fetch:
        with pytest.raises(MtaStsError, match=r"no policy within 0\.2 seconds"):
            await fetch("example.com")


async def test_nobody_there() -> None:
    with pytest.raises(MtaStsError, match="refused"):
        await PolicyFetcher("https://localhost:1/{}")("example.com")
