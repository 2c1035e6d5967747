"""The reference in Markdown: a page for each module, kind of object and table of options, one for the events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.policy.inventory import constructors, is_public, take_inventory
from kumo_py.policy.luacats import member_notes, option_notes
from kumo_py.policy.type_names import Names, all_structs, all_values, class_name, lua_literal, value_doc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kumo_py.policy.inventory import EventRow, Inventory, Member, OptionRow, Parameter
    from kumo_py.policy.registry import Registry
    from kumo_py.policy.type_names import Struct

MARK = "<!-- Made from the registry of the policy runtime by `make docs`: change the declarations, not this page. -->"


def pages(registry: Registry) -> dict[str, str]:
    """The pages' texts by their paths below the directory of the reference."""
    inventory = take_inventory(registry)
    by_owner: dict[str, list[Member]] = {}
    for row in inventory.functions:
        by_owner.setdefault(row.owner, []).append(row)
    by_constructor: dict[str, list[OptionRow]] = {}
    for option in inventory.options:
        by_constructor.setdefault(option.constructor, []).append(option)
    modules = sorted(name for name in registry.modules if by_owner.get(name))
    kinds = sorted(name for name in registry.kinds if is_public(name))
    found = {f"modules/{name}.md": _owner_page(name, by_owner[name], by_constructor) for name in modules}
    for name in kinds:
        title = class_name(registry.kinds[name])
        found[f"kinds/{name}.md"] = _owner_page(title, by_owner.get(name, []), by_constructor)
    for name, rows in by_constructor.items():
        found[f"options/{page_name(name)}.md"] = _page([f"# Options of {name}", "", *_option_table(rows)])
    found["events.md"] = _events_page(inventory.events, by_constructor)
    found["types.md"] = _types_page(registry)
    found["README.md"] = _index(registry, modules, kinds, inventory, by_constructor)
    return found


def page_name(constructor: str) -> str:
    """The name of a file for a function or method."""
    return constructor.replace(":", ".")


def _page(lines: Iterable[str]) -> str:
    return "\n".join([MARK, "", *lines]).rstrip() + "\n"


def _index(
    registry: Registry,
    modules: list[str],
    kinds: list[str],
    inventory: Inventory,
    by_constructor: dict[str, list[OptionRow]],
) -> str:
    lines = [
        "# Reference of the policy language",
        "",
        "Everything that a policy can name. `kumo-py lua api [NAME]` prints the same in a terminal, "
        "`kumo-py lua stubs` makes definitions of it for editors (see [editors](../editors.md)).",
        "",
        f"- [Events](events.md): {len(inventory.events)}",
        "- [Types of options and results](types.md)",
        "",
        "## Modules",
        "",
        *(f"- [{name}](modules/{name}.md)" for name in modules),
        "",
        "## Kinds of objects",
        "",
        *(f"- [{class_name(registry.kinds[name])}](kinds/{name}.md)" for name in kinds),
        "",
        "## Options",
        "",
        *(f"- [{name}](options/{page_name(name)}.md)" for name in by_constructor),
    ]
    return _page(lines)


def _owner_page(title: str, members: list[Member], options: dict[str, list[OptionRow]]) -> str:
    lines = [f"# {title}", ""]
    for heading, kinds in (
        ("Constants", ("constant",)),
        ("Fields", ("field",)),
        ("Functions", ("function",)),
        ("Methods", ("method",)),
        ("Operators", ("metamethod",)),
    ):
        rows = [one for one in members if one.kind in kinds]
        if rows:
            lines += [f"## {heading}", ""]
            if heading in ("Functions", "Methods"):
                for one in rows:
                    lines += _function(one, options)
            else:
                lines += _member_table(rows)
    return _page(lines)


def _function(one: Member, options: dict[str, list[OptionRow]]) -> Iterator[str]:
    yield f"### {one.name}"
    yield ""
    yield "```lua"
    yield f"{one.label}({_params(one.params)}){_arrow(one.result)}"
    yield "```"
    yield ""
    yield one.doc
    yield ""
    notes = list(member_notes(one))
    if one.label in options:
        notes.insert(0, f"[Options](../options/{page_name(one.label)}.md).")
    if notes:
        yield " ".join(notes)
        yield ""


def _params(params: list[Parameter]) -> str:
    return ", ".join(
        f"{'...' if one.rest else one.name}{'?' if one.optional else ''}: {one.type}" for one in params
    )


def _arrow(results: list[str]) -> str:
    return f" -> {', '.join(results)}" if results else ""


def _member_table(rows: list[Member]) -> Iterator[str]:
    yield "| name | type | meaning |"
    yield "|---|---|---|"
    for one in rows:
        takes = f"({_params(one.params)})" if one.params else ""
        about = one.doc + (" May be assigned to." if one.writable else "")
        yield _row(f"`{one.name}`", _code(f"{takes}{' ' if takes else ''}{', '.join(one.result)}"), about)
    yield ""


def _option_table(rows: list[OptionRow]) -> Iterator[str]:
    yield "| option | type | default | meaning |"
    yield "|---|---|---|---|"
    for one in rows:
        default = "required" if one.required else _code(lua_literal(one.default))
        limits = f" Must be {one.bounds}." if one.bounds else ""
        yield _row(f"`{one.option}`", _code(one.type), default, one.doc + limits)
    yield ""


def _events_page(events: list[EventRow], options: dict[str, list[OptionRow]]) -> str:
    lines = ["# Events", ""]
    for event in events:
        arguments = ", ".join("..." if one.rest else one.name for one in event.params)
        lines += [
            f"## {event.name}",
            "",
            "```lua",
            f"kumo.on('{event.name}', function({arguments}) … end)",
            "```",
            "",
            event.doc,
            "",
        ]
        if event.params:
            lines += ["| argument | type |", "|---|---|"]
            lines += [
                _row(one.name, _code(one.type + ("|nil" if one.optional else ""))) for one in event.params
            ]
            lines.append("")
        notes = [f"Returns {_code(', '.join(event.result))}."] if event.result else []
        if event.multiple:
            notes.append("It may have several handlers: they are called in turn until one returns a value.")
        if event.name in options:
            notes.append(f"[Options](options/{event.name}.md).")
        if event.since != "-":
            notes.append(f"In KumoMTA since {event.since}.")
        if notes:
            lines += [" ".join(notes), ""]
    return _page(lines)


def _types_page(registry: Registry) -> str:
    structs = all_structs(registry)
    names = Names(registry)
    lines = ["# Types of options and results", "", "| type | in Lua | meaning |", "|---|---|---|"]
    lines += [
        _row(f"`{one.__name__}`", _code(one.option_type), value_doc(one))  # type: ignore[attr-defined]
        for one in all_values(structs)
    ]
    lines.append("")
    described = {struct for _, struct in constructors(registry)}
    for struct in structs:
        if struct not in described:
            lines += _struct(struct, names)
    return _page(lines)


def _struct(struct: Struct, names: Names) -> Iterator[str]:
    yield f"## {names.struct(struct)}"
    yield ""
    yield struct.__doc__ or ""
    yield ""
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    for option in names.options(struct):
        yield _row(f"`{option.name}`", _code(option.type), " ".join(option_notes(option)))
    yield ""


def _row(*cells: str) -> str:
    """A table's row; what Markdown would take for its own is escaped."""
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


def _code(text: str) -> str:
    return f"`{text}`" if text and text != "nil" else ""
