"""Regular expressions as KumoMTA's policies write them, told to RE2 and to Python.

The syntax is that of Rust's regex crate with fancy_regex's additions. RE2 takes linear time, whatever it is given,
so what it can say is left to it: all but look-around, back-references, atomic groups, possessive repetition,
conditions and a few word boundaries. Those go to the package `regex`, which writes as Python does and backtracks.

One difference: RE2's \\b and \\B know ASCII's letters and digits only. \\d, \\s and \\w are Unicode's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kumo_py.core import char_class
from kumo_py.core.char_class import complement, intersection, union

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.core.char_class import Ranges

RE2_MAX_REPEAT = 1000
MAX_LENGTH = 1 << 20
"""Characters of a pattern."""
MAX_DEPTH = 200
"""Groups and classes within each other."""

_COUNT = re.compile(r"\{\s*([0-9]{0,9})\s*(?:(,)\s*([0-9]{0,9})\s*)?\}")
_GROUP = re.compile(
    r"\(\?(?:P?<(?P<name>[^\W\d][\w.\[\]]*)>|(?P<look><?[=!]|>)|(?P<flags>[imsRUux]*(?:-[imsRUux]+)?)(?P<end>[:)])"
    r"|\((?P<condition>[0-9]{1,3}|<[^\W\d]\w*>|'[^\W\d]\w*')\)|(?P<comment>\#[^)]*\)))"
)
_PROPERTY = re.compile(r"([pP])(?:\{(\^?)([\w \-=:&]*)\}|([A-Za-z]))")
_HEX = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|[xuU]\{([0-9A-Fa-f]{1,8})\}")
_POSIX = re.compile(r"\[:(\^?)([a-z]+):\]")
_REFERENCE = re.compile(r"[1-9][0-9]{0,2}|k<([^\W\d]\w*)>|k'([^\W\d]\w*)'")
_WORD_EDGE = re.compile(r"b\{(start|end|start-half|end-half)\}|[<>]")
_CONTROLS = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v", "e": "\x1b"}
_WORD_EDGES = {
    "start": r"(?:(?<!\w)(?=\w))", "<": r"(?:(?<!\w)(?=\w))", "end": r"(?:(?<=\w)(?!\w))", ">": r"(?:(?<=\w)(?!\w))",
    "start-half": r"(?<!\w)", "end-half": r"(?!\w)",
}  # fmt: skip
_OPERATORS = ("&&", "--", "~~")


class NotRegular(ValueError):
    """A pattern is right, but not for RE2."""


def to_re2(pattern: str) -> str:
    """The pattern as RE2 writes it. Raises NotRegular, and ValueError that says where the pattern is wrong."""
    return _Reader(pattern, for_python=False).read()


def to_python(pattern: str) -> str:
    """The pattern as Python writes it. Raises ValueError."""
    return _Reader(pattern, for_python=True).read()


def escape(text: str) -> str:
    """The text as a pattern that matches it alone."""
    return re.sub(r"[\\.+*?()|\[\]{}^$#&\-~]", r"\\\g<0>", text)


class _Set(NamedTuple):
    """Characters: as what stands between brackets in RE2 and in Python, where they can say it, and as ranges."""

    re2: str | None
    python: str | None
    ranges: Callable[[], Ranges | None]


def _of_ranges(ranges: Ranges) -> _Set:
    re2 = "".join(rf"\x{{{low:x}}}" + (rf"-\x{{{high:x}}}" if high > low else "") for low, high in ranges)
    python = "".join(rf"\U{low:08x}" + (rf"-\U{high:08x}" if high > low else "") for low, high in ranges)
    return _Set(re2, python, lambda: ranges)


def _joined(parts: list[_Set]) -> _Set:
    if len(parts) == 1:
        return parts[0]

    def ranges() -> Ranges | None:
        found = [part.ranges() for part in parts]
        return None if None in found else union(*(one for one in found if one is not None))

    re2, python = [part.re2 for part in parts], [part.python for part in parts]
    return _Set(
        None if None in re2 else "".join(one for one in re2 if one is not None),
        None if None in python else "".join(one for one in python if one is not None),
        ranges,
    )


def _worked_out(one: _Set, how: Callable[[Ranges], Ranges]) -> _Set:
    ranges = one.ranges()
    if ranges is None:
        raise ValueError("a script or other property cannot be combined like this in a class")
    return _of_ranges(how(ranges))


@dataclass(slots=True)
class _Group:
    """An open group: what it changed until its end."""

    verbose: bool = False
    unicode: bool = True
    multi_line: bool = False
    python_end: str = ")"
    python_or: str = "|"
    scopes: list[str] = field(default_factory=list)
    """Groups that stand for flags set in the middle, which Python takes at the start of a group only."""


class _Reader:
    def __init__(self, pattern: str, *, for_python: bool) -> None:
        if len(pattern) > MAX_LENGTH:
            raise ValueError(f"the pattern is longer than {MAX_LENGTH} characters")
        self.pattern = pattern
        self.for_python = for_python
        self.at = 0
        self.out: list[str] = []
        self.groups = [_Group(python_end="")]
        self.names: set[str] = set()

    def read(self) -> str:
        while self.at < len(self.pattern):
            self.one()
        if len(self.groups) > 1:
            raise ValueError("the pattern has a ( without its )")
        self.close()
        return "".join(self.out)

    # -- writing ---------------------------------------------------------------------------------------------------
    def emit(self, re2: str | None, python: str | None, what: str = "") -> None:
        """Write one of them; without it the pattern has to be for the other."""
        text = python if self.for_python else re2
        if text is None:
            if self.for_python:
                raise ValueError(f"the pattern cannot have {what} together with look-around and the like")
            raise NotRegular(f"the pattern has {what}, which takes more than linear time")
        self.out.append(text)

    def literal(self, char: str) -> None:
        plain = char.isalnum() or char in "_ "
        hidden = not char.isprintable() and ord(char) < 128
        self.emit(
            rf"\x{{{ord(char):x}}}" if hidden else char if plain or ord(char) > 127 else f"\\{char}",
            char if plain else re.escape(char),
        )

    def emit_set(self, found: _Set, *, negated: bool = False) -> None:
        text = found.python if self.for_python else found.re2
        if text is None and (ranges := found.ranges()) is not None:
            spelled = _of_ranges(ranges)
            text = spelled.python if self.for_python else spelled.re2
        if text is None:
            raise ValueError(
                "a script or other property cannot be used together with look-around and the like"
            )
        if text:
            text = f"[{'^' if negated else ''}{text}]"
        else:
            text = (
                "(?s:.)" if negated else r"[^\x00-\U0010ffff]" if self.for_python else r"[^\x{0}-\x{10ffff}]"
            )
        self.out.append(text)

    def error(self, what: str, at: int | None = None) -> ValueError:
        at = self.at if at is None else at
        shown = self.pattern[at : at + 20]
        return ValueError(f"the pattern is wrong at character {at + 1}, '{shown}': {what}")

    # -- reading ---------------------------------------------------------------------------------------------------
    def one(self) -> None:
        char = self.pattern[self.at]
        group = self.groups[-1]
        match char:
            case "\\":
                self.escaped()
            case "[":
                found, negated = self.char_class(0)
                self.emit_set(found, negated=negated)
            case "(":
                self.open()
            case ")":
                if len(self.groups) == 1:
                    raise self.error("there is no ( for this )")
                self.close()
                self.groups.pop()
                self.at += 1
            case "|":
                ends = ")" * len(group.scopes)
                self.emit("|", f"{ends}{group.python_or}{''.join(group.scopes)}")
                self.at += 1
            case "*" | "+" | "?" | "{":
                self.repeat()
            case ".":
                self.emit(".", ".")
                self.at += 1
            case "^":
                self.emit("^", "^")
                self.at += 1
            case "$":
                self.emit("$", "$" if group.multi_line else r"\Z")
                self.at += 1
            case "#" if group.verbose:
                end = self.pattern.find("\n", self.at)
                self.at = len(self.pattern) if end < 0 else end
            case _ if group.verbose and char.isspace():
                self.at += 1
            case _:
                self.literal(char)
                self.at += 1

    def open(self) -> None:
        if len(self.groups) > MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} groups are nested")
        outer = self.groups[-1]
        group = _Group(outer.verbose, outer.unicode, outer.multi_line)
        if not self.pattern.startswith("(?", self.at):
            self.emit("(", "(")
            self.groups.append(group)
            self.at += 1
            return
        match = _GROUP.match(self.pattern, self.at)
        if match is None:
            raise self.error("there is no such group")
        if match["comment"]:
            self.at = match.end()
            return
        if match["flags"] is not None:
            self.flags(match, group)
            return
        if match["name"]:
            if match["name"] in self.names:
                raise self.error("another group has that name")
            self.names.add(match["name"])
            self.emit(f"(?P<{match['name']}>", f"(?P<{match['name']}>")
        elif match["condition"]:
            name = match["condition"].strip("<>'")
            self.emit(None, f"(?({name})", "a condition")
        elif match["look"].startswith("<"):
            # Python wants a fixed width: so each alternative looks behind for itself.
            self.emit(None, f"(?:(?{match['look']}", "look-around")
            group.python_end = "))"
            group.python_or = f")|(?{match['look']}" if match["look"] == "<=" else f")(?{match['look']}"
        else:
            self.emit(
                None, f"(?{match['look']}", "an atomic group" if match["look"] == ">" else "look-around"
            )
        self.groups.append(group)
        self.at = match.end()

    def flags(self, match: re.Match[str], group: _Group) -> None:
        on, _, off = match["flags"].partition("-")
        if "R" in on:
            raise self.error("the flag R is not supported")
        target = group if match["end"] == ":" else self.groups[-1]
        for flag, name in (("x", "verbose"), ("u", "unicode"), ("m", "multi_line")):
            if flag in on + off:
                setattr(target, name, flag in on)
        texts = []
        for known in ("imsU", "ims"):
            yes = "".join(flag for flag in known if flag in on)
            no = "".join(flag for flag in known if flag in off)
            texts.append(f"{yes}-{no}" if no else yes)
        re2, python = texts
        if "U" in on + off:
            self.emit("", None, "the flag U")
        if match["end"] == ":":
            self.emit(f"(?{re2}:", f"(?{python}:")
            self.groups.append(group)
        elif re2 or python:
            scope = f"(?{python}:"
            self.emit(f"(?{re2})" if re2 else "", scope)
            target.scopes.append(scope)
        self.at = match.end()

    def close(self) -> None:
        group = self.groups[-1]
        self.emit(")" if len(self.groups) > 1 else "", ")" * len(group.scopes) + group.python_end)

    def repeat(self) -> None:
        count = _COUNT.match(self.pattern, self.at)
        if self.pattern[self.at] == "{":
            if count is None or not (count[1] or count[3]):
                self.literal("{")
                self.at += 1
                return
            low, high = count[1] or "0", count[3] or ""
            if high and int(high) < int(low):
                raise self.error(f"a repetition cannot go from {low} to {high}")
            text = f"{{{low}{count[2] or ''}{high}}}"
            fits = max(int(low), int(high or 0)) <= RE2_MAX_REPEAT
            self.emit(text if fits else None, text, f"a repetition of more than {RE2_MAX_REPEAT}")
            self.at = count.end()
        else:
            self.emit(self.pattern[self.at], self.pattern[self.at])
            self.at += 1
        if self.pattern.startswith("?", self.at):
            self.emit("?", "?")
            self.at += 1
        elif self.pattern.startswith("+", self.at):
            self.emit(None, "+", "possessive repetition")
            self.at += 1

    def escaped(self) -> None:
        start = self.at
        self.at += 1
        if self.at >= len(self.pattern):
            raise self.error("nothing follows the backslash", start)
        char = self.pattern[self.at]
        if edge := _WORD_EDGE.match(self.pattern, self.at):
            self.emit(None, _WORD_EDGES[edge[1] or edge[0]], "a word's start or end")
            self.at = edge.end()
        elif reference := _REFERENCE.match(self.pattern, self.at):
            name = reference[1] or reference[2]
            self.emit(None, f"(?P={name})" if name else rf"(?:\{reference[0]})", "a back-reference")
            self.at = reference.end()
        elif char in "bBA":
            self.emit(f"\\{char}", f"\\{char}")
            self.at += 1
        elif char == "z":
            self.emit(r"\z", r"\Z")
            self.at += 1
        elif char == "Z":
            self.emit(None, r"(?=\n?\Z)", r"\Z")
            self.at += 1
        elif (found := self.named_set(start)) is not None:
            self.emit_set(found)
        else:
            self.literal(self.character(start))

    def named_set(self, start: int) -> _Set | None:
        """What \\d, \\w, \\p{L} and the like stand for, if that is what comes after a backslash."""
        char = self.pattern[self.at]
        if match := _PROPERTY.match(self.pattern, self.at):
            self.at = match.end()
            name = match[4] or match[3]
            return self.property(name, negated=(match[1] == "P") != bool(match[2]), start=start)
        if char.lower() not in "dswh" or not char.isascii():
            return None
        self.at += 1
        negated, kind = char.isupper(), char.lower()
        if kind == "h":
            ranges = char_class.POSIX["xdigit"]
            return _of_ranges(complement(ranges) if negated else ranges)
        if not self.groups[-1].unicode:
            ranges = char_class.POSIX[{"d": "digit", "s": "space", "w": "word"}[kind]]
            return _of_ranges(complement(ranges) if negated else ranges)
        if kind == "d":
            return _Set(
                r"\P{Nd}" if negated else r"\p{Nd}",
                f"\\{char}",
                lambda: complement(char_class.categories("Nd")) if negated else char_class.categories("Nd"),
            )
        if kind == "s":
            spaces = char_class.SPACES
            return _of_ranges(complement(spaces) if negated else spaces)._replace(python=f"\\{char}")
        parts = char_class.WORD_CATEGORIES
        words = "".join(rf"\p{{{name}}}" for name in parts)
        if negated:
            return _Set(None, r"\W", lambda: complement(char_class.categories(*parts)))
        return _Set(words, r"\w", lambda: char_class.categories(*parts))

    def property(self, name: str, *, negated: bool, start: int) -> _Set:
        short = char_class.category(name)
        if short is not None:
            letter = "P" if negated else "p"

            def ranges() -> Ranges:
                found = char_class.categories(short)
                return complement(found) if negated else found

            return _Set(rf"\{letter}{{{short}}}", None, ranges)
        known = char_class.property_ranges(name)
        if known is not None:
            return _of_ranges(complement(known) if negated else known)
        script = name.rpartition("=")[2].rpartition(":")[2]
        if not script.isidentifier():
            raise self.error("there is no such property", start)
        return _Set(rf"\{'P' if negated else 'p'}{{{script.title()}}}", None, lambda: None)

    def character(self, start: int) -> str:
        """The one character that an escape stands for."""
        char = self.pattern[self.at]
        if match := _HEX.match(self.pattern, self.at):
            code = int(next(group for group in match.groups() if group), 16)
            if code > char_class.LAST or 0xD800 <= code <= 0xDFFF:
                raise self.error("there is no such character", start)
            self.at = match.end()
            return chr(code)
        self.at += 1
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char == "0" or char.isalnum() or ord(char) > 127:
            raise self.error("there is no such escape", start)
        return char

    # -- classes ---------------------------------------------------------------------------------------------------
    def char_class(self, depth: int) -> tuple[_Set, bool]:
        """What stands from [ to ], and whether it is negated."""
        start = self.at
        if depth > MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} classes are nested")
        self.at += 1
        negated = self.pattern.startswith("^", self.at)
        self.at += negated
        parts: list[_Set] = []
        left: _Set | None = None
        operator = ""
        first = True
        while True:
            if self.at >= len(self.pattern):
                raise self.error("this [ has no ]", start)
            char = self.pattern[self.at]
            if char == "]" and not first:
                self.at += 1
                break
            pair = self.pattern[self.at : self.at + 2]
            if pair in _OPERATORS and not first:
                left, operator, parts = self.combined(left, operator, parts), pair, []
                self.at += 2
                continue
            if self.groups[-1].verbose and char.isspace():
                self.at += 1
                continue
            first = False
            parts.append(self.class_item(depth))
        return self.combined(left, operator, parts), negated

    def combined(self, left: _Set | None, operator: str, parts: list[_Set]) -> _Set:
        right = _joined(parts) if parts else _of_ranges(())
        if left is None:
            return right
        ours, theirs = left.ranges(), right.ranges()
        if ours is None or theirs is None:
            raise self.error("a script or other property cannot be combined like this in a class")
        if operator == "&&":
            return _of_ranges(intersection(ours, theirs))
        if operator == "--":
            return _of_ranges(intersection(ours, complement(theirs)))
        return _of_ranges(intersection(union(ours, theirs), complement(intersection(ours, theirs))))

    def class_item(self, depth: int) -> _Set:
        start = self.at
        char = self.pattern[start]
        if char == "[":
            if posix := _POSIX.match(self.pattern, start):
                found = char_class.POSIX.get(posix[2])
                if found is None:
                    raise self.error("there is no such class")
                self.at = posix.end()
                return _of_ranges(complement(found) if posix[1] else found)
            inner, negated = self.char_class(depth + 1)
            return _worked_out(inner, complement) if negated else inner
        if char == "\\":
            self.at += 1
            if self.at >= len(self.pattern):
                raise self.error("nothing follows the backslash", start)
            named = self.named_set(start)
            if named is not None:
                return named
            low = "\b" if self.pattern[self.at] == "b" else ""
            self.at += bool(low)
            low = low or self.character(start)
        else:
            low = char
            self.at += 1
        high = low
        following = self.pattern[self.at : self.at + 2]
        if following.startswith("-") and len(following) == 2 and following[1] not in "]-":
            self.at += 1
            if self.pattern[self.at] == "\\":
                self.at += 1
                if self.at >= len(self.pattern):
                    raise self.error("nothing follows the backslash", start)
                high = self.character(start)
            else:
                high = self.pattern[self.at]
                self.at += 1
            if high < low:
                raise self.error(f"a range cannot go from '{low}' to '{high}'", start)
        return _of_ranges(((ord(low), ord(high)),))
