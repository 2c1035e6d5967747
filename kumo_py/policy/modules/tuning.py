"""What tunes a node as a whole: contexts, memory, threads (functions of the `kumo` module)."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING

import msgspec

from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.registry import Param
from kumo_py.policy.types import BOOLEAN, INTEGER, NUMBER, TEXT, OptionTable

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

_COUNT = Param("count", INTEGER)
_BYTES = Param("bytes", INTEGER)


class ThreadPool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `kumo.spawn_thread_pool`."""

    name: str
    num_threads: int


@kumo.function("available_parallelism", result=INTEGER, since="2024.06.10-84e84b89")
def available_parallelism(ctx: LuaContext) -> int:
    """The number of CPUs that the node may use."""
    return len(os.sched_getaffinity(0))


# -- Lua contexts ----------------------------------------------------------------------------------------------
@kumo.function("set_max_lua_context_age", Param("seconds", NUMBER))
def set_max_lua_context_age(ctx: LuaContext, seconds: float) -> None:
    """How long a Lua context is used; 300 seconds unless set."""
    ctx.env.pool_limits.max_age = seconds


@kumo.function("set_max_lua_context_use_count", _COUNT)
def set_max_lua_context_use_count(ctx: LuaContext, count: int) -> None:
    """How many events a Lua context runs before it is dropped; 1024 unless set."""
    ctx.env.pool_limits.max_uses = count


@kumo.function("set_max_spare_lua_contexts", _COUNT)
def set_max_spare_lua_contexts(ctx: LuaContext, count: int) -> None:
    """How many idle Lua contexts are kept; 8192 unless set."""
    ctx.env.pool_limits.max_spare = count


@kumo.function("set_lua_gc_on_put", Param("percent", INTEGER))
def set_lua_gc_on_put(ctx: LuaContext, percent: int) -> None:
    """After how many per cent of the events a context collects all its garbage; 0 unless set."""
    if not 0 <= percent <= 100:
        raise ValueError(f"expected a number from 0 to 100, got {percent}")
    ctx.env.pool_limits.gc_on_put = percent


# -- memory ----------------------------------------------------------------------------------------------------
@kumo.function("set_memory_hard_limit", _BYTES, configures=True)
def set_memory_hard_limit(ctx: LuaContext, size: int) -> None:
    """What the node may use at most; the other limits are parts of it unless they are set."""
    ctx.env.host.memory.hard_limit = size


@kumo.function("set_memory_soft_limit", _BYTES, since="2025.03.19-1d3f1f67", configures=True)
def set_memory_soft_limit(ctx: LuaContext, size: int) -> None:
    """Above this, mail is refused with 421; three quarters of the hard limit unless set."""
    ctx.env.host.memory.soft_limit = size


@kumo.function("set_memory_low_thresh", _BYTES, configures=True)
def set_memory_low_thresh(ctx: LuaContext, size: int) -> None:
    """Above this the node saves memory; 80 per cent of the soft limit unless set."""
    ctx.env.host.memory.low_threshold = size


@kumo.function("get_memory_hard_limit", result=INTEGER, since="2026.03.04-bb93ecb1")
def get_memory_hard_limit(ctx: LuaContext) -> int | None:
    """The hard limit in bytes: what was set, or what the machine allows."""
    return ctx.env.host.memory.hard_limit


@kumo.function("get_memory_soft_limit", result=INTEGER, since="2026.03.04-bb93ecb1")
def get_memory_soft_limit(ctx: LuaContext) -> int | None:
    """The soft limit in bytes."""
    return ctx.env.host.memory.soft_limit


@kumo.function("get_memory_low_thresh", result=INTEGER, since="2026.03.04-bb93ecb1")
def get_memory_low_thresh(ctx: LuaContext) -> int | None:
    """The low threshold in bytes."""
    return ctx.env.host.memory.low_threshold


@kumo.function("enable_memory_callstack_tracking", Param("enable", BOOLEAN))
def enable_memory_callstack_tracking(ctx: LuaContext, enable: bool) -> None:
    """Remember where memory is allocated (Python's tracemalloc); it slows the node down a lot."""
    if enable:
        tracemalloc.start()
    else:
        tracemalloc.stop()


@kumo.function(
    "suspend_delivery_when_spool_unhealthy", Param("enabled", BOOLEAN), since="dev", configures=True
)
def suspend_delivery_when_spool_unhealthy(ctx: LuaContext, enabled: bool) -> None:
    """Whether delivery pauses while the spool cannot note what was delivered; it does unless set."""
    ctx.env.host.suspend_delivery_when_spool_unhealthy(enabled)


# -- threads ---------------------------------------------------------------------------------------------------
# A node is one event loop on one core: there is nothing to size. The names exist so that policies load.
def _no_pool(name: str, what: str) -> None:
    def set_threads(ctx: LuaContext, count: int) -> None:
        ctx.env.host.diagnostic("debug", f"kumo.{name}({count}): {what} runs on the node's one event loop")

    set_threads.__doc__ = f"Accepted for policies of KumoMTA: {what} has no threads of its own here."
    kumo.function(name, _COUNT)(set_threads)


_no_pool("set_httpinject_threads", "HTTP injection")
_no_pool("set_smtpsrv_threads", "SMTP reception")
_no_pool("set_qmaint_threads", "the care of scheduled queues")
_no_pool("set_ready_qmaint_threads", "the care of ready queues")
_no_pool("set_readyq_threads", "delivery")
_no_pool("set_spoolin_threads", "reading the spool")
_no_pool("set_logging_threads", "logging")


@kumo.function("spawn_thread_pool", Param("params", OptionTable(ThreadPool)))
def spawn_thread_pool(ctx: LuaContext, params: ThreadPool) -> None:
    """Accepted for policies of KumoMTA: there are no thread pools to name in `readyq_pool_name`."""
    ctx.env.host.diagnostic("debug", f"thread pool '{params.name}': all runs on the node's one event loop")


@kumo.function("set_timeq_spawn_reinsertion", Param("enable", BOOLEAN))
def set_timeq_spawn_reinsertion(ctx: LuaContext, enable: bool) -> None:
    """Obsolete, in KumoMTA too: it only logs that."""
    ctx.env.host.diagnostic("warn", "kumo.set_timeq_spawn_reinsertion has no effect: remove the call")


@kumo.function("set_diagnostic_log_filter", Param("filter", TEXT))
def set_diagnostic_log_filter(ctx: LuaContext, filter: str) -> None:
    """Choose which diagnostic lines are logged, such as "kumod=info,lua=debug"."""
    ctx.env.host.set_diagnostic_filter(filter)
