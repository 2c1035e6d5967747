"""Cuts a Handlebars template into texts and tags, white space already trimmed. Linear in the source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

_TAG_END = re.compile(r"""(?:[^"'}]|"[^"]*"|'[^']*'|\}(?!\}))*\}\}""")


class HandlebarsError(ValueError):
    """A template is wrong, or went beyond its bounds. line: in its source, from 1; 0 if none is to blame."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


class Tag(NamedTuple):
    """A tag that is no comment."""

    text: str
    """Without braces, `~`, and white space at its ends."""
    is_triple: bool
    line: int

    @property
    def is_else(self) -> bool:
        return not self.is_triple and (self.text[:1] == "^" or self.text.split(None, 1)[:1] == ["else"])


@dataclass(slots=True)
class _Cut:
    """A tag or a comment, as it was found."""

    tag: Tag | None
    trims_before: bool
    trims_after: bool

    @property
    def may_stand_alone(self) -> bool:
        """Whether a line that holds nothing else goes with it."""
        if self.trims_before or self.trims_after:
            return False
        return self.tag is None or self.tag.text[:1] in ("#", "/") or self.tag.is_else


def split_tags(source: str) -> list[str | Tag]:
    """Raises HandlebarsError for a tag without an end."""
    texts, cuts = _cut(source)
    trimmed = texts[:]
    for n, cut in enumerate(cuts):
        if cut.trims_before:
            trimmed[n] = trimmed[n].rstrip()
        if cut.trims_after:
            trimmed[n + 1] = trimmed[n + 1].lstrip()
        if cut.may_stand_alone:
            before = texts[n].rpartition("\n")
            after = texts[n + 1].partition("\n")
            begins = not before[2].strip() and (bool(before[1]) or n == 0)
            ends = not after[0].strip() and (bool(after[1]) or n == len(cuts) - 1)
            if begins and ends:
                trimmed[n] = trimmed[n].rstrip(" \t")
                trimmed[n + 1] = trimmed[n + 1].lstrip(" \t\r").removeprefix("\n")
    pieces: list[str | Tag] = [trimmed[0]]
    for cut, text in zip(cuts, trimmed[1:], strict=True):
        if cut.tag is not None:
            pieces.append(cut.tag)
        pieces.append(text)
    return pieces


def _cut(source: str) -> tuple[list[str], list[_Cut]]:
    """Texts and what stands between them: one more text than cuts."""
    texts: list[str] = []
    cuts: list[_Cut] = []
    text: list[str] = []
    line, position = 1, 0
    while (start := source.find("{{", position)) >= 0:
        line += source.count("\n", position, start)
        slashes = 0
        while slashes < 2 and start - slashes > position and source[start - slashes - 1] == "\\":
            slashes += 1
        text.append(source[position : start - slashes])
        if slashes == 1:  # \{{a}} stands for {{a}}
            text.append("{{")
            position = start + 2
            continue
        if slashes == 2:
            text.append("\\")
        if source.startswith("{{{{", start):
            position, content = _raw_block(source, start, line)
            text.append(content)
        else:
            position, cut = _tag(source, start, line)
            texts.append("".join(text))
            text.clear()
            cuts.append(cut)
        line += source.count("\n", start, position)
    texts.append("".join([*text, source[position:]]))
    return texts, cuts


def _tag(source: str, start: int, line: int) -> tuple[int, _Cut]:
    inner = start + 2
    trims_before = source.startswith("~", inner)
    inner += trims_before
    if source.startswith("!--", inner):
        closings = [(at, mark) for mark in ("--}}", "--~}}") if (at := source.find(mark, inner + 3)) >= 0]
        if not closings:
            raise HandlebarsError("the comment that begins here has no --}}", line)
        at, mark = min(closings)
        return at + len(mark), _Cut(None, trims_before, "~" in mark)
    is_triple = source.startswith("{", inner)
    if is_triple or source.startswith("!", inner):
        close = "}" if is_triple else ""
        end = source.find(close + "}}", inner)
        tilde = source.find(close + "~}}", inner) if is_triple else -1
        if tilde >= 0 and (end < 0 or tilde < end):
            end, after = tilde, tilde + 4
        else:
            after = end + 2 + is_triple
    else:
        match = _TAG_END.match(source, inner)
        end, after = (match.end() - 2, match.end()) if match else (-1, -1)
    if end < 0:
        raise HandlebarsError("the tag that begins here has no end", line)
    text = source[inner + is_triple : end]
    trims_after = source[after - 3] == "~"
    if not is_triple:
        text = text.removesuffix("~")
    if text.startswith("!"):
        return after, _Cut(None, trims_before, trims_after)
    tag = Tag(text.strip(), is_triple, line)
    if not tag.text:
        raise HandlebarsError("the tag is empty", line)
    return after, _Cut(tag, trims_before, trims_after)


def _raw_block(source: str, start: int, line: int) -> tuple[int, str]:
    """A block whose content is taken as it is: where it ends, and the content."""
    opened = source.find("}}}}", start)
    closed = source.find("{{{{/", opened)
    end = source.find("}}}}", closed)
    if min(opened, closed, end) < 0 or not (
        source[start + 4 : opened].strip() == source[closed + 5 : end].strip() == "raw"
    ):
        raise HandlebarsError("a raw block is {{{{raw}}}} … {{{{/raw}}}}", line)
    return end + 4, source[opened + 4 : closed]
