"""Where delivery log records go: the functions of `kumo` about log hooks, classification and accounting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.logs.config import ClassifierConfig, DispositionHookConfig, LogHookConfig
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.registry import Param
from kumo_py.policy.types import TEXT, OptionTable

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext


@kumo.function(
    "configure_log_hook", Param("params", OptionTable(LogHookConfig)), only_in_events=True, configures=True
)
async def configure_log_hook(ctx: LuaContext, params: LogHookConfig) -> None:
    """Make a message of each log record that should_enqueue_log_record wants, and queue it."""
    ctx.env.host.log.add_hook(params)


@kumo.function(
    "configure_log_disposition_hook",
    Param("params", OptionTable(DispositionHookConfig)),
    only_in_events=True,
    configures=True,
)
async def configure_log_disposition_hook(ctx: LuaContext, params: DispositionHookConfig) -> None:
    """Fire log_disposition_NAME for each log record, with the message that it is about and the record."""
    ctx.env.host.log.add_disposition_hook(params)


@kumo.function(
    "configure_bounce_classifier",
    Param("params", OptionTable(ClassifierConfig)),
    only_in_events=True,
    configures=True,
)
async def configure_bounce_classifier(ctx: LuaContext, params: ClassifierConfig) -> None:
    """Label what went wrong in log records, by rule files that give regular expressions for each label."""
    await ctx.env.host.log.set_classifier(params)


@kumo.function(
    "configure_accounting_db_path", Param("path", TEXT), since="2023.11.28-b5252a41", configures=True
)
def configure_accounting_db_path(ctx: LuaContext, path: str) -> None:
    """Count receptions and deliveries by month in an SQLite database."""
    ctx.env.host.log.set_accounting(path)
