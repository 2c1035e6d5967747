"""Where a message goes: its pool's sources by weight, its site by DNS, the path between them by the policy.

Ready queues are kept by name; a scheduled queue remembers for a while which ones its sources led to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.dns import DnsError
from kumo_py.queue.config import NO_MEANING, EgressPath, without_meaning
from kumo_py.queue.context import InsertReason
from kumo_py.queue.egress import EgressDirectory
from kumo_py.queue.memory import MemoryState
from kumo_py.queue.ready import ReadyQueue
from kumo_py.queue.resolution import site_of
from kumo_py.queue.scheduled import refresh_time

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.queue.config import Options
    from kumo_py.queue.egress import Entries
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.scheduled import ScheduledQueue

log = structlog.get_logger("kumo_py.queue.placement")

SITE_TTL = 60.0
"""Seconds after which a queue looks its destination's site up again (from the resolver's cache)."""


class ReadyQueueFull(Exception):
    """Every source's ready queue is at max_ready."""


class NotPlaced(Exception):
    """A message has no ready queue to go to; the text is the reason, for people."""

    def __init__(self, text: str, pool: str | None = None) -> None:
        super().__init__(text)
        self.pool = pool


class Placement:
    """The ready queues of a node, and the choice among them."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self.egress = EgressDirectory(queues.policy, trio.current_time)
        self.ready: dict[str, ReadyQueue] = {}
        self._noted: set[str] = set()
        self._refreshing: set[str] = set()
        """Ready queues whose path the policy is being asked for."""

    async def place(self, msg: Message, queue: ScheduledQueue) -> None:
        """Put the message into the ready queue of one of the pool's sources.

        Raises ReadyQueueFull if those that could take it are full, NotPlaced if there is none.
        """
        selector = queue.selector
        if not selector.entries:
            pool = selector.pool.name
            raise NotPlaced(f"KumoMTA internal: no sources available for {queue.name} pool=`{pool}`", pool)
        full = False
        queues, entries = self._queues, selector.entries
        if queues.source_health or queues.admin.ready:
            entries = await self._eligible(queue)
        while entries:
            source = selector.next(entries)
            try:
                ready = await self._find(queue, source)
                if trio.current_time() >= ready.next_refresh:
                    await self.refresh_path(ready)
            except (DnsError, PolicyError, Rejection) as err:
                raise NotPlaced(f"failed to resolve queue {queue.name}: {err}") from err
            if ready.full:
                ready.overflows += 1
                full = True
            elif not await queues.limits.source_throttled(ready):
                if queues.memory_state() is not MemoryState.OK:
                    await queues.memory.before_insert(msg, ready)
                if ready.insert(msg):
                    return
                full = True
            entries = [entry for entry in entries if entry[0] != source]
        if full:
            raise ReadyQueueFull
        pool = selector.pool.name
        raise NotPlaced(
            f"KumoMTA internal: no sources for {queue.name} pool=`{pool}` are eligible for selection "
            "at this time",
            pool,
        )

    async def _eligible(self, queue: ScheduledQueue) -> Entries:
        """The pool's sources that are not suspended, nor are their ready queues."""
        entries, health, admin = queue.selector.entries, self._queues.source_health, self._queues.admin
        if health:
            entries = [entry for entry in entries if health.rests_for(entry[0]) <= 0.0]
        if not admin.ready:
            return entries
        eligible: Entries = []
        for entry in entries:
            try:
                if not admin.ready_suspended((await self._find(queue, entry[0])).name):
                    eligible.append(entry)
            except (DnsError, PolicyError, Rejection):
                eligible.append(entry)  # where it is chosen, the error is reported
        return eligible

    async def _find(self, queue: ScheduledQueue, source: str) -> ReadyQueue:
        """The ready queue for a source. Raises DnsError, PolicyError or Rejection."""
        now = trio.current_time()
        known = queue.ready_by_source.get(source)
        if known is not None and known[0] > now and self.ready.get(known[1].name) is known[1]:
            return known[1]
        route, protocol = queue.components.route, queue.config.protocol
        site_name, mx = await site_of(route, protocol, self._queues.resolver)
        name = f"{source}->{site_name}@{protocol.name}"
        ready = self.ready.get(name)
        if ready is None:
            epoch = self._queues.directory.epoch
            egress_source = await self.egress.source(source)
            path = await self._ask_path(route, source, site_name)
            made = ReadyQueue(
                self._queues,
                name=name,
                site_name=site_name,
                route=route,
                protocol=protocol,
                source=egress_source,
                pool=queue.selector.pool.name,
                path=path,
                mx=mx,
            )
            ready = self.ready.setdefault(name, made)
            if ready is made:
                self._queues.past.began(ready)
            if epoch != self._queues.directory.epoch:
                ready.next_refresh = now
        else:
            ready.protocol, ready.mx = protocol, mx
        ready.last_change = now
        queue.ready_by_source[source] = (now + SITE_TTL, ready)
        return ready

    async def _ask_path(self, route: str, source: str, site_name: str) -> EgressPath:
        path: EgressPath | None = await self._queues.policy.ask(
            "get_egress_path_config", route, source, site_name
        )
        if path is None:
            return EgressPath()
        self.note_meaningless(path)
        return path

    async def refresh_path(self, ready: ReadyQueue) -> None:
        """Ask for the path's options again; a failure keeps the old ones until the next try.

        While the policy has not answered yet, the old ones hold too. Raises nothing.
        """
        if ready.name in self._refreshing:
            return
        self._refreshing.add(ready.name)
        epoch = self._queues.directory.epoch
        ready.next_refresh = trio.current_time() + ready.path.refresh_interval
        try:
            source = await self.egress.source(ready.source.name)
            path = await self._ask_path(ready.route, source.name, ready.site_name)
        except Exception as err:
            expected = isinstance(err, PolicyError | Rejection)
            log.error(
                "ready queue keeps its old configuration",
                ready_queue=ready.name,
                error=str(err),
                exc_info=not expected,
            )
            return
        finally:
            self._refreshing.discard(ready.name)
        ready.source, ready.path = source, path
        if epoch == self._queues.directory.epoch:  # else the answer may be the old policy's
            ready.next_refresh = refresh_time(path)
        for msg in ready.take_excess():
            await self._queues.sweep.reinsert(msg, InsertReason.MAX_READY_REDUCED)

    def note_meaningless(self, options: Options) -> None:
        """Say once of each option that there is nothing for it to do here."""
        for name in without_meaning(options):
            if name not in self._noted:
                self._noted.add(name)
                log.info(f"the policy sets '{name}', which has no effect: {NO_MEANING[name]}")
