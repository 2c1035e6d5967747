"""Tables for people: columns as wide as their cells, whatever the terminal, so that they can be searched."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

import click

from kumo_py.cli.endpoint import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_NUMBER = re.compile(r"[0-9]+|[^0-9]")


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str | int]]) -> None:
    """Numbers stand on the right, with commas; a column is as its first row."""
    from rich.cells import cell_len

    table = [list(row) for row in rows]
    on_the_right = [isinstance(cell, int) for cell in table[0]] if table else []
    lines = [list(columns), *([_text(cell) for cell in row] for row in table)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    right = on_the_right or [False] * len(widths)
    for line in lines:
        cells = []
        for cell, width, is_right in zip(line, widths, right, strict=True):
            space = " " * (width - cell_len(cell))
            cells.append(space + cell if is_right else cell + space)
        click.echo(" ".join(cells).rstrip())


def _text(cell: str | int) -> str:
    return f"{cell:,}" if isinstance(cell, int) else printable(cell.replace("\n", " ").replace("\t", " "))


def natural_key(name: str) -> tuple[list[tuple[int, int]], str]:
    """Sorts as people do: numbers by their value, letters without case or accents."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    bare = "".join(char for char in plain if not unicodedata.combining(char))
    parts = [
        (ord("0"), int(part)) if part.isdigit() and part.isascii() else (ord(part), 0)
        for part in _NUMBER.findall(bare.replace("\n", " "))
    ]
    return parts, name
