"""The contexts of the current policy: kept while they are young, one event each at a time."""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING

from kumo_py.core.policy import PolicyError
from kumo_py.policy.context import Environment, LuaContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.policy.source import PolicySource


class ContextPool:
    """Lends contexts that run one source. A new one is made only when all are lent.

    One context past its time is kept in reserve: should the policy's top level fail one day, because a file or a
    server that it needs is gone, mail goes on.
    """

    __slots__ = ("_clock", "_closed", "_env", "_idle", "_limits", "_reserve", "source")

    def __init__(self, env: Environment, source: PolicySource, clock: Callable[[], float]) -> None:
        self.source = source
        self._env = env
        self._clock = clock
        self._limits = env.pool_limits
        self._idle: list[LuaContext] = []
        self._reserve: LuaContext | None = None
        self._closed = False

    def take(self) -> LuaContext | None:
        """An idle context, if there is one that may still be used."""
        idle = self._idle
        while idle:
            ctx = idle.pop()
            self._env.contexts.idle -= 1
            if self._clock() - ctx.created < self._limits.max_age:
                return ctx
            self._retire(ctx)
        return None

    async def make(self) -> LuaContext:
        """A new context. Raises PolicyError."""
        ctx = LuaContext(self._env, self.source, self._clock())
        try:
            await ctx.load()
        except BaseException:
            ctx.close()
            raise
        if self._reserve is not None:
            self._reserve.close()
            self._reserve = None
        return ctx

    async def make_or_reuse(self) -> LuaContext:
        """A new context, or else the one in reserve. Raises PolicyError."""
        try:
            return await self.make()
        except PolicyError as err:
            ctx, self._reserve = self._reserve, None
            if ctx is None:
                raise
            text = f"the policy no longer loads; a context of before that is used on: {err}"
            self._env.host.diagnostic("error", text)
            return ctx

    def put(self, ctx: LuaContext) -> None:
        """Take a context back after its event."""
        ctx.rest()
        limits = self._limits
        if self._closed or not ctx.usable:
            ctx.close()
        elif ctx.uses < limits.max_uses and len(self._idle) < limits.max_spare:
            if limits.gc_on_put and random() * 100 < limits.gc_on_put:
                ctx.collect()
            self._idle.append(ctx)
            self._env.contexts.idle += 1
        else:
            self._retire(ctx)

    def _retire(self, ctx: LuaContext) -> None:
        if self._reserve is None:
            self._reserve = ctx
        else:
            ctx.close()

    def close(self) -> None:
        """Drop all idle contexts, and those that are lent once they come back."""
        self._closed = True
        self._env.contexts.idle -= len(self._idle)
        for ctx in self._idle:
            ctx.close()
        self._idle.clear()
        if self._reserve is not None:
            self._reserve.close()
            self._reserve = None
