"""From octets to a tree of parts (RFC 2046 §5.1), in time proportional to the octets for each level of nesting.

What is malformed is kept and flagged. Boundaries are compared with the beginnings of lines (§5.1.1), those of outer
parts first: what an outer boundary ends, no inner part goes beyond.
"""

from __future__ import annotations

from typing import NamedTuple

from kumo_py.message.cfws import octets_of
from kumo_py.message.mime.errors import MimeError
from kumo_py.message.mime.header import MAX_HEADERS, parse_block
from kumo_py.message.mime.part import MAX_PARTS, Part, Written

MAX_DEPTH = 50
"""Parts nested deeper are an error."""


def parse(data: bytes, *, strict: bool = False) -> Part:
    """The parts of a message. `part.to_bytes()` gives `data` again until something is changed.

    Raises MimeError for more than MAX_PARTS parts, MAX_DEPTH levels or MAX_HEADERS headers; with `strict` also for
    lines among the headers that KumoMTA refuses, which otherwise end the headers and are flagged.
    """
    return _Parser(data, strict).parse()


class _Mark(NamedTuple):
    """A boundary line."""

    start: int
    after: int
    is_last: bool


class _Parser:
    def __init__(self, data: bytes, strict: bool) -> None:
        self._data = data
        self._strict = strict
        self._parts = 1
        self._headers = 0

    def parse(self) -> Part:
        data = self._data
        root = self._read(0, len(data), b"", is_message=True)
        pending = [(root, 1)]
        while pending:
            part, depth = pending.pop()
            type_ = part.content_type
            boundary = type_.get("boundary") if type_ and type_.is_multipart else None
            if boundary and self._split(part, b"\n--" + octets_of(boundary)):
                if depth == MAX_DEPTH:
                    raise MimeError(f"parts are nested more than {MAX_DEPTH} deep")
                pending.extend((below, depth + 1) for below in part.parts)
        return root

    def _read(self, start: int, end: int, lead: bytes, *, is_message: bool = False) -> Part:
        block = parse_block(self._data, start, end, strict=self._strict, limit=MAX_HEADERS - self._headers)
        self._headers += len(block.headers)
        written = Written(
            self._data,
            start,
            block.body_at,
            end,
            end,
            block.separator,
            lead,
            headers=block.headers,
            flags=block.flags,
        )
        return Part.from_written(written, is_message=is_message)

    def _split(self, part: Part, delimiter: bytes) -> bool:
        """Find the parts of a part; False if there are none."""
        data, written = self._data, part._written
        end = written.body_end
        marks = self._delimiters(delimiter, written.body_start - 1, end)
        if not marks or marks[0].is_last:
            return False
        ends = [mark.start for mark in marks[1:]] + [end]
        parts = [
            self._read(mark.after, next_at, data[mark.start : mark.after])
            for mark, next_at in zip(marks, ends, strict=True)
            if not mark.is_last
        ]
        part.set_parsed_parts(
            parts, marks[0].start, data[marks[-1].start : end] if marks[-1].is_last else b""
        )
        return True

    def _delimiters(self, delimiter: bytes, at: int, end: int) -> list[_Mark]:
        """The boundary lines, up to the closing one or one that nothing can follow."""
        data = self._data
        found: list[_Mark] = []
        while (at := data.find(delimiter, max(at, 0), end)) >= 0:
            after = at + len(delimiter)
            newline = data.find(b"\n", after, end)
            last = data.startswith(b"--", after, end) or newline < 0
            found.append(_Mark(at + 1, newline + 1, last))
            if last:
                break
            self._parts += 1
            if self._parts > MAX_PARTS:
                raise MimeError(f"the message has more than {MAX_PARTS} parts")
            at = newline
        return found
