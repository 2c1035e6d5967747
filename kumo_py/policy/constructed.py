"""An object that a handler made (`custom_lua`'s connection), in the context that made it.

It owns the context, which is in no pool and is dropped with it: the object's state is Lua's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.conversion import LuaValue


class LuaObject:
    """A core.policy.PolicyObject."""

    __slots__ = ("_context", "_made", "_name")

    def __init__(self, name: str, context: LuaContext, made: LuaValue) -> None:
        """`name` is the event's that made it, for errors."""
        self._name = name
        self._context = context
        self._made = made

    async def call(self, method: str, *args: LuaValue, optional: bool = False) -> str:
        """See core.policy.PolicyObject."""
        ctx, label = self._context, f"{self._name}:{method}"
        if not ctx.usable:
            if optional:
                return ""
            raise PolicyError(f"{label}: an earlier call was stopped; the object is gone")
        try:
            return await ctx.call_method(label, self._made, method, args, optional=optional)
        finally:
            ctx.rest()

    def discard(self) -> None:
        """See core.policy.PolicyObject."""
        self._made = None
        self._context.close()
