"""kumo.traceback and kumo.get_event_registrars: who calls, and who handles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from policy_host import MakePolicy


async def test_the_functions_that_are_being_called(policy: MakePolicy) -> None:
    lua = policy("""
      local function inner() local frames = kumo.traceback(1) return frames end
      kumo.on('mine', function() local frames = inner() return frames end)
    """)
    await lua.load()
    inner, outer, *_ = await lua.ask("mine")
    assert (inner["name"], inner["curr_line"], inner["what"], inner["short_src"]) == (
        "inner",
        3,
        "Lua",
        "policy.lua",
    )
    assert (outer["curr_line"], outer["line_defined"], outer["source"]) == (4, 4, "@policy.lua")


async def test_who_handles_an_event(policy: MakePolicy) -> None:
    lua = policy("""
      local function register() kumo.on('get_queue_config', function() end) return true end
      register()
      kumo.on('get_queue_config', function() end)
      kumo.on('mine', function()
        return { kumo.get_event_registrars 'get_queue_config', kumo.get_event_registrars 'init' or 'nobody' }
      end)
    """)
    await lua.load()
    (first, second), nobody = await lua.ask("mine")
    assert first[:2] == ["policy.lua:3", "policy.lua:4"]
    assert second[0] == "policy.lua:5"
    assert nobody == "nobody"


@pytest.mark.parametrize("call", ["kumo.traceback('x')", "kumo.get_event_registrars()"])
async def test_wrong_arguments(policy: MakePolicy, call: str) -> None:
    lua = policy(f"kumo.on('mine', function() {call} end)")
    await lua.load()
    with pytest.raises(PolicyError, match=r"policy\.lua:2: kumo\.\w+: argument '(level|event)' must be"):
        await lua.ask("mine")
