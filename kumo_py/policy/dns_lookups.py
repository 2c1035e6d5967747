"""A resolver, as the methods of the auth room ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.auth.lookups import TemporaryFailure
from kumo_py.dns import DnsError, MxRecord, NoSuchDomain

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kumo_py.dns import Resolver

_NOTHING: tuple[str, ...] = ()


class ResolverLookups:
    """`kumo_py.auth.lookups.Lookups` of a Resolver."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def txt(self, name: str) -> tuple[str, ...]:
        return await _found(self._resolver.lookup_txt(name))

    async def a(self, name: str) -> tuple[str, ...]:
        return await _found(self._resolver.lookup_a(name))

    async def aaaa(self, name: str) -> tuple[str, ...]:
        return await _found(self._resolver.lookup_aaaa(name))

    async def mx(self, name: str) -> tuple[str, ...]:
        return await _found(self._mx(name))

    async def ptr(self, address: str) -> tuple[str, ...]:
        return await _found(self._resolver.lookup_ptr(address))

    async def _mx(self, name: str) -> tuple[str, ...]:
        records = (await self._resolver.query(name, "MX")).records
        return tuple(record.host for record in sorted(r for r in records if isinstance(r, MxRecord)))


async def _found(question: Awaitable[tuple[str, ...]]) -> tuple[str, ...]:
    try:
        return await question
    except NoSuchDomain:
        return _NOTHING
    except DnsError as error:
        raise TemporaryFailure(str(error)) from None
