"""What Handlebars templates can call: comparisons, logic, lookup and changes of case."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W_A-Z]+|[^\W_]+")


class HelperError(ValueError):
    """A helper cannot do with its arguments."""


def truthy(value: object, include_zero: bool = False) -> bool:
    """Whether a condition holds: not for null, false, 0, "" and what is empty."""
    if isinstance(value, float) and math.isnan(value):
        return False
    if include_zero and isinstance(value, int | float) and not isinstance(value, bool):
        return True
    return bool(value)


def rendered(value: object) -> str:
    """A value as text."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            return f"[{', '.join(map(rendered, value))}]"
        case dict():
            return "[object]"
        case bytes():
            return value.decode("utf-8", "replace")
    return str(value)


def _two(arguments: Sequence[object]) -> tuple[object, object]:
    if len(arguments) != 2:
        raise HelperError(f"takes two values, got {len(arguments)}")
    return arguments[0], arguments[1]


def _one(arguments: Sequence[object]) -> object:
    if len(arguments) != 1:
        raise HelperError(f"takes one value, got {len(arguments)}")
    return arguments[0]


def _equal(arguments: Sequence[object]) -> bool:
    a, b = _two(arguments)
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _compared(arguments: Sequence[object]) -> int | None:
    """-1, 0 or 1; None for what has no order."""
    a, b = _two(arguments)
    if isinstance(a, str) and isinstance(b, str):
        return (a > b) - (a < b)
    if isinstance(a, int | float) and isinstance(b, int | float):
        return (a > b) - (a < b)
    return None


def _lookup(arguments: Sequence[object]) -> object:
    inside, key = _two(arguments)
    if isinstance(inside, dict):
        return inside.get(key if isinstance(key, str) else rendered(key))
    if isinstance(inside, list) and isinstance(key, int | str):
        n = int(key) if str(key).isdecimal() and len(str(key)) < 10 else -1
        return inside[n] if 0 <= n < len(inside) else None
    return None


def _length(arguments: Sequence[object]) -> int:
    value = _one(arguments)
    return len(value) if isinstance(value, str | list | dict) else 0


def _cased(joined: Callable[[list[str]], str]) -> Callable[[Sequence[object]], str]:
    def convert(arguments: Sequence[object]) -> str:
        return joined(_WORD.findall(rendered(_one(arguments))))

    return convert


def _capitals(words: list[str]) -> list[str]:
    return [word.capitalize() for word in words]


def _camel(words: list[str]) -> str:
    return "".join([word.lower() for word in words[:1]] + _capitals(words[1:]))


HELPERS: dict[str, Callable[[Sequence[object]], object]] = {
    "lookup": _lookup,
    "len": _length,
    "eq": _equal,
    "ne": lambda arguments: not _equal(arguments),
    "lt": lambda arguments: _compared(arguments) == -1,
    "lte": lambda arguments: _compared(arguments) in (-1, 0),
    "gt": lambda arguments: _compared(arguments) == 1,
    "gte": lambda arguments: _compared(arguments) in (0, 1),
    "and": lambda arguments: all(map(truthy, arguments)),
    "or": lambda arguments: any(map(truthy, arguments)),
    "not": lambda arguments: not truthy(_one(arguments)),
    "lowerCamelCase": _cased(_camel),
    "upperCamelCase": _cased(lambda words: "".join(_capitals(words))),
    "snakeCase": _cased(lambda words: "_".join(words).lower()),
    "kebabCase": _cased(lambda words: "-".join(words).lower()),
    "shoutySnakeCase": _cased(lambda words: "_".join(words).upper()),
    "shoutyKebabCase": _cased(lambda words: "-".join(words).upper()),
    "titleCase": _cased(lambda words: " ".join(_capitals(words))),
    "trainCase": _cased(lambda words: "-".join(_capitals(words))),
}
