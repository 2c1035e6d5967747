"""One header of a MIME part, and the reading of a block of them (RFC 5322 §2.2, §4.5).

A header keeps every octet it was read from. Reading takes time in proportion to the block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

from kumo_py.message.cfws import octets_of
from kumo_py.message.header_values import UNSTRUCTURED, HeaderKind, canonical_name, kind_of
from kumo_py.message.headers import HeaderError, decoded, header_line, shown
from kumo_py.message.mime.conformance import Conformance
from kumo_py.message.mime.errors import MimeError

T = TypeVar("T")

_KEPT = 200
"""Octets; of shorter values the rebuilt form is kept, because a mailing's messages share most headers."""
MAX_HEADERS = 50_000
"""More of them in a message, all parts together, are an error."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header: `raw_value` is what stands between the separator and the end of the line, folds included."""

    name: bytes
    raw_value: bytes
    separator: bytes = b": "
    end: bytes = b""
    """What was read after the value, a line end most often; empty if the header was made here."""

    @classmethod
    def make(cls, name: str | bytes, value: str | bytes) -> Header:
        """A header of text: folded, and made of encoded words if it isn't ASCII. Raises HeaderError."""
        octets = name.encode() if isinstance(name, str) else name
        text = octets_of(value) if isinstance(value, str) else value
        return cls(octets, header_line(octets, _sub_fold(b"", text), encode=True)[len(octets) + 2 : -2])

    @classmethod
    def of_kind(cls, name: str | bytes, kind: HeaderKind[T], value: T) -> Header:
        """A header of a typed value. Raises HeaderError."""
        octets = name.encode() if isinstance(name, str) else name
        return cls(octets, header_line(octets, kind.encode(value))[len(octets) + 2 : -2])

    def read(self, kind: HeaderKind[T]) -> T:
        """What the header says, read as `kind`. Raises HeaderError."""
        try:
            return kind.parse(self.raw_value)
        except HeaderError as err:
            raise HeaderError(f"invalid header {shown(self.name)}: {err}") from None

    def rebuilt(self) -> Header:
        """The header made anew of what it says, in canonical form. Raises HeaderError.

        Of text that is not UTF-8, the octets that are wrong are replaced.
        """
        return _rebuilt(self) if len(self.raw_value) <= _KEPT else _rebuilt.__wrapped__(self)

    def to_bytes(self, line_end: bytes = b"\r\n") -> bytes:
        """The complete line or lines."""
        end = self.end if self.end.endswith(b"\n") else line_end
        return b"".join((self.name, self.separator, self.raw_value, end))


@lru_cache(maxsize=256)
def _rebuilt(header: Header) -> Header:
    kind = kind_of(header.name)
    if kind is UNSTRUCTURED:
        return Header.make(canonical_name(header.name), decoded(header.raw_value).decode("utf-8", "replace"))
    return Header.of_kind(canonical_name(header.name), kind, header.read(kind))


class Block(NamedTuple):
    """A block of headers as read."""

    headers: tuple[Header, ...]
    separator: bytes
    """The empty line after it; empty if there is none."""
    body_at: int
    flags: Conformance


_sub_fold = re.compile(rb"\r?\n(?=[ \t])").sub
# A name may be empty, and may be followed by anything printable once white space stands after it, as in KumoMTA.
_match_field = re.compile(
    rb"(?![ \t])([!-9;-~]*+)((?:[ \t][\t -9;-~]*+)?+: *+)((?:[^\n]*+\n(?=[ \t]))*+[^\n]*+\n?)"
).match
_match_bare_line = re.compile(rb"([!-9;-~][\t -9;-~]*+)(\r*+(?:\n|\Z))").match
_match_separator = re.compile(rb"\r?\n").match
_NONE = Conformance(0)


def parse_block(data: bytes, at: int, end: int, *, strict: bool = False, limit: int = MAX_HEADERS) -> Block:
    """The headers of data[at:end], up to the empty line, or up to the first line that cannot be a header.

    Such a line is flagged and begins the body; with `strict` it is an error, as in KumoMTA. Raises MimeError.
    """
    found: list[Header] = []
    flags = _NONE
    separator = b""
    while at < end:
        if match := _match_field(data, at, end):
            name, colon, value = match.groups()
            bare = value.rstrip(b"\r\n")
            found.append(Header(name, bare, colon, value[len(bare) :]))
            if colon[0] != 58:
                flags |= Conformance.NAME_ENDS_WITH_SPACE
            at = match.end()
            if len(found) > limit:
                raise MimeError(f"the message has more than {MAX_HEADERS} headers")
        elif match := _match_separator(data, at, end):
            separator = match[0]
            at = match.end()
            break
        elif match := _match_bare_line(data, at, end):
            flags |= Conformance.MISSING_COLON_VALUE
            found.append(Header(match[1], b"", b"", match[2]))
            at = match.end()
        else:
            if strict:
                raise MimeError(f"invalid header: {_problem(data, at, end)}")
            flags |= Conformance.MISSING_COLON_VALUE
            break
    return Block(tuple(found), separator, at, flags)


def _problem(data: bytes, at: int, end: int) -> str:
    if data[at] == 13:
        return "lone CR in header"
    if data[at] in b" \t\x0b\x0c":
        return "header block must not start with spaces"
    line = data[at : min(end, at + 80)].partition(b"\n")[0]
    return f"header name must be comprised of printable US-ASCII characters, got {shown(line)}"
