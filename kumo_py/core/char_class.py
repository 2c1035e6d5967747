"""Bracketed classes of characters, as Rust's regex crate writes them: nested, negated, `&&`, `--`, `~~`.

A class is a list of code point ranges, sorted and apart. Unicode's general categories come from Python's own
tables; scripts and other properties are known to RE2 only, so they cannot be part of a class that has to be
worked out here.
"""

from __future__ import annotations

import unicodedata
from functools import cache

Ranges = tuple[tuple[int, int], ...]

LAST = 0x10FFFF
SPACES: Ranges = (
    (9, 13), (32, 32), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
)  # fmt: skip
"""Unicode's White_Space."""
POSIX: dict[str, Ranges] = {
    "alnum": ((48, 57), (65, 90), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 31), (127, 127)),
    "digit": ((48, 57),),
    "graph": ((33, 126),),
    "lower": ((97, 122),),
    "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),),
    "word": ((48, 57), (65, 90), (95, 95), (97, 122)),
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}
WORD_CATEGORIES = ("L", "M", "Nd", "Nl", "Pc")
"""What \\w is made of, but for two invisible joiners."""
_LONG_NAMES = {
    "letter": "L", "uppercaseletter": "Lu", "lowercaseletter": "Ll", "titlecaseletter": "Lt", "modifierletter": "Lm",
    "otherletter": "Lo", "mark": "M", "nonspacingmark": "Mn", "spacingmark": "Mc", "enclosingmark": "Me",
    "number": "N", "decimalnumber": "Nd", "letternumber": "Nl", "othernumber": "No", "punctuation": "P", "punct": "P",
    "connectorpunctuation": "Pc", "dashpunctuation": "Pd", "openpunctuation": "Ps", "closepunctuation": "Pe",
    "initialpunctuation": "Pi", "finalpunctuation": "Pf", "otherpunctuation": "Po", "symbol": "S", "mathsymbol": "Sm",
    "currencysymbol": "Sc", "modifiersymbol": "Sk", "othersymbol": "So", "separator": "Z", "spaceseparator": "Zs",
    "lineseparator": "Zl", "paragraphseparator": "Zp", "other": "C", "control": "Cc", "format": "Cf",
    "privateuse": "Co", "uppercase": "Lu", "upper": "Lu", "lowercase": "Ll", "lower": "Ll",
}  # fmt: skip
_CATEGORIES = frozenset(_LONG_NAMES.values())


def union(*parts: Ranges) -> Ranges:
    """What is in any of them."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(span for part in parts for span in part):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(high, found[-1][1])
        else:
            found.append((low, high))
    return tuple(found)


def complement(part: Ranges) -> Ranges:
    """All that is not in it."""
    found, next_ = [], 0
    for low, high in part:
        if low > next_:
            found.append((next_, low - 1))
        next_ = high + 1
    if next_ <= LAST:
        found.append((next_, LAST))
    return tuple(found)


def intersection(one: Ranges, other: Ranges) -> Ranges:
    """What is in both."""
    return complement(union(complement(one), complement(other)))


def category(name: str) -> str | None:
    """The short name of a general category; None for what is none, such as a script."""
    _, _, value = name.rpartition("=")
    if value in _CATEGORIES:
        return value
    return _LONG_NAMES.get(value.lower().replace("_", "").replace("-", "").replace(" ", ""))


def property_ranges(name: str) -> Ranges | None:
    """The characters of a property; None for one that only RE2 knows."""
    match name.lower():
        case "any":
            return ((0, LAST),)
        case "ascii":
            return POSIX["ascii"]
        case "white_space" | "whitespace" | "space":
            return SPACES
        case "alphabetic" | "alpha":
            return categories("L", "Nl")
    short = category(name)
    return None if short is None else categories(short)


@cache
def categories(*names: str) -> Ranges:
    """The characters whose category is one of these, or starts with one of these letters."""
    return union(*(spans for name, spans in _by_category().items() if name.startswith(names)))


@cache
def _by_category() -> dict[str, Ranges]:
    spans: dict[str, list[tuple[int, int]]] = {
        "Co": [(0xE000, 0xF8FF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD)]
    }
    # What lies between and behind is unassigned, in every Unicode so far, as are the gaps.
    for code in (*range(0xE000), *range(0xF900, 0x33500), *range(0xE0000, 0xE0200)):
        name = unicodedata.category(chr(code))
        if name == "Cn":
            continue
        found = spans.setdefault(name, [])
        if found and found[-1][1] == code - 1:
            found[-1] = found[-1][0], code
        else:
            found.append((code, code))
    unassigned = complement(union(*(tuple(found) for found in spans.values())))
    return {**{name: tuple(found) for name, found in spans.items()}, "Cn": unassigned}
