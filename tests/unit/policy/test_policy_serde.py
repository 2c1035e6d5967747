"""What `kumo.serde` has besides JSON and plain TOML (see test_policy_modules.py): YAML, compact TOML, odd values."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import pytest
import tomli
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_host import run

from kumo_py.core.compact_toml import compact_toml
from kumo_py.core.policy import PolicyError
from kumo_py.core.yaml_text import encode_yaml, parse_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy


async def test_yaml_from_lua(policy: MakePolicy, tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("a: [1, 2.5, x]\nb:\n  c: ~\n  d: yes\n25: port\n")
    result = await run(
        policy,
        r"""
        local s = kumo.serde
        local t = s.yaml_load 'data.yaml'
        return {
          t.a, t.b.c == nil, t.b.d, t['25'], s.yaml_parse 'x: &x [1]\ny: *x'.y[1], s.yaml_parse '' == nil,
          s.yaml_encode { b = { 1, { c = 'no' } }, a = 'x\ny\n', e = {} }, s.yaml_encode 'text', s.yaml_encode(nil),
          s.yaml_encode(s.yaml_parse '[]'), s.yaml_encode { f = 1.0, n = 1, big = math.maxinteger },
        }
        """,
    )
    assert result == [
        [1, 2.5, "x"], True, "yes", "port", 1, True, "a: |\n  x\n  y\nb:\n- 1\n- c: 'no'\ne: {}\n", "text\n", "null\n",
        "[]\n", "big: 9223372036854775807\nf: 1.0\nn: 1\n",
    ]  # fmt: skip


async def test_compact_toml_from_lua(policy: MakePolicy) -> None:
    code = """return kumo.serde.toml_encode_pretty_compact {
      z = 1, empty = {}, list = { 'a', 2 }, ['odd key'] = true, sub = { y = 1.5, x = { w = {} } }, many = { { a = 1 } },
    }"""
    assert await run(policy, code) == (
        'empty = {}\nlist = ["a", 2]\n"odd key" = true\nz = 1\n\n[[many]]\na = 1\n\n[sub]\ny = 1.5\n\n[sub.x]\nw = {}\n'
    )


async def test_odd_values_as_json(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local e = kumo.serde.json_encode
        return {
          e '\xff', e { [5] = 'x' }, e { 1, nil, 3 }, e { [true] = 1 }, e(1.0), e(1), e(-0.0), e(1e100), e(math.huge),
          e(math.mininteger), e(kumo.make_egress_source { name = 's' }), e {}, e(kumo.serde.json_parse '[]'),
          kumo.serde.json_parse '[null, 1]'[2], kumo.serde.json_parse '{"a": null}'.a == nil,
          math.type(kumo.serde.json_parse '1.0'),
          kumo.serde.json_encode_pretty { b = 1, a = {} }, kumo.json_encode { a = { b = { 'c' } } },
        }
        """,
    )
    assert result[:9] == [
        "[255]",
        '{"5":"x"}',
        "[1,null,3]",
        '{"true":1}',
        "1.0",
        "1",
        "-0.0",
        "1e+100",
        "null",
    ]
    assert result[9] == str(-(2**63))
    assert result[10].startswith('{"name":"s"')
    assert result[11:] == ["{}", "[]", 1, True, "float", '{\n  "a": {},\n  "b": 1\n}', '{"a":{"b":["c"]}}']


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "yaml_parse 'a: b: c'",
            "policy.lua:3: kumo.serde.yaml_parse: not YAML: mapping values are not allowed",
        ),
        ("yaml_parse '\\xff'", "not YAML: byte 1 is not UTF-8"),
        ("yaml_load 'bad.yaml'", "kumo.serde.yaml_load: bad.yaml: not YAML: "),
        ("yaml_load 'none.yaml'", "none.yaml: No such file"),
        ("yaml_encode(print)", "argument 'value' cannot hold a function"),
        ("toml_encode_pretty_compact { 1 }", "TOML is a table with keys at its top"),
        ("yaml_parse(('- '):rep(101) .. 'x')", "it is nested more than 100 deep (line 1)"),
        ("yaml_parze 'x'", "did you mean kumo.serde.yaml_parse?"),
    ],
)
async def test_misuse_is_explained(policy: MakePolicy, tmp_path: Path, code: str, problem: str) -> None:
    (tmp_path / "bad.yaml").write_text("[")
    with pytest.raises(PolicyError) as caught:
        await run(policy, f"local _ = kumo.serde.{code}")
    assert problem in str(caught.value)


