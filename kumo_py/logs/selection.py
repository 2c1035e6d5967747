"""Which metadata and headers a logger copies into its records (KumoMTA options `meta` and `headers`).

A name that ends in `*` stands for all that begin so. Metadata names are case-sensitive, header names are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.message.headers import decoded, fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class MetaSelection:
    """A null value is left out, unless a wildcard found it."""

    __slots__ = ("_names",)

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(_split(name) for name in names)

    def __bool__(self) -> bool:
        return bool(self._names)

    def pick(self, values: Mapping[str, object]) -> dict[str, object]:
        picked: dict[str, object] = {}
        for name, is_prefix in self._names:
            if is_prefix:
                picked.update((key, value) for key, value in values.items() if key.startswith(name))
            elif (value := values.get(name)) is not None:
                picked[name] = value
        return picked


class HeaderSelection:
    """A header keeps the spelling of its first occurrence; one that is repeated is a list of its values."""

    __slots__ = ("_names",)

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(_split(name.lower()) for name in names)

    def __bool__(self) -> bool:
        return bool(self._names)

    def pick(self, data: bytes) -> dict[str, object]:
        """From a message's content."""
        found: dict[str, tuple[str, list[bytes]]] = {}
        for field in fields(data):
            name = field.name.decode("ascii")
            found.setdefault(name.lower(), (name, []))[1].append(field.value)
        picked: dict[str, object] = {}
        for wanted, is_prefix in self._names:
            for folded in [key for key in found if key.startswith(wanted)] if is_prefix else (wanted,):
                if folded in found:
                    name, raw = found.pop(folded)
                    values = [decoded(value).decode("utf-8", "replace") for value in raw]
                    picked[name] = values[0] if len(values) == 1 else values
        return picked


def _split(name: str) -> tuple[str, bool]:
    return (name[:-1], True) if name.endswith("*") else (name, False)
