"""The types of arguments, results and options as LuaCATS writes them, and the tables that they mention.

LuaCATS is the notation of lua-language-server. A table's class has the name of its struct, without the "_" and "Table"
that tell the struct from other Python classes; a kind's class has the name that its type gives to results.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec
from msgspec import inspect as shapes

from kumo_py.core.options import bounds, is_option_value, to_plain
from kumo_py.policy.types import ConfigObject, ListOf, OneOf, OneOrList, OptionTable, TableOf, Values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kumo_py.policy.registry import Kind, Registry
    from kumo_py.policy.types import LuaType

    Struct: TypeAlias = type[msgspec.Struct]

_PLAIN: dict[type[shapes.Type], str] = {
    shapes.AnyType: "any",
    shapes.NoneType: "nil",
    shapes.BoolType: "boolean",
    shapes.IntType: "integer",
    shapes.FloatType: "number",
    shapes.StrType: "string",
    shapes.DateTimeType: "string",
}


@dataclass(frozen=True, slots=True)
class Option:
    """A field of a table."""

    name: str
    type: str
    bounds: str
    """Of a number: ">= 1"."""
    required: bool
    default: object
    """Plain data; None if there is none."""
    doc: str
    inner: tuple[tuple[str, Struct], ...]
    """The tables inside, by what leads to them: "", "[]" for the items of a list, ".*" for those of a map."""


class Names:
    """How the tables and kinds of a registry are called."""

    def __init__(self, registry: Registry) -> None:
        self._kinds = {class_name(kind) for kind in registry.kinds.values()}

    # -- names -----------------------------------------------------------------------------------------
    def struct(self, struct: Struct) -> str:
        """The class of a table."""
        name = struct.__name__.removeprefix("_").removesuffix("Table")
        return f"{name}Table" if name in self._kinds else name

    def argument(self, type_: LuaType) -> str:
        """What a function takes, or a handler returns."""
        return self._expression(type_, "name")

    def result(self, type_: LuaType) -> str:
        """What a function returns, or a handler gets."""
        return self._expression(type_, "result_name")

    def _expression(self, type_: LuaType, attribute: str) -> str:
        match type_:
            case OptionTable() | ConfigObject():
                return self.struct(type_.struct)
            case OneOf():
                return _one_of(self._expression(one, attribute) for one in type_.types)
            case ListOf():
                return _list_of(self._expression(type_.item, attribute))
            case OneOrList():
                item = self._expression(type_.item, attribute)
                return _one_of((item, _list_of(item)))
            case TableOf():
                return f"table<string, {self._expression(type_.item, attribute)}>"
        return cast("str", getattr(type_, attribute, type_.name))

    # -- tables ----------------------------------------------------------------------------------------
    def options(self, struct: Struct) -> list[Option]:
        """The fields of a table, in their order."""
        docs = field_docs(struct)
        info = _struct_type(struct)
        return [
            Option(
                field.encode_name,
                self._option_type(field.type),
                " or ".join(filter(None, (bounds(one) for one in _members(field.type)))),
                field.required,
                _default(field, struct),
                docs.get(field.name, ""),
                tuple(_inner(field.type)),
            )
            for field in info.fields
        ]

    def _option_type(self, type_: shapes.Type) -> str:
        match type_:
            case shapes.UnionType():
                members = [one for one in type_.types if not isinstance(one, shapes.NoneType)]
                return _one_of(self._option_type(one) for one in members)
            case shapes.LiteralType():
                return "|".join(repr(value) for value in type_.values)
            case shapes.EnumType():
                return "|".join(repr(member.value) for member in type_.cls)
            case shapes.ListType() | shapes.VarTupleType() | shapes.SetType() | shapes.FrozenSetType():
                return _list_of(self._option_type(type_.item_type))
            case shapes.DictType():
                key, value = self._option_type(type_.key_type), self._option_type(type_.value_type)
                return f"table<{key}, {value}>"
            case shapes.CustomType() | shapes.StructType() if is_option_value(type_):
                return alias(type_.cls)
            case shapes.StructType():
                return self.struct(type_.cls)
        return _PLAIN.get(type(type_), "any")


def class_name(kind: Kind) -> str:
    """The class of a kind's objects."""
    return cast("str", getattr(kind.type, "result_name", kind.type.name))


def alias(value: Any) -> str:  # noqa: ANN401
    """The name of an option value's type; a key source may be a table too, which has that name."""
    return f"string|{value.__name__}" if issubclass(value, msgspec.Struct) else value.__name__


def structs_of(type_: LuaType | None) -> Iterator[Struct]:
    """The tables that an argument or a result may hold."""
    yield from option_structs_of(type_)
    yield from getattr(type_, "structs", ())


