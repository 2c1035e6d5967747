"""The contexts of the current policy: kept while they are young, one event each at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.policy.context import Environment, LuaContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.policy.source import PolicySource


class ContextPool:
    """Lends contexts that run one source. A new one is made only when all are lent."""

    __slots__ = ("_clock", "_closed", "_env", "_idle", "_limits", "_source")

    def __init__(self, env: Environment, source: PolicySource, clock: Callable[[], float]) -> None:
        self._env = env
        self._source = source
        self._clock = clock
        self._limits = env.pool_limits
        self._idle: list[LuaContext] = []
        self._closed = False

    def take(self) -> LuaContext | None:
        """An idle context, if there is one that may still be used."""
        idle = self._idle
        while idle:
            ctx = idle.pop()
            if self._clock() - ctx.created < self._limits.max_age:
                return ctx
            ctx.close()
        return None

    async def make(self) -> LuaContext:
        """A new context. Raises PolicyError."""
        ctx = LuaContext(self._env, self._source, self._clock())
        try:
            await ctx.load()
        except BaseException:
            ctx.close()
            raise
        return ctx

    def put(self, ctx: LuaContext) -> None:
        """Take a context back after its event."""
        ctx.rest()
        limits = self._limits
        if (
            ctx.usable
            and not self._closed
            and ctx.uses < limits.max_uses
            and len(self._idle) < limits.max_spare
        ):
            self._idle.append(ctx)
        else:
            ctx.close()

    def close(self) -> None:
        """Drop all idle contexts, and those that are lent once they come back."""
        self._closed = True
        for ctx in self._idle:
            ctx.close()
        self._idle.clear()
