"""Small proxies on loopback for the session tests: SOCKS 5 as KumoMTA's proxy speaks it, and HAProxy's header."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

import trio

from kumo_py.proto.proxy import ProxyHeader, parse_proxy_header

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Proxy:
    """Joins each client with where it wants to go."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family)
        self.port: int = self._socket.getsockname()[1]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.clients: list[str] = []
        """Where clients came from."""

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._socket.setblocking(False)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        async with trio.open_nursery() as nursery:
            task_status.started()
            await trio.serve_listeners(self._run, [listener], handler_nursery=nursery)

    async def _run(self, client: trio.SocketStream) -> None:
        self.clients.append(client.socket.getpeername()[0])
        async with client:
            try:
                server = await self.open(client)
                if server is None:
                    return
                async with server, trio.open_nursery() as nursery:
                    nursery.start_soon(_pump, client, server)
                    nursery.start_soon(_pump, server, client)
            except* (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
                pass

    async def open(self, client: trio.SocketStream) -> trio.SocketStream | None:
        raise NotImplementedError


async def _pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    async for data in source:
        await sink.send_all(data)
    await sink.send_eof()


class HaProxy(_Proxy):
    """Goes where the header says; binds what the header says."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__(host)
        self.headers: list[ProxyHeader] = []

    async def open(self, client: trio.SocketStream) -> trio.SocketStream | None:
        data = b""
        while (header := parse_proxy_header(data)) is None:
            data += await client.receive_some(1)  # no more than the header
        self.headers.append(header)
        assert header.source is not None
        assert header.destination is not None
        return await trio.open_tcp_stream(*header.destination, local_address=header.source[0])


class Socks5(_Proxy):
    """`login`: what it asks for. `bind`, `connect`: how it answers those requests (RFC 1928 §6)."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        login: tuple[bytes, bytes] | None = None,
        bind: int = 0,
        connect: int = 0,
    ) -> None:
        super().__init__(host)
        self._login = login
        self._bind = bind
        self._connect = connect
        self.requests: list[tuple[int, str, int]] = []
        self.logins: list[tuple[bytes, bytes]] = []

    async def open(self, client: trio.SocketStream) -> trio.SocketStream | None:
        _, count = await _exactly(client, 2)
        methods = await _exactly(client, count)
        wanted = 0 if self._login is None else 2
        if wanted not in methods:
            await client.send_all(b"\x05\xff")
            return None
        await client.send_all(bytes([5, wanted]))
        if self._login is not None:
            name = await _exactly(client, (await _exactly(client, 2))[1])
            password = await _exactly(client, (await _exactly(client, 1))[0])
            self.logins.append((name, password))
            await client.send_all(bytes([1, self.logins[-1] != self._login]))
        source, _ = await self._request(client)
        if self._bind:
            await client.send_all(bytes([5, self._bind, 0, 1]) + bytes(6))
            return None
        await client.send_all(b"\x05\x00\x00\x01" + bytes(6))
        host, port = await self._request(client)
        if self._connect:
            await client.send_all(bytes([5, self._connect, 0, 1]) + bytes(6))
            return None
        server = await trio.open_tcp_stream(host, port, local_address=source)
        bound, bound_port, *_ = server.socket.getsockname()
        ip = ip_address(bound)
        reply = bytes([5, 0, 0, 1 if ip.version == 4 else 4]) + ip.packed + bound_port.to_bytes(2)
        # In pieces, and with the destination's banner close behind.
        await client.send_all(reply[:3])
        await client.send_all(reply[3:])
        return server

    async def _request(self, client: trio.SocketStream) -> tuple[str, int]:
        _, command, _, kind = await _exactly(client, 4)
        host = str(ip_address(bytes(await _exactly(client, 4 if kind == 1 else 16))))
        port = int.from_bytes(bytes(await _exactly(client, 2)))
        self.requests.append((command, host, port))
        return host, port


async def _exactly(stream: trio.SocketStream, count: int) -> Sequence[int]:
    data = b""
    while len(data) < count:
        chunk = await stream.receive_some(count - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)
