"""Listeners on real sockets: binding, accepting, running out of descriptors, stopping."""

from __future__ import annotations

import errno
import math
import socket
import ssl
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.lowlevel
import trustme
from smtp_in_harness import HOST, Client, Node

from kumo_py.core.options import convert
from kumo_py.smtp_in import Listener
from kumo_py.smtp_in.params import ListenerParams

if TYPE_CHECKING:
    from collections.abc import Callable

BODY = b"Subject: x\r\n\r\nhello\r\n"


def _listener(**options: Any) -> Listener:
    table = {"listen": "127.0.0.1:0", **options}
    return Listener(convert(table, ListenerParams, "kumo.start_esmtp_listener"))


class Served:
    """A listener that serves, with the fakes behind it."""

    def __init__(self, node: Node, listener: Listener, address: str) -> None:
        self.node = node
        self.listener = listener
        self.address = address
        self.sockets: list[trio.socket.SocketType] = []

    async def connect(self, host: str | None = None) -> Client:
        bound, _, port = self.address.rpartition(":")
        stream = await trio.open_tcp_stream(host or bound.strip("[]"), int(port))
        self.sockets.append(stream.socket)
        return Client(stream, trio.Event())

    async def sessions_left(self, count: int) -> None:
        """Until not more than so many are there."""
        while len(self.endpoint.sessions) > count:  # noqa: ASYNC110 - nothing announces it
            await trio.sleep(0.01)

    @property
    def endpoint(self) -> Any:
        return self.listener.endpoint


@asynccontextmanager
async def serving(handlers: dict[str, Callable[..., Any]] | None = None, **options: Any) -> Any:
    async with trio.open_nursery() as nursery:
        node = Node(nursery, handlers)
        listener = _listener(**options)
        address = await nursery.start(listener.serve, node.services)
        served = Served(node, listener, address)
        with trio.fail_after(30):
            yield served
            await listener.stop(0)
        for sock in served.sockets:
            sock.close()
        nursery.cancel_scope.cancel()


async def test_two_messages_over_a_socket() -> None:
    async with serving() as served:
        client = await served.connect()
        assert (await client.deliver(BODY)).startswith("250 OK")
        await client.commands("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA")
        await client.send(BODY + b".\r\n")
        assert (await client.reply()).startswith("250 OK")
        assert (await client.command("QUIT"))[:3] == "221"
        assert await client.closed() == b""
        meta = served.node.queues.messages[0].meta
        assert meta["received_via"] == served.address
        assert meta["received_from"].startswith("127.0.0.1:")
        assert served.endpoint.counters.connections == 1
        assert served.endpoint.counters.receptions == 2


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::1]:0", "[::]:0"])
async def test_local_address_of_a_connection(listen: str) -> None:
    if ":" in listen.rpartition(":")[0] and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    async with serving(listen=listen, relay_hosts=["127.0.0.1", "::1"]) as served:
        port = served.address.rpartition(":")[2]
        host = "::1" if "::" in listen else "127.0.0.1"
        client = await served.connect(host)
        assert (await client.deliver(BODY)).startswith("250 OK")
        shown = f"[{host}]" if ":" in host else host
        assert served.node.message.meta["received_via"] == f"{shown}:{port}"


@pytest.mark.parametrize("size", [65535, 65536, 65537, 300_000, 3_000_000])
async def test_big_contents(size: int) -> None:
    async with serving() as served:
        client = await served.connect()
        content = (b"x" * 62 + b"\r\n") * (size // 64) + b"y" * (size % 64) + b"\r\n"
        assert (await client.deliver(content)).startswith("250 OK")
        assert served.node.message.data.endswith(content)


async def test_everything_and_the_end_in_one_segment() -> None:
    """The FIN comes together with the data: both must be noticed, and the client still reads its replies."""
    async with serving() as served:
        client = await served.connect()
        await client.reply()
        await client.send(
            b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n" + BODY + b".\r\n"
        )
        await client.stream.send_eof()
        assert await client.codes(5) == ["250", "250", "250", "354", "250"]
        assert await client.closed() == b""
        assert len(served.node.queues.inserted) == 1


async def test_what_arrives_while_a_handler_runs_is_not_forgotten() -> None:
    """Its edge is over when the session waits again."""
    release = trio.Event()

    async def slow(*_args: Any) -> None:
        await release.wait()

    async with serving({"smtp_server_mail_from": slow}) as served:
        client = await served.connect()
        await client.greet()
        await client.send(b"MAIL FROM:<a@b.test>\r\n")
        await trio.sleep(0.05)
        await client.send(b"RCPT TO:<c@d.test>\r\n")
        await trio.sleep(0.05)
        await client.send(b"NOOP\r\n")
        await client.stream.send_eof()
        await trio.sleep(0.05)
        release.set()
        assert await client.codes(3) == ["250", "250", "250"]
        assert await client.closed() == b""


async def test_full_reads_before_a_handler() -> None:
    """A read that fills the buffer may leave something behind, which makes no edge any more."""

    async def pause(*_args: Any) -> None:
        await trio.lowlevel.checkpoint()

    limits = {"max_recipients_per_message": 10**6, "max_messages_per_connection": 10**6}
    async with serving({"smtp_server_rcpt_to": pause}, **limits) as served:
        client = await served.connect()
        await client.greet()
        count = 20_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, b"MAIL FROM:<a@b.test>\r\n" + b"RCPT TO:<c@d.test>\r\n" * count)
            answers = b""
            while answers.count(b"\n") < count + 1:
                answers += await client.stream.receive_some()
        assert {line[:3] for line in answers.splitlines()} == {b"250"}


