"""The module `kumo.mpsc`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from policy_host import run

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from policy_host import MakePolicy


async def test_values_come_out_in_order(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local q = kumo.mpsc.define 'first'
        local alias = kumo.mpsc.define('first', 1)
        q:send 'hello'
        local sent = q:try_send '\xff'
        local seen = {
          sent, q:len(), q:is_empty(), q:recv(), alias:recv() == '\xff', q:try_recv() == nil, q:is_empty(),
        }
        for n = 1, 10 do q:send(n) end
        local batch, rest = q:recv_many(8), q:recv_many(128)
        q:send_timeout({ a = { 1, 2 }, map = kumo.cidr.make_map { ['127.0.0.1'] = 42 } }, 0.5)
        local t = q:try_recv()
        return { seen, batch, rest, t.a[2], t.map['127.0.0.1'], q:len(), type(q) }
        """,
    )
    assert result == [
        [True, 2, False, "hello", True, True, True], list(range(1, 9)), [9, 10], 2, 42, 0, "userdata",
    ]  # fmt: skip


async def test_a_full_queue(policy: MakePolicy, autojump_clock: trio.testing.MockClock) -> None:
    result = await run(
        policy,
        """
        local q = kumo.mpsc.define('small', 1)
        local sent = { q:try_send(1), q:try_send(2) }
        local ok, err = pcall(q.send_timeout, q, 3, 0.05)
        return { sent, ok, err, q:try_recv(), q:try_send(4), q:recv() }
        """,
    )
    assert result[0] == [True, False]
    assert result[1] is False
    assert "queue:send_timeout: there was no room in the queue for 0.05 seconds" in result[2]
    assert result[3:] == [1, True, 4]


async def test_a_closed_queue(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local q = kumo.mpsc.define 'closing'
        q:send(1) q:send(2)
        local before = q:is_closed()
        q:close()
        local ok, err = pcall(q.send, q, 3)
        return { before, q:is_closed(), ok, err, q:try_send(3), q:recv(), q:recv_many(5), q:recv() == nil,
          q:recv_many(5) == nil, q:try_recv() == nil }
        """,
    )
    assert result[:3] == [False, True, False]
    assert "queue:send: the queue is closed" in result[3]
    assert result[4:] == [False, 1, [2], True, True, True]


WAITING = """
local function q() return kumo.mpsc.define('shared', 2) end
kumo.on('receive', function() return q():recv() end)
kumo.on('receive_many', function() return q():recv_many(10) end)
kumo.on('send', function(value) q():send(value) end)
kumo.on('try', function() return q():try_recv() end)
kumo.on('close', function() q():close() end)
"""


async def test_events_wait_for_each_other(policy: MakePolicy, autojump_clock: trio.testing.MockClock) -> None:
    lua = policy(WAITING)
    await lua.load()
    received: list[Any] = []

    async def receive(event: str) -> None:
        received.append(await lua.ask(event))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, "receive")
        await trio.testing.wait_all_tasks_blocked()
        for event in ("receive", "receive_many", "try"):
            with pytest.raises(PolicyError, match="the queue has a receiver already"):
                await lua.ask(event)
        await lua.ask("send", "one")
    assert received == ["one"]

    async with trio.open_nursery() as nursery:
        for number in range(5):  # two have room, three wait
            nursery.start_soon(lua.ask, "send", number)
        await trio.testing.wait_all_tasks_blocked()
        while len(received) < 6:
            batch = await lua.ask("receive_many")
            assert 1 <= len(batch) <= 2
            received += batch
    assert sorted(received[1:]) == [0, 1, 2, 3, 4]
    lua.close()


async def test_closing_wakes_who_waits(policy: MakePolicy, autojump_clock: trio.testing.MockClock) -> None:
    lua = policy(WAITING)
    await lua.load()
    results: list[Any] = []

    async def receive() -> None:
        results.append(await lua.ask("receive"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await lua.ask("close")
    assert results == [None]
    lua.close()


async def test_a_cancelled_receiver_makes_room_for_the_next(
    policy: MakePolicy, autojump_clock: trio.testing.MockClock
) -> None:
    lua = policy(WAITING)
    await lua.load()
    with trio.move_on_after(1):
        await lua.ask("receive")
    await lua.ask("send", "still there")
    assert await lua.ask("receive") == "still there"
    lua.close()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("kumo.mpsc.define('x', 0)", "policy.lua:3: kumo.mpsc.define: the limit must be at least 1, got 0"),
        ("kumo.mpsc.define()", "kumo.mpsc.define: argument 'name' must be a string, got nil"),
        ("kumo.mpsc.define 'x':send(print)", "queue:send: argument 'value' cannot keep a function"),
        ("kumo.mpsc.define 'x':recv_many(0)", "queue:recv_many: the limit must be at least 1, got 0"),
        ("kumo.mpsc.define 'x':send_timeout(1, -1)", "queue:send_timeout: cannot wait for -1 seconds"),
        ("kumo.mpsc.define 'x'.len()", "queue:len must be called with ':' on a queue"),
    ],
)
async def test_misuse_is_explained(policy: MakePolicy, code: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code)
    assert problem in str(caught.value)
