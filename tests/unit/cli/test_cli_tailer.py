"""kumo-py tailer: prints the records of a directory, goes on with new ones, and begins where it ended."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import zstandard
from click.testing import CliRunner

from kumo_py.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.time_limit(30)


def write(path: Path, *numbers: int) -> None:
    """A complete segment."""
    lines = b"".join(b'{"type":"Delivery","n":%d}\n' % n for n in numbers)
    path.write_bytes(zstandard.compress(lines))
    path.chmod(0o444)


@contextmanager
def tailer(directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "kumo_py",
        "tailer",
        str(directory),
        "--batch-latency",
        "100ms",
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def numbers(process: subprocess.Popen[str], count: int) -> list[int]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline())["n"] for _ in range(count)]


def test_it_remembers_what_it_has_printed(tmp_path: Path) -> None:
    write(tmp_path / "20251224-180000.1", 1, 2)
    write(tmp_path / "other", 100)
    with tailer(tmp_path, "--pattern", "2025*") as process:
        assert numbers(process, 2) == [1, 2]
        write(tmp_path / "20251224-180001.1", 3)
        assert numbers(process, 1) == [3]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""
    saved = json.loads((tmp_path / ".tailer-checkpoint").read_bytes())
    assert saved["file"].endswith("20251224-180000.1") or saved["file"].endswith("20251224-180001.1")
    write(tmp_path / "20251224-180002.1", 4)
    with tailer(tmp_path, "--pattern", "2025*") as process:
        printed = numbers(process, 1)
        while printed[-1] != 4:
            printed += numbers(process, 1)
    assert printed in ([4], [3, 4])  # 3, if it was ended before it could note that


def test_tail_begins_with_the_newest_segment_and_notes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "20251224-180000.1", 1)
    write(tmp_path / "20251224-180001.1", 2, 3)
    with tailer(tmp_path, "--tail") as process:
        assert numbers(process, 2) == [2, 3]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoint", "../x"], "--checkpoint must be the name of a file, got '../x'"),
        (["--pattern", "{a"], "--pattern:"),
        (["--batch-latency", "soon"], "'soon' is not a duration"),
        (["--batch-size", "0"], "0 is not in the range"),
    ],
)
def test_wrong_options_are_explained(tmp_path: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["tailer", str(tmp_path), *options])
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_directory_that_is_not_there_is_named() -> None:
    result = CliRunner().invoke(main, ["tailer", "/nowhere/logs"])
    assert result.exit_code == 2
    assert "/nowhere/logs" in result.stderr


def test_a_checkpoint_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / ".mine").write_text("nonsense")
    result = CliRunner().invoke(main, ["tailer", str(tmp_path), "--checkpoint", "mine"])
    assert result.exit_code == 1
    assert f"{tmp_path}/.mine is no checkpoint" in result.stderr
