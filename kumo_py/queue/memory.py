"""Messages leave memory: those that wait by their queue's `shrink_policy`, those in ready queues when memory is short.

Only what the spool has can leave, so messages are saved first. Bodies in ready queues have a budget of their own:
past it they leave as they come.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import structlog
import trio

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.queue.config import MemoryReduction, QueueConfig
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue

log = structlog.get_logger("kumo_py.queue.memory")

_SLICE = 64
"""Messages handled in one go before other tasks get a turn."""


class MemoryState(enum.Enum):
    """How much memory the node has left."""

    OK = "ok"
    LOW = "low"
    """Above the low threshold."""
    NONE = "no"
    """Above the soft limit."""


def waiting_reduction(config: QueueConfig, wait: float) -> MemoryReduction:
    """What leaves memory of a message that waits for so many seconds: the last entry that matches says so."""
    policy: MemoryReduction = "ShrinkDataAndMeta"
    for entry in config.shrink_policy:
        if wait >= entry.interval:
            policy = entry.policy
    return policy


def shrink(msg: Message, policy: MemoryReduction) -> None:
    """Let a saved message's parts leave memory."""
    if policy != "NoShrink":
        msg.shrink_data()
        if policy == "ShrinkDataAndMeta":
            msg.shrink_meta()


class ReadyMemory:
    """What messages in ready queues take. One per node."""

    def __init__(self, queues: Queues, body_budget: int) -> None:
        """`body_budget` in bytes."""
        self._queues = queues
        self._budget = body_budget
        self.held = 0
        """Bytes of bodies in ready queues."""
        self._shrinking = False

    def body_came(self, msg: Message) -> None:
        """Account for a body in a ready queue; past the budget it leaves memory until it is sent."""
        if msg.data_loaded:
            if self.held + msg.size > self._budget and msg.data_saved:
                msg.shrink_data()
            else:
                self.held += msg.size

    def body_left(self, msg: Message) -> None:
        """A message leaves a ready queue."""
        if msg.data_loaded:
            self.held -= msg.size

    async def before_insert(self, msg: Message, ready: ReadyQueue) -> None:
        """Memory is short: a message is saved and shrunk as the path says before it goes to a ready queue."""
        path = ready.path
        low = self._queues.memory_state() is MemoryState.LOW
        policy = path.low_memory_reduction_policy if low else path.no_memory_reduction_policy
        if policy != "NoShrink" and await self._queues.save(msg):
            shrink(msg, policy)

    def shrink_all(self) -> None:
        """There is no memory left: all that ready queues hold leaves it, in a task of its own."""
        if self._queues.running and not self._shrinking:
            self._shrinking = True
            self._queues.spawn(self._shrink_all)

    async def _shrink_all(self) -> None:
        shrunk = 0
        try:
            for ready in list(self._queues.ready.values()):
                messages = list(ready.messages)
                for start in reversed(range(0, len(messages), _SLICE)):  # what goes back goes to the front
                    shrunk += await self._shrink_some(ready, messages[start : start + _SLICE])
                    await trio.lowlevel.checkpoint()
        finally:
            self._shrinking = False
        log.warning(f"{shrunk} messages of ready queues have left memory, which is short")

    async def _shrink_some(self, ready: ReadyQueue, messages: list[Message]) -> int:
        """Nobody may send a message while it is being saved, so it goes through our hands."""
        taken = ready.withdraw(set(messages))
        for msg in taken:
            if await self._queues.save(msg):
                shrink(msg, "ShrinkDataAndMeta")
        for msg in reversed(taken):
            ready.put_back(msg)
        return len(taken)
