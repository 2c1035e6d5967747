"""Segments: names, rotation, permissions, flushing, and what a failing disk does to them."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio
from structlog.testing import capture_logs

from kumo_py.logs.reader import SegmentReader, segments
from kumo_py.logs.segment import FLUSH_INTERVAL, RETRY_INTERVAL, SegmentWriter, complete_segments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio.testing import MockClock

EPOCH = 1757675281.5


def wall_clock() -> float:
    return EPOCH + trio.current_time()


def writer(
    directory: Path,
    *,
    suffix: str = "",
    level: int = 0,
    max_size: int = 1_000_000,
    max_duration: float | None = None,
    clock: Callable[[], float] = wall_clock,
    wake: Callable[[], None] = lambda: None,
) -> SegmentWriter:
    return SegmentWriter(
        str(directory),
        suffix,
        compression_level=level,
        max_size=max_size,
        max_duration=max_duration,
        clock=clock,
        wake=wake,
    )


def lines(path: str) -> list[bytes]:
    with SegmentReader(path) as reader:
        return list(reader.lines())


def all_lines(directory: Path) -> list[bytes]:
    return [line for path in segments(directory) for line in lines(path)]


def size(path: str) -> int:
    return os.stat(path).st_size


def is_complete(path: str) -> bool:
    return not os.stat(path).st_mode & 0o222


class FaultyDisk:
    """Stands for os.write: takes `room` bytes, then fails until more room is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int = 0, error: int = errno.ENOSPC) -> None:
        self.room = room
        self.error = error
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        if not self.room:
            raise OSError(self.error, os.strerror(self.error))
        written = self._write(fd, data[: self.room])
        self.room -= written
        return written


