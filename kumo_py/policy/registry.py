"""What a policy can name: every Lua function, kind of object and event, declared once.

From a declaration come the binding into Lua, the checks of arguments and results, the error messages with
"did you mean", the editor stubs and the reference. A description is the docstring of the function
that implements it. `since` is the KumoMTA release that brought it, "-" where KumoMTA does not say, or
"kumo-py" for what is ours.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from kumo_py.policy.types import PAIRS, VALUE, ObjectType

if TYPE_CHECKING:
    from kumo_py.policy.types import LuaType, ObjectLuaType

Implementation = Callable[..., Any]

Role = Literal["function", "field", "setter", "meta"]

METAMETHODS = frozenset(
    (
        "tostring",
        "len",
        "eq",
        "lt",
        "le",
        "add",
        "sub",
        "concat",
        "index",
        "newindex",
        "pairs",
        "call",
        "close",
    )
)
"""What a kind may define: Lua's metamethods without their underscores."""


@dataclass(frozen=True, slots=True)
class Param:
    """An argument, by position. An optional one may be nil or absent; `rest` takes all that follow."""

    name: str
    type: LuaType
    optional: bool = False
    rest: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a module; or a method, field, setter or metamethod of a kind of object.

    `call` gets the context first, then the converted arguments; it raises ValueError (OptionError is one),
    KeyError or OSError for what the policy's author is to read. Without `call` the prelude implements it.
    """

    owner: str
    name: str
    params: tuple[Param, ...]
    result: LuaType | None
    doc: str
    since: str
    call: Implementation | None
    is_async: bool = False
    needs_content: bool = False
    """A message's content is loaded first if it is in the spool only."""
    only_in_events: bool = False
    """Of functions that wait: refused at the top level of the policy, which runs again for every context."""
    configures: bool = False
    """Of functions that set the node up once: what `init` gives them is remembered, and compared on a reload; nothing
    is done while a policy is validated."""
    this: ObjectLuaType | None = None
    """Of what belongs to a kind: the type of its objects, which `call` gets after the context."""
    role: Role = "function"
    serves: str | None = None
    """Of what is not public: the label of the function that it is a part of."""

    @property
    def label(self) -> str:
        """How error messages call it."""
        if self.serves is not None:
            return self.serves
        is_method = self.this is not None and self.role == "function"
        return f"{self.owner}{':' if is_method else '.'}{self.name}"

    @property
    def is_public(self) -> bool:
        """Whether policies are meant to use it; the others serve what is written in Lua."""
        return not self.name.startswith("_")


@dataclass(frozen=True, slots=True)
class Event:
    """An event: what its handlers get and return."""

    name: str
    params: tuple[Param, ...]
    result: LuaType | None
    doc: str
    since: str
    multiple: bool = False
    """Several handlers may be registered; they are called in turn until one returns a value."""
    not_nil: bool = False
    """To return nil is an error; to return nothing is not."""
    required: bool = False
    """To return nothing is an error too."""


class Owner:
    """A module ("kumo", "kumo.dns", "sqlite") and what belongs to it."""

    this: ObjectLuaType | None = None

    def __init__(self, name: str, constants: dict[str, str | int] | None = None) -> None:
        self.name = name
        self.functions: list[Function] = []
        self.constants = constants or {}

    def function(
        self,
        name: str,
        *params: Param,
        result: LuaType | None = None,
        since: str = "-",
        needs_content: bool = False,
        only_in_events: bool = False,
        configures: bool = False,
        serves: str | None = None,
    ) -> Callable[[Implementation], Implementation]:
        """Declare the decorated function; a coroutine function becomes one that the policy waits for."""
        return self._declare(
            name,
            params,
            result,
            since,
            needs_content=needs_content,
            only_in_events=only_in_events,
            configures=configures,
            serves=serves,
        )

    def lua_function(
        self,
        name: str,
        *params: Param,
        doc: str,
        result: LuaType | None = None,
        since: str = "-",
        role: Role = "function",
    ) -> None:
        """Declare what is written in Lua: in objects.lua, or in a file of the owner's own."""
        declared = Function(self.name, name, params, result, doc, since, None, this=self.this, role=role)
        self.functions.append(declared)

    def _declare(
        self,
        name: str,
        params: tuple[Param, ...],
        result: LuaType | None,
        since: str,
        *,
        needs_content: bool = False,
        only_in_events: bool = False,
        configures: bool = False,
        role: Role = "function",
        serves: str | None = None,
    ) -> Callable[[Implementation], Implementation]:
        def declare(call: Implementation) -> Implementation:
            doc = inspect.getdoc(call) or ""
            waits = inspect.iscoroutinefunction(call)
            self.functions.append(
                Function(
                    self.name,
                    name,
                    params,
                    result,
                    doc,
                    since,
                    call,
                    waits,
                    needs_content,
                    only_in_events,
                    configures,
                    self.this,
                    role,
                    serves,
                )
            )
            return call

        return declare

    def names(self) -> list[str]:
        """What a policy may write after the dot or colon."""
        named = [one.name for one in self.functions if one.is_public and one.role in ("function", "field")]
        return named + list(self.constants)


