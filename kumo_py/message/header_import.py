"""Headers into metadata by rules: `msg:import_headers`.

A rule names a header, or all headers with a prefix (`X-*`), and says under which key which of their values goes into
the metadata. Of several rules the first that matches a header has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from kumo_py.message import headers

if TYPE_CHECKING:
    from collections.abc import Sequence


class ImportRule(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"which": "match"}
):
    """One entry of `msg:import_headers`."""

    name: str
    """A header's name in whatever case; one `*` at its end stands for the rest."""
    which: Literal["first", "last", "all"] = "last"
    transform: Literal["snake_case", "kebab_case", "camel_case", "pascal_case"] = "snake_case"
    target: str | None = None
    """The key; else it is made of the header's name by `transform`."""
    remove: bool = False

    def __post_init__(self) -> None:
        if "*" in self.name[:-1] or self.name in ("", "*"):
            raise ValueError(
                f"'{self.name}' must be the name of a header, with at most a * at its end: 'X-*'"
            )
        if self.target is not None and self.name.endswith("*"):
            raise ValueError(f"'target' cannot be used with '{self.name}', which may match several headers")

    def matches(self, name: str) -> bool:
        wanted = self.name.lower()
        return name.lower().startswith(wanted[:-1]) if wanted.endswith("*") else name.lower() == wanted

    def key(self, name: str) -> str:
        """The key for a header of that name."""
        if self.target is not None:
            return self.target
        words = name.split("-")
        match self.transform:
            case "snake_case":
                return name.lower().replace("-", "_")
            case "kebab_case":
                return name.lower()
            case "camel_case":
                return words[0].lower() + "".join(word.capitalize() for word in words[1:])
        return "".join(word.capitalize() for word in words)


def import_headers(data: bytes, rules: Sequence[ImportRule]) -> tuple[dict[str, object], bytes]:
    """What the rules find in a message, by key, and the message without what they remove."""
    found: list[dict[str, object]] = [{} for _ in rules]
    unwanted: set[int] = set()
    for field in headers.fields(data):
        name = field.name.decode()
        n = next((n for n, rule in enumerate(rules) if rule.matches(name)), None)
        if n is None:
            continue
        rule, key = rules[n], rules[n].key(name)
        value = headers.decoded(field.value).decode("utf-8", "replace")
        if rule.which == "all":
            values = found[n].setdefault(key, [])
            assert isinstance(values, list)
            values.append(value)
        elif rule.which == "last" or key not in found[n]:
            found[n][key] = value
        if rule.remove:
            unwanted.add(field.start)
    if unwanted:
        data = headers.without(data, lambda field: field.start in unwanted)
    return {key: value for of_rule in found for key, value in of_rule.items()}, data
