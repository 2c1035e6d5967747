"""Spool ids: 16 bytes that name a message on this node, laid out as UUID version 1.

The layout (RFC 9562 §5.1) is KumoMTA's, so that ids in logs and file names look the
same, and an id tells when its message came in. A node's ids are unique as long as
no two sources share both node and clock sequence.
"""

from __future__ import annotations

import re
import struct

# 100 ns ticks from the start of the Gregorian calendar, 1582-10-15, to 1970-01-01.
_GREGORIAN = 0x01B2_1DD2_1381_4000
_TIME = struct.Struct(">IHH")
_VERSION = 0x1000
_VARIANT = 0x8000
_HEX = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


TIMED = 16
"""A message whose id has a lower number than this at LOWEST, which is one in 16, is timed on its way.

Reading the clock at each step of every message would cost more than all other metrics together.
"""
LOWEST = 3
"""Where an id has the lowest bits of its time: any of 256 numbers, each as often as the others."""


class SpoolIdSource:
    """Makes ids whose times strictly increase, whatever the clock does."""

    __slots__ = ("_last", "_tail")

    def __init__(self, node: bytes, clock_seq: int) -> None:
        """`node` is 6 bytes, such as a MAC address; `clock_seq` is 14 bits, best random.

        Raises ValueError.
        """
        if len(node) != 6 or not 0 <= clock_seq < 1 << 14:
            raise ValueError(
                f"a spool id needs 6 bytes of node and 14 bits of clock sequence, got {node!r}, {clock_seq}"
            )
        self._tail = struct.pack(">H", _VARIANT | clock_seq) + node
        self._last = 0

    def next(self, now_ns: int) -> bytes:
        """Return a new id for a message that comes in now, Unix time in nanoseconds.

        If the clock stands still or steps back, ids go on from the last one in steps
        of 100 ns.
        """
        time = now_ns // 100 + _GREGORIAN
        if time <= self._last:
            time = self._last + 1
        self._last = time
        return _TIME.pack(time & 0xFFFF_FFFF, time >> 32 & 0xFFFF, time >> 48 | _VERSION) + self._tail


def created(spool_id: bytes) -> float:
    """Return when the id was made, in Unix seconds. Raises ValueError if it is no version 1 UUID."""
    if len(spool_id) != 16 or spool_id[6] >> 4 != 1:
        raise ValueError(f"'{spool_id.hex()}' is not a spool id: it holds no time (UUID version 1)")
    low, middle, high = _TIME.unpack_from(spool_id)
    time: int = (high ^ _VERSION) << 48 | middle << 32 | low
    return (time - _GREGORIAN) / 1e7


def parse_hex(text: str) -> bytes:
    """Return the id written as 32 hex digits, or as a UUID with hyphens. Raises ValueError."""
    if not _HEX.fullmatch(text):
        raise ValueError(f"'{text}' is not a spool id: write 32 hexadecimal digits")
    return bytes.fromhex(text.replace("-", ""))
