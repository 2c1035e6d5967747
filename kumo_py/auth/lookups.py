"""The DNS as the methods of this room see it: awaitable questions that the caller answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class TemporaryFailure(Exception):
    """No answer this time: a server failure, a timeout. The text says what was asked."""


class Lookups(Protocol):
    """Questions to the DNS. No records, no such name, a name that cannot be: an empty sequence.

    All raise TemporaryFailure. Names are given and returned without the final dot, addresses as text.
    """

    async def txt(self, name: str) -> Sequence[str]:
        """Each TXT record in one piece."""

    async def a(self, name: str) -> Sequence[str]: ...

    async def aaaa(self, name: str) -> Sequence[str]: ...

    async def mx(self, name: str) -> Sequence[str]:
        """The hosts, best first."""

    async def ptr(self, address: str) -> Sequence[str]: ...
