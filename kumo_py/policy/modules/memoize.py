"""`kumo.memoize`: results of slow functions, kept for all contexts of a node.

The Lua half (lua/kumo.lua) calls the function, since it must run in the policy's own coroutine; this half keeps the
results and lets one caller at a time compute a missing one while the others wait for it. Who does not come to an
end gives its place up when its event is over. A table is kept as plain data with a number; each context makes a
Lua table of it once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import msgspec
import orjson
import trio

from kumo_py.core.duration import Duration
from kumo_py.core.lruttl import LruTtl
from kumo_py.core.options import OptionError
from kumo_py.policy.conversion import plain
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.registry import Kind, Param
from kumo_py.policy.types import FUNCTION, INTEGER, RAW, SHARED, TEXT, OptionTable, Values

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.conversion import LuaValue

ATTEMPTS = 3
"""How often a function that runs out of time is called with retry_on_populate_timeout."""

BUILT_IN_CACHES = frozenset(
    (
        "acl_check",
        "acl_definition",
        "dkim_key_cache",
        "dkim_signer_cache",
        "dns_resolver_ip",
        "dns_resolver_ipv4",
        "dns_resolver_ipv6",
        "dns_resolver_mx",
        "egress_source_pools",
        "egress_source_sources",
        "http_server_auth",
        "mod_filesystem_glob_cache",
        "mta_sts_policy",
        "rustls_client_config",
        "smtp_dispatcher_broken_tls",
        "smtp_dispatcher_client_certificate",
        "smtp_server_tls_config",
    )
)
"""The names of KumoMTA's own caches, which a memoized function must not take."""


class MemoizeParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `kumo.memoize`; durations in seconds."""

    name: str
    """Of the cache."""
    ttl: Duration
    """How long a result is remembered."""
    capacity: int
    """How many results."""
    invalidate_with_epoch: bool = False
    """Forget everything when the configuration changes."""
    populate_timeout: Duration = Duration(120)
    """How long others wait for the one that computes a result."""
    retry_on_populate_timeout: bool = False
    """Then try up to three times instead of failing."""
    allow_stale_reads: bool = False
    """Give the old result while a new one is computed."""


@dataclass(slots=True, weakref_slot=True)
class _Result:
    value: LuaValue
    number: int | None
    """Of a table."""

    def state(self) -> tuple[LuaValue, LuaValue]:
        if self.number is None:
            return b"value", self.value
        return b"table", self.number


@dataclass(slots=True, eq=False)
class _Population:
    """Somebody computes a result."""

    key: object
    number: int
    deadline: float
    attempt: int = 1
    outer_deadline: float = inf
    done: trio.Event = field(default_factory=trio.Event)
    failure: str | None = None


class MemoCache:
    """The results of one function, by its arguments."""

    def __init__(self, params: MemoizeParams, caches: MemoCaches) -> None:
        self.params = params
        self._caches = caches
        self.results: LruTtl[object, _Result] = LruTtl(params.name, params.capacity)
        self._stale: LruTtl[object, _Result] = LruTtl(params.name, params.capacity)
        """Every result without its end; only with allow_stale_reads."""
        self._pending: dict[object, _Population] = {}
        self._computing: dict[int, _Population] = {}
        self.errors = self.stale_reads = self.waiting = 0
        """Results that could not be computed; old ones that were given; who waits for one now."""

    def lookup(self, key: object) -> tuple[LuaValue, LuaValue] | None:
        found = self.results.get(key, trio.current_time())
        return None if found is None else found.state()

    def stale(self, key: object) -> tuple[LuaValue, LuaValue] | None:
        found = self._stale.get(key, 0.0)
        if found is None:
            return None
        self.stale_reads += 1
        return found.state()

    def resize(self, capacity: int) -> None:
        """Keep so many results."""
        self.results.capacity = self._stale.capacity = capacity

    def pending(self, key: object) -> _Population | None:
        population = self._pending.get(key)
        return population if population is not None and trio.current_time() < population.deadline else None

    def begin(self, ctx: LuaContext, key: object) -> _Population:
        """Let the context compute the result within its time."""
        deadline = trio.current_time() + self.params.populate_timeout
        population = _Population(key, self._caches.next_number(), deadline, outer_deadline=ctx.deadline)
        self._pending[key] = self._computing[population.number] = population
        ctx.deadline = min(ctx.deadline, deadline)
        ctx.on_rest.append(lambda: self._end(population))
        return population

    def _end(self, population: _Population) -> None:
        if self._computing.pop(population.number, None) is not None:
            if self._pending.get(population.key) is population:
                del self._pending[population.key]
            population.done.set()

    def finish(self, ctx: LuaContext, number: int, value: LuaValue) -> tuple[LuaValue, LuaValue]:
        population = self._computing[number]
        ctx.deadline = population.outer_deadline
        is_table = isinstance(value, list | dict)
        result = _Result(value, self._caches.next_number() if is_table else None)
        if result.number is not None:
            self._caches.tables[result.number] = result
        self.results.put(population.key, result, trio.current_time() + self.params.ttl)
        if self.params.allow_stale_reads:
            self._stale.put(population.key, result, inf)
        self._end(population)
        return result.state()

    def fail(self, ctx: LuaContext, number: int, text: str) -> tuple[LuaValue, LuaValue]:
        population = self._computing[number]
        ctx.deadline = population.outer_deadline
        now = trio.current_time()
        if now >= population.deadline:
            if self.params.allow_stale_reads and (stale := self.stale(population.key)) is not None:
                self._end(population)
                return stale
            if self.params.retry_on_populate_timeout and population.attempt < ATTEMPTS:
                population.attempt += 1
                population.deadline = now + self.params.populate_timeout
                ctx.deadline = min(ctx.deadline, population.deadline)
                return b"fill", number
        self.errors += 1
        population.failure = text
        self._end(population)
        return b"error", None


class MemoCaches:
    """The node's caches by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, MemoCache] = {}
        self.tables: WeakValueDictionary[int, _Result] = WeakValueDictionary()
        """Results that are tables, by their numbers, as long as a cache has them."""
        self._last_number = 0

    def next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def named(self, params: MemoizeParams) -> MemoCache:
        """The cache of that name; a new one when its options have changed."""
        cache = self.by_name.get(params.name)
        if cache is None or cache.params != params:
            cache = self.by_name[params.name] = MemoCache(params, self)
        return cache


