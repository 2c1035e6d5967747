"""One pass over all queues: what they hold and have counted, summed up by all that metrics have labels for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import trio

from kumo_py.logs import DeliveryCounts
from kumo_py.queue.config import UNSPECIFIED
from kumo_py.queue.past import Totals

if TYPE_CHECKING:
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.queue.scheduled import ScheduledQueue

_SLICE = 512
"""Queues counted in one go before other tasks get a turn."""


class Sums:
    """Of one moment, more or less."""

    def __init__(self) -> None:
        self.scheduled: list[tuple[str, ScheduledQueue]] = []
        """Names and queues; of one name there may be a queue and a placeholder."""
        self.delaying: list[ScheduledQueue] = []
        """Those that messages were sent back to."""
        self.scheduled_count = 0
        self.waiting = 0
        self.by_domain: Counter[str] = Counter()
        self.by_tenant: Counter[str] = Counter()
        self.by_campaign: Counter[tuple[str, ...]] = Counter()
        self.by_provider: Counter[str] = Counter()
        self.by_pool: Counter[tuple[str, ...]] = Counter()
        """By provider and pool."""
        self.lying = 0
        """Messages in ready queues."""
        self.ready: Counter[str] = Counter()
        """The same, by service."""
        self.connections: Counter[str] = Counter()
        self.connections_by_provider: Counter[str] = Counter()
        self.connections_by_pool: Counter[tuple[str, ...]] = Counter()
        self.by_service: dict[str, Totals] = {}
        """By protocol, and by protocol and ready queue."""
        self.counts_by_provider: dict[str, DeliveryCounts] = {}
        self.counts_by_path: dict[tuple[str, str, str], DeliveryCounts] = {}
        """By provider, source and pool."""

    def add_past(self, queues: Queues) -> None:
        """What was counted by ready queues that are gone, and by those that deliver without one."""
        for protocol, totals in queues.past.by_protocol.items():
            self.by_service.setdefault(protocol, Totals()).add_totals(totals)
        for provider, paths in queues.past.by_provider.items():
            for path, counts in paths.items():
                self._count((provider, *path), counts)
        if "maildir" in queues.times.delivery:
            self.by_service.setdefault("maildir", Totals()).add(queues.maildir.counts)

    def add_scheduled(self, queue: ScheduledQueue) -> None:
        count, parts, config = queue.delayed, queue.components, queue.config
        if queue.full_delays or queue.rate_delays or queue.event_delays:
            self.delaying.append(queue)
        self.waiting += count
        self.by_domain[parts.domain] += count
        if parts.tenant is not None:
            self.by_tenant[parts.tenant] += count
        if parts.campaign is not None:
            self.by_campaign[parts.tenant or "", parts.campaign] += count
        provider = config.provider_name
        if provider is None:
            provider = next((ready.site_name for _, ready in queue.ready_by_source.values()), parts.domain)
        self.by_provider[provider] += count
        self.by_pool[provider, config.egress_pool or UNSPECIFIED] += count

    def add_ready(self, ready: ReadyQueue) -> None:
        count, connections, counts = len(ready.messages), ready.connections, ready.counts
        self.lying += count
        protocol = ready.protocol.name.partition(":")[0]
        for service in (protocol, f"{protocol}:{ready.name}"):
            self.ready[service] += count
            self.connections[service] += connections
            self.by_service.setdefault(service, Totals()).add_queue(ready, counts)
        provider = ready.path.provider_name or ready.site_name
        self.by_provider[provider] += count
        self.by_pool[provider, ready.pool] += count
        self.connections_by_provider[provider] += connections
        self.connections_by_pool[provider, ready.pool] += connections
        self._count((ready.provider, ready.source.name, ready.pool), counts)

    def _count(self, path: tuple[str, str, str], counts: DeliveryCounts) -> None:
        self.counts_by_path.setdefault(path, DeliveryCounts()).add(counts)
        self.counts_by_provider.setdefault(path[0], DeliveryCounts()).add(counts)


async def sum_up(queues: Queues) -> Sums:
    """In slices."""
    sums = Sums()
    sums.add_past(queues)
    known = queues.scheduled
    sums.scheduled_count = len(known)
    scheduled = [*known.items(), *((queue.name, queue) for queue in queues.placeholders if queue.delayed)]
    for number, (_, queue) in enumerate(scheduled):
        sums.add_scheduled(queue)
        if number % _SLICE == _SLICE - 1:
            await trio.lowlevel.checkpoint()
    sums.scheduled = scheduled
    for number, ready in enumerate(list(queues.ready.values())):
        sums.add_ready(ready)
        if number % _SLICE == _SLICE - 1:
            await trio.lowlevel.checkpoint()
    return sums
