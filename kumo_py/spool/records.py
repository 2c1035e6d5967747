"""The segment log's format on disk.

    segment  = file header, records
    header   = title (16 bytes), marker (8), CRC-32 of both (4)
    record   = marker (8), length of data (4), CRC-32 of data (4), kind (1), id (16), CRC-32 of the 33 bytes
               before (4), data
    kind 1   = a message part; the data is the caller's
    kind 2   = removals; the id is zero, the data a row of: id (16), oldest (4), segment (4), offset (4).
               It means: what the segments up to `segment`, there up to `offset`, hold of the id is void;
               no segment older than `oldest` holds any of it.

All numbers are little-endian. The header's own CRC makes the length trustworthy, so that a flipped bit in
the data costs one record only; when the header itself is damaged, the search for the next marker finds the
record that follows. The marker is random, so nobody can send a mail that contains a forged record for that
search to find.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

STORE = 1
REMOVALS = 2

_FIELDS = Struct("<8sIIB16s")
pack_fields = _FIELDS.pack
_CHECKED = _FIELDS.size
RECORD = _CHECKED + 4
"""Bytes of a record besides its data."""

_ROW = Struct("<16sIII")
REMOVAL = _ROW.size
"""Bytes of one removal."""
_NUMBER = (1 << 32) - 1
_NO_ID = bytes(16)

Removal = tuple[bytes, int, int]
"""Id, oldest segment, and where the newest copy is that is void: segment << 32 | offset."""

_TITLE = b"kumo-py spool 1\n"
HEADER = len(_TITLE) + 12
"""Bytes before a segment's first record."""


def file_header(marker: bytes) -> bytes:
    head = _TITLE + marker
    return head + crc32(head).to_bytes(4, "little")


def removals_record(marker: bytes, removals: Sequence[Removal]) -> bytes:
    """A record that voids what the removals name."""
    pack = _ROW.pack
    rows = b"".join([pack(id, oldest, newest >> 32, newest & _NUMBER) for id, oldest, newest in removals])
    fields = pack_fields(marker, len(rows), crc32(rows), REMOVALS, _NO_ID)
    return b"".join((fields, crc32(fields).to_bytes(4, "little"), rows))


def unpack_removals(data: memoryview) -> list[Removal]:
    """The removals in the data of a record of kind 2. Raises struct.error if it is of no whole number of rows."""
    return [(id, oldest, number << 32 | offset) for id, oldest, number, offset in _ROW.iter_unpack(data)]


def check_record(raw: bytes, id: bytes) -> bytes | None:
    """The data of a whole message record of `id`, or None if a byte of it is wrong."""
    _, length, data_crc, kind, found = _FIELDS.unpack_from(raw)
    data = raw[RECORD:]
    if (
        crc32(raw[:_CHECKED]).to_bytes(4, "little") == raw[_CHECKED:RECORD]
        and (kind, found, length) == (STORE, id, len(data))
        and crc32(data) == data_crc
    ):
        return data
    return None


class Scan:
    """One pass over the records between two offsets of a segment, damaged ones left out.

    `read(size, offset)` returns that many bytes of the segment, fewer at its end only, and may raise.
    With `verify` false the data of messages is not checked, nor read where it can be jumped over. `window` is
    how many bytes are read at once.
    """

    def __init__(
        self, read: Callable[[int, int], bytes], size: int, *, verify: bool, window: int = 4 << 20
    ) -> None:
        self._read = read
        self._window = window
        self._size = size
        self._verify = verify
        self._buffer = b""
        self._base = 0  # the offset of the buffer's first byte
        self.marker = b""
        self.end = 0
        """Where the last good record ends; when the pass is over, what follows is no record."""
        self.damaged: list[tuple[int, int]] = []
        """Offset and size of what was left out between good records."""
        self.lost: list[bytes] = []
        """Ids of the messages in it, as far as they can be told."""

    def open(self) -> bool:
        """Read the file header. False if neither it nor a first record shows the marker."""
        if self._size < HEADER:
            return False
        self._fill(0, HEADER + RECORD)
        head = self._buffer[:HEADER]
        self.end = HEADER
        if crc32(head[:-4]).to_bytes(4, "little") == head[-4:] and head.startswith(_TITLE):
            self.marker = head[len(_TITLE) : -4]
            return True
        self.marker = self._buffer[HEADER : HEADER + 8]
        if self._header_at(HEADER) is None:
            return False
        self.damaged.append((0, HEADER))
        return True

    def records(self, start: int, marker: bytes) -> Iterator[tuple[int, bytes, int, int, memoryview]]:
        """Yield kind, id, offset, length and data of each good record; unverified data may be cut short."""
        self.marker = marker
        self.end = position = start
        verify = self._verify
        while position + RECORD <= self._size:
            header = self._header_at(position)
            if header is None:
                position = self._next_marker(position + 1)
                continue
            length, data_crc, kind, id = header
            stop = position + RECORD + length
            if stop > self._size:
                position = self._next_marker(position + 1)
                continue
            checked = verify or kind == REMOVALS
            if checked and stop > self._base + len(self._buffer):
                self._fill(position, max(stop - position, self._window))
            first = position + RECORD - self._base
            data = memoryview(self._buffer)[first : first + length]
            if checked and crc32(data) != data_crc:
                if kind == STORE:
                    self.lost.append(id)
                position = stop
                continue
            if position != self.end:
                self.damaged.append((self.end, position - self.end))
            self.end = stop
            yield kind, id, position, length, data
            position = stop

    def _fill(self, offset: int, size: int) -> None:
        wanted = min(size, self._size - offset)
        self._buffer = self._read(wanted, offset)
        self._base = offset
        if len(self._buffer) < wanted:
            self._size = offset + len(self._buffer)

    def _header_at(self, position: int) -> tuple[int, int, int, bytes] | None:
        """Length, CRC of data, kind and id; None if there is no good header."""
        at = position - self._base
        if at < 0 or at + RECORD > len(self._buffer):
            self._fill(position, self._window)
            at = 0
        fields = self._buffer[at : at + _CHECKED]
        if crc32(fields).to_bytes(4, "little") != self._buffer[at + _CHECKED : at + RECORD]:
            return None
        marker, length, data_crc, kind, id = _FIELDS.unpack(fields)
        return (length, data_crc, kind, id) if marker == self.marker else None

    def _next_marker(self, position: int) -> int:
        """The next offset at which a record may start; the size if there is none."""
        while position + RECORD <= self._size:
            at = self._buffer.find(self.marker, position - self._base)
            if at >= 0:
                return self._base + at
            position = max(position, self._base + len(self._buffer) - len(self.marker) + 1)
            if position + RECORD <= self._size:
                self._fill(position, self._window)
        return self._size
