"""What a policy can name: every Lua function, method, object and event, declared once.

From a declaration come the binding into Lua, the checks of arguments and results, the error messages with
"did you mean", and later the editor stubs and the reference. A description is the docstring of the function
that implements it. `since` is the KumoMTA release that brought it, "-" where KumoMTA does not say, or
"kumo-py" for what is ours.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kumo_py.policy.types import LuaType

Implementation = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Param:
    """An argument, by position. An optional one may be nil or absent."""

    name: str
    type: LuaType
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a module, or a method of an object.

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

    @property
    def is_method(self) -> bool:
        return not self.owner.startswith("kumo")

    @property
    def label(self) -> str:
        """How error messages call it."""
        return f"{self.owner}{':' if self.is_method else '.'}{self.name}"


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


@dataclass(slots=True)
class Owner:
    """A module ("kumo", "kumo.dns") or a kind of object ("message") and what belongs to it."""

    name: str
    functions: list[Function] = field(default_factory=list)
    constants: dict[str, str | int] = field(default_factory=dict)

    def function(
        self,
        name: str,
        *params: Param,
        result: LuaType | None = None,
        since: str = "-",
        needs_content: bool = False,
        only_in_events: bool = False,
    ) -> Callable[[Implementation], Implementation]:
        """Declare the decorated function; a coroutine function becomes one that the policy waits for."""

        def declare(call: Implementation) -> Implementation:
            self.functions.append(
                Function(
                    self.name,
                    name,
                    params,
                    result,
                    inspect.getdoc(call) or "",
                    since,
                    call,
                    inspect.iscoroutinefunction(call),
                    needs_content,
                    only_in_events,
                )
            )
            return call

        return declare

    def lua_function(self, name: str, *params: Param, doc: str, since: str = "-") -> None:
        """Declare a function that the prelude implements."""
        self.functions.append(Function(self.name, name, params, None, doc, since, None))

    def names(self) -> list[str]:
        return [function.name for function in self.functions] + list(self.constants)


class Registry:
    """All declarations of one node."""

    def __init__(self, modules: Iterable[Owner], objects: Iterable[Owner], events: Iterable[Event]) -> None:
        self.modules = {module.name: module for module in modules}
        self.objects = {kind.name: kind for kind in objects}
        self.events = {event.name: event for event in events}
        self._found: dict[tuple[str, str], Function | str | int] = {}
        for owner in (*self.modules.values(), *self.objects.values()):
            for function in owner.functions:
                self._found[owner.name, function.name] = function
            for name, constant in owner.constants.items():
                self._found[owner.name, name] = constant

    def find(self, owner: str, name: str) -> Function | str | int | None:
        """A function or constant of a module, a method of an object; None if there is none."""
        return self._found.get((owner, name))

    def members(self, owner: str) -> list[str]:
        """The names that exist in a module or an object, sub-modules included."""
        found = self.modules.get(owner) or self.objects[owner]
        prefix = f"{owner}."
        below = [name.removeprefix(prefix) for name in self.modules if name.startswith(prefix)]
        return found.names() + [name for name in below if "." not in name]
