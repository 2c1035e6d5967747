"""Named templates, compiled once, in the dialects that KumoMTA has: Jinja (minijinja), Handlebars, Static.

A name that ends like a file of HTML or JSON has what is filled in escaped so. Templates may come from strangers:
they reach nothing but their context, cannot include each other, and do a bounded amount of work.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal, Protocol

import minijinja
import orjson

from kumo_py.core.handlebars import Handlebars, HandlebarsError
from kumo_py.core.normalize_response import normalize_smtp_response
from kumo_py.core.template_dates import NAMED, formatted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Dialect = Literal["Jinja", "Static", "Handlebars"]
DIALECTS: tuple[Dialect, ...] = ("Jinja", "Static", "Handlebars")

MAX_FUEL = 2_000_000
"""Instructions of one Jinja rendering: 40 ms of bare loops, 130 of loops that write (measured)."""
MAX_OUTPUT = 64 * 1024 * 1024
"""Characters that one rendering fills in; also what text in a loop may come to, about."""
CAPACITY = 1024
"""Templates that are kept compiled."""
_MAX_DEPTH = 100
"""Levels of a list or table that are shown."""

_LOOP = re.compile(r"\{%[-+]?\s*(?:for|macro|call)\b")
_TAG_END = re.compile(r"[%}#]\}")
_JSON = (".json", ".json5", ".js", ".yaml", ".yml")
"""Names for which minijinja writes values as JSON."""


class TemplateError(ValueError):
    """A template is wrong, or cannot be filled in. The text names it and the line."""

    def __init__(self, name: str, line: int, problem: str) -> None:
        where = f"template '{name}' line {line}" if line else f"template '{name}'"
        super().__init__(f"{where}: {problem}")
        self.name = name
        self.line = line
        """From 1; 0 if no line is to blame."""


class Template(Protocol):
    """A compiled template."""

    def render(self, context: object) -> str:
        """context: plain data, most often a dict. Raises TemplateError."""
        ...


class Templates:
    """Compiles templates and keeps them. One thread only. wall: Unix seconds, for `now()`."""

    __slots__ = ("_compiled", "_wall")

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._compiled: OrderedDict[tuple[str, str, str], Template] = OrderedDict()

    def compile(self, name: str, source: str, dialect: Dialect = "Jinja") -> Template:
        """The template of that name and source. Raises TemplateError."""
        key = (dialect, name, source)
        found = self._compiled.get(key)
        if found is None:
            match dialect:
                case "Jinja":
                    found = _Jinja(name, source, self._wall)
                case "Handlebars":
                    found = _Handlebars(name, source)
                case _:
                    found = _Static(source)
            self._compiled[key] = found
            if len(self._compiled) > CAPACITY:
                self._compiled.popitem(last=False)
        else:
            self._compiled.move_to_end(key)
        return found

    def render(self, name: str, source: str, context: object, dialect: Dialect = "Jinja") -> str:
        """Fill a template in. Raises TemplateError."""
        return self.compile(name, source, dialect).render(context)


class _Static:
    __slots__ = ("_source",)

    def __init__(self, source: str) -> None:
        self._source = source

    def render(self, context: object) -> str:
        return self._source


class _Handlebars:
    __slots__ = ("_name", "_template")

    def __init__(self, name: str, source: str) -> None:
        self._name = name
        try:
            self._template = Handlebars(source, escape=name.endswith(".html"))
        except HandlebarsError as err:
            raise TemplateError(name, err.line, str(err)) from None

    def render(self, context: object) -> str:
        try:
            return self._template.render(context)
        except HandlebarsError as err:
            raise TemplateError(self._name, err.line, str(err)) from None


class _Jinja:
    """An environment of its own costs 7 µs (measured) and keeps templates from including each other."""

    __slots__ = ("_environment", "_is_json", "_name", "_room")

    def __init__(self, name: str, source: str, wall: Callable[[], float]) -> None:
        self._name = name
        self._is_json = name.removesuffix(".j2").endswith(_JSON)
        self._room = 0
        self._environment = minijinja.Environment(
            debug=False,
            fuel=_fuel(source),
            finalizer=self._finalized,
            filters=_FILTERS,
            globals={"now": wall},
        )
        self._environment.remove_filter("format")  # a width of 10^9 is one instruction
        try:
            self._environment.add_template(name, source)
        except Exception as err:
            raise self._error(err) from None

    def render(self, context: object) -> str:
        values: dict[str, Any] = context if isinstance(context, dict) else {}
        if "self" in values:
            values = {key: value for key, value in values.items() if key != "self"}
        self._room = MAX_OUTPUT
        try:
            return self._environment.render_template(self._name, **values)
        except Exception as err:
            raise self._error(err) from None

    def _finalized(self, value: object) -> object:
        """Everything that is filled in comes by here; what is undefined is None."""
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            if self._is_json:
                return value
            value = "" if value is None else _shown(value)
        if isinstance(value, str):
            self._room -= len(value)
            if self._room < 0:
                raise ValueError(f"more than {MAX_OUTPUT} characters are filled in")
        return value

    def _error(self, err: Exception) -> TemplateError:
        if isinstance(err, minijinja.TemplateError):
            line: int = getattr(err, "line", None) or 0
            problem = err.message.removesuffix(f" (in {self._name}:{line})")
            return TemplateError(self._name, line, problem)
        return TemplateError(self._name, 0, str(err) or type(err).__name__)


def _shown(value: object, depth: int = 0) -> str:
    """A value as minijinja's Rust side shows it, not Python's."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case str():
            return orjson.dumps(value).decode() if depth else value
        case dict() if depth < _MAX_DEPTH:
            return f"{{{', '.join(f'{_shown(k, 1)}: {_shown(v, depth + 1)}' for k, v in value.items())}}}"
        case list() | tuple() if depth < _MAX_DEPTH:
            return f"[{', '.join(_shown(item, depth + 1) for item in value)}]"
        case dict() | list() | tuple():
            return "…"
    return str(value)


def _fuel(source: str) -> int:
    """Fewer instructions where a loop could repeat a long text."""
    first = _LOOP.search(source)
    if first is None:
        return MAX_FUEL
    last = max(source.rfind("{%"), first.end())
    longest = max(map(len, _TAG_END.split(source[first.end() : last])))
    return min(MAX_FUEL, 8 * MAX_OUTPUT // max(longest, 1))


class _State(Protocol):
    """What a filter may ask of the rendering."""

    def lookup(self, name: str, /) -> object: ...


def _date_filter(name: str) -> Callable[..., str]:
    default = name.removesuffix("format").upper() + "_FORMAT"

    @minijinja.pass_state
    def apply(state: _State, value: object, format: str | None = None, tz: str | None = None) -> str:
        wanted = format or state.lookup(default) or "medium"
        zone = tz or state.lookup("TIMEZONE")
        return formatted(name, value, str(wanted), None if zone is None else str(zone))

    return apply


_FILTERS: Mapping[str, Callable[..., object]] = {
    "normalize_smtp_response": lambda value: normalize_smtp_response(str(value)),
    "wordcount": lambda value: len(str(value).split()),
    **{name: _date_filter(name) for name in NAMED},
}
