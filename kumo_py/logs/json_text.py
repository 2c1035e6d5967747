"""JSON of values that came from outside: whatever they are, one line of valid JSON comes out.

orjson escapes control characters but refuses lone surrogates, integers beyond 64 bits and types that are no
JSON; here such a part is replaced, never the whole record lost.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

_DEEPEST = 64
"""Levels of nesting that are kept; orjson itself gives up at 254."""


def to_json(value: object) -> bytes:
    """Like orjson.dumps, but never raises; invalid characters become U+FFFD."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return orjson.dumps(_cleaned(value, 0))


def _cleaned(value: object, depth: int) -> object:
    match value:
        case None | bool() | float():
            return value
        case int():
            return value if -(2**63) <= value < 2**64 else hex(value)
        case str():
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        case bytes():
            return value.decode("utf-8", "replace")
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return {str(_cleaned(k, _DEEPEST)): _cleaned(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [_cleaned(item, depth + 1) for item in value]
    return f"<{type(value).__name__}>"
