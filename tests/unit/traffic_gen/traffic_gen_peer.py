"""Scripted servers on the loopback, a thread per connection, for the traffic-gen tests."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from traffic_gen.options import Target

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSE = b""


@dataclass
class Received:
    """A message as the server took it: dots unstuffed, final dot removed."""

    sender: str
    recipient: str
    data: bytes
    reply: bytes

    def header(self, name: str) -> str:
        """The value of the only header of that name."""
        head = self.data.split(b"\r\n\r\n", 1)[0].decode()
        values = [line.split(":", 1)[1].strip() for line in head.split("\r\n") if line.startswith(f"{name}:")]
        assert len(values) == 1, (name, head)
        return values[0]


class Server:
    """Accepts connections and serves each in a thread until the block ends."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.target = Target("127.0.0.1", self.listener.getsockname()[1])
        self.peers: list[str] = []
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        if kind is None:
            assert self.failures == []

    def hang_up(self) -> None:
        """End all connections."""
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, address = self.listener.accept()
            except OSError:
                return
            self.peers.append(address[0])
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(sock)
            self._start(self._guard, sock)

    def _guard(self, sock: socket.socket) -> None:
        try:
            self.serve(sock)
        except (OSError, EOFError):
            pass
        except BaseException as error:
            self.failures.append(error)

    def serve(self, sock: socket.socket) -> None:
        """Talk on one connection; it is the server's to close."""
        raise NotImplementedError


@dataclass
class Script:
    """How the SMTP server behaves.

    replies: by verb (GREETING, EHLO, MAIL, RCPT, DATA, BODY, RSET, QUIT), the replies to give
    in turn instead of the usual one; CLOSE hangs up; a single reply under "VERB*" is given always.
    dribble: send every reply byte by byte.  delay: seconds before the reply to a body.
    """

    replies: dict[str, list[bytes]] = field(default_factory=dict)
    extensions: tuple[bytes, ...] = (b"PIPELINING", b"8BITMIME", b"ENHANCEDSTATUSCODES")
    dribble: bool = False
    delay: float = 0.0
    tls: ssl.SSLContext | None = None


USUAL = {
    "GREETING": b"220 ready\r\n",
    "MAIL": b"250 2.1.0 ok\r\n",
    "RCPT": b"250 2.1.5 ok\r\n",
    "DATA": b"354 go on\r\n",
    "BODY": b"250 2.0.0 queued\r\n",
    "RSET": b"250 2.0.0 ok\r\n",
    "QUIT": b"221 2.0.0 bye\r\n",
    "STARTTLS": b"220 2.0.0 go on\r\n",
}


class SmtpServer(Server):
    """A small, strict SMTP server that answers everything that has arrived in one write."""

    def __init__(self, script: Script | None = None) -> None:
        super().__init__()
        self.script = script or Script()
        self.messages: list[Received] = []
        self.commands: list[list[str]] = []
        self.ehlo_names: set[str] = set()
        self.pipelined = 0
        self._lock = threading.Lock()

    @property
    def accepted(self) -> list[Received]:
        """The messages that were answered 2xx."""
        return [message for message in self.messages if message.reply.startswith(b"2")]

    def serve(self, sock: socket.socket) -> None:
        conversation = _Conversation(self, sock)
        try:
            conversation.run()
        finally:
            conversation.sock.close()

    def reply(self, verb: str, usual: bytes) -> bytes:
        """The next reply to a verb."""
        with self._lock:
            rest = self.script.replies.get(verb)
            if rest:
                return rest.pop(0)
            always = self.script.replies.get(f"{verb}*")
            return always[0] if always else usual


