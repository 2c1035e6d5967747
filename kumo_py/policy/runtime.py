"""LuaPolicy: core.policy.Policy, answered by handlers written in Lua."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from kumo_py.core.policy import PolicyError, no_handler
from kumo_py.message.message import Message
from kumo_py.policy.access_control import AccessControl
from kumo_py.policy.binding import problem
from kumo_py.policy.constructed import LuaObject
from kumo_py.policy.context import ContextCounts, Environment, Limits, PoolLimits
from kumo_py.policy.event_times import EventTimes
from kumo_py.policy.hints import misspelt_events
from kumo_py.policy.key_sources import load_key
from kumo_py.policy.pool import ContextPool
from kumo_py.policy.source import PolicySource
from kumo_py.policy.surface import build_registry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from pathlib import Path

    from kumo_py.core.key_source import KeySource
    from kumo_py.policy.configured import Configured
    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.conversion import LuaValue
    from kumo_py.policy.host import Host


class _Rest:
    """What is left of an event. Unlike a coroutine it may be dropped: its context then goes with it."""

    __slots__ = ("_args", "_go_on")

    def __init__(self, go_on: Callable[..., Coroutine[Any, Any, LuaValue]], *args: LuaValue) -> None:
        self._go_on = go_on
        self._args = args

    def __await__(self) -> Generator[Any, Any, LuaValue]:
        return self._go_on(*self._args).__await__()


class LuaPolicy:
    """A policy file and the contexts that run it. Await `load` before anything else."""

    def __init__(
        self,
        path: Path,
        host: Host,
        clock: Callable[[], float],
        *,
        limits: Limits | None = None,
        validating: bool = False,
    ) -> None:
        """`clock` gives seconds that never go back: the age of contexts is counted by it."""
        self.path = path
        self.epoch = 0
        """How often a policy was loaded; it grows with each successful `load`."""
        self.times = EventTimes()
        self._clock = clock
        self.env = Environment(build_registry(), host, self, limits or Limits(), PoolLimits(), validating)
        self.access = AccessControl(self)
        self._pool: ContextPool
        self._events: frozenset[str] = frozenset()

    async def load(self, source: PolicySource | None = None) -> None:
        """Run a source, or the policy file as it is now, in a first context; from then on it is the policy.

        Raises PolicyError; then nothing has changed.
        """
        pool = ContextPool(self.env, source or PolicySource(str(self.path)), self._clock)
        ctx = await pool.make()
        for name, near in misspelt_events(self.env.registry, ctx.events):
            place = f"{ctx.registered_at(name)}: kumo.on('{name}')"
            self.env.host.diagnostic("warn", f"{place}: there is no such event; did you mean '{near}'?")
        old = self._pool if self.epoch else None
        self._pool, self._events = pool, ctx.events
        self.epoch += 1
        pool.put(ctx)
        if old is not None:
            old.close()

    @property
    def source(self) -> PolicySource:
        return self._pool.source

    @property
    def configured(self) -> list[Configured]:
        """What `pre_init` and `init` asked of the node."""
        return self.env.configured

    @property
    def contexts(self) -> ContextCounts:
        """How many there were and are."""
        return self.env.contexts

    def handles(self, event: str) -> bool:
        return event in self._events

    async def ask(self, event: str, *args: LuaValue) -> LuaValue:
        """Run the event's handler(s); None if there is none, or if it returned no value.

        Raises Rejection or PolicyError.
        """
        if event not in self._events:
            return None
        pool = self._pool
        ctx = pool.take()
        if ctx is None:
            ctx = await pool.make_or_reuse()
        time = self.times[event]
        began = time.begin()
        try:
            if args and type(first := args[0]) is Message and not first.meta_loaded:
                await self._load(event, first)
            outcome = ctx.begin(event, args)
            if outcome is not None:
                return await ctx.finish(event, outcome)
            ctx.nothing(event)
            return None
        finally:
            pool.put(ctx)
            time.observe(perf_counter() - began)

    def start(self, event: str, *args: LuaValue) -> Awaitable[LuaValue] | None:
        """See core.policy.Policy."""
        if event not in self._events:
            return None
        pool = self._pool
        ctx = pool.take()
        if ctx is None:
            return _Rest(self.ask, event, *args)
        time = self.times[event]
        began = time.begin()
        outcome: LuaValue = None
        try:
            outcome = ctx.begin(event, args)
            if outcome is not None:
                return _Rest(self._finish, pool, ctx, event, outcome, began)
            ctx.nothing(event)
            return None
        finally:
            if outcome is None:
                pool.put(ctx)
                time.observe(perf_counter() - began)

    async def _finish(
        self, pool: ContextPool, ctx: LuaContext, event: str, outcome: LuaValue, began: float
    ) -> LuaValue:
        try:
            return await ctx.finish(event, outcome)
        finally:
            pool.put(ctx)
            self.times[event].observe(perf_counter() - began)

    async def construct(self, event: str, *args: LuaValue) -> LuaObject:
        """See core.policy.Policy."""
        if event not in self._events:
            raise PolicyError(no_handler(event))
        pool = self._pool
        ctx = pool.take() or await pool.make_or_reuse()
        time = self.times[event]
        began = time.begin()
        try:
            made = await ctx.construct(event, args)
        except BaseException:
            ctx.close()
            raise
        finally:
            time.observe(perf_counter() - began)
        ctx.rest()
        return LuaObject(event, ctx, made)

    async def load_key(self, source: KeySource) -> bytes:
        """See core.policy.Policy."""
        return await load_key(self.env, source)

    async def _load(self, event: str, msg: Message) -> None:
        try:
            await self.env.host.load_message(msg)
        except Exception as err:
            raise PolicyError(f"{event}: cannot load message {msg.id.hex()}: {problem(err)}") from err

    def close(self) -> None:
        """Free all contexts."""
        if self.epoch:
            self._pool.close()
        self._events = frozenset()
