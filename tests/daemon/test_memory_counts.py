"""How often a node crossed its memory limits, for the metrics."""

from __future__ import annotations

import trio

from kumo_py.daemon.memory import Memory
from kumo_py.queue.memory import MemoryState


async def test_crossings_are_counted(autojump_clock: object) -> None:
    memory = Memory()
    high = 1 << 50
    memory.soft_limit = high
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.watch)
        for limit in (1, 1, high, 1):
            memory.soft_limit = limit
            await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert memory.usage > 10_000_000
    assert memory.over_soft_limit
    assert (memory.over_limit_count, memory.low_count) == (2, 2)


async def test_queues_are_told_of_a_shortage(autojump_clock: object) -> None:
    memory = Memory()
    high = 1 << 50
    told: list[MemoryState] = []
    memory.on_shortage = lambda: told.append(memory.state)
    states = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.watch)
        for soft, low in ((high, high), (high, 1), (1, 1), (1, 1), (high, high)):
            memory.soft_limit, memory.low_threshold = soft, low
            await trio.sleep(2)
            states.append(memory.state)
        nursery.cancel_scope.cancel()
    assert states == [MemoryState.OK, MemoryState.LOW, MemoryState.NONE, MemoryState.NONE, MemoryState.OK]
    assert told == [MemoryState.NONE]
