"""How often a node crossed its memory limits, for the metrics."""

from __future__ import annotations

import trio

from kumo_py.daemon.memory import Memory


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
