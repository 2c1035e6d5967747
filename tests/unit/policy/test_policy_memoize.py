"""kumo.memoize: one result for all contexts, computed by one caller at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.policy.modules.memoize import MemoCaches

if TYPE_CHECKING:
    from policy_host import MakePolicy

    from kumo_py.policy import LuaPolicy

OPTIONS = "name = 'mine', ttl = '1 minute', capacity = 3"


async def loaded(policy: MakePolicy, text: str) -> LuaPolicy:
    lua = policy(text)
    await lua.load()
    return lua


async def test_a_result_is_computed_once_for_all_contexts(policy: MakePolicy) -> None:
    lua = await loaded(
        policy,
        f"""
        calls = 0
        local slow = kumo.memoize(function(a, b) calls = calls + 1 return a .. tostring(b) end, {{ {OPTIONS} }})
        kumo.on('same', function() return {{ slow('a', 1), slow('a', 1), slow('b'), calls }} end)
        kumo.on('other', function() kumo.sleep(0) return {{ slow('a', 1), calls }} end)
        """,
    )
    assert await lua.ask("same") == ["a1", "a1", "bnil", 2]
    lua._pool.take()  # so that the next event gets a new context
    assert await lua.ask("other") == ["a1", 0]
    lua.close()


async def test_arguments_are_told_apart_as_json_would(policy: MakePolicy) -> None:
    lua = await loaded(
        policy,
        """
        local n = 0
        local slow = kumo.memoize(function() n = n + 1 return n end, { name = 'mine', ttl = 60, capacity = 99 })
        kumo.on('mine', function()
          return { slow(), slow(1), slow(true), slow('1'), slow { 1 }, slow { a = 1, b = 2 }, slow { b = 2, a = 1 } }
        end)
        """,
    )
    assert await lua.ask("mine") == [1, 2, 3, 4, 5, 6, 6]
    lua.close()


async def test_results_expire_and_the_oldest_makes_room(
    policy: MakePolicy, autojump_clock: trio.testing.MockClock
) -> None:
    lua = await loaded(
        policy,
        f"""
        local n = 0
        local slow = kumo.memoize(function() n = n + 1 return n end, {{ {OPTIONS} }})
        kumo.on('mine', function(key) return slow(key) end)
        """,
    )
    assert [await lua.ask("mine", key) for key in "abab"] == [1, 2, 1, 2]
    assert [await lua.ask("mine", key) for key in "cda"] == [3, 4, 5]
    await trio.sleep(61)
    assert await lua.ask("mine", "d") == 6
    lua.close()


async def test_whatever_a_function_may_return_is_kept(policy: MakePolicy) -> None:
    lua = await loaded(
        policy,
        """
        local function kept(name, f) return kumo.memoize(f, { name = name, ttl = 60, capacity = 1 }) end
        local none = kept('none', function() end)
        local two = kept('two', function() return 'x', 'y' end)
        local bytes = kept('bytes', function() return '\\xff\\0' end)
        local time = kept('time', function() return kumo.time.parse_duration '90s' end)
        local nested = kept('nested', function() return { list = { 1, 2, 3 }, empty = {}, [5] = 'five' } end)
        kumo.on('mine', function()
          local t, sum = nested(), 0
          for _, n in ipairs(t.list) do sum = sum + n end
          local keys = 0
          for _ in pairs(t) do keys = keys + 1 end
          return {
            none() == nil, none() == nil, two()[2], bytes() == '\\xff\\0', time().seconds,
            sum, #t.list, #t.empty, t[5], keys, type(t),
          }
        end)
        """,
    )
    expected = [True, True, "y", True, 90.0, 6, 3, 0, "five", 3, "userdata"]
    assert await lua.ask("mine") == expected
    assert await lua.ask("mine") == expected
    lua.close()


async def test_to_write_to_a_kept_table_changes_only_the_writers_copy(policy: MakePolicy) -> None:
    lua = await loaded(
        policy,
        f"""
        local get = kumo.memoize(function() return {{ a = 1, inner = {{ 1 }} }} end, {{ {OPTIONS} }})
        kumo.on('mine', function()
          local first, second = get(), get()
          first.a = 2
          first.new = {{ 'x' }}
          return {{ first.a, first.new[1], second.a, second.new == nil, get().a }}
        end)
        """,
    )
    assert await lua.ask("mine") == [2, "x", 1, True, 1]
    lua.close()


async def test_kept_tables_are_taken_as_options_and_lists(policy: MakePolicy) -> None:
    lua = await loaded(
        policy,
        f"""
        local get = kumo.memoize(function() return {{ max_age = '1h' }} end, {{ {OPTIONS} }})
        kumo.on('get_queue_config', function() return kumo.make_queue_config(get()) end)
        kumo.on('mine', function() return {{ inner = get(), text = kumo.serde.json_encode(get()) }} end)
        """,
    )
    config = await lua.ask("get_queue_config", "example.com", None, None, None)
    assert config.max_age == 3600
    assert await lua.ask("mine") == {"inner": {"max_age": "1h"}, "text": '{"max_age":"1h"}'}
    lua.close()


def counted(lua: LuaPolicy) -> tuple[int, int, int]:
    """Errors, old results that were given, and who waits."""
    cache = lua.env.state(MemoCaches).by_name["mine"]
    return cache.errors, cache.stale_reads, cache.waiting


async def test_others_wait_for_the_first(policy: MakePolicy, autojump_clock: trio.testing.MockClock) -> None:
    lua = await loaded(
        policy,
        f"""
        local slow = kumo.memoize(function() kumo.sleep(10) return 'done' end, {{ {OPTIONS} }})
        kumo.on('mine', function() return slow() end)
        """,
    )
    results = []

    async def ask() -> None:
        results.append((await lua.ask("mine"), trio.current_time()))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.sleep(5)
        assert counted(lua) == (0, 0, 4)
    assert counted(lua) == (0, 0, 0)
    assert len({time for _, time in results}) == 1
    assert [value for value, _ in results] == ["done"] * 5
    assert trio.current_time() == pytest.approx(10)
    lua.close()


async def test_an_error_reaches_all_who_wait_and_is_not_kept(
    policy: MakePolicy, autojump_clock: trio.testing.MockClock
) -> None:
    lua = await loaded(
        policy,
        f"""
        local slow = kumo.memoize(function() kumo.sleep(1) error 'no luck' end, {{ {OPTIONS} }})
        local refuses = kumo.memoize(function() kumo.reject(550, 'go away') end, {{ {OPTIONS.replace("mine", "b")} }})
        kumo.on('mine', function() return slow() end)
        kumo.on('refused', function() return refuses() end)
        """,
    )
    errors = []

    async def ask() -> None:
        try:
            await lua.ask("mine")
        except PolicyError as err:
            errors.append(str(err))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    assert [("policy.lua:3: no luck" in one) for one in errors] == [True, True]
    await ask()
    assert counted(lua) == (2, 0, 0)
    assert trio.current_time() == pytest.approx(2)
    with pytest.raises(Rejection, match="550"):
        await lua.ask("refused")
    lua.close()


async def test_who_is_cancelled_gives_its_place_up(
    policy: MakePolicy, autojump_clock: trio.testing.MockClock
) -> None:
    lua = await loaded(
        policy,
        f"""
        local slow = kumo.memoize(function() kumo.sleep(10) return 'done' end, {{ {OPTIONS} }})
        kumo.on('mine', function() return slow() end)
        """,
    )

    async def give_up() -> None:
        with trio.move_on_after(3):
            await lua.ask("mine")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        await trio.sleep(1)
        assert await lua.ask("mine") == "done"
    assert trio.current_time() == pytest.approx(13)
    lua.close()


@pytest.mark.parametrize(
    ("options", "result", "time"),
    [
        ("", "failed", 5),
        ("retry_on_populate_timeout = true", "failed", 15),
        ("allow_stale_reads = true", 1, 5),
    ],
)
async def test_what_takes_too_long_is_ended(
    policy: MakePolicy, autojump_clock: trio.testing.MockClock, options: str, result: object, time: float
) -> None:
    lua = await loaded(
        policy,
        f"""
        local n = 0
        local slow = kumo.memoize(function()
          n = n + 1
          if n > 1 then kumo.sleep(60) end
          return n
        end, {{ name = 'mine', ttl = '1 minute', capacity = 3, populate_timeout = '5s', {options} }})
        kumo.on('mine', function() return slow() end)
        """,
    )
    assert await lua.ask("mine") == 1
    await trio.sleep(61)
    began = trio.current_time()
    try:
        found = await lua.ask("mine")
    except PolicyError as err:
        found = "failed" if "took longer than the populate_timeout" in str(err) else str(err)
    assert (found, trio.current_time() - began) == (result, pytest.approx(time))
    assert counted(lua) == ((1, 0, 0) if result == "failed" else (0, 1, 0))
    lua.close()


async def test_the_config_epoch_can_be_part_of_the_key(policy: MakePolicy) -> None:
    lua = await loaded(
        policy,
        f"""
        local n = 0
        local slow = kumo.memoize(function() n = n + 1 return n end,
          {{ {OPTIONS}, invalidate_with_epoch = true }})
        local always = kumo.memoize(function() return {{ n }} end, {{ {OPTIONS.replace("mine", "b")} }})
        kumo.on('mine', function() return {{ slow(), always()[1] }} end)
        """,
    )
    assert await lua.ask("mine") == [1, 1]
    await lua.load()
    assert await lua.ask("mine") == [1, 1]  # computed again, in a context where n began at 0
    assert lua.env.state(MemoCaches).by_name["mine"].results.inserted == 2
    lua.close()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "kumo.memoize('x', {})",
            "policy.lua:2: kumo.memoize: the first argument must be a function, got string",
        ),
        ("kumo.memoize(print, { name = 'x', ttl = 1 })", "kumo.memoize: option 'capacity' is required"),
        ("kumo.memoize(print, { name = 'x', ttl = 1, capacity = 1, tll = 1 })", "(did you mean 'ttl'?)"),
        (
            "kumo.memoize(print, { name = 'mta_sts_policy', ttl = 1, capacity = 1 })",
            "prefix yours, 'user.mta_sts_policy'",
        ),
        (
            "kumo.memoize(print, { name = 'x', ttl = 1, capacity = 0 })",
            "capacity: expected at least 1, got 0",
        ),
    ],
)
async def test_misuse_is_explained(policy: MakePolicy, code: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await loaded(policy, code)
    assert message in str(caught.value)


async def test_objects_of_an_event_cannot_be_kept(policy: MakePolicy, msg: Any) -> None:
    lua = await loaded(
        policy,
        f"""
        local keep = kumo.memoize(function(f) return f() end, {{ {OPTIONS} }})
        local m
        local get = kumo.memoize(function() return m end, {{ {OPTIONS.replace("mine", "b")} }})
        kumo.on('spool_message_enumerated', function(msg) m = msg get() end)
        """,
    )
    with pytest.raises(PolicyError, match="cannot keep a message, which belongs to its event"):
        await lua.ask("spool_message_enumerated", msg)
    lua.close()
