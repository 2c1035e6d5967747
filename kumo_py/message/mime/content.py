"""What a new part has: headers and an encoded body for a text or for octets."""

from __future__ import annotations

from typing import NamedTuple

from kumo_py.message.cfws import octets_of
from kumo_py.message.header_values import MESSAGE_ID
from kumo_py.message.mime import transfer
from kumo_py.message.mime.header import Header
from kumo_py.message.mime.header_map import HeaderMap
from kumo_py.message.mime_params import Form, MimeParameters, check_media_type


class Attachment(NamedTuple):
    """What the headers say of a part as an attachment."""

    file_name: str | None = None
    inline: bool = False
    content_id: str | None = None


def text_content(content_type: str, text: str) -> tuple[HeaderMap, bytes]:
    """Of us-ascii or utf-8 text, in quoted-printable or base64 if it needs them. Raises HeaderError."""
    check_media_type(content_type)
    body, encoding = transfer.encode_text(octets_of(text))
    headers = HeaderMap()
    charset = "us-ascii" if text.isascii() else "utf-8"
    headers.set("Content-Type", MimeParameters(content_type, {"charset": charset}))
    if encoding:
        headers.set("Content-Transfer-Encoding", MimeParameters(encoding))
    return headers, body


def octets_content(
    content_type: str, content: bytes, attachment: Attachment | None = None
) -> tuple[HeaderMap, bytes]:
    """Of octets in base64, with a Content-Disposition if it is an attachment. Raises HeaderError."""
    check_media_type(content_type)
    headers = HeaderMap()
    type_ = MimeParameters(content_type)
    if attachment is not None:
        disposition = MimeParameters("inline" if attachment.inline else "attachment")
        if attachment.file_name is not None:
            disposition.set("filename", attachment.file_name)
            form = Form.PLAIN if attachment.file_name.isascii() else Form.QUOTED_ENCODED_WORD
            type_.set("name", attachment.file_name, form)
        headers.set("Content-Disposition", disposition)
        if attachment.content_id is not None:
            headers.put(Header.of_kind("Content-ID", MESSAGE_ID, attachment.content_id))
    headers.set("Content-Type", type_)
    headers.set("Content-Transfer-Encoding", MimeParameters("base64"))
    return headers, transfer.encode_base64(content)
