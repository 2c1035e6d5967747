"""A part of a MIME message: headers, and a body or further parts (RFC 2045, RFC 2046).

What was parsed is written as it was, octet for octet; of what was changed, only that is written anew. Line ends
before a boundary belong to the part above it, as in KumoMTA. Nothing here recurses, so depth costs no stack.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kumo_py.message.cfws import octets_of
from kumo_py.message.charset import decode_as, find_codec
from kumo_py.message.header_values import (
    CONTENT_TYPE,
    DATE,
    MESSAGE_ID,
    MIME_PARAMS,
    UNSTRUCTURED,
    HeaderKind,
)
from kumo_py.message.headers import HeaderError
from kumo_py.message.mime import conformance as flags_of
from kumo_py.message.mime import transfer
from kumo_py.message.mime.conformance import Conformance
from kumo_py.message.mime.content import Attachment, octets_content, text_content
from kumo_py.message.mime.errors import MimeError
from kumo_py.message.mime.header_map import HeaderMap
from kumo_py.message.mime.structure import SimpleStructure, simple_structure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.message.mime.header import Header
    from kumo_py.message.mime.rebuild import CheckFixSettings
    from kumo_py.message.mime_params import MimeParameters

T = TypeVar("T")

MAX_PARTS = 5_000
"""More of them in a message are an error."""

_NONE = Conformance(0)
_MIME_HEADERS: tuple[tuple[bytes, HeaderKind[Any]], ...] = (
    (b"content-type", CONTENT_TYPE),
    (b"content-transfer-encoding", MIME_PARAMS),
    (b"content-disposition", MIME_PARAMS),
    (b"content-id", MESSAGE_ID),
)
_WANTED: tuple[tuple[bytes, HeaderKind[Any], Conformance], ...] = (
    (b"date", DATE, Conformance.MISSING_DATE_HEADER),
    (b"message-id", MESSAGE_ID, Conformance.MISSING_MESSAGE_ID_HEADER),
    (b"mime-version", UNSTRUCTURED, Conformance.MISSING_MIME_VERSION),
)


class Written(NamedTuple):
    """What a part was read from: offsets into `data`, and what stood around it."""

    data: bytes
    start: int
    body_start: int
    body_end: int
    """End of the body, or of what stands before the first boundary if there are parts."""
    end: int
    separator: bytes = b"\r\n"
    """The empty line after the headers."""
    lead: bytes = b""
    """The boundary line before the part."""
    close: bytes = b""
    """The boundary line after the last part, and what follows it."""
    headers: tuple[Header, ...] | None = None
    """None if the part was made here."""
    parts: tuple[Part, ...] = ()
    flags: Conformance = Conformance(0)
    """What was wrong with the headers, or with all of a part whose body was replaced."""


class Part:
    """A part, or a whole message. Make one with `parse`, or with the functions of `make`.

    Its headers, its list of parts and its body may be changed. A part belongs to one list of parts.
    """

    __slots__ = ("_conformance", "_is_message", "_written", "headers", "parts")

    def __init__(self, headers: HeaderMap, body: bytes = b"", parts: list[Part] | None = None) -> None:
        self.headers = headers
        self.parts: list[Part] = parts or []
        self._written = Written(body, 0, 0, len(body), len(body))
        self._conformance: Conformance | None = _NONE
        self._is_message = False

    @classmethod
    def from_written(cls, written: Written, *, is_message: bool) -> Part:
        """A part as the parser found it; `is_message` if it is the outermost."""
        part = cls.__new__(cls)
        part.headers = HeaderMap(written.headers or ())
        part.parts = []
        part._written = written
        part._conformance = None
        part._is_message = is_message
        return part

    def set_parsed_parts(self, parts: list[Part], preamble_end: int, close: bytes) -> None:
        """What the parser found in the body."""
        self.parts = parts
        self._written = self._written._replace(parts=tuple(parts), body_end=preamble_end, close=close)

    def copy(self) -> Part:
        """The same part and all below it, to be changed or put elsewhere on its own.

        Raises MimeError if there are more than MAX_PARTS.
        """
        parts = list(islice(self.walk(), MAX_PARTS + 1))
        if len(parts) > MAX_PARTS:
            raise MimeError(f"a message must not have more than {MAX_PARTS} parts")
        copies: dict[int, Part] = {}
        for part in reversed(parts):
            written = part._written
            twin = Part(HeaderMap(part.headers.items), parts=[copies[id(one)] for one in part.parts])
            twin._written = written._replace(parts=tuple(copies.get(id(one), one) for one in written.parts))
            twin._conformance = part._conformance
            twin._is_message = part._is_message
            copies[id(part)] = twin
        return copies[id(self)]

    def walk(self) -> Iterator[Part]:
        """The part and all below it, each before what it contains."""
        pending = [self]
        while pending:
            part = pending.pop()
            yield part
            pending.extend(reversed(part.parts))

    @property
    def size(self) -> int:
        """Octets of the bodies of the part and all below it."""
        return sum(part._written.body_end - part._written.body_start for part in self.walk())

    # -- what the headers say ----------------------------------------------------------------------
    def _mime(self, name: bytes, kind: HeaderKind[T]) -> T | None:
        """None for a header that cannot be understood, too."""
        try:
            return self.headers.get(name, kind)
        except HeaderError:
            return None

    @property
    def content_type(self) -> MimeParameters | None:
        """The Content-Type; None if there is none, or none that can be understood."""
        return self._mime(b"content-type", CONTENT_TYPE)

    @property
    def media_type(self) -> str:
        """`type/subtype` in lower case; text/plain without a Content-Type (RFC 2045 §5.2)."""
        found = self.content_type
        return found.media_type if found else "text/plain"

    @property
    def transfer_encoding(self) -> str:
        """In lower case; 7bit for one that is not known."""
        found = self._mime(b"content-transfer-encoding", MIME_PARAMS)
        return found.media_type if found and found.media_type in transfer.ENCODINGS else "7bit"

    @property
    def attachment(self) -> Attachment | None:
        """File name, disposition and id; None if the headers have nothing of it."""
        disposition = self._mime(b"content-disposition", MIME_PARAMS)
        content_id = self._mime(b"content-id", MESSAGE_ID)
        type_ = self.content_type
        file_name = disposition.get("filename") if disposition else None
        if file_name is None and type_:
            file_name = type_.get("name")
        inline = disposition is not None and disposition.media_type == "inline"
        if file_name is None and content_id is None and not inline:
            return None
        return Attachment(file_name, inline, content_id)

    # -- body --------------------------------------------------------------------------------------
    @property
    def raw_body(self) -> bytes:
        """The body as it is transferred; empty for a part that has parts."""
        if self.parts:
            return b""
        written = self._written
        return written.data[written.body_start : written.body_end]

    @property
    def content(self) -> bytes:
        """The body, transfer-decoded. Raises MimeError for base64 that is none."""
        return transfer.decode(self.raw_body, self.transfer_encoding)

    @property
    def body(self) -> str | bytes:
        """The body, decoded: text of text/… parts, octets of others, and of text that is of no known charset.

        Text that is not of its charset is read as UTF-8. Raises MimeError.
        """
        return self.text_or_octets()[0]

    @body.setter
    def body(self, value: str | bytes) -> None:
        self.replace_body(value)

    def text_or_octets(self) -> tuple[str | bytes, bool]:
        """The body, and whether it is what its headers say."""
        type_ = self.content_type
        octets = self.content
        if type_ is not None and not type_.is_text:
            return octets, True
        charset = type_.get("charset") if type_ is not None else None
        codec = find_codec(charset or "us-ascii")
        if codec is not None:
            try:
                return decode_as(octets, codec), True
            except UnicodeError:
                pass
        try:
            return octets.decode(), False
        except UnicodeDecodeError:
            return octets, False

    def replace_body(self, value: str | bytes, content_type: str | None = None) -> None:
        """Give the part another body, encoded as that needs; what parts it has are dropped.

        Octets that are UTF-8 are text. Without `content_type` the part keeps its own, or gets text/plain or
        application/octet-stream. The Content-Disposition stays. Raises HeaderError.
        """
        type_ = self.content_type
        if content_type is None and type_ is not None and not self.parts:
            content_type = type_.value
        headers, body = _new_content(content_type, value)
        before = self._written
        flags = self.conformance
        self.headers.remove_all_named(b"content-type")
        self.headers.remove_all_named(b"content-transfer-encoding")
        self.headers.add(*headers)
        self.parts = []
        self._written = Written(
            body, 0, 0, len(body), len(body), before.separator or b"\r\n", before.lead, flags=flags
        )

    # -- as a whole --------------------------------------------------------------------------------
    def simple_structure(self) -> SimpleStructure:
        """The text, the HTML and the attachments."""
        return simple_structure(self)

    def rebuild(self, settings: CheckFixSettings | None = None) -> Part:
        """A new part of the same content, with canonical headers, encodings and line ends.

        What cannot be understood, such as a malformed Date, is left out. Raises MimeError for a body that cannot
        be decoded, ValueError for encodings in the settings that are not known.
        """
        from kumo_py.message.mime.rebuild import rebuild  # which makes parts

        return rebuild(self, settings)

    # -- conformance -------------------------------------------------------------------------------
    @property
    def conformance(self) -> Conformance:
        """What was wrong with the part, and those in it, when it was parsed; nothing if it was made here."""
        if self._conformance is None:
            written = self._written
            found = flags_of.of_octets(written.data[written.start : written.end])
            if self._is_message:
                found |= _missing(HeaderMap(written.headers or ()))
            pending = [self]
            while pending:
                written = pending.pop()._written
                found |= written.flags | _invalid(HeaderMap(written.headers or ()))
                pending.extend(written.parts)
            self._conformance = found
        return self._conformance

    def deep_conformance(self) -> Conformance:
        """The same, and whether texts are of the charsets they claim, which takes decoding them all."""
        found = self.conformance
        for part in self.walk():
            if not part.parts:
                try:
                    as_claimed = part.text_or_octets()[1]
                except MimeError:
                    as_claimed = False
                if not as_claimed:
                    found |= Conformance.NEEDS_TRANSFER_ENCODING
        return found

    # -- writing -----------------------------------------------------------------------------------
    def to_bytes(self) -> bytes:
        """The part as text of a message. Raises MimeError if it has parts but no boundary for them."""
        out: list[bytes] = []
        pending: list[Part | bytes | _Line] = [self]
        while pending:
            item = pending.pop()
            if isinstance(item, Part):
                pending.extend(reversed(item._pieces()))
            elif isinstance(item, _Line):
                if out and not out[-1].endswith(b"\n"):
                    out.append(b"\r\n")
                out.append(item.text)
            elif item:
                out.append(item)
        return b"".join(out)

    def _pieces(self) -> list[Part | bytes | _Line]:
        written = self._written
        line_end = b"\n" if written.separator == b"\n" else b"\r\n"
        as_read = self.headers.items is written.headers
        if as_read:
            head = written.data[written.start : written.body_start]
        else:
            head = self.headers.to_bytes(line_end) + (written.separator or line_end)
        body = written.data[written.body_start : written.body_end]
        if not self.parts:
            return [head, body]
        pieces: list[Part | bytes | _Line] = [head, body if written.parts else b""]
        if as_read and _same(self.parts, written.parts):
            for part in self.parts:
                pieces += (part._written.lead, part)
            pieces.append(written.close)
            return pieces
        type_ = self.content_type
        boundary = type_.get("boundary") if type_ else None
        if not boundary:
            raise MimeError("the part has parts, but no Content-Type with a boundary for them")
        delimiter = b"--" + octets_of(boundary)
        for part in self.parts:
            pieces += (_Line(_line(part._written.lead, delimiter, line_end)), part)
        close, newline, rest = written.close.partition(b"\n")
        pieces += (_Line(_line(close + newline, delimiter + b"--", line_end)), rest)
        return pieces


def _new_content(content_type: str | None, value: str | bytes) -> tuple[HeaderMap, bytes]:
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return octets_content(content_type or "application/octet-stream", value)
    else:
        text = value
    return text_content(content_type or "text/plain", text)


class _Line(NamedTuple):
    """A boundary line, which must start a line."""

    text: bytes


def _line(as_read: bytes, delimiter: bytes, line_end: bytes) -> bytes:
    """A boundary line as it was read if it still says the same, else another one."""
    if as_read.endswith(b"\n") and as_read.rstrip() == delimiter:
        return as_read
    return delimiter + line_end


def _same(parts: list[Part], others: tuple[Part, ...]) -> bool:
    return len(parts) == len(others) and all(a is b for a, b in zip(parts, others, strict=True))


def _missing(headers: HeaderMap) -> Conformance:
    found = _NONE
    for name, kind, flag in _WANTED:
        try:
            value = headers.get(name, kind)
        except HeaderError:
            value = None
        if value is None or (kind is UNSTRUCTURED and value != "1.0"):
            found |= flag
    return found


def _invalid(headers: HeaderMap) -> Conformance:
    try:
        for name, kind in _MIME_HEADERS:
            value = headers.get(name, kind)
            if name == b"content-transfer-encoding" and value and value.media_type not in transfer.ENCODINGS:
                return Conformance.INVALID_MIME_HEADERS
    except HeaderError:
        return Conformance.INVALID_MIME_HEADERS
    return _NONE
