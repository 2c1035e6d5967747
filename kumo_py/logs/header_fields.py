"""A message's header fields as text, for records that show some of them."""

from __future__ import annotations

import re
from email.errors import HeaderParseError
from email.header import decode_header, make_header

_FOLD = re.compile(rb"\r\n[ \t]+")


def header_fields(data: bytes) -> list[tuple[str, str]]:
    """Names and values (RFC 5322 §2.2), unfolded, encoded words (RFC 2047) decoded; no-fields left out."""
    end = data.find(b"\r\n\r\n")
    head = _FOLD.sub(b" ", data if end < 0 else data[:end])
    fields = []
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            fields.append((name.rstrip().decode("utf-8", "replace"), _decoded(value.strip())))
    return fields


def _decoded(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text