async def test_segment_is_named_after_its_time_and_completed_read_only(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    log = writer(tmp_path, suffix="_recv")
    assert os.listdir(tmp_path) == []
    log.append(b"one\n")
    assert os.listdir(tmp_path) == []
    log.tend()
    (path,) = segments(tmp_path)
    assert os.path.basename(path) == "20250912-110801.500000_recv"
    assert os.stat(path).st_mode & stat.S_IWUSR
    assert not is_complete(path)
    log.append(b"two\n")
    log.finish()
    assert is_complete(path)
    assert lines(path) == [b"one", b"two"]


async def test_line_is_readable_after_the_flush_interval(tmp_path: Path, autojump_clock: MockClock) -> None:
    woken: list[float] = []
    log = writer(tmp_path, wake=lambda: woken.append(log.due))
    log.append(b"one\n")
    log.append(b"two\n")
    assert woken == [trio.current_time() + FLUSH_INTERVAL]
    await trio.sleep_until(log.due)
    log.tend()
    (path,) = segments(tmp_path)
    with SegmentReader(path) as reader:
        assert list(reader.lines()) == [b"one", b"two"]
        assert log.due == float("inf")
        log.append(b"three\n")
        assert len(woken) == 2
        log.tend()
        assert list(reader.lines()) == [b"three"]
        assert not reader.is_complete
        log.finish()
        assert list(reader.lines()) == []
        assert reader.is_complete


async def test_batches_are_written_without_waiting(tmp_path: Path, autojump_clock: MockClock) -> None:
    log = writer(tmp_path)
    for _ in range(400):
        log.append(os.urandom(500).hex().encode() + b"\n")
    assert log.waiting < 100
    (path,) = segments(tmp_path)
    assert size(path) > 100_000
    log.finish()
    assert len(lines(path)) == 400


async def test_rotation_by_size_counts_uncompressed_bytes(tmp_path: Path, autojump_clock: MockClock) -> None:
    log = writer(tmp_path, max_size=30)
    for n in range(7):
        log.append(b"line %d....\n" % n)  # 12 bytes: the third passes 30
    paths = segments(tmp_path)
    assert [len(lines(path)) for path in paths] == [3, 3]
    assert all(is_complete(path) for path in paths)
    log.finish()
    paths = segments(tmp_path)
    assert [len(lines(path)) for path in paths] == [3, 3, 1]
    assert all_lines(tmp_path) == [b"line %d...." % n for n in range(7)]


async def test_segments_opened_in_the_same_microsecond_have_their_own_names(tmp_path: Path) -> None:
    log = writer(tmp_path, max_size=1, clock=lambda: EPOCH)
    for n in range(3):
        log.append(b"%d\n" % n)
    assert sorted(os.listdir(tmp_path)) == [f"20250912-110801.50000{n}" for n in range(3)]
    assert all_lines(tmp_path) == [b"0", b"1", b"2"]


async def test_rotation_by_time_needs_no_further_line(tmp_path: Path, autojump_clock: MockClock) -> None:
    log = writer(tmp_path, max_duration=60.0)
    log.append(b"one\n")
    await trio.sleep_until(log.due)
    log.tend()
    opened = trio.current_time()
    assert log.due == opened + 60.0
    await trio.sleep(59.5)
    log.append(b"two\n")
    assert log.due == opened + 60.0
    await trio.sleep_until(log.due)
    log.tend()
    (path,) = segments(tmp_path)
    assert is_complete(path)
    assert lines(path) == [b"one", b"two"]
    assert log.due == float("inf")
    log.append(b"three\n")
    log.finish()
    assert [len(lines(path)) for path in segments(tmp_path)] == [2, 1]


async def test_segment_header_begins_each_segment(tmp_path: Path, autojump_clock: MockClock) -> None:
    log = writer(tmp_path, max_size=4)
    log.append(b"one\n", "id,sender\n")
    log.append(b"two\n", "id,sender\n")
    assert [lines(path) for path in segments(tmp_path)] == [[b"id,sender", b"one"], [b"id,sender", b"two"]]


@pytest.mark.parametrize("level", [0, 1, 3, 19])
async def test_compression_levels(tmp_path: Path, level: int) -> None:
    log = writer(tmp_path, level=level)
    log.append(b"one\n" * 1000)
    log.finish()
    assert len(all_lines(tmp_path)) == 1000


async def test_level_zero_is_zstd_default(tmp_path: Path) -> None:
    text = b"".join(b"%d %d\n" % (n, n * n * 7919 % 10007) for n in range(20000))
    sizes = {}
    for level in (0, 1, 3):
        directory = tmp_path / str(level)
        log = writer(directory, level=level)
        log.append(text)
        log.finish()
        (path,) = segments(directory)
        sizes[level] = size(path)
    assert sizes[0] == sizes[3] != sizes[1]


async def test_directory_that_vanished_is_made_again(tmp_path: Path) -> None:
    log = writer(tmp_path / "a" / "b", suffix="/sub")
    log.append(b"one\n")
    log.finish()
    (name,) = os.listdir(tmp_path / "a" / "b")
    assert lines(str(tmp_path / "a" / "b" / name / "sub")) == [b"one"]


@pytest.mark.parametrize("room", [0, 1, 17, 100])
async def test_full_disk_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, room: int
) -> None:
    disk = FaultyDisk(monkeypatch, room)
    log = writer(tmp_path, max_size=5000)
    written = [os.urandom(200).hex().encode() for _ in range(100)]
    with capture_logs() as diagnostics:
        for line in written[:60]:
            log.append(line + b"\n")
        assert log.failing
        waiting = log.waiting
        assert waiting > 40
        for _ in range(3):
            assert trio.current_time() < log.due <= trio.current_time() + RETRY_INTERVAL
            await trio.sleep_until(log.due)
            log.tend()
        assert log.waiting == waiting
        disk.room = 10**9
        await trio.sleep_until(log.due)
        log.tend()
        assert log.waiting == 0
        for line in written[60:]:
            log.append(line + b"\n")
        log.finish()
    assert [entry["log_level"] for entry in diagnostics] == ["error", "info"]
    assert "No space left" in diagnostics[0]["error"]
    assert all_lines(tmp_path) == written
    assert all(is_complete(path) for path in segments(tmp_path))
    assert {len(lines(path)) for path in segments(tmp_path)[:-1]} == {13}  # 401 bytes each, 5000 wanted


async def test_large_backlog_is_written_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    disk = FaultyDisk(monkeypatch)
    log = writer(tmp_path, max_size=10**9)
    line = b"x" * 9999 + b"\n"
    for _ in range(300):
        log.append(line)
    disk.room = 10**9
    steps = 0
    while log.waiting:
        await trio.sleep_until(log.due)
        before = log.waiting
        log.tend()
        assert before - log.waiting <= 120
        steps += 1
    assert steps == 3
    log.finish()
    assert len(all_lines(tmp_path)) == 300


