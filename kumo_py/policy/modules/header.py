"""The headers that a headermap gives, and typed header values as Lua tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kumo_py.core.options import OptionError, convert, to_builtins
from kumo_py.message import header_values as values
from kumo_py.message.address_header import Group, Mailbox
from kumo_py.message.authentication_results import AuthenticationResults
from kumo_py.message.mime import Header
from kumo_py.message.mime_params import MimeParameters
from kumo_py.policy.conversion import LuaTable, LuaValue, plain, shown, to_lua
from kumo_py.policy.registry import Kind
from kumo_py.policy.types import BYTES, TEXT, VALUE, ListOf, OptionTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.policy.context import LuaContext

header = Kind("header", Header)

_SINCE = "2025.10.06-5ec871ab"


class AddrSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The two halves of an address."""

    local_part: str
    domain: str


class MailboxTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mailbox of a header."""

    address: AddrSpec
    name: str | None = None


class GroupTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of mailboxes."""

    name: str
    entries: list[MailboxTable]


class MimeParamsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A MIME value and its parameters."""

    value: str
    parameters: dict[str, str] = {}


class _Structured:
    """A header value as a table. `read` gets plain data, and what the policy called."""

    def __init__(self, name: str, read: Callable[[Any, str], object], *structs: type[msgspec.Struct]) -> None:
        self.name = name
        self.structs = structs
        self._read = read

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        if type(raw) is not LuaTable:
            raise ValueError(f"must be a table ({self.name}), got {shown(raw)}")
        return self._read(plain(ctx, raw), what)

    def to_lua(self, ctx: LuaContext, value: LuaValue) -> LuaValue:
        return to_lua(ctx, as_plain(value))


def _mailbox(value: object, what: str) -> Mailbox:
    table = convert(value or {}, MailboxTable, what)
    return Mailbox(table.name, table.address.local_part, table.address.domain)


def _address(value: object, what: str) -> Mailbox | Group:
    if not (isinstance(value, dict) and "entries" in value):
        return _mailbox(value, what)
    table = convert(value, GroupTable, what)
    members = (Mailbox(one.name, one.address.local_part, one.address.domain) for one in table.entries)
    return Group(table.name, tuple(members))


def _list_of(item: Callable[[object, str], object]) -> Callable[[Any, str], object]:
    def read(value: Any, what: str) -> list[object]:  # noqa: ANN401
        if value and not isinstance(value, list):
            raise OptionError(f"{what}: must be a list, got a table with keys")
        return [item(one, f"{what}[{n}]") for n, one in enumerate(value, 1)]

    return read


def _mime_params(value: object, what: str) -> MimeParameters:
    table = convert(value or {}, MimeParamsTable, what)
    return MimeParameters(table.value, table.parameters)


MAILBOX = _Structured("Mailbox", _mailbox, MailboxTable)
MAILBOX_LIST = _Structured("Mailbox[]", _list_of(_mailbox), MailboxTable)
ADDRESS_LIST = _Structured("(Mailbox|Group)[]", _list_of(_address), MailboxTable, GroupTable)
MIME_PARAMS = _Structured("MimeParams", _mime_params, MimeParamsTable)


def as_plain(value: object) -> object:
    """A typed header value as plain data, as KumoMTA shows it to policies."""
    match value:
        case Mailbox():
            table: dict[str, object] = {"address": {"local_part": value.user, "domain": value.domain}}
            return table if value.name is None else {"name": value.name, **table}
        case Group():
            return {"name": value.name, "entries": [as_plain(one) for one in value.mailboxes]}
        case MimeParameters():
            return {"value": value.value, "parameters": value.parameters}
        case AuthenticationResults():
            return to_builtins(value)
        case list():
            return [as_plain(one) for one in value]
    return value


@header.field("name", BYTES, since=_SINCE)
def name(ctx: LuaContext, this: Header) -> bytes:
    """The name as it is spelled."""
    return this.name


@header.field("value", VALUE, since=_SINCE)
def value(ctx: LuaContext, this: Header) -> object:
    """What the header says, by its name: addresses, ids, MIME parameters or authentication results; else text."""
    kind = values.kind_of(this.name)
    return as_plain(this.read(values.UNSTRUCTURED if kind is values.DATE else kind))


@header.field("raw_value", BYTES, since=_SINCE)
def raw_value(ctx: LuaContext, this: Header) -> bytes:
    """The value as it stands in the message, folds included."""
    return this.raw_value


@header.field("unstructured", TEXT, since=_SINCE)
def unstructured(ctx: LuaContext, this: Header) -> str:
    """The value as text: unfolded, encoded words decoded. An error if it is not UTF-8."""
    return this.read(values.UNSTRUCTURED)


@header.field("mailbox_list", MAILBOX_LIST, since=_SINCE)
def mailbox_list(ctx: LuaContext, this: Header) -> list[Mailbox]:
    """The value as a list of mailboxes; an error if it is none."""
    return this.read(values.MAILBOX_LIST)


@header.field("address_list", ADDRESS_LIST, since=_SINCE)
def address_list(ctx: LuaContext, this: Header) -> list[Mailbox | Group]:
    """The value as a list of mailboxes and groups; an error if it is none."""
    return this.read(values.ADDRESS_LIST)


@header.field("message_id", TEXT, since=_SINCE)
def message_id(ctx: LuaContext, this: Header) -> str:
    """The value as a message id, without its angle brackets; an error if it is none."""
    return this.read(values.MESSAGE_ID)


@header.field("message_id_list", ListOf(TEXT), since=_SINCE)
def message_id_list(ctx: LuaContext, this: Header) -> list[str]:
    """The value as a list of message ids; an error if it is none."""
    return this.read(values.MESSAGE_ID_LIST)


@header.field("mime_params", MIME_PARAMS, since=_SINCE)
def mime_params(ctx: LuaContext, this: Header) -> MimeParameters:
    """The value with its MIME parameters, continuations put together and charsets decoded; an error if it has none.

    What comes before the parameters is a token; type/subtype in a Content-Type.
    """
    is_type = values.kind_of(this.name) is values.CONTENT_TYPE
    return this.read(values.CONTENT_TYPE if is_type else values.MIME_PARAMS)


@header.field("authentication_results", OptionTable(AuthenticationResults), since=_SINCE)
def authentication_results(ctx: LuaContext, this: Header) -> AuthenticationResults:
    """The value as authentication results (RFC 8601); an error if it is none."""
    return this.read(values.AUTHENTICATION_RESULTS)


@header.meta("tostring", result=BYTES)
def text(ctx: LuaContext, this: Header) -> bytes:
    """The complete line or lines of the header."""
    return this.to_bytes()
