"""Functions that wait: across pcall, coroutines and the top level; cancellation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy, RecordingHost


def lines(host: RecordingHost) -> list[str]:
    return [line.partition(": ")[2] for line in host.named("info")]


async def test_handlers_wait_under_trio(
    policy: MakePolicy, host: RecordingHost, autojump_clock: object
) -> None:
    lua = policy("""
        kumo.on('first', function() kumo.sleep(20) kumo.log_info 'first' end)
        kumo.on('second', function() kumo.time.sleep(10) kumo.log_info 'second' end)
    """)
    await lua.load()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lua.ask, "first")
        nursery.start_soon(lua.ask, "second")
    assert lines(host) == ["second", "first"]
    assert trio.current_time() == 20.0


async def test_waiting_works_across_pcall_and_metamethods(
    policy: MakePolicy, host: RecordingHost, autojump_clock: object
) -> None:
    lua = policy("""
        kumo.on('init', function()
          local lazy = setmetatable({}, { __index = function(_, key) kumo.sleep(1) return key end })
          local ok, value = pcall(function() return lazy.key end)
          kumo.log_info(ok, value)
          local ok, err = pcall(function() kumo.json_load 'none.json' end)
          kumo.log_info(ok, err)
          kumo.log_info(xpcall(function() kumo.sleep(1) error 'x' end, function(e) return 'handled ' .. e end))
        end)
    """)
    await lua.load()
    await lua.ask("init")
    assert lines(host) == [
        "true key",
        "false policy.lua:7: kumo.json_load: none.json: No such file or directory",
        "false handled policy.lua:9: x",
    ]


async def test_waiting_works_at_the_top_level(
    policy: MakePolicy, host: RecordingHost, autojump_clock: object
) -> None:
    lua = policy("kumo.sleep(3)\nkumo.on('init', function() end)")
    await lua.load()
    assert trio.current_time() == 3.0
    assert lua.handles("init")


async def test_waiting_works_in_the_policys_own_coroutines(
    policy: MakePolicy, host: RecordingHost, autojump_clock: object
) -> None:
    lua = policy("""
        kumo.on('init', function()
          local co = coroutine.create(function(a)
            kumo.sleep(1)
            local b = coroutine.yield(a + 1)
            kumo.sleep(1)
            return b + 1, nil
          end)
          kumo.log_info(coroutine.resume(co, 1))
          kumo.log_info(coroutine.resume(co, 10))
          kumo.log_info(coroutine.resume(co))
          local inner = coroutine.wrap(function()
            for n in coroutine.wrap(function() kumo.sleep(1) coroutine.yield(7) end) do coroutine.yield(n) end
          end)
          kumo.log_info(inner())
          kumo.log_info(pcall(coroutine.wrap(function() kumo.sleep(1) error('oh', 0) end)))
        end)
    """)
    await lua.load()
    await lua.ask("init")
    assert lines(host) == ["true 2", "true 11 nil", "false cannot resume dead coroutine", "7", "false oh"]
    assert trio.current_time() == 4.0


async def test_a_callback_of_c_cannot_wait_and_says_so(policy: MakePolicy) -> None:
    lua = policy("kumo.on('init', function()\n ('x'):gsub('x', function() kumo.sleep(1) end) end)")
    await lua.load()
    with pytest.raises(PolicyError, match=r"policy\.lua:3: kumo\.sleep has to wait, which Lua forbids here"):
        await lua.ask("init")


async def test_a_required_module_cannot_wait_while_it_loads(policy: MakePolicy, tmp_path: Path) -> None:
    (tmp_path / "slow.lua").write_text("local kumo = require 'kumo'\nkumo.sleep(1)\n")
    with pytest.raises(PolicyError, match=r"slow\.lua:2: kumo\.sleep has to wait"):
        await policy("require 'slow'").load()


async def test_a_waiting_event_has_its_globals_for_itself(
    policy: MakePolicy, host: RecordingHost, autojump_clock: object
) -> None:
    lua = policy("""
        counter = 0
        kumo.on('count', function()
          local before = counter
          kumo.sleep(1)
          counter = before + 1
          kumo.log_info(counter)
        end)
    """)
    await lua.load()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(lua.ask, "count")
    await lua.ask("count")
    assert lines(host) == ["1", "1", "1", "2"]


async def test_a_cancelled_handler_is_dropped_with_its_context(
    policy: MakePolicy, host: RecordingHost, autojump_clock: object
) -> None:
    lua = policy("""
        state = 'clean'
        kumo.on('init', function()
          kumo.log_info(state)
          state = 'dirty'
          pcall(kumo.sleep, 100)
          kumo.log_info 'never'
        end)
    """)
    await lua.load()
    with trio.move_on_after(1) as scope:
        await lua.ask("init")
    assert scope.cancelled_caught
    with trio.move_on_after(1):
        await lua.ask("init")
    assert lines(host) == ["clean", "clean"]


async def test_cancellation_while_the_policy_loads(policy: MakePolicy, autojump_clock: object) -> None:
    lua = policy("kumo.sleep(100)")
    with trio.move_on_after(1) as scope:
        await lua.load()
    assert scope.cancelled_caught


async def test_the_host_is_awaited(policy: MakePolicy, host: RecordingHost) -> None:
    lua = policy("""
        kumo.on('init', function()
          kumo.start_esmtp_listener { listen = '127.0.0.1:2525', banner = 'hello' }
          kumo.start_http_listener { listen = '127.0.0.1:8001', trusted_hosts = { '10.0.0.0/8' } }
          kumo.define_spool { name = 'data', path = '/spool/data' }
          kumo.configure_local_logs { log_dir = '/logs', max_segment_duration = '1 minute' }
          kumo.set_diagnostic_log_filter 'kumod=debug'
        end)
    """)
    await lua.load()
    assert await lua.ask("init") is None
    assert [name for name, _ in host.calls] == [
        "start_esmtp_listener",
        "start_http_listener",
        "define_spool",
        "configure_local_logs",
        "filter",
    ]
    smtp, http, spool, logs, filter_ = [argument for _, argument in host.calls]
    assert (smtp.listen, smtp.banner) == ("127.0.0.1:2525", "hello")
    assert http.listen == "127.0.0.1:8001"
    assert "10.1.2.3" in http.trusted_hosts
    assert (spool.name, spool.path) == ("data", "/spool/data")
    assert (logs.log_dir, logs.max_segment_duration) == ("/logs", 60.0)
    assert filter_ == "kumod=debug"
