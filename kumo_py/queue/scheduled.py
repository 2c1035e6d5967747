"""The scheduled queue: `campaign:tenant@domain!routing_domain`, and the way of a message through it.

It holds no messages of its own: those that wait lie in the node's one timer wheel and point back here, those
that may go are in a ready queue. What it does own is the queue's configuration, the choice among the
pool's sources, and the count of what waits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from kumo_py.message.queue_name import QueueName

if TYPE_CHECKING:
    from kumo_py.logs import LastError
    from kumo_py.queue.config import EgressPath, QueueConfig
    from kumo_py.queue.egress import SourceSelector
    from kumo_py.queue.ready import ReadyQueue

NULL_QUEUE = "null"
"""Messages of this queue are dropped without a trace."""


def refresh_time(config: QueueConfig | EgressPath) -> float:
    """When the policy is asked again (trio time): after a while, or never within a config epoch."""
    if config.refresh_strategy == "Epoch":
        return math.inf
    return trio.current_time() + config.refresh_interval


class ScheduledQueue:
    """One queue's configuration and counters; `Queues` moves the messages."""

    __slots__ = (
        "components",
        "config",
        "delayed",
        "event_delays",
        "full_delays",
        "held",
        "last_change",
        "last_error",
        "name",
        "next_refresh",
        "rate_delays",
        "ready_by_source",
        "selector",
    )

    def __init__(self, name: str, config: QueueConfig, selector: SourceSelector) -> None:
        self.name = name
        self.components = QueueName.parse(name)
        self.selector = selector
        self.ready_by_source: dict[str, tuple[float, ReadyQueue]] = {}
        """Ready queues found for a source, each until a time (trio) when its site is looked up again."""
        self.delayed = 0
        """Messages of this queue that wait: in the timer wheel, or held by an operator."""
        self.held = 0
        """Those that an operator holds."""
        self.rate_delays = self.event_delays = self.full_delays = 0
        """Messages sent back to wait: by max_message_rate, by throttle_insert_ready_queue, by full ready queues."""
        self.last_error: LastError | None = None
        """The last failure of one of its messages."""
        self.last_change = trio.current_time()
        self.apply(config)

    def apply(self, config: QueueConfig) -> None:
        """Take a new configuration over."""
        self.config = config
        self.next_refresh = refresh_time(config)

    def reapable(self, now: float) -> bool:
        """Whether it is empty and nothing has happened for `reap_interval` (trio time)."""
        return self.delayed == 0 and now - self.last_change > self.config.reap_interval
