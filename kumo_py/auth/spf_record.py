"""SPF records (RFC 7208 sections 4.5 to 6): text in, directives and modifiers out."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from kumo_py.auth.spf_macro import MacroString, SpfSyntaxError, parse_domain_spec, parse_macros, shown

Kind = Literal["all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"]
Qualifier = Literal["pass", "fail", "softfail", "neutral"]

_VERSION = "v=spf1"
_LONGEST_KEPT = 2048
"""Characters: what is kept of strangers' records stays below some megabytes."""
_QUALIFIERS: dict[str, Qualifier] = {"": "pass", "+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_TERM = re.compile(r"([+\-~?]?)([A-Za-z][A-Za-z0-9\-_.]*)(.*)", re.DOTALL)
_PREFIXES = re.compile(r"(.*?)(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?", re.DOTALL)


@dataclass(slots=True, frozen=True)
class Directive:
    """A mechanism and what a match of it means."""

    text: str
    """As published, without a leading `+`."""
    result: Qualifier
    kind: Kind
    domain: MacroString | None = None
    """None: the domain that is being checked."""
    address: int = 0
    """Of ip4 and ip6."""
    prefix4: int = 32
    prefix6: int = 128


@dataclass(slots=True, frozen=True)
class Record:
    directives: tuple[Directive, ...]
    redirect: MacroString | None = None
    explanation: MacroString | None = None
    """Where the explanation is to be found."""


def is_spf(text: str) -> bool:
    """Whether a TXT record is one of ours (section 4.5)."""
    return text[:6].lower() == _VERSION and text[6:7] in ("", " ")


def parse_record(text: str) -> Record:
    """Read a record that `is_spf`. Raises SpfSyntaxError."""
    return _parsed(text) if len(text) <= _LONGEST_KEPT else _parse(text)


# The records of large senders come again and again, and most of the work is reading (38 of 45 µs, measured).
@functools.lru_cache(512)
def _parsed(text: str) -> Record:
    return _parse(text)


def _parse(text: str) -> Record:
    directives: list[Directive] = []
    modifiers: dict[str, MacroString] = {}
    for term in text[len(_VERSION) :].split(" "):
        if not term:
            continue
        found = _TERM.fullmatch(term)
        if found is None:
            raise SpfSyntaxError(f"{shown(term)} is neither a mechanism nor a modifier")
        qualifier, name, rest = found.groups()
        if not rest.startswith("="):
            directives.append(_directive(term.removeprefix("+"), _QUALIFIERS[qualifier], name.lower(), rest))
        elif qualifier:
            raise SpfSyntaxError(f"the modifier {shown(term)} has a qualifier")
        elif name.lower() not in ("redirect", "exp"):
            parse_macros(rest[1:])
        elif name.lower() in modifiers:
            raise SpfSyntaxError(f"there is a second modifier {name.lower()}")
        else:
            modifiers[name.lower()] = parse_domain_spec(rest[1:])
    return Record(tuple(directives), modifiers.get("redirect"), modifiers.get("exp"))


def _directive(term: str, result: Qualifier, name: str, rest: str) -> Directive:
    problem = SpfSyntaxError(f"{shown(term)} is no {name} mechanism as RFC 7208 has it")
    match name:
        case "all":
            if rest:
                raise problem
            return Directive(term, result, "all")
        case "include" | "exists":
            if not rest.startswith(":"):
                raise problem
            return Directive(term, result, name, parse_domain_spec(rest[1:]))
        case "ptr":
            return Directive(term, result, "ptr", _optional_domain(rest, problem))
        case "a" | "mx":
            spec, prefix4, prefix6 = _prefixes(rest, problem)
            return Directive(
                term, result, name, _optional_domain(spec, problem), prefix4=prefix4, prefix6=prefix6
            )
        case "ip4" | "ip6":
            return _network(term, result, name, rest, problem)
    raise SpfSyntaxError(f"there is no mechanism {shown(term)}")


def _optional_domain(rest: str, problem: SpfSyntaxError) -> MacroString | None:
    if not rest:
        return None
    if not rest.startswith(":"):
        raise problem
    return parse_domain_spec(rest[1:])


def _prefixes(text: str, problem: SpfSyntaxError) -> tuple[str, int, int]:
    """What precedes a dual-cidr-length, and its numbers."""
    start = text.find("/")
    # Only the last ten characters can be lengths; to try more would cost the square of a hostile record.
    start = max(start, len(text) - 10)
    found = _PREFIXES.fullmatch(text, start) if start >= 0 and "/" in text else None
    if found is None:
        return text, 32, 128
    prefix4 = 32 if found[2] is None else int(found[2])
    prefix6 = 128 if found[3] is None else int(found[3])
    if prefix4 > 32 or prefix6 > 128:
        raise problem
    return text[: found.end(1)], prefix4, prefix6


def _network(
    term: str, result: Qualifier, name: Literal["ip4", "ip6"], rest: str, problem: SpfSyntaxError
) -> Directive:
    bits, address_type = (32, IPv4Address) if name == "ip4" else (128, IPv6Address)
    text, slash, length = rest[1:].partition("/")
    canonical = length.isascii() and length.isdecimal() and (length == "0" or not length.startswith("0"))
    if not rest.startswith(":") or (slash and not (canonical and len(length) <= 3)) or "%" in text:
        raise problem
    prefix = int(length) if slash else bits
    try:
        address = int(address_type(text))
    except ValueError:
        raise problem from None
    if prefix > bits:
        raise problem
    return Directive(term, result, name, address=address, prefix4=prefix, prefix6=prefix)
