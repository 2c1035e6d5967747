"""policy-extras.policy_utils: comparisons, assertions, tables, strings and files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from conftest import Run, Write

TOP = "local utils, queue = require 'policy-extras.policy_utils', kumo.make_queue_config"


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("return utils.equals({ a = { 1, 2 } }, { a = { 1, 2 } })", True),
        ("return utils.equals({ a = 1 }, { a = 1, b = 2 })", False),
        ("return utils.equals({ a = 1, b = 2 }, { a = 1 })", False),
        ("return utils.equals({ 1 }, 1)", False),
        ("return utils.equals(queue { max_age = '1h' }, queue { max_age = 3600 })", True),
        ("return utils.equals(queue { max_age = '1h' }, queue { max_age = 1 })", False),
        ("return utils.table_contains({ 'a', 'b' }, 'b')", True),
        ("return utils.table_contains({ 'a' }, nil)", False),
        ("return utils.table_keys { only = 1 }", ["only"]),
        ("return utils.table_is_empty {}", True),
        ("return utils.table_is_empty { 1 }", False),
        ("return utils.starts_with('abc', 'ab')", True),
        ("return utils.starts_with('a', 'ab')", False),
        ("return utils.ends_with('abc', 'bc')", True),
        ("return utils.ends_with('abc', '')", True),
        ("return utils.ends_with('abc', 'b')", False),
        ("return { utils.split_ip_port '192.0.2.1:25' }", ["192.0.2.1", "25"]),
        ("return { utils.split_ip_port '[::1]:25' }", ["::1", "25"]),
        ("return utils.split_ip_port 'localhost'", None),
        ("return utils.load_json_or_toml_file { inline = 1 }", {"inline": 1}),
        ("return utils.load_json_or_toml_file 'a.toml'", {"from": "toml"}),
        ("return utils.load_json_or_toml_file 'a.json'", {"from": "json"}),
        ("return utils.dumps { 1, { x = 'y' }, on = true }",
         '{\n  [1] = 1,\n  [2] = {\n    ["x"] = "y"\n  },\n  ["on"] = true\n}'),
        ("return utils.dumps {}", "{}"),
        ("return utils.dumps(1.5)", "1.5"),
        ("return utils.dumps(nil)", None),
        ("local t = {} t.t = t return utils.dumps(t)", '{\n  ["t"] = [recursive node]\n}'),
    ],
)  # fmt: skip
async def test_a_function(write: Write, run: Run, code: str, result: object) -> None:
    write("a.toml", "from = 'toml'")
    write("a.json", '{"from": "json"}')
    assert await run(code, top=TOP) == result


async def test_metatables_count_unless_they_are_to_be_ignored(run: Run) -> None:
    code = """
      local never = setmetatable({ 1 }, { __eq = function() return false end })
      return { utils.equals(never, { 1 }), utils.equals(never, { 1 }, true) }
    """
    assert await run(code, top=TOP) == [False, True]


async def test_a_merge_is_shallow_or_deep(run: Run) -> None:
    code = """
      local flat, deep = { a = { x = 1 } }, { a = { x = 1 } }
      utils.merge_into({ a = { y = 2 }, b = 3 }, flat)
      utils.recursive_merge_into({ a = { y = 2 }, b = 3 }, deep)
      utils.merge_into(nil, flat)
      utils.recursive_merge_into(nil, deep)
      return { flat = flat, deep = deep }
    """
    assert await run(code, top=TOP) == {
        "flat": {"a": {"y": 2}, "b": 3},
        "deep": {"a": {"x": 1, "y": 2}, "b": 3},
    }


async def test_assertions_that_hold_say_nothing(run: Run) -> None:
    code = """
      utils.assert_eq({ 1 }, { 1 })
      utils.assert_ne({ 1 }, { 2 })
      utils.assert_matches('hello world', '^hello\\\\b')
      return 'quiet'
    """
    assert await run(code, top=TOP) == "quiet"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("utils.assert_eq({ 1 }, { 2 }, 'the sum')", "the sum. these should be equal:\n[1]\nand\n[2]"),
        ("utils.assert_ne('a', 'a')", 'these should differ:\n"a"\nand\n"a"'),
        ("utils.assert_matches('abc', '^b')", '"abc"\nshould match\n"^b"'),
    ],
)
async def test_an_assertion_fails_at_the_line_that_calls_it(run: Run, call: str, text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(call, top=TOP)
    assert f"policy.lua:4: {text}" in str(caught.value)
