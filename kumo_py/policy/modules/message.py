"""The methods of a message (KumoMTA's `message` userdata)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.message import headers
from kumo_py.message.address_header import Group, Mailbox, parse_address_list
from kumo_py.message.message import Message
from kumo_py.policy.registry import Kind, Param
from kumo_py.policy.types import (
    ADDRESS,
    ADDRESS_HEADER,
    BOOLEAN,
    BYTES,
    MESSAGE,
    TEXT,
    VALUE,
    ListOf,
    OneOrList,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.policy.context import LuaContext

message = Kind("message", Message, type=MESSAGE)


@message.function("id", result=TEXT)
def message_id(ctx: LuaContext, msg: Message) -> str:
    """The spool id: 32 hex digits."""
    return msg.id.hex()


@message.function("sender", result=ADDRESS)
def sender(ctx: LuaContext, msg: Message) -> str:
    """The envelope sender; its email is empty for the null sender."""
    return msg.sender


@message.function("set_sender", Param("sender", ADDRESS), since="2023.08.22-4d895015")
def set_sender(ctx: LuaContext, msg: Message, sender: str) -> None:
    """Change the envelope sender."""
    msg.set_envelope(sender, msg.recipients)


@message.function("recipient", result=OneOrList(ADDRESS))
def recipient(ctx: LuaContext, msg: Message) -> tuple[str, ...] | None:
    """The recipient; a list when there are several."""
    return msg.recipients or None


@message.function("recipient_list", result=ListOf(ADDRESS), since="2025.12.02-67ee9e96")
def recipient_list(ctx: LuaContext, msg: Message) -> tuple[str, ...]:
    """All recipients, always as a list."""
    return msg.recipients


@message.function("set_recipient", Param("recipients", OneOrList(ADDRESS)), since="2023.08.22-4d895015")
def set_recipient(ctx: LuaContext, msg: Message, recipients: list[str]) -> None:
    """Replace the recipients with one or several others."""
    msg.set_envelope(msg.sender, tuple(recipients))


@message.function("get_meta", Param("key", TEXT), result=VALUE)
def get_meta(ctx: LuaContext, msg: Message, key: str) -> object:
    """The metadata of that name, or nil."""
    return msg.get_meta(key)


@message.function("set_meta", Param("key", TEXT), Param("value", VALUE))
def set_meta(ctx: LuaContext, msg: Message, key: str, value: object) -> None:
    """Store metadata: anything that JSON can say. nil is stored as null."""
    msg.set_meta(key, value)


@message.function("get_data", result=BYTES, needs_content=True)
def get_data(ctx: LuaContext, msg: Message) -> bytes:
    """Header and body as they are, with CRLF line ends."""
    return msg.data


@message.function("set_data", Param("data", BYTES), since="2024.06.10-84e84b89")
def set_data(ctx: LuaContext, msg: Message, data: bytes) -> None:
    """Replace header and body as they are."""
    msg.set_data(data)


@message.function("queue_name", result=TEXT, since="2024.06.10-84e84b89")
def queue_name(ctx: LuaContext, msg: Message) -> str:
    """The scheduled queue that metadata and first recipient choose."""
    return msg.queue_name


# -- headers ---------------------------------------------------------------------------------------------------
_NAME = Param("name", BYTES)
_NAMES = Param("names", ListOf(BYTES), optional=True)
_ENCODE = Param("encode", BOOLEAN, optional=True)


@message.function("append_header", _NAME, Param("value", BYTES), _ENCODE, needs_content=True)
def append_header(ctx: LuaContext, msg: Message, name: bytes, value: bytes, encode: bool | None) -> None:
    """Add a header after the others; `encode` folds it, and writes what isn't ASCII as RFC 2047 has it."""
    line = headers.header_line(name, value, encode=bool(encode))
    _replace(msg, headers.append(msg.data, line))


