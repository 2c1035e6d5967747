"""The methods of a message that concern spool and queue: saving, attempts, due time, schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kumo_py.message import headers
from kumo_py.message.rfc3339 import parse_rfc3339, rfc3339
from kumo_py.message.scheduling import Schedule, parse_schedule_json
from kumo_py.policy.modules.message import message
from kumo_py.policy.registry import Param
from kumo_py.policy.types import BOOLEAN, BYTES, INTEGER, TEXT, VALUE, OptionTable

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.policy.context import LuaContext


# -- spool -------------------------------------------------------------------------------------------------------
@message.function("save")
async def save(ctx: LuaContext, msg: Message) -> None:
    """Write content and metadata to the spool, as far as they are not there yet, and wait until that is durable."""
    await ctx.env.host.queues.spool.save(msg)


@message.function("shrink", result=BOOLEAN, since="2025.03.19-1d3f1f67")
async def shrink(ctx: LuaContext, msg: Message) -> bool:
    """Save the message, then drop its content from memory; metadata follows when it waits in its queue.

    Returns whether the content was in memory.
    """
    return await _drop_content(ctx, msg)


@message.function("shrink_data", result=BOOLEAN, since="2025.03.19-1d3f1f67")
async def shrink_data(ctx: LuaContext, msg: Message) -> bool:
    """Save the message, then drop its content from memory. Returns whether it was there."""
    return await _drop_content(ctx, msg)


async def _drop_content(ctx: LuaContext, msg: Message) -> bool:
    await ctx.env.host.queues.spool.save(msg)
    was_loaded = msg.data_loaded
    msg.shrink_data()
    return was_loaded


@message.function("set_force_sync", Param("force", BOOLEAN))
def set_force_sync(ctx: LuaContext, msg: Message, force: bool) -> None:
    """Wait for the disk whenever this message is saved, even if its spool has `flush = false`."""
    msg.force_sync = force


# -- attempts ----------------------------------------------------------------------------------------------------
@message.function("num_attempts", result=INTEGER, since="2024.06.10-84e84b89")
def num_attempts(ctx: LuaContext, msg: Message) -> int:
    """How often delivery was tried; estimated after a restart."""
    return msg.attempts


@message.function("increment_num_attempts", since="2026.03.04-bb93ecb1")
def increment_num_attempts(ctx: LuaContext, msg: Message) -> None:
    """Count one attempt more."""
    msg.attempts += 1


@message.function("set_due", Param("due", TEXT, optional=True), result=TEXT, since="2024.06.10-84e84b89")
def set_due(ctx: LuaContext, msg: Message, due: str | None) -> str | None:
    """Set the time of the next attempt, as RFC 3339 text, or nil for now.

    The message's schedule may make it later. Returns what is in force; nil for now.
    """
    msg.set_due(0.0 if due is None else parse_rfc3339(due).timestamp(), ctx.env.host.wall())
    return rfc3339(datetime.fromtimestamp(msg.due, UTC)) if msg.due else None


# -- schedule ----------------------------------------------------------------------------------------------------
@message.function("set_scheduling", Param("schedule", OptionTable(Schedule), optional=True), result=VALUE)
def set_scheduling(ctx: LuaContext, msg: Message, schedule: Schedule | None) -> dict[str, object] | None:
    """Say when the message may be tried, or nil for whenever it is due. Returns what is in force.

    first_attempt: not before this time (RFC 3339). dow, tz, start, end: only on these days, between these times of
    the zone. expires: give it up at this time, whatever the queue's max_age.
    """
    msg.set_schedule(schedule, ctx.env.host.wall())
    return None if schedule is None else schedule.to_table()


@message.function(
    "import_scheduling_header",
    Param("name", BYTES),
    Param("remove", BOOLEAN, optional=True),
    result=VALUE,
    needs_content=True,
)
def import_scheduling_header(
    ctx: LuaContext, msg: Message, name: bytes, remove: bool | None
) -> dict[str, object] | None:
    """Set the schedule that a header holds as JSON, with the fields of set_scheduling, and perhaps remove the header.

    Returns the schedule; nil without such a header.
    """
    wanted = name.lower()
    value = next(headers.values_named(msg.data, name), None)
    if value is None:
        return None
    schedule = parse_schedule_json(headers.decoded(value), f"the header {name.decode('utf-8', 'replace')}")
    msg.set_schedule(schedule, ctx.env.host.wall())
    if remove:
        msg.set_data(headers.without(msg.data, lambda field: field.name.lower() == wanted))
    return schedule.to_table()
