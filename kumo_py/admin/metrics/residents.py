"""How many messages have their content and their metadata in memory.

To know that, each message has to be looked at. So it is done in slices when somebody asks, and no more than a
hundredth of the time is spent on it: with a million messages it is done about every ten seconds.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import trio

from kumo_py.queue.census import Census

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.message.message import Message
    from kumo_py.queue.queues import Queues

_SHARE = 0.01
"""Of the time."""
_SLICE = 512
"""Messages looked at in one go before other tasks get a turn."""


class Residents:
    """One per node. A message that an operator has moved may count more than once."""

    def __init__(self) -> None:
        self.with_data = 0
        self.with_meta = 0
        self._free_at = -math.inf
        self._looking = trio.Lock()

    async def look(self, queues: Queues) -> None:
        """Bring the numbers up to date, unless that is too early."""
        async with self._looking:
            if trio.current_time() < self._free_at:
                return
            spent = 0.0
            with_data = with_meta = 0
            before = time.perf_counter()
            for messages in _slices(Census(queues)):
                with_data += sum([msg.data_loaded for msg in messages])
                with_meta += sum([msg.meta_loaded for msg in messages])
                spent += time.perf_counter() - before
                await trio.lowlevel.checkpoint()
                before = time.perf_counter()
            self.with_data, self.with_meta = with_data, with_meta
            self._free_at = trio.current_time() + spent / _SHARE


def _slices(census: Census) -> Iterator[list[Message]]:
    yield from census.others(_SLICE)
    for _, messages in census.ready:
        for start in range(0, len(messages), _SLICE):
            yield messages[start : start + _SLICE]