@message.function("prepend_header", _NAME, Param("value", BYTES), _ENCODE, needs_content=True)
def prepend_header(ctx: LuaContext, msg: Message, name: bytes, value: bytes, encode: bool | None) -> None:
    """Add a header before the others; `encode` as in append_header."""
    line = headers.header_line(name, value, encode=bool(encode))
    if line.startswith(b"."):
        msg.set_data(line + msg.data)
    else:
        msg.prepend(line)


@message.function("get_first_named_header_value", _NAME, result=BYTES, needs_content=True)
def get_first_named_header_value(ctx: LuaContext, msg: Message, name: bytes) -> bytes | None:
    """The first header of that name, decoded to UTF-8; as it is if that fails. nil without one."""
    for value in headers.values_named(msg.data, name):
        return headers.decoded(value)
    return None


@message.function("get_all_named_header_values", _NAME, result=ListOf(BYTES), needs_content=True)
def get_all_named_header_values(ctx: LuaContext, msg: Message, name: bytes) -> list[bytes]:
    """All headers of that name, decoded as by get_first_named_header_value."""
    return [headers.decoded(value) for value in headers.values_named(msg.data, name)]


@message.function("get_all_headers", result=ListOf(ListOf(BYTES)), needs_content=True)
def get_all_headers(ctx: LuaContext, msg: Message) -> list[list[bytes]]:
    """All headers in order, each a list of name and decoded value."""
    return [[field.name, headers.decoded(field.value)] for field in headers.fields(msg.data)]


def _address_header(msg: Message, name: bytes) -> list[Mailbox | Group] | None:
    for value in headers.values_named(msg.data, name):
        return parse_address_list(value)
    return None


@message.function("get_address_header", _NAME, result=ADDRESS_HEADER, needs_content=True)
def get_address_header(ctx: LuaContext, msg: Message, name: bytes) -> list[Mailbox | Group] | None:
    """The addresses of the first header of that name; nil without one."""
    return _address_header(msg, name)


@message.function("from_header", result=ADDRESS_HEADER, needs_content=True)
def from_header(ctx: LuaContext, msg: Message) -> list[Mailbox | Group] | None:
    """The addresses of the From header."""
    return _address_header(msg, b"From")


@message.function("to_header", result=ADDRESS_HEADER, needs_content=True)
def to_header(ctx: LuaContext, msg: Message) -> list[Mailbox | Group] | None:
    """The addresses of the To header."""
    return _address_header(msg, b"To")


@message.function("remove_all_named_headers", _NAME, since="2023.08.22-4d895015", needs_content=True)
def remove_all_named_headers(ctx: LuaContext, msg: Message, name: bytes) -> None:
    """Remove every header of that name, in whatever case."""
    _remove(msg, _chosen([name]))


@message.function("remove_x_headers", _NAMES, needs_content=True)
def remove_x_headers(ctx: LuaContext, msg: Message, names: list[bytes] | None) -> None:
    """Remove all headers that start with X-, or only those named."""
    _remove(msg, _chosen(names))


@message.function("import_x_headers", _NAMES, needs_content=True)
def import_x_headers(ctx: LuaContext, msg: Message, names: list[bytes] | None) -> None:
    """Copy all headers that start with X-, or those named, to metadata.

    The keys are in lower case, with _ for -; of several headers of a name the last one counts.
    """
    chosen = _chosen(names)
    found: dict[str, object] = {
        field.name.decode().lower().replace("-", "_"): headers.decoded(field.value).decode("utf-8", "replace")
        for field in headers.fields(msg.data)
        if chosen(field)
    }
    if found:
        msg.update_meta(found)


def _chosen(names: list[bytes] | None) -> Callable[[headers.Field], bool]:
    if not names:
        return lambda field: field.name[:2].lower() == b"x-"
    wanted = {name.lower() for name in names}
    return lambda field: field.name.lower() in wanted


def _remove(msg: Message, unwanted: Callable[[headers.Field], bool]) -> None:
    _replace(msg, headers.without(msg.data, unwanted))


def _replace(msg: Message, data: bytes) -> None:
    if data is not msg.data:
        msg.set_data(data)
