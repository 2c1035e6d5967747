"""Option tables of a policy, turned into typed structs.

A Lua table arrives as a plain dict (str keys) or list. `convert` gives a
`msgspec.Struct` or raises `OptionError`, whose text names the option by its
full path, says what is allowed, and offers the nearest name for a misspelt one.

Lua knows one empty table and two kinds of number, so two values are accepted
that msgspec alone would refuse: `{}` where a list is wanted, and a float without
a fraction where an integer is wanted.

A value type of our own (a duration, a CIDR set, a key source) takes part by being
an `OptionValue`; nothing here knows them by name. Enumerations and literals are
strings, declared in KumoMTA's spelling.
"""

from __future__ import annotations

import enum
import functools
import math
import operator
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeVar, cast

import msgspec
from msgspec import inspect

from kumo_py.core.suggest import any_of, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")


class OptionError(ValueError):
    """An option table is wrong. The text is meant for the policy's author."""


class OptionValue(Protocol):
    """A value type that options may have besides plain data and structs."""

    option_type: ClassVar[str]
    """How Lua gives it, in the notation of LuaCATS: `number|string`."""

    @classmethod
    def from_option(cls, value: object) -> Self:
        """Make one of plain data. Raises ValueError, saying what would be right."""

    def to_option(self) -> object:
        """Return plain data that `from_option` takes, in KumoMTA's notation."""


def convert(value: object, type_: type[T], what: str, *, from_lua: bool = True, most: float = math.inf) -> T:
    """Turn plain data into `type_`, most often a struct. Raises OptionError.

    `what` opens every error message: the function that the table was given to,
    such as "kumo.make_egress_path". Fields that a struct does not have are errors
    if it is declared with `forbid_unknown_fields=True`. from_lua: whether what only Lua's types make look wrong is
    taken. Of more than `most` values, for which that would take long, a plainer message says what is wrong, and
    nothing of the kind is taken.
    """
    try:
        return msgspec.convert(value, type_, dec_hook=_decode)
    except msgspec.ValidationError as error:
        # Slow and rare: find what is wrong, or what only Lua's types made look wrong.
        try:
            value = _Walk(what, most).visit(value, _type_info(cast("type", type_)), "")
        except _TooLong:
            from_lua = False
        if not from_lua:
            raise OptionError(f"{what}: {error}") from None
    try:
        return msgspec.convert(value, type_, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise OptionError(f"{what}: {error}") from None


def to_builtins(struct: msgspec.Struct) -> dict[str, object]:
    """Return the struct as plain data: what Lua sees, and what `convert` takes."""
    names = zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True)
    return {shown: to_plain(getattr(struct, name)) for name, shown in names}


