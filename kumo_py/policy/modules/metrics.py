"""The node's metrics, from a policy (a function of the `kumo` module)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.types import VALUE

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext


@kumo.function("prometheus_metrics", result=VALUE)
async def prometheus_metrics(ctx: LuaContext) -> dict[str, object]:
    """All metrics by name: a table with help, type and value for each, as GET /metrics.json. For tests: it is slow."""
    return await ctx.env.host.metrics()
