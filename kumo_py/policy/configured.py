"""What a policy's `init` asked of the node, and what of it a reload cannot change."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

APPLIED_AT_ONCE = frozenset(("kumo.set_config_monitor_globs",))
"""What a reload does change."""

_NAMES = ("name", "listen", "log_dir", "event_name")
"""The options by which calls of one function are told apart."""


@dataclass(frozen=True, slots=True)
class Configured:
    """A call of a function that sets the node up, with its arguments as plain data."""

    label: str
    arguments: list[object]

    @property
    def options(self) -> dict[str, object]:
        """The table of options, if that is what the function takes."""
        first = self.arguments[0] if self.arguments else None
        return first if isinstance(first, dict) else {}

    @property
    def name(self) -> str:
        """As an author would point at it."""
        for option in _NAMES:
            if option in self.options:
                return f"{self.label} {{ {option} = '{self.options[option]}' }}"
        if isinstance(first := self.arguments[0] if self.arguments else None, str):
            return f"{self.label}('{first}')"
        return self.label

    def same_as(self, other: Configured) -> bool:
        return _text(self.arguments) == _text(other.arguments)


def changes(running: Iterable[Configured], wanted: Iterable[Configured]) -> list[str]:
    """What a node that was set up one way lacks to be as it is wanted now: a line each, for its operator."""
    old, new = (dict(_numbered(calls)) for calls in (running, wanted))
    found = []
    for key, call in new.items():
        before = old.get(key)
        if before is None:
            found.append(f"{call.name} is new")
        elif not call.same_as(before):
            found.append(f"{call.name}: {_difference(before, call)}")
    found += [f"{call.name} is gone" for key, call in old.items() if key not in new]
    return found


def _numbered(calls: Iterable[Configured]) -> Iterator[tuple[tuple[str, int], Configured]]:
    """Calls by their names; several of one name by their order."""
    seen: Counter[str] = Counter()
    for call in calls:
        if call.label not in APPLIED_AT_ONCE:
            seen[call.name] += 1
            yield (call.name, seen[call.name]), call


def _difference(old: Configured, new: Configured) -> str:
    names = [
        name
        for name in old.options | new.options
        if _text(old.options.get(name)) != _text(new.options.get(name))
    ]
    return f"{', '.join(names)} changed" if names else "its arguments changed"


def _text(value: object) -> bytes:
    return orjson.dumps(value, default=repr, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
