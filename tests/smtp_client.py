"""A mail client for tests: blocking, with a time limit on every step."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    import ssl


class SmtpReply(NamedTuple):
    code: int
    text: str
    """Lines joined by LF, without the code."""


def split_address(address: str) -> tuple[str, int]:
    """`ip:port` or `[ip6]:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class SmtpClient:
    """One connection. Whatever goes wrong on it is an OSError; an end before a reply is ConnectionError."""

    def __init__(self, address: str, *, timeout: float = 10.0) -> None:
        self.sock = socket.create_connection(split_address(address), timeout)
        self._buffer = b""
        self.banner = SmtpReply(0, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def greet(self, name: str = "client.example") -> SmtpReply:
        """Banner and EHLO; the reply to the one that was refused, or to EHLO."""
        self.banner = self.reply()
        return self.banner if self.banner.code != 220 else self.command(f"EHLO {name}")

    def start_tls(self, context: ssl.SSLContext) -> None:
        assert self.command("STARTTLS").code == 220
        self.sock = context.wrap_socket(self.sock)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reply(self) -> SmtpReply:
        lines = []
        while True:
            line, found, rest = self._buffer.partition(b"\r\n")
            if not found:
                data = self.sock.recv(65536)
                if not data:
                    raise ConnectionError("the server closed the connection")
                self._buffer += data
                continue
            self._buffer = rest
            lines.append(line[4:].decode())
            if line[3:4] != b"-":
                return SmtpReply(int(line[:3]), "\n".join(lines))

    def command(self, line: str) -> SmtpReply:
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def envelope(self, sender: str, *recipients: str) -> SmtpReply:
        """MAIL, RCPT and DATA in one write; the 354, or the first refusal (all replies are read)."""
        commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA"]
        self.send("".join(f"{command}\r\n" for command in commands).encode())
        replies = [self.reply()]
        while len(replies) < len(commands) and replies[-1].code != 421:
            replies.append(self.reply())
        return next((reply for reply in replies if reply.code not in (250, 354)), replies[-1])

    def message(self, sender: str, recipient: str, content: bytes) -> SmtpReply:
        """A whole transaction; `content` ends with CR LF, or is empty."""
        answer = self.envelope(sender, recipient)
        if answer.code != 354:
            return answer
        self.send(stuffed(content))
        return self.reply()


def stuffed(content: bytes) -> bytes:
    """As it follows the 354: dots doubled, and the end (RFC 5321 §4.5.2)."""
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
