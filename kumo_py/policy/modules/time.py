"""The `kumo.time` module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import NUMBER, TIME_DELTA

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

time = Owner("kumo.time")


@kumo.function("sleep", Param("seconds", NUMBER))
@time.function("sleep", Param("seconds", NUMBER), since="2025.01.23-7273d2bc")
async def sleep(ctx: LuaContext, seconds: float) -> None:
    """Wait; other events run meanwhile."""
    if not seconds >= 0:
        raise ValueError(f"cannot sleep for {seconds} seconds")
    await trio.sleep(seconds)


@time.function("parse_duration", Param("value", TIME_DELTA), result=TIME_DELTA, since="2025.12.02-67ee9e96")
def parse_duration(ctx: LuaContext, value: float) -> float:
    """A TimeDelta of seconds or of text such as "1h 30m"."""
    return value