def option_structs_of(type_: LuaType | None) -> Iterator[Struct]:
    """The tables of options that an argument or a result may be."""
    match type_:
        case OptionTable() | ConfigObject():
            yield type_.struct
        case OneOf() | Values():
            for one in type_.types:
                yield from option_structs_of(one)
        case ListOf() | OneOrList() | TableOf():
            yield from option_structs_of(type_.item)
    taken = getattr(type_, "takes", None)
    if taken is not None:
        yield taken


def values_of(struct: Struct) -> Iterator[type]:
    """The option values among the fields of a table."""
    for field in _struct_type(struct).fields:
        for one in _members(field.type):
            if is_option_value(one) and isinstance(one, shapes.CustomType):
                yield one.cls


def field_docs(struct: type) -> dict[str, str]:
    """What stands below the fields, by their names."""
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if base.__module__.startswith("kumo_py."):
            found.update(_own_docs(base))
    return found


@cache
def _own_docs(struct: type) -> dict[str, str]:
    source = ast.parse(inspect.getsource(inspect.getmodule(struct)))  # type: ignore[arg-type]
    class_ = next(
        node for node in ast.walk(source) if isinstance(node, ast.ClassDef) and node.name == struct.__name__
    )
    found = {}
    for field, below in zip(class_.body, class_.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = inspect.cleandoc(text)
    return found


@cache
def _struct_type(struct: Struct) -> shapes.StructType:
    return cast("shapes.StructType", shapes.type_info(struct))


def _members(type_: shapes.Type) -> Iterator[shapes.Type]:
    """The type and all types within, tables aside."""
    yield type_
    for one in getattr(type_, "types", ()):
        yield from _members(one)
    for part in ("item_type", "key_type", "value_type"):
        if hasattr(type_, part):
            yield from _members(getattr(type_, part))


def _inner(type_: shapes.Type) -> Iterator[tuple[str, Struct]]:
    if isinstance(type_, shapes.StructType) and not is_option_value(type_):
        yield "", type_.cls
    for one in getattr(type_, "types", ()):
        yield from _inner(one)
    for part, step in (("item_type", "[]"), ("value_type", ".*")):
        if hasattr(type_, part):
            yield from ((step + rest, struct) for rest, struct in _inner(getattr(type_, part)))


def _default(field: shapes.Field, struct: Struct) -> object:
    in_force: dict[str, object] = getattr(struct, "defaults_in_force", dict)()
    if field.name in in_force:
        value = in_force[field.name]
    elif field.default is not msgspec.NODEFAULT:
        value = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        return None
    if isinstance(value, msgspec.Struct) and not hasattr(value, "to_option"):
        return {}  # what is in it has its own defaults
    return to_plain(value)


def _one_of(expressions: Iterable[str]) -> str:
    parts = [part for one in expressions for part in _split(one)]
    return "|".join(dict.fromkeys(parts))


def _split(expression: str) -> list[str]:
    """At each "|" that stands in no brackets."""
    parts, depth, start = [], 0, 0
    for n, char in enumerate(expression):
        depth += (char in "(<{") - (char in ")>}")
        if char == "|" and depth == 0:
            parts.append(expression[start:n])
            start = n + 1
    return [*parts, expression[start:]]


def _list_of(expression: str) -> str:
    return f"({expression})[]" if len(_split(expression)) > 1 else f"{expression}[]"


def all_structs(registry: Registry) -> list[Struct]:
    """Every table that the surface mentions, sorted by name."""
    found: dict[Struct, None] = {}

    def visit(struct: Struct) -> None:
        if struct in found:
            return
        found[struct] = None
        for field in _struct_type(struct).fields:
            for one in _members(field.type):
                if isinstance(one, shapes.StructType):
                    visit(one.cls)

    for owner in (*registry.modules.values(), *registry.kinds.values()):
        for function in owner.functions:
            if function.is_public:
                for type_ in (*(param.type for param in function.params), function.result):
                    for struct in structs_of(type_):
                        visit(struct)
    for event in registry.events.values():
        for struct in structs_of(event.result):
            visit(struct)
    return sorted(found, key=lambda struct: struct.__name__.lstrip("_"))


def all_values(structs: list[Struct]) -> list[type]:
    """Every type of our own that options of these tables have, sorted by name."""
    found = {value for struct in structs for value in values_of(struct)}
    return sorted((one for one in found if not issubclass(one, msgspec.Struct)), key=lambda one: one.__name__)


def value_doc(value: type) -> str:
    """How it is written: what its docstring says before it comes to Python."""
    return (value.__doc__ or "").partition("\n\n")[0].partition(";")[0].rstrip(".") + "."


def lua_literal(value: object) -> str:
    """Plain data as Lua writes it."""
    match value:
        case None:
            return "nil"
        case bool():
            return str(value).lower()
        case str():
            escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
            return f"'{escaped}'"
        case list():
            return f"{{ {', '.join(map(lua_literal, value))} }}" if value else "{}"
        case dict():
            items = ", ".join(f"[{lua_literal(key)}] = {lua_literal(item)}" for key, item in value.items())
            return f"{{ {items} }}" if items else "{}"
    return str(value)
