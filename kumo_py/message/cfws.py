"""White space and comments of structured headers (RFC 5322 §3.2.2), and quoted strings (§3.2.4).

Nested comments are counted, not descended into: time is linear, and depth costs nothing.
"""

from __future__ import annotations

import re

from kumo_py.message.headers import HeaderError

_match_space = re.compile(r"[ \t\r\n]*+").match
_match_comment_part = re.compile(r"[^()\\]++|\\.|[()]", re.DOTALL).match
_match_quoted = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL).match
_sub_pair = re.compile(r"\\(.)", re.DOTALL).sub
_CONTROLS = dict.fromkeys(b"\r\n\0")
_sub_fold = re.compile(r"\r?\n").sub


def text_of(value: bytes) -> str:
    """A raw header value for parsing; octets that are not UTF-8 become surrogates, as in `octets_of`."""
    return value.decode("utf-8", "surrogateescape")


def octets_of(text: str) -> bytes:
    """The octets of text, of those that `text_of` could not decode too."""
    return text.encode("utf-8", "surrogateescape")


def skip_cfws(text: str, at: int) -> int:
    """Where what follows white space and comments begins. Raises HeaderError for a comment without end."""
    while True:
        at = _space_end(text, at)
        if not text.startswith("(", at):
            return at
        at = comment_end(text, at)


def comment_end(text: str, at: int) -> int:
    """Where the comment that starts at `at` ends. Raises HeaderError if it does not."""
    depth = 0
    while match := _match_comment_part(text, at):
        at = match.end()
        depth += (match[0] == "(") - (match[0] == ")")
        if not depth:
            return at
    raise HeaderError("a comment does not end")


def quoted_string(text: str, at: int) -> tuple[str, int] | None:
    """The content of the quoted string that starts at `at`, unfolded and unescaped, and where it ends."""
    match = _match_quoted(text, at)
    if match is None:
        return None
    return _sub_fold("", _sub_pair(r"\1", match[1])), match.end()


def quote(text: str) -> str:
    """A quoted string. What it holds must have no CR, LF or NUL."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def without_controls(text: str) -> str:
    """Text that was read, without what `refuse_controls` would refuse to write."""
    return text.translate(_CONTROLS)


def refuse_controls(text: str, what: str) -> None:
    """Raises HeaderError for what could end a header and start another one."""
    if "\r" in text or "\n" in text or "\0" in text:
        raise HeaderError(f"{what} has a NUL, CR or LF in it")


def _space_end(text: str, at: int) -> int:
    match = _match_space(text, at)
    return match.end() if match else at
