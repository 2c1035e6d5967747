"""`kumo-py markdown-help`: the help of all commands as one page, for documentation."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command(hidden=True)
@click.pass_context
def markdown_help(ctx: click.Context) -> None:
    """Print the help of all commands as Markdown."""
    root = ctx.find_root()
    click.echo("\n".join(_page(root)))


def _page(ctx: click.Context) -> Iterator[str]:
    """A command, then those below it, by name."""
    command, path = ctx.command, ctx.command_path
    yield f"{'#' * (1 + path.count(' '))} `{path}`"
    yield ""
    yield inspect.cleandoc(command.help or "").replace("\b\n", "")
    yield ""
    yield f"**Usage:** `{' '.join([path, *command.collect_usage_pieces(ctx)])}`"
    options = [param for param in command.get_params(ctx) if isinstance(param, click.Option)]
    records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
    if records:
        yield from ("", "**Options:**", "")
        yield from (f"* `{option}` — {text}" if text else f"* `{option}`" for option, text in records)
    yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            if inner is not None and not inner.hidden:
                yield from _page(click.Context(inner, info_name=name, parent=ctx))
