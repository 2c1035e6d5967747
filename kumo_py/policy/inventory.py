"""What a policy can name, as flat rows: what `kumo-py lua api` prints, and what the tests of the surface go by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from kumo_py.policy.type_names import Names, option_structs_of
from kumo_py.policy.types import ConfigObject, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kumo_py.policy.registry import Function, Owner, Param, Registry
    from kumo_py.policy.type_names import Struct
    from kumo_py.policy.types import LuaType

MemberKind = Literal["function", "method", "field", "metamethod", "constant"]


_VARIABLES = {"msg": "message", "conn_meta": "connection"}
"""How every policy calls the objects of these kinds."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """An argument."""

    name: str
    type: str
    optional: bool
    rest: bool


class Member(msgspec.Struct, frozen=True, kw_only=True, rename={"is_async": "async"}):
    """A function or constant of a module; a method, field or metamethod of a kind of object."""

    owner: str
    name: str
    label: str
    kind: MemberKind
    params: list[Parameter]
    result: list[str]
    """The types of all results."""
    writable: bool
    """Of a field: whether policies may assign to it."""
    is_async: bool
    since: str
    doc: str


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event."""

    name: str
    params: list[Parameter]
    result: list[str]
    multiple: bool
    since: str
    doc: str


class OptionRow(msgspec.Struct, frozen=True, kw_only=True):
    """An option of a function that takes a table, or of the table that an event's handler returns."""

    constructor: str
    option: str
    """The path: `protocol.smtp.mx_list`; `entries[].name` in a list, `per_record.*.suffix` in a map."""
    type: str
    bounds: str
    required: bool
    default: object
    doc: str


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """The whole surface."""

    functions: list[Member]
    events: list[EventRow]
    options: list[OptionRow]

    def matching(self, text: str) -> Inventory:
        """What has the text in its name, whatever its case; `msg:` and `conn_meta:` are methods of those."""
        wanted = text.lower()
        for variable, kind in _VARIABLES.items():
            if wanted.startswith(f"{variable}:"):
                wanted = kind + wanted.removeprefix(variable)
        return Inventory(
            functions=[one for one in self.functions if wanted in one.label.lower()],
            events=[one for one in self.events if wanted in one.name.lower()],
            options=[one for one in self.options if wanted in f"{one.constructor}.{one.option}".lower()],
        )


def take_inventory(registry: Registry) -> Inventory:
    """All that is public."""
    names = Names(registry)
    owners = (*registry.modules.values(), *registry.kinds.values())
    return Inventory(
        functions=[row for owner in owners if is_public(owner.name) for row in _members(owner, names)],
        events=[
            EventRow(
                name=event.name,
                params=[_parameter(one, names.result(one.type)) for one in event.params],
                result=_results(event.result, names.argument, not event.required),
                multiple=event.multiple,
                since=event.since,
                doc=event.doc,
            )
            for event in registry.events.values()
        ],
        options=list(_options(registry, names)),
    )


def is_public(name: str) -> bool:
    """Whether policies are meant to use an owner; the others serve what is written in Lua."""
    return not name.startswith("_")


def members_of(owner: Owner) -> Iterator[Function]:
    """What is public of it, without setters."""
    return (one for one in owner.functions if one.is_public and one.role != "setter")


def _members(owner: Owner, names: Names) -> Iterator[Member]:
    for name, value in owner.constants.items():
        yield Member(
            owner=owner.name,
            name=name,
            label=f"{owner.name}.{name}",
            kind="constant",
            params=[],
            result=["string" if isinstance(value, str) else "integer"],
            writable=False,
            is_async=False,
            since="-",
            doc="",
        )
    writable = {one.name for one in owner.functions if one.role == "setter"}
    for one in members_of(owner):
        yield Member(
            owner=owner.name,
            name=one.name if one.role != "meta" else f"__{one.name}",
            label=one.label if one.role != "meta" else f"{owner.name}.__{one.name}",
            kind=_kind_of(one),
            params=[_parameter(param, names.argument(param.type)) for param in one.params],
            result=_results(one.result, names.result, may_be_nil(one)),
            writable=one.role == "field" and one.name in writable,
            is_async=one.is_async,
            since=one.since,
            doc=one.doc,
        )


def _kind_of(one: Function) -> MemberKind:
    if one.role == "meta":
        return "metamethod"
    if one.role == "field":
        return "field"
    return "function" if one.this is None else "method"


def _parameter(param: Param, type_: str) -> Parameter:
    return Parameter(name=param.name, type=type_, optional=param.optional, rest=param.rest)


def _results(result: LuaType | None, name: Callable[[LuaType], str], or_nil: bool) -> list[str]:
    """The types of what is returned; each of several values may be nil."""
    match result:
        case None:
            return []
        case Values():
            return [optional(name(one)) for one in result.types]
    return [optional(name(result)) if or_nil else name(result)]


def optional(type_: str) -> str:
    """The type of what may be nil."""
    if type_ == "any":
        return type_
    return f"{type_}|nil" if "|" in type_ else f"{type_}?"


def may_be_nil(function: Function) -> bool:
    """Whether the implementation may return None."""
    returned = getattr(function.call, "__annotations__", {}).get("return", "")
    return isinstance(returned, str) and "None" in returned.split(" | ")


def _options(registry: Registry, names: Names) -> Iterator[OptionRow]:
    """Those of a configuration stand with the function that makes it, not with those that take it."""
    for label, struct in constructors(registry):
        yield from _rows(label, struct, "", names, ())


def constructors(registry: Registry) -> Iterator[tuple[str, Struct]]:
    """All functions that take a table of options and all events whose handlers return one, with its struct."""
    functions = [
        one
        for owner in (*registry.modules.values(), *registry.kinds.values())
        for one in owner.functions
        if one.is_public and one.role == "function"
    ]
    makers = {
        one.result.struct: one.label
        for one in functions
        if isinstance(one.result, ConfigObject) and one.params
    }
    for one in functions:
        for param in one.params:
            for struct in option_structs_of(param.type):
                if makers.get(struct, one.label) == one.label:
                    yield one.label, struct
    for event in registry.events.values():
        for struct in option_structs_of(event.result):
            if struct not in makers:
                yield event.name, struct


def _rows(
    constructor: str,
    struct: Struct,
    path: str,
    names: Names,
    outer: tuple[Struct, ...],
) -> Iterator[OptionRow]:
    for option in names.options(struct):
        inner_path = f"{path}{option.name}"
        yield OptionRow(
            constructor=constructor,
            option=inner_path,
            type=option.type,
            bounds=option.bounds,
            required=option.required,
            default=option.default,
            doc=option.doc,
        )
        for step, inner in option.inner:
            if not any(issubclass(one, inner) for one in (struct, *outer)):
                yield from _rows(constructor, inner, f"{inner_path}{step}.", names, (struct, *outer))
