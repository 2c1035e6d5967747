"""Reads log segments: whole, still being written, or torn by a crash.

A segment is a zstd stream of lines; whatever can be decompressed up to its end or its tear is given out, in
whole lines only. Of a live segment, a reader that is asked again goes on where it stopped.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import orjson
import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 128 * 1024


class SegmentReader:
    """One segment, open until `close` or the end of the `with` block."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises OSError."""
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        self._stream = _decompressor()
        self._partial = b""
        self.is_torn = False
        """Whether something was met that is no zstd: what was written before it has been read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    @property
    def is_complete(self) -> bool:
        """Whether nothing will be appended any more: the file has lost its write permission."""
        return not os.fstat(self._file.fileno()).st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)

    def lines(self) -> Iterator[bytes]:
        """The lines that came since the last call, without LF. Raises OSError."""
        while not self.is_torn and (chunk := self._file.read(_CHUNK)):
            try:
                text = self._stream.decompress(chunk)
            except zstandard.ZstdError:
                self.is_torn = True
                text = self._until_tear(chunk)
            *lines, self._partial = (self._partial + text).split(b"\n")
            yield from lines

    def _until_tear(self, chunk: bytes) -> bytes:
        """What the chunk that was read last holds before its fault: a failing call gives out nothing."""
        left = self._file.tell() - len(chunk)
        self._file.seek(0)
        stream = _decompressor()
        while left > 0:
            before = self._file.read(min(left, _CHUNK))
            stream.decompress(before)
            left -= len(before)
        text = bytearray()
        with suppress(zstandard.ZstdError):
            for byte in chunk:
                text += stream.decompress(bytes((byte,)))
        return bytes(text)


def _decompressor() -> zstandard.ZstdDecompressionObj:
    return zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)


def segments(directory: str | os.PathLike[str]) -> list[str]:
    """Paths of a directory's segments, oldest first. Raises OSError."""
    with os.scandir(directory) as entries:
        return sorted(entry.path for entry in entries if not entry.name.startswith(".") and entry.is_file())


def records(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The records of a segment, or of all segments of a directory; lines that are no JSON are left out.

    Raises OSError.
    """
    for segment in segments(path) if os.path.isdir(path) else [os.fspath(path)]:
        with SegmentReader(segment) as reader:
            for line in reader.lines():
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue  # a segment header, or a line of a template
                if isinstance(record, dict):
                    yield record
