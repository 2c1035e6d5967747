"""kumo-py as its users run it: `kumo-py serve` in a process of its own, with a policy written to a file.

Everything is bounded in time. A process is ended by its id only, and has ended when `kill` or `stop` returns.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

START_TIMEOUT = 30.0
STOP_TIMEOUT = 30.0
CONNECTION_LIMIT = 8
"""Connections of a relay to its next host."""
_LISTENING = re.compile(r"smtp listener on (\S+)")

_RELAY = """
local kumo = require 'kumo'
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, @SPOOL@ }
  end
  kumo.configure_local_logs { log_dir = '@LOG_DIR@', max_segment_duration = '1m', @LOGS@ }
  kumo.start_esmtp_listener {
    listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8', '::1' }, max_messages_per_connection = 1000000,
    @LISTENER@
  }
end)
kumo.on('get_queue_config', function()
  return kumo.make_queue_config {
    protocol = { smtp = { mx_list = { '@TO@' } } }, retry_interval = '1s', max_retry_interval = '1s',
  }
end)
kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path {
    enable_tls = 'Disabled', prohibited_hosts = {}, connection_limit = @LIMIT@, max_ready = 100000,
    max_deliveries_per_connection = 100000, consecutive_connection_failures_before_delay = 1000000, @PATH@
  }
end)
@MORE@
"""


def relay_policy(
    directory: Path,
    to: str,
    *,
    log_dir: Path | None = None,
    spool: str = "min_free_space = 0, min_free_inodes = 0",
    logs: str = "min_free_space = 0, min_free_inodes = 0",
    listener: str = "",
    path: str = "",
    more: str = "",
) -> str:
    """A relay to one host that tries again every second. The texts are Lua, added to the option tables."""
    parts = {
        "DIR": directory,
        "LOG_DIR": log_dir or directory / "logs",
        "TO": to,
        "LIMIT": CONNECTION_LIMIT,
        "SPOOL": spool,
        "LOGS": logs,
        "LISTENER": listener,
        "PATH": path,
        "MORE": more,
    }
    return re.sub("@([A-Z_]+)@", lambda found: str(parts[found[1]]), _RELAY)


class RealNode:
    """A node that has been started. `policy` is a policy's text, or the path of one.

    `preloaded` starts it in milliseconds.
    """

    def __init__(
        self,
        policy: str | Path,
        directory: Path,
        *,
        environment: Mapping[str, str] | None = None,
        preloaded: Preloaded | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        if isinstance(policy, str):
            file = directory / "policy.lua"
            file.write_text(policy)
            policy = file
        self.directory = directory
        self.diagnostics = directory / f"diagnostics.{time.monotonic_ns()}"
        self.address = ""
        self._addresses: list[str] = []
        arguments = ["serve", "--policy", str(policy)]
        self._process: subprocess.Popen[bytes] | None = None
        if preloaded is not None:
            self.pid = preloaded.start(arguments, environment or {}, self.diagnostics)
        else:
            with self.diagnostics.open("wb") as stderr:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "kumo_py", *arguments],
                    env=os.environ | dict(environment or {}),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    start_new_session=True,
                )
            self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        self.killed_at = (0.0, 0.0)
        """Just before and just after it was killed (monotonic)."""

    @property
    def text(self) -> str:
        """What it has said on stderr."""
        return self.diagnostics.read_text(errors="replace")

    def wait_ready(self) -> None:
        """Wait until the listeners are open; raises AssertionError with the node's own words if it fails."""
        deadline = time.monotonic() + START_TIMEOUT
        while "initialization complete" not in (text := self.text):
            assert self.alive, f"the node ended:\n{self.text}"
            assert time.monotonic() < deadline, f"the node is not ready:\n{text}"
            time.sleep(0.002)
        self._addresses = _LISTENING.findall(text)
        self.address = self._addresses[0]

    @property
    def addresses(self) -> list[str]:
        """`ip:port` of each listener, in the policy's order."""
        return self._addresses

    @property
    def alive(self) -> bool:
        return self._pidfd >= 0 and not _ended(self._pidfd, 0.0)

    def kill(self) -> None:
        """kill -9, and wait for the end. May be called again."""
        if self._pidfd < 0:
            return
        before = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._wait(STOP_TIMEOUT)
        self.killed_at = (before, time.monotonic())

    def stop(self) -> None:
        """SIGTERM; raises AssertionError if the node does not end in good order."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
        status = self._wait(STOP_TIMEOUT)
        assert status in (0, None), f"the node ended with status {status}:\n{self.text}"

    def _wait(self, timeout: float) -> int | None:
        ended = _ended(self._pidfd, timeout)
        assert ended, f"the node did not end within {timeout:g}s:\n{self.text}"
        os.close(self._pidfd)
        self._pidfd = -1
        return None if self._process is None else self._process.wait(timeout)


def _ended(pidfd: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(1000 * timeout))


_PRELOADED = """
import json, os, signal, sys
import kumo_py.cli.serve
import kumo_py.spool.segment_log as segment_log
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    arguments, environment, diagnostics, segment_bytes = json.loads(line)
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    os.dup2(os.open(diagnostics, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
    if segment_bytes is not None:
        segment_log.SEGMENT_BYTES = segment_bytes
    kumo_py.cli.main(arguments, prog_name='kumo-py')
"""


class Preloaded:
    """Starts nodes in milliseconds: forks them off a process that has imported everything."""

    def __init__(self) -> None:
        self.segment_bytes: int | None = None
        """Spool segments of this size, for tests of what happens at their ends."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PRELOADED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], diagnostics: Path) -> int:
        """The process id of a new `kumo-py` with these arguments."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        diagnostics.touch()
        order = [list(arguments), dict(environment), str(diagnostics), self.segment_bytes]
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.communicate(timeout=10)
