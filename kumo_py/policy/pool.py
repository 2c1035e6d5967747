"""The contexts of the current policy: kept while they are young, one event each at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kumo_py.policy.context import Environment, LuaContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.policy.source import PolicySource


@dataclass(slots=True)
class PoolLimits:
    """KumoMTA's `set_max_lua_context_age` (seconds), `…_use_count` and `set_max_spare_lua_contexts`."""

    max_age: float = 300.0
    max_uses: int = 1024
    max_spare: int = 8192


class ContextPool:
    """Lends contexts that run one source. A new one is made only when all are lent."""

    __slots__ = ("_clock", "_env", "_idle", "_source", "limits")

    def __init__(
        self, env: Environment, source: PolicySource, clock: Callable[[], float], limits: PoolLimits
    ) -> None:
        self._env = env
        self._source = source
        self._clock = clock
        self._idle: list[LuaContext] = []
        self.limits = limits

    def take(self) -> LuaContext | None:
        """An idle context, if there is one that may still be used."""
        idle = self._idle
        while idle:
            ctx = idle.pop()
            if self._clock() - ctx.created < self.limits.max_age:
                return ctx
            ctx.close()
        return None

    async def make(self) -> LuaContext:
        """A new context. Raises PolicyError."""
        ctx = LuaContext(self._env, self._clock())
        try:
            await ctx.load(self._source)
        except BaseException:
            ctx.close()
            raise
        return ctx

    def put(self, ctx: LuaContext) -> None:
        """Take a context back after its event."""
        ctx.uses += 1
        limits = self.limits
        if ctx.usable and ctx.uses < limits.max_uses and len(self._idle) < limits.max_spare:
            self._idle.append(ctx)
        else:
            ctx.close()

    def close(self) -> None:
        """Drop all idle contexts, and those that are lent once they come back."""
        for ctx in self._idle:
            ctx.close()
        self._idle.clear()
        self.limits = PoolLimits(max_uses=0)
