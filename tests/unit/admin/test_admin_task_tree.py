"""The tree of tasks, as an operator sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kumo_py.admin.machine import task_dump
from kumo_py.admin.task_tree import task_tree

if TYPE_CHECKING:
    from kumo_py.admin.call import Call


class _Call:
    def __init__(self, **query: str) -> None:
        self.query = query


async def waiter() -> None:
    await trio.sleep_forever()


async def parent(count: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(waiter)
        nursery.start_soon(inner, 3)


async def inner(depth: int) -> None:
    if depth:
        await inner(depth - 1)
    await trio.sleep_forever()


async def test_the_tree(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parent, 5)
        await trio.testing.wait_all_tasks_blocked()
        lines = await task_tree()
        text = "\n".join(lines)
        nursery.cancel_scope.cancel()
    at = lines.index(next(line for line in lines if line.endswith("test_admin_task_tree.parent")))
    found = [line.strip() for line in lines[at:]]
    assert found[1].startswith("at parent (admin/test_admin_task_tree.py:")
    assert any(line.endswith("test_admin_task_tree.waiter  (5 times)") for line in found)
    assert sum(line.startswith("at waiter (") for line in found) == 1
    assert sum(line.startswith("at inner (") for line in found) == 4
    assert "trio/_" not in text


async def test_many_tasks_do_not_hold_others_up(autojump_clock: trio.testing.MockClock) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(parent, 2000)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(tick)
        await trio.lowlevel.checkpoint()
        lines = await task_tree()
        assert ticks > 20
        assert any(line.endswith("(2000 times)") for line in lines)
        assert int(lines[0].split()[0]) > 2000
        nursery.cancel_scope.cancel()


async def test_too_little_time() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parent, 200)
        await trio.testing.wait_all_tasks_blocked()
        call: Call = _Call(timeout="0")  # type: ignore[assignment]
        response = await task_dump(call)
        assert response.body == b"the time is over: try again with a larger timeout\n"
        nursery.cancel_scope.cancel()
