"""Tag lists: `a=rsa-sha256; d=example.com; …` (RFC 6376 §3.2)."""

from __future__ import annotations

import binascii
import re

from kumo_py.auth.errors import Invalid, shown

MAX_SIZE = 1 << 16
"""Octets of a tag list that are looked at."""

_SPACE = b" \t\r\n"
_match_tag = re.compile(
    rb"[ \t\r\n]*([A-Za-z][A-Za-z0-9_]*)[ \t\r\n]*=([^\0-\x08\x0b\x0c\x0e-\x1f;\x7f]*)"
).fullmatch


class TagList:
    """Tags by name, without white space, which means nothing in any of them."""

    __slots__ = ("_raw", "_spans", "values")

    def __init__(self, raw: bytes) -> None:
        """Raises Invalid."""
        if len(raw) > MAX_SIZE:
            raise Invalid(f"the tag list has more than {MAX_SIZE} octets")
        self._raw = raw
        self._spans: dict[str, tuple[int, int]] = {}
        self.values: dict[str, str] = {}
        at = 0
        for part in raw.split(b";"):
            match = _match_tag(part)
            if match is not None:
                name = match[1].decode()
                if name in self.values:
                    raise Invalid(f"the tag {shown(name)} is there twice")
                try:
                    self.values[name] = match[2].translate(None, _SPACE).decode()  # RFC 8616 allows UTF-8
                except UnicodeDecodeError:
                    raise Invalid(f"the tag {shown(name)} is not UTF-8 text") from None
                self._spans[name] = (at + match.start(2), at + match.end(2))
            elif part.strip(_SPACE):
                raise Invalid("the tag list is malformed")
            at += len(part) + 1

    def required(self, *names: str) -> None:
        """Raises Invalid unless all of them are there."""
        for name in names:
            if name not in self.values:
                raise Invalid(f"the tag {name}= is missing")

    def without(self, name: str) -> bytes:
        """The list as it is, but with nothing after a tag's equals sign (§3.5 on b=)."""
        start, end = self._spans[name]
        return self._raw[:start] + self._raw[end:]

    def octets(self, name: str) -> bytes:
        """The base64 value of a tag. Raises Invalid."""
        try:
            return binascii.a2b_base64(self.values[name], strict_mode=True)
        except ValueError:
            raise Invalid(f"the tag {name}= is not base64") from None

    def number(self, name: str, digits: int = 12) -> int | None:
        """A tag that is a number; None if it is not there. Raises Invalid."""
        text = self.values.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) <= digits):
            raise Invalid(f"the tag {name}= is not a number of up to {digits} digits")
        return int(text)
