"""The methods of a message (KumoMTA's `message` userdata)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import ADDRESS, BYTES, INTEGER, TEXT, VALUE, ListOf, OneOrList

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.policy.context import LuaContext

message = Owner("message")


@message.function("id", result=TEXT)
def message_id(ctx: LuaContext, msg: Message) -> str:
    """The spool id: 32 hex digits."""
    return msg.id.hex()


@message.function("sender", result=ADDRESS)
def sender(ctx: LuaContext, msg: Message) -> str:
    """The envelope sender; its email is empty for the null sender."""
    return msg.sender


@message.function("set_sender", Param("sender", ADDRESS), since="2023.08.22-4d895015")
def set_sender(ctx: LuaContext, msg: Message, sender: str) -> None:
    """Change the envelope sender."""
    msg.set_envelope(sender, msg.recipients)


@message.function("recipient", result=OneOrList(ADDRESS))
def recipient(ctx: LuaContext, msg: Message) -> tuple[str, ...] | None:
    """The recipient; a list when there are several."""
    return msg.recipients or None


@message.function("recipient_list", result=ListOf(ADDRESS), since="2025.12.02-67ee9e96")
def recipient_list(ctx: LuaContext, msg: Message) -> tuple[str, ...]:
    """All recipients, always as a list."""
    return msg.recipients


@message.function("set_recipient", Param("recipients", OneOrList(ADDRESS)), since="2023.08.22-4d895015")
def set_recipient(ctx: LuaContext, msg: Message, recipients: list[str]) -> None:
    """Replace the recipients with one or several others."""
    msg.set_envelope(msg.sender, tuple(recipients))


@message.function("get_meta", Param("key", TEXT), result=VALUE)
def get_meta(ctx: LuaContext, msg: Message, key: str) -> object:
    """The metadata of that name, or nil."""
    return msg.get_meta(key)


@message.function("set_meta", Param("key", TEXT), Param("value", VALUE))
def set_meta(ctx: LuaContext, msg: Message, key: str, value: object) -> None:
    """Store metadata: anything that JSON can say. nil is stored as null."""
    msg.set_meta(key, value)


@message.function("get_data", result=BYTES, needs_content=True)
def get_data(ctx: LuaContext, msg: Message) -> bytes:
    """Header and body as they are, with CRLF line ends."""
    return msg.data


@message.function("set_data", Param("data", BYTES), since="2024.06.10-84e84b89")
def set_data(ctx: LuaContext, msg: Message, data: bytes) -> None:
    """Replace header and body as they are."""
    msg.set_data(data)


@message.function("queue_name", result=TEXT, since="2024.06.10-84e84b89")
def queue_name(ctx: LuaContext, msg: Message) -> str:
    """The scheduled queue that metadata and first recipient choose."""
    return msg.queue_name


@message.function("num_attempts", result=INTEGER, since="2024.06.10-84e84b89")
def num_attempts(ctx: LuaContext, msg: Message) -> int:
    """How often delivery was tried; estimated after a restart."""
    return msg.attempts


@message.function("increment_num_attempts", since="2026.03.04-bb93ecb1")
def increment_num_attempts(ctx: LuaContext, msg: Message) -> None:
    """Count one attempt more."""
    msg.attempts += 1
