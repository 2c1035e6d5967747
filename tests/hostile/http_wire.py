"""Raw HTTP for hostile tests: what is sent is exactly what the test says, and what comes back is read strictly."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import trio
from real_node import relay_policy

from kumo_py.daemon import Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import TracebackType

TRUSTED = "127.0.0.1"
STRANGER = "127.0.0.2"

LOGIN = """
kumo.on('http_server_validate_auth_basic', function(user, password)
  return user == 'user' and password == 'sesame'
end)
kumo.on('http_server_validate_auth_bearer', function(token)
  return token == 'let-me-in'
end)
"""
LISTENER = """
kumo.on('pre_init', function()
  kumo.start_http_listener { listen = '@LISTEN@', @OPTIONS@ }
end)
"""
USER = "Authorization: Basic dXNlcjpzZXNhbWU=\r\n"
"""user:sesame"""


@dataclass(slots=True)
class Answer:
    """A response."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes = b""
    took: float = 0.0
    """Seconds."""
    bodies: list[bytes] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.body.decode()


class Wire:
    """One connection. `address` is ip:port, `peer` the address that it comes from."""

    def __init__(self, address: str, peer: str = TRUSTED) -> None:
        self._address = address
        self._peer = peer
        self._stream: trio.SocketStream | None = None
        self._buffer = b""

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._stream is not None:
            with trio.CancelScope(shield=True):
                await self._stream.aclose()
        self._stream, self._buffer = None, b""

    async def connected(self) -> trio.SocketStream:
        if self._stream is None:
            host, _, port = self._address.rpartition(":")
            self._stream = await trio.open_tcp_stream(
                host.strip("[]"), int(port), local_address=self._peer, happy_eyeballs_delay=None
            )
        return self._stream

    async def send(self, data: bytes | str) -> None:
        """Raises nothing if the node has hung up: what it said last is still to be read."""
        stream = await self.connected()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.send_all(data.encode() if isinstance(data, str) else data)

    async def answer(self, *, is_head: bool = False, within: float = 10.0) -> Answer | None:
        """The next response, None if the node hangs up without one. Afterwards the connection may be closed."""
        began = time.perf_counter()
        with trio.fail_after(within):
            head = await self._until(b"\r\n\r\n")
            if head is None:
                await self.close()
                return None
            first, *lines = head.split(b"\r\n")
            version, status, _ = first.split(b" ", 2)
            assert version == b"HTTP/1.1", first
            headers: dict[bytes, bytes] = {}
            for line in lines:
                name, colon, value = line.partition(b":")
                assert colon, line
                assert name.strip() == name, line
                assert name.lower() not in headers or name.lower() == b"set-cookie", line
                headers[name.lower()] = value.strip()
            found = Answer(int(status), headers)
            if found.status == 100:
                return await self.answer(is_head=is_head, within=within)
            if not (is_head or found.status in (101, 204, 304)):
                found.body = await self._body(headers)
        if headers.get(b"connection") == b"close":
            await self.close()
        found.took = time.perf_counter() - began
        return found

    async def ask(self, method: str, target: str, head: str = "", body: bytes | None = None) -> Answer:
        """Send a request of that form, and read its response. head: further lines, each with its CRLF."""
        if body is not None:
            head += f"Content-Length: {len(body)}\r\n"
        host = self._address
        for _ in range(2):  # the node may have closed a connection that was kept
            await self.send(
                f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{head}\r\n".encode() + (body or b"")
            )
            answer = await self.answer(is_head=method == "HEAD")
            if answer is not None:
                return answer
        raise AssertionError(f"no answer to {method} {target}")

    async def post(self, target: str, body: Any, head: str = "") -> Answer:
        """JSON: `body` as it is if it is bytes."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return await self.ask("POST", target, f"Content-Type: application/json\r\n{head}", content)

    @property
    def has_more(self) -> bool:
        """Whether something has come that was not read yet."""
        return bool(self._buffer)

    async def is_closed(self, within: float = 5.0) -> bool:
        """Whether the node closes the connection, and says nothing more."""
        if self._stream is None:
            return True
        if self._buffer:
            return False
        try:
            with trio.move_on_after(within) as scope:
                self._buffer += await self._stream.receive_some()
        except trio.BrokenResourceError:
            return True
        return not self._buffer and not scope.cancelled_caught

    async def _more(self) -> bool:
        stream = await self.connected()
        try:
            data = await stream.receive_some(65536)
        except trio.BrokenResourceError:
            return False
        self._buffer += data
        return bool(data)

    async def _until(self, mark: bytes) -> bytes | None:
        while mark not in self._buffer:
            if not await self._more():
                assert not self._buffer, self._buffer[:200]
                return None
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            assert await self._more(), "the response is cut off"
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    async def _body(self, headers: dict[bytes, bytes]) -> bytes:
        if b"content-length" in headers:
            return await self._exactly(int(headers[b"content-length"]))
        if headers.get(b"transfer-encoding") != b"chunked":
            while await self._more():
                pass
            found, self._buffer = self._buffer, b""
            return found
        parts = []
        while True:
            line = await self._until(b"\r\n")
            assert line is not None
            size = int(line, 16)
            parts.append(await self._exactly(size))
            assert await self._exactly(2) == b"\r\n"
            if size == 0:
                return b"".join(parts)


@asynccontextmanager
async def http_node(
    directory: Path,
    options: str = "",
    *,
    listen: str = "127.0.0.1:0",
    more: str = LOGIN,
    to: str = "127.0.0.1:9",
) -> AsyncIterator[Node]:
    """A node with an HTTP listener, ready. options: Lua, of the listener; to: where it relays."""
    file = directory / "policy.lua"
    listener = LISTENER.replace("@LISTEN@", listen).replace("@OPTIONS@", options)
    file.write_text(relay_policy(directory, to, more=listener + more))
    async with trio.open_nursery() as nursery:
        node = Node(file)
        await nursery.start(node.serve)
        await _ready(node)
        yield node
        node.stop()


async def _ready(node: Node) -> None:
    with trio.fail_after(5):
        while node.reloader is None or node.reloader.status.epoch != 1:  # noqa: ASYNC110
            await trio.sleep(0.005)


def address_of(node: Node) -> str:
    [found] = node.addresses["http"]
    return found
