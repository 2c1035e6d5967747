"""File name patterns: `*`, `?`, `[a-z]`, `[!a]`, `{lua,toml}` and `**` for any number of directories.

The notation of KumoMTA's globs (the filenamegen crate). Only names are looked at here; who walks the directories asks
`fixed` where to begin, and `may_contain` for each directory on the way.
"""

from __future__ import annotations

import re

_MAX_ALTERNATIVES = 1000


class Glob:
    """A compiled pattern. Raises ValueError if it is none."""

    __slots__ = ("_variants", "_whole", "fixed", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        variants = [one.split("/") for one in _alternatives(pattern)]
        self._whole = re.compile("|".join(map(_path_regex, variants)))
        self._variants = [
            [None if part == "**" else re.compile(_name_regex(part)) for part in parts] for parts in variants
        ]
        self.fixed = _fixed(variants)
        """The directory under which everything that matches lies, as far as the pattern names it."""

    def matches(self, path: str) -> bool:
        return self._whole.fullmatch(path) is not None

    def may_contain(self, directory: str) -> bool:
        """Whether something below the directory can match."""
        names = [] if directory == "." else directory.rstrip("/").split("/")
        return any(_is_on_the_way(names, parts) for parts in self._variants)


def _is_on_the_way(names: list[str], parts: list[re.Pattern[str] | None]) -> bool:
    for n, name in enumerate(names):
        if n == len(parts) - 1:
            return parts[n] is None
        part = parts[n]
        if part is None:
            return True
        if part.fullmatch(name) is None:
            return False
    return True


def _alternatives(pattern: str) -> list[str]:
    """The patterns without braces that this one stands for."""
    found = [""]
    at = 0
    while at < len(pattern):
        if pattern[at] != "{":
            found = [one + pattern[at] for one in found]
            at += 1
            continue
        parts, at = _braced(pattern, at)
        found = [one + inner for one in found for part in parts for inner in _alternatives(part)]
        if len(found) > _MAX_ALTERNATIVES:
            raise ValueError(f"the pattern '{pattern}' stands for more than {_MAX_ALTERNATIVES} others")
    return found


def _braced(pattern: str, start: int) -> tuple[list[str], int]:
    """What stands between the commas of a brace, and the place after it."""
    depth = 0
    parts = [""]
    for at in range(start, len(pattern)):
        char = pattern[at]
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return parts, at + 1
        if char == "," and depth == 1:
            parts.append("")
        elif at > start:
            parts[-1] += char
    raise ValueError(f"the pattern '{pattern}' has a '{{' that is not closed")


def _name_regex(name: str) -> str:
    """The regex of one part between slashes."""
    regex = ""
    at = 0
    while at < len(name):
        char = name[at]
        end = name.find("]", at + 2)
        if char == "*":
            regex += "[^/]*"
        elif char == "?":
            regex += "[^/]"
        elif char == "[" and end > 0:
            inner = name[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            inner = f"^/{inner[1:]}" if inner[0] in "!^" else inner
            regex += f"[{inner}]"
            at = end
        else:
            regex += re.escape(char)
        at += 1
    return regex


def _path_regex(parts: list[str]) -> str:
    last = len(parts) - 1
    regex = ""
    for n, part in enumerate(parts):
        if part == "**":
            regex += ".+" if n == last else "(?:[^/]+/)*"
        else:
            regex += _name_regex(part) + ("" if n == last else "/")
    return f"(?s:{regex})"


def _fixed(variants: list[list[str]]) -> str:
    common: list[str] = []
    for names in zip(*(parts[:-1] for parts in variants), strict=False):
        if len(set(names)) > 1 or set(names[0]) & set("*?["):
            break
        common.append(names[0])
    return "/".join(common) or ("/" if variants[0][0] == "" and len(variants[0]) > 1 else ".")
