"""`kumo.set_lruttl_cache_capacity`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.suggest import nearest
from kumo_py.policy.modules.dkim import SignerCaches
from kumo_py.policy.modules.fs import GlobCache
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.modules.memoize import BUILT_IN_CACHES, MemoCaches
from kumo_py.policy.registry import Param
from kumo_py.policy.types import INTEGER, TEXT

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

NOT_HERE = frozenset(
    (
        "dns_resolver_ipv4",
        "dns_resolver_ipv6",
    )
)
"""Caches of KumoMTA that have no counterpart."""


@kumo.function(
    "set_lruttl_cache_capacity",
    Param("name", TEXT),
    Param("capacity", INTEGER),
    since="2025.03.19-1d3f1f67",
)
def set_lruttl_cache_capacity(ctx: LuaContext, name: str, capacity: int) -> None:
    """How many entries one of the node's caches may have, or the cache of a memoized function."""
    env = ctx.env
    memoized = env.state(MemoCaches).by_name
    if name not in BUILT_IN_CACHES and name not in memoized:
        known = sorted({*BUILT_IN_CACHES, *memoized})
        near = nearest(name, known)
        hint = f"did you mean '{near}'?" if near else f"there are {', '.join(known)}"
        raise ValueError(f"there is no cache '{name}'; {hint}")
    if name in NOT_HERE:
        env.host.diagnostic("warn", f"kumo-py has no cache '{name}': its capacity has no effect")
    env.host.capacities.set(name, capacity)
    if name in memoized:
        memoized[name].resize(capacity)
    elif name == "dkim_signer_cache":
        env.state(SignerCaches).signers.capacity = capacity
    elif name == "dkim_key_cache":
        env.state(SignerCaches).keys.capacity = capacity
    elif name == "mod_filesystem_glob_cache":
        env.state(GlobCache).capacity = capacity
