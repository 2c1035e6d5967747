"""`kumo-py serve` as a process: what it says, how it ends, and with which status."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from real_node import relay_policy
from smtp_client import SmtpClient
from smtp_sink import SmtpSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.time_limit(40)


def run(
    *arguments: str | Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`kumo-py serve` until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "kumo_py", "serve", *map(str, arguments)],
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def write(directory: Path, text: str) -> Path:
    policy = directory / "policy.lua"
    policy.write_text(text)
    return policy


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts nodes that can be signalled; none outlives the test."""
    processes: list[Process] = []

    def start(policy: str, *arguments: str) -> Process:
        processes.append(Process(write(tmp_path, policy), tmp_path / f"stderr.{len(processes)}", *arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.popen.kill()
        process.popen.wait(10)


class Process:
    """A node in a process of its own, ready to work."""

    def __init__(self, policy: Path, stderr: Path, *arguments: str) -> None:
        self._stderr = stderr
        with stderr.open("wb") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "kumo_py", "serve", "--policy", str(policy), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        self.wait_for("initialization complete")

    @property
    def said(self) -> str:
        return self._stderr.read_text()

    @property
    def address(self) -> str:
        return self.said.partition("smtp listener on ")[2].split()[0]

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 20
        while text not in self.said:
            assert self.popen.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.005)

    def end(self, number: signal.Signals, timeout: float = 10) -> int:
        """Send a signal; the exit status."""
        self.popen.send_signal(number)
        return self.popen.wait(timeout)


def send(address: str, count: int = 1) -> None:
    with SmtpClient(address) as client:
        client.greet()
        for _ in range(count):
            assert client.envelope("from@a.example", "to@b.example").code == 354
            client.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
            assert client.reply().code == 250


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# -- a life --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_node_in_order(
    start: Callable[..., Process], tmp_path: Path, number: signal.Signals
) -> None:
    node = start(relay_policy(tmp_path, "127.0.0.1:1"))
    assert node.end(number) == 0
    said = node.said.splitlines()
    steps = [
        "smtp listener on 127.0.0.1:",
        "initialization complete",
        f"received {number.name}",
        "shutting down",
    ]
    assert [step for line in said for step in steps if step in line] == steps
    assert not any("ERROR" in line or "Traceback" in line for line in said)


