"""The interface of a spool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Spool(Protocol):
    """What the rest of the node knows of a spool. Ids are 16 bytes. To be used from the trio thread."""

    name: str
    path: str
    notice: str | None
    """What the operator should know about how the spool was opened."""
    problems: list[str]
    """Damage found when opening and since; one text each, at most 1,000."""
    unhealthy: bool
    """Whether removals could not be written the last time: what is delivered now may be delivered again."""

    def store(self, id: bytes, data: bytes, *, sync: bool = False) -> int:
        """Queue a write that replaces an older record of the id. Returns a ticket; never blocks.

        With `sync` its batch is synced, even without `flush`.

        Raises SpoolError if the spool is closed.
        """
        ...

    async def wait_durable(self, ticket: int) -> None:
        """Wait until what the ticket was given for is written and, if `flush`, synced.

        Raises SpoolError if that failed: then nothing of it is kept, and an older record is still there.
        No checkpoint if it is done already.
        """
        ...

    def remove(self, id: bytes) -> None:
        """Forget the id, if it is known. Never blocks; written with the next batch, within milliseconds."""
        ...

    async def load(self, id: bytes) -> bytes:
        """Return the data. Raises KeyError if there is none, SpoolError if it cannot be read or is damaged."""
        ...

    async def compact(self) -> None:
        """Give back the space of what was removed; what is stored meanwhile does not wait for it.

        Raises SpoolError if that failed, or if this kind of spool has no such space.
        """
        ...

    def size_of(self, id: bytes) -> int | None:
        """Octets of an id's data, as far as that is known without reading it; None if not, or if there is none."""
        ...

    def ids(self) -> Iterator[bytes]:
        """The ids that are there now, less those removed before the iterator comes to them."""
        ...

    def __len__(self) -> int: ...

    async def aclose(self) -> None:
        """Write out and sync all that is pending, then stop. May be cancelled, and called again.

        Raises SpoolError if the last sync failed.
        """
        ...

    def free_space_low(self) -> bool:
        """Whether less is free than `min_free_space` or `min_free_inodes` ask for; looked up once a second."""
        ...
