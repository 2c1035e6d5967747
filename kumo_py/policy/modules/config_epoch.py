"""Config epochs, tasks and validation (functions of the `kumo` module)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from kumo_py.core.policy import PolicyError, no_handler
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.registry import Param
from kumo_py.policy.types import TEXT, ListOf, OptionTable

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `kumo.spawn_task`."""

    event_name: str
    args: object = None


@kumo.function(
    "set_config_monitor_globs", Param("globs", ListOf(TEXT)), since="2024.11.08-d383b033", configures=True
)
def set_config_monitor_globs(ctx: LuaContext, globs: list[str]) -> None:
    """Which files begin a new config epoch when they are edited, beside the policy's own."""
    ctx.env.host.set_config_monitor_globs(globs)


@kumo.function("eval_config_monitor_globs", result=ListOf(TEXT), since="2024.11.08-d383b033")
async def eval_config_monitor_globs(ctx: LuaContext) -> list[str]:
    """The files that the globs match now, in order."""
    if ctx.env.validating:  # what init asked for had no effect, but its globs can be looked at
        for call in ctx.env.configured:
            if call.label == "kumo.set_config_monitor_globs":
                ctx.env.host.set_config_monitor_globs(cast("list[str]", call.arguments[0]))
    return await ctx.env.host.monitored_files()


@kumo.function("bump_config_epoch", since="2024.11.08-d383b033")
def bump_config_epoch(ctx: LuaContext) -> None:
    """Begin a new config epoch: the policy is read again, and what depends on it is refreshed."""
    ctx.env.host.bump_config_epoch()


@kumo.function("spawn_task", Param("params", OptionTable(Task)), since="2024.06.10-84e84b89", configures=True)
def spawn_task(ctx: LuaContext, params: Task) -> None:
    """Run an event's handler in the background, with `args`; an error ends it and is logged."""
    ctx.env.host.spawn(f"the task '{params.event_name}'", lambda: _run(ctx, params))


async def _run(ctx: LuaContext, params: Task) -> None:
    policy = ctx.env.policy
    if not policy.handles(params.event_name):
        raise PolicyError(no_handler(params.event_name))
    await policy.ask(params.event_name, params.args)


@kumo.function("validation_failed")
def validation_failed(ctx: LuaContext) -> None:
    """Say that the policy is not fit to serve: `--validate` fails, and an edit is refused."""
    ctx.env.host.validation_failed()
