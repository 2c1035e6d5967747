"""A Lua context: one Lua runtime with the policy loaded, used by one event at a time.

The context owns its runtime. Functions bound into Lua hold the context, which no garbage collector sees
through Lua, so `close` must be called when it is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from math import inf
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeVar, cast

import trio
from lupa import lua54

from kumo_py.core.duration import format_duration
from kumo_py.core.options import OptionError, to_builtins
from kumo_py.core.policy import Disconnect, PolicyError, Rejection
from kumo_py.message.message import Message
from kumo_py.policy.binding import bind, bind_async, problem
from kumo_py.policy.conversion import Held, LuaTable, LuaValue, shown, to_lua
from kumo_py.policy.hints import hint
from kumo_py.policy.registry import Event, Function
from kumo_py.policy.source import PolicySource, our_module, prelude
from kumo_py.policy.types import CONNECTION, MESSAGE, RAW, TEXT, VALUE, LuaType, Values
from kumo_py.proto.address import split_address

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

    from kumo_py.message.connection import ConnectionMeta
    from kumo_py.policy.configured import Configured
    from kumo_py.policy.host import Host
    from kumo_py.policy.registry import Registry
    from kumo_py.policy.runtime import LuaPolicy

_S = TypeVar("_S")

_DONE, _WAIT, _REJECTED = range(3)
_STOPPED = 4
_TOO_LATE = (False, b"this took longer than the populate_timeout of the memoized function")
_MODES = {
    b"If421": Disconnect.NO,
    b"ForceDisconnect": Disconnect.FORCE_DISCONNECT,
    b"FollowWith421": Disconnect.FOLLOW_WITH_421,
}
_PACKAGE_ROOTS = ("/opt/kumomta/share", "/opt/kumomta/etc/policy")
_PATH_PREFIX = "".join(f"{root}/?.lua;{root}/?/init.lua;" for root in _PACKAGE_ROOTS)
_OF_THE_RUNTIME = (
    "_array",
    "_call_method",
    "_continue",
    "_entry",
    "_handled",
    "_handler_place",
    "_registered_at",
    "_restore",
    "_start",
    "collect",
    "durable",
    "inspect",
    "lua",
    "new_address",
    "new_address_header",
    "new_config",
    "new_connection",
    "new_message",
    "new_object",
    "new_time_delta",
)

HELD_MAX = 4 << 20
"""Bytes that Python objects in Lua's hands may hold before Lua is told to let go of what it no longer needs."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one context may use.

    `memory` is looked at by the guard. Lua's allocator has a limit too, but an error from there must not come
    while Python puts a value into Lua: it would leave Python's frames by longjmp, with the GIL held. So that one
    is far above what a single value can need.
    """

    cpu_seconds: float = 5.0
    """CPU time of a handler between two waits."""
    memory: int = 256 * 1024 * 1024
    """Bytes of Lua's heap."""

    @property
    def memory_hard(self) -> int:
        return 8 * self.memory


@dataclass(slots=True)
class PoolLimits:
    """How long contexts are kept; the policy may change it."""

    max_age: float = 300.0
    """Seconds."""
    max_uses: int = 1024
    max_spare: int = 8192
    """Idle contexts."""
    gc_on_put: int = 0
    """Per cent of events after which Lua collects all its garbage."""


@dataclass(slots=True)
class ContextCounts:
    """Contexts of a node: made since it started, those that live, and of these the idle ones."""

    made: int = 0
    alive: int = 0
    idle: int = 0


@dataclass(frozen=True, slots=True)
class Environment:
    """What all contexts of a node share."""

    registry: Registry
    host: Host
    policy: LuaPolicy
    limits: Limits
    pool_limits: PoolLimits
    validating: bool
    configured: list[Configured] = field(default_factory=list)
    """What `pre_init` and `init` asked of the node."""
    contexts: ContextCounts = field(default_factory=ContextCounts)
    _states: dict[type, object] = field(default_factory=dict)

    def state(self, kind: type[_S]) -> _S:
        """The node's one object of a class that is made without arguments: named queues, caches."""
        found = self._states.get(kind)
        if found is None:
            found = self._states[kind] = kind()
        return cast("_S", found)


