"""LuaCATS definition files: from them an editor with lua-language-server completes and checks policies.

One file for each module that can be required, one for kinds of objects, one for option tables and value types.
Results and arguments of unknown shape are `any`; a result may be nil even where its type does not say so.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from kumo_py.policy.inventory import is_public, optional, take_inventory
from kumo_py.policy.type_names import Names, all_structs, all_values, class_name, lua_literal, value_doc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kumo_py.policy.inventory import EventRow, Member, Parameter
    from kumo_py.policy.registry import Registry
    from kumo_py.policy.type_names import Option, Struct

KEYWORDS = frozenset(
    [
        "and",
        "break",
        "do",
        "else",
        "elseif",
        "end",
        "false",
        "for",
        "function",
        "goto",
        "if",
        "in",
        "local",
        "nil",
        "not",
        "or",
        "repeat",
        "return",
        "then",
        "true",
        "until",
        "while",
    ]
)
MODIFIERS = frozenset(("public", "protected", "private", "package", "readonly"))
"""What may stand before the name of a field."""
_OPERATORS = {f"__{name}" for name in ("add", "sub", "concat", "len", "call")}
_GLOBALS = """\
---@meta

---True while the policy is only validated, else nil.
---@type boolean?
_VALIDATING_CONFIG = nil

---The event whose handler runs; nil while the policy file loads.
---@type string?
_KUMO_CURRENT_EVENT = nil
"""


def stubs(registry: Registry) -> dict[str, str]:
    """The files' texts by their names."""
    names = Names(registry)
    inventory = take_inventory(registry)
    members: dict[str, list[Member]] = {}
    for row in inventory.functions:
        members.setdefault(row.owner, []).append(row)
    files = {"globals.lua": _GLOBALS}
    for top in registry.modules:
        if "." not in top:
            below = [name for name in registry.modules if name == top or name.startswith(f"{top}.")]
            lines = chain.from_iterable(
                _module(name, members.get(name, []), inventory.events) for name in sorted(below)
            )
            files[f"{top}.lua"] = _text([f"---@meta {top}", "", *lines, f"return {top}"])
    files["kinds.lua"] = _text(
        ["---@meta", ""]
        + [
            line
            for kind in registry.kinds.values()
            if is_public(kind.name)
            for line in _kind(class_name(kind), members.get(kind.name, []))
        ]
    )
    structs = all_structs(registry)
    options = chain.from_iterable(_struct(one, names) for one in structs)
    values = chain.from_iterable(_alias(one) for one in all_values(structs))
    files["options.lua"] = _text(["---@meta", "", *values, *options])
    return files


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


def _comment(text: str) -> list[str]:
    return [f"---{line}".rstrip() for line in text.splitlines()]


def _module(name: str, members: list[Member], events: list[EventRow]) -> Iterator[str]:
    yield f"---@class {name}"
    for one in members:
        if one.kind == "constant":
            yield f"---@field {one.name} {one.result[0]}"
    yield f"{'' if '.' in name else 'local '}{name} = {{}}"
    yield ""
    for one in members:
        if one.kind == "function":
            yield from _function(one, one.label, events if one.label == "kumo.on" else [])


def _kind(name: str, members: list[Member]) -> Iterator[str]:
    yield f"---@class {name}"
    for one in members:
        result = one.result[0] if one.result else "nil"
        if one.kind == "field":
            yield f"---@field {field_name(one.name)} {result} {' '.join(one.doc.split())}".rstrip()
        elif one.name == "__index":
            yield f"---@field [string] {result}"
        elif one.name in _OPERATORS:
            takes = f"({one.params[0].type})" if one.params else ""
            yield f"---@operator {one.name.removeprefix('__')}{takes}: {result}"
    yield f"local {name} = {{}}"
    yield ""
    for one in members:
        if one.kind == "method":
            yield from _function(one, f"{name}:{one.name}", [])


def _function(one: Member, label: str, events: list[EventRow]) -> Iterator[str]:
    yield from _comment(one.doc)
    if notes := " ".join(member_notes(one)):
        yield f"---{notes}"
    for param in one.params:
        yield f"---@param {_param_name(param)}{'?' if param.optional else ''} {param.type}"
    for result in one.result:
        yield f"---@return {result}"
    for event in events:
        yield f"---@overload fun(event: '{event.name}', handler: {_handler(event)})"
    yield f"function {label}({', '.join(_param_name(param) for param in one.params)}) end"
    yield ""


def member_notes(one: Member) -> Iterator[str]:
    """What is to be said of a function besides its arguments and results."""
    if one.is_async:
        yield "Waits; other events run meanwhile."
    if one.since == "kumo-py":
        yield "Not in KumoMTA."
    elif one.since == "dev":
        yield "In KumoMTA not released yet."
    elif one.since != "-":
        yield f"In KumoMTA since {one.since}."


def _param_name(param: Parameter) -> str:
    if param.rest:
        return "..."
    return f"{param.name}_" if param.name in KEYWORDS else param.name


def _handler(event: EventRow) -> str:
    params = ", ".join(
        f"{'...' if one.rest else one.name}: {optional(one.type) if one.optional else one.type}"
        for one in event.params
    )
    return f"(fun({params}): {', '.join(event.result)})" if event.result else f"fun({params})"


def _struct(struct: Struct, names: Names) -> Iterator[str]:
    yield from _comment(struct.__doc__ or "")
    yield f"---@class (exact) {names.struct(struct)}"
    for option in names.options(struct):
        about = " ".join(option_notes(option))
        yield f"---@field {field_name(option.name)}{'' if option.required else '?'} {option.type} {about}".rstrip()
    yield ""


def field_name(name: str) -> str:
    """As a field's line has it: in brackets if it means something else there."""
    return f"['{name}']" if name in KEYWORDS | MODIFIERS else name


def option_notes(option: Option) -> Iterator[str]:
    """What is to be said of an option besides its type."""
    if option.doc:
        yield " ".join(option.doc.split())
    if option.bounds:
        yield f"Must be {option.bounds}."
    if option.default is not None:
        yield f"Default: {lua_literal(option.default)}."


def _alias(value: type) -> Iterator[str]:
    yield from _comment(value_doc(value))
    yield f"---@alias {value.__name__} {value.option_type}"  # type: ignore[attr-defined]
    yield ""