def test_sigterm_lets_the_message_in_flight_finish(start: Callable[..., Process], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as host:
        host.settimeout(10)
        node = start(relay_policy(tmp_path, f"127.0.0.1:{host.getsockname()[1]}"), "--grace", "20")
        send(node.address)
        connection, _ = host.accept()
        with connection, connection.makefile("rb") as lines:
            connection.settimeout(10)
            connection.sendall(b"220 host\r\n")
            while (line := lines.readline()) != b"DATA\r\n":
                connection.sendall(b"250 ok\r\n")
            connection.sendall(b"354 go\r\n")
            while lines.readline() != b".\r\n":
                pass
            node.popen.send_signal(signal.SIGTERM)
            node.wait_for("shutting down")
            time.sleep(0.2)
            assert node.popen.poll() is None
            connection.sendall(b"250 queued\r\n")
            line = lines.readline()
            assert line == b"QUIT\r\n"
            connection.sendall(b"221 bye\r\n")
        assert node.popen.wait(10) == 0
        # It is delivered: the next start has nothing to send.
        host.settimeout(0.3)
        again = start(relay_policy(tmp_path, f"127.0.0.1:{host.getsockname()[1]}"))
        with pytest.raises(TimeoutError):
            host.accept()
        assert "spool enumeration complete: 0 messages" in again.said


def test_a_second_sigterm_stops_now(start: Callable[..., Process], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as host:
        host.settimeout(10)
        policy = relay_policy(tmp_path, f"127.0.0.1:{host.getsockname()[1]}")
        node = start(policy, "--grace", "60")
        send(node.address)
        connection, _ = host.accept()  # and say nothing
        with connection:
            node.popen.send_signal(signal.SIGTERM)
            node.wait_for("shutting down")
            time.sleep(0.1)
            assert node.popen.poll() is None
            assert node.end(signal.SIGTERM, 5) == 0
    with SmtpSink() as sink:
        start(relay_policy(tmp_path, sink.address))
        wait_until(lambda: len(sink.deliveries) == 1)


def test_the_grace_is_kept(start: Callable[..., Process], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as host:
        host.settimeout(10)
        node = start(relay_policy(tmp_path, f"127.0.0.1:{host.getsockname()[1]}"), "--grace", "0.5")
        send(node.address)
        connection, _ = host.accept()
        with connection:
            before = time.monotonic()
            assert node.end(signal.SIGTERM) == 0
            assert 0.4 < time.monotonic() - before < 3
    assert "did not finish within 0.5s; they are cut off" in node.said


def test_queued_messages_go_after_a_restart(start: Callable[..., Process], tmp_path: Path) -> None:
    with SmtpSink() as sink:
        sink.close()
        node = start(relay_policy(tmp_path, sink.address))
        send(node.address, 20)
        assert node.end(signal.SIGTERM) == 0
        sink.open()
        node = start(relay_policy(tmp_path, sink.address))
        node.wait_for("spool enumeration complete: 20 messages")
        wait_until(lambda: len(sink.deliveries) >= 20)
        assert node.end(signal.SIGTERM) == 0
        assert len(sink.deliveries) == 20


def test_diagnostics_can_go_to_files(start: Callable[..., Process], tmp_path: Path) -> None:
    policy = write(tmp_path, relay_policy(tmp_path, "127.0.0.1:1"))
    with RealNodeWithFiles(policy, tmp_path / "diag") as files:
        wait_until(lambda: "initialization complete" in files.text)


class RealNodeWithFiles:
    """A node with --diag-log-dir and --diag-format json."""

    def __init__(self, policy: Path, directory: Path) -> None:
        self._directory = directory
        arguments = ["--policy", str(policy), "--diag-log-dir", str(directory), "--diag-format", "json"]
        self._process = subprocess.Popen([sys.executable, "-m", "kumo_py", "serve", *arguments])

    @property
    def text(self) -> str:
        return "".join(path.read_text() for path in self._directory.glob("log.*"))

    def __enter__(self) -> RealNodeWithFiles:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        try:
            assert self._process.wait(10) == 0
        finally:
            self._process.kill()


# -- what goes wrong at the start -----------------------------------------------------------------------
def test_a_broken_policy(tmp_path: Path) -> None:
    policy = write(tmp_path, "local kumo = require 'kumo'\nkumo.on('init', function()\n  nonsense()\nend)\n")
    result = run("--policy", policy)
    assert result.returncode == 1
    assert "policy.lua:3" in result.stderr
    assert "nonsense" in result.stderr
    assert "Traceback (most recent call last)" not in result.stderr
    assert result.stdout == ""


def test_a_missing_policy(tmp_path: Path) -> None:
    result = run("--policy", tmp_path / "nothing.lua")
    assert result.returncode == 1
    assert "cannot read the policy file" in result.stderr
    assert "nothing.lua: No such file or directory" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_spool(tmp_path: Path) -> None:
    result = run("--policy", write(tmp_path, "local kumo = require 'kumo'\n"))
    assert result.returncode == 1
    assert "no spool named data and meta: call kumo.define_spool" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_address_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        text = relay_policy(tmp_path, "127.0.0.1:1").replace("127.0.0.1:0", address)
        result = run("--policy", write(tmp_path, text))
    assert result.returncode == 1
    assert f"cannot listen on {address}: Address already in use" in result.stderr
    assert "Traceback" not in result.stderr


def test_two_nodes_cannot_share_a_spool(start: Callable[..., Process], tmp_path: Path) -> None:
    policy = relay_policy(tmp_path, "127.0.0.1:1")
    node = start(policy)
    result = run("--policy", write(tmp_path, policy))
    assert result.returncode == 1
    assert f"in use by process {node.popen.pid}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_user_that_is_not_there(tmp_path: Path) -> None:
    result = run(
        "--policy", write(tmp_path, "local kumo = require 'kumo'\n"), "--user", "nobody-of-that-name"
    )
    assert result.returncode == 1
    assert "there is no such user" in result.stderr


# -- without serving ------------------------------------------------------------------------------------
def test_validate(tmp_path: Path) -> None:
    policy = write(tmp_path, relay_policy(tmp_path, "127.0.0.1:1"))
    result = run("--policy", policy, "--validate")
    assert (result.returncode, result.stderr) == (0, "")
    assert not (tmp_path / "data").exists()


def test_validate_a_bad_policy(tmp_path: Path) -> None:
    policy = write(tmp_path, relay_policy(tmp_path, "127.0.0.1:1", path="no_such_option = 1,"))
    text = "\nkumo.on('validate_config', function() kumo.make_egress_path { max_readyy = 1 } end)\n"
    policy.write_text(policy.read_text() + text)
    result = run("--policy", policy, "--validate")
    assert result.returncode == 1
    assert "max_readyy" in result.stderr
    assert "max_ready" in result.stderr.replace("max_readyy", "")
    assert "policy.lua:" in result.stderr


def test_a_script_with_arguments(tmp_path: Path) -> None:
    text = "local kumo = require 'kumo'\nkumo.on('main', function(...) print(select('#', ...), ...) end)\n"
    result = run("--policy", write(tmp_path, text), "--script", "--", "one", "--two", "three four")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == ["3", "one", "--two", "three", "four"]


def test_a_script_that_fails(tmp_path: Path) -> None:
    text = "local kumo = require 'kumo'\nkumo.on('main', function()\n  error 'no'\nend)\n"
    result = run("--policy", write(tmp_path, text), "--script")
    assert result.returncode == 1
    assert "policy.lua:3: no" in result.stderr


def test_arguments_need_a_script(tmp_path: Path) -> None:
    result = run("--policy", write(tmp_path, ""), "one")
    assert result.returncode == 2
    assert "--script" in result.stderr
