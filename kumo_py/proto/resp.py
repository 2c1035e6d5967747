"""RESP2, the protocol that Redis speaks, without I/O: commands out, replies in.

A reply is None, an int, bytes, a list of replies, `Status` or `ServerError`. Fed whole or byte by byte the replies
are the same; what is no reply raises RespError. Time is linear in the input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Reply: TypeAlias = Any

MAX_DEPTH = 32
MAX_BULK = 512 << 20
"""Octets of a string: as Redis has it."""
MAX_ITEMS = 1 << 24
_MAX_LINE = 65536


class RespError(Exception):
    """The peer does not speak RESP."""


class Status(bytes):
    """A simple string, such as OK."""


class ServerError(Exception):
    """The server's refusal of a command: a code in capitals, and words."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]


class _Nothing:
    pass


NOTHING: Final = _Nothing()
"""There is no whole reply yet."""


def encode(arguments: Sequence[bytes]) -> bytes:
    """A command."""
    parts = [b"*%d\r\n" % len(arguments)]
    parts += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
    return b"".join(parts)


class Parser:
    """Replies of one connection, in order."""

    __slots__ = ("_buffer", "_bulk", "_open", "_position", "_searched")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self._searched = 0
        self._bulk: int | None = None
        """The length of the string whose header has come."""
        self._open: list[tuple[int, list[Reply]]] = []
        """Arrays that are not complete, the outermost first: wanted items and those there are."""

    def feed(self, data: bytes) -> None:
        if self._position > 65536:
            del self._buffer[: self._position]
            self._searched -= self._position
            self._position = 0
        self._buffer += data

    def next(self) -> Reply:
        """The next reply, or NOTHING. Raises RespError."""
        while (value := self._value()) is not NOTHING:
            while self._open:
                wanted, items = self._open[-1]
                items.append(value)
                if len(items) < wanted:
                    break
                self._open.pop()
                value = items
            else:
                return value
        return NOTHING

    def _value(self) -> Reply:
        """The next value that is no array with items; those are opened on the way."""
        while True:
            if self._bulk is not None:
                return self._string()
            line = self._line()
            if line is None:
                return NOTHING
            kind, rest = line[:1], line[1:]
            if kind == b"+":
                return Status(rest)
            if kind == b"-":
                return ServerError(rest.decode("utf-8", "replace"))
            if kind == b":":
                return _number(rest, -(2**63), 2**63 - 1)
            if kind == b"$":
                size = _number(rest, -1, MAX_BULK)
                if size < 0:
                    return None
                self._bulk = size
            elif kind == b"*":
                count = _number(rest, -1, MAX_ITEMS)
                if count <= 0:
                    return None if count < 0 else []
                if len(self._open) == MAX_DEPTH:
                    raise RespError(f"a reply is nested more than {MAX_DEPTH} deep")
                self._open.append((count, []))
            else:
                raise RespError(f"no reply begins with {bytes(kind)!r}")

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", max(self._position, self._searched))
        if end < 0:
            self._searched = max(self._position, len(self._buffer) - 1)
            if len(self._buffer) - self._position > _MAX_LINE:
                raise RespError("a line of a reply does not end")
            return None
        line = bytes(self._buffer[self._position : end])
        self._position = end + 2
        return line

    def _string(self) -> Reply:
        assert self._bulk is not None
        end = self._position + self._bulk
        if len(self._buffer) < end + 2:
            return NOTHING
        if self._buffer[end : end + 2] != b"\r\n":
            raise RespError("a string is longer than its header says")
        value = bytes(self._buffer[self._position : end])
        self._position, self._bulk = end + 2, None
        return value


def _number(text: bytes, least: int, most: int) -> int:
    if len(text) <= 20 and text.removeprefix(b"-").isdigit() and least <= (number := int(text)) <= most:
        return number
    raise RespError(f"{text[:40]!r} is not a number from {least} to {most}")
