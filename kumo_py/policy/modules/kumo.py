"""The `kumo` module: handlers, rejections, configurations and what a node is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.logs.config import LocalLogsConfig
from kumo_py.policy.events import EGRESS_PATH, EGRESS_POOL, EGRESS_SOURCE, LISTENER_DOMAIN, QUEUE_CONFIG
from kumo_py.policy.params import HttpListenerParams
from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import FUNCTION, INTEGER, RAW, TEXT, OptionTable
from kumo_py.queue.config import EgressPath, EgressPool, EgressSource, QueueConfig
from kumo_py.smtp_in.params import ListenerDomain, ListenerParams
from kumo_py.spool.config import SpoolConfig

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

VERSION = "2026.08.04-3ebc1e85"
"""The KumoMTA version whose surface this is: policies compare it with the versions they know."""

kumo = Owner("kumo", constants={"version": VERSION})

kumo.lua_function(
    "on",
    Param("event", TEXT),
    Param("handler", FUNCTION),
    doc="Register an event handler, while the policy file loads.",
)
kumo.lua_function(
    "reject",
    Param("code", INTEGER),
    Param("message", TEXT),
    doc="Raise an error that becomes the reply; a code of 421 closes the session.",
)
kumo.lua_function(
    "disconnect",
    Param("code", INTEGER),
    Param("message", TEXT),
    Param("mode", TEXT, optional=True),
    doc="As reject, and close the session: at once, or with a 421 of its own (FollowWith421).",
    since="2025.10.06-5ec871ab",
)
for _level in ("error", "warn", "info", "debug"):
    kumo.lua_function(
        f"log_{_level}",
        Param("values", RAW, rest=True),
        doc=f"Log the arguments, joined by spaces, at the level {_level}.",
        since="2025.03.19-1d3f1f67",
    )


@kumo.function("make_listener_domain", Param("params", OptionTable(ListenerDomain)), result=LISTENER_DOMAIN)
def make_listener_domain(ctx: LuaContext, params: ListenerDomain) -> ListenerDomain:
    """Say who may relay for a domain: the result of get_listener_domain."""
    return params


@kumo.function("make_queue_config", Param("params", OptionTable(QueueConfig)), result=QUEUE_CONFIG)
def make_queue_config(ctx: LuaContext, params: QueueConfig) -> QueueConfig:
    """The options of a scheduled queue: the result of get_queue_config."""
    return params


@kumo.function("make_egress_path", Param("params", OptionTable(EgressPath)), result=EGRESS_PATH)
def make_egress_path(ctx: LuaContext, params: EgressPath) -> EgressPath:
    """The options of delivery from a source to a site: the result of get_egress_path_config."""
    return params


@kumo.function("make_egress_source", Param("params", OptionTable(EgressSource)), result=EGRESS_SOURCE)
def make_egress_source(ctx: LuaContext, params: EgressSource) -> EgressSource:
    """A named source of mail: the result of get_egress_source."""
    return params


@kumo.function("make_egress_pool", Param("params", OptionTable(EgressPool)), result=EGRESS_POOL)
def make_egress_pool(ctx: LuaContext, params: EgressPool) -> EgressPool:
    """A weighted list of sources: the result of get_egress_pool."""
    return params


@kumo.function(
    "start_esmtp_listener", Param("params", OptionTable(ListenerParams)), only_in_events=True, configures=True
)
async def start_esmtp_listener(ctx: LuaContext, params: ListenerParams) -> None:
    """Bind an address and serve SMTP there."""
    await ctx.env.host.start_esmtp_listener(params)


@kumo.function(
    "start_http_listener",
    Param("params", OptionTable(HttpListenerParams)),
    only_in_events=True,
    configures=True,
)
async def start_http_listener(ctx: LuaContext, params: HttpListenerParams) -> None:
    """Bind an address and serve the HTTP API there."""
    await ctx.env.host.start_http_listener(params)


@kumo.function(
    "define_spool", Param("params", OptionTable(SpoolConfig)), only_in_events=True, configures=True
)
async def define_spool(ctx: LuaContext, params: SpoolConfig) -> None:
    """Open one of the two spools, `data` or `meta`."""
    await ctx.env.host.define_spool(params)


@kumo.function(
    "configure_local_logs",
    Param("params", OptionTable(LocalLogsConfig)),
    only_in_events=True,
    configures=True,
)
async def configure_local_logs(ctx: LuaContext, params: LocalLogsConfig) -> None:
    """Write the delivery log to files in a directory."""
    await ctx.env.host.configure_local_logs(params)
