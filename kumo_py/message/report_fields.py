"""The fields of machine-readable reports (RFC 3464 §2.1.1, RFC 5965 §3): headers that are taken out by name.

Reports come from strangers: what is not understood is a ReportError, time is linear in the size of the report.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from kumo_py.message import headers
from kumo_py.message.date import parse_date
from kumo_py.message.headers import HeaderError
from kumo_py.proto.address import AddressError, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from kumo_py.message.mime import Part

T = TypeVar("T")

MESSAGE_TYPES: Final = ("message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers")
"""Media types of the original message in a report, whole or its headers."""


class ReportError(ValueError):
    """The message says that it is a report, but is not one that can be understood; the text says why."""


class TypedName(msgspec.Struct, frozen=True):
    """`mta-name-type; name` (RFC 3464 §2.1.2)."""

    mta_type: str
    name: str

    @classmethod
    def parse(cls, text: str) -> TypedName:
        """Raises ReportError."""
        return cls(*split_typed(text, "name-type; name"))


class Fields:
    """The fields of one group, by lower-case name. What is taken is gone; `rest` has the others."""

    def __init__(self, data: bytes) -> None:
        self.rest: dict[str, list[str]] = {}
        for field in headers.fields(data):
            value = headers.decoded(field.value).decode("utf-8", "replace")
            self.rest.setdefault(field.name.decode().lower(), []).append(value)

    def take(self, name: str, read: Callable[[str], T]) -> T | None:
        """The only field of that name, read; None without one. Raises ReportError."""
        values = self.rest.pop(name, None)
        if values is None:
            return None
        if len(values) > 1:
            raise ReportError(f"header {name} should have only a single value, but there are {len(values)}")
        try:
            return read(values[0])
        except ReportError as err:
            raise ReportError(f"header {name}: {err}") from None

    def require(self, name: str, read: Callable[[str], T]) -> T:
        """As `take`, but it must be there."""
        found = self.take(name, read)
        if found is None:
            raise ReportError(f"required header {name} is not present")
        return found

    def take_all(self, name: str, read: Callable[[str], T]) -> list[T]:
        """All fields of that name, read."""
        return [read(value) for value in self.rest.pop(name, ())]

    def take_date(self, name: str) -> datetime | None:
        """A date in UTC. One that cannot be understood makes no report worthless: it stays among the others."""
        values = self.rest.get(name, ())
        if len(values) != 1:
            return None
        try:
            found = parse_date(values[0].encode("utf-8", "surrogateescape")).astimezone(UTC)
        except (HeaderError, OverflowError):
            return None
        del self.rest[name]
        return found


def split_typed(text: str, expected: str) -> tuple[str, str]:
    """The two sides of a semicolon. Raises ReportError."""
    kind, semicolon, value = text.partition(";")
    if not semicolon:
        raise ReportError(f"expected '{expected}', got '{text[:200]}'")
    return kind.strip(), value.strip()


def bare_address(text: str) -> str:
    """An address without its angle brackets; what is none stays as it is."""
    try:
        return parse_address(text)
    except AddressError:
        return text


def original_message(parts: list[Part]) -> bytes | None:
    """The original message, or its headers, as the report has it."""
    found = [part.raw_body for part in parts if part.media_type in MESSAGE_TYPES]
    return found[-1] if found else None


def as_text(octets: bytes | None) -> str | None:
    """Octets as text with LF line ends; what is not UTF-8 is replaced."""
    return None if octets is None else octets.replace(b"\r\n", b"\n").decode("utf-8", "replace")
