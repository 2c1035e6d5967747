"""Functions of `kumo` that show which configuration a node uses, and what it amounts to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kumo_py.core.compact_toml import compact_toml
from kumo_py.core.options import to_builtins
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.registry import Param
from kumo_py.policy.types import TEXT, VALUE, OptionTable
from kumo_py.queue.config import EgressPath, QueueConfig
from kumo_py.queue.constraints import Constraints, describe, path_constraints, queue_constraints, tightest
from kumo_py.queue.egress import EgressDirectory
from kumo_py.queue.resolution import queue_config_of
from kumo_py.queue.scheduled import NULL_QUEUE

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

_PATH = Param("path_config", OptionTable(EgressPath))
_QUEUE = Param("queue_config", OptionTable(QueueConfig))
_NAME = Param("name", TEXT)


@kumo.function("invoke_get_egress_source", _NAME, result=VALUE, since="2025.12.02-67ee9e96")
async def invoke_get_egress_source(ctx: LuaContext, name: str) -> dict[str, object]:
    """The options of a source, as the node knows it or as get_egress_source says."""
    return to_builtins(await _directory(ctx).source(name))


@kumo.function(
    "invoke_get_egress_pool", Param("name", TEXT, optional=True), result=VALUE, since="2025.12.02-67ee9e96"
)
async def invoke_get_egress_pool(ctx: LuaContext, name: str | None) -> dict[str, object]:
    """The options of a pool, all of whose sources exist, as the node knows it or as get_egress_pool says."""
    return to_builtins(await _directory(ctx).pool(name))


@kumo.function(
    "invoke_get_egress_path_config",
    Param("routing_domain", TEXT),
    Param("egress_source", TEXT),
    Param("site_name", TEXT),
    result=VALUE,
    since="2025.01.23-7273d2bc",
)
async def invoke_get_egress_path_config(
    ctx: LuaContext, routing_domain: str, egress_source: str, site_name: str
) -> dict[str, object]:
    """What get_egress_path_config says, as parameters of kumo.make_egress_path, with all defaults filled in."""
    path = await ctx.env.policy.ask("get_egress_path_config", routing_domain, egress_source, site_name)
    return to_builtins(EgressPath() if path is None else path)


@kumo.function(
    "invoke_get_queue_config", Param("queue_name", TEXT), result=VALUE, since="2025.01.23-7273d2bc"
)
async def invoke_get_queue_config(ctx: LuaContext, queue_name: str) -> dict[str, object]:
    """What get_queue_config says of a queue, as parameters of kumo.make_queue_config, with all defaults filled in."""
    is_null = queue_name == NULL_QUEUE
    return to_builtins(QueueConfig() if is_null else await queue_config_of(ctx.env.policy, queue_name))


@kumo.function(
    "compute_egress_path_config_constraints",
    _PATH,
    Param("additional", OptionTable(Constraints), optional=True),
    result=VALUE,
    since="dev",
)
def compute_egress_path_config_constraints(
    ctx: LuaContext, path_config: EgressPath, additional: Constraints | None
) -> dict[str, object]:
    """What a path allows at most, and which option says so; the lower of each with `additional`."""
    constraints = path_constraints(path_config)
    return to_builtins(constraints if additional is None else tightest(constraints, additional))


@kumo.function("compute_queue_config_constraints", _QUEUE, result=VALUE, since="dev")
def compute_queue_config_constraints(ctx: LuaContext, queue_config: QueueConfig) -> dict[str, object]:
    """What a scheduled queue allows at most: for compute_egress_path_config_constraints."""
    return to_builtins(queue_constraints(queue_config))


@kumo.function(
    "format_egress_path_config_constraints",
    Param("constraints", OptionTable(Constraints)),
    result=TEXT,
    since="dev",
)
def format_egress_path_config_constraints(ctx: LuaContext, constraints: Constraints) -> str:
    """The constraints as several lines of text for people."""
    return describe(constraints)


@kumo.function("format_queue_config_toml", _QUEUE, result=TEXT, since="dev")
def format_queue_config_toml(ctx: LuaContext, queue_config: QueueConfig) -> str:
    """A queue's options as TOML, sorted by name."""
    return compact_toml(to_builtins(queue_config))


@kumo.function("format_egress_path_config_toml", _PATH, result=TEXT, since="dev")
def format_egress_path_config_toml(ctx: LuaContext, path_config: EgressPath) -> str:
    """A path's options as TOML, sorted by name."""
    return compact_toml(to_builtins(path_config))


def _directory(ctx: LuaContext) -> EgressDirectory:
    """The node's pools and sources; a script has no queues and asks afresh."""
    try:
        return ctx.env.host.queues.placement.egress
    except ValueError:
        return EgressDirectory(ctx.env.policy, trio.current_time)
