"""What a node has left in its spool, looked at as its next start would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kumo_py.spool import SpoolConfig, open_spool

if TYPE_CHECKING:
    from pathlib import Path


def spooled(directory: Path) -> set[bytes]:
    """Ids of the whole messages. Raises AssertionError if anything in the spool is damaged."""

    async def look() -> set[bytes]:
        ids = []
        for name in ("data", "meta"):
            spool = await open_spool(SpoolConfig(name=name, path=str(directory / name)))
            try:
                found = set(spool.ids())
                for id in found:
                    await spool.load(id)
                ids.append(found)
            finally:
                await spool.aclose()
        return ids[0] & ids[1]

    return trio.run(look)
