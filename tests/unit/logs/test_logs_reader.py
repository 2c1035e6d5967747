"""Reading segments that are whole, live or torn."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import zstandard

from kumo_py.logs.reader import SegmentReader, records, segments

if TYPE_CHECKING:
    from pathlib import Path

LINES = [b'{"n":%d,"x":"%s"}' % (n, os.urandom(16).hex().encode()) for n in range(5000)]


def stream(lines: list[bytes], flush_every: int = 1000) -> bytes:
    compressor = zstandard.ZstdCompressor().compressobj()
    out = b""
    for start in range(0, len(lines), flush_every):
        out += compressor.compress(b"".join(line + b"\n" for line in lines[start : start + flush_every]))
        out += compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return out + compressor.flush()


def read(path: Path) -> list[bytes]:
    with SegmentReader(path) as reader:
        return list(reader.lines())


def test_whole_segment_and_appended_frames(tmp_path: Path) -> None:
    path = tmp_path / "1"
    path.write_bytes(stream(LINES[:3000]) + stream(LINES[3000:]))
    assert read(path) == LINES


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.9, 0.9999])
def test_segment_cut_anywhere_reads_up_to_the_tear(tmp_path: Path, share: float) -> None:
    whole = stream(LINES)
    path = tmp_path / "1"
    path.write_bytes(whole[: int(len(whole) * share)])
    got = read(path)
    assert got == LINES[: len(got)]
    assert len(got) >= int(share * 5) * 1000


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\xff" * 10, b'{"type":"not zstd"}\n'])
def test_garbage_after_the_tear_costs_no_line_before_it(tmp_path: Path, tail: bytes) -> None:
    flushed = zstandard.ZstdCompressor().compressobj()
    good = flushed.compress(b"\n".join(LINES) + b"\n") + flushed.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    path = tmp_path / "1"
    path.write_bytes(good + tail)
    with SegmentReader(path) as reader:
        assert list(reader.lines()) == LINES
        assert reader.is_torn == (tail[0] != 0)  # zeroes are empty zstd blocks
        assert list(reader.lines()) == []


def test_unfinished_last_line_is_given_out_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "1"
    compressor = zstandard.ZstdCompressor().compressobj()
    path.write_bytes(compressor.compress(b"one\ntw") + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    with SegmentReader(path) as reader:
        assert list(reader.lines()) == [b"one"]
        with open(path, "ab") as file:
            file.write(compressor.compress(b"o\n") + compressor.flush())
        assert list(reader.lines()) == [b"two"]


def test_records_of_a_directory_come_in_the_order_of_its_segments(tmp_path: Path) -> None:
    (tmp_path / "20250912-110802.5").write_bytes(
        stream([b'{"n":2}', b"a template's line", b"[1]", b'{"n":3}'])
    )
    (tmp_path / "20250912-110801.5").write_bytes(stream([b"id,sender", b'{"n":1}']))
    (tmp_path / ".position").write_bytes(b"{}")
    (tmp_path / "sub").mkdir()
    assert [os.path.basename(path)[:17] for path in segments(tmp_path)] == [
        "20250912-110801.5",
        "20250912-110802.5",
    ]
    assert [record["n"] for record in records(tmp_path)] == [1, 2, 3]
    assert [record["n"] for record in records(tmp_path / "20250912-110801.5")] == [1]
