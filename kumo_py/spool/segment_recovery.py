"""Rebuild the ledger of a segment log from its files.

Headers are all checked. The data of messages is checked too, in the newest segments up to 1 GiB, so that what
a crash has torn is found; a flipped bit in older ones is found when the message is loaded. What follows the last
good record of a segment is cut off. A damaged record costs itself only. Both are reported.

A segment named NUMBER.LENGTH.cut counts up to LENGTH only: what follows was reported as failed, and could not
be truncated (segment_writer).
"""

from __future__ import annotations

import os
import re
from itertools import accumulate
from typing import TYPE_CHECKING

from kumo_py.spool.ledger import Ledger, Segment
from kumo_py.spool.records import HEADER, STORE, Scan, unpack_removals

if TYPE_CHECKING:
    from kumo_py.spool.file_ops import FileOps

SEGMENT_NAME = re.compile(r"(\d{10})\.(?:seg|(\d+)\.cut)")
_VERIFIED = 1 << 30


def recover(ops: FileOps, directory: str, problems: list[str]) -> Ledger:
    """Return the ledger of a directory. Blocks; raises OSError if it or a segment cannot be opened."""
    ledger = Ledger()
    limits = []
    for name in sorted(ops.listdir(directory)):
        if match := SEGMENT_NAME.fullmatch(name):
            segment = Segment(int(match[1]), os.path.join(directory, name), b"")
            segment.listed = True
            ledger.segments[segment.number] = segment
            size = ops.file_size(segment.path)
            limits.append(min(size, int(match[2])) if match[2] else size)
    newer = list(accumulate(limits[:0:-1], initial=0))[::-1]
    for segment, limit, after in zip(ledger.segments.values(), limits, newer, strict=False):
        _recover_segment(ops, ledger, segment, limit, after < _VERIFIED, problems)
        ledger.seal(segment, float("-inf"))
    return ledger


def _recover_segment(
    ops: FileOps, ledger: Ledger, segment: Segment, size: int, verify: bool, problems: list[str]
) -> None:
    fd = ops.open(segment.path, os.O_RDWR)
    try:
        scan = Scan(lambda size, offset: ops.pread(fd, size, offset), size, verify=verify)
        try:
            if scan.open():
                _replay(ledger, segment, scan)
            elif size >= HEADER:
                segment.broken = segment.stuck = True
                problems.append(f"{segment.path}: no record can be recognised; the file is left as it is")
        except OSError as error:
            segment.broken = segment.stuck = True
            problems.append(f"{segment.path}: unreadable after offset {scan.end}: {error.strerror}")
        for offset, length in scan.damaged:
            problems.append(f"{segment.path}: skipped {length} damaged bytes at offset {offset}")
        problems += [f"{segment.path}: message {id.hex()} is damaged" for id in scan.lost]
        ledger.append(segment, size if segment.broken else scan.end)
        if scan.end < size and not segment.broken:
            problems.append(f"{segment.path}: cut {size - scan.end} bytes of unfinished records")
            _truncate(ops, fd, segment, scan.end, problems)
    finally:
        ops.close(fd)


def _replay(ledger: Ledger, segment: Segment, scan: Scan) -> None:
    segment.marker = scan.marker
    base = segment.number << 64
    place = ledger.place
    for kind, id, offset, length, data in scan.records(HEADER, scan.marker):
        if kind == STORE:
            place(id, base | offset << 32 | length)
            continue
        removals = unpack_removals(data)
        for removal in removals:
            ledger.void(removal)
        ledger.removed(segment, removals)


def _truncate(ops: FileOps, fd: int, segment: Segment, size: int, problems: list[str]) -> None:
    """A failure does no harm: nothing is appended to an old segment."""
    try:
        ops.ftruncate(fd, size)
    except OSError as error:
        problems.append(f"{segment.path}: cannot be cut: {error.strerror}")
