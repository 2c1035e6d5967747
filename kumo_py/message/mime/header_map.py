"""The headers of a part, in order; names are compared without case."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from kumo_py.message.cfws import octets_of
from kumo_py.message.header_values import (
    CONTENT_TYPE,
    DATE,
    MESSAGE_ID,
    MIME_PARAMS,
    UNSTRUCTURED,
    HeaderKind,
    kind_of,
)
from kumo_py.message.mime.header import Header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from kumo_py.message.mime_params import MimeParameters


T = TypeVar("T")


MIME_VERSION = Header.make("Mime-Version", "1.0")


class HeaderMap:
    """An ordered list of headers. Headers do not change; the map does."""

    __slots__ = ("items",)

    def __init__(self, headers: Iterable[Header] = ()) -> None:
        self.items = tuple(headers)
        """All of them. Each change makes another tuple, by which a part knows that it is not as it was read."""

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Header]:
        return iter(self.items)

    def first(self, name: str | bytes) -> Header | None:
        """The first header of a name."""
        return next(self.named(name), None)

    def named(self, name: str | bytes) -> Iterator[Header]:
        """All headers of a name."""
        wanted = _octets(name).lower()
        return (header for header in self.items if header.name.lower() == wanted)

    def append(self, name: str | bytes, value: str | bytes) -> None:
        """Add a header of text after the others. Raises HeaderError."""
        self.add(Header.make(name, value))

    def prepend(self, name: str | bytes, value: str | bytes) -> None:
        """Add a header of text before the others. Raises HeaderError."""
        self.items = (Header.make(name, value), *self.items)

    def add(self, *headers: Header) -> None:
        """Add headers after the others."""
        self.items = (*self.items, *headers)

    def remove_all_named(self, name: str | bytes) -> None:
        """Drop all headers of a name."""
        wanted = _octets(name).lower()
        self.items = tuple(header for header in self.items if header.name.lower() != wanted)

    def get(self, name: str | bytes, kind: HeaderKind[T]) -> T | None:
        """What the first header of a name says, read as `kind`; None without one.

        Raises HeaderError if it cannot be understood.
        """
        header = self.first(name)
        return None if header is None else header.read(kind)

    def set(self, name: str, value: object) -> None:
        """Replace the first header of a name by another value, or add one at the end. Raises HeaderError.

        Text is taken as what the header is to have, and must be understood; other values are of its kind.
        """
        kind = kind_of(name.encode())
        if isinstance(value, str) and kind is not UNSTRUCTURED:
            parsed = Header(name.encode(), octets_of(value)).read(kind)
            if value.isascii():
                self.put(Header.make(name, value))
                return
            value = parsed
        self.put(Header.of_kind(name, kind, value))

    def put(self, header: Header) -> None:
        """Replace the first header of the same name, whose spelling stays, or add it at the end."""
        wanted = header.name.lower()
        for n, there in enumerate(self.items):
            if there.name.lower() == wanted:
                renamed = Header(there.name, header.raw_value, end=there.end)
                self.items = (*self.items[:n], renamed, *self.items[n + 1 :])
                return
        self.add(header)

    # -- what MIME is made of; each raises HeaderError if the header cannot be understood -----------
    @property
    def content_type(self) -> MimeParameters | None:
        return self.get(b"content-type", CONTENT_TYPE)

    @property
    def content_disposition(self) -> MimeParameters | None:
        return self.get(b"content-disposition", MIME_PARAMS)

    @property
    def content_transfer_encoding(self) -> MimeParameters | None:
        return self.get(b"content-transfer-encoding", MIME_PARAMS)

    @property
    def content_id(self) -> str | None:
        return self.get(b"content-id", MESSAGE_ID)

    @property
    def message_id(self) -> str | None:
        return self.get(b"message-id", MESSAGE_ID)

    @property
    def mime_version(self) -> str | None:
        return self.get(b"mime-version", UNSTRUCTURED)

    @property
    def date(self) -> datetime | None:
        return self.get(b"date", DATE)

    def to_bytes(self, line_end: bytes = b"\r\n") -> bytes:
        """All of them as lines."""
        return b"".join([header.to_bytes(line_end) for header in self.items])


def _octets(name: str | bytes) -> bytes:
    return name.encode() if isinstance(name, str) else name
