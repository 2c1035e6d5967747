"""The `kumo.dns` module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.options import OptionError, convert
from kumo_py.dns.config import ResolverConfig
from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import VALUE

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

dns = Owner("kumo.dns")

_SAME_HERE = ("Hickory", "Unbound")
"""KumoMTA's two DNS libraries: their options are one struct to us."""


@dns.function("configure_resolver", Param("params", VALUE), since="2023.08.22-4d895015")
def configure_resolver(ctx: LuaContext, params: object) -> None:
    """Choose the name servers; without this they come from /etc/resolv.conf."""
    what = "kumo.dns.configure_resolver"
    if params == "HickorySystemConfig":
        params = {}
    if isinstance(params, dict) and len(params) == 1:
        kind, inner = next(iter(params.items()))
        if kind in _SAME_HERE:
            params, what = inner, f"{what}: {kind}"
    if not isinstance(params, dict | list):
        raise OptionError(f"{what}: expected 'HickorySystemConfig' or a table of options")
    ctx.env.host.configure_resolver(convert(params or {}, ResolverConfig, what))
