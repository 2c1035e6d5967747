"""The `kumo.api.admin` modules: what an operator may do over HTTP, from a policy."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import BOOLEAN, TEXT, VALUE, OptionTable
from kumo_py.queue.admin import BounceRequest, SuspendReadyRequest, SuspendRequest

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

api = Owner("kumo.api")
admin = Owner("kumo.api.admin")
suspend = Owner("kumo.api.admin.suspend")
suspend_ready_q = Owner("kumo.api.admin.suspend_ready_q")
bounce = Owner("kumo.api.admin.bounce")

_ID = Param("id", TEXT)


@suspend.function("suspend", Param("request", OptionTable(SuspendRequest)), result=TEXT)
def suspend_suspend(ctx: LuaContext, request: SuspendRequest) -> str:
    """Let the scheduled queues that match try nothing for a while (5 minutes unless said); the suspension's id."""
    return ctx.env.host.admin.suspend(request)


@suspend.function("list", result=VALUE)
def suspend_list(ctx: LuaContext) -> list[dict[str, object]]:
    """The suspensions of scheduled queues that have not ended."""
    return ctx.env.host.admin.list_suspensions()


@suspend.function("delete", _ID, result=BOOLEAN)
def suspend_delete(ctx: LuaContext, id: str) -> bool:
    """End a suspension; false if there is none of this id."""
    return ctx.env.host.admin.suspensions.remove(_checked(id))


@suspend_ready_q.function("suspend", Param("request", OptionTable(SuspendReadyRequest)), result=TEXT)
def suspend_ready_q_suspend(ctx: LuaContext, request: SuspendReadyRequest) -> str:
    """Let the ready queue of this name send nothing for a while (5 minutes unless said); the suspension's id."""
    return ctx.env.host.admin.suspend_ready(request)


@suspend_ready_q.function("list", result=VALUE)
def suspend_ready_q_list(ctx: LuaContext) -> list[dict[str, object]]:
    """The suspensions of ready queues that have not ended."""
    return ctx.env.host.admin.list_ready_suspensions()


@suspend_ready_q.function("delete", _ID, result=BOOLEAN)
def suspend_ready_q_delete(ctx: LuaContext, id: str) -> bool:
    """End a suspension; false if there is none of this id."""
    return ctx.env.host.admin.end_ready_suspension(_checked(id))


@bounce.function("bounce", Param("request", OptionTable(BounceRequest)), result=TEXT)
def bounce_bounce(ctx: LuaContext, request: BounceRequest) -> str:
    """Bounce messages of the scheduled queues that match, for a while (5 minutes unless said); the rule's id.

    Those that come in, become due or are about to be sent; what waits for a later time is not looked for.
    """
    return ctx.env.host.admin.bounce(request).id


@bounce.function("list", result=VALUE)
def bounce_list(ctx: LuaContext) -> list[dict[str, object]]:
    """The bounces that have not ended, and what each has bounced."""
    return ctx.env.host.admin.list_bounces()


@bounce.function("delete", _ID, result=BOOLEAN)
def bounce_delete(ctx: LuaContext, id: str) -> bool:
    """End a bounce; false if there is none of this id."""
    return ctx.env.host.admin.bounces.remove(_checked(id))


def _checked(id: str) -> str:
    try:
        return str(uuid.UUID(id))
    except ValueError:
        raise ValueError(f"'{id}' is not an id: it must be one that suspend or bounce returned") from None
