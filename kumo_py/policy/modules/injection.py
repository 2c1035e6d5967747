"""Making messages in a policy and putting them into the queues: kumo.make_message, kumo.inject_message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.message.message import Message
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.registry import Param
from kumo_py.policy.types import ADDRESS, BOOLEAN, BYTES, MESSAGE

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext


@kumo.function(
    "make_message",
    Param("sender", ADDRESS),
    Param("recipient", ADDRESS),
    Param("body", BYTES),
    result=MESSAGE,
    since="2025.10.06-5ec871ab",
)
def make_message(ctx: LuaContext, sender: str, recipient: str, body: bytes) -> Message:
    """A new message in memory. body: header and body with CRLF line ends; an empty sender is the null sender."""
    return Message(ctx.env.host.new_id(), sender, (recipient,), {}, body)


@kumo.function(
    "inject_message",
    Param("msg", MESSAGE),
    Param("deferred_spool", BOOLEAN, optional=True),
    since="2025.10.06-5ec871ab",
)
async def inject_message(ctx: LuaContext, msg: Message, deferred_spool: bool | None) -> None:
    """Put a message from make_message into its queue; from then on it belongs to the node.

    With deferred_spool it is not saved before it has to wait. If this fails, nothing of the message is kept.
    """
    queues = ctx.env.host.queues
    try:
        queue = await queues.resolve(msg.queue_name)
        if not deferred_spool:
            await queues.spool.save(msg)
        await queues.insert(msg, queue)
    except BaseException:
        queues.forget(msg)
        raise
