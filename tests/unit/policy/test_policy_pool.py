"""Contexts: when they are made, used again, and dropped; reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from kumo_py.core.policy import PolicyError, Rejection

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy, RecordingHost

COUNTING = """
uses = 0
kumo.on('use', function()
  uses = uses + 1
  return uses
end)
kumo.on('wait', function() kumo.sleep(10) end)
kumo.on('fail', function() uses = uses + 1 error 'x' end)
kumo.on('reject', function() uses = uses + 1 kumo.reject(550, 'x') end)
"""


async def test_one_context_serves_one_event_after_the_other(policy: MakePolicy) -> None:
    lua = policy(COUNTING)
    await lua.load()
    assert [await lua.ask("use") for _ in range(3)] == [1, 2, 3]


async def test_errors_and_rejections_keep_the_context(policy: MakePolicy) -> None:
    lua = policy(COUNTING)
    await lua.load()
    with pytest.raises(PolicyError):
        await lua.ask("fail")
    with pytest.raises(Rejection):
        await lua.ask("reject")
    assert await lua.ask("use") == 3


async def test_a_new_context_is_made_while_all_wait(policy: MakePolicy, autojump_clock: object) -> None:
    lua = policy(COUNTING)
    await lua.load()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lua.ask, "wait")
        await trio.sleep(1)
        assert [await lua.ask("use") for _ in range(2)] == [1, 2]
    assert await lua.ask("use") in (1, 3)


async def test_a_context_is_dropped_after_1024_uses(policy: MakePolicy) -> None:
    lua = policy(COUNTING)
    await lua.load()
    # Loading counted as the first use.
    results = [await lua.ask("use") for _ in range(1030)]
    assert results[:1023] == list(range(1, 1024))
    assert results[1023:] == list(range(1, 8))


async def test_a_context_is_dropped_after_300_seconds(policy: MakePolicy, autojump_clock: object) -> None:
    lua = policy(COUNTING)
    await lua.load()
    assert await lua.ask("use") == 1
    await trio.sleep(299)
    assert await lua.ask("use") == 2
    await trio.sleep(2)
    assert await lua.ask("use") == 1


async def test_the_policy_sets_the_limits(policy: MakePolicy, autojump_clock: object) -> None:
    lua = policy(COUNTING + "kumo.set_max_lua_context_use_count(3)\nkumo.set_max_lua_context_age(10)")
    await lua.load()
    assert [await lua.ask("use") for _ in range(4)] == [1, 2, 1, 2]
    await trio.sleep(10)
    assert await lua.ask("use") == 1
    lua = policy(COUNTING + "kumo.set_max_spare_lua_contexts(0)")
    await lua.load()
    assert [await lua.ask("use") for _ in range(2)] == [1, 1]


async def test_the_top_level_runs_again_for_each_context(
    policy: MakePolicy, host: RecordingHost, autojump_clock: object
) -> None:
    lua = policy("kumo.log_info 'loaded'\nkumo.on('init', function() end)")
    await lua.load()
    await trio.sleep(301)
    await lua.ask("init")
    assert len(host.named("info")) == 2


async def test_contexts_of_an_epoch_run_what_was_read_at_its_start(
    policy: MakePolicy, tmp_path: Path, autojump_clock: object
) -> None:
    lua = policy("kumo.on('mine', function() return 'old' end)")
    await lua.load()
    (tmp_path / "policy.lua").write_text("this is no Lua")
    await trio.sleep(301)
    assert await lua.ask("mine") == "old"


async def test_reload_changes_handlers_and_drops_contexts_in_use_when_they_are_done(
    policy: MakePolicy, autojump_clock: object
) -> None:
    lua = policy(COUNTING)
    await lua.load()
    assert lua.epoch == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lua.ask, "wait")
        await trio.sleep(1)
        policy("kumo.on('mine', function() return 'new' end)")
        await lua.load()
    assert lua.epoch == 2
    assert (lua.handles("use"), lua.handles("mine")) == (False, True)
    assert await lua.ask("mine") == "new"
    assert await lua.ask("use") is None


@pytest.mark.parametrize("broken", ["syntax error", "error('at the top')", "kumo.on('init')"])
async def test_a_broken_reload_changes_nothing(policy: MakePolicy, broken: str) -> None:
    lua = policy(COUNTING)
    await lua.load()
    assert await lua.ask("use") == 1
    policy(broken)
    with pytest.raises(PolicyError):
        await lua.load()
    assert lua.epoch == 1
    assert await lua.ask("use") == 2


async def test_a_policy_that_was_never_loaded_handles_nothing(policy: MakePolicy) -> None:
    lua = policy(COUNTING)
    assert not lua.handles("use")
    assert await lua.ask("use") is None
