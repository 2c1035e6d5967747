"""A message built of a text, an HTML text, an AMP text and attachments, in the order that mail programs expect."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from kumo_py.message.header_values import DATE
from kumo_py.message.mime.errors import MimeError
from kumo_py.message.mime.header import Header
from kumo_py.message.mime.header_map import MIME_VERSION, HeaderMap
from kumo_py.message.mime.make import new_binary, new_multipart, new_text

if TYPE_CHECKING:
    from kumo_py.message.mime.content import Attachment
    from kumo_py.message.mime.part import Part

_STABLE_DATE = Header(b"Date", b"Tue, 1 Jul 2003 10:52:37 +0200")


class MessageBuilder:
    """Collects what a message is to have. `stable_content` fixes boundaries and date, for tests."""

    def __init__(self) -> None:
        self.headers = HeaderMap()
        self.stable_content = False
        self.text_plain: str | None = None
        self.text_html: str | None = None
        self.text_amp_html: str | None = None
        self._inline: list[Part] = []
        self._attached: list[Part] = []

    def attach(self, content_type: str, content: bytes, attachment: Attachment | None = None) -> None:
        """Add binary content. Raises HeaderError."""
        self.attach_part(new_binary(content_type, content, attachment))

    def attach_part(self, part: Part) -> None:
        """Add a part; an inline one goes beside the text that refers to it."""
        attachment = part.attachment
        (self._inline if attachment and attachment.inline else self._attached).append(part)

    def build(self, now: float) -> Part:
        """The message, dated with Unix seconds unless its headers have a Date.

        Raises MimeError without a text or HTML part, HeaderError for headers that cannot be understood.
        """
        root = self._alternatives()
        if self._inline:
            root = self._multipart("related", [root, *self._inline])
        if self._attached:
            root = self._multipart("mixed", [root, *self._attached])
        root.headers.add(*self.headers)
        if root.headers.first(MIME_VERSION.name) is None:
            root.headers.add(MIME_VERSION)
        if root.headers.date is None:
            root.headers.add(_STABLE_DATE if self.stable_content else _date_header(int(now)))
        return root

    def _alternatives(self) -> Part:
        # HTML comes last: some programs show only the last alternative, and none but a few know AMP.
        texts = (
            ("text/plain", self.text_plain),
            ("text/x-amp-html", self.text_amp_html),
            ("text/html", self.text_html),
        )
        parts = [new_text(type_, text) for type_, text in texts if text is not None]
        if self.text_plain is None and self.text_html is None:
            raise MimeError(
                "a message with AMP HTML must have a plain text or HTML part too"
                if parts
                else "the message has no text: give it a plain text or HTML part"
            )
        return parts[0] if len(parts) == 1 else self._multipart("alternative", parts)

    def _multipart(self, kind: str, parts: list[Part]) -> Part:
        return new_multipart(
            f"multipart/{kind}", parts, f"m{kind[0]}-boundary" if self.stable_content else None
        )


@lru_cache(maxsize=4)
def _date_header(seconds: int) -> Header:
    return Header.of_kind("Date", DATE, datetime.fromtimestamp(seconds, UTC))
