"""policy-extras.typing: types of tables, and what they say of values that do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from conftest import Run

TOP = """
local typing = require 'policy-extras.typing'
local Layer = typing.enum('Layer', 'Above', 'Below')
local Point = typing.record('Point', { x = typing.number, y = typing.number })
local Shape = typing.record('Shape', {
  at = Point,
  layer = typing.option(Layer),
  on = typing.default(typing.boolean, true),
})
local Queue = typing.record('Queue', {
  name = typing.option(typing.string),
  _dynamic = function(name, value)
    local ok, err = pcall(kumo.make_queue_config, { [name] = value })
    if ok then return true end
    err = typing.extract_deserialize_error(err)
    return false, not err:find 'unknown option' and err or nil
  end,
})
local Names = typing.map(typing.string, Point)
local Either = typing.variant(typing.string, Point)
"""


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("return Shape { at = { x = 1, y = 2 }, layer = 'Above' }",
         {"at": {"x": 1, "y": 2}, "layer": "Above", "on": True}),
        ("return Shape { at = Point { x = 1, y = 2 }, on = false }", {"at": {"x": 1, "y": 2}, "on": False}),
        ("return Queue { max_age = '1h', name = 'x' }", {"max_age": "1h", "name": "x"}),
        ("return Queue({}).nothing", None),
        ("return typing.list(typing.string) { 'a', 'b' }", ["a", "b"]),
        ("return Names { here = { x = 1, y = 2 } }", {"here": {"x": 1, "y": 2}}),
        ("return { Either 'text', Either { x = 1, y = 2 } }", ["text", {"x": 1, "y": 2}]),
        ("return typing.any { 'what', 'ever' }", ["what", "ever"]),
        ("return typing.Function(print) == print", True),
        ("return { typing.number(1), typing.boolean(false), typing.option(typing.number)(nil) }", [1, False]),
        ("return typing.extract_deserialize_error('something else')", "something else"),
    ],
)  # fmt: skip
async def test_what_fits_is_kept(run: Run, code: str, result: object) -> None:
    assert await run(code, top=TOP) == result


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("Point { x = 1 }", "Point: missing value for field 'y' of type 'number'"),
        ("Point { x = 1, y = true }",
         "Point: invalid value for field 'y'\n  Expected 'number', got 'boolean' true"),
        ("Point { x = 1, y = 1, z = 1 }", "Point: unknown field 'z'"),
        ("local q = Queue {} q.name = 1", "Queue: invalid value for field 'name'\n  Expected 'string', got 'number' 1"),
        ("return Point({ x = 1, y = 1 }).z", "Point: attempt to read unknown field 'z'"),
        ("Point(1)", "Expected 'Point', got 'number' 1"),
        ("Shape { at = { x = 1, y = 1 }, layer = 'In' }",
         "Shape: invalid value for field 'layer'\n  Unexpected 'Layer' value 'In', expected one of 'Above', 'Below'"),
        ("Shape { at = Names {} }",
         "Expected value of type 'Point' but got type 'map<string,Point>' with value {}"),
        ("Names { [123] = 'x' }", "map<string,Point>: invalid key 123\n  Expected 'string', got 'number' 123"),
        ("Names { a = 'x' }", "invalid value for key 'a'\n  Expected value of type 'Point' but got type 'string'"),
        ("typing.list(typing.string) { 1 }",
         "list<string>: invalid value for idx 1\n  Expected 'string', got 'number' 1"),
        ("local l = typing.list(typing.string) {} l.x = 'a'", "list<string>: invalid index 'x'"),
        ("Either(true)", "Unexpected 'variant<string,Point>' value true: no variant takes it"),
        ("Queue { max_age = true }", "Queue: invalid value for field 'max_age'\n  option 'max_age': True is not"),
        ("Queue { max_agee = 1 }", "Queue: unknown field 'max_agee'"),
        ("typing.number 'one'", "Expected 'number', got 'string' 'one'"),
        ("typing.variant(typing.string)", "typing.variant takes two types or more, got 1"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_named_at_the_callers_line(run: Run, call: str, text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(call, top=TOP)
    line = TOP.count("\n") + 4
    assert f"policy.lua:{line}: " in str(caught.value)
    assert text in str(caught.value)
