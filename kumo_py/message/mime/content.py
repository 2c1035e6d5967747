"""What a new part has: headers and an encoded body for a text or for octets."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from kumo_py.message.cfws import octets_of
from kumo_py.message.header_values import CONTENT_TYPE, MESSAGE_ID, MIME_PARAMS
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
    headers = [_text_type(content_type, "us-ascii" if text.isascii() else "utf-8")]
    if encoding:
        headers.append(_transfer_encoding(encoding))
    return HeaderMap(headers), body


@lru_cache(maxsize=64)
def _text_type(content_type: str, charset: str) -> Header:
    return Header.of_kind("Content-Type", CONTENT_TYPE, MimeParameters(content_type, {"charset": charset}))


@lru_cache(maxsize=8)
def _transfer_encoding(encoding: str) -> Header:
    return Header.of_kind("Content-Transfer-Encoding", MIME_PARAMS, MimeParameters(encoding))


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
