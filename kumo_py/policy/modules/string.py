"""The `kumo.string` module: what works on strings without knowing what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.normalize_response import normalize_smtp_response as normalized
from kumo_py.core.wrap import HARD_WIDTH, SOFT_WIDTH
from kumo_py.core.wrap import wrap as wrapped
from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import BOOLEAN, BYTES, INTEGER, TEXT, ListOf

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

string = Owner("kumo.string")

_SINCE = "2024.09.02-c5476b89"
_S = Param("s", BYTES)
_TEXT = Param("s", TEXT)
_PATTERN = Param("pattern", BYTES)
_LIMIT = Param("limit", INTEGER)
_PIECES = ListOf(BYTES)


@string.function("replace", _S, Param("from", BYTES), Param("to", BYTES), result=BYTES, since=_SINCE)
def replace(ctx: LuaContext, s: bytes, old: bytes, new: bytes) -> bytes:
    """Replace all matches of a literal."""
    return s.replace(old, new)


@string.function(
    "replacen",
    _S,
    Param("from", BYTES),
    Param("to", BYTES),
    Param("count", INTEGER),
    result=BYTES,
    since=_SINCE,
)
def replacen(ctx: LuaContext, s: bytes, old: bytes, new: bytes, count: int) -> bytes:
    """Replace the first `count` matches of a literal."""
    return s.replace(old, new, max(count, 0))


@string.function("split", _S, _PATTERN, result=_PIECES, since=_SINCE)
def split(ctx: LuaContext, s: bytes, pattern: bytes) -> list[bytes]:
    """The pieces between the matches of a literal."""
    return s.split(pattern)


@string.function("splitn", _S, _LIMIT, _PATTERN, result=_PIECES, since=_SINCE)
def splitn(ctx: LuaContext, s: bytes, limit: int, pattern: bytes) -> list[bytes]:
    """As split, but at most `limit` pieces."""
    return s.split(pattern, limit - 1) if limit > 0 else []


@string.function("rsplit", _S, _PATTERN, result=_PIECES, since=_SINCE)
def rsplit(ctx: LuaContext, s: bytes, pattern: bytes) -> list[bytes]:
    """As split, the last piece first."""
    return s.rsplit(pattern)[::-1]


@string.function("rsplitn", _S, _LIMIT, _PATTERN, result=_PIECES, since=_SINCE)
def rsplitn(ctx: LuaContext, s: bytes, limit: int, pattern: bytes) -> list[bytes]:
    """At most `limit` pieces, split from the right, the last piece first."""
    return s.rsplit(pattern, limit - 1)[::-1] if limit > 0 else []


@string.function("split_whitespace", _TEXT, result=ListOf(TEXT), since=_SINCE)
def split_whitespace(ctx: LuaContext, s: str) -> list[str]:
    """The words between white space, in Unicode's sense."""
    return s.split()


@string.function("split_ascii_whitespace", _S, result=_PIECES, since=_SINCE)
def split_ascii_whitespace(ctx: LuaContext, s: bytes) -> list[bytes]:
    """The words between white space, in ASCII's sense."""
    return s.split()


@string.function("starts_with", _S, Param("prefix", BYTES), result=BOOLEAN, since="2026.04.09-ea3b2a9b")
def starts_with(ctx: LuaContext, s: bytes, prefix: bytes) -> bool:
    """Whether `s` starts with `prefix`."""
    return s.startswith(prefix)


@string.function("ends_with", _S, Param("suffix", BYTES), result=BOOLEAN, since="2026.04.09-ea3b2a9b")
def ends_with(ctx: LuaContext, s: bytes, suffix: bytes) -> bool:
    """Whether `s` ends with `suffix`."""
    return s.endswith(suffix)


@string.function("trim", _TEXT, result=TEXT, since=_SINCE)
def trim(ctx: LuaContext, s: str) -> str:
    """`s` without white space at both ends."""
    return s.strip()


@string.function("trim_start", _TEXT, result=TEXT, since=_SINCE)
def trim_start(ctx: LuaContext, s: str) -> str:
    """`s` without white space at its start."""
    return s.lstrip()


@string.function("trim_end", _TEXT, result=TEXT, since=_SINCE)
def trim_end(ctx: LuaContext, s: str) -> str:
    """`s` without white space at its end."""
    return s.rstrip()


_LATER = "2025.12.02-67ee9e96"


@string.function(
    "wrap",
    _S,
    Param("soft_limit", INTEGER, optional=True),
    Param("hard_limit", INTEGER, optional=True),
    result=BYTES,
    since=_LATER,
)
def wrap(ctx: LuaContext, s: bytes, soft_limit: int | None, hard_limit: int | None) -> bytes:
    """The words of `s` in lines that a tab continues, within the soft limit (75 bytes) where words allow it.
    Only a word longer than the hard limit (900 bytes) is cut.
    """
    soft = SOFT_WIDTH if soft_limit is None else soft_limit
    return wrapped(s, soft, HARD_WIDTH if hard_limit is None else hard_limit)


@string.function("normalize_smtp_response", Param("response", TEXT), result=TEXT, since=_LATER)
def normalize_smtp_response(ctx: LuaContext, response: str) -> str:
    """An SMTP response with times, ids, addresses and the like replaced by {timestamp}, {duration}, {uuid}, {hash},
    {ipaddr}, {base64} and {email}, so that responses that mean the same can be counted together.
    """
    return normalized(response)
