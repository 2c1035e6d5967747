"""Between Lua and an implementation: arguments in, result or error out.

What is bound answers (True, result) or (False, message as bytes), and raises nothing but Cancelled.

What lupa hands to a function that a coroutine calls must not outlive the coroutine: letting go of it later crashes the
process, and an exception may hold it for long. So the first thing is to take a durable one (LuaContext.durable).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from kumo_py.core.options import OptionError, to_builtins
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.message.message import NotLoaded
from kumo_py.policy.configured import Configured
from kumo_py.policy.conversion import LuaValue
from kumo_py.policy.types import LuaObject, Values
from kumo_py.spool.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.registry import Function, Implementation

Answer: TypeAlias = tuple[LuaValue, ...]
_NOTHING: Answer = (True,)


def bind(ctx: LuaContext, function: Function) -> Callable[..., Answer]:
    """What Lua calls for a function or a method that need not wait."""
    call, label = function.call, function.label
    assert call is not None
    if function.configures:
        call = _configuring(ctx, function, call)
    done = _answer(ctx, function)
    arguments = _Arguments(ctx, function)

    # A loop over the arguments would double the cost of a call, so the usual numbers of them go without.
    match arguments.readers if arguments.rest is None else ():
        case [one]:

            def bound_1(a: LuaValue = None, *rest: LuaValue) -> Answer:
                del rest
                if isinstance(a, LuaObject):
                    a = ctx.durable(a)
                try:
                    return done(call(ctx, one(ctx, a, label)))
                except Exception as err:
                    return arguments.failure(err, (a,))

            return bound_1
        case [one, two]:

            def bound_2(a: LuaValue = None, b: LuaValue = None, *rest: LuaValue) -> Answer:
                del rest
                if isinstance(a, LuaObject):
                    a = ctx.durable(a)
                if isinstance(b, LuaObject):
                    b = ctx.durable(b)
                try:
                    return done(call(ctx, one(ctx, a, label), two(ctx, b, label)))
                except Exception as err:
                    return arguments.failure(err, (a, b))

            return bound_2
        case [one, two, three]:

            def bound_3(
                a: LuaValue = None, b: LuaValue = None, c: LuaValue = None, *rest: LuaValue
            ) -> Answer:
                del rest
                if isinstance(a, LuaObject):
                    a = ctx.durable(a)
                if isinstance(b, LuaObject):
                    b = ctx.durable(b)
                if isinstance(c, LuaObject):
                    c = ctx.durable(c)
                try:
                    return done(call(ctx, one(ctx, a, label), two(ctx, b, label), three(ctx, c, label)))
                except Exception as err:
                    return arguments.failure(err, (a, b, c))

            return bound_3

    def bound(*raw: LuaValue) -> Answer:
        raw = tuple([ctx.durable(one) if isinstance(one, LuaObject) else one for one in raw])
        try:
            return done(call(ctx, *arguments.read(raw)))
        except Exception as err:
            return arguments.failure(err, raw)

    return bound


def bind_async(ctx: LuaContext, function: Function) -> Callable[..., Awaitable[Answer]]:
    """What the driver awaits for a function that waits."""
    call = function.call
    assert call is not None
    done = _answer(ctx, function)
    arguments = _Arguments(ctx, function)

    async def bound(*raw: LuaValue) -> Answer:
        try:
            if function.only_in_events and ctx.event is None:
                raise ValueError(
                    "belongs in the init event: the top level of the policy runs again and again"
                )
            values = arguments.read(raw)
            if function.configures:
                _remember(ctx, function, values)
                if ctx.env.validating:
                    return _NOTHING
            elif function.needs_content and not values[0].data_loaded:
                await ctx.env.host.load_message(values[0])
            return done(await call(ctx, *values))
        except Exception as err:
            return arguments.failure(err, raw)

    return bound


def _configuring(ctx: LuaContext, function: Function, call: Implementation) -> Implementation:
    def configure(_: LuaContext, *values: LuaValue) -> None:
        _remember(ctx, function, values)
        if not ctx.env.validating:
            call(ctx, *values)

    return configure


def _remember(ctx: LuaContext, function: Function, values: Iterable[LuaValue]) -> None:
    """What a policy's `pre_init` and `init` asked for."""
    if ctx.event in ("pre_init", "init"):
        given = [to_builtins(one) if isinstance(one, msgspec.Struct) else one for one in values]
        ctx.env.configured.append(Configured(function.label, given))


def _answer(ctx: LuaContext, function: Function) -> Callable[[LuaValue], Answer]:
    """What makes an answer of an implementation's result."""
    result = function.result
    if result is None:
        return lambda value: _NOTHING
    to_lua = result.to_lua
    if isinstance(result, Values):
        return lambda value: (True, *to_lua(ctx, value))
    return lambda value: (True, None if value is None else to_lua(ctx, value))


class _Arguments:
    """Turns Lua values into the arguments after the context."""

    __slots__ = ("_ctx", "_label", "_names", "readers", "rest")

    def __init__(self, ctx: LuaContext, function: Function) -> None:
        self._ctx = ctx
        self._label = function.label
        params = function.params
        self.rest = None
        if params and params[-1].rest:
            self.rest = params[-1].type.from_lua
            params = params[:-1]
        self._names = [param.name for param in params]
        self.readers = [
            _optional(param.type.from_lua) if param.optional else param.type.from_lua for param in params
        ]
        if function.this is not None:
            self._names.insert(0, "self")
            self.readers.insert(0, function.this.this)

    def read(self, raw: Answer) -> list[LuaValue]:
        """Raises OptionError, naming the argument that is wrong."""
        values = []
        for n, (name, read) in enumerate(zip(self._names, self.readers, strict=True)):
            try:
                values.append(read(self._ctx, raw[n] if n < len(raw) else None, self._label))
            except OptionError:
                raise
            except ValueError as err:
                text = f"argument '{name}' {err}" if name != "self" else str(err)
                raise OptionError(f"{self._label}: {text}") from None
        if self.rest is not None:
            first = len(self.readers)
            for n, one in enumerate(raw[first:], first + 1 - ("self" in self._names)):
                try:
                    values.append(self.rest(self._ctx, one, self._label))
                except OptionError:
                    raise
                except ValueError as err:
                    raise OptionError(f"{self._label}: argument {n} {err}") from None
        return values

    def failure(self, err: Exception, raw: Answer) -> Answer:
        """The answer for what went wrong with these arguments or in the implementation."""
        if isinstance(err, ValueError) and not isinstance(err, OptionError):
            try:
                self.read(raw)
            except OptionError as wrong:
                err = wrong
        text = problem(err)
        if not text.startswith(self._label):
            text = f"{self._label}: {text}"
        return False, text.encode("utf-8", "replace")


def _optional(read: Callable[..., LuaValue]) -> Callable[..., LuaValue]:
    return lambda ctx, raw, what: None if raw is None else read(ctx, raw, what)


def problem(err: Exception) -> str:
    """An exception for the policy's author; what is not meant for them is said to be our bug."""
    match err:
        case ValueError() | SpoolError() | NotLoaded() | PolicyError() | Rejection():
            return str(err)
        case KeyError():
            return f"there is no {err.args[0] if err.args else 'such thing'}"
        case OSError() if err.strerror:
            return err.strerror if err.filename is None else f"{err.filename}: {err.strerror}"
        case OSError():
            return str(err)
        case RecursionError():
            return "the value is nested too deep"
    return f"internal error, please report it: {type(err).__name__}: {err}"
