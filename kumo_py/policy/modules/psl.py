"""The public suffix list: `kumo.string.psl_domain` and `psl_suffix`, and organizational domains for DMARC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kumo_py.policy.modules.string import string
from kumo_py.policy.registry import Param
from kumo_py.policy.types import TEXT

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

    from kumo_py.policy.context import LuaContext

_SINCE = "2024.09.02-c5476b89"


class PublicSuffixes:
    """Mozilla's list, read when first needed, which takes some 30 ms. One for the node."""

    def __init__(self) -> None:
        self._loaded: PublicSuffixList | None = None

    async def load(self) -> None:
        """Read the list beside the trio thread."""
        if self._loaded is None:
            self._loaded = await trio.to_thread.run_sync(_load)

    def domain(self, name: str) -> str | None:
        """The registrable domain; None of a public suffix, and of what is no name."""
        return self._list.privatesuffix(_normal(name))

    def suffix(self, name: str) -> str | None:
        """The public suffix; a top-level domain that the list does not know is one."""
        return self._list.publicsuffix(_normal(name))

    @property
    def _list(self) -> PublicSuffixList:
        if self._loaded is None:
            self._loaded = _load()
        return self._loaded


def _load() -> PublicSuffixList:
    from publicsuffixlist import PublicSuffixList  # takes its time too, and few policies want it

    return PublicSuffixList()


def _normal(name: str) -> str:
    return name.removesuffix(".").lower()


@string.function("psl_domain", Param("domain", TEXT), result=TEXT, since=_SINCE)
def psl_domain(ctx: LuaContext, domain: str) -> str | None:
    """The part of a domain that somebody registered, by the public suffix list; nil if there is none."""
    return ctx.env.state(PublicSuffixes).domain(domain)


@string.function("psl_suffix", Param("domain", TEXT), result=TEXT, since=_SINCE)
def psl_suffix(ctx: LuaContext, domain: str) -> str | None:
    """The public suffix of a domain; nil of what is no domain."""
    return ctx.env.state(PublicSuffixes).suffix(domain)
