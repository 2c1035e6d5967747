"""Outgoing SMTP against scripted servers on loopback sockets, with the queues of queue_harness around it.

Trio's clock jumps as soon as nothing has happened on the sockets for a moment, so that timeouts cost no real time.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
from queue_harness import Handlers, QueueNode, constant

from kumo_py.core.cidr import CidrSet
from kumo_py.core.duration import Duration
from kumo_py.limits.spec import LimitSpec
from kumo_py.queue.config import DeliveryProtocol, EgressPath, QueueConfig, SmtpProtocol
from kumo_py.smtp_out.session import SmtpDelivery

if TYPE_CHECKING:
    import ssl

    from trio.testing import MockClock

    from kumo_py.queue.config import NamedHost

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8")
ENVELOPE_REPLIES = ("250 ok", "250 ok", "354 go")
"""To MAIL, one RCPT and DATA."""

TIMEOUTS = {
    "banner_timeout": Duration(3),
    "ehlo_timeout": Duration(4),
    "mail_from_timeout": Duration(5),
    "rcpt_to_timeout": Duration(6),
    "data_timeout": Duration(7),
    "data_dot_timeout": Duration(8),
    "rset_timeout": Duration(2),
}
"""Of an egress path: all different, so that a record tells which one it was."""

Script = Callable[["Peer"], Awaitable[None]]
Replies = Mapping[str, str | Sequence[str]]


class Closed(Exception):
    """The client has closed the connection."""


class Received(NamedTuple):
    """A message as it came over the wire; the content still has its dots, and its end."""

    mail: str
    rcpts: tuple[str, ...]
    content: bytes


class Peer:
    """The server's end of one connection."""

    def __init__(self, server: Server, stream: trio.SocketStream) -> None:
        self.server = server
        self.stream: trio.abc.Stream = stream
        self._socket = stream.socket
        self.commands: list[str] = []
        """All commands; "." stands for a content."""
        self.chunks: list[bytes] = []
        """What each receive gave."""
        self.closed = trio.Event()
        self.saw_end = False
        """Whether the client closed the connection, and not this end."""
        self._buffer = b""

    async def _receive(self) -> None:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.saw_end = True
            raise Closed
        self.chunks.append(bytes(data))
        self._buffer += data

    async def line(self) -> str:
        """The next command. Raises Closed."""
        while b"\r\n" not in self._buffer:
            await self._receive()
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        self.commands.append(line.decode())
        return self.commands[-1]

    async def content(self) -> bytes:
        """All until the end of data. Raises Closed."""
        while b"\r\n.\r\n" not in self._buffer and not self._buffer.startswith(b".\r\n"):
            await self._receive()
        end = 3 if self._buffer.startswith(b".\r\n") else self._buffer.index(b"\r\n.\r\n") + 5
        content, self._buffer = self._buffer[:end], self._buffer[end:]
        self.commands.append(".")
        return content

    async def send(self, *lines: str | bytes) -> None:
        """Lines without their ends; bytes as they are."""
        data = b"".join(line if isinstance(line, bytes) else f"{line}\r\n".encode() for line in lines)
        await self.stream.send_all(data)

    async def start_tls(self, context: ssl.SSLContext) -> None:
        self.stream = trio.SSLStream(self.stream, context, server_side=True, https_compatible=True)
        await self.stream.do_handshake()

    def reset(self) -> None:
        """Close with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    async def greet(self, *extensions: str) -> None:
        """Banner and EHLO."""
        await self.send("220 peer ESMTP")
        await self.line()
        await self.ehlo(*extensions)

    async def ehlo(self, *extensions: str) -> None:
        names = ["peer", *(extensions or EXTENSIONS)]
        await self.send(*(f"250-{name}" for name in names[:-1]), f"250 {names[-1]}")

    async def converse(self, replies: Replies | None = None) -> None:
        """Answer until the client leaves.

        `replies` are looked up by the whole command, then by its verb ("." for the content); of a list, one after the
        other, the last one for ever. A reply of 421 closes the connection; "close" and "reset" do so without one.
        """
        replies = {} if replies is None else replies
        left = {key: list(value) for key, value in replies.items() if not isinstance(value, str)}
        mail, accepted = "", False
        rcpts: list[str] = []
        while True:
            line = await self.line()
            verb = line.split(" ", 1)[0]
            key = line if line in replies else verb
            if key == "DATA" and not rcpts and key not in replies:
                await self.send("503 no valid recipients")
                continue
            reply = await self._answer(key, replies, left)
            if verb == "MAIL":
                mail, rcpts = line, []
                accepted = reply.startswith("25")
            elif verb == "RCPT" and accepted and reply.startswith("25"):
                rcpts.append(line)
            elif verb == "DATA" and reply.startswith("354"):
                content = await self.content()
                if (await self._answer(".", replies, left)).startswith("25") and rcpts:
                    self.server.messages.append(Received(mail, tuple(rcpts), content))
            elif verb == "QUIT":
                raise Closed

    async def _answer(self, key: str, replies: Replies, left: dict[str, list[str]]) -> str:
        usual = {"DATA": "354 go", "QUIT": "221 bye", "EHLO": "502 no"}.get(key, "250 ok")
        reply = replies.get(key, usual)
        if not isinstance(reply, str):
            several = left[key]
            reply = several.pop(0) if len(several) > 1 else several[0]
        if reply == "close":
            raise Closed
        if reply == "reset":
            self.reset()
            raise Closed
        if reply != "silence":
            await self.send(reply)
        if reply.startswith("421"):
            raise Closed
        return reply


def usual(*extensions: str, **replies: str | Sequence[str]) -> Script:
    """A server that accepts everything but what `replies` say: EHLO, MAIL, RCPT, DATA, RSET, dot, QUIT."""
    by_key: dict[str, str | Sequence[str]] = {
        ("." if key == "dot" else key): value for key, value in replies.items()
    }
    return answering(by_key, *extensions)


def answering(replies: Replies, *extensions: str) -> Script:
    """The same with whole commands as keys."""

    async def script(peer: Peer) -> None:
        await peer.greet(*extensions)
        await peer.converse(replies)

    return script


class Server:
    """A listener on loopback: each connection has its script, those beyond the last one's."""

    def __init__(self, *scripts: Script, host: str = "127.0.0.1", port: int = 0) -> None:
        self.scripts = scripts or (usual(),)
        self.peers: list[Peer] = []
        self.messages: list[Received] = []
        self._socket = socket.create_server((host, port))
        self.host = host
        self.port: int = self._socket.getsockname()[1]

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def mx(self) -> str:
        """As an entry of mx_list."""
        return f"[{self.host}]:{self.port}"

    @property
    def commands(self) -> list[list[str]]:
        """Of each connection."""
        return [peer.commands for peer in self.peers]

    @property
    def contents(self) -> list[bytes]:
        return [message.content for message in self.messages]

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._socket.setblocking(False)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        async with trio.open_nursery() as nursery:
            task_status.started()
            await trio.serve_listeners(self._run, [listener], handler_nursery=nursery)

    async def _run(self, stream: trio.SocketStream) -> None:
        peer = Peer(self, stream)
        self.peers.append(peer)
        script = self.scripts[min(len(self.peers), len(self.scripts)) - 1]
        try:
            await script(peer)
        except (Closed, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            peer._socket.close()
            peer.closed.set()


class DeliveryNode(QueueNode):
    """Queues with real SMTP sessions."""

    delivery: SmtpDelivery

    async def done(self, records: int) -> None:
        """Wait for so many records, then stop, so that every connection is closed."""
        await self.log.reach(records)
        await self.stop()


def egress(**options: Any) -> EgressPath:
    """A path that may go to loopback, over one connection."""
    return EgressPath(**{"prohibited_hosts": CidrSet([]), "connection_limit": LimitSpec(1), **options})


def routed_to(*hosts: str | NamedHost, **options: Any) -> QueueConfig:
    return QueueConfig(protocol=DeliveryProtocol(smtp=SmtpProtocol(mx_list=list(hosts))), **options)


async def start_delivery(
    clock: MockClock,
    nursery: trio.Nursery,
    *servers: Server,
    path: EgressPath | None = None,
    queue: QueueConfig | None = None,
    handlers: Handlers | None = None,
    **options: Any,
) -> DeliveryNode:
    """A node whose mail all goes to these servers, in this order."""
    clock.autojump_threshold = 0.005
    for server in servers:
        await nursery.start(server.serve)
    if queue is None and servers:
        queue = routed_to(*(server.mx for server in servers))
    given = {"get_queue_config": constant(queue), "get_egress_path_config": constant(path or egress())}
    node = DeliveryNode({**given, **(handlers or {})}, **options)
    node.delivery = SmtpDelivery(node.queues, "me.test")
    node.queues.dispatchers["smtp_client"] = node.delivery.run
    nursery.start_soon(node.delivery.watch)
    await nursery.start(node.serve)
    return node
