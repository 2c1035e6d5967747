"""`kumo.make_throttle` and the throttles that it makes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kumo_py.core.duration import format_duration
from kumo_py.limits.spec import ThrottleSpec
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.registry import Kind, Param
from kumo_py.policy.types import BOOLEAN, MESSAGE, TEXT, VALUE

if TYPE_CHECKING:
    from kumo_py.limits.shared import Taken
    from kumo_py.message.message import Message
    from kumo_py.policy.context import LuaContext

_SINCE = "2024.06.10-84e84b89"


@dataclass(frozen=True, slots=True)
class NamedThrottle:
    """A throttle of a policy's: whoever gives the same name and spec shares its count."""

    name: str
    spec: ThrottleSpec

    async def take(self, ctx: LuaContext) -> Taken:
        """Raises OSError."""
        return await ctx.env.host.throttles.take(f"lua-user-throttle-{self.name}", self.spec)


throttle = Kind("throttle", NamedThrottle)


@kumo.function("make_throttle", Param("name", TEXT), Param("spec", TEXT), result=throttle.type, since=_SINCE)
def make_throttle(ctx: LuaContext, name: str, spec: str) -> NamedThrottle:
    """A throttle by its name, such as "20/30min,max_burst=1"; it lasts as long as anybody uses it."""
    return NamedThrottle(name, ThrottleSpec.parse(spec))


@throttle.function("throttle", result=VALUE, since=_SINCE)
async def take(ctx: LuaContext, this: NamedThrottle) -> dict[str, object]:
    """Take one, if there is one to take.

    The result tells whether it is `throttled`, the `limit` and what is `remaining` of it, the time until all of it is
    there again (`reset_after`), and the time to wait if it is throttled (`retry_after`).
    """
    taken = await this.take(ctx)
    return {
        "throttled": taken.retry_after is not None,
        "limit": taken.limit,
        "remaining": taken.remaining,
        "reset_after": _duration(taken.reset_after),
        "retry_after": None if taken.retry_after is None else _duration(taken.retry_after),
    }


@throttle.function("sleep_if_throttled", result=BOOLEAN, since=_SINCE)
async def sleep_if_throttled(ctx: LuaContext, this: NamedThrottle) -> bool:
    """Take one, waiting for it as long as need be; whether there was a wait. An error if the node ends meanwhile."""
    waited = False
    while (wait := (await this.take(ctx)).retry_after) is not None:
        waited = True
        if await ctx.env.host.shutdown_within(wait):
            raise ValueError("aborted because the node is shutting down")
    return waited


@throttle.function("delay_message_if_throttled", Param("msg", MESSAGE), result=BOOLEAN, since=_SINCE)
async def delay_message_if_throttled(ctx: LuaContext, this: NamedThrottle, msg: Message) -> bool:
    """Take one, or make the message due when there will be one; whether it was delayed."""
    wait = (await this.take(ctx)).retry_after
    if wait is None:
        return False
    now = ctx.env.host.wall()
    msg.set_due(now + wait, now)
    return True


@throttle.function("explain", result=TEXT)
def explain(ctx: LuaContext, this: NamedThrottle) -> str:
    """The rates that the spec amounts to, for people."""
    return describe_throttle(this.spec)


def describe_throttle(spec: ThrottleSpec) -> str:
    """The rates that a spec amounts to, for people."""
    burst = spec.limit if spec.max_burst is None else spec.max_burst
    kind = "implied" if spec.max_burst is None else "explicit"
    return (
        f"{spec}\n"
        f"{kind} burst rate {burst} every {format_duration(spec.interval)}, "
        f"or: {_rates(burst / spec.interval)} in that period.\n"
        f"overall rate {_rates(spec.limit / spec.period)}"
    )


def _rates(per_second: float) -> str:
    per_minute = per_second * 60.0
    per_hour = per_minute * 60.0
    rates = zip((per_second, per_minute, per_hour, per_hour * 24.0), "smhd", strict=True)
    return ", ".join(
        f"{f'{rate:.3f}' if rate < 1.0 else f'{math.ceil(rate):,}'}/{unit}" for rate, unit in rates
    )


def _duration(seconds: float) -> dict[str, int]:
    """As KumoMTA's tables show a span of time."""
    nanoseconds = round(seconds * 1e9)
    return {"secs": nanoseconds // 1_000_000_000, "nanos": nanoseconds % 1_000_000_000}
