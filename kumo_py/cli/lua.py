"""`kumo-py lua`: what policies can name, for people, for editors and for the reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.table import Table

from kumo_py.core.suggest import nearest
from kumo_py.policy.inventory import take_inventory
from kumo_py.policy.luacats import stubs as make_stubs
from kumo_py.policy.reference import MARK, pages
from kumo_py.policy.surface import build_registry
from kumo_py.policy.type_names import lua_literal

if TYPE_CHECKING:
    from kumo_py.policy.inventory import Inventory, Parameter


@click.group()
def lua() -> None:
    """Look into the policy language: its functions, events and options."""


@lua.command()
@click.argument("name", default="")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def api(name: str, as_json: bool) -> None:
    """Print every function, event and option, or those with NAME in their name, such as `msg:` or `max_age`."""
    inventory = take_inventory(build_registry())
    found = inventory.matching(name)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    if not (found.functions or found.events or found.options):
        near = nearest(name, _all_names(inventory))
        raise click.ClickException(
            f"nothing has '{name}' in its name" + (f"; did you mean {near}?" if near else "")
        )
    _print(found)


def _all_names(inventory: Inventory) -> list[str]:
    return [
        *(one.label for one in inventory.functions),
        *(one.name for one in inventory.events),
        *(one.option for one in inventory.options),
    ]


def _print(found: Inventory) -> None:
    console = Console()
    if found.functions:
        table = _table("Functions, methods and fields", "name", "result", "meaning")
        for one in found.functions:
            called = f"({_params(one.params)})" if one.kind in ("function", "method", "metamethod") else ""
            table.add_row(f"{one.label}{called}", ", ".join(one.result), one.doc)
        console.print(table)
    if found.events:
        table = _table("Events", "name", "result", "meaning")
        for event in found.events:
            table.add_row(f"{event.name}({_params(event.params)})", ", ".join(event.result), event.doc)
        console.print(table)
    if found.options:
        table = _table("Options", "name", "type", "default", "meaning")
        for option in found.options:
            default = (
                "required"
                if option.required
                else ""
                if option.default is None
                else lua_literal(option.default)
            )
            name = f"{option.constructor}.{option.option}"
            table.add_row(name, f"{option.type} {option.bounds}".rstrip(), default, option.doc)
        console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_lines=False, highlight=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _params(params: list[Parameter]) -> str:
    return ", ".join(
        f"{'...' if one.rest else one.name}{'?' if one.optional else ''}: {one.type}" for one in params
    )


@lua.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("kumo-stubs"),
    show_default=True,
    help="The directory for the files.",
)
def stubs(output: Path) -> None:
    """Write LuaCATS definitions: with them an editor completes and checks policies (see docs/editors.md)."""
    output.mkdir(parents=True, exist_ok=True)
    for name, text in make_stubs(build_registry()).items():
        (output / name).write_text(text)
    click.echo(f"wrote {output}/: name it as a workspace.library in your .luarc.json")


@lua.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("docs/reference"),
    show_default=True,
    help="The directory for the pages.",
)
def docs(output: Path) -> None:
    """Write the reference in Markdown; pages of what is no more are removed."""
    found = pages(build_registry())
    for name, text in found.items():
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in output.rglob("*.md"):
        if str(path.relative_to(output)) not in found and path.read_text().startswith(MARK):
            path.unlink()
    click.echo(f"wrote {len(found)} pages to {output}/")
