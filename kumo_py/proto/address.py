"""Envelope addresses: the grammar of RFC 5321 §4.1.2 with the UTF-8 of RFC 6531 §3.3.

An accepted address is a plain `str` spelled as received: `local@domain`, `""` for the null sender, or
`"Postmaster"` for the recipient without a domain. It holds no control character, so it can be put into a
command, a header or a log line as it is. A source route is accepted and forgotten (RFC 5321 appendix F.2).

Like KumoMTA we tolerate a space after the colon, a path without its angle brackets and `_` inside a domain,
and leave the length of a local part to the line limit. A domain has at most 255 characters, a label 63.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

Params: TypeAlias = dict[str, str | None]

POSTMASTER = "Postmaster"

# UTF8-non-ASCII (RFC 6531 §3.3) without the C1 controls and without lone surrogates.
_UTF8 = r"\xa0-\ud7ff\ue000-\U0010ffff"
_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_ATOM = rf"[{_ATEXT}{_UTF8}]++"
_QUOTED = rf'"(?:[ !#-\[\]-~{_UTF8}]|\\[ -~])*+"'
_LABEL = rf"[A-Za-z0-9{_UTF8}][A-Za-z0-9_\-{_UTF8}]{{0,62}}+(?<!-)"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*+"
_LITERAL = r"\[[!-Z^-~]++\]"  # what stands inside is judged by _valid_literal
_MAILBOX = rf"(?:{_ATOM}(?:\.{_ATOM})*+|{_QUOTED})@(?:{_DOMAIN}|{_LITERAL})"
_PATH = rf"(?:<(?:@{_DOMAIN}(?:,@{_DOMAIN})*+:)?+({_MAILBOX})>|({_MAILBOX}))"
_ASCII_LABEL = r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}+(?<!-)"
# The dot-string mailbox in ASCII that nearly every address is, for whoever wants to match it fast.
ASCII_MAILBOX = rf"[{_ATEXT}]++(?:\.[{_ATEXT}]++)*+@{_ASCII_LABEL}(?:\.{_ASCII_LABEL})*+"
# esmtp-keyword ["=" esmtp-value] (RFC 5321 §4.1.2, RFC 6531 §3.3)
_PARAM = rf"[A-Za-z0-9][A-Za-z0-9-]*+(?:=[!-<>-~{_UTF8}]++)?+"

_match_path = re.compile(_PATH).match
_match_domain = re.compile(_DOMAIN).fullmatch
_match_params = re.compile(rf"{_PARAM}(?:[ \t]++{_PARAM})*+").fullmatch
_match_ipv6 = re.compile(r"(?ai:IPv6):([0-9A-Fa-f:.]++)").fullmatch
_match_ipv4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}").fullmatch
_match_tagged = re.compile(r"[A-Za-z0-9-]++:[!-Z^-~]++").fullmatch
_match_postmaster = re.compile(r"<(?ai:postmaster)>").match
_unescape = re.compile(r"\\(.)").sub


class AddressError(ValueError):
    """The text is no mail address."""


class ParameterError(ValueError):
    """The address is fine, what follows it is not `KEYWORD[=VALUE]` (RFC 5321 §4.1.2)."""


def parse_mail_path(arg: bytes | str) -> tuple[str, Params]:
    """Read what follows `MAIL FROM:` into (address, parameters); `<>` gives the address "".

    Parameter names are upper-cased; a parameter without "=" has the value None. Raises AddressError or
    ParameterError.
    """
    text = _text(arg)
    return _with_params("", text, 2) if text.startswith("<>") else _path(text)


def parse_rcpt_path(arg: bytes | str) -> tuple[str, Params]:
    """Read what follows `RCPT TO:`, as parse_mail_path does; `<postmaster>` gives "Postmaster"."""
    text = _text(arg)
    return _with_params(POSTMASTER, text, 12) if _match_postmaster(text) else _path(text)


def parse_address(text: str) -> str:
    """Validate an address given by a policy or an HTTP client and return it bare.

    Accepts what KumoMTA accepts there: a mailbox or a path, `postmaster` and the null sender, with or without
    angle brackets. Raises AddressError.
    """
    if text in ("", "<>"):
        return ""
    if text.lower() == "postmaster" or (len(text) == 12 and _match_postmaster(text)):
        return POSTMASTER
    match = _match_path(text)
    if match is None or match.end() != len(text):
        raise _not_an_address(text)
    return _checked(match[1] or match[2], text)


def split_address(addr: str) -> tuple[str, str]:
    """Split an accepted address into (local part, domain), as the Lua fields `user` and `domain` show them.

    Quotes and backslashes of a quoted local part are removed. The null sender is ("", ""), the postmaster
    without a domain is ("postmaster", "").
    """
    # A general address literal may hold an "@" of its own.
    at = addr.rfind("@[") if addr.endswith("]") else addr.rfind("@")
    if at < 0:
        return addr.lower(), ""
    local = addr[:at]
    if local.startswith('"'):
        local = _unescape(r"\1", local[1:-1])
    return local, addr[at + 1 :]


def valid_domain(text: str) -> bool:
    """True for a domain name or an address literal: what EHLO, HELO and LHLO name (RFC 5321 §4.1.1.1)."""
    if text.startswith("["):
        return text.endswith("]") and _valid_literal(text[1:-1])
    return len(text) <= 255 and _match_domain(text) is not None


def parse_params(text: str) -> Params:
    """Read ESMTP parameters separated by spaces. Raises ParameterError."""
    if _match_params(text) is None:
        raise ParameterError(f"{text[:80]!r} is not a list of KEYWORD or KEYWORD=VALUE")
    params: Params = {}
    for param in text.replace("\t", " ").split(" "):
        keyword, equals, value = param.partition("=")
        if keyword:
            params[keyword.upper()] = value if equals else None
    return params


def _text(arg: bytes | str) -> str:
    try:
        text = arg if isinstance(arg, str) else arg.decode()
    except UnicodeDecodeError as error:
        raise AddressError(f"an address is ASCII or UTF-8, but byte {error.start + 1} is neither") from None
    return text.strip(" \t")


def _path(text: str) -> tuple[str, Params]:
    match = _match_path(text)
    if match is None:
        raise _not_an_address(text)
    return _with_params(_checked(match[1] or match[2], text), text, match.end())


def _with_params(address: str, text: str, end: int) -> tuple[str, Params]:
    rest = text[end:]
    if not rest:
        return address, {}
    if rest[0] not in " \t":
        raise _not_an_address(text)
    return address, parse_params(rest.lstrip(" \t"))


def _checked(address: str, text: str) -> str:
    """Judge what the regex cannot: the length of the domain, the numbers in an address literal."""
    if address.endswith("]"):
        if not _valid_literal(address[address.rindex("@[") + 2 : -1]):
            raise _not_an_address(text)
    elif len(address) - address.rindex("@") > 256:
        raise AddressError("the domain is longer than 255 characters")
    return address


def _valid_literal(text: str) -> bool:
    try:
        if match := _match_ipv6(text):
            IPv6Address(match[1])
        elif _match_ipv4(text):
            IPv4Address(text)
        else:
            return _match_tagged(text) is not None and text[:5].lower() != "ipv6:"
    except ValueError:
        return False
    return True


def _not_an_address(text: str) -> AddressError:
    return AddressError(f"{text[:80]!r} is not a mail address: expected local-part@domain")
