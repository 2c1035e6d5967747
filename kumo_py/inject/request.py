"""The request of the inject API, version 1: KumoMTA's fields."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from kumo_py.core.templates import Dialect
from kumo_py.message.headers import HeaderError, header_line
from kumo_py.smtp_in.params import TraceHeaders


class ContentError(ValueError):
    """The content of a request cannot be used for anybody; HTTP answers 422."""


class _Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class HeaderAddress(_Options, frozen=True):
    """Somebody in a header."""

    email: str
    name: str | None = None


class Recipient(_Options, frozen=True):
    """One message is made for each."""

    email: str
    name: str | None = None
    substitutions: dict[str, Any] = {}
    """They win over those of the request."""
    metadata: dict[str, Any] = {}
    """Stored as the message's metadata `extra`."""


class AttachedFile(_Options, frozen=True):
    """With a content_id it is part of the text, which may refer to it."""

    data: str
    content_type: str
    content_id: str | None = None
    file_name: str | None = None
    base64: bool = False
    """Whether `data` is base64; else it is UTF-8 text."""

    def octets(self) -> bytes:
        """Raises ContentError."""
        if not self.base64:
            return self.data.encode()
        try:
            return base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError) as err:
            raise ContentError(f"attachment '{self.file_name or self.content_type}': {err}") from None


class Content(_Options, frozen=True):
    """What a message is built of; texts and headers are templates."""

    text_body: str | None = None
    html_body: str | None = None
    amp_html_body: str | None = None
    attachments: list[AttachedFile] = []
    headers: dict[str, str] = {}
    from_: HeaderAddress | None = msgspec.field(default=None, name="from")
    subject: str | None = None
    reply_to: HeaderAddress | None = None


class HttpTraceHeaders(TraceHeaders, frozen=True):
    """As for a listener, but the injector's address is not told unless that is asked for."""

    received_header: bool = False


class InjectRequest(_Options, frozen=True):
    """The request. `content` is a whole message as a template, or what one is built of."""

    envelope_sender: str
    recipients: list[Recipient]
    content: str | Content
    substitutions: dict[str, Any] = {}
    deferred_spool: bool = False
    """Write messages to the spool only when they have to wait."""
    deferred_generation: bool = False
    """Queue the request itself, and make its messages later."""
    trace_headers: HttpTraceHeaders = HttpTraceHeaders()
    template_dialect: Dialect = "Jinja"

    def __post_init__(self) -> None:
        try:
            header_line(self.trace_headers.header_name.encode(), b"")
        except HeaderError as err:
            raise ValueError(f"trace_headers.header_name: {err}") from None
