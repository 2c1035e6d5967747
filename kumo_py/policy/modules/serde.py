"""The `kumo.serde` module: JSON, TOML and YAML; most of it is in `kumo` too, under its old names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson
import tomli
import tomli_w

from kumo_py.core.compact_toml import compact_toml
from kumo_py.core.yaml_text import encode_yaml, parse_yaml
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import BYTES, TEXT, VALUE

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.registry import Implementation
    from kumo_py.policy.types import LuaType

serde = Owner("kumo.serde")

_FILE = Param("file", TEXT)
_TEXT = Param("text", BYTES)
_SINCE = "2024.09.02-c5476b89"
_VALUE = Param("value", VALUE)
_STRING_OR_COMMENT = re.compile(rb'"(?:[^"\\]|\\.)*+"|//[^\n]*+|#[^\n]*+|/\*.*?(?:\*/|\Z)', re.DOTALL)


def _in_both(name: str, param: Param, result: LuaType) -> Callable[[Implementation], Implementation]:
    def declare(call: Implementation) -> Implementation:
        kumo.function(name, param, result=result)(call)
        return serde.function(name, param, result=result, since=_SINCE)(call)

    return declare


@_in_both("json_parse", _TEXT, VALUE)
def json_parse(ctx: LuaContext, text: bytes) -> object:
    """JSON text, in which C, C++ and shell comments are allowed; null becomes nil."""
    return parse_json(text)


@_in_both("json_load", _FILE, VALUE)
async def json_load(ctx: LuaContext, file: str) -> object:
    """A JSON file; see json_parse."""
    text = await ctx.read_file(file)
    try:
        return parse_json(text)
    except ValueError as err:
        raise ValueError(f"{file}: {err}") from None


@_in_both("json_encode", _VALUE, BYTES)
def json_encode(ctx: LuaContext, value: object) -> bytes:
    """The value as JSON, without white space."""
    return orjson.dumps(value)


@_in_both("json_encode_pretty", _VALUE, BYTES)
def json_encode_pretty(ctx: LuaContext, value: object) -> bytes:
    """The value as JSON for people: indented, keys sorted."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


@_in_both("toml_parse", _TEXT, VALUE)
def toml_parse(ctx: LuaContext, text: bytes) -> object:
    """TOML text; dates and times become RFC 3339 strings."""
    return parse_toml(text)


@_in_both("toml_load", _FILE, VALUE)
async def toml_load(ctx: LuaContext, file: str) -> object:
    """A TOML file; see toml_parse."""
    text = await ctx.read_file(file)
    try:
        return parse_toml(text)
    except ValueError as err:
        raise ValueError(f"{file}: {err}") from None


@_in_both("toml_encode", _VALUE, TEXT)
def toml_encode(ctx: LuaContext, value: object) -> str:
    """The table as TOML."""
    return _toml(value)


@_in_both("toml_encode_pretty", _VALUE, TEXT)
def toml_encode_pretty(ctx: LuaContext, value: object) -> str:
    """The table as TOML for people: long strings over several lines."""
    return _toml(value, multiline_strings=True)


@serde.function("toml_encode_pretty_compact", _VALUE, result=TEXT, since="dev")
def toml_encode_pretty_compact(ctx: LuaContext, value: object) -> str:
    """The table as TOML with sorted keys, and empty tables on one line."""
    return compact_toml(_table(value))


@serde.function("yaml_parse", _TEXT, result=VALUE, since=_SINCE)
def yaml_parse(ctx: LuaContext, text: bytes) -> object:
    """YAML text: one document, of which null becomes nil. As in YAML 1.2, yes and no are strings."""
    return parse_yaml(text)


@serde.function("yaml_load", _FILE, result=VALUE, since=_SINCE)
async def yaml_load(ctx: LuaContext, file: str) -> object:
    """A YAML file; see yaml_parse."""
    text = await ctx.read_file(file)
    try:
        return parse_yaml(text)
    except ValueError as err:
        raise ValueError(f"{file}: {err}") from None


@serde.function("yaml_encode", _VALUE, result=TEXT, since=_SINCE)
def yaml_encode(ctx: LuaContext, value: object) -> str:
    """The value as YAML, with sorted keys."""
    return encode_yaml(value)


def parse_json(text: bytes) -> object:
    """Raises ValueError."""
    try:
        return orjson.loads(text)
    except ValueError as err:
        # Slow and rare: perhaps only comments are in the way.
        stripped = _STRING_OR_COMMENT.sub(_blank, text)
        if stripped != text:
            return parse_json(stripped)
        raise ValueError(f"not JSON: {err}") from None


def _blank(match: re.Match[bytes]) -> bytes:
    """A string as it is; for a comment what keeps line and column of the rest."""
    found = match[0]
    return found if found.startswith(b'"') else re.sub(rb"[^\n]", b" ", found)


def parse_toml(text: bytes) -> dict[str, object]:
    """Raises ValueError."""
    try:
        return tomli.loads(text.decode())
    except UnicodeDecodeError as err:
        raise ValueError(f"not TOML: byte {err.start + 1} is not UTF-8") from None
    except ValueError as err:
        raise ValueError(f"not TOML: {err}") from None


def _toml(value: object, *, multiline_strings: bool = False) -> str:
    return tomli_w.dumps(_table(value), multiline_strings=multiline_strings)


def _table(value: object) -> dict[str, object]:
    """Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError("TOML is a table with keys at its top")
    return {key: _without_nil(item) for key, item in value.items() if item is not None}


def _without_nil(value: object) -> object:
    """TOML has no nil: keys without a value are left out. Raises ValueError for lists with holes."""
    if isinstance(value, dict):
        return {key: _without_nil(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        if None in value:
            raise ValueError(f"TOML has no nil, but item {value.index(None) + 1} of a list is nil")
        return [_without_nil(item) for item in value]
    return value
