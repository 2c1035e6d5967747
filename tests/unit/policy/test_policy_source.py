"""One epoch, one policy: what its contexts run is read once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from policy_host import MakePolicy

POLICY = """
package.path = './?.lua;' .. package.path
local part = require 'part'
local late = function() return require('late').value end
local data = kumo.serde.json_load 'data.json'
kumo.on('mine', function() return { part.value, data.value, late(), kumo.serde.json_load('data.json').value } end)
"""


def spoil() -> None:
    Path("part.lua").write_text("return {")
    Path("data.json").unlink()


def write(value: int) -> None:
    for name in ("part.lua", "late.lua"):
        Path(name).write_text(f"return {{ value = {value} }}")
    Path("data.json").write_text(f'{{"value": {value}}}')


async def test_modules_and_data_are_read_once_an_epoch(policy: MakePolicy) -> None:
    write(1)
    lua = policy(POLICY)
    await lua.load()
    assert await lua.ask("mine") == [1, 1, 1, 1]
    write(2)
    lua._pool.take()  # so that the next event gets a new context
    assert await lua.ask("mine") == [1, 1, 1, 2]  # what a handler itself loads is as new as can be
    await lua.load()
    assert await lua.ask("mine") == [2, 2, 2, 2]
    lua.close()


async def test_a_broken_module_does_no_harm_to_the_epoch_that_runs(policy: MakePolicy) -> None:
    write(1)
    lua = policy(POLICY)
    await lua.load()
    assert (await lua.ask("mine"))[0] == 1
    spoil()
    lua._pool.take()
    with pytest.raises(PolicyError, match=r"data.json: No such file"):
        await lua.ask("mine")  # the handler loads it anew
    with pytest.raises(PolicyError, match=r"part.lua:1: unexpected symbol near <eof>"):
        await lua.load()
    write(3)
    assert (await lua.ask("mine"))[:3] == [1, 1, 1]
    lua.close()


async def test_the_files_of_an_epoch_are_known(policy: MakePolicy) -> None:
    write(1)
    lua = policy(POLICY)
    await lua.load()
    await lua.ask("mine")
    assert set(lua.source.digests) == {"policy.lua", "./part.lua", "./late.lua", "data.json"}
    lua.close()


async def test_a_module_that_is_missing_says_where_it_was_looked_for(policy: MakePolicy) -> None:
    lua = policy("require 'nowhere'")
    with pytest.raises(
        PolicyError, match=r"policy.lua:2: module 'nowhere' not found(?s:.*)no file '"
    ) as caught:
        await lua.load()
    assert "/opt/kumomta/etc/policy/nowhere.lua" in str(caught.value)
