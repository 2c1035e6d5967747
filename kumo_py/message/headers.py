"""The header block of a message as bytes: find, decode, add and remove fields (RFC 5322, RFC 2047).

Nothing here parses the body, and nothing fails on what a stranger sent: a field is a line that starts with a name
and a colon, with its continuation lines, and the block ends at an empty line or at the first line that is neither.
Lines end with LF or CRLF. What we write has CRLF, and can neither end its field nor start another one. All of it
takes time in proportion to the size of the block. The only exception raised is HeaderError.
"""

from __future__ import annotations

import base64
import quopri
import re
from typing import TYPE_CHECKING, NamedTuple

from kumo_py.message.charset import decode_as, find_codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOFT_WIDTH = 75
"""Where encoded values are folded if they can be, and the length of an encoded word (RFC 2047 §2)."""
HARD_WIDTH = 900
"""Where encoded values are folded even inside a word; a line may have 998 (RFC 5322 §2.1.1)."""

# field-name is printable ASCII without the colon (§3.6.8); white space before the colon is obsolete syntax (§4.5).
_match_field = re.compile(rb"([!-9;-~]++)[ \t]*+:((?:[^\n]*+\n(?=[ \t]))*+[^\n]*+)\n?").match
_match_name = re.compile(rb"[!-9;-~]{1,900}").fullmatch
# A value may be folded: CRLF, white space, and something else on the line.
_match_value = re.compile(rb"[^\r\n\0]*+(?:\r\n(?=[ \t]+[^\r\n \t])[^\r\n\0]*+)*+").fullmatch
_split_octets = re.compile(rb"[ \t]+").split
_split_words = re.compile(r"[ \t\r\n]+").split
_find_encoded = re.compile(r"=\?([!-)+->@-~]+)(?:\*[!-)+->@-~]*)?\?([BbQq])\?([!->@-~]*)\?=").finditer


class HeaderError(ValueError):
    """A header cannot be written or understood; the text says what is wrong with it."""


class Field(NamedTuple):
    """One field; `value` is what follows the colon, folds included, `start` and `end` are offsets of its lines."""

    name: bytes
    value: bytes
    start: int
    end: int


# -- reading ---------------------------------------------------------------------------------------------------
def fields(data: bytes) -> Iterator[Field]:
    """The fields of a message, in order."""
    at = 0
    while match := _match_field(data, at):
        name, value = match.groups()
        at = match.end()
        yield Field(name, value.removesuffix(b"\r").lstrip(b" \t"), match.start(), at)


def values_named(data: bytes, name: bytes) -> Iterator[bytes]:
    """The raw values of all fields of that name, in whatever case."""
    wanted = name.lower()
    return (field.value for field in fields(data) if field.name.lower() == wanted)


def header_end(data: bytes) -> int:
    """The offset after the last field: where the empty line is, if there is one."""
    at = 0
    while match := _match_field(data, at):
        at = match.end()
    return at