async def test_segment_that_cannot_be_opened_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    (tmp_path / "logs").write_text("a file is in the way")
    log = writer(tmp_path / "logs", max_duration=5.0)
    with capture_logs() as diagnostics:
        log.append(b"one\n")
        await trio.sleep_until(log.due)
        log.tend()
        assert log.failing
        os.unlink(tmp_path / "logs")
        await trio.sleep_until(log.due)
        log.tend()
    assert len(diagnostics) == 2
    assert all_lines(tmp_path / "logs") == [b"one"]
    log.finish()


async def test_expiry_of_a_segment_on_a_failing_disk_waits_for_the_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    log = writer(tmp_path, max_duration=5.0)
    log.append(b"one\n")
    log.tend()
    disk = FaultyDisk(monkeypatch, error=errno.EIO)
    await trio.sleep_until(log.due)
    with capture_logs():
        log.tend()
        assert log.due == trio.current_time() + RETRY_INTERVAL
        log.append(b"two\n")
        await trio.sleep_until(log.due)
        disk.room = 10**6
        log.tend()
    paths = segments(tmp_path)
    assert [lines(path) for path in paths] == [[b"one"], [b"two"]]
    assert is_complete(paths[0])
    log.finish()


async def test_what_is_lost_at_the_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = writer(tmp_path)
    log.append(b"one\n")
    log.tend()
    FaultyDisk(monkeypatch)
    log.append(b"two\n")
    with capture_logs() as diagnostics:
        log.finish()
    assert [entry["event"][:31] for entry in diagnostics] == ["delivery log records are lost: "]
    assert all_lines(tmp_path) == [b"one"]


# -- what earlier processes left ---------------------------------------------------------------------------


def test_start_completes_old_segments_only(tmp_path: Path) -> None:
    for name in ("20250912-110801.5", ".checkpoint"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "directory").mkdir()
    target = tmp_path.parent / "elsewhere"
    target.write_bytes(b"")
    (tmp_path / "link").symlink_to(target)
    complete_segments(str(tmp_path))
    writable = {name for name in os.listdir(tmp_path) if os.stat(tmp_path / name).st_mode & 0o222}
    assert writable == {".checkpoint", "directory", "link"}
    complete_segments(str(tmp_path / "absent"))


async def test_start_leaves_a_segment_alone_that_is_being_written(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.append(b"one\n")
    log.tend()
    (path,) = segments(tmp_path)
    complete_segments(str(tmp_path))
    assert not is_complete(path)
    log.finish()
    assert is_complete(path)


def test_start_tells_what_it_cannot_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "20250912-110801.5").write_bytes(b"")

    def refuse(fd: int, mode: int) -> None:
        raise PermissionError(errno.EPERM, "not yours")

    monkeypatch.setattr(os, "fchmod", refuse)
    with capture_logs() as diagnostics:
        complete_segments(str(tmp_path))
    assert diagnostics[0]["path"].endswith("110801.5")


WRITE_THEN_DIE = """
import os, sys, trio
from kumo_py.logs.segment import SegmentWriter
async def main():
    log = SegmentWriter(sys.argv[1], "", compression_level=0, max_size=10**9, max_duration=None,
                        clock=lambda: 1757675281.5, wake=lambda: None)
    for n in range(3000):
        log.append(b"%d %s\\n" % (n, os.urandom(40).hex().encode()))
        if n == 1999:
            log.tend()
    os.kill(os.getpid(), 9)
trio.run(main)
"""


def test_killed_process_leaves_a_segment_that_reads_up_to_the_last_flush(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", WRITE_THEN_DIE, str(tmp_path)], check=False, timeout=30)
    assert died.returncode == -9
    (path,) = segments(tmp_path)
    assert not is_complete(path)
    numbers = [int(line.split()[0]) for line in lines(path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 2000
    complete_segments(str(tmp_path))
    assert is_complete(path)


async def test_lock_is_free_once_a_segment_is_complete(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.append(b"one\n")
    log.finish()
    fd = os.open(segments(tmp_path)[0], os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
