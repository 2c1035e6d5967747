"""The nearest known name, for the "did you mean" of an error message."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that `name` was probably meant to be, or None.

    Case and the choice between `-` and `_` weigh nothing: they are what people
    get wrong most. Of equally near candidates the first one given wins.
    """
    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(_folded(candidate), candidate)
    matches = get_close_matches(_folded(name), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
