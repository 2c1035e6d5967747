"""Regular expressions of policies: matching, replacing, splitting (KumoMTA's `kumo.regex`, syntax in rust_regex).

Text is bytes that should be UTF-8; what is not UTF-8 in it matches nothing, or (in a pattern with look-around and
the like) only what excludes little, such as a dot. Successive matches are Rust's: an empty match right behind
another match does not count.

Patterns with look-around and the like backtrack, which a hostile text can draw out: they have `BACKTRACKING` seconds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

import re2
import regex  # type: ignore[import-untyped]

from kumo_py.core.rust_regex import NotRegular, escape, to_python, to_re2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Regex", "RegexSet", "escape"]

_MAX_MEMORY = 16 << 20
"""Bytes that RE2 may use for a pattern, its cache included; four times that for a set."""
BACKTRACKING = 0.1
"""Seconds of the process's CPU time that a call may take for a pattern that is not linear, all matches together."""
_TEMPLATE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))")


class Regex:
    """A compiled pattern. All methods raise ValueError where one that is not linear takes too long."""

    __slots__ = ("_compiled", "_groups", "_names", "_search", "is_linear", "pattern")

    def __init__(self, pattern: str) -> None:
        """Raises ValueError that says what is wrong with the pattern."""
        self.pattern = pattern
        compiled = _regular(pattern)
        self.is_linear = compiled is not None
        """Whether it takes linear time on any text."""
        if compiled is None:
            compiled = _Backtracking(pattern)
        self._compiled = compiled
        self._search: Any = compiled.search
        self._groups: int = compiled.groups
        self._names: dict[str, int] = {
            name if isinstance(name, str) else name.decode(): index
            for name, index in compiled.groupindex.items()
        }

    def is_match(self, text: bytes) -> bool:
        """Whether it matches anywhere."""
        return self._search(self._subject(text)) is not None

    def captures(self, text: bytes) -> dict[int | bytes, bytes] | None:
        """What the first match and its groups are, by number, the whole being 0, and by name; None without one."""
        found = self._search(self._subject(text))
        if found is None:
            return None
        texts: dict[int | bytes, bytes] = {}
        for n in range(self._groups + 1):
            if (part := found.group(n)) is not None:
                texts[n] = _bytes(part)
        texts |= {name.encode(): texts[n] for name, n in self._names.items() if n in texts}
        return texts

    def find(self, text: bytes) -> bytes | None:
        """The first match."""
        found = self._search(self._subject(text))
        return None if found is None else _bytes(found.group())

    def find_all(self, text: bytes) -> list[bytes]:
        """All matches, which do not overlap."""
        return [_bytes(found.group()) for found in self._matches(self._subject(text))]

    def replace(self, text: bytes, replacement: str, limit: int = 0) -> bytes:
        """The text with the first `limit` matches replaced, or all if it is 0.

        In the replacement `$1`, `${1}`, `$name` and `${name}` stand for groups, and `$$` for a dollar sign; a group
        that does not exist is empty.
        """
        subject = self._subject(text)
        parts: list[str | int] = []
        last = 0
        for found in _TEMPLATE.finditer(replacement):
            parts += (replacement[last : found.start()], self._group(found[1] or found[2]))
            last = found.end()
        parts.append(replacement[last:])
        pieces: list[bytes] = []
        at = 0
        for count, match in enumerate(self._matches(subject), 1):
            start, end = match.span()
            pieces.append(_bytes(subject[at:start]))
            pieces += (
                part.encode() if isinstance(part, str) else _bytes(match.group(part) or "") for part in parts
            )
            at = end
            if count == limit:
                break
        pieces.append(_bytes(subject[at:]))
        return b"".join(pieces)

    def split(self, text: bytes) -> list[bytes]:
        """What is between the matches."""
        subject = self._subject(text)
        pieces, at = [], 0
        for match in self._matches(subject):
            start, end = match.span()
            pieces.append(_bytes(subject[at:start]))
            at = end
        pieces.append(_bytes(subject[at:]))
        return pieces

    def _group(self, name: str | None) -> str | int:
        """What stands in a template for a group: its number, or the text that it always is."""
        if name is None:
            return "$"
        number = int(name) if name.isdecimal() and len(name) < 6 else self._names.get(name, -1)
        return number if 0 <= number <= self._groups else ""

    def _subject(self, text: bytes) -> bytes | str:
        return text if self.is_linear else text.decode("utf-8", "surrogateescape")

    def _matches(self, subject: bytes | str) -> Iterator[Any]:
        if not self.is_linear:
            yield from self._compiled.matches(subject)
            return
        assert isinstance(subject, bytes)
        at, last = 0, -1
        while at <= len(subject):
            found = self._search(subject, at)
            if found is None:
                return
            start, end = found.span()
            if start == end:
                at = _next(subject, end)
                if end == last:
                    continue
            else:
                at = end
            last = end
            yield found

    def __repr__(self) -> str:
        return f"Regex({self.pattern!r})"


