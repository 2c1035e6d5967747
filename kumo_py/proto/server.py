"""The receive side of an SMTP session: one buffer, cut into command lines, DATA contents and BDAT chunks.

Promises:
- Whatever arrives, whole or byte by byte, gives the same lines and contents, in time linear in its length.
- Only CRLF.CRLF ends DATA (RFC 5321 §4.1.1.4); the first CRLF may be the one of the DATA command, which makes
  an empty message of a lone ".". (KumoMTA waits for a CRLF inside the content there.)
- Memory is bounded by the limits given plus one feed: a line or content beyond its limit is thrown away as it
  arrives, up to its end, and reported once.

The session says which of next_line, next_data and next_bdat comes next: it calls the begin_ method after it
has read the command, and the next_ method after every feed until that gives a result.
"""

from __future__ import annotations

from typing import Final, Literal

from kumo_py.proto.buffer import ByteBuffer
from kumo_py.proto.content import (
    DataResult,
    Fault,
    LineEndings,
    any_leading_dot,
    check_content,
    unstuff,
)

_TERMINATOR: Final = b"\r\n.\r\n"
_LEADING_DOT: Final = b"\r\n."
_SMALL_CHUNK: Final = 4096  # smaller ones are glued together, or a drip of bytes would cost 40 times its size


class Receiver(ByteBuffer):
    """Cuts the bytes of one connection. line_limit: octets of a command line without its CRLF."""

    __slots__ = (
        "_chunks", "_data_line_limit", "_line_endings", "_line_limit", "_max_size", "_may_have_dots",
        "_overlong", "_remaining", "_tail", "_too_big", "_total",
    )  # fmt: skip

    def __init__(self, line_limit: int = 998) -> None:
        super().__init__()
        self._line_limit = line_limit
        self._overlong = False  # a line is being thrown away
        # The content that is being received, by DATA or BDAT:
        self._chunks: list[bytes] = []
        self._max_size = 0  # DATA
        self._total = 0  # DATA: octets seen, kept or not
        self._tail = b""  # DATA: the last four of them at most
        self._may_have_dots = False  # DATA: a line may begin with one
        self._data_line_limit = 0
        self._line_endings: LineEndings = "Deny"
        self._remaining = 0  # BDAT: octets still to come
        self._too_big = False  # BDAT: and they are thrown away

    def discard(self) -> None:
        """Forget what is pending, an unfinished line included."""
        super().discard()
        self._overlong = False

    def next_line(self, limit: int | None = None) -> bytes | Literal[Fault.LINE_TOO_LONG] | None:
        """The next line without its CRLF, LINE_TOO_LONG once in the place of one, or None: feed more.

        A bare CR or LF is part of the line. limit: octets, in the place of the line_limit, for this line.
        """
        buffer = self._buffer
        end = buffer.find(b"\r\n", self._searched)
        start = self._position
        if limit is None:
            limit = self._line_limit
        if end < 0:
            self._keep_start_of_line(limit)
            return None
        self._position = self._searched = end + 2
        if self._overlong or end - start > limit:
            self._overlong = False
            return Fault.LINE_TOO_LONG
        return buffer[start:end]

    def _keep_start_of_line(self, limit: int) -> None:
        buffer = self._buffer
        # One more than the limit may be there: the CR of the line end.
        if self._overlong or len(buffer) - self._position > limit + 1:
            self._buffer = b"\r" if buffer.endswith(b"\r") else b""
            self._position = self._searched = 0
            self._overlong = True
        else:
            self._searched = max(self._position, len(buffer) - 1)

    def begin_data(self, max_size: int, line_limit: int, line_endings: LineEndings) -> None:
        """Expect a content that ends with CRLF.CRLF.

        max_size: octets on the wire, transparency dots counted, terminator not. line_limit, line_endings: see
        check_content.
        """
        self._chunks.clear()
        self._max_size = max_size
        self._total = 0
        self._tail = b"\r\n"  # that of the DATA command
        self._may_have_dots = False
        self._data_line_limit = line_limit
        self._line_endings = line_endings

    def next_data(self) -> DataResult | None:
        """The content, or why it was refused, once the terminator has arrived; else None."""
        buffer, start, tail = self._buffer, self._position, self._tail
        seam = (tail + buffer[start : start + 4]).find(_TERMINATOR)
        if seam >= 0:
            end = start + seam - len(tail)
            self._position = self._searched = end + 5
            # Two octets of the terminator belong to the content, and some of these may be stored already.
            return self._end_data(buffer[start : max(start, end + 2)], self._total + seam + 2 - len(tail))
        if _LEADING_DOT in tail[-2:] + buffer[start : start + 2]:
            self._may_have_dots = True
        # One scan for all that begins a line with a dot: the terminator is the last such line, if it is there.
        dot = buffer.rfind(_LEADING_DOT, start)
        if dot >= 0:
            end = dot
            if not buffer.startswith(_TERMINATOR, dot) or buffer.rfind(_LEADING_DOT, start, dot) >= 0:
                self._may_have_dots = True
                end = buffer.find(_TERMINATOR, start)
            if end >= 0:
                self._position = self._searched = end + 5
                return self._end_data(buffer[start : end + 2], self._total + end + 2 - start)
        chunk = self._take_chunk(len(buffer) - start)
        self._total += len(chunk)
        self._tail = (tail + chunk[-4:])[-4:]
        # What comes may make a terminator of the last four octets, whose first two would still count.
        if self._total - 2 > self._max_size:
            self._chunks.clear()
        elif chunk:
            self._keep(chunk)
        return None

    def _end_data(self, last_chunk: bytes, size: int) -> DataResult:
        """Finish with the size octets that are in the kept chunks and the last one."""
        if size > self._max_size:
            self._chunks.clear()
            return DataResult(fault=Fault.TOO_BIG)
        content = last_chunk
        if self._chunks:
            content = b"".join((*self._chunks, last_chunk))[:size]
            self._chunks.clear()
        dotted = self._may_have_dots and any_leading_dot(content)
        if dotted:
            content = unstuff(content)
        return check_content(content, self._data_line_limit, self._line_endings, may_have_leading_dots=dotted)

    def begin_bdat(self, size: int, max_size: int) -> None:
        """Expect one chunk of `size` octets (RFC 3030); one that is above max_size is thrown away."""
        self._chunks.clear()
        self._remaining = size
        self._too_big = size > max_size

    def next_bdat(self) -> bytes | Literal[Fault.TOO_BIG] | None:
        """The chunk or TOO_BIG once all of it has arrived, else None. Join the chunks, then check_content."""
        chunk = self._take_chunk(self._remaining)
        self._remaining -= len(chunk)
        if not self._too_big:
            self._keep(chunk)
        if self._remaining:
            return None
        if self._too_big:
            return Fault.TOO_BIG
        content = b"".join(self._chunks)
        self._chunks.clear()
        return content

    def _take_chunk(self, size: int) -> bytes:
        start = self._position
        chunk = self._buffer[start : start + size]
        self._position = self._searched = start + len(chunk)
        return chunk

    def _keep(self, chunk: bytes) -> None:
        chunks = self._chunks
        if chunks and len(chunk) < _SMALL_CHUNK and len(chunks[-1]) < _SMALL_CHUNK:
            chunks[-1] += chunk
        else:
            chunks.append(chunk)
