"""`kumo-py logs tail`: the delivery log for people; what `zstdcat | jq` would show, and what comes next."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import click

from kumo_py.cli.endpoint import printable
from kumo_py.core.duration import Duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kumo_py.cli.logs.fields import Filter, Format
    from kumo_py.cli.logs.segments import Line

T = TypeVar("T")

DEFAULT_LOG_DIR = "/var/log/kumomta"
POLL_INTERVAL = 0.25
"""Seconds between two looks for what is new."""
DEFAULT_LINES = 10


@click.group()
def logs() -> None:
    """Read the delivery logs."""


@logs.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written, over new segments too.")
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), metavar="N", help="The last N; 10 without --since."
)
@click.option(
    "--since", metavar="TIME", help="A time such as 2026-12-24T18:00:00Z, or for how long, such as 20m."
)
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only records of which this holds; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="The records as they are in the log.")
@click.option("--format", "template", metavar="TEXT", help="A text with fields in braces for each record.")
def tail(
    paths: tuple[str, ...],
    follow: bool,
    lines: int | None,
    since: str | None,
    filters: tuple[str, ...],
    as_json: bool,
    template: str | None,
) -> None:
    """Show the last records of delivery logs: of log directories, or of segments named one by one.

    Without PATH, of /var/log/kumomta.

    \b
    Filters compare a field with a value:
      type=Bounce  site!=…          it is, it is not
      recipient~@gmail  sender!~^a  a regular expression is found, is not found
      response.code>=500            also >, <, <=
    Fields have KumoMTA's names, with dots: response.enhanced_code, peer_address.name,
    meta.NAME, headers.NAME. --format takes them in braces: '{event_time} {recipient}'.
    """
    from kumo_py.cli.logs.fields import Filter, Format
    from kumo_py.cli.logs.segments import Segments

    if as_json and template is not None:
        raise click.UsageError("--json and --format exclude each other")
    wanted = [_checked(Filter, text, "--filter") for text in filters]
    form = None if template is None else _checked(Format, template, "--format")
    start = None if since is None else _checked(_since, since, "--since")
    for path in paths or (DEFAULT_LOG_DIR,):
        if not os.path.exists(path):
            raise click.ClickException(f"{path}: there is no such directory or segment")

    def complain(text: str) -> None:
        click.echo(f"kumo-py: {text}", err=True)

    show = _Show(wanted, as_json=as_json, form=form)
    choose = show.wants if show.records_only else None
    try:
        with Segments(paths or (DEFAULT_LOG_DIR,), complain, follow=follow) as read:
            if start is None:
                show(read.last(DEFAULT_LINES if lines is None else lines, choose))
            elif lines is None:
                show(read.since(start))
            else:
                show(deque(filter(show.wants, read.since(start)), lines))
            while follow:
                show(read.new())
                time.sleep(POLL_INTERVAL)
    except KeyboardInterrupt:
        sys.exit(130)


def _checked(parse: Callable[[str], T], text: str, option: str) -> T:
    try:
        return parse(text)
    except ValueError as err:
        raise click.UsageError(f"{option}: {err}") from None


def _since(text: str) -> float:
    """Unix time. Raises ValueError."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        return time.time() - Duration(text)
    except ValueError:
        raise ValueError(
            f"'{text}' is neither a time such as 2026-12-24T18:00:00Z nor as long as 20m"
        ) from None


class _Show:
    """Writes lines out, in the form that was asked for."""

    def __init__(self, filters: list[Filter], *, as_json: bool, form: Format | None) -> None:
        self._filters = filters
        self._as_json = as_json
        self._form = form
        self.records_only = bool(filters or as_json or form)

    def wants(self, line: Line) -> bool:
        """What is no record is only shown where all is shown as it is."""
        if line.record is None:
            return not self.records_only
        return all(holds(line.record) for holds in self._filters)

    def __call__(self, lines: Iterable[Line]) -> None:
        from kumo_py.cli.logs.lines import one_line

        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in filter(self.wants, lines):
            if self._as_json:
                click.echo(line.text if width is None else printable(line.text.decode(errors="replace")))
            elif line.record is None:
                click.echo(printable(line.text.decode(errors="replace")))
            elif self._form is not None:
                click.echo(printable(self._form(line.record)))
            else:
                click.echo(one_line(line.record, width))
