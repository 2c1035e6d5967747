"""UUIDs of RFC 9562: made from time or chance, and read in any of their notations."""

from __future__ import annotations

import re
import uuid

# 100 ns ticks from the start of the Gregorian calendar, 1582-10-15, to 1970-01-01.
_GREGORIAN = 0x01B2_1DD2_1381_4000
_VARIANT = 0x2 << 62
_RANDOM_BITS = 74
_HYPHENATED = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_NOTATIONS = re.compile(
    rf"[0-9a-fA-F]{{32}}|{_HYPHENATED}|\{{{_HYPHENATED}\}}|\{{[0-9a-fA-F]{{32}}\}}|urn:uuid:{_HYPHENATED}"
)


def parse_uuid(text: str) -> uuid.UUID:
    """Plain, hyphenated, in braces or as a URN. Raises ValueError."""
    if not _NOTATIONS.fullmatch(text):
        raise ValueError(
            f"'{text[:60]}' is not a UUID: write one such as 69994630-3e27-11ef-91fc-cc28aa0a5c5a, with or without "
            "hyphens, in braces, or after urn:uuid:"
        )
    return uuid.UUID(text)


class UuidSource:
    """Makes UUIDs whose times strictly increase, whatever the clock does."""

    __slots__ = ("_last_ticks", "_last_v7", "_tail")

    def __init__(self, node: bytes, clock_seq: int) -> None:
        """`node` is 6 bytes, such as a MAC address; `clock_seq` is 14 bits, best random."""
        self._tail = _VARIANT | (clock_seq & 0x3FFF) << 48 | int.from_bytes(node)
        self._last_ticks = 0
        self._last_v7 = 0

    def v1(self, now_ns: int) -> uuid.UUID:
        """From time and node; time in Unix nanoseconds."""
        ticks = self._ticks(now_ns)
        low, middle, high = ticks & 0xFFFF_FFFF, ticks >> 32 & 0xFFFF, ticks >> 48
        return uuid.UUID(int=low << 96 | middle << 80 | 0x1000 << 64 | high << 64 | self._tail)

    def v6(self, now_ns: int) -> uuid.UUID:
        """As version 1, in an order that sorts by time."""
        ticks = self._ticks(now_ns)
        return uuid.UUID(int=ticks >> 12 << 80 | 0x6000 << 64 | (ticks & 0xFFF) << 64 | self._tail)

    def v7(self, now_ns: int, random: bytes) -> uuid.UUID:
        """From time and 10 random bytes; within a millisecond the random part grows by a random step."""
        chance = int.from_bytes(random)
        fresh = now_ns // 1_000_000 << _RANDOM_BITS | chance >> 7  # the highest bit stays free
        if fresh >> _RANDOM_BITS <= self._last_v7 >> _RANDOM_BITS:
            fresh = self._last_v7 + 1 + (chance & 0xFFFF_FFFF)
        self._last_v7 = fresh
        low = fresh & (1 << 62) - 1
        return uuid.UUID(int=fresh >> 74 << 80 | 0x7000 << 64 | (fresh >> 62 & 0xFFF) << 64 | _VARIANT | low)

    def _ticks(self, now_ns: int) -> int:
        self._last_ticks = max(now_ns // 100 + _GREGORIAN, self._last_ticks + 1) & (1 << 60) - 1
        return self._last_ticks
