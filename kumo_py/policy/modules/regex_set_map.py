"""The `kumo.regex_set_map` module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kumo_py.core.regex import RegexSet
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import BYTES, SHARED, TableOf

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

regex_set_map = Owner("kumo.regex_set_map")


class RegexSetMap:
    """Values by pattern; of several that match a text the first in alphabetical order counts."""

    __slots__ = ("_set", "_values")

    def __init__(self, entries: dict[str, Any]) -> None:
        """Raises ValueError."""
        patterns = sorted(entries)
        self._set = RegexSet(patterns)
        self._values = [entries[pattern] for pattern in patterns]

    def get(self, text: bytes) -> Any:  # noqa: ANN401  (what the policy put in)
        """The value of a pattern that matches anywhere in the text, or None."""
        found = self._set.matches(text)
        return self._values[found[0]] if found else None


map_ = Kind("regex_set_map", RegexSetMap)


@regex_set_map.function(
    "new",
    Param("entries", TableOf(SHARED), optional=True),
    result=map_.type,
    since="2023.11.28-b5252a41",
)
def new(ctx: LuaContext, entries: dict[str, Any] | None) -> RegexSetMap:
    """A map from regular expressions to values, which cannot be changed later: what is looked up is searched for all
    patterns at once. They may have neither look-around nor back-references.
    """
    return RegexSetMap(entries or {})


@map_.meta("index", Param("text", BYTES), result=SHARED)
def index(ctx: LuaContext, entries: RegexSetMap, text: bytes) -> Any:  # noqa: ANN401
    """The value of a pattern that matches anywhere in the text, or nil."""
    return entries.get(text)
