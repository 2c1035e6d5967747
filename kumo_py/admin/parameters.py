"""The parameters of a query: `?queue_name=b.example&limit=5`. Each function raises Refusal (400) for what is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.admin.exchange import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIGITS = 9


def text(query: Mapping[str, str], name: str) -> str:
    """One that must be there."""
    value = query.get(name)
    if value is None:
        raise Refusal(400, f"the parameter '{name}' is missing")
    return value


def flag(query: Mapping[str, str], name: str) -> bool:
    """Whether it is true; false if it is not there."""
    value = query.get(name, "false")
    if value not in ("true", "false"):
        raise Refusal(400, f"the parameter '{name}' must be true or false, not '{value}'")
    return value == "true"


def count(query: Mapping[str, str], name: str) -> int | None:
    """Zero or more; None if it is not there."""
    value = query.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= _DIGITS):
        raise Refusal(
            400, f"the parameter '{name}' must be a number of at most {_DIGITS} digits, not '{value}'"
        )
    return int(value)
