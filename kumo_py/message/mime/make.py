"""New parts: text, binary content, and containers of parts."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING

from kumo_py.message.cfws import octets_of, refuse_controls
from kumo_py.message.header_values import CONTENT_TYPE
from kumo_py.message.mime.content import Attachment, octets_content, text_content
from kumo_py.message.mime.header import Header
from kumo_py.message.mime.header_map import HeaderMap
from kumo_py.message.mime.part import Part
from kumo_py.message.mime_params import MimeParameters, check_media_type

if TYPE_CHECKING:
    from collections.abc import Sequence


def new_text(content_type: str, text: str) -> Part:
    """A text part: us-ascii or utf-8, quoted-printable or base64 if it needs them. Raises HeaderError."""
    return Part(*text_content(content_type, text))


def new_binary(content_type: str, content: bytes, attachment: Attachment | None = None) -> Part:
    """A base64 part, with a Content-Disposition if it is an attachment. Raises HeaderError."""
    return Part(*octets_content(content_type, content, attachment))


def new_multipart(content_type: str, parts: Sequence[Part], boundary: str | None = None) -> Part:
    """A container of parts; the boundary is random if none is given. Raises HeaderError."""
    check_media_type(content_type)
    if boundary is None:
        random = base64.b64encode(uuid.uuid4().bytes).rstrip(b"=")
        # It has nothing that would have to be quoted or folded.
        type_ = Header(b"Content-Type", b'%b;\r\n\tboundary="%b"' % (octets_of(content_type), random))
    else:
        refuse_controls(boundary, "the boundary")
        parameters = MimeParameters(content_type, {"boundary": boundary})
        type_ = Header.of_kind("Content-Type", CONTENT_TYPE, parameters)
    return Part(HeaderMap((type_,)), parts=list(parts))
