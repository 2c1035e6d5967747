"""SMTP replies (RFC 5321 §4.2) with enhanced status codes (RFC 3463): written, read, classified, recorded.

A Response is what a log record shows as `response` and what decides on a delivery. ReplyReader reads what a
remote server sends, bounded and strict about framing, lenient about text: octets that are not UTF-8 become
U+FFFD. format_reply writes what our server answers: whatever the text holds, one reply comes out of it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypedDict

import msgspec

from kumo_py.proto.buffer import ByteBuffer

_REPLY_LINE_LIMIT: Final = 510  # octets without CRLF (RFC 5321 §4.5.3.1.5)

# A whole reply of one line; code, class, subject, detail, text.
_match_one_line = re.compile(
    rb"([2-5][0-9]{2})(?: (?:([245])\.([0-9]{1,3})\.([0-9]{1,3}) )?+([^\r\n]*+))?+\r\n"
).match
_match_line = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL).fullmatch
_match_enhanced = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3}) ").match
_sub_control = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]").sub


class ReplyError(ValueError):
    """The remote server sent something that is no SMTP reply; nothing after it can be trusted."""


class EnhancedCode(NamedTuple):
    """RFC 3463 §2: class.subject.detail."""

    class_: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.class_}.{self.subject}.{self.detail}"


EnhancedCodeRecord = TypedDict("EnhancedCodeRecord", {"class": int, "subject": int, "detail": int})


class ResponseRecord(TypedDict):
    """`response` of a log record."""

    code: int
    enhanced_code: EnhancedCodeRecord | None
    content: str
    command: str | None


class Response(msgspec.Struct, gc=False):
    """One reply. content: its text without codes, lines separated by "\\n". command: what it answers."""

    code: int
    enhanced: EnhancedCode | None = None
    content: str = ""
    command: str | None = None

    @staticmethod
    def from_text(code: int, text: str, command: str | None = None) -> Response:
        """Take a reply as a policy writes it: text that may begin with an enhanced code."""
        return _build(code, _lines(text), command)

    @property
    def is_success(self) -> bool:
        """Delivered: 2xx."""
        return 200 <= self.code < 300

    @property
    def is_transient(self) -> bool:
        """Worth another try: 3xx, 4xx, and 503, which tells of the session rather than of the message."""
        return 300 <= self.code < 500 or self.code == 503

    @property
    def is_permanent(self) -> bool:
        """A bounce: 5xx but 503."""
        return 500 <= self.code < 600 and self.code != 503

    def to_single_line(self) -> str:
        """Code, enhanced code and text on one line, as bounces and diagnostics show it."""
        enhanced = f"{self.enhanced} " if self.enhanced else ""
        return f"{self.code} {enhanced}{_flat(self.content)}"

    def to_record(self) -> ResponseRecord:
        """The `response` object of a log record; line breaks become spaces."""
        enhanced: EnhancedCodeRecord | None = None
        if self.enhanced is not None:
            class_, subject, detail = self.enhanced
            enhanced = {"class": class_, "subject": subject, "detail": detail}
        return {
            "code": self.code,
            "enhanced_code": enhanced,
            "content": _flat(self.content),
            "command": self.command,
        }


def format_reply(code: int, text: str) -> bytes:
    """Write a reply, CRLF included. Each line of the text becomes a line of it; other controls become spaces.

    A line that would pass 512 octets (RFC 5321 §4.5.3.1.5) goes on in another one, at a space if it has one.
    """
    if text.isprintable() and len(text) <= 120:
        return b"%d %b\r\n" % (code, text.encode())
    pieces = [piece for line in _lines(text) for piece in _wrapped(_sub_control(" ", line).encode())]
    last = pieces.pop()
    return b"".join([*(b"%d-%b\r\n" % (code, piece) for piece in pieces), b"%d %b\r\n" % (code, last)])


class ReplyReader(ByteBuffer):
    """Cuts the bytes of one connection into replies.

    max_line: octets of a line without its CRLF. max_lines: lines of one reply.
    """

    __slots__ = ("_lines", "_max_line", "_max_lines")

    def __init__(self, max_line: int = 4096, max_lines: int = 128) -> None:
        super().__init__()
        self._max_line = max_line
        self._max_lines = max_lines
        self._lines: list[tuple[bytes, bytes]] = []  # code and text of the lines of an unfinished reply

    @property
    def pending(self) -> bool:
        """True if something has come that next() has not given out."""
        return bool(self._lines) or super().pending

    def discard(self) -> None:
        """Forget what is pending, an unfinished reply included."""
        super().discard()
        self._lines = []

    def go_ahead(self, count: int) -> bool | None:
        """Take `count` replies 250 and one 354, each of one line, if they are all there.

        False if what is there begins otherwise; None if it may still become that: feed more.
        """
        buffer, position = self._buffer, self._position
        if self._lines:
            return False
        for _ in range(count):
            if not buffer.startswith(b"250 ", position):
                return None if b"250 ".startswith(buffer[position:]) else False
            position = buffer.find(b"\r\n", position) + 2
            if position == 1:
                return None if len(buffer) - self._position <= count * self._max_line else False
        if not buffer.startswith(b"354 ", position):
            return None if b"354 ".startswith(buffer[position:]) else False
        position = buffer.find(b"\r\n", position) + 2
        if position == 1:
            return None if len(buffer) - self._position <= (count + 1) * self._max_line else False
        self._position = self._searched = position
        return True

    def next(self, command: str | None = None) -> Response | None:
        """The next reply, as an answer to `command`, or None: feed more. Raises ReplyError."""
        position = self._position
        if self._lines or self._searched != position:
            return self._next_line_by_line(command)
        match = _match_one_line(self._buffer, position)
        if match is None or (end := match.end()) - position - 2 > self._max_line:
            return self._next_line_by_line(command)
        self._position = self._searched = end
        code, class_, subject, detail, text = match.groups(b"")
        enhanced = EnhancedCode(int(class_), int(subject), int(detail)) if class_ else None
        return Response(int(code), enhanced, text.decode("utf-8", "replace"), command)

    def _next_line_by_line(self, command: str | None) -> Response | None:
        lines = self._lines
        while (line := self._next_line()) is not None:
            match = _match_line(line)
            if match is None:
                raise ReplyError(f"expected a reply such as '250 OK', got {_shown(line)}")
            code, separator, text = match.groups(b"")
            if lines and code != lines[0][0]:
                raise ReplyError(f"a reply began with {_shown(lines[0][0])} and went on with {_shown(line)}")
            lines.append((code, text))
            if separator != b"-":
                self._lines = []
                return _build(int(code), [text.decode("utf-8", "replace") for _, text in lines], command)
            if len(lines) >= self._max_lines:
                raise ReplyError(f"a reply of more than {self._max_lines} lines")
        return None

    def _next_line(self) -> bytes | None:
        buffer, start = self._buffer, self._position
        end = buffer.find(b"\r\n", self._searched)
        # Without a line end one more octet than the limit may be there: the CR.
        if (len(buffer) - 1 if end < 0 else end) - start > self._max_line:
            raise ReplyError(f"a reply line is longer than {self._max_line} octets: {_shown(buffer[start:])}")
        if end < 0:
            self._searched = max(start, len(buffer) - 1)
            return None
        self._position = self._searched = end + 2
        return buffer[start:end]


def _build(code: int, lines: list[str], command: str | None) -> Response:
    """Join the lines; an enhanced code repeated on the later ones (RFC 2034 §4) is dropped there."""
    enhanced = None
    match = _match_enhanced(lines[0])
    if match is not None:
        class_, subject, detail = match.groups()
        enhanced = EnhancedCode(int(class_), int(subject), int(detail))
        lines = [line.removeprefix(match[0]) for line in lines]
    return Response(code, enhanced, "\n".join(lines), command)


def _lines(text: str) -> list[str]:
    """Split at CRLF and at LF; a line break at the end makes no empty line."""
    return text.removesuffix("\n").removesuffix("\r").replace("\r\n", "\n").split("\n")


def _wrapped(line: bytes) -> list[bytes]:
    pieces = []
    room = _REPLY_LINE_LIMIT - 4
    while len(line) > room:
        cut = line.rfind(b" ", room // 2, room + 1)
        if cut < 0:
            cut = room
            while line[cut] & 0xC0 == 0x80:  # not inside a UTF-8 sequence
                cut -= 1
            pieces.append(line[:cut])
            line = line[cut:]
        else:
            pieces.append(line[:cut])
            line = line[cut + 1 :]
    return [*pieces, line]


def _flat(content: str) -> str:
    if "\n" not in content and "\r" not in content:
        return content
    return content.replace("\r\n", " ").replace("\r", " ").replace("\n", " ")


def _shown(line: bytes) -> str:
    return repr(line[:80].decode("utf-8", "replace"))
