"""A message made anew of what it says: canonical headers, encodings and line ends (KumoMTA's `rebuild`)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from kumo_py.message.charset_detection import detected
from kumo_py.message.header_values import CONTENT_TYPE, MIME_PARAMS
from kumo_py.message.headers import HeaderError
from kumo_py.message.mime import transfer
from kumo_py.message.mime.header import Header
from kumo_py.message.mime.header_map import HeaderMap
from kumo_py.message.mime.make import new_binary, new_multipart, new_text
from kumo_py.message.mime.part import Part

if TYPE_CHECKING:
    from kumo_py.message.header_values import HeaderKind
    from kumo_py.message.mime_params import MimeParameters


class CheckFixSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """KumoMTA's settings of msg:check_fix_conformance; `rebuild` looks at those on encodings."""

    detect_encoding: bool = False
    """Guess the charset of texts that are not of the one they claim."""
    include_encodings: list[str] = []
    """Guess these only; all if empty."""
    exclude_encodings: list[str] = []
    message_id: str | None = None
    """For a message without one."""


_ANEW = {
    b"content-type": CONTENT_TYPE,
    b"content-transfer-encoding": MIME_PARAMS,
    b"content-disposition": MIME_PARAMS,
}


def rebuild(root: Part, settings: CheckFixSettings | None = None) -> Part:
    """A new part of the same content; what cannot be understood, such as a malformed Date, is left out.

    Raises MimeError for a body that cannot be decoded, and ValueError for unknown encodings in the settings.
    """
    rebuilt: dict[int, Part] = {}
    for part in reversed(list(root.walk())):
        rebuilt[id(part)] = _rebuilt(part, [rebuilt[id(one)] for one in part.parts], settings)
    return rebuilt[id(root)]


def _rebuilt(part: Part, parts: list[Part], settings: CheckFixSettings | None) -> Part:
    type_ = part.content_type
    if parts:
        boundary = type_.get("boundary") if type_ else None
        if boundary is not None and not (boundary.isascii() and boundary.isprintable()):
            boundary = None
        new = new_multipart(type_.value if type_ else "multipart/mixed", parts, boundary)
    else:
        new = _rebuilt_leaf(part, type_, settings)
    for header in part.headers:
        name = header.name.lower()
        with suppress(HeaderError):
            if name in _ANEW:
                _merge(new, header, _ANEW[name])
            elif name != b"content-id" or new.headers.first(name) is None:
                new.headers.add(header.rebuilt())
    return new


def _rebuilt_leaf(part: Part, type_: MimeParameters | None, settings: CheckFixSettings | None) -> Part:
    if type_ is not None and type_.media_type.startswith("message/"):
        raw = part.raw_body
        # RFC 2046 §5.2.1 lets it have no encoding. A CR alone would start a line, which may be a boundary.
        plain = raw.isascii() and raw.count(b"\r") == raw.count(b"\r\n") and type_.get("boundary") is None
        if plain and part.transfer_encoding in transfer.IDENTITY:
            headers = HeaderMap([Header.of_kind("Content-Type", CONTENT_TYPE, type_)])
            return Part(headers, b"\r\n".join(raw.splitlines()) + b"\r\n")
    body, as_claimed = part.text_or_octets()
    if not as_claimed and settings is not None and settings.detect_encoding:
        found = detected(part.content, settings.include_encodings, settings.exclude_encodings)
        body = part.content if found is None else found
    if isinstance(body, str):
        return new_text(type_.value if type_ else "text/plain", body)
    return new_binary(type_.value if type_ else "application/octet-stream", body, part.attachment)


def _merge(new: Part, header: Header, kind: HeaderKind[MimeParameters]) -> None:
    """Keep the parameters that the new header of that name lacks, and a disposition that it would lose.

    Raises HeaderError.
    """
    old = header.read(kind)
    there = new.headers.get(header.name, kind)
    if there is None:
        if header.name.lower() == b"content-disposition":
            new.headers.add(header.rebuilt())
        return
    for name, value in old.parameters.items():
        if there.get(name) is None:
            there.set(name, value)
    new.headers.put(Header.of_kind(header.name, kind, there))
