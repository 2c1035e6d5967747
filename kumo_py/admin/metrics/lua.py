"""The policy: Lua contexts, events, timers of its own, and how its files were taken over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.admin.metrics.metric import counter, gauge, seconds
from kumo_py.policy.modules.time import UserLatencies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.admin.exposition import Family
    from kumo_py.admin.node import Node

COUNT = gauge("lua_count", "Lua contexts that exist")
SPARE = gauge("lua_spare_count", "Lua contexts that wait for an event")
LOADED = counter("lua_load_count", "How often the policy was loaded into a new context")
EVENT_STARTED = counter("lua_event_started", "Events that were begun", "event")
EVENT_LATENCY = seconds("lua_event_latency", "Seconds that an event took", "event")
USER_LATENCY = seconds(
    "user_lua_latency", "Seconds that timers of the policy ran, by kumo.time.start_timer", "label"
)
EPOCH = gauge("kumo_py_config_epoch", "Grows with each policy that takes over")
RELOADS = counter("kumo_py_config_reloads_total", "Policies that took over")
RELOAD_FAILURES = counter("kumo_py_config_reload_failures_total", "Policies that were refused")
REFUSED = gauge("kumo_py_config_refused", "1 while the last policy that was found is not the one that runs")
RESTART = gauge("kumo_py_config_restart_needed", "Changes that take effect at the next start only")

METRICS = (
    *(COUNT, SPARE, LOADED, EVENT_STARTED, EVENT_LATENCY, USER_LATENCY),
    *(EPOCH, RELOADS, RELOAD_FAILURES, REFUSED, RESTART),
)


def collect(node: Node) -> Iterator[Family]:
    policy, reloader = node.policy, node.reloader
    contexts = policy.contexts
    yield COUNT.value(contexts.alive)
    yield SPARE.value(contexts.idle)
    yield LOADED.value(contexts.made)
    yield EVENT_STARTED.each({event: time.started for event, time in policy.times.items()})
    yield EVENT_LATENCY.each(dict(policy.times))
    yield USER_LATENCY.each(dict(policy.env.state(UserLatencies)))
    yield EPOCH.value(policy.epoch)
    if reloader is not None:
        status = reloader.status
        yield RELOADS.value(status.reloads)
        yield RELOAD_FAILURES.value(status.failures)
        yield REFUSED.value(int(status.error is not None))
        yield RESTART.value(len(status.restart_needed))