class Kind(Owner):
    """A kind of object that policies hold as userdata, and its methods, fields and metamethods.

    An object is an instance of `classes`; it may be shared by all contexts, unless `type` says otherwise.
    """

    def __init__(self, name: str, *classes: type, type: ObjectLuaType | None = None) -> None:
        super().__init__(name)
        self.classes = classes
        self.type: ObjectLuaType = type or ObjectType(name, classes)
        self.this = self.type

    def field(self, name: str, type: LuaType, since: str = "-") -> Callable[[Implementation], Implementation]:
        """Declare the decorated getter as a property."""
        return self._declare(name, (), type, since, role="field")

    def setter(self, name: str) -> Callable[[Implementation], Implementation]:
        """Let policies assign to the field of that name, which is declared already."""
        read = next(one for one in self.functions if one.name == name and one.role == "field")
        assert read.result is not None
        param = Param("value", read.result, optional=True)
        return self._declare(name, (param,), None, read.since, role="setter")

    def meta(
        self, name: str, *params: Param, result: LuaType | None = None
    ) -> Callable[[Implementation], Implementation]:
        """Declare a metamethod (see METAMETHODS)."""
        assert name in METAMETHODS
        if name == "pairs":
            result = PAIRS
        elif name == "index":
            result = result or VALUE
        return self._declare(name, params, result, "-", role="meta")


class Registry:
    """All declarations of one node."""

    def __init__(self, modules: Iterable[Owner], kinds: Iterable[Kind], events: Iterable[Event]) -> None:
        self.modules = {module.name: module for module in modules}
        self.kinds = {kind.name: kind for kind in kinds}
        self.events = {event.name: event for event in events}
        self._found: dict[tuple[str, str], Function | str | int] = {}
        self._setters: dict[tuple[str, str], Function] = {}
        self._kind_of = {class_: kind for kind in self.kinds.values() for class_ in kind.classes}
        for owner in (*self.modules.values(), *self.kinds.values()):
            for function in owner.functions:
                if function.role in ("function", "field"):
                    self._found[owner.name, function.name] = function
                elif function.role == "setter":
                    self._setters[owner.name, function.name] = function
            for name, constant in owner.constants.items():
                self._found[owner.name, name] = constant

    def find(self, owner: str, name: str) -> Function | str | int | None:
        """A function or constant of a module, a method or field of a kind; None if there is none."""
        return self._found.get((owner, name))

    def setter(self, kind: str, name: str) -> Function | None:
        """What assigns to a field; None if policies may not."""
        return self._setters.get((kind, name))

    def kind_of(self, value: object) -> Kind | None:
        """The kind whose object this is."""
        return self._kind_of.get(type(value))

    def members(self, owner: str) -> list[str]:
        """The names that exist in a module or a kind, sub-modules included."""
        found = self.modules.get(owner) or self.kinds[owner]
        prefix = f"{owner}."
        below = [name.removeprefix(prefix) for name in self.modules if name.startswith(prefix)]
        return found.names() + [name for name in below if "." not in name]