def to_plain(value: object) -> object:
    """Return an option's value as plain data."""
    if hasattr(value, "to_option"):
        return cast("OptionValue", value).to_option()
    match value:
        case msgspec.Struct():
            return to_builtins(value)
        case enum.Enum():
            return value.value
        case dict():
            return {key: to_plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [to_plain(item) for item in value]
    return value


def _decode(type_: type, value: object) -> object:
    if isinstance(value, type_):
        return value
    return cast("type[OptionValue]", type_).from_option(value)


@functools.cache  # most of the slow path's cost
def _type_info(type_: type) -> inspect.Type:
    return inspect.type_info(type_)


class _TooLong(Exception):
    """There are more values than may be looked at."""


class _Walk:
    """One pass over a value beside its type; gives the typed value, or raises OptionError."""

    __slots__ = ("_left", "_what")

    def __init__(self, what: str, most: float) -> None:
        self._what = what
        self._left = most

    def visit(self, value: object, type_: inspect.Type, path: str) -> object:
        self._left -= 1
        if self._left < 0:
            raise _TooLong
        if not _fits(value, type_):
            raise self._wrong(value, type_, path)
        match type_:
            case inspect.UnionType():
                return self._union(value, type_, path)
            case inspect.IntType() | inspect.FloatType():
                return self._number(cast("float", value), type_, path)
            case inspect.EnumType() | inspect.LiteralType():
                return self._choice(value, type_, path)
            case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType():
                items = cast("Iterable[object]", value)
                return [self.visit(item, type_.item_type, f"{path}[{n}]") for n, item in enumerate(items, 1)]
            case inspect.DictType():
                return self._dict(cast("dict[object, object]", value), type_, path)
            case inspect.StructType() if not is_option_value(type_):
                return self._struct(cast("dict[object, object]", value), type_, path)
            case inspect.StructType() | inspect.CustomType():
                return self._option_value(value, type_.cls, path)
        return value

    def _union(self, value: object, type_: inspect.UnionType, path: str) -> object:
        error: OptionError | None = None
        for member in type_.types:
            if _fits(value, member):
                try:
                    return self.visit(value, member, path)
                except OptionError as inner:
                    error = inner
        raise error or self._wrong(value, type_, path)

    def _number(self, value: float, type_: inspect.IntType | inspect.FloatType, path: str) -> float:
        for name, _, holds in _BOUNDS:
            bound = getattr(type_, name)
            if bound is not None and not holds(value, bound):
                raise self._wrong(value, type_, path)
        return int(value) if isinstance(type_, inspect.IntType) else value

    def _choice(self, value: object, type_: inspect.EnumType | inspect.LiteralType, path: str) -> object:
        choices = _choices(type_)
        if value not in choices:
            raise self._wrong(value, type_, path, _did_you_mean(value, choices))
        return value

    def _dict(self, value: dict[object, object], type_: inspect.DictType, path: str) -> dict[object, object]:
        typed: dict[object, object] = {}
        for key, item in value.items():
            inner = _joined(path, key)
            if isinstance(type_.key_type, inspect.LiteralType) and key not in type_.key_type.values:
                raise self._unknown(key, inner, type_.key_type.values)
            typed[self.visit(key, type_.key_type, inner)] = self.visit(item, type_.value_type, inner)
        return typed

    def _struct(self, value: dict[object, object], type_: inspect.StructType, path: str) -> object:
        fields = {field.encode_name: field for field in type_.fields}
        typed: dict[object, object] = {}
        for key, item in value.items():
            inner = _joined(path, key)
            if isinstance(key, str) and key in fields:
                typed[key] = self.visit(item, fields[key].type, inner)
            elif type_.cls.__struct_config__.forbid_unknown_fields:
                raise self._unknown(key, inner, fields, _deeper(str(key), fields))
        for name, field in fields.items():
            if field.required and name not in typed:
                raise OptionError(f"{self._what}: option '{_joined(path, name)}' is required")
        try:
            return msgspec.convert(typed, type_.cls, dec_hook=_decode)
        except msgspec.ValidationError as error:  # most often from __post_init__
            raise self._refused(error, path) from None

    def _option_value(self, value: object, cls: type, path: str) -> object:
        try:
            return _decode(cls, value)
        except ValueError as error:
            raise self._refused(error, path) from None

    def _unknown(
        self, key: object, path: str, known: Iterable[object], deeper: str | None = None
    ) -> OptionError:
        names = sorted(map(str, known))
        alike = [name for name in names if name.startswith(f"{key}_") or name.endswith(f"_{key}")]
        if deeper is not None:
            hint = f" (did you mean '{path.removesuffix(str(key))}{deeper}'?)"
        elif alike:
            hint = f" (did you mean {any_of([repr(name) for name in alike])}?)"
        else:
            hint = _did_you_mean(key, names) or f"; the options are {', '.join(names)}"
        return OptionError(f"{self._what}: unknown option '{path}'{hint}")

    def _refused(self, error: Exception, path: str) -> OptionError:
        return OptionError(f"{self._what}: option '{path}': {error}" if path else f"{self._what}: {error}")

    def _wrong(self, value: object, type_: inspect.Type, path: str, hint: str = "") -> OptionError:
        if not path and isinstance(type_, inspect.StructType) and isinstance(value, list):
            return OptionError(
                f"{self._what}: options have names, such as {{ {type_.fields[0].encode_name} = … }}"
            )
        subject = f"option '{path}'" if path else "the argument"
        hint = hint or _instead(value, type_)
        return OptionError(f"{self._what}: {subject} must be {_allowed(type_)}, got {_shown(value)}{hint}")


_BOUNDS = (
    ("gt", ">", operator.gt),
    ("ge", ">=", operator.ge),
    ("lt", "<", operator.lt),
    ("le", "<=", operator.le),
)


def _is_integer(value: object) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer() and abs(value) < 2**63)


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple) or value == {}


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


