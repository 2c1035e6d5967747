"""The `kumo.counter_series` module: rolling counters that all contexts share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import trio

from kumo_py.core.counter_series import CounterSeries
from kumo_py.core.duration import Duration
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import INTEGER, TIME_DELTA, OptionTable

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

counter_series = Owner("kumo.counter_series")
series = Kind("series", CounterSeries)

_SINCE = "2026.05.12-a6845223"


class CounterSeriesParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`kumo.counter_series.define`."""

    name: str
    num_buckets: int
    bucket_size: Duration
    """At least a second; parts of one are rounded up."""
    initial_value: int = 0


class _Series(dict[str, CounterSeries]):
    """The node's, by name."""


@counter_series.function(
    "define", Param("params", OptionTable(CounterSeriesParams)), result=series.type, since=_SINCE
)
def define(ctx: LuaContext, params: CounterSeriesParams) -> CounterSeries:
    """The counter of that name. It is made when it does not exist, or has another shape than is asked for now: then
    what it counted is lost, and its latest bucket starts with the initial value.
    """
    if params.initial_value < 0:
        raise ValueError(f"initial_value must be 0 or more, got {params.initial_value}")
    known = ctx.env.state(_Series)
    shape = params.num_buckets, math.ceil(params.bucket_size)
    found = known.get(params.name)
    if found is None or found.shape != shape:
        found = CounterSeries(*shape, trio.current_time(), params.initial_value)
        known[params.name] = found
    return found


@series.function("increment", Param("by", INTEGER), since=_SINCE)
def increment(ctx: LuaContext, self: CounterSeries, by: int) -> None:
    """Add to the latest bucket."""
    if by < 0:
        raise ValueError(f"cannot add {by}: use delta to take something away")
    self.increment(trio.current_time(), by)


@series.function("delta", Param("by", INTEGER), since=_SINCE)
def delta(ctx: LuaContext, self: CounterSeries, by: int) -> None:
    """Add to the latest bucket, or take from it, down to 0."""
    self.increment(trio.current_time(), by)


@series.function("observe", Param("value", INTEGER), since=_SINCE)
def observe(ctx: LuaContext, self: CounterSeries, value: int) -> None:
    """Set the latest bucket."""
    if value < 0:
        raise ValueError(f"the value must be 0 or more, got {value}")
    self.observe(trio.current_time(), value)


@series.function("sum", result=INTEGER, since=_SINCE)
def sum_(ctx: LuaContext, self: CounterSeries) -> int:
    """The total of all buckets."""
    return self.sum(trio.current_time())


@series.function("sum_over", Param("duration", TIME_DELTA), result=INTEGER, since=_SINCE)
def sum_over(ctx: LuaContext, self: CounterSeries, duration: float) -> int:
    """The total of the latest buckets that cover the duration, which is rounded up to whole buckets."""
    return self.sum_over(trio.current_time(), duration)
