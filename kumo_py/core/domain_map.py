"""Values by domain name, with wildcards (KumoMTA's `kumo.domain_map`).

Names are compared label by label from the right, as they are written: case counts. Of the labels, `*` in a key
stands for any number of further labels to the left. The walk never turns back: where the labels that lead to a
name branch off the known ones, only the wildcard right there is asked. So a wildcard at a lower level hides the
higher ones, and the key `*` answers only for names whose last label no key has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

V = TypeVar("V")

_NOTHING: object = object()


class DomainMap(Generic[V]):
    """`*.example.com` is found for every name below example.com, but not for example.com itself."""

    __slots__ = ("_nodes",)

    def __init__(self, entries: Mapping[str, V] | Iterable[tuple[str, V]] = ()) -> None:
        # Every key and all that it ends with, label by label: whatever is here has its parents here.
        self._nodes: dict[str, V | object] = {}
        for name, value in entries.items() if isinstance(entries, Mapping) else entries:
            self[name] = value

    def __setitem__(self, name: str, value: V) -> None:
        self._nodes[name] = value
        dot = "."
        while dot:
            _, dot, name = name.partition(".")
            if dot:
                self._nodes.setdefault(name, _NOTHING)

    def get(self, name: str) -> V | None:
        """The value of the name itself, or of the one wildcard that may stand for it."""
        nodes = self._nodes
        found = nodes.get(name)
        if found is None and name not in nodes:
            wildcard, dot, parent = "*", ".", name
            while dot:
                _, dot, parent = parent.partition(".")
                if dot and parent in nodes:
                    wildcard = f"*.{parent}"
                    break
            found = nodes.get(wildcard)
        return None if found is _NOTHING else found  # type: ignore[return-value]

    def items(self) -> Iterable[tuple[str, V]]:
        """The keys as they were given, with their values."""
        return ((name, value) for name, value in self._nodes.items() if value is not _NOTHING)  # type: ignore[misc]

    def __len__(self) -> int:
        return sum(1 for _ in self.items())

    def __repr__(self) -> str:
        return f"DomainMap({dict(self.items())!r})"