async def test_client_that_resets_the_connection() -> None:
    async with serving() as served:
        client = await served.connect()
        await client.start_data()
        await client.send(b"half")
        client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.stream.socket.close()
        await served.sessions_left(0)
        assert served.node.queues.inserted == []


async def test_replies_to_a_client_that_reads_late() -> None:
    """More replies than the socket's buffers take: the session waits, and nothing is lost."""
    async with serving() as served:
        client = await served.connect()
        await client.greet()
        count = 200_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, b"NOOP\r\n" * count)
            await trio.sleep(0.3)
            assert await client.reply() == "250 the goggles do nothing"
            expected = len(b"250 the goggles do nothing\r\n") * (count - 1)
            received = len(client._buffer)
            while received < expected:
                received += len(await client.stream.receive_some())
            assert received == expected
        client._buffer = b""
        assert (await client.command("QUIT"))[:3] == "221"


async def test_starttls_over_a_socket() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    async with serving() as served:
        served.node.server_context = server_context
        client = await served.connect()
        await client.greet()
        await client.send(b"STARTTLS\r\nRSET\r\n")
        assert await client.reply() == "220 Ready to Start TLS"
        client.stream = trio.SSLStream(
            client.stream, client_context, server_hostname=HOST, https_compatible=True
        )
        # Twice, the second time with a content of several TLS records.
        assert "AUTH PLAIN" in await client.command("EHLO client.test")
        for content in (BODY, b"x" * 70 + b"\r\n" + BODY * 10_000):
            await client.commands("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA")
            await client.send(content + b".\r\n")
            assert (await client.reply()).startswith("250 OK")
        assert (await client.command("QUIT"))[:3] == "221"
        assert len(served.node.queues.inserted) == 2


async def test_many_connections_at_once() -> None:
    async with serving() as served:

        async def one() -> None:
            client = await served.connect()
            assert (await client.deliver(BODY)).startswith("250 OK")
            await client.command("QUIT")

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(one)
        assert len(served.node.queues.inserted) == 200
        await served.sessions_left(0)


# -- limits ----------------------------------------------------------------------------------------------
async def test_max_connections() -> None:
    async with serving(max_connections=2) as served:
        clients = [await served.connect() for _ in range(3)]
        assert [(await client.reply())[:3] for client in clients[:2]] == ["220", "220"]
        assert await clients[2].reply() == f"421 4.3.2 {HOST} too many concurrent sessions. Try later"
        assert await clients[2].closed() == b""
        assert served.endpoint.counters.denied == 1
        await clients[0].command("QUIT")
        await served.sessions_left(1)
        assert (await (await served.connect()).reply())[:3] == "220"


async def test_running_out_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [errno.EMFILE, errno.ECONNABORTED, errno.ENOBUFS]
    accept = socket.socket.accept

    def failing(self: socket.socket) -> Any:
        if failures:
            raise OSError(failures.pop(0), "as the test wants it")
        return accept(self)

    async with serving() as served:
        monkeypatch.setattr(socket.socket, "accept", failing)
        client = await served.connect()
        assert (await client.deliver(BODY)).startswith("250 OK")
        assert failures == []


# -- binding ---------------------------------------------------------------------------------------------
def test_bind_reports_the_address_it_got() -> None:
    listener = _listener()
    host, _, port = listener.bind().rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0
    listener.close()


def test_address_in_use() -> None:
    first = _listener()
    address = first.bind()
    with pytest.raises(OSError, match=rf"cannot listen on {address}: Address already in use"):
        _listener(listen=address).bind()
    first.close()


def test_port_can_be_shared_by_processes() -> None:
    first = _listener()
    address = first.bind(reuse_port=True)
    second = _listener(listen=address)
    assert second.bind(reuse_port=True) == address
    first.close()
    second.close()


@pytest.mark.parametrize("listen", ["127.0.0.1", "nonsense:25", "1.2.3.4:99999", "127.0.0.1:x", ""])
def test_no_address(listen: str) -> None:
    with pytest.raises(ValueError, match=r"ip:port|not an address"):
        _listener(listen=listen).bind()


# -- stopping --------------------------------------------------------------------------------------------
async def test_stop_ends_sessions_at_their_next_command() -> None:
    async with serving() as served:
        idle = await served.connect()
        await idle.greet()
        busy = await served.connect()
        await busy.start_data()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.listener.stop, 10)
            assert await idle.reply() == f"421 4.3.2 {HOST} shutting down"
            with pytest.raises(OSError, match=r".*"):
                await served.connect()
            await busy.send(BODY + b".\r\n")
            assert (await busy.reply()).startswith("250 OK")
            assert await busy.reply() == f"421 4.3.2 {HOST} shutting down"
        assert served.endpoint.sessions == set()


async def test_grace_ends() -> None:
    async with serving() as served:
        client = await served.connect()
        await client.start_data()
        started = trio.current_time()
        await served.listener.stop(0.2)
        assert trio.current_time() - started < 2
        assert await client.closed() == b""


async def test_second_stop_is_now() -> None:
    async with serving() as served:
        client = await served.connect()
        await client.start_data()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.listener.stop, math.inf)
            await trio.sleep(0.05)
            await served.listener.stop(0)
        assert await client.closed() == b""


async def test_stop_before_serving() -> None:
    listener = _listener()
    address = listener.bind()
    await listener.stop(1)
    again = _listener(listen=address)
    again.bind()
    again.close()
