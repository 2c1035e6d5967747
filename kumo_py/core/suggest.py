"""The nearest known name, for the "did you mean" of an error message."""

from __future__ import annotations

from difflib import SequenceMatcher, get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_RANKED = 5
"""How many names that are spelt alike are looked at for words that they share."""


def nearest(name: str, candidates: Iterable[str], at_least: float = 0.6) -> str | None:
    """Return the candidate that `name` was probably meant to be, or None.

    Case and the choice between `-` and `_` weigh nothing: they are what people
    get wrong most. Whole words that are the same weigh more than letters. Of equally
    near candidates the first one given wins. at_least: of 1, how alike the spelling is.
    """
    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(_folded(candidate), candidate)
    wanted = _folded(name)
    matches = get_close_matches(wanted, by_folded, n=_RANKED, cutoff=at_least)
    if not matches:
        return None
    return by_folded[max(matches, key=lambda match: _likeness(wanted, match))]


def any_of(names: list[str]) -> str:
    """Text for people: "a, b or c"."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _likeness(wanted: str, candidate: str) -> float:
    ours, theirs = set(wanted.split("_")), set(candidate.split("_"))
    shared = len(ours & theirs) / len(ours | theirs)
    return shared + SequenceMatcher(None, wanted, candidate).ratio()


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
