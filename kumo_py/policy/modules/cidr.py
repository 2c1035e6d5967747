"""The `kumo.cidr` module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kumo_py.core.cidr import CidrMap, split_host_port
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import SHARED, TEXT, TableOf

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

cidr = Owner("kumo.cidr")
map_ = Kind("cidr_map", CidrMap)


@cidr.function("make_map", Param("entries", TableOf(SHARED), optional=True), result=map_.type)
def make_map(ctx: LuaContext, entries: dict[str, Any] | None) -> CidrMap[Any]:
    """A map from networks and addresses to values. Index it with an address, which may have a port, to get the value
    of the longest prefix; assign to add or replace.
    """
    return CidrMap((_network(network), value) for network, value in (entries or {}).items())


@map_.meta("index", Param("address", TEXT), result=SHARED)
def index(ctx: LuaContext, networks: CidrMap[Any], address: str) -> Any:  # noqa: ANN401
    """The value of the longest prefix that holds the address, or nil; nil too for what is no address."""
    return networks.get(address.partition("/")[0])


@map_.meta("newindex", Param("network", TEXT), Param("value", SHARED))
def newindex(ctx: LuaContext, networks: CidrMap[Any], network: str, value: object) -> None:
    """Add or replace the value of a network or an address."""
    networks[_network(network)] = value


def _network(text: str) -> str:
    """A network; of an address with port or brackets the address alone."""
    if "/" in text:
        return text
    return split_host_port(text)[0]
