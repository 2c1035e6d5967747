"""kumo.make_throttle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from policy_host import MakePolicy, RecordingHost
    from trio.testing import MockClock

    from kumo_py.message.message import Message
    from kumo_py.policy import LuaPolicy


async def load(policy: MakePolicy, code: str) -> LuaPolicy:
    lua = policy(f"kumo.on('mine', function(...)\n{code}\nend)")
    await lua.load()
    return lua


async def test_taking_from_a_throttle(policy: MakePolicy, autojump_clock: MockClock) -> None:
    lua = await load(policy, "return kumo.make_throttle('t', '2/10s'):throttle()")
    first = await lua.ask("mine")
    assert first == {
        "throttled": False,
        "limit": 2,
        "remaining": 1,
        "reset_after": {"secs": 5, "nanos": 0},
    }
    await lua.ask("mine")
    refused = await lua.ask("mine")
    assert (refused["throttled"], refused["remaining"], refused["retry_after"]["secs"]) == (True, 0, 5)
    assert refused["retry_after"]["nanos"] < 1000
    await trio.sleep(5.001)
    assert (await lua.ask("mine"))["throttled"] is False


async def test_throttles_of_one_name_and_spec_are_one(policy: MakePolicy, autojump_clock: MockClock) -> None:
    lua = await load(
        policy,
        """
        local function throttled(name, spec) return kumo.make_throttle(name, spec):throttle().throttled end
        return {
          throttled('a', '1/m'), throttled('b', '1/m'), throttled('a', '2/m'), throttled('a', '1/m'),
          throttled('a', 'local:1/m'),
        }
        """,
    )
    assert await lua.ask("mine") == [False, False, False, True, True]


async def test_waiting_for_a_throttle(policy: MakePolicy, autojump_clock: MockClock) -> None:
    lua = await load(policy, "return kumo.make_throttle('t', '6/m,max_burst=1'):sleep_if_throttled()")
    start = trio.current_time()
    assert await lua.ask("mine") is False
    assert trio.current_time() == start
    assert await lua.ask("mine") is True
    assert trio.current_time() - start == pytest.approx(10.0)


async def _after(seconds: float, call: Callable[[], None]) -> None:
    await trio.sleep(seconds)
    call()


async def test_waiting_ends_when_the_node_does(
    policy: MakePolicy, host: RecordingHost, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    lua = await load(policy, "return kumo.make_throttle('t', '1/d'):sleep_if_throttled()")
    await lua.ask("mine")
    nursery.start_soon(_after, 5.0, host.shutdown.set)
    with pytest.raises(
        PolicyError, match="throttle:sleep_if_throttled: aborted because the node is shutting"
    ):
        await lua.ask("mine")
    assert trio.current_time() < 100


async def test_delaying_a_message(
    policy: MakePolicy, host: RecordingHost, autojump_clock: MockClock, msg: Message
) -> None:
    lua = await load(policy, "return kumo.make_throttle('t', '1/hr'):delay_message_if_throttled((...))")
    assert await lua.ask("mine", msg) is False
    assert msg.due == 0.0
    await trio.sleep(600)
    assert await lua.ask("mine", msg) is True
    assert msg.due == pytest.approx(host.wall() + 3000)


async def test_what_a_throttle_amounts_to(policy: MakePolicy) -> None:
    lua = await load(policy, "return kumo.make_throttle('t', (...)):explain()")
    assert await lua.ask("mine", "100/h") == (
        "100/h\n"
        "implied burst rate 100 every 36s, or: 3/s, 167/m, 10,000/h, 240,000/d in that period.\n"
        "overall rate 0.028/s, 2/m, 100/h, 2,400/d"
    )
    assert await lua.ask("mine", "500/d,max_burst=10") == (
        "500/d,max_burst=10\n"
        "explicit burst rate 10 every 2m 52s 800ms, or: 0.058/s, 4/m, 209/h, 5,000/d in that period.\n"
        "overall rate 0.006/s, 0.347/m, 21/h, 500/d"
    )


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "kumo.make_throttle('t', '5/mins')",
            "'5/mins' is not a throttle: unknown period 'mins'; did you mean 'min'?",
        ),
        ("kumo.make_throttle('t', '0/s')", "0 must be at least 1"),
        ("kumo.make_throttle('t')", "argument 'spec' must be a string, got nil"),
        ("kumo.make_throttle('t', '1/s'):delay_message_if_throttled(1)", "must be a message, got number 1"),
        ("kumo.make_throttle('t', '1/s'):throtle()", "did you mean throttle?"),
    ],
)
async def test_mistakes(code: str, problem: str, policy: MakePolicy) -> None:
    lua = await load(policy, code)
    with pytest.raises(PolicyError) as raised:
        await lua.ask("mine")
    assert problem in str(raised.value)
    assert "policy.lua:3: " in str(raised.value)
