"""A guess at the charset of a text that does not say it, or says it wrongly.

A heuristic of our own: a charset fits if all octets are characters of it, and the characters look like words:
letters of one script, no capital after a small letter, CJK characters from the rows of those in common use. Bounded by
SAMPLE octets, each looked at once for each charset.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from kumo_py.core.suggest import nearest
from kumo_py.message.charset import decode_as, find_codec

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE = 8192
MIN_OCTETS = 8
"""Less text than this says nothing."""

# Of equally good ones the first wins: what is most common in mail comes first.
ENCODINGS = (
    "iso-2022-jp", "utf-8", "windows-1252", "shift_jis", "euc-jp", "euc-kr", "big5", "gb18030", "koi8-r",
    "windows-1251", "iso-8859-2", "windows-1250", "windows-1253", "windows-1254", "windows-1255", "windows-1256",
    "windows-1257", "windows-1258", "windows-874", "iso-8859-5", "iso-8859-7", "iso-8859-6", "iso-8859-8",
    "iso-8859-15", "iso-8859-3", "iso-8859-4", "iso-8859-10", "iso-8859-13", "iso-8859-14", "iso-8859-16",
    "koi8-u", "gbk", "macintosh", "x-mac-cyrillic", "utf-16le", "utf-16be",
)  # fmt: skip
_BY_BOM = {b"\xff\xfe": "utf_16_le", b"\xfe\xff": "utf_16_be"}
_WIDE = ("utf_16_le", "utf_16_be")
_JAPANESE = ("cp932", "euc_jp")
_COMMON_ROWS = {
    "cp932": bytes((0x81, 0x82, 0x83, *range(0x88, 0x98))),
    "euc_jp": bytes((0xA1, 0xA4, 0xA5, *range(0xB0, 0xD0))),
    "cp949": bytes((0xA1, *range(0xB0, 0xC9))),
    "big5hkscs": bytes((0xA1, *range(0xA4, 0xC7))),
    "gb18030": bytes((0xA1, 0xA3, *range(0xB0, 0xD8))),
}
"""First octets of the characters that make up nearly all text."""


def detected(data: bytes, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> str | None:
    """The text of octets whose charset is guessed among `include`, or all that are known, without `exclude`.

    None if no charset fits. Raises ValueError for the name of a charset that is not known.
    """
    codecs = _codecs(include or ENCODINGS)
    unwanted = set(_codecs(exclude))
    candidates = [codec for codec in codecs if codec not in unwanted]
    if len(data) < MIN_OCTETS:
        return None
    scores = [(score, -n, codec) for n, codec in enumerate(candidates) if (score := _score(data, codec)) > 0]
    for _, _, codec in sorted(scores, reverse=True):
        try:
            return decode_as(data, codec)
        except UnicodeError:
            continue
    return None


def _codecs(names: Sequence[str]) -> list[str]:
    found = []
    for name in names:
        codec = find_codec(name)
        if codec is None:
            near = nearest(name, ENCODINGS)
            raise ValueError(f"unknown charset '{name}'" + (f", did you mean '{near}'?" if near else ""))
        found.append(codec)
    return list(dict.fromkeys(found))


def _score(data: bytes, codec: str) -> float:
    """How well a charset fits: 0 if not at all."""
    if codec in _WIDE and _BY_BOM.get(data[:2]) != codec:
        return 0
    if codec == "iso2022_jp_2" and b"\x1b" not in data:
        return 0
    sample = data[:SAMPLE]
    for cut in range(4 if len(data) > SAMPLE else 1):  # the sample may end within a character
        try:
            text = decode_as(sample[: len(sample) - cut], codec)
            break
        except UnicodeError:
            continue
    else:
        return 0
    if codec in ("utf_8", *_WIDE, "iso2022_jp_2"):
        return 2.0  # nothing else looks like these
    rows = _COMMON_ROWS.get(codec)
    return _likeness(text) if rows is None else _likeness_of_rows(text, codec, rows)


def _likeness_of_rows(text: str, codec: str, rows: bytes) -> float:
    characters = [char for char in text if char >= "\x80"]
    if codec in _JAPANESE and not any("\u3041" <= char <= "\u30fe" for char in characters):
        return 0.0
    common = sum(char.encode(codec)[0] in rows for char in characters)
    return max(0.0, 3 * common / len(characters) - 2) if characters else 0.0


def _likeness(text: str) -> float:
    """From 0 to 1: how much the characters outside ASCII look as if somebody wrote them."""
    good = bad = 0.0
    before = " "
    for char in text:
        if char >= "\x80":
            category = unicodedata.category(char)
            if category in ("Cc", "Cn", "Co"):
                bad += 4
            elif category == "Lu" and before.islower():
                bad += 1
            elif category == "Lu" and before.isalpha():
                good += 1
                bad += 0.2
            elif category[0] in "LM":
                good += 1
                if before >= "\x80" and before.isalpha() and _script(char) == "LATIN":
                    bad += 0.2  # languages with Latin letters seldom have two accents in a row
                elif before.isalpha() and category != "Mn" and _script(before) != _script(char):
                    bad += 1
            elif category in ("Sc", "Pd", "Pi", "Pf", "Po", "Zs"):
                good += 0.5
            else:
                bad += 0.5
        before = char
    return max(0.0, 1 - 2 * bad / (good + bad)) if good else 0.0


def _script(char: str) -> str:
    """The first word of the character's name: LATIN, GREEK, CYRILLIC …"""
    return unicodedata.name(char, "?").partition(" ")[0]
