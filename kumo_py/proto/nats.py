"""The protocol of NATS clients without I/O: commands out, operations in; and what proves who a client is.

https://docs.nats.io/reference/reference-protocols/nats-protocol. Fed whole or byte by byte the operations are the same;
what is none raises NatsProtocolError. Time is linear in the input, memory bounded.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LINE = 1 << 20
"""Octets of a line; INFO has the addresses of a whole cluster."""
MAX_MESSAGE = 1 << 20
"""Octets of a message: a client that only publishes gets none but acknowledgements."""

_SUBJECT = re.compile(r"[^\s.\x00-\x1f\x7f]+(\.[^\s.\x00-\x1f\x7f]+)*")
_HEADER_NAME = re.compile(r"[!-9;-~]+")
_SEED_OF_USER = bytes((18 << 3 | 20 << 3 >> 5, (20 << 3 & 31) << 3))
_USER = bytes((20 << 3,))
_SECTION = r"-+BEGIN {}-+\s+(\S+)\s+-+END {}-+"


class NatsProtocolError(Exception):
    """The peer does not speak NATS."""


class Info(msgspec.Struct, frozen=True):
    """What a server says of itself; fields that a client has no use for are left out."""

    server_id: str = ""
    version: str = ""
    headers: bool = False
    max_payload: int = 1 << 20
    tls_required: bool = False
    tls_available: bool = False
    auth_required: bool = False
    connect_urls: list[str] = []
    nonce: str | None = None


class Delivery(NamedTuple):
    """A message; `status` is the number in its headers' first line, 0 if there is none."""

    subject: str
    payload: bytes
    status: int = 0


class Refusal(NamedTuple):
    """-ERR, and what it says."""

    text: str


class Word(NamedTuple):
    """PING, PONG or +OK."""

    text: str


Operation: TypeAlias = Info | Delivery | Refusal | Word