# For each kind of type: what it is called in a message, and whether a value is of
# that kind at all (what it contains may still be wrong).
_KINDS: Mapping[type[inspect.Type], tuple[str, Callable[[object], bool]]] = {
    inspect.NoneType: ("nil", lambda value: value is None),
    inspect.BoolType: ("true or false", lambda value: isinstance(value, bool)),
    inspect.IntType: ("an integer", _is_integer),
    inspect.FloatType: ("a number", lambda value: type(value) in (int, float)),
    inspect.StrType: ("a string", _is_string),
    inspect.EnumType: ("a string", _is_string),
    inspect.LiteralType: ("a string", _is_string),
    inspect.ListType: ("a list", _is_list),
    inspect.SetType: ("a list", _is_list),
    inspect.FrozenSetType: ("a list", _is_list),
    inspect.VarTupleType: ("a list", _is_list),
    inspect.DictType: ("a table", _is_table),
    inspect.StructType: ("a table", _is_table),
}


def _fits(value: object, type_: inspect.Type) -> bool:
    kind = _KINDS.get(type(type_))
    return kind is None or is_option_value(type_) or kind[1](value)


def is_option_value(type_: inspect.Type) -> bool:
    """Whether it is one of OptionValue."""
    return hasattr(getattr(type_, "cls", None), "from_option")


def _choices(type_: inspect.EnumType | inspect.LiteralType) -> list[object]:
    if isinstance(type_, inspect.LiteralType):
        return list(type_.values)
    return [member.value for member in type_.cls]


def _allowed(type_: inspect.Type) -> str:
    match type_:
        case inspect.UnionType():
            members = [one for one in type_.types if not isinstance(one, inspect.NoneType)]
            return " or ".join(map(_allowed, members))
        case inspect.EnumType() | inspect.LiteralType():
            return f"one of {', '.join(map(repr, _choices(type_)))}"
    return f"{_KINDS[type(type_)][0]} {bounds(type_)}".rstrip()


def bounds(type_: inspect.Type) -> str:
    """The least and the greatest number that a type takes: ">= 1 and <= 5"; "" if it has no bounds."""
    found = [(sign, getattr(type_, name, None)) for name, sign, _ in _BOUNDS]
    return " and ".join(f"{sign} {bound}" for sign, bound in found if bound is not None)


def _deeper(name: str, fields: Mapping[str, inspect.Field]) -> str | None:
    """The path to an option of that name in a table inside."""
    for outer, field in fields.items():
        for member in (field.type, *getattr(field.type, "types", ())):
            if isinstance(member, inspect.StructType) and name in (
                inner.encode_name for inner in member.fields
            ):
                return f"{outer}.{name}"
    return None


def _instead(value: object, type_: inspect.Type) -> str:
    """How what was meant is written, where that can be told."""
    if not isinstance(value, str):
        return ""
    match type_:
        case inspect.ListType():
            return f": write {{ {value!r} }}"
        case inspect.IntType() if value.isascii() and value.isdigit():
            return f": write {value}"
        case inspect.StructType():
            if any(value == field.encode_name for field in type_.fields):
                return f": write {{ {value} = {{}} }}"
            required = [field for field in type_.fields if field.required]
            if len(required) == 1 and isinstance(required[0].type, inspect.StrType):
                return f": write {{ {required[0].encode_name} = {value!r} }}"
    return ""


def _did_you_mean(name: object, candidates: Iterable[object]) -> str:
    near = nearest(str(name), map(str, candidates))
    return f" (did you mean '{near}'?)" if near else ""


def _joined(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _shown(value: object) -> str:
    """Name a value and its kind as a Lua author knows them, cut to a readable length."""
    match value:
        case None:
            return "nil"
        case bool():
            return f"boolean {str(value).lower()}"
        case int():
            return f"integer {value}"
        case float():
            return f"number {value}"
        case str():
            return f"string {value if len(value) <= 60 else value[:57] + '...'!r}"
        case list() | tuple():
            return "a list"
        case dict():
            return "a table"
    return f"a {type(value).__name__}"
