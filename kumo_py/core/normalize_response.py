"""Responses of SMTP servers without what differs from message to message, so that alike ones can be counted together
(KumoMTA's `normalize_smtp_response`).

Words that are a time, an id, an address or the like give way to what they are, in braces. It is a matter of taste
what looks like an id: nobody should rely on it to take personal data out.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address

from kumo_py.core.uuids import parse_uuid

_DURATION_MARK = "\ue000"
_UNITS = "(?:ns|us|ms|s|m|h|day|month|year)"
_DURATION = re.compile(rf"\b\d+{_UNITS}(?:\s+\d+{_UNITS})*\b", re.ASCII)
_ISO_DURATION = re.compile(
    r"P(?=.*\d)" + "".join(rf"(?:\d+(?:\.\d+)?{unit})?" for unit in "YMWD") + "(?:T"
    + "".join(rf"(?:\d+(?:\.\d+)?{unit})?" for unit in "HMS") + ")?",
    re.ASCII,
)  # fmt: skip
_TIMESTAMP = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])[Tt](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?"
    r"(?:[Zz]|[+-]\d\d:[0-5]\d)",
    re.ASCII,
)
# Brackets around words; with a closing one goes the punctuation behind it.
_BRACKETS = re.compile(r"(?:^|\s)[\[({]|[\])}](?:[\s!-/:-@\[-`{-~]|$)", re.ASCII)
_IPV4 = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?", re.ASCII)
_PORT = re.compile(r":\d{1,5}$", re.ASCII)
_BASE64 = re.compile(r"(?:[\w+/-]{4})+(?:[\w+/-]{2}==|[\w+/-]{3}=)?", re.ASCII)
_ATOM = r"[\w!#$%&'*+/=?^`{|}~-]+"
_LABEL = r"[a-zA-Z0-9](?:[\w-]*[a-zA-Z0-9])?"
_EMAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+{_LABEL}", re.ASCII)
_KNOWN = frozenset(
    "helo ehlo rcpt vrfy smtp esmtp lmtp arc bimi dkim dmarc dns rbl spf surbl uuid spamcop".split()  # noqa: SIM905
)
_MAX_ASSIGNMENTS = 8
"""Of `a=b=c` in one word."""


def normalize_smtp_response(text: str) -> str:
    """The text with words replaced by {timestamp}, {duration}, {uuid}, {hash}, {ipaddr}, {base64} and {email}, brackets
    around words taken off, and single spaces between words.
    """
    text = _BRACKETS.sub(" ", _DURATION.sub(_DURATION_MARK, text))
    words = " ".join(_normalized(word) for word in text.split())
    return words.replace(_DURATION_MARK, "{duration}")


def _normalized(word: str) -> str:
    """What stands for a word, or for what is behind its equals signs."""
    rest = word
    for _ in range(_MAX_ASSIGNMENTS):
        kind = _kind(rest)
        if kind is not None:
            return f"{word[: len(word) - len(rest)]}{{{kind}}}"
        _, equals, rest = rest.partition("=")
        if not equals:
            break
    return word


def _kind(word: str) -> str | None:
    if word == _DURATION_MARK or _ISO_DURATION.fullmatch(word):
        return "duration"
    if _TIMESTAMP.fullmatch(word):
        return "timestamp"
    if _is_uuid(word):
        return "uuid"
    if _is_hash(word):
        return "hash"
    if _IPV4.fullmatch(word) or _is_ipv6(word):
        return "ipaddr"
    if _BASE64.fullmatch(word) and not _is_word(word):
        return "base64"
    return "email" if _EMAIL.fullmatch(word) else None


def _is_uuid(word: str) -> bool:
    try:
        parse_uuid(word)
    except ValueError:
        return False
    return True


def _is_ipv6(word: str) -> bool:
    if word.count(":") < 2:
        return False
    for text in (word, _PORT.sub("", word)):
        try:
            IPv6Address(text)
        except ValueError:
            continue
        return True
    return False


def _is_hash(word: str) -> bool:
    """Whether letters and digits are mixed as only machines do."""
    if len(word) < 8 or not word.isascii() or not word.translate(_NO_SEPARATORS).isalnum():
        return False
    digits = sum(char.isdigit() for char in word)
    letters = sum(char.isalpha() for char in word)
    return letters > 2 and digits > 2


_NO_SEPARATORS = str.maketrans("", "", "-._")


def _is_word(word: str) -> bool:
    """Whether it can be read: letters in one case, a vowel among them. KumoMTA asks a dictionary."""
    if word.lower() in _KNOWN:
        return True
    in_one_case = word.islower() or word.isupper() or word.istitle()
    return word.isalpha() and in_one_case and not set(word.lower()).isdisjoint("aeiouy")