def decoded(value: bytes) -> bytes:
    """A raw value as UTF-8 text: unfolded, encoded words decoded, white space reduced to single spaces.

    A value that is not UTF-8 is returned as it is.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value
    words = _split_words(text.strip(" \t\r\n"))
    if "=?" not in text:
        return " ".join(words).encode()
    return _decoded_words(words).encode("utf-8", "replace")


def _decoded_words(words: list[str]) -> str:
    """Words joined by spaces, except between encoded words (RFC 2047 §6.2).

    Neighbours of one charset are decoded as one: many senders cut characters in two.
    """
    parts: list[str] = []
    pending: list[bytes] = []
    charset = ""
    space = ""

    def flush() -> None:
        if pending:
            parts.append(decode_as(b"".join(pending), charset, "replace"))
            pending.clear()

    for word in words:
        at = 0
        for match in _find_encoded(word):
            found = _encoded_bytes(match)
            if found is None:
                continue
            if match.start() > at or (space and not pending):
                flush()
                parts += (space, word[at : match.start()])
            elif pending and charset != found[0]:
                flush()
            charset, octets = found
            pending.append(octets)
            space = ""
            at = match.end()
        if at < len(word):
            flush()
            parts += (space, word[at:])
        space = " "
    flush()
    return "".join(parts)


def _encoded_bytes(match: re.Match[str]) -> tuple[str, bytes] | None:
    """Codec and bytes of an encoded word; None if it cannot be decoded and stays as it is."""
    charset, encoding, text = match.groups()
    codec = find_codec(charset)
    if codec is None:
        return None
    if encoding in "Qq":
        return codec, quopri.decodestring(text.encode(), header=True)
    try:
        return codec, base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None


# -- writing ---------------------------------------------------------------------------------------------------
def header_line(name: bytes, value: bytes, *, encode: bool = False) -> bytes:
    """A complete field with CRLF at its end. Raises HeaderError.

    A value may be folded already. With `encode` it is folded, and made of encoded words if it isn't ASCII.
    """
    if not _match_name(name):
        raise HeaderError(f"{shown(name)} is not a header name: printable ASCII without a colon or spaces")
    if encode:
        value = encoded(value)
    value = value.removesuffix(b"\r\n")
    if not _match_value(value):
        raise HeaderError(
            f"the value of header {shown(name)} has a NUL, CR or LF in it that does not fold the line"
        )
    return b"%s: %s\r\n" % (name, value)


def append(data: bytes, line: bytes) -> bytes:
    """The message with a complete field after its last one."""
    at = header_end(data)
    before, after = data[:at], data[at:]
    if before and not before.endswith(b"\n"):
        before += b"\r\n"
    if not after.startswith((b"\r\n", b"\n")):
        after = b"\r\n" + after  # there was no empty line: what follows is the body
    return b"".join((before, line, after))


def without(data: bytes, unwanted: Callable[[Field], bool]) -> bytes:
    """The message without the fields for which `unwanted` is true; the same object if there are none."""
    kept: list[bytes] = []
    at = 0
    for field in fields(data):
        if unwanted(field):
            kept.append(data[at : field.start])
            at = field.end
    if not at:
        return data
    kept.append(data[at:])
    return b"".join(kept)


def encoded(value: bytes) -> bytes:
    """A value folded at spaces, and made of encoded words if it isn't ASCII. Raises HeaderError."""
    if b"\r" in value or b"\n" in value or b"\0" in value:
        raise HeaderError("a header value has a NUL, CR or LF in it")
    if value.isascii():
        return _folded(value)
    try:
        value.decode()
    except UnicodeDecodeError:
        return _folded(value)
    return b"\r\n\t".join(_encoded_words(value))


def _folded(value: bytes) -> bytes:
    lines: list[bytes] = []
    line = bytearray()
    for word in _split_octets(value.strip(b" \t")):
        while word:
            if line and len(line) + 1 + len(word) > SOFT_WIDTH:
                lines.append(bytes(line))
                line.clear()
            if line:
                line += b" "
            line += word[:HARD_WIDTH]
            word = word[HARD_WIDTH:]
    if line:
        lines.append(bytes(line))
    return b"\r\n\t".join(lines)


def _encoded_words(value: bytes) -> Iterator[bytes]:
    """Q encoding (RFC 2047 §4.2); a character is never cut in two (§5)."""
    word = b""
    for char in value.decode():
        piece = _q_encoded(char.encode())
        if len(word) + len(piece) > SOFT_WIDTH - len("=?UTF-8?q??="):
            yield b"=?UTF-8?q?%s?=" % word
            word = b""
        word += piece
    yield b"=?UTF-8?q?%s?=" % word


def _q_encoded(char: bytes) -> bytes:
    if char == b" ":
        return b"_"
    if char.isalnum() or char in b"!*+-/":
        return char
    return b"".join(b"=%02X" % octet for octet in char)


def shown(name: bytes) -> str:
    """Octets for an error message: quoted, printable, and not too many of them."""
    text = name.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 60 else text[:57] + "...")
