"""The scheduled queues of a node, by name: made when first asked for, configured by the policy, refreshed, reaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.message.message import NotLoaded
from kumo_py.message.queue_name import QueueName
from kumo_py.queue.config import QueueConfig
from kumo_py.queue.egress import SourceSelector
from kumo_py.queue.scheduled import NULL_QUEUE, ScheduledQueue

if TYPE_CHECKING:
    from kumo_py.core.policy import Policy
    from kumo_py.logs import LastError
    from kumo_py.message.message import Message
    from kumo_py.queue.placement import Placement

log = structlog.get_logger("kumo_py.queue.directory")

FAILED_QUEUE_TTL = 60.0
"""Seconds for which a queue that could not be set up is not tried again."""


class QueueDirectory:
    """See the module."""

    def __init__(self, policy: Policy, placement: Placement) -> None:
        self._policy = policy
        self._placement = placement
        self.queues: dict[str, ScheduledQueue] = {}
        self.internal: dict[str, QueueConfig] = {}
        """Queues of the node's own, by name: the policy is not asked how they are configured."""
        self.epoch = 0
        """Grows with each `epoch_changed`."""
        self._failed: dict[str, tuple[float, PolicyError | Rejection]] = {}
        """Until when (trio time) a queue is not tried again, and why."""
        self._resolving: dict[str, trio.Event] = {}

    async def resolve(self, name: str) -> ScheduledQueue:
        """The scheduled queue of this name, set up if need be.

        Raises PolicyError or Rejection when its configuration or its pool cannot be had.
        """
        queue = self.queues.get(name)
        if queue is not None:
            if trio.current_time() >= queue.next_refresh:
                await self._refresh(queue)
            return queue
        while (under_way := self._resolving.get(name)) is not None:
            await under_way.wait()
            if (queue := self.queues.get(name)) is not None:
                return queue
        failed = self._failed.get(name)
        if failed is not None and failed[0] > trio.current_time():
            raise failed[1].with_traceback(None)
        done = self._resolving[name] = trio.Event()
        epoch = self.epoch
        try:
            config, selector = await self._configuration(name)
        except (PolicyError, Rejection) as err:
            log.error("queue cannot be set up; its messages wait", queue=name, error=str(err))
            self._failed[name] = (trio.current_time() + FAILED_QUEUE_TTL, err)
            raise
        finally:
            del self._resolving[name]
            done.set()
        queue = self.queues[name] = ScheduledQueue(name, config, selector)
        if epoch != self.epoch:
            queue.next_refresh = trio.current_time()
        return queue

    async def _configuration(self, name: str) -> tuple[QueueConfig, SourceSelector]:
        """Raises PolicyError or Rejection."""
        try:
            config = await self._ask(name)
            return config, SourceSelector(await self._placement.egress.pool(config.egress_pool))
        except (PolicyError, Rejection):
            raise
        except Exception as err:
            log.exception("a queue's configuration could not be made", queue=name)
            raise PolicyError(f"queue {name}: {type(err).__name__}: {err}") from err

    async def _ask(self, name: str) -> QueueConfig:
        if name == NULL_QUEUE:
            return QueueConfig()
        if name in self.internal:
            return self.internal[name]
        parts = QueueName.parse(name)
        config: QueueConfig | None = await self._policy.ask(
            "get_queue_config", parts.domain, parts.tenant, parts.campaign, parts.routing_domain
        )
        if config is None:
            return QueueConfig()
        if config.protocol.xfer is not None:
            raise PolicyError(f"queue {name}: this version of kumo-py does not deliver by xfer yet")
        self._placement.note_meaningless(config)
        return config

    async def _refresh(self, queue: ScheduledQueue) -> None:
        """Ask for the configuration again; a failure keeps the old one until the next try."""
        epoch = self.epoch
        queue.next_refresh = trio.current_time() + queue.config.refresh_interval
        try:
            config, selector = await self._configuration(queue.name)
        except (PolicyError, Rejection) as err:
            log.error("queue keeps its old configuration", queue=queue.name, error=str(err))
            return
        if config.protocol != queue.config.protocol:
            queue.ready_by_source.clear()
        queue.apply(config)
        if epoch != self.epoch:  # the answer may be the old policy's
            queue.next_refresh = trio.current_time()
        if selector.pool != queue.selector.pool:
            queue.selector = selector

    def note_failure(self, msg: Message, name: str | None, error: LastError) -> None:
        """Keep what went wrong with one of a queue's messages last. name: the queue's, if it is at hand."""
        try:
            queue = self.queues.get(name or msg.queue_name)
        except (NotLoaded, ValueError):
            return
        if queue is not None:
            queue.last_error = error

    def epoch_changed(self) -> None:
        """See Queues.epoch_changed."""
        self.epoch += 1
        self._failed.clear()
        now = trio.current_time()
        for queue in self.queues.values():
            if queue.config.refresh_strategy == "Epoch":
                queue.next_refresh = now

    def reap(self, now: float) -> None:
        """Drop queues that are long unused (trio time)."""
        for name in [name for name, queue in self.queues.items() if queue.reapable(now)]:
            del self.queues[name]
        for name in [name for name, (until, _) in self._failed.items() if until <= now]:
            del self._failed[name]
