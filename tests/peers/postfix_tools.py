"""Postfix's load generator and its sink, as processes that end with their block."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COUNTERS = re.compile(rb"sess=(\d+) quit=(\d+) mesg=(\d+)")
_ENVELOPE = 5
"""Lines with the envelope at the top of a dump; a Received header of three lines follows."""


class SmtpSinkProgram:
    """A running smtp-sink."""

    def __init__(self, address: str, output: Path, dumps: Path) -> None:
        self.address = address
        self._output = output
        self._dumps = dumps

    @property
    def messages(self) -> int:
        """Its own count."""
        counters = _COUNTERS.findall(self._output.read_bytes()[-200:])
        return int(counters[-1][2]) if counters else 0

    def wait_for(self, count: int, stalled: float) -> None:
        """Until it has counted so many. Raises AssertionError when nothing comes for `stalled` seconds."""
        seen, since = -1, time.monotonic()
        while (now := self.messages) < count:
            if now != seen:
                seen, since = now, time.monotonic()
            assert time.monotonic() - since < stalled, f"{now} of {count} messages came"
            time.sleep(0.02)

    def dumped(self) -> dict[str, bytes]:
        """Contents by recipient, with CR LF; smtp-sink has written them without CR."""
        contents = {}
        for file in self._dumps.iterdir():
            lines = file.read_bytes().split(b"\n")
            recipient = lines[_ENVELOPE - 1].decode().partition("<")[2].rstrip(">")
            assert recipient not in contents, f"{recipient} came twice"
            content = lines[_ENVELOPE + 3 : -2]  # it ends each message with an empty line
            contents[recipient] = b"".join(line + b"\r\n" for line in content)
        return contents


@contextlib.contextmanager
def smtp_sink_program(path: str, directory: Path, *, dump: bool = False) -> Iterator[SmtpSinkProgram]:
    """Runs it on a free port. `directory` is for its output and, with `dump`, for what it receives."""
    address = f"127.0.0.1:{_free_port()}"
    dumps = directory / "dumps"
    dumps.mkdir()
    options = ["-c"]
    if dump:
        options += ["-d", f"{dumps}/"]
    if os.geteuid() == 0:
        _let_in(dumps)
        options += ["-u", "nobody"]
    with (directory / "smtp-sink.output").open("wb") as output:
        process = subprocess.Popen([path, *options, address, "512"], stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for_port(address, process, directory / "smtp-sink.output")
        yield SmtpSinkProgram(address, directory / "smtp-sink.output", dumps)
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    """Below those that the kernel gives to clients, so that none of them takes it before smtp-sink does."""
    for port in range(20_000 + os.getpid() % 5000, 32_000):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def _let_in(directory: Path) -> None:
    """Let an unprivileged user write there."""
    directory.chmod(0o777)
    for parent in directory.parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)


def _wait_for_port(address: str, process: subprocess.Popen[bytes], output: Path) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + 10
    while True:
        assert process.poll() is None, output.read_text()
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((host, int(port)), 5).close()
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)