class _Conversation:
    def __init__(self, server: SmtpServer, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.buffer = b""
        self.out = b""
        self.commands: list[str] = []
        server.commands.append(self.commands)
        self.sender = self.recipient = ""

    def run(self) -> None:
        if not self.answer("GREETING"):
            return
        while True:
            line = self.read_until(b"\r\n").decode().removesuffix("\r\n")
            verb = line.split(" ")[0].split(":")[0].upper()
            self.commands.append(line)
            if self.buffer:
                self.server.pipelined += 1
            if not self.obey(verb, line):
                return

    def obey(self, verb: str, line: str) -> bool:
        if verb == "EHLO":
            self.server.ehlo_names.add(line.split()[1])
            extensions = self.server.script.extensions
            if isinstance(self.sock, ssl.SSLSocket):
                extensions = tuple(each for each in extensions if each != b"STARTTLS")
            lines = [b"server.test", *extensions]
            usual = b"".join(b"250-%b\r\n" % each for each in lines[:-1]) + b"250 %b\r\n" % lines[-1]
            return self.answer("EHLO", usual)
        if verb == "STARTTLS":
            if not self.answer("STARTTLS"):
                return False
            self.flush()
            assert self.server.script.tls is not None
            self.sock = self.server.script.tls.wrap_socket(self.sock, server_side=True)
            return True
        if verb == "MAIL":
            assert not self.sender, "nested MAIL"
            self.sender = line.split("<")[1].split(">")[0]
            if not self.answer("MAIL"):
                return False
        elif verb == "RCPT":
            self.recipient = line.split("<")[1].split(">")[0]
            return self.answer("RCPT")
        elif verb == "RSET":
            self.sender = self.recipient = ""
            return self.answer("RSET")
        elif verb == "QUIT":
            self.answer("QUIT")
            self.flush()
            return False
        elif verb == "DATA":
            if not self.answer("DATA"):
                return False
            if self.last.startswith(b"354"):
                return self.take_body()
        else:
            raise AssertionError(f"unknown command {line!r}")
        return True

    def take_body(self) -> bool:
        first = self.read_until(b"\r\n")
        raw = first if first == b".\r\n" else first + self.read_until(b"\r\n.\r\n", len(first))
        data = (b"\r\n" + raw.removesuffix(b".\r\n")).replace(b"\r\n..", b"\r\n.")[2:]
        time.sleep(self.server.script.delay)
        reply = self.server.reply("BODY", USUAL["BODY"])
        if raw != b".\r\n":
            self.server.messages.append(Received(self.sender, self.recipient, data, reply))
        self.sender = self.recipient = ""
        return self.put(reply)

    def answer(self, verb: str, usual: bytes = b"") -> bool:
        return self.put(self.server.reply(verb, usual or USUAL[verb]))

    def put(self, reply: bytes) -> bool:
        self.last = reply
        if reply == CLOSE:
            self.flush()
            return False
        self.out += reply
        if reply.startswith(b"421"):
            self.flush()
            return False
        return True

    def flush(self) -> None:
        out, self.out = self.out, b""
        if self.server.script.dribble:
            for index in range(len(out)):
                self.sock.sendall(out[index : index + 1])
                time.sleep(0.0005)
        elif out:
            self.sock.sendall(out)

    def read_until(self, end: bytes, seen: int = 0) -> bytes:
        """Bytes up to and including `end`; the last `seen` bytes consumed may belong to it."""
        overlap = b"\r\n" if seen else b""
        while (at := (overlap + self.buffer).find(end)) < 0:
            self.flush()
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data
        cut = at + len(end) - len(overlap)
        taken, self.buffer = self.buffer[:cut], self.buffer[cut:]
        return taken


class HttpServer(Server):
    """Takes injections; `replies` are given in turn, then the usual 200."""

    def __init__(self, replies: list[bytes] | None = None) -> None:
        super().__init__()
        self.replies = replies or []
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def serve(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as stream:
            while line := stream.readline():
                length = 0
                while (header := stream.readline()) != b"\r\n":
                    name, _, value = header.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                request = json.loads(stream.read(length))
                self.requests.append((line.decode().strip(), request))
                reply = self.replies.pop(0) if self.replies else http_reply(len(request["recipients"]))
                sock.sendall(reply)
                if reply == CLOSE or b"Connection: close" in reply:
                    return


def http_reply(accepted: int, failed: int = 0, status: str = "200 OK", extra: str = "") -> bytes:
    """A reply to an injection."""
    body = json.dumps(
        {"success_count": accepted, "fail_count": failed, "failed_recipients": [], "errors": []}
    )
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n{body}".encode()
