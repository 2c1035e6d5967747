"""The types of Lua arguments and results: what is accepted, and what Python sees.

Lua strings are bytes. A type says whether they are text, which must be UTF-8, or bytes. `from_lua` raises
ValueError whose text continues "argument `name` …": "must be a string, got nil".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from kumo_py.core.acl import AccessControlList
from kumo_py.core.duration import parse_duration
from kumo_py.core.options import OptionError, convert, to_builtins
from kumo_py.message.address_header import Group, Mailbox
from kumo_py.message.connection import ConnectionMeta
from kumo_py.message.message import Message
from kumo_py.policy.conversion import (
    MAX_INTEGER,
    LuaTable,
    LuaValue,
    decoded,
    number_text,
    plain,
    remembered,
    shared,
    shown,
    text_key,
    to_lua,
)
from kumo_py.proto.address import AddressError, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import msgspec

    from kumo_py.policy.context import LuaContext

LuaObject: Any = LuaTable.__base__
"""Tables, functions and coroutines."""

MAX_SPAN = MAX_INTEGER / 1e9
"""Seconds of a TimeDelta, which is kept in nanoseconds."""


class LuaType(Protocol):
    """How a value crosses between Lua and Python.

    For the reference it may have more: `result_name`, where a result is less than what is accepted; `structs`, the
    tables that `name` mentions; `takes`, the struct of option tables where that is not told by the class.
    """

    @property
    def name(self) -> str:
        """What the reference calls it."""
        ...

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        """Raises ValueError. `what` names the function or event, for types whose errors name an option."""
        ...

    def to_lua(self, ctx: LuaContext, value: LuaValue) -> LuaValue: ...


class ObjectLuaType(LuaType, Protocol):
    """The type of a kind's objects."""

    def this(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        """The object that a method `what` is called on. Raises OptionError."""
        ...


class _Text:
    name = "string"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> str:
        if type(raw) is bytes:
            return decoded(raw)
        if type(raw) in (int, float):
            return number_text(raw)
        if type(raw) is LuaTable and (found := ctx.inspect(raw)) is not None and found[0] == b"address":
            return decoded(found[1])
        raise ValueError(f"must be a string, got {shown(raw)}")

    def to_lua(self, ctx: LuaContext, value: str) -> bytes:
        return value.encode("utf-8", "surrogateescape")


class _Bytes:
    name = "string"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> bytes:
        if type(raw) is bytes:
            return raw
        if type(raw) in (int, float):
            return number_text(raw).encode()
        raise ValueError(f"must be a string, got {shown(raw)}")

    def to_lua(self, ctx: LuaContext, value: bytes) -> bytes:
        return value


_match_number = re.compile(rb"\s*[-+]?\d{1,18}(\.\d{0,18})?\s*").fullmatch


def _number_of(raw: LuaValue) -> LuaValue:
    """Text that is a number as that number, as Lua's own functions take it; anything else as it is."""
    if type(raw) is not bytes or (match := _match_number(raw)) is None:
        return raw
    return int(raw) if match[1] is None else float(raw)


class _Integer:
    name = "integer"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> int:
        if type(raw) is int:
            return raw
        raw = _number_of(raw)
        if type(raw) is int or (
            type(raw) is float and raw.is_integer() and -MAX_INTEGER <= raw < MAX_INTEGER
        ):
            return int(raw)
        raise ValueError(f"must be an integer, got {shown(raw)}")

    def to_lua(self, ctx: LuaContext, value: int) -> int:
        return value


class _Number:
    name = "number"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> float:
        raw = _number_of(raw)
        if type(raw) in (int, float):
            return raw  # type: ignore[no-any-return]
        raise ValueError(f"must be a number, got {shown(raw)}")

    def to_lua(self, ctx: LuaContext, value: float) -> float:
        return value


class _Boolean:
    name = "boolean"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> bool:
        if type(raw) is bool:
            return raw
        raise ValueError(f"must be true or false, got {shown(raw)}")

    def to_lua(self, ctx: LuaContext, value: bool) -> bool:
        return value


class _Value:
    """Anything that JSON can say. A table with list items is a list, as in KumoMTA; its keys are ignored."""

    name = "any"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> object:
        return plain(ctx, raw)

    def to_lua(self, ctx: LuaContext, value: object) -> LuaValue:
        return to_lua(ctx, value)


class _Address:
    name = "EnvelopeAddress|string"
    result_name = "EnvelopeAddress"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> str:
        if type(raw) is LuaTable and (found := ctx.inspect(raw)) is not None and found[0] == b"address":
            return decoded(found[1])
        if type(raw) is not bytes:
            raise ValueError(f"must be an address or a string, got {shown(raw)}")
        try:
            return parse_address(decoded(raw))
        except AddressError as err:
            raise ValueError(f"must be an address: {err}") from None

    def to_lua(self, ctx: LuaContext, value: str) -> LuaValue:
        return ctx.new_address(value.encode())


class _TimeDelta:
    """A span of time: seconds, or text such as "5m"; Python sees seconds."""

    name = "TimeDelta|number|string"
    result_name = "TimeDelta"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> float:
        if type(raw) is LuaTable and (found := ctx.inspect(raw)) is not None and found[0] == b"timedelta":
            return float(found[1] / 1e9)
        if type(raw) is bytes:
            raw = decoded(raw)
        try:
            return parse_duration(raw)
        except ValueError as err:
            raise ValueError(f"must be a duration: {err}") from None

    def to_lua(self, ctx: LuaContext, value: float) -> LuaValue:
        if not abs(value) < MAX_SPAN:
            raise ValueError(f"a TimeDelta cannot be longer than 292 years, got {value} seconds")
        return ctx.new_time_delta(round(value * 1e9))


class _AddressHeader:
    """The addresses of a header; only a result. `list` has all, the other fields are those of a single one."""

    name = "AddressHeader"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        raise NotImplementedError

    def to_lua(self, ctx: LuaContext, value: list[Mailbox | Group]) -> LuaValue:
        mailboxes = [
            one for entry in value for one in (entry.mailboxes if isinstance(entry, Group) else (entry,))
        ]
        problem = None
        if not value:
            problem = b"the header has no address"
        elif len(value) > 1:
            problem = b"the header has several addresses: use its list"
        elif isinstance(value[0], Group):
            problem = b"the header has a group of addresses: use its list"
        items = [ctx.new_table({k: to_lua(ctx, v) for k, v in _mailbox_fields(one)}) for one in mailboxes]
        return ctx.new_address_header(
            orjson.dumps([_entry_json(entry) for entry in value]), ctx.new_list(items), problem
        )


def _mailbox_fields(one: Mailbox) -> Iterator[tuple[LuaValue, object]]:
    yield 1, orjson.dumps(_mailbox_json(one))
    yield b"user", one.user
    yield b"domain", one.domain
    yield b"email", one.email
    yield b"name", one.name


def _mailbox_json(one: Mailbox) -> dict[str, str | None]:
    return {"name": one.name, "address": one.email}


def _entry_json(entry: Mailbox | Group) -> dict[str, object]:
    """As KumoMTA writes it."""
    if isinstance(entry, Group):
        addresses = [_mailbox_json(one) for one in entry.mailboxes]
        return {"Group": {"name": entry.name, "addresses": addresses}}
    return {"Address": _mailbox_json(entry)}


class _Raw:
    """A Lua value as it is: for what serves our own Lua code."""

    name = "any"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        return raw

    def to_lua(self, ctx: LuaContext, value: LuaValue) -> LuaValue:
        return value


class _LuaFunction(_Raw):
    """A Lua function, which only Lua code calls."""

    name = "function"


class _Shared:
    """A value that may outlive its context or move to another one. Strings stay bytes; Python sees objects of
    the registry's kinds as they are.
    """

    name = "any"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        return shared(ctx, raw)

    def to_lua(self, ctx: LuaContext, value: LuaValue) -> LuaValue:
        return to_lua(ctx, value)


class _Pairs:
    """What `pairs` goes through: keys and values in turn; only a result."""

    name = "table"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        raise NotImplementedError

    def to_lua(self, ctx: LuaContext, value: LuaValue) -> LuaValue:
        pairs = value.items() if isinstance(value, dict) else value
        return ctx.new_list([to_lua(ctx, part) for pair in pairs for part in pair])


class ObjectType:
    """An object of a kind: Lua holds the Python object itself."""

    def __init__(self, kind: str, classes: tuple[type, ...]) -> None:
        self.name = kind
        self.kind = kind.encode()
        self.classes = classes

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        if type(raw) is LuaTable and (found := ctx.inspect(raw)) is not None and found[0] == self.kind:
            return found[1]
        raise ValueError(f"must be a {self.name}, got {shown(raw)}")

    def this(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        """The object of a method call, which Lua passes bare."""
        if isinstance(raw, self.classes):
            return raw
        raise OptionError(f"{what} must be called with ':' on a {self.name}")

    def to_lua(self, ctx: LuaContext, value: LuaValue) -> LuaValue:
        return ctx.new_object(self.kind, value)


class _ScopedObject:
    """A message or a connection; Lua holds a number that stands for it (see LuaContext.objects)."""

    def __init__(self, name: str, type_: type, kind: bytes) -> None:
        self.name = name
        self.type = type_
        self.kind = kind

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        if type(raw) is LuaTable and (found := ctx.inspect(raw)) is not None and found[0] == self.kind:
            return ctx.object(found[1])
        raise ValueError(f"must be a {self.kind.decode()}, got {shown(raw)}")

    def this(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        """The object of a method call, of which Lua passes the number."""
        found = ctx.objects.get(raw)
        if type(found) is self.type:
            return found
        if type(raw) is int:
            return ctx.object(raw)
        raise OptionError(f"{what} must be called with ':' on a {self.kind.decode()}")

    def to_lua(self, ctx: LuaContext, value: LuaValue) -> LuaValue:
        new = ctx.new_message if self.type is Message else ctx.new_connection
        return new(ctx.number(value))


TEXT = _Text()
BYTES = _Bytes()
INTEGER = _Integer()
NUMBER = _Number()
BOOLEAN = _Boolean()
VALUE = _Value()
ADDRESS = _Address()
ADDRESS_HEADER = _AddressHeader()
TIME_DELTA = _TimeDelta()
MESSAGE = _ScopedObject("Message", Message, b"message")
CONNECTION = _ScopedObject("ConnectionMeta", ConnectionMeta, b"connection")
SHARED = _Shared()
RAW = _Raw()
FUNCTION = _LuaFunction()
PAIRS = _Pairs()
ACL = ObjectType("access_control_list", (AccessControlList,))


class ListOf:
    """A list whose items have one type."""

    def __init__(self, item: LuaType) -> None:
        self.item = item
        self.name = f"({item.name})[]"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> list[Any]:
        raw = remembered(ctx, raw)
        if type(raw) is not LuaTable or ctx.inspect(raw) not in (None, b"array"):
            raise ValueError(f"must be a list, got {shown(raw)}")
        found = dict(raw.items())
        items = []
        for n in range(1, len(raw) + 1):
            try:
                items.append(self.item.from_lua(ctx, found.get(n), what))
            except ValueError as err:
                raise ValueError(f"[{n}] {err}") from None
        if found and not items:
            raise ValueError("must be a list, got a table with keys")
        return items

    def to_lua(self, ctx: LuaContext, value: Sequence[LuaValue]) -> LuaValue:
        item = self.item
        return ctx.new_list([item.to_lua(ctx, one) for one in value])


class TableOf:
    """A table whose keys are text and whose values have one type; Python sees a dict."""

    def __init__(self, item: LuaType) -> None:
        self.item = item
        self.name = f"table<string, {item.name}>"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> dict[str, Any]:
        raw = remembered(ctx, raw)
        if type(raw) is not LuaTable or ctx.inspect(raw) not in (None, b"array"):
            raise ValueError(f"must be a table, got {shown(raw)}")
        items = {}
        for key, item in raw.items():
            text = text_key(key)
            try:
                items[text] = self.item.from_lua(ctx, item, what)
            except ValueError as err:
                raise ValueError(f"['{text}'] {err}") from None
        return items

    def to_lua(self, ctx: LuaContext, value: dict[str, Any]) -> LuaValue:
        item = self.item
        return ctx.new_table({key.encode(): item.to_lua(ctx, one) for key, one in value.items()})


class OneOrList:
    """One item or a list of them; Python sees a list."""

    def __init__(self, item: LuaType) -> None:
        self.item = item
        self.list = ListOf(item)
        self.name = f"{item.name}|{self.list.name}"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> list[Any]:
        raw = remembered(ctx, raw)
        if type(raw) is LuaTable and ctx.inspect(raw) in (None, b"array"):
            return self.list.from_lua(ctx, raw, what)
        return [self.item.from_lua(ctx, raw, what)]

    def to_lua(self, ctx: LuaContext, value: Sequence[LuaValue]) -> LuaValue:
        return self.item.to_lua(ctx, value[0]) if len(value) == 1 else self.list.to_lua(ctx, value)


class OptionTable:
    """A table of options; Python sees the struct. Errors name the option's full path."""

    def __init__(self, struct: type[msgspec.Struct]) -> None:
        self.struct = struct
        self.name = struct.__name__

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> msgspec.Struct:
        if type(raw) is not LuaTable:
            raise ValueError(f"must be a table of options, got {shown(raw)}")
        value = plain(ctx, raw)
        # Lua has one empty table: a list to us, unless a struct is wanted.
        return convert(value or {}, self.struct, what)

    def to_lua(self, ctx: LuaContext, value: msgspec.Struct) -> LuaValue:
        return to_lua(ctx, to_builtins(value))


class ConfigObject:
    """What `kumo.make_…` returns: the struct itself, which Lua may look into but not change."""

    def __init__(self, struct: type[msgspec.Struct], maker: str) -> None:
        self.struct = struct
        self.name = struct.__name__
        self.maker = maker

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> msgspec.Struct:
        found = ctx.inspect(raw) if type(raw) is LuaTable else None
        if type(found) is tuple and type(found[1]) is self.struct:
            return found[1]
        if type(found) is tuple:
            raw = found[1]
        got = "a plain table" if type(raw) is LuaTable else shown(raw)
        raise ValueError(f"must be what {self.maker} returns, got {got}")

    def to_lua(self, ctx: LuaContext, value: msgspec.Struct) -> LuaValue:
        return ctx.new_config(value)


class OneOf:
    """The first of several types that takes the value."""

    def __init__(self, *types: LuaType) -> None:
        self.types = types
        self.name = "|".join(one.name for one in types)

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        errors = []
        types = self.types
        if type(raw) is bytes:  # is a string first, and only then perhaps a number
            types = tuple(sorted(types, key=lambda one: isinstance(one, _Integer | _Number)))
        for one in types:
            try:
                return one.from_lua(ctx, raw, what)
            except OptionError:  # the right type, with something wrong in it
                raise
            except ValueError as err:
                errors.append(str(err).partition(", got ")[0].removeprefix("must be "))
        raise ValueError(f"must be {' or '.join(errors)}, got {shown(raw)}")

    def to_lua(self, ctx: LuaContext, value: LuaValue) -> LuaValue:
        return to_lua(ctx, value)


class Values:
    """Several results at once, each of which may be nil; Python sees a tuple."""

    def __init__(self, *types: LuaType) -> None:
        self.types = types
        self.name = ", ".join(f"{one.name}?" for one in types)

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> tuple[Any, ...]:
        """`raw` is the tuple of what Lua returned."""
        padded = (*raw, *(None for _ in self.types))
        return tuple(
            None if value is None else one.from_lua(ctx, value, what)
            for one, value in zip(self.types, padded, strict=False)
        )

    def to_lua(self, ctx: LuaContext, value: tuple[Any, ...]) -> tuple[LuaValue, ...]:
        return tuple(
            None if item is None else one.to_lua(ctx, item)
            for one, item in zip(self.types, value, strict=True)
        )
