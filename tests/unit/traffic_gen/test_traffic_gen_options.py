from __future__ import annotations

import json
import os
import resource
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from traffic_gen import cli, engine
from traffic_gen.options import (
    DEFAULT_DOMAINS,
    Options,
    Target,
    parse_domain,
    parse_header,
    parse_size,
    parse_target,
)
from traffic_gen.summary import Summary
from traffic_gen.throttle import ThrottleSpec

HERE = Target("127.0.0.1", 2025)


def parsed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Options:
    """The options that a command line gives."""
    seen: list[Options] = []

    def run(options: Options, *_: object) -> Summary:
        seen.append(options)
        return Summary(
            run="r",
            target="t",
            protocol="smtp",
            workers=1,
            concurrency=1,
            message_bytes=1,
            keep_going=False,
            started=0.0,
            stopped_by="count",
        )

    monkeypatch.setattr(cli, "run", run)
    result = CliRunner().invoke(cli.main, ["--progress", "none", *arguments])
    assert result.exit_code == 0, result.output
    return seen[0]


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        ([], "target", HERE),
        ([], "concurrency", 10 * len(os.sched_getaffinity(0))),
        ([], "duration", 60.0),
        ([], "message_count", None),
        ([], "domain_suffix", "mx-sink.test"),
        ([], "domains", DEFAULT_DOMAINS),
        ([], "body_size", 1024),
        ([], "http_batch_size", 1),
        ([], "workers", 1),
        ([], "pipelining", "full"),
        ([], "keep_going", False),
        (["--target", "[::1]:25"], "target", Target("::1", 25)),
        (["--concurrency", "20000"], "concurrency", 20000),
        (["--duration", "5"], "duration", 5.0),
        (["--message-count", "9"], "message_count", 9),
        (["--message-count", "9"], "duration", None),
        (["--message-count", "9", "--duration", "3"], "duration", 3.0),
        (["--starttls"], "starttls", True),
        (["--body-file", __file__], "body_file", Path(__file__)),
        (["--body-size", "100kib"], "body_size", 102400),
        (["--domain", "a.example", "--domain", "b:2.5"], "domains", (("a.example", 1.0), ("b", 2.5))),
        (["--domain", "a.example", "--domain-suffix", ""], "domain_suffix", ""),
        (["--domain-suffix", "sink.invalid"], "domain_suffix", "sink.invalid"),
        (["--throttle", "10/min,max_burst=1"], "throttle", ThrottleSpec(10, 60, 1)),
        (["--header", "A:1", "--header", "B: 2 x"], "headers", (("A", "1"), ("B", "2 x"))),
        (["--http"], "target", Target("127.0.0.1", 8000)),
        (["--http", "--target", "http://h.test:81"], "target", Target("h.test", 81)),
        (["--http", "--http-defer-spool"], "http_defer_spool", True),
        (["--http", "--http-defer-generation"], "http_defer_generation", True),
        (["--http", "--http-batch-size", "50"], "http_batch_size", 50),
        (["--keep-going"], "keep_going", True),
        (["--workers", "2"], "workers", 2),
        (["--timeout", "7"], "timeout", 7.0),
        (["--pipelining", "off"], "pipelining", "off"),
    ],
)
def test_flags(monkeypatch: pytest.MonkeyPatch, arguments: list[str], name: str, value: object) -> None:
    assert getattr(parsed(monkeypatch, *arguments), name) == value


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "127.0.0.1"], "write HOST:PORT"),
        (["--target", "http://h:1"], "write HOST:PORT"),
        (["--http", "--target", "https://h:1"], "https is not supported"),
        (["--target", "h:99999"], "is not a target"),
        (["--domain-suffix", ""], "name your own domains"),
        (["--domain-suffix", "a b"], "is not a domain"),
        (["--domain", "a>b"], "is not a domain"),
        (["--domain", "a:much"], "must be a number"),
        (["--domain", "a:-1"], "must be a number"),
        (["--domain", "a:0"], "every domain has weight 0"),
        (["--header", "no colon"], "write NAME:VALUE"),
        (["--header", "A: x\r\nBcc: y"], "CR, LF and NUL"),
        (["--header", "A: x\ny"], "CR, LF and NUL"),
        (["--header", "Message-Id: x"], "written by traffic-gen itself"),
        (["--throttle", "10"], "is not a throttle"),
        (["--body-size", "ten"], "is not a size"),
        (["--body-size", "1 parsec"], "is not a size"),
        (["--body-file", "/nonexistent"], "does not exist"),
        (["--concurrency", "0"], "range"),
        (["--duration", "0"], "range"),
        (["--http", "--starttls"], "STARTTLS belongs to SMTP"),
    ],
)
def test_refused_command_lines_say_what_is_right(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(cli.main, ["--progress", "none", *arguments])
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())


def test_an_unknown_target_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    result = CliRunner().invoke(cli.main, ["--progress", "none", "--target", "nowhere.test:25"])
    assert result.exit_code == 2
    assert "target nowhere.test: Name or service not known" in result.output


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("1_000", 1000),
        ("10b", 10),
        ("1k", 1000),
        ("1kb", 1000),
        ("1KB", 1000),
        ("1ki", 1024),
        ("1KiB", 1024),
        ("100 kb", 100_000),
        ("2mb", 2_000_000),
        ("2MiB", 2 << 20),
        ("1gb", 10**9),
        ("1gib", 1 << 30),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_readers_give_plain_values() -> None:
    assert parse_domain("gmail.com:75") == ("gmail.com", 75.0)
    assert parse_header("X-Empty:") == ("X-Empty", "")
    assert parse_header("Subject: a: b ") == ("Subject", "a: b")
    assert parse_target("http://h.test", http=True) == Target("h.test", 80)
    assert str(parse_target("[::1]:25")) == "[::1]:25"


def test_an_options_object_needs_an_end() -> None:
    with pytest.raises(ValueError, match="a run needs an end"):
        Options(target=HERE)


@pytest.mark.parametrize(
    "bad", [{"concurrency": 0}, {"workers": 0}, {"http_batch_size": 0}, {"timeout": 0.0}]
)
def test_numbers_must_be_above_zero(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="above zero"):
        Options(target=HERE, message_count=1, **bad)


def test_too_few_open_files_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    with pytest.raises(
        ValueError, match=r"need 20032 open files, but its hard limit is 100.*ulimit -Hn 20032"
    ):
        engine.run(Options(target=HERE, concurrency=20_000, duration=1))


def test_the_soft_limit_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 5000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    engine.raise_file_limit(4000, 1)
    assert asked == [(5000, 5000)]


def test_json_goes_to_stdout_and_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    parsed(monkeypatch, "--json", "--json-file", str(path))
    result = CliRunner().invoke(cli.main, ["--progress", "none", "--json"])
    assert json.loads(result.stdout) == json.loads(path.read_text())
    assert "accepted 0" in result.stderr
