"""Between Lua and an implementation: arguments in, result or error out.

What is bound answers (True, result) or (False, message as bytes), and raises nothing but Cancelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kumo_py.core.options import OptionError
from kumo_py.message.connection import ConnectionMeta
from kumo_py.message.message import Message, NotLoaded
from kumo_py.policy.types import LuaValue
from kumo_py.spool.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.registry import Function

Answer: TypeAlias = tuple[LuaValue, ...]
_NOTHING: Answer = (True,)
OBJECT_TYPES = {"message": Message, "connection": ConnectionMeta}


def bind(ctx: LuaContext, function: Function) -> Callable[..., Answer]:
    """What Lua calls for a function or a method that need not wait."""
    call, result = function.call, function.result
    assert call is not None
    arguments = _arguments(ctx, function)

    def bound(*raw: LuaValue) -> Answer:
        try:
            value = call(ctx, *arguments(raw))
            if result is None:
                return _NOTHING
            return True, None if value is None else result.to_lua(ctx, value)
        except Exception as err:
            return _answer(function, err)

    return bound


def bind_async(ctx: LuaContext, function: Function) -> Callable[..., Awaitable[Answer]]:
    """What the driver awaits for a function that waits."""
    call, result = function.call, function.result
    assert call is not None
    arguments = _arguments(ctx, function)

    async def bound(*raw: LuaValue) -> Answer:
        try:
            value = await call(ctx, *arguments(raw))
            if result is None:
                return _NOTHING
            return True, None if value is None else result.to_lua(ctx, value)
        except Exception as err:
            return _answer(function, err)

    return bound


def _arguments(ctx: LuaContext, function: Function) -> Callable[[Answer], list[LuaValue]]:
    params, label = function.params, function.label
    self_type = OBJECT_TYPES.get(function.owner)
    in_events = function.only_in_events

    def arguments(raw: Answer) -> list[LuaValue]:
        if in_events and ctx.event is None:
            raise OptionError(
                f"{label} is for the init event: the top level of the policy file runs again and again"
            )
        values: list[LuaValue] = []
        at = 0
        if self_type is not None:
            if type(raw[0]) is not self_type:
                raise OptionError(f"{label} must be called with ':' on a {function.owner}")
            values.append(raw[0])
            at = 1
        given = len(raw)
        for param in params:
            value = raw[at] if at < given else None
            at += 1
            if value is None and param.optional:
                values.append(None)
                continue
            try:
                values.append(param.type.from_lua(ctx, value, label))
            except OptionError:
                raise
            except ValueError as err:
                raise OptionError(f"{label}: argument '{param.name}' {err}") from None
        return values

    return arguments


def _answer(function: Function, err: Exception) -> Answer:
    text = problem(err)
    if not text.startswith(function.label):
        text = f"{function.label}: {text}"
    return False, text.encode("utf-8", "replace")


def problem(err: Exception) -> str:
    """An exception for the policy's author; what is not meant for them is said to be our bug."""
    match err:
        case ValueError() | SpoolError() | NotLoaded():
            return str(err)
        case KeyError():
            return f"there is no {err.args[0] if err.args else 'such thing'}"
        case OSError() if err.strerror:
            return err.strerror if err.filename is None else f"{err.filename}: {err.strerror}"
        case OSError():
            return str(err)
    return f"internal error, please report it: {type(err).__name__}: {err}"
