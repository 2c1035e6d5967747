"""The `kumo.api.inject` module: what the injection API does over HTTP, from a policy; and its rate limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kumo_py.inject import InjectRequest, local_system
from kumo_py.limits.spec import ThrottleSpec
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import MESSAGE, TEXT, VALUE, ListOf, OptionTable

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.policy.context import LuaContext

inject = Owner("kumo.api.inject")

_REQUEST = Param("request", OptionTable(InjectRequest))


@inject.function("inject_v1", _REQUEST, result=VALUE, since="2024.06.10-84e84b89")
async def inject_v1(ctx: LuaContext, request: InjectRequest) -> dict[str, Any]:
    """Make the messages of a request and queue them, as POST /api/inject/v1 does.

    Returns success_count, fail_count, failed_recipients and errors. The http_message_generated event gets the identity
    kumomta.internal.
    """
    result = await ctx.env.host.injector.inject(request, local_system())
    return msgspec.structs.asdict(result)


@inject.function("build_v1", _REQUEST, result=ListOf(MESSAGE))
async def build_v1(ctx: LuaContext, request: InjectRequest) -> list[Message]:
    """Make the messages of a request, one for each recipient, and queue nothing."""
    return await ctx.env.host.injector.build(request, local_system())


@kumo.function(
    "set_httpinject_recipient_rate_limit",
    Param("spec", TEXT, optional=True),
    since="2024.11.08-d383b033",
)
def set_httpinject_recipient_rate_limit(ctx: LuaContext, spec: str | None) -> None:
    """How many recipients the HTTP API takes, such as '1,000/min'; nil for any number. Requests wait for their turn."""
    ctx.env.host.injector.recipient_rate = None if spec is None else ThrottleSpec.parse(spec)