class Parser:
    """Operations of one server, in order."""

    __slots__ = ("_buffer", "_searched", "_waiting")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._waiting: tuple[str, int, int] | None = None
        """Of a message whose content is still to come: its subject, the size of its headers, and of all."""

    def feed(self, data: bytes) -> None:
        self._buffer += data

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing after the operations that were taken."""
        return not self._buffer and self._waiting is None

    def next(self) -> Operation | None:
        """The next operation; None if it has not arrived as a whole. Raises NatsProtocolError."""
        if self._waiting is None:
            line = self._line()
            if line is None:
                return None
            operation = self._operation(line)
            if operation is not None:
                return operation
        return self._content()

    def _line(self) -> bytes | None:
        buffer = self._buffer
        end = buffer.find(b"\r\n", max(0, self._searched - 1))
        if end < 0:
            self._searched = len(buffer)
            if len(buffer) > MAX_LINE:
                raise NatsProtocolError("a line without end")
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        self._searched = 0
        return line

    def _operation(self, line: bytes) -> Operation | None:
        """None for a message, whose content follows."""
        word, _, rest = line.decode("utf-8", "replace").partition(" ")
        match word.upper():
            case "MSG" | "HMSG" as kind:
                self._waiting = _sizes(kind, rest)
                return None
            case "INFO":
                try:
                    return msgspec.json.decode(rest, type=Info)
                except msgspec.MsgspecError as err:
                    raise NatsProtocolError(f"an INFO that is none: {err}") from None
            case "PING" | "PONG" | "+OK" as text:
                return Word(text)
            case "-ERR":
                return Refusal(rest.strip().strip("'"))
        raise NatsProtocolError(f"{line[:60]!r} is nothing that a server says")

    def _content(self) -> Delivery | None:
        assert self._waiting is not None
        subject, head, size = self._waiting
        buffer = self._buffer
        if len(buffer) < size + 2:
            return None
        if buffer[size : size + 2] != b"\r\n":
            raise NatsProtocolError("a message longer than it says")
        status = buffer[: min(head, 64)].partition(b"\r\n")[0].split()[1:2]
        payload = bytes(buffer[head:size])
        del buffer[: size + 2]
        self._waiting = None
        return Delivery(subject, payload, int(status[0]) if status and status[0].isdigit() else 0)


def _sizes(kind: str, rest: str) -> tuple[str, int, int]:
    fields = rest.split()
    numbers = 2 if kind == "HMSG" else 1
    if len(fields) - numbers not in (2, 3) or not all(
        field.isascii() and field.isdigit() and len(field) < 10 for field in fields[-numbers:]
    ):
        raise NatsProtocolError(f"{kind} with {rest[:60]!r}")
    size = int(fields[-1])
    head = int(fields[-2]) if numbers == 2 else 0
    if head > size or size > MAX_MESSAGE:
        raise NatsProtocolError(f"a message of {size} octets, {head} of them headers")
    return fields[0], head, size


# -- what a client says ------------------------------------------------------------------------------------
def connect(options: dict[str, Any]) -> bytes:
    """CONNECT, and a PING whose answer tells that the server took it."""
    return b"CONNECT %b\r\nPING\r\n" % orjson.dumps(options)


def check_subject(subject: str) -> None:
    """Raises ValueError for a name that nothing can be published under."""
    if not _SUBJECT.fullmatch(subject):
        raise ValueError(f"'{subject}' is not a subject: words without spaces, with '.' between them")
    if "*" in (words := subject.split(".")) or ">" in words:
        raise ValueError(f"'{subject}' is a pattern of subjects, which nothing can be published under")


def header_block(headers: Mapping[str, str]) -> bytes:
    """Headers as they go before a payload; b"" without any. Raises ValueError for what would not stay one header."""
    if not headers:
        return b""
    lines = []
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"'{name}' is not the name of a header")
        if "\r" in value or "\n" in value:
            raise ValueError(f"the value of header '{name}' has a line break in it")
        lines.append(f"{name}: {value}\r\n")
    return f"NATS/1.0\r\n{''.join(lines)}\r\n".encode()


def publish(subject: str, reply: str, headers: bytes, payload: bytes) -> list[bytes]:
    """PUB, or HPUB where there are headers, in parts; `reply` may be empty."""
    to = f"{subject} {reply}" if reply else subject
    if headers:
        size = len(headers) + len(payload)
        return [f"HPUB {to} {len(headers)} {size}\r\n".encode(), headers, payload, b"\r\n"]
    return [f"PUB {to} {len(payload)}\r\n".encode(), payload, b"\r\n"]


# -- who a client is ---------------------------------------------------------------------------------------
class NatsKey:
    """A user's key (NKEY): Ed25519, written in base32 with a prefix and a checksum."""

    def __init__(self, seed: str) -> None:
        """Raises ValueError."""
        try:
            raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
        except binascii.Error:
            raw = b""
        checked = len(raw) == 36 and binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little") == raw[-2:]
        if not checked or raw[:2] != _SEED_OF_USER:
            raise ValueError("this is not the seed of a user's NKEY: those begin with SU")
        self._key = Ed25519PrivateKey.from_private_bytes(raw[2:34])

    @property
    def public(self) -> str:
        """As the server's configuration has it; begins with U."""
        raw = _USER + self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")

    def sign(self, nonce: str) -> str:
        """What proves to a server that the client has the key."""
        return base64.urlsafe_b64encode(self._key.sign(nonce.encode())).decode().rstrip("=")


def parse_credentials(text: str) -> tuple[str, str]:
    """The JWT and the seed of a user's credentials file. Raises ValueError."""
    jwt = re.search(_SECTION.format("NATS USER JWT", "NATS USER JWT"), text)
    seed = re.search(_SECTION.format("USER NKEY SEED", "USER NKEY SEED"), text)
    if jwt is None or seed is None:
        missing = "NATS USER JWT" if jwt is None else "USER NKEY SEED"
        raise ValueError(f"no part '{missing}': a credentials file is what `nsc generate creds` writes")
    return jwt[1], seed[1]
