"""Delayed messages become due: they leave the timer wheel and go on, in order.

One task does that. Where it is stuck, because the policy is asked and does not answer, another one goes on with the
messages behind, up to a few.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.queue.context import InsertReason
from kumo_py.queue.scheduled import ScheduledQueue

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.queue.queues import Queues

log = structlog.get_logger("kumo_py.queue.promotion")

TICK = 0.05
"""Seconds: how late a delayed message may be."""
_AFTER_ERROR = 60.0
"""Seconds."""
_TASKS = 16
"""At most so many are stuck at a time."""
_SLICE = 128
"""Messages handled in one go before other tasks get a turn."""


class Promotion:
    """See the module. One per node."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._due: deque[Message] = deque()
        self._tasks = 0
        self._done = self._seen = 0
        self.pops = 0
        """How often the wheel was looked into."""
        self._popped: float | None = None
        """When that was."""
        self._nap: trio.CancelScope | None = None
        self._nursery: trio.Nursery | None = None

    @property
    def tasks(self) -> int:
        """How many are at work."""
        return self._tasks

    @property
    def waiting(self) -> list[Message]:
        """What has left the wheel and has not gone on yet."""
        return list(self._due)

    async def run(self) -> None:
        """Until cancelled."""
        queues = self._queues
        async with trio.open_nursery() as self._nursery:
            while True:
                next_due = queues.wheel.next_due()
                with trio.CancelScope() as self._nap:
                    if next_due is not None:
                        self._nap.deadline = trio.current_time() + max(0.0, next_due - queues.wall())
                    await trio.sleep_forever()
                self._nap = None
                self._due.extend(self._pop())
                if self._due and not self._tasks:
                    self._start()

    def _pop(self) -> list[Message]:
        """What is due now."""
        queues, times = self._queues, self._queues.times
        now, started = queues.wall(), perf_counter()
        due = queues.wheel.advance(now)
        times.pop.observe(perf_counter() - started)
        if self._popped is not None:
            times.pop_interval.observe(now - self._popped)
        self._popped = now
        self.pops += 1
        return due

    def wake_for(self, due: float) -> None:
        """A message was put into the wheel that is due then (Unix time)."""
        if self._nap is not None:
            wake = trio.current_time() + max(0.0, due - self._queues.wall()) + TICK
            if wake < self._nap.deadline:
                self._nap.deadline = wake

    def look(self) -> None:
        """Called once a second: if nothing has gone on since the last time, another task takes over."""
        if self._due and self._done == self._seen and self._tasks < _TASKS:
            self._start()
        self._seen = self._done

    def _start(self) -> None:
        assert self._nursery is not None
        self._tasks += 1
        self._nursery.start_soon(self._go_on_with_all)

    async def _go_on_with_all(self) -> None:
        try:
            while self._due:
                msg = self._due.popleft()
                queue = msg.queue
                # What was promoted or moved by an operator left its old slot behind.
                now = self._queues.wall()
                if isinstance(queue, ScheduledQueue) and msg.due <= now:
                    due = msg.due
                    self._queues.times.tardiness.observe(now - due)
                    self._queues.out_of_wheel(msg, queue)
                    try:
                        await self._queues.sweep.reinsert(msg, InsertReason.DUE, queue.name)
                    except Exception:
                        log.exception("a message that is due could not go on; it waits", id=msg.id.hex())
                        self._queues.into_wheel(msg, queue, self._queues.wall() + _AFTER_ERROR)
                    self._queues.times.reinsert_tardiness.observe(self._queues.wall() - due)
                self._done += 1
                if self._done % _SLICE == 0:
                    await trio.lowlevel.checkpoint()
        finally:
            self._tasks -= 1
