"""TOML for people to read: keys sorted at every level, empty tables on one line (KumoMTA's compact notation)."""

from __future__ import annotations

import re
from datetime import date, time
from typing import TYPE_CHECKING, cast

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def compact_toml(table: Mapping[str, object]) -> str:
    """Write a table. What is None is left out: TOML has no such value. Raises ValueError for other values."""
    return "\n".join(_lines(table, "")).lstrip("\n") + "\n" if table else ""


def _lines(table: Mapping[str, object], path: str) -> Iterator[str]:
    items = sorted((key, value) for key, value in table.items() if value is not None)
    for key, value in items:
        if not _is_block(value):
            yield f"{_key(key)} = {_value(value)}"
    for key, value in items:
        if _is_block(value):
            inner = f"{path}{_key(key)}"
            header, blocks = (f"[[{inner}]]", value) if isinstance(value, list) else (f"[{inner}]", [value])
            for block in blocks:
                yield ""
                yield header
                yield from _lines(cast("Mapping[str, object]", block), f"{inner}.")


def _is_block(value: object) -> bool:
    """Whether a value gets a header and lines of its own."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) for item in value)
    return isinstance(value, dict) and bool(value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    return orjson.dumps(text).decode().replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case int() | float():
            return repr(value)
        case date() | time():
            return value.isoformat()
        case list() | tuple():
            return f"[{', '.join(_value(item) for item in value)}]"
        case dict():
            items = sorted((key, item) for key, item in value.items() if item is not None)
            inner = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in items)
            return f"{{ {inner} }}" if inner else "{}"
    raise ValueError(f"TOML has no {type(value).__name__}")
