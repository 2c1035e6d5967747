"""The `kumo.domain_map` module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kumo_py.core.domain_map import DomainMap
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import SHARED, TEXT, TableOf

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

domain_map = Owner("kumo.domain_map")
map_ = Kind("domain_map", DomainMap)

_NAME = Param("name", TEXT)


@domain_map.function("new", Param("entries", TableOf(SHARED), optional=True), result=map_.type)
def new(ctx: LuaContext, entries: dict[str, Any] | None) -> DomainMap[Any]:
    """A map from domain names to values; *.example.com stands for every name below example.com. Index it with a
    name to look that up, assign to add or replace.
    """
    return DomainMap(entries or {})


@map_.meta("index", _NAME, result=SHARED)
def index(ctx: LuaContext, entries: DomainMap[Any], name: str) -> Any:  # noqa: ANN401
    """The value for a name, or nil."""
    return entries.get(name)


@map_.meta("newindex", _NAME, Param("value", SHARED))
def newindex(ctx: LuaContext, entries: DomainMap[Any], name: str, value: object) -> None:
    """Add or replace the value of a name or a wildcard."""
    entries[name] = value
