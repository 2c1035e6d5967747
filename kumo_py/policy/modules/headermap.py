"""The headers of a MIME part, as policies see and change them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.message import header_values as values
from kumo_py.message.mime import Header, HeaderMap
from kumo_py.policy.modules.header import ADDRESS_LIST, MAILBOX, MAILBOX_LIST, MIME_PARAMS, header
from kumo_py.policy.registry import Kind, Param
from kumo_py.policy.types import BYTES, TEXT, ListOf, OneOf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.types import LuaType


class HeaderIterator:
    """The headers that a map had when the loop began."""

    def __init__(self, headers: Iterator[Header]) -> None:
        self.headers = headers


headermap = Kind("headermap", HeaderMap)
iterator = Kind("headeriterator", HeaderIterator)

_SINCE = "2025.10.06-5ec871ab"
_NAME = Param("name", TEXT)
_VALUE = Param("value", BYTES)


@headermap.function("append", _NAME, _VALUE, since="2025.12.02-67ee9e96")
def append(ctx: LuaContext, headers: HeaderMap, name: str, value: bytes) -> None:
    """Add a header after the others, folded, and made of encoded words if it isn't ASCII."""
    headers.append(name, value)


@headermap.function("prepend", _NAME, _VALUE, since=_SINCE)
def prepend(ctx: LuaContext, headers: HeaderMap, name: str, value: bytes) -> None:
    """Add a header before the others, written as by append."""
    headers.prepend(name, value)


@headermap.function("remove_all_named", _NAME, since=_SINCE)
def remove_all_named(ctx: LuaContext, headers: HeaderMap, name: str) -> None:
    """Drop all headers of that name, in whatever case."""
    headers.remove_all_named(name)


@headermap.function("get_first_named", _NAME, result=header.type, since=_SINCE)
def get_first_named(ctx: LuaContext, headers: HeaderMap, name: str) -> Header | None:
    """The first header of that name; nil without one."""
    return headers.first(name)


@headermap.function("iter", Param("name", BYTES, optional=True), result=iterator.type, since=_SINCE)
def iter_(ctx: LuaContext, headers: HeaderMap, name: bytes | None) -> HeaderIterator:
    """For a `for` loop: all headers in order, or those of that name."""
    return HeaderIterator(iter(headers) if name is None else headers.named(name))


@iterator.meta("call", result=header.type)
def next_(ctx: LuaContext, this: HeaderIterator) -> Header | None:
    """The next header; nil after the last one."""
    return next(this.headers, None)


@headermap.meta("tostring", result=BYTES)
def text(ctx: LuaContext, headers: HeaderMap) -> bytes:
    """All headers as they stand in the message."""
    return headers.to_bytes()


def _declare(method: str, name: str, type_: LuaType) -> None:
    kind = values.KINDS[name]

    def get(ctx: LuaContext, headers: HeaderMap) -> object:
        return headers.get(name, kind)

    def put(ctx: LuaContext, headers: HeaderMap, value: object) -> None:
        if isinstance(value, str):
            headers.set(name, value)
        else:
            headers.put(Header.of_kind(name, kind, value))

    get.__doc__ = f"The {name} header as a {kind.name}; nil without one, an error if it cannot be understood."
    put.__doc__ = (
        f"Set {name} to a {kind.name}, or to text that must be one; in the place of the first there is."
    )
    headermap.function(method, result=type_, since=_SINCE)(get)
    headermap.function(f"set_{method}", Param("value", OneOf(TEXT, type_)), since=_SINCE)(put)


def _declare_text(method: str, name: str) -> None:
    def get(ctx: LuaContext, headers: HeaderMap) -> str | None:
        return headers.get(name, values.UNSTRUCTURED)

    def put(ctx: LuaContext, headers: HeaderMap, value: bytes) -> None:
        headers.put(Header.make(name, value))

    get.__doc__ = f"The text of the {name} header; nil without one."
    put.__doc__ = f"Set {name} to that text; in the place of the first there is."
    headermap.function(method, result=TEXT, since=_SINCE)(get)
    headermap.function(f"set_{method}", _VALUE, since=_SINCE)(put)


_declare("from", "From", MAILBOX_LIST)
_declare("resent_from", "Resent-From", MAILBOX_LIST)
_declare("to", "To", ADDRESS_LIST)
_declare("reply_to", "Reply-To", ADDRESS_LIST)
_declare("cc", "Cc", ADDRESS_LIST)
_declare("bcc", "Bcc", ADDRESS_LIST)
_declare("resent_to", "Resent-To", ADDRESS_LIST)
_declare("resent_cc", "Resent-Cc", ADDRESS_LIST)
_declare("resent_bcc", "Resent-Bcc", ADDRESS_LIST)
_declare("sender", "Sender", MAILBOX)
_declare("resent_sender", "Resent-Sender", MAILBOX)
_declare("message_id", "Message-ID", TEXT)
_declare("content_id", "Content-ID", TEXT)
_declare("references", "References", ListOf(TEXT))
_declare("content_type", "Content-Type", MIME_PARAMS)
_declare("content_disposition", "Content-Disposition", MIME_PARAMS)
_declare("content_transfer_encoding", "Content-Transfer-Encoding", MIME_PARAMS)
_declare_text("subject", "Subject")
_declare_text("comments", "Comments")
_declare_text("mime_version", "Mime-Version")
