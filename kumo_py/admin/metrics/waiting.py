"""Messages and the queues that they wait in, and how long it takes them to get there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.admin.metrics.metric import counter, gauge, seconds
from kumo_py.queue.times import POP_INTERVALS, REINSERT_TARDINESS, TARDINESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kumo_py.admin.exposition import Family, Sample
    from kumo_py.admin.metrics.metric import Metric
    from kumo_py.admin.metrics.residents import Residents
    from kumo_py.admin.metrics.sums import Sums
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.scheduled import ScheduledQueue

_IN_16 = "; one message in 16 is timed"
_WAITING = "Messages in scheduled queues"
_BOTH = "Messages in scheduled and ready queues"
_BACK = "Messages sent back to their scheduled queue:"

QUEUES = gauge("scheduled_queue_count", "Scheduled queues that are known")
TOTAL = gauge("scheduled_count_total", _WAITING)
BY_QUEUE = gauge("scheduled_count", _WAITING, "queue", pruned=True)
BY_DOMAIN = gauge("scheduled_by_domain", _WAITING, "domain", pruned=True)
BY_TENANT = gauge("scheduled_by_tenant", _WAITING, "tenant", pruned=True)
BY_CAMPAIGN = gauge("scheduled_by_tenant_campaign", _WAITING, "tenant", "campaign", pruned=True)
BY_PROVIDER = gauge("queued_count_by_provider", _BOTH, "provider", pruned=True)
BY_POOL = gauge("queued_count_by_provider_and_pool", _BOTH, "provider", "pool", pruned=True)
READY = gauge("ready_count", "Messages in ready queues", "service", pruned=True)
READY_FULL = counter("ready_full", "Messages for which a ready queue was full", "service", pruned=True)
FULL_DELAYS = counter(
    "delayed_due_to_ready_queue_full", f"{_BACK} ready queues were full", "queue", pruned=True
)
RATE_DELAYS = counter(
    "delayed_due_to_message_rate_throttle", f"{_BACK} max_message_rate", "queue", pruned=True
)
EVENT_DELAYS = counter(
    "delayed_due_to_throttle_insert_ready", f"{_BACK} throttle_insert_ready_queue", "queue", pruned=True
)
MESSAGES = gauge("message_count", "Messages of all queues, and those that are on their way")
WITH_DATA = gauge("message_data_resident_count", "Of these, those with their content in memory")
WITH_META = gauge("message_meta_resident_count", "Of these, those with their metadata in memory")
HELD = gauge("kumo_py_held_messages", "Messages that an operator holds")
RESOLVE = seconds("queue_resolve_latency", "Seconds to set a scheduled queue up, where it was not known")
INSERT = seconds("queue_insert_latency", f"Seconds to get into a scheduled queue, and beyond{_IN_16}")
PLACE = seconds("ready_queue_insert_latency", f"Seconds to get into a ready queue{_IN_16}")
POP = seconds("timeq_pop_latency", "Seconds to take what is due out of the timer wheel")
POP_INTERVAL = seconds("timeq_pop_interval", "Seconds between two of these", bounds=POP_INTERVALS)
TARDY = seconds("timeq_pop_tardiness", "Seconds that messages leave the timer wheel late", bounds=TARDINESS)
REINSERT_TARDY = seconds(
    "timeq_reinsert_tardiness", "Seconds that messages go on from there late", bounds=REINSERT_TARDINESS
)
POPS = counter("total_qmaint_runs", "How often the timer wheel was looked into")
TASKS = gauge("scheduled_queue_maintainer_count", "Tasks that let messages go on which are due")
LOOKS = counter("total_readyq_runs", "How often a ready queue was looked after, once a second each")

_DELAYS: tuple[tuple[Metric, Callable[[ScheduledQueue], int]], ...] = (
    (FULL_DELAYS, lambda queue: queue.full_delays),
    (RATE_DELAYS, lambda queue: queue.rate_delays),
    (EVENT_DELAYS, lambda queue: queue.event_delays),
)

METRICS = (
    *(QUEUES, TOTAL, BY_QUEUE, BY_DOMAIN, BY_TENANT, BY_CAMPAIGN, BY_PROVIDER, BY_POOL),
    *(READY, READY_FULL, *(metric for metric, _ in _DELAYS), MESSAGES, WITH_DATA, WITH_META, HELD),
    *(RESOLVE, INSERT, PLACE, POP, POP_INTERVAL, TARDY, REINSERT_TARDY, POPS, TASKS, LOOKS),
)


def collect(queues: Queues, sums: Sums, residents: Residents) -> Iterator[Family]:
    yield QUEUES.value(sums.scheduled_count)
    yield TOTAL.value(sums.waiting)
    yield BY_QUEUE.of(_by_queue(queues, sums))
    yield BY_DOMAIN.each(sums.by_domain)
    yield BY_TENANT.each(sums.by_tenant)
    yield BY_CAMPAIGN.each(sums.by_campaign)
    yield BY_PROVIDER.each(sums.by_provider)
    yield BY_POOL.each(sums.by_pool)
    yield READY.each(sums.ready)
    yield READY_FULL.each(sums.by_service, lambda totals: totals.overflows)
    for metric, count in _DELAYS:
        yield metric.of([((queue.name,), number) for queue in sums.delaying if (number := count(queue))])
    yield MESSAGES.value(sums.waiting + sums.lying + len(queues.in_hand))
    yield WITH_DATA.value(residents.with_data)
    yield WITH_META.value(residents.with_meta)
    yield HELD.value(len(queues.held))
    times = queues.times
    yield RESOLVE.value(times.resolve)
    yield INSERT.value(times.insert)
    yield PLACE.value(times.place)
    yield POP.value(times.pop)
    yield POP_INTERVAL.value(times.pop_interval)
    yield TARDY.value(times.tardiness)
    yield REINSERT_TARDY.value(times.reinsert_tardiness)
    yield POPS.value(queues.promotion.pops)
    yield TASKS.value(queues.promotion.tasks)
    yield LOOKS.value(queues.looks)


def _by_queue(queues: Queues, sums: Sums) -> Iterator[Sample]:
    """A queue and its placeholder count as one."""
    placeholders = {queue.name: queue for queue in queues.placeholders if queue.delayed}
    for name, queue in sums.scheduled:
        other = placeholders.get(name)
        if other is None:
            yield (name,), queue.delayed
        elif other is not queue:
            yield (name,), queue.delayed + other.delayed
        elif name not in queues.scheduled:
            yield (name,), queue.delayed
