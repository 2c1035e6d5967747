"""Reads what a KeySource describes: a file, the policy's own data, an event's answer, a secret in HashiCorp Vault."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import trio

from kumo_py.core.policy import PolicyError, Rejection

if TYPE_CHECKING:
    from kumo_py.core.key_source import KeySource
    from kumo_py.policy.context import LuaContext


async def load_key(ctx: LuaContext, source: KeySource) -> bytes:
    """The bytes that a key source describes. Raises OSError, ValueError or KeyError. Nothing is cached."""
    inline = source.inline_bytes()
    if inline is not None:
        return inline
    if source.path is not None:
        return await trio.to_thread.run_sync(Path(source.path).read_bytes)
    if source.event_name is not None:
        return await _from_event(ctx, source.event_name, source.event_args or [])
    raise ValueError("secrets in HashiCorp Vault cannot be read yet")


async def _from_event(ctx: LuaContext, event: str, args: list[object]) -> bytes:
    policy = ctx.env.policy
    if not policy.handles(event):
        raise ValueError(f"the key is to come from the event '{event}', which has no handler: use kumo.on")
    try:
        answer = await policy.ask(event, *args)
    except (PolicyError, Rejection) as err:
        raise ValueError(str(err)) from None
    if isinstance(answer, str):
        return answer.encode()
    if isinstance(answer, list):  # how text that is not UTF-8 arrives
        try:
            return bytes(answer)
        except (TypeError, ValueError):
            pass
    raise ValueError(f"the handler of '{event}' must return the key as a string")