class RegexSet:
    """Patterns that are searched for all at once; none may need more than linear time."""

    __slots__ = ("_match", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises ValueError that names the pattern that is wrong."""
        self.patterns = tuple(patterns)
        self._match: Any = None
        if not self.patterns:
            return
        options = _options()
        options.max_mem = 4 * _MAX_MEMORY
        found = re2.Set.SearchSet(options)
        for pattern in self.patterns:
            try:
                _add(found, pattern)
            except ValueError as err:
                raise ValueError(f"'{pattern}': {err}") from None
        try:
            found.Compile()
        except re2.error:
            raise ValueError("the patterns together are too large") from None
        self._match = found.Match

    def matches(self, text: bytes) -> list[int]:
        """The numbers of the patterns that match anywhere, in order."""
        return [] if self._match is None else sorted(self._match(text) or ())


def _options() -> Any:  # noqa: ANN401  (google-re2 has no types)
    options = re2.Options()
    options.encoding = re2.Options.Encoding.UTF8
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    return options


def _regular(pattern: str) -> Any:  # noqa: ANN401
    """For RE2; None if that cannot have it. Raises ValueError."""
    try:
        return re2.compile(to_re2(pattern).encode(), _options())
    except NotRegular:
        return None
    except re2.error as err:
        reason = _reason(err)
        if "too large" in reason:
            return None
        raise ValueError(f"the pattern is wrong: {reason}") from None


def _add(patterns: Any, pattern: str) -> None:  # noqa: ANN401
    """Raises ValueError."""
    try:
        patterns.Add(to_re2(pattern).encode())
    except re2.error:
        Regex(pattern)  # which knows the reason
        raise ValueError("the pattern is too large") from None


class _Backtracking:
    """A pattern that RE2 cannot have."""

    __slots__ = ("_once", "_pattern", "groupindex", "groups")

    def __init__(self, pattern: str) -> None:
        """Raises ValueError."""
        try:
            self._pattern: Any = regex.compile(to_python(pattern), regex.V0)
        except regex.error as err:
            raise ValueError(f"the pattern is wrong: {err.msg}") from None
        except (OverflowError, RecursionError):
            raise ValueError("the pattern is too large") from None
        self.groups: int = self._pattern.groups
        self.groupindex: dict[str, int] = self._pattern.groupindex
        self._once: Any = None

    def search(self, text: str) -> Any:  # noqa: ANN401
        """The first match. Raises ValueError."""
        try:
            return self._pattern.search(text, timeout=BACKTRACKING)
        except TimeoutError:
            self._give_up()

    def matches(self, text: str) -> Iterator[Any]:
        """Rust's successive matches. Raises ValueError."""
        if self._once is None:
            # Python goes on where a match was empty, for one that is not. An atomic group has no other.
            self._once = regex.compile(f"(?>{self._pattern.pattern})", regex.V0)
        end = -1
        try:
            for found in self._once.finditer(text, timeout=BACKTRACKING):
                if found.end() != end:
                    end = found.end()
                    yield found
        except TimeoutError:
            self._give_up()

    def _give_up(self) -> NoReturn:
        raise ValueError(
            f"the pattern took more than {BACKTRACKING:g} s on this text: patterns with look-around, back-references "
            "and the like may take very long; without these they don't"
        ) from None


def _reason(err: Exception) -> str:
    said = err.args[0] if err.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def _bytes(part: bytes | str) -> bytes:
    return part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")


def _next(subject: bytes, at: int) -> int:
    """Where the next character starts."""
    at += 1
    while at < len(subject) and subject[at] & 0xC0 == 0x80:
        at += 1
    return at
