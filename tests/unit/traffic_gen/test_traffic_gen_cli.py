"""The program as its users run it: a process of its own."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from traffic_gen_peer import Script, SmtpServer

from traffic_gen import cli
from traffic_gen.options import Options, Target
from traffic_gen.progress import reporter
from traffic_gen.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = [sys.executable, "-c", "from traffic_gen.cli import main; main()"]
PLAIN_LINE = re.compile(
    r"elapsed=[\d.]+ sent=\d+ accepted=\d+ failed=\d+ connections=\d+ rate=[\d.]+ mmh=[\d.]+ "
    r"p50_ms=[\d.]+ p99_ms=[\d.]+"
)


def start(target: Target, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, "--target", str(target), "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    out, err = process.communicate(timeout=20)
    return json.loads(out), err


def sequences(server: SmtpServer) -> list[int]:
    return sorted(int(message.header("X-Traffic-Gen").split("/")[1]) for message in server.accepted)


def test_json_summary_and_exit_status() -> None:
    with SmtpServer() as server:
        process = start(server.target, "--message-count", "50", "--progress", "none")
        figures, err = finish(process)
    assert process.returncode == figures["exit_code"] == 0
    assert figures["sent"] == figures["accepted"] == 50
    assert figures["failed"] == figures["unfinished"] == 0
    assert figures["target"] == str(server.target)
    assert figures["stopped_by"] == "count"
    assert set(figures["accept_latency_ms"]) == {"count", "p50", "p95", "p99", "max", "mean"}
    assert figures["connect_latency_ms"]["count"] == figures["connections"]
    assert figures["mmh"] == pytest.approx(figures["messages_per_second"] * 0.0036, rel=1e-3)
    assert figures["cpu_us_per_message"] > 0
    assert figures["error"] is None
    assert "sent 50: accepted 50, failed 0" in err


def test_refusal_gives_status_1_and_the_words_of_the_peer() -> None:
    with SmtpServer(Script(replies={"RCPT*": [b"550 5.7.1 relaying denied\r\n"]})) as server:
        process = start(server.target, "--message-count", "5", "--concurrency", "1", "--progress", "none")
        figures, err = finish(process)
    assert process.returncode == 1
    assert figures["error"].endswith("answered RCPT TO with: 550 5.7.1 relaying denied")
    assert "error: " + figures["error"] in err


def test_workers_share_the_run() -> None:
    with SmtpServer() as server:
        arguments = ["--workers", "3", "--concurrency", "7", "--message-count", "100", "--progress", "plain"]
        figures, _ = finish(start(server.target, *arguments))
    assert figures["accepted"] == 100
    assert figures["workers"] == 3
    assert figures["peak_connections"] == figures["connections"] == 7
    assert sequences(server) == list(range(100))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_interrupt_gives_the_summary(workers: str) -> None:
    with SmtpServer(Script(delay=0.002)) as server:
        process = start(
            server.target,
            "--duration",
            "60",
            "--workers",
            workers,
            "--concurrency",
            "4",
            "--progress",
            "plain",
        )
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        figures, err = finish(process)
    assert PLAIN_LINE.fullmatch(first.strip())
    assert process.returncode == 130
    assert figures["stopped_by"] == "signal"
    assert figures["accepted"] == figures["sent"] == len(server.accepted) > 0
    assert "ended by signal" in err


def test_an_error_in_one_worker_ends_all() -> None:
    with SmtpServer(Script(replies={"BODY": [b"250 ok\r\n"] * 5 + [b"554 no\r\n"]}, delay=0.001)) as server:
        figures, _ = finish(start(server.target, "--workers", "2", "--duration", "30", "--progress", "none"))
    assert figures["exit_code"] == 1
    assert figures["error"].endswith("answered the message with: 554 no")
    assert figures["elapsed_s"] < 10


def test_command_lines_that_cannot_be_done_have_status_2() -> None:
    result = CliRunner().invoke(cli.main, ["--message-count", "many"])
    assert result.exit_code == 2


def sample() -> Summary:
    summary = Summary(
        run="r",
        target="t",
        protocol="smtp",
        workers=1,
        concurrency=1,
        message_bytes=1000,
        keep_going=True,
        started=0.0,
        elapsed=2.0,
        sent=120,
        accepted=100,
        failed=20,
    )
    summary.accept.record(0.25)
    return summary


@pytest.mark.parametrize(
    ("kind", "shows"), [("plain", "rate=50.0"), ("bar", "50 msg/s"), ("none", ""), ("auto", "p99_ms=249.983")]
)
def test_progress(
    kind: Any, shows: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = reporter(kind, Options(target=Target("h", 1), message_count=1000))
    shown(sample())
    shown.close()
    captured = capsys.readouterr()
    assert shows in captured.err
    assert captured.out == ""
    if kind == "plain":
        assert PLAIN_LINE.fullmatch(captured.err.strip())


def test_refusals_are_bounded() -> None:
    summary = sample()
    for number in range(1000):
        summary.refuse(f"550 text {number}")
    assert len(summary.refusals) <= 210
    assert sum(summary.refusals.values()) == 1000
    assert len(summary.as_json()["refusals"]) == 10


@pytest.fixture
def smtp_sink(tmp_path: Path) -> Iterator[Target]:
    """Postfix's smtp-sink on a free port."""
    program = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("Postfix's smtp-sink is not installed")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        target = Target("127.0.0.1", probe.getsockname()[1])
    process = subprocess.Popen(
        [program, "-u", "nobody", str(target), "100"], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 5
        while True:
            try:
                socket.create_connection(("127.0.0.1", target.port)).close()
                break
            except OSError:
                if process.poll() is not None:
                    pytest.skip("smtp-sink does not start here (it needs root)")
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield target
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("pipelining", ["full", "off"])
def test_against_smtp_sink(smtp_sink: Target, pipelining: str) -> None:
    arguments = ["--message-count", "500", "--concurrency", "20", "--pipelining", pipelining]
    figures, err = finish(start(smtp_sink, *arguments, "--body-size", "20kb", "--progress", "none"))
    assert figures["accepted"] == 500, err
    assert figures["exit_code"] == 0
