"""MIME messages: parsed octet for octet, bounded, edited, rebuilt and built (RFC 2045 to 2049, RFC 2231)."""

from kumo_py.message.mime.builder import MessageBuilder
from kumo_py.message.mime.conformance import Conformance
from kumo_py.message.mime.content import Attachment
from kumo_py.message.mime.errors import MimeError
from kumo_py.message.mime.header import MAX_HEADERS, Header
from kumo_py.message.mime.header_map import MIME_VERSION, HeaderMap
from kumo_py.message.mime.make import new_binary, new_multipart, new_text
from kumo_py.message.mime.parser import MAX_DEPTH, parse
from kumo_py.message.mime.part import MAX_PARTS, Part
from kumo_py.message.mime.rebuild import CheckFixSettings
from kumo_py.message.mime.structure import SimpleStructure

__all__ = [
    "MAX_DEPTH",
    "MAX_HEADERS",
    "MAX_PARTS",
    "MIME_VERSION",
    "Attachment",
    "CheckFixSettings",
    "Conformance",
    "Header",
    "HeaderMap",
    "MessageBuilder",
    "MimeError",
    "Part",
    "SimpleStructure",
    "new_binary",
    "new_multipart",
    "new_text",
    "parse",
]
