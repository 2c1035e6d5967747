"""Kinds of objects: what a declaration gives to a policy."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import pytest
import trio

from kumo_py.core.policy import PolicyError
from kumo_py.policy import runtime
from kumo_py.policy.registry import Kind, Owner, Param, Registry
from kumo_py.policy.surface import build_registry
from kumo_py.policy.types import INTEGER, SHARED, TEXT, Values

if TYPE_CHECKING:
    from policy_host import MakePolicy

    from kumo_py.policy.context import LuaContext


class Box:
    def __init__(self, items: dict[bytes, Any]) -> None:
        self.items = items
        self.label = "box"


class Boxes:
    def __init__(self) -> None:
        self.made: list[Box] = []


class Shelf(dict[str, object]):
    pass


boxes = Owner("boxes")
box = Kind("box", Box)
shelf = Kind("shelf", Shelf)


@boxes.function("make", Param("items", SHARED), result=box.type)
def make(ctx: LuaContext, items: dict[bytes, Any]) -> Box:
    """A box."""
    new = Box(items)
    ctx.env.state(Boxes).made.append(new)
    return new


@boxes.function(
    "count", Param("first", INTEGER), Param("more", INTEGER, rest=True), result=Values(INTEGER, TEXT)
)
def count(ctx: LuaContext, first: int, *more: int) -> tuple[int, str | None]:
    """A sum, and a word if there is more than one."""
    return first + sum(more), "several" if more else None


@box.function("get", Param("key", TEXT), result=SHARED)
async def get(ctx: LuaContext, self: Box, key: str) -> object:
    """Wait for what is in the box."""
    await trio.sleep(1)
    return self.items[key.encode()]


@box.field("label", TEXT)
def label(ctx: LuaContext, self: Box) -> str:
    """What is written on it."""
    return self.label


@box.setter("label")
def set_label(ctx: LuaContext, self: Box, value: str) -> None:
    """Write on it."""
    self.label = value


@box.field("weight", INTEGER)
def weight(ctx: LuaContext, self: Box) -> int:
    """How many things are in it."""
    return len(self.items)


@box.meta("len", result=INTEGER)
def length(ctx: LuaContext, self: Box) -> int:
    """As the weight."""
    return len(self.items)


@box.meta("tostring", result=TEXT)
def text(ctx: LuaContext, self: Box) -> str:
    """Its label."""
    return f"<{self.label}>"


@box.meta("add", Param("other", box.type), result=box.type)
def add(ctx: LuaContext, self: Box, other: Box) -> Box:
    """A box with what is in both."""
    return Box(self.items | other.items)


@box.meta("pairs")
def pairs(ctx: LuaContext, self: Box) -> list[tuple[bytes, Any]]:
    """Its things, by name."""
    return sorted(self.items.items())


@box.meta("call", result=SHARED)
async def call(ctx: LuaContext, self: Box) -> object:
    """Take something out."""
    await trio.sleep(1)
    return self.items.popitem()[1] if self.items else None


@shelf.meta("index", Param("key", TEXT), result=SHARED)
def index(ctx: LuaContext, self: Shelf, key: str) -> object:
    """What stands there."""
    return self.get(key)


@shelf.meta("newindex", Param("key", TEXT), Param("value", SHARED))
def newindex(ctx: LuaContext, self: Shelf, key: str, value: object) -> None:
    """Put something there."""
    self[key] = value


@boxes.function("shelf", result=shelf.type)
def make_shelf(ctx: LuaContext) -> Shelf:
    """A shelf."""
    return Shelf()


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = build_registry()
    registry = Registry(
        [*usual.modules.values(), boxes], [*usual.kinds.values(), box, shelf], usual.events.values()
    )
    monkeypatch.setattr(runtime, "build_registry", lambda: registry)


async def run(policy: MakePolicy, body: str) -> Any:
    lua = policy(f"local boxes = require 'boxes'\nkumo.on('mine', function()\n{body}\nend)")
    await lua.load()
    try:
        return await lua.ask("mine")
    finally:
        lua.close()


async def test_methods_fields_and_metamethods(
    policy: MakePolicy, autojump_clock: trio.testing.MockClock
) -> None:
    result = await run(
        policy,
        """
        local box = boxes.make { a = 1, b = 'two', c = { 3 } }
        box.label = 'mine'
        local seen = {}
        for key, value in pairs(box) do seen[#seen + 1] = key .. tostring(type(value)) end
        local both = box + boxes.make { d = 4 }
        return { type(box), box:get 'b', box.label, box.weight, #box, tostring(box), seen, #both }
        """,
    )
    kinds = ["anumber", "bstring", "ctable"]
    assert result == ["userdata", "two", "mine", 3, 3, "<mine>", kinds, 4]


async def test_an_object_that_can_be_called_is_an_iterator(
    policy: MakePolicy, autojump_clock: trio.testing.MockClock
) -> None:
    result = await run(
        policy, "local sum = 0 for n in boxes.make { a = 1, b = 2 } do sum = sum + n end return sum"
    )
    assert result == 3
    assert trio.current_time() >= 3


async def test_an_index_answers_for_every_name(policy: MakePolicy) -> None:
    result = await run(
        policy, "local s = boxes.shelf() s.one = 'x' return { s.one, s.two == nil, s['find'] == nil }"
    )
    assert result == ["x", True, True]


async def test_values_of_all_kinds_can_be_shared(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local s = boxes.shelf()
        s.box, s.bytes, s.time = boxes.make { a = 1 }, '\\xff\\0', kumo.time.parse_duration '1m'
        s.list, s.map = { 1, 'two' }, { [7] = 'seven', x = { true } }
        return { #s.box, s.bytes == '\\xff\\0', s.time.seconds, s.list[2], s.map[7], s.map.x[1] }
        """,
    )
    assert result == [1, True, 60.0, "two", "seven", True]


async def test_several_arguments_and_results(policy: MakePolicy) -> None:
    assert await run(policy, "return { boxes.count(1, 2, 3) }") == [6, "several"]
    assert await run(policy, "local n, word = boxes.count(1) return { n, word == nil }") == [1, True]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("boxes.make {}:got 'x'", "policy.lua:4: a box has no method or field 'got'; did you mean get?"),
        ("local b = boxes.make {}\nb.weight = 1", "policy.lua:5: weight of a box cannot be set"),
        ("local b = boxes.make {}\nb.color = 1", "policy.lua:5: color of a box cannot be added"),
        (
            "local b = boxes.make {}\nb.label = {}",
            "policy.lua:5: box.label: argument 'value' must be a string",
        ),
        ("boxes.make {}.get('x')", "box:get must be called with ':' on a box"),
        ("boxes.count(1, 'x')", "boxes.count: argument 2 must be an integer, got string 'x'"),
        ("boxes.make {}:get 'x'", "policy.lua:4: box:get: there is no b'x'"),
        (
            "local b = boxes.make {} + 1",
            "policy.lua:4: box.add: argument 'other' must be a box, got number 1",
        ),
    ],
)
async def test_misuse_of_an_object_is_explained(
    policy: MakePolicy, autojump_clock: trio.testing.MockClock, code: str, message: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code)
    assert message in str(caught.value)


async def test_objects_of_an_event_cannot_be_kept(policy: MakePolicy, msg: Any) -> None:
    lua = policy(
        "local boxes = require 'boxes'\nkumo.on('requeue_message', function(msg) boxes.make { msg } end)"
    )
    await lua.load()
    with pytest.raises(PolicyError, match="cannot keep a message, which belongs to its event"):
        await lua.ask("requeue_message", msg, "250 ok", [], True, None)
    lua.close()


async def test_what_lua_no_longer_needs_is_let_go(policy: MakePolicy) -> None:
    lua = policy("local boxes = require 'boxes'\nkumo.on('mine', function() boxes.make { a = 1 } end)")
    await lua.load()
    ctx = lua._pool._idle[0]
    await lua.ask("mine")
    made = lua.env.state(Boxes).made
    seen = weakref.ref(made[0])
    made.clear()
    assert seen() is not None  # Lua's collector has had no reason to run
    ctx.holds(5 << 20)
    assert seen() is None
    lua.close()
