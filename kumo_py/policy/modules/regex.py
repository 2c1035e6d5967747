"""The `kumo.regex` module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.regex import Regex
from kumo_py.core.regex import escape as escaped
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import BOOLEAN, BYTES, INTEGER, TEXT, VALUE, ListOf

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

regex = Owner("kumo.regex")
pattern = Kind("regex", Regex)

_SINCE = "2024.09.02-c5476b89"
_S = Param("s", BYTES)
_REPLACEMENT = Param("replacement", TEXT)
_PIECES = ListOf(BYTES)


@regex.function("compile", Param("pattern", TEXT), result=pattern.type, since=_SINCE)
def compile_(ctx: LuaContext, text: str) -> Regex:
    """A regular expression in the syntax of Rust's regex crate, with fancy_regex's look-around, back-references,
    atomic groups and possessive repetition. Without these additions it takes linear time on any text.
    """
    return Regex(text)


@regex.function("escape", Param("text", TEXT), result=TEXT, since=_SINCE)
def escape(ctx: LuaContext, text: str) -> str:
    """A pattern that matches the text and nothing else."""
    return escaped(text)


@pattern.function("is_match", _S, result=BOOLEAN, since=_SINCE)
def is_match(ctx: LuaContext, re: Regex, s: bytes) -> bool:
    """Whether it matches anywhere in `s`."""
    return re.is_match(s)


@pattern.function("captures", _S, result=VALUE, since=_SINCE)
def captures(ctx: LuaContext, re: Regex, s: bytes) -> dict[int | bytes, bytes] | None:
    """The first match, as [0], and its groups, by number and by name; nil without a match."""
    return re.captures(s)


@pattern.function("find", _S, result=BYTES, since=_SINCE)
def find(ctx: LuaContext, re: Regex, s: bytes) -> bytes | None:
    """The text of the first match; nil without one."""
    return re.find(s)


@pattern.function("find_all", _S, result=_PIECES, since=_SINCE)
def find_all(ctx: LuaContext, re: Regex, s: bytes) -> list[bytes]:
    """The texts of all matches, which do not overlap."""
    return re.find_all(s)


@pattern.function("replace", _S, _REPLACEMENT, result=BYTES, since=_SINCE)
def replace(ctx: LuaContext, re: Regex, s: bytes, replacement: str) -> bytes:
    """`s` with its first match replaced; $1, ${1}, $name and ${name} stand for groups, $$ for a dollar sign."""
    return re.replace(s, replacement, 1)


@pattern.function("replace_all", _S, _REPLACEMENT, result=BYTES, since=_SINCE)
def replace_all(ctx: LuaContext, re: Regex, s: bytes, replacement: str) -> bytes:
    """As replace, for all matches."""
    return re.replace(s, replacement)


@pattern.function("replacen", _S, Param("limit", INTEGER), _REPLACEMENT, result=BYTES, since=_SINCE)
def replacen(ctx: LuaContext, re: Regex, s: bytes, limit: int, replacement: str) -> bytes:
    """As replace, for the first `limit` matches; 0 is all of them."""
    if limit < 0:
        raise ValueError(f"the limit must be 0 or more, got {limit}")
    return re.replace(s, replacement, limit)


@pattern.function("split", _S, result=_PIECES, since=_SINCE)
def split(ctx: LuaContext, re: Regex, s: bytes) -> list[bytes]:
    """What is between the matches."""
    return re.split(s)


@pattern.meta("tostring", result=TEXT)
def text(ctx: LuaContext, re: Regex) -> str:
    """The pattern."""
    return re.pattern
