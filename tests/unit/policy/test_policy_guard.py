"""What a policy cannot do: spin, eat all memory, reach Python, keep what it should not have."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.message.connection import ConnectionMeta
from kumo_py.policy.context import Limits

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy

    from kumo_py.message.message import Message

SHORT = Limits(cpu_seconds=0.05)


@pytest.mark.parametrize(
    "code",
    [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(pcall, function() while true do end end) end",
        "local function f() while true do xpcall(f, f) end end f()",
        "local function f() while true do pcall(f) end end f()",
        "local function f() while true do coroutine.resume(coroutine.create(f)) end end f()",
        "coroutine.wrap(function() while true do end end)()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "repeat until string.find('x', 'y')",
        "setmetatable({}, { __index = function() while true do end end }).x = nil local _ = ({})[1] while true do end",
        "table.sort({ 1, 2, 3 }, function() while true do end end)",
        "local function f() return f() end f()",
        "goto a ::b:: goto a ::a:: goto b",
        "local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end",
        "coroutine.close(coroutine.create(function() while true do end end)) while true do end",
        "local co = coroutine.create(function() local x <close> = setmetatable({}, {"
        " __close = function() while true do end end }) while true do end end)"
        " coroutine.resume(co) coroutine.close(co)",
    ],
)
async def test_a_handler_that_spins_is_stopped(policy: MakePolicy, code: str) -> None:
    lua = policy(
        f"kumo.on('spin', function() {code} end)\nkumo.on('mine', function() return 1 end)", limits=SHORT
    )
    await lua.load()
    started = time.process_time()
    with pytest.raises(PolicyError, match=r"^spin: policy\.lua:2: stopped after 0\.05 s of CPU time"):
        await lua.ask("spin")
    assert time.process_time() - started < 1.0
    assert await lua.ask("mine") == 1


@pytest.mark.parametrize(
    "code",
    [
        "local x <close> = setmetatable({}, { __close = function() while true do end end }) error 'x'",
        "local x <close> = setmetatable({}, { __close = function() while true do end end }) kumo.reject(550, 'x')",
        "error(setmetatable({}, { __tostring = function() while true do end end }))",
    ],
)
async def test_what_runs_after_an_error_is_stopped_too(policy: MakePolicy, code: str) -> None:
    lua = policy(
        f"kumo.on('spin', function() {code} end)\nkumo.on('mine', function() return 1 end)", limits=SHORT
    )
    await lua.load()
    with pytest.raises((PolicyError, Rejection)):
        await lua.ask("spin")
    assert await lua.ask("mine") == 1


async def test_a_main_file_that_spins_is_stopped(policy: MakePolicy) -> None:
    with pytest.raises(PolicyError, match=r"policy\.lua:2: stopped after"):
        await policy("while true do end", limits=SHORT).load()


async def test_short_work_after_a_long_wait_is_not_spinning(
    policy: MakePolicy, autojump_clock: object
) -> None:
    lua = policy(
        """
        kumo.on('mine', function()
          local sum = 0
          for round = 1, 5 do
            kumo.sleep(10)
            for n = 1, 300000 do sum = sum + n end
          end
          return sum
        end)
        """,
        limits=SHORT,
    )
    await lua.load()
    assert await lua.ask("mine") == 5 * 300000 * 300001 // 2


@pytest.mark.parametrize(
    "code",
    [
        "while true do t[#t + 1] = ('x'):rep(100000) .. #t end",
        "local s = 'x' while true do s = s .. s end",
        "('x'):rep(1000000000)",
        "while true do t[#t + 1] = msg:get_data() end",
        "while true do pcall(function() t[#t + 1] = msg:get_data() end) end",
        "while true do t[#t + 1] = msg:sender() end",
        "while true do t[#t + 1] = kumo.json_parse(text) end",
        "while true do t[#t + 1] = kumo.make_queue_config {}.protocol end",
    ],
)
async def test_memory_is_bounded(policy: MakePolicy, msg: Message, code: str) -> None:
    lua = policy(
        f"""
        local text = '[' .. ('"abc", '):rep(1000) .. '1]'
        kumo.on('eat', function(msg) local t = {{}} {code} end)
        kumo.on('mine', function() return 1 end)
        """,
        limits=Limits(memory=2 * 1024 * 1024),
    )
    msg.set_data(b"x" * 1_000_000)
    await lua.load()
    with pytest.raises(
        PolicyError, match=r"eat: .*(not enough memory|stopped with more than 2 MiB of memory in use)"
    ):
        await lua.ask("eat", msg)
    assert await lua.ask("mine") == 1


async def test_garbage_is_no_memory_in_use(policy: MakePolicy, msg: Message) -> None:
    lua = policy(
        "kumo.on('mine', function(msg) for n = 1, 100 do msg:get_data() end return 'fine' end)",
        limits=Limits(memory=2 * 1024 * 1024),
    )
    msg.set_data(b"x" * 1_000_000)
    await lua.load()
    assert await lua.ask("mine", msg) == "fine"


async def test_a_deep_recursion_is_an_error(policy: MakePolicy) -> None:
    lua = policy("kumo.on('init', function() local function f() return 1 + f() end f() end)")
    await lua.load()
    with pytest.raises(PolicyError, match="stack overflow"):
        await lua.ask("init")


async def test_there_is_no_way_to_python(policy: MakePolicy, msg: Message) -> None:
    lua = policy("""
        kumo.on('mine', function(msg, conn)
          local found = {}
          local function note(name, value) if value ~= nil then found[#found + 1] = name end end
          note('python', python)
          note('debug', debug)
          note('loaded', package.loaded.python)
          note('metatable', getmetatable(msg) or nil)
          for key, value in next, msg do
            note('attribute', select(2, pcall(function() return value.__class__ end)) == nil or nil)
            for _, name in ipairs { '__class__', 'meta', 'data', '__init__' } do
              local ok, got = pcall(function() return value[name] end)
              note(name, ok and got or nil)
              ok = pcall(function() value[name] = 1 end)
              note('set ' .. name, ok or nil)
            end
            note('call', pcall(value) or nil)
          end
          return found
        end)
    """)
    await lua.load()
    assert await lua.ask("mine", msg, ConnectionMeta()) == {}


async def test_the_standard_library_is_there(policy: MakePolicy, tmp_path: Path) -> None:
    lua = policy("""
        kumo.on('mine', function()
          local file = assert(io.open('written.txt', 'w'))
          file:write(string.format('%s %d', os.getenv 'HOME' and 'home' or 'none', math.maxinteger))
          file:close()
          return { type(os.time()), type(io.lines), utf8.char(233), type({}), type(print), type(nil) }
        end)
    """)
    await lua.load()
    assert await lua.ask("mine") == ["number", "function", "é", "table", "function", "nil"]
    assert (tmp_path / "written.txt").exists()


async def test_only_kumo_is_preloaded(policy: MakePolicy) -> None:
    lua = policy("""
        kumo.on('mine', function()
          local searched = {}
          for _, name in ipairs { 'kumo.serde', 'tsa' } do searched[#searched + 1] = pcall(require, name) end
          return { searched, package.path:match '^[^;]*;[^;]*;[^;]*;[^;]*;' }
        end)
    """)
    await lua.load()
    assert await lua.ask("mine") == [
        [False, False],
        "/opt/kumomta/share/?.lua;/opt/kumomta/share/?/init.lua;"
        "/opt/kumomta/etc/policy/?.lua;/opt/kumomta/etc/policy/?/init.lua;",
    ]


async def test_a_policy_that_redefines_globals_breaks_only_itself(policy: MakePolicy, msg: Message) -> None:
    lua = policy("""
        kumo.on('mine', function(msg)
          error, pcall, tostring, type, setmetatable, select, rawget, next = nil
          string.match, table.concat, table.unpack, coroutine.yield, coroutine.resume = nil
          kumo.sleep(0)
          kumo.log_info(msg:sender().domain)
          kumo.make_queue_confg {}
        end)
    """)
    await lua.load()
    with pytest.raises(PolicyError, match=r"policy\.lua:8: kumo\.make_queue_confg does not exist"):
        await lua.ask("mine", msg)
    assert lua.env.host.named("info") == ["policy.lua:7: example.com"]


async def test_closed_contexts_are_freed(policy: MakePolicy, msg: Message) -> None:
    others = _runtimes()
    lua = policy("kumo.on('mine', function(msg) kept = msg end)")
    await lua.load()
    for _ in range(3):
        await lua.ask("mine", msg)
        await lua.load()
    lua.close()
    assert _runtimes() <= others
    # What the policy kept has gone with its context.
    assert not [one for one in gc.get_referrers(msg) if type(one).__name__ == "_PyReference"]


def _runtimes() -> set[int]:
    gc.collect()
    return {id(one) for one in gc.get_objects() if type(one).__name__ == "LuaRuntime"}
