"""What sends the messages, and where a relay delivers them: programs of Postfix, and our own generator."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .peers.smtp_sink import command as smtp_sink_command
from .process_group import cpu_of
from .server import free_port

SMTP_SOURCE, TRAFFIC_GEN = "smtp-source", "traffic-gen"
GENERATORS = (SMTP_SOURCE, TRAFFIC_GEN)
CONN, PERSIST = "conn", "persist"
MODES = (CONN, PERSIST)
OUR_GENERATOR = str(Path(sys.executable).with_name("traffic-gen"))


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. size: bytes of body; mode: a connection for each message, or one for each session."""

    generator: str
    size: int
    sessions: int
    mode: str

    def command(self, port: int, count: int) -> list[str]:
        """Send `count` messages to 127.0.0.1:port."""
        if self.generator == TRAFFIC_GEN:
            options = f"--progress none --concurrency {self.sessions} --body-size {self.size} --message-count {count}"
            return [OUR_GENERATOR, *options.split(), "--target", f"127.0.0.1:{port}"]
        options = f"-4 -C 50 -s {self.sessions} -m {count} -l {self.size} -M client.test"
        addresses = ["-f", "sender@client.test", "-t", "rcpt@dest.test"]
        keep_connections = ["-d"] if self.mode == PERSIST else []
        return ["smtp-source", *options.split(), *addresses, *keep_connections, f"127.0.0.1:{port}"]


@dataclass(frozen=True, slots=True)
class Sent:
    """How it went. wall, cpu: seconds; error: empty if every message was accepted."""

    wall: float
    cpu: float
    error: str


def send(load: Load, port: int, count: int, limit: float) -> Sent:
    """Send and wait for the end, `limit` seconds at most."""
    begin = time.perf_counter()
    generator = subprocess.Popen(load.command(port, count), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert generator.stderr is not None
    timer = threading.Timer(limit, generator.kill)
    timer.start()
    try:
        with generator.stderr as stream:
            words = stream.read()[-300:].decode(errors="replace").strip()
        # Not generator.wait(): this child's own usage is wanted.
        _, status, usage = os.wait4(generator.pid, 0)
    except BaseException:
        generator.kill()
        raise
    finally:
        timer.cancel()
    generator.returncode = os.waitstatus_to_exitcode(status)
    failure = f"{load.generator} ended with {generator.returncode}: {words}" if generator.returncode else ""
    return Sent(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, failure)


class CountingSink:
    """An smtp-sink that relays deliver to, and what has come in there."""

    def __init__(self) -> None:
        self.port = free_port()
        self._counters = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in __exit__
        self._process = subprocess.Popen(
            smtp_sink_command(self.port, 2000, counting=True),
            stdin=subprocess.DEVNULL,
            stdout=self._counters,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(0.3)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._counters.close()

    def messages(self) -> int:
        """Received since the start."""
        size = os.fstat(self._counters.fileno()).st_size
        tail = os.pread(self._counters.fileno(), 200, max(0, size - 200))
        found = re.findall(rb"mesg=(\d+)\r", tail)
        return int(found[-1]) if found else 0

    def wait_for(self, messages: int, limit: float) -> bool:
        """Wait for so many since the start; whether they came within `limit` seconds."""
        end = time.monotonic() + limit
        while self.messages() < messages:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def cpu(self) -> float:
        return cpu_of(self._process.pid)