memo_cache = Kind("_memo_cache", MemoCache)

_STATE = Values(RAW, SHARED)
_ARGS = Param("args", RAW, rest=True)

kumo.lua_function(
    "memoize",
    Param("func", FUNCTION),
    Param("params", OptionTable(MemoizeParams)),
    doc="A function that returns what `func` does, and remembers it by the arguments for all of the node.",
    result=FUNCTION,
)


@kumo.function(
    "_memo_cache", Param("params", OptionTable(MemoizeParams)), result=memo_cache.type, serves="kumo.memoize"
)
def _named(ctx: LuaContext, params: MemoizeParams) -> MemoCache:
    """The cache of that name."""
    if params.name in BUILT_IN_CACHES:
        raise OptionError(
            f"kumo.memoize: name: '{params.name}' is a cache of the node's own; prefix yours, 'user.{params.name}'"
        )
    if params.capacity < 1:
        raise OptionError(f"kumo.memoize: capacity: expected at least 1, got {params.capacity}")
    return ctx.env.state(MemoCaches).named(params)


@memo_cache.function("find", _ARGS, result=_STATE)
def _find(ctx: LuaContext, cache: MemoCache, *args: LuaValue) -> tuple[LuaValue, LuaValue]:
    """What to do for these arguments: return a value or table, compute it, or wait for who does."""
    return _next_step(ctx, cache, _key(ctx, cache, args))


@memo_cache.function("wait", _ARGS, result=_STATE)
async def _wait(ctx: LuaContext, cache: MemoCache, *args: LuaValue) -> tuple[LuaValue, LuaValue]:
    """Wait for another caller's result."""
    key = _key(ctx, cache, args)
    population = cache.pending(key)
    if population is not None:
        cache.waiting += 1
        try:
            with trio.move_on_at(population.deadline):
                await population.done.wait()
        finally:
            cache.waiting -= 1
        if population.failure is not None:
            raise ValueError(population.failure)
        if not population.done.is_set() and (stale := cache.stale(key)) is not None:
            return stale
    return _next_step(ctx, cache, key)


@memo_cache.function("fill", Param("number", INTEGER), Param("values", SHARED, rest=True), result=_STATE)
def _fill(ctx: LuaContext, cache: MemoCache, number: int, *values: LuaValue) -> tuple[LuaValue, LuaValue]:
    """Keep what the function returned; several values as a list, as KumoMTA does."""
    value = values[0] if len(values) == 1 else list(values) if values else None
    return cache.finish(ctx, number, value)


@memo_cache.function("fail", Param("number", INTEGER), Param("text", TEXT), result=_STATE)
def _fail(ctx: LuaContext, cache: MemoCache, number: int, text: str) -> tuple[LuaValue, LuaValue]:
    """The function failed: whether to fail too, to try again, or what to return in its stead."""
    return cache.fail(ctx, number, text)


@memo_cache.function("table", Param("number", INTEGER), result=SHARED)
def _table(ctx: LuaContext, cache: MemoCache, number: int) -> LuaValue:
    """A result that is a table."""
    return ctx.env.state(MemoCaches).tables[number].value


def _next_step(ctx: LuaContext, cache: MemoCache, key: object) -> tuple[LuaValue, LuaValue]:
    known = cache.lookup(key)
    if known is not None:
        return known
    if cache.pending(key) is not None:
        return b"wait", None
    return b"fill", cache.begin(ctx, key).number


def _key(ctx: LuaContext, cache: MemoCache, args: tuple[LuaValue, ...]) -> object:
    """What tells calls apart: the arguments as JSON would, and the config epoch if that counts."""
    for arg in args:
        if type(arg) is not bytes:  # Python takes 1, 1.0 and true for the same key
            key: object = orjson.dumps([plain(ctx, one) for one in args], option=orjson.OPT_SORT_KEYS)
            break
    else:
        key = args
    params = cache.params
    if params.invalidate_with_epoch and not params.allow_stale_reads:
        return ctx.env.policy.epoch, key
    return key