class _Plan(NamedTuple):
    """How an event is run in this context."""

    entry: Callable[..., LuaValue] | None
    """None when this context has no handler."""
    types: tuple[LuaType, ...] | None
    """Of the arguments; None when they are Python objects that the entry wraps."""
    event: Event


class LuaContext:
    """One runtime. Create it, await `load`, then `begin` events."""

    __slots__ = (
        *_OF_THE_RUNTIME,
        "_held",
        "_last_number",
        "_plans",
        "created",
        "deadline",
        "env",
        "event",
        "events",
        "objects",
        "on_rest",
        "source",
        "usable",
        "uses",
    )

    def __init__(self, env: Environment, source: PolicySource, created: float) -> None:
        self.env = env
        self.source = source
        self.created = created
        self.uses = 0
        self.usable = True
        env.contexts.made += 1
        env.contexts.alive += 1
        self.event: str | None = None
        """What runs now; None while the policy file loads."""
        self.events: frozenset[str] = frozenset()
        """What the policy handles."""
        self._plans: dict[str, _Plan] = {}
        self.objects: dict[int, Message | ConnectionMeta] = {}
        """What the event that runs is about, by the numbers that Lua holds in their stead: Lua frees what it no
        longer needs hundreds of events later, and knows nothing of a message's size."""
        self._last_number = 0
        self._held = 0
        self.deadline = inf
        """On trio's clock: when what the policy waits for fails, whatever it is."""
        self.on_rest: list[Callable[[], None]] = []
        """What is to be done when the event is over, however it ended."""
        lua = self.lua = lua54.LuaRuntime(
            encoding=None,
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            attribute_filter=_no_attributes,
            max_memory=env.limits.memory_hard,
        )
        multiple = {name.encode(): True for name, event in env.registry.events.items() if event.multiple}
        driver = lua.compile(prelude("driver.lua"))(
            lua.table_from(
                {
                    b"path_prefix": _PATH_PREFIX.encode(),
                    b"cpu_seconds": env.limits.cpu_seconds,
                    b"memory_kib": env.limits.memory // 1024,
                    b"multiple": lua.table_from(multiple),
                    b"known_module": self._known_module,
                    b"add_module": self._add_module,
                    b"our_module": our_module,
                }
            ),
        )
        callbacks = {
            b"find": self._find,
            b"kind": self._kind,
            b"setter": self._setter,
            b"lua_code": _lua_code,
            b"split_address": _split_address,
            b"human": _human,
            b"config_values": self._config_values,
            b"diagnostic": self._diagnostic,
            b"lacks_content": self._lacks_content,
            b"load_message": self._load_message,
        }
        top = [name.encode() for name in env.registry.modules if "." not in name]
        export = lua.compile(prelude("objects.lua"))(lua.table_from(callbacks), driver, lua.table_from(top))
        self._start, self._continue = driver[b"start"], driver[b"continue"]
        self._entry, self._handler_place = driver[b"entry"], driver[b"handler_place"]
        self._handled, self._call_method = driver[b"events"], driver[b"call_method"]
        self._registered_at = driver[b"registered_at"]
        self._array, self.inspect = export[b"array"], export[b"inspect"]
        self.durable: Callable[[LuaValue], LuaValue] = lua.eval(b"function(value) return value end")
        """The same Lua object, which may outlive the coroutine that it came from."""
        self.new_message, self.new_connection = export[b"message"], export[b"connection"]
        self.new_address, self.new_address_header = export[b"address"], export[b"address_header"]
        self.new_config, self.new_time_delta = export[b"config"], export[b"time_delta"]
        self.new_object = export[b"object"]
        self._restore, self.collect = export[b"restore"], export[b"collect"]
        if env.validating:
            lua.globals()[b"_VALIDATING_CONFIG"] = True

    # -- life ------------------------------------------------------------------------------------------
    async def load(self) -> None:
        """Run the policy file. Raises PolicyError."""
        try:
            outcome = self._start(self.lua.compile(self.source.code))
            if outcome is not None:
                await self.finish("loading the policy", outcome)
        except Rejection as err:
            raise PolicyError(f"loading the policy: kumo.reject at the top level: {err}") from None
        handled = self._handled()
        names = handled if type(handled) is tuple else () if handled is None else (handled,)
        self.events = frozenset(name.decode("utf-8", "replace") for name in names)

    def registered_at(self, event: str) -> str:
        """Where the policy called kumo.on for an event that is in `events`: "file:line"."""
        return str(self._registered_at(event.encode()).decode("utf-8", "replace"))

    def rest(self) -> None:
        """The event is over: let go of all that belonged to it."""
        self.objects.clear()
        self.uses += 1
        if self.on_rest:
            self.deadline = inf
            for act in self.on_rest:
                act()
            self.on_rest.clear()

    def close(self) -> None:
        """Free the runtime; the context must not be used any more."""
        if self.lua is not None:
            self.env.contexts.alive -= 1
        self.usable = False
        self._plans.clear()
        for name in _OF_THE_RUNTIME:
            setattr(self, name, None)

    # -- events ----------------------------------------------------------------------------------------
    def begin(self, event: str, args: tuple[LuaValue, ...]) -> LuaValue:
        """Start an event that is in `events`. None if its handlers are done and returned no value.

        Anything else is to be given to `finish`.
        """
        plan = self._plans.get(event)
        if plan is None:
            plan = self._plans[event] = self._plan(event)
        if plan.entry is None:
            return None
        self.event = event
        if plan.types is None:
            args = tuple(map(self.number, args))
        else:
            args = tuple(
                None if arg is None else to_lua(self, arg) if one is None else one.to_lua(self, arg)
                for arg, one in zip_longest(args, plan.types[: len(args)])
            )
        try:
            return plan.entry(*args)
        except lua54.LuaError as err:
            self._broken(event, err)

    async def construct(self, event: str, args: tuple[LuaValue, ...]) -> LuaValue:
        """Run an event that is in `events`; the object that it made, for `call_method`. Raises as `finish`.

        The context is that object's from now on.
        """
        self._plans[event] = self._plan(event)._replace(event=Event(event, (), RAW, "", "-"))
        outcome = self.begin(event, args)
        made = None if outcome is None else await self.finish(event, outcome)
        if type(made) is not LuaTable:
            raise PolicyError(
                f"{event}: the handler at {self._place()} must return a table with methods, got {shown(made)}"
            )
        return made

    async def call_method(
        self, label: str, made: LuaValue, method: str, args: tuple[LuaValue, ...], *, optional: bool
    ) -> str:
        """Run a method of what `construct` made; the text that it returned. Raises as `finish`."""
        self.event = label
        result: LuaType = VALUE if optional else TEXT
        self._plans[label] = _Plan(None, None, Event(label, (), result, "", "-", not_nil=not optional))
        passed = [to_lua(self, arg) for arg in args]
        try:
            outcome = self._call_method(label.encode(), made, method.encode(), optional, *passed)
        except lua54.LuaError as err:
            self._broken(label, err)
        text = None if outcome is None else await self.finish(label, outcome)
        if text is None and not optional:
            raise PolicyError(f"{label}: the method at {self._place()} must return a string, got nothing")
        return text if isinstance(text, str) else ""

    async def finish(self, event: str, outcome: LuaValue) -> LuaValue:
        """See a handler that waits, failed or returned values through to its end.

        Raises Rejection or PolicyError. `usable` is False after whatever leaves the runtime in doubt.
        """
        while outcome is not None:
            code = outcome[0]
            if code == _WAIT:
                outcome = await self._wait(event, outcome)
            elif code == _DONE:
                return self._result(event, outcome[1:])
            elif code == _REJECTED:
                raise Rejection(outcome[1], outcome[2].decode("utf-8", "replace"), _MODES[outcome[3]])
            else:
                self.usable = code != _STOPPED
                raise PolicyError(f"{event}: {outcome[1].decode('utf-8', 'replace')}")
        return None

    async def _wait(self, event: str, outcome: LuaValue) -> LuaValue:
        try:
            if self.deadline == inf:
                answer = await outcome[1](*outcome[2:])
            else:
                answer = _TOO_LATE
                with trio.move_on_at(self.deadline):
                    answer = await outcome[1](*outcome[2:])
        except BaseException:
            self.usable = False  # cancelled: the coroutine and what it holds are dropped with the context
            raise
        try:
            return self._continue(*answer)
        except lua54.LuaError as err:
            self._broken(event, err)

    def _broken(self, event: str, err: Exception) -> NoReturn:
        self.usable = False
        raise PolicyError(f"{event}: Lua failed outside of the policy: {err}") from None

    def nothing(self, event: str) -> None:
        """The event's handlers returned no value. Raises PolicyError if they had to."""
        declared = self._plans[event].event
        if declared.required and declared.result is not None:
            raise PolicyError(
                f"{event}: the handler at {self._place()} must return {declared.result.name}, got nothing"
            )

    def _plan(self, event: str) -> _Plan:
        name = event.encode()
        declared = self.env.registry.events.get(event) or Event(event, (), VALUE, "", "-")
        types = tuple(param.type for param in declared.params)
        if types in ((MESSAGE,), (CONNECTION,), (MESSAGE, CONNECTION)):
            wrappers = (self.new_message if one is MESSAGE else self.new_connection for one in types)
            return _Plan(self._entry(name, *wrappers), None, declared)
        return _Plan(self._entry(name), types, declared)

    def _result(self, event: str, values: tuple[LuaValue, ...]) -> LuaValue:
        plan = self._plans.get(event)
        if plan is None or plan.event.result is None:  # the policy file has no use for a result either
            return None
        wanted = plan.event.result
        try:
            if isinstance(wanted, Values):
                return wanted.from_lua(self, values, event)
            if values[0] is None and not plan.event.not_nil:
                return None
            return wanted.from_lua(self, values[0], event)
        except OptionError as err:
            raise PolicyError(f"the handler at {self._place()}: {err}") from None
        except ValueError as err:
            raise PolicyError(f"{event}: the result of the handler at {self._place()} {err}") from None

    def _place(self) -> str:
        return str(self._handler_place().decode("utf-8", "replace"))

    # -- what Lua values are made of -------------------------------------------------------------------
    # Lua's tables are not indexed here: while a coroutine runs, lupa answers with what is on its stack.
    def number(self, value: Message | ConnectionMeta) -> int:
        """What stands for an object in Lua until the event is over."""
        number = self._last_number = self._last_number + 1
        self.objects[number] = value
        return number

    def object(self, number: int) -> Message | ConnectionMeta:
        """Raises ValueError after the event."""
        if number in self.objects:
            return self.objects[number]
        raise ValueError("the event that it was given to is over")

    def restored(self, held: Held) -> LuaValue:
        """The Lua object of what `shared` took out of a context."""
        return self._restore(*held)

    def holds(self, size: int) -> None:
        """An object that was just made for Lua keeps that many bytes, which Lua's collector knows nothing of."""
        self._held += size
        if self._held > HELD_MAX:
            self._held = 0
            self.collect()

    def new_table(self, items: dict[LuaValue, LuaValue]) -> LuaValue:
        return self.lua.table_from(items)

    def new_list(self, items: list[LuaValue]) -> LuaValue:
        return self._array(self.lua.table_from(items))

    async def read_file(self, path: str) -> bytes:
        """A file's content; at the top level of the policy, as the epoch's first context saw it. Raises OSError."""
        if self.event is not None:
            return await trio.Path(path).read_bytes()
        return await trio.to_thread.run_sync(self.source.data, path)

    # -- called from Lua -------------------------------------------------------------------------------
    def _find(self, owner: bytes, name: bytes) -> tuple[LuaValue, ...]:
        """What a policy means by a name: (kind, value), or (False, message)."""
        registry = self.env.registry
        where, wanted = owner.decode(), name.decode("utf-8", "replace")
        path = f"{where}.{wanted}"
        if path in registry.modules:
            return b"module", path.encode()
        declared = registry.find(where, wanted)
        if isinstance(declared, Function):
            if declared.call is None:
                return b"lua", None
            if declared.is_async:
                kind = b"async" if declared.this is None else b"async_method"
                return kind, bind_async(self, declared)
            if declared.this is None:
                return b"sync", bind(self, declared)
            if declared.role == "field":
                return b"field", bind(self, declared)
            return b"content_method" if declared.needs_content else b"method", bind(self, declared)
        if declared is not None:
            return b"constant", to_lua(self, declared)
        of_kind = registry.kinds.get(where)
        message = f"{path} does not exist"
        if of_kind is not None:
            has_fields = any(one.role == "field" for one in of_kind.functions)
            message = f"a {where} has no method {'or field ' if has_fields else ''}'{wanted}'"
        return False, f"{message}{hint(registry, where, wanted)}".encode()

    def _known_module(self, name: bytes) -> tuple[LuaValue, ...] | None:
        module = self.source.modules.get(name.decode("utf-8", "replace"))
        return None if module is None else (module.path.encode(), module.code)

    def _add_module(self, name: bytes, path: bytes) -> tuple[LuaValue, ...]:
        """(code,), or (False, message)."""
        try:
            return (self.source.module(name.decode(), path.decode()).code,)
        except (PolicyError, UnicodeDecodeError) as err:
            return False, str(err).encode()

    def _kind(self, name: bytes) -> tuple[LuaValue, ...]:
        """The metamethods of a kind: those that wait, those that don't; and its members if it has an index."""
        kind = self.env.registry.kinds[name.decode()]
        metamethods = [one for one in kind.functions if one.role == "meta"]
        waiting = {one.name.encode(): bind_async(self, one) for one in metamethods if one.is_async}
        others = {one.name.encode(): bind(self, one) for one in metamethods if not one.is_async}
        members = {one.encode(): True for one in kind.names()} if b"index" in others else None
        table = self.lua.table_from
        return table(waiting), table(others), None if members is None else table(members)

    def _setter(self, kind: bytes, name: bytes) -> tuple[LuaValue, ...]:
        """What assigns to a field: (True, function), or (False, message)."""
        where, wanted = kind.decode(), name.decode("utf-8", "replace")
        setter = self.env.registry.setter(where, wanted)
        if setter is None:
            has = self.env.registry.find(where, wanted) is not None
            return False, f"{wanted} of a {where} cannot be {'set' if has else 'added'}".encode()
        return True, bind(self, setter)

    def _config_values(self, config: msgspec.Struct) -> LuaValue:
        return to_lua(self, to_builtins(config))

    def _diagnostic(self, level: bytes, text: bytes) -> None:
        self.env.host.diagnostic(level.decode(), text.decode("utf-8", "backslashreplace"))

    def _lacks_content(self, number: LuaValue) -> bool:
        msg = self.objects.get(number)
        return isinstance(msg, Message) and not msg.data_loaded

    async def _load_message(self, number: int) -> tuple[LuaValue, ...]:
        msg = self.objects[number]
        assert isinstance(msg, Message)
        try:
            await self.env.host.load_message(msg)
        except Exception as err:
            return False, f"message {msg.id.hex()}: {problem(err)}".encode()
        return (True,)


def _lua_code(owner: bytes) -> bytes:
    return prelude(f"{owner.decode()}.lua")


def _split_address(email: bytes) -> tuple[LuaValue, ...]:
    user, domain = split_address(email.decode("utf-8", "replace"))
    return True, user.encode(), domain.encode()


def _human(nanoseconds: int) -> bytes:
    sign = "-" if nanoseconds < 0 else ""
    return f"{sign}{format_duration(abs(nanoseconds) / 1e9)}".encode()


def _no_attributes(obj: object, name: object, is_setting: bool) -> str:
    raise AttributeError("Python objects have nothing for Lua")
