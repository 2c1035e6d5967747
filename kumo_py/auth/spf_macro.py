"""SPF's macro strings (RFC 7208 section 7): parsed once, expanded for a message.

Time and size are linear in the text and in what is put in; a domain-spec is limited to `MAX_SPEC` characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SPEC = 1024
_MAX_NAME = 253

_EXPAND = re.compile(r"%(?:([%_-])|\{([slodiphcrtv])([0-9]{0,6})(r?)([.\-+,/_=]*)\})", re.IGNORECASE)
_ESCAPES = {"%": "%", "_": " ", "-": "%20"}
_ONLY_IN_EXPLANATIONS = "crt"
_LITERAL = re.compile(r"[!-$&-~]*")
_LITERAL_OR_SPACE = re.compile(r"[ -$&-~]*")
_TOP_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_DIGITS = re.compile(r"[0-9]+")


class SpfSyntaxError(ValueError):
    """What a domain published is not what RFC 7208 allows. The text quotes it, in printable ASCII."""


@dataclass(slots=True, frozen=True)
class Macro:
    """`%{…}`: which value, and how it is cut and put together."""

    letter: str
    """Lower case."""
    keep: int
    """How many parts are kept, from the right; 0 for all."""
    is_reversed: bool
    delimiters: str
    is_escaped: bool
    """For use in a URL."""

    def apply(self, value: str) -> str:
        delimiter = "."
        if self.delimiters:
            delimiter = self.delimiters[0]
            for other in self.delimiters[1:]:
                value = value.replace(other, delimiter)
        parts = value.split(delimiter)
        if self.is_reversed:
            parts.reverse()
        text = ".".join(parts[-self.keep :])
        return quote(text, safe="-._~") if self.is_escaped else text


MacroString = tuple[str | Macro, ...]


def shown(text: str) -> str:
    """A stranger's text, fit for an error message."""
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")


def parse_macros(text: str, *, in_explanation: bool = False) -> MacroString:
    """Read a macro-string; in an explanation it may have spaces and more macros. Raises SpfSyntaxError."""
    literal = _LITERAL_OR_SPACE if in_explanation else _LITERAL
    parts: list[str | Macro] = []
    end = 0
    for found in _EXPAND.finditer(text):
        parts.append(_literal(text[end : found.start()], literal))
        end = found.end()
        escape, letter, digits, reverse, delimiters = found.groups()
        if escape:
            parts.append(_ESCAPES[escape])
            continue
        if letter.lower() in _ONLY_IN_EXPLANATIONS and not in_explanation:
            raise SpfSyntaxError(f"the macro {shown(found[0])} is for explanations only")
        if digits and int(digits) == 0:
            raise SpfSyntaxError(f"the macro {shown(found[0])} keeps no part at all")
        parts.append(Macro(letter.lower(), int(digits or 0), bool(reverse), delimiters, letter.isupper()))
    parts.append(_literal(text[end:], literal))
    return tuple(part for part in parts if part != "")


def parse_domain_spec(text: str) -> MacroString:
    """Read a macro-string that ends in a macro or in a top-level label (section 7.1). Raises SpfSyntaxError."""
    if len(text) > MAX_SPEC:
        raise SpfSyntaxError(f"the domain {shown(text)} is longer than {MAX_SPEC} characters")
    parts = parse_macros(text)
    if not _ends_in_macro(text):
        rest, dot, label = text.removesuffix(".").rpartition(".")
        if not dot or not rest or not _TOP_LABEL.fullmatch(label) or _DIGITS.fullmatch(label):
            raise SpfSyntaxError(f"{shown(text)} is no domain name")
    return parts


def _ends_in_macro(text: str) -> bool:
    last = None
    for last in _EXPAND.finditer(text):  # noqa: B007  # the last one is wanted
        pass
    return last is not None and last.end() == len(text)


def _literal(text: str, allowed: re.Pattern[str]) -> str:
    if not allowed.fullmatch(text):
        raise SpfSyntaxError(f"{shown(text)} has a character or a macro that is not allowed")
    return text


def expand(parts: MacroString, value_of: Callable[[str], str]) -> str:
    """The text, with `value_of(letter)` for the macros."""
    return "".join(part if isinstance(part, str) else part.apply(value_of(part.letter)) for part in parts)


def shortened(name: str) -> str:
    """A domain name of at most 253 characters: labels go from the left (section 7.3), the final dot in any case."""
    name = name.removesuffix(".")
    while len(name) > _MAX_NAME:
        cut = name.find(".", len(name) - _MAX_NAME - 1)
        name = name[cut + 1 :] if cut >= 0 else ""
    return name