# -- YAML ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("~", None), ("null", None), ("NULL", None), ("nULL", "nULL"), ("''", ""), ("# nothing", None),
        ("true", True), ("FALSE", False), ("yes", "yes"), ("off", "off"), ("y", "y"), ("tRUE", "tRUE"),
        ("0", 0), ("-15", -15), ("+1", 1), ("0x1F", 31), ("-0o17", -15), ("0b101", 5), ("0123", "0123"),
        ("1_000", "1_000"),
        ("9" * 39, 10**39 - 1), ("9" * 50, float("9" * 50)), ("0x" + "f" * 50, "0x" + "f" * 50),
        ("12:30:45", "12:30:45"),
        ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-1.5E-2", -0.015), (".inf", math.inf),
        ("-.INF", -math.inf), ("1e", "1e"), (".", "."), ("+", "+"), ("infinity", "infinity"),
        ("2026-08-04", "2026-08-04"),
        ("'1'", "1"), ('"true"', "true"), ("!!str 1", "1"), ("! 1", "1"), ("!!int 1", 1), ("!!float 1", 1.0),
        ("!!null ~", None), ("!!bool true", True), ("!!seq [1]", [1]), ("!!map {a: 1}", {"a": 1}),
        ("a: 1\na: 2", {"a": 2}), ("{1: a, ~: b, true: c}", {"1": "a", "~": "b", "true": "c"}),
        ("<<: {a: 1}\nb: 2", {"<<": {"a": 1}, "b": 2}), ("&k k: 1\nv: *k\n", {"k": 1, "v": "k"}),
        ("v: &k k\n*k : 1\n", {"v": "k", "k": 1}), ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("a: >\n  x\n  y\n", {"a": "x y\n"}),
        ("--- x\n...\n", "x"), ("\ufeffa: é", {"a": "é"}), ("- - 1\n  - 2\n-\n", [[1, 2], None]),
    ],
)  # fmt: skip
def test_scalars_of_the_core_schema(text: str, value: object) -> None:
    parsed = parse_yaml(text.encode())
    assert (parsed, type(parsed)) == (value, type(value))


def test_not_a_number() -> None:
    assert math.isnan(parse_yaml(b".NaN"))
    assert encode_yaml(math.nan) == ".nan\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("&a [*a]", r"the alias \*a stands for nothing, or for what it is in"),
        ("a: 1\nb: *x", r"stands for nothing, or for what it is in \(line 2\)"),
        ("--- 1\n--- 2", "more than one document"),
        ("!!python/object/apply:os.system [x]", "the tag .*os.system is not supported"),
        ("!mine x", "the tag !mine is not supported"),
        ("!!int x", "'x' is not what its tag .*int says"),
        ("{[a]: 1}", "cannot be a key"),
        ("a: [1", r"did not find expected .* \(line 2\)"),
        ("a\0b", "not YAML: unacceptable character"),
    ],
)
def test_what_yaml_may_not_be(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_yaml(text.encode())


def test_alias_bombs_are_refused() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for above, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{above}'] * 10)}]")
    with pytest.raises(ValueError, match="more than 1000000 values, aliases counted in full"):
        parse_yaml("\n".join(lines).encode())


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(
        ["yes", "0o17", "1e3", "1e", ".5", "0b1", "+1", "~", "=", "<<", "a\nb", " a\n", "12:30", "\x85"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(PLAIN)
@settings(deadline=None)
def test_what_is_written_is_read(value: object) -> None:
    text = encode_yaml(value)
    assert parse_yaml(text.encode()) == value
    assert yaml.safe_load(text) == value  # and by who reads YAML 1.1


TABLES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=15,
)


@given(st.dictionaries(st.text(), TABLES, max_size=4))
@settings(deadline=None)
def test_compact_toml_is_read(value: dict[str, object]) -> None:
    assert tomli.loads(compact_toml(value)) == value


@given(st.binary() | st.text(alphabet="{}[]:-&*!|>'\"#?,% \n\taé01~.").map(str.encode))
@settings(deadline=None)
def test_any_bytes_are_yaml_or_a_value_error(text: bytes) -> None:
    with contextlib.suppress(ValueError):
        encode_yaml(parse_yaml(text))
