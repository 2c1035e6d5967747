"""Messages that are not what the RFCs ask for, refused or repaired: `msg:check_fix_conformance`.

What is only missing is added. Anything else makes the whole message anew of what was understood of it (`rebuild`). The
charset of headers and bodies that do not say theirs is guessed if that is wanted. KumoMTA guesses once for all octets
of a message, also for those whose charset is declared.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kumo_py.message.charset_detection import detected
from kumo_py.message.header_values import MESSAGE_ID
from kumo_py.message.mime import CheckFixSettings, Conformance, Header, MimeError, Part, parse

if TYPE_CHECKING:
    from collections.abc import Callable

_MISSING = (
    Conformance.MISSING_DATE_HEADER | Conformance.MISSING_MIME_VERSION | Conformance.MISSING_MESSAGE_ID_HEADER
)


class ConformanceError(ValueError):
    """The message has problems that it is to be refused for; the text names them."""


def check_fix_conformance(
    data: bytes,
    check: Conformance,
    fix: Conformance,
    settings: CheckFixSettings,
    *,
    new_message_id: Callable[[], str],
    now: float,
) -> bytes | None:
    """The repaired message; None if there was nothing to be repaired.

    check: problems to refuse the message for, unless they are in `fix`. new_message_id: called if one is needed and
    the settings have none. now: Unix seconds. Raises ConformanceError, or MimeError or HeaderError for what cannot
    be parsed or repaired.
    """
    message = parse(data, strict=True)
    found = message.deep_conformance()
    problems = found & check & ~fix
    if problems:
        raise ConformanceError(f"Message has conformance issues: {problems.to_text()}")
    to_fix = found & fix
    if not to_fix:
        return None
    if to_fix & ~_MISSING:
        if settings.detect_encoding and to_fix & Conformance.NEEDS_TRANSFER_ENCODING:
            _decode_headers(message, settings)
        message = message.rebuild(settings)
    if to_fix & Conformance.MISSING_DATE_HEADER:
        message.headers.set("Date", datetime.fromtimestamp(int(now), UTC))
    if to_fix & Conformance.MISSING_MIME_VERSION:
        message.headers.set("Mime-Version", "1.0")
    if to_fix & Conformance.MISSING_MESSAGE_ID_HEADER:
        id = settings.message_id or new_message_id()
        message.headers.put(Header.of_kind("Message-ID", MESSAGE_ID, id))
    return message.to_bytes()


def _decode_headers(root: Part, settings: CheckFixSettings) -> None:
    """Make text of header values that are not UTF-8, if their charset can be guessed."""
    affected = [part for part in root.walk() if any(not _is_text(header) for header in part.headers)]
    values = [
        b"".join(header.raw_value.splitlines())
        for part in affected
        for header in part.headers
        if not _is_text(header)
    ]
    # A value alone may be too short to guess from; what else is of no known charset helps.
    context = [part.headers.to_bytes() for part in affected]
    context += [part.raw_body for part in root.walk() if not _as_claimed(part)]
    decoded = detected(b"\n".join(values + context), settings.include_encodings, settings.exclude_encodings)
    lines = [] if decoded is None else decoded.split("\n")
    if len(lines) < len(values):  # UTF-16 has other line ends
        return
    texts = iter(lines)
    for part in affected:
        part.headers.items = tuple(
            header if _is_text(header) else Header(header.name, next(texts).encode("utf-8", "replace"))
            for header in part.headers
        )


def _is_text(header: Header) -> bool:
    try:
        header.raw_value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _as_claimed(part: Part) -> bool:
    try:
        return part.text_or_octets()[1]
    except MimeError:
        return True
