"""A mail server for tests: takes everything, keeps it, and does nothing else. One thread, no framework."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Self


@dataclass(slots=True)
class Delivery:
    """A message as it came: dots unstuffed, else byte for byte."""

    sender: str
    recipients: list[str]
    content: bytes
    at: float
    """Monotonic; noted before the 250 is sent."""


@dataclass(slots=True, eq=False)
class _Connection:
    sock: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    searched: int = 0
    in_data: bool = False
    sender: str = ""
    recipients: list[str] = field(default_factory=list)


class SmtpSink:
    """Listens from `__enter__` to `__exit__`; `close` and `open` take it down and up again at one address."""

    def __init__(self, *, pipelining: bool = True) -> None:
        self._pipelining = pipelining
        self.deliveries: list[Delivery] = []
        """Grows while the sink runs; an item is never changed."""
        self.connections = 0
        self._bound = ("127.0.0.1", 0)
        self._running: threading.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        return f"{self._bound[0]}:{self._bound[1]}"

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def open(self) -> None:
        listening = socket.create_server(self._bound, backlog=512)
        listening.setblocking(False)
        self._bound = listening.getsockname()
        self._running = threading.Event()
        self._running.set()
        self._thread = threading.Thread(target=self._run, args=(listening, self._running), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Refuse connections, and drop those there are in whatever state."""
        if self._running is not None and self._thread is not None:
            self._running.clear()
            self._thread.join(10)
            assert not self._thread.is_alive()
            self._running = self._thread = None

    def wait_for(self, count: int, timeout: float) -> None:
        """Until there are so many deliveries. Raises AssertionError."""
        deadline = time.monotonic() + timeout
        while len(self.deliveries) < count:
            assert time.monotonic() < deadline, (
                f"{len(self.deliveries)} of {count} messages came in {timeout:g}s"
            )
            time.sleep(0.005)

    def _run(self, listening: socket.socket, running: threading.Event) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(listening, selectors.EVENT_READ)
            while running.is_set():
                for key, _ in selector.select(0.02):
                    if key.data is None:
                        self._accept(listening, selector)
                    elif not self._serve(key.data):
                        selector.unregister(key.fileobj)
                        key.data.sock.close()
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]

    def _accept(self, listening: socket.socket, selector: selectors.BaseSelector) -> None:
        try:
            sock, _ = listening.accept()
        except OSError:
            return
        self.connections += 1
        sock.settimeout(5)
        selector.register(sock, selectors.EVENT_READ, _Connection(sock))
        sock.send(b"220 sink\r\n")

    def _serve(self, connection: _Connection) -> bool:
        """Answer what has come; False when the connection is over."""
        try:
            data = connection.sock.recv(1 << 20)
            connection.buffer += data
            replies = self._replies(connection)
            if replies:
                connection.sock.sendall(b"".join(replies))
        except OSError:
            return False
        return bool(data) and not (replies and replies[-1].startswith(b"221"))

    def _replies(self, connection: _Connection) -> list[bytes]:
        replies: list[bytes] = []
        buffer = connection.buffer
        while True:
            if connection.in_data:
                if not self._take(connection):
                    return replies
                replies.append(b"250 taken\r\n")
                continue
            end = buffer.find(b"\r\n")
            if end < 0:
                return replies
            line = bytes(buffer[:end]).decode()
            del buffer[: end + 2]
            replies.append(self._command(connection, line))

    def _command(self, connection: _Connection, line: str) -> bytes:
        match line[:4].upper():
            case "EHLO":
                extensions = ["sink", "8BITMIME", "SMTPUTF8", "SIZE"] + ["PIPELINING"] * self._pipelining
                lines = [f"250-{extension}\r\n" for extension in extensions[:-1]]
                return ("".join(lines) + f"250 {extensions[-1]}\r\n").encode()
            case "MAIL":
                connection.sender = line[line.index("<") + 1 : line.index(">")]
                connection.recipients = []
            case "RCPT":
                connection.recipients.append(line[line.index("<") + 1 : line.index(">")])
            case "DATA":
                connection.in_data = True
                # As if the line before the content's first had just ended: an empty content is `.` CR LF.
                connection.buffer[:0] = b"\r\n"
                connection.searched = 0
                return b"354 go\r\n"
            case "QUIT":
                return b"221 bye\r\n"
        return b"250 ok\r\n"

    def _take(self, connection: _Connection) -> bool:
        buffer = connection.buffer
        end = buffer.find(b"\r\n.\r\n", max(0, connection.searched - 4))
        if end < 0:
            connection.searched = len(buffer)
            return False
        content = bytes(buffer[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]
        del buffer[: end + 5]
        connection.in_data = False
        self.deliveries.append(Delivery(connection.sender, connection.recipients, content, time.monotonic()))
        return True
