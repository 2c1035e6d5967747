"""Between Lua values and Python data, without regard to what a function declares.

Lua strings are bytes. Plain data is what JSON can say; what is shared keeps bytes and objects as they are.
"""

from __future__ import annotations

from datetime import date, time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec
from lupa import lua54

from kumo_py.core.options import to_builtins
from kumo_py.message.connection import ConnectionMeta
from kumo_py.message.message import Message

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

LuaValue: TypeAlias = Any
"""What lupa gives and takes: None, bool, int, float, bytes, a LuaTable, or a Python object as it is."""
LuaTable: Any = type(lua54.LuaRuntime(encoding=None).table())
MAX_DEPTH = 100
"""How deep a Lua table may be nested; a table that contains itself ends here."""
MAX_INTEGER = 2**63
_MEMOIZED = b"memoized"
_RESTORABLE = (b"address", b"timedelta")


class Held(NamedTuple):
    """One of the objects that Lua itself is made responsible for, such as an address, outside of its context."""

    kind: bytes
    value: bytes | int | float


def plain(ctx: LuaContext, raw: LuaValue, depth: int = 0) -> LuaValue:
    """A Lua value as JSON-like Python data. Raises ValueError.

    As in KumoMTA, a string that is not UTF-8 becomes a list of its bytes, and numbers that are map keys
    become strings.
    """
    kind = type(raw)
    if kind is bytes:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return list(raw)
    if raw is None or kind is bool or kind is int or kind is float:
        return raw
    if kind is not LuaTable:
        raise ValueError(f"cannot hold {shown(raw)}")
    if depth >= MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} deep, or contains itself")
    found = ctx.inspect(raw)
    if found is not None and found != b"array":
        if found[0] == b"config":
            return to_builtins(found[1])
        if found[0] == b"address":
            return decoded(found[1])
        if found[0] == _MEMOIZED:
            return plain(ctx, found[1], depth)
        raise ValueError(f"cannot hold a {found[0].decode()}")
    items = dict(raw.items())
    if found is not None or len(raw):
        return [plain(ctx, items.get(n), depth + 1) for n in range(1, len(raw) + 1)]
    return {text_key(key): plain(ctx, item, depth + 1) for key, item in items.items()}


def text_key(raw: LuaValue) -> str:
    if type(raw) is bytes:
        return decoded(raw)
    if type(raw) is bool:
        return "true" if raw else "false"
    if type(raw) in (int, float):
        return number_text(raw)
    raise ValueError(f"cannot have {shown(raw)} as a key")


def shared(ctx: LuaContext, raw: LuaValue, depth: int = 0) -> LuaValue:
    """A Lua value as Python data that `to_lua` makes the same value of, in whatever context. Raises ValueError."""
    kind = type(raw)
    if raw is None or kind is bytes or kind is bool or kind is int or kind is float:
        return raw
    if kind is not LuaTable:
        raise ValueError(f"cannot keep {shown(raw)}")
    if depth >= MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} deep, or contains itself")
    found = ctx.inspect(raw)
    if type(found) is tuple:
        name, value = found
        if name in _RESTORABLE:
            return Held(name, value)
        if name == _MEMOIZED:
            return shared(ctx, value, depth)
        if type(value) in (bytes, int):
            raise ValueError(f"cannot keep a {name.decode()}, which belongs to its event")
        return value
    items = {_shared_key(key): shared(ctx, item, depth + 1) for key, item in raw.items()}
    if found is not None or (items and set(items) == set(range(1, len(items) + 1))):
        return [items.get(n) for n in range(1, len(raw) + 1)]
    return items


def _shared_key(raw: LuaValue) -> LuaValue:
    if type(raw) in (bytes, bool, int, float):
        return raw
    raise ValueError(f"cannot have {shown(raw)} as a key")


def to_lua(ctx: LuaContext, value: object, depth: int = 0) -> LuaValue:
    """Plain Python data as a Lua value; None inside of it is absent in Lua. Raises TypeError or ValueError."""
    if depth > MAX_DEPTH:
        raise ValueError(f"the value is nested more than {MAX_DEPTH} deep")
    match value:
        case None | bool() | float() | bytes():
            return value
        case str():
            return value.encode("utf-8", "surrogateescape")
        case int():
            return value if -MAX_INTEGER <= value < MAX_INTEGER else float(value)
        case dict():
            inner = depth + 1
            return ctx.new_table({to_lua(ctx, key): to_lua(ctx, item, inner) for key, item in value.items()})
        case Held():
            return ctx.restored(value)
        case list() | tuple():
            inner = depth + 1
            return ctx.new_list([to_lua(ctx, item, inner) for item in value])
        case date() | time():
            return value.isoformat().encode()
        case msgspec.Struct():
            return ctx.new_config(value)
        case Message():
            return ctx.new_message(ctx.number(value))
        case ConnectionMeta():
            return ctx.new_connection(ctx.number(value))
    kind = ctx.env.registry.kind_of(value)
    if kind is not None:
        return kind.type.to_lua(ctx, value)
    raise TypeError(f"no Lua value for a {type(value).__name__}")


def remembered(ctx: LuaContext, raw: LuaValue) -> LuaValue:
    """The table behind one that a memoized function returned; anything else as it is."""
    if type(raw) is LuaTable and type(found := ctx.inspect(raw)) is tuple and found[0] == _MEMOIZED:
        return found[1]
    return raw


def decoded(raw: bytes) -> str:
    """Text. Raises ValueError."""
    try:
        return raw.decode()
    except UnicodeDecodeError as err:
        raise ValueError(f"must be UTF-8 text, but byte {err.start + 1} of {shown(raw)} is not") from None


def shown(raw: object) -> str:
    """A Lua value as its policy's author would call it."""
    match raw:
        case None:
            return "nil"
        case bool():
            return f"boolean {str(raw).lower()}"
        case int() | float():
            return f"number {raw}"
        case bytes():
            text = raw.decode("utf-8", "backslashreplace")
            return f"string '{text if len(text) <= 60 else text[:57] + '...'}'"
        case msgspec.Struct():
            return f"a {type(raw).__name__}"
    return f"a {lua54.lua_type(raw) or type(raw).__name__}"


def number_text(value: float) -> str:
    """A number as Lua's tostring writes it."""
    if isinstance(value, int):
        return str(value)
    text = f"{value:.14g}"
    return text if not text.lstrip("-").isdigit() else f"{text}.0"
