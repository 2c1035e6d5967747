"""The diagnostic log: line forms, filter, files."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import TYPE_CHECKING

import orjson
import pytest
import structlog

from kumo_py.logs import Diagnostics, configure_diagnostics
from kumo_py.logs.diagnostic_filter import DEBUG, ERROR, INFO, OFF, TRACE, WARN, DiagnosticFilter
from kumo_py.logs.diagnostics import DEFAULT_FILTER, HourlyFile

if TYPE_CHECKING:
    from pathlib import Path

    from kumo_py.logs.diagnostics import DiagnosticFormat

NOW = 1757675281.440526


def install(
    format: DiagnosticFormat = "full", filter: str = DEFAULT_FILTER
) -> tuple[Diagnostics, io.StringIO]:
    output = io.StringIO()
    diagnostics = Diagnostics(output, format, filter, lambda: NOW)
    diagnostics.install()
    return diagnostics, output


def test_full_line_ends_with_what_watchers_look_for() -> None:
    _, output = install()
    structlog.get_logger("kumo_py.smtp_in.listener").info("smtp listener on 127.0.0.1:2025")
    structlog.get_logger("kumo_py.daemon").info("initialization complete")
    assert output.getvalue().splitlines() == [
        "2025-09-12T11:08:01.440526Z  INFO main kumod::smtp_server::listener: smtp listener on 127.0.0.1:2025",
        "2025-09-12T11:08:01.440526Z  INFO main kumod::daemon: initialization complete",
    ]


@pytest.mark.parametrize("format", ["full", "compact"])
def test_fields_follow_the_message(format: DiagnosticFormat) -> None:
    _, output = install(format)
    structlog.get_logger("lua").error("failed", queue="a:b@c", error='say "no"\nnow', n=5, none=None)
    assert output.getvalue() == (
        '2025-09-12T11:08:01.440526Z ERROR main lua: failed queue=a:b@c error="say \\"no\\"\\nnow" n=5 none=None\n'
    )


def test_pretty() -> None:
    _, output = install("pretty")
    structlog.get_logger("kumo_py.queue").warning("odd", n=5)
    assert output.getvalue() == (
        "  2025-09-12T11:08:01.440526Z  WARN kumod::queue: odd, n: 5\n    on main\n\n"
    )


def test_json() -> None:
    _, output = install("json")
    structlog.get_logger("kumo_py.spool.log").info("a\nb", n=5, text="\udc80")
    assert output.getvalue().count("\n") == 1
    assert orjson.loads(output.getvalue()) == {
        "timestamp": "2025-09-12T11:08:01.440526Z",
        "level": "INFO",
        "fields": {"message": "a\nb", "n": 5, "text": "\ufffd"},
        "target": "spool::log",
        "threadName": "main",
    }


@pytest.mark.parametrize("format", ["full", "compact", "pretty"])
def test_no_peer_can_forge_a_line_or_drive_the_terminal(format: DiagnosticFormat) -> None:
    _, output = install(format)
    hostile = "550 no\r\n2025-09-12T11:08:01.440526Z  INFO main kumod: forged\x1b[2J\x00\u2028"
    structlog.get_logger("kumo_py").error(hostile, said=hostile)
    text = output.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u2028]", text)
    assert not any(line.startswith("2025") for line in text.splitlines()[1:])
    assert "\\x1b[2J" in text


def test_traceback_follows_indented() -> None:
    _, output = install()
    log = structlog.get_logger("kumo_py.queue")
    try:
        raise ValueError("bad\nworse")
    except ValueError:
        log.exception("queue failed", queue="q")
    first, *rest = output.getvalue().splitlines()
    assert first.endswith("ERROR main kumod::queue: queue failed queue=q")
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-2:] == ["    ValueError: bad", "    worse"]
    assert all(line.startswith("    ") for line in rest)


def test_filter_is_replaced_while_loggers_are_in_use() -> None:
    diagnostics, output = install()
    log = structlog.get_logger("kumo_py.smtp_in.session")
    log.debug("hidden")
    log.trace("hidden")
    diagnostics.set_filter("kumod::smtp_server=debug,lua=error")
    log.debug("shown")
    structlog.get_logger("kumo_py.queue").error("hidden")
    structlog.get_logger("lua").warning("hidden")
    assert re.findall("hidden|shown", output.getvalue()) == ["shown"]
    with pytest.raises(ValueError, match="loud"):
        diagnostics.set_filter("kumod=loud")
    log.debug("shown")
    assert output.getvalue().count("shown") == 2


def test_bound_fields_are_shown() -> None:
    _, output = install()
    structlog.get_logger("kumo_py.queue").bind(queue="q").info("x")
    assert output.getvalue().endswith("x queue=q\n")


@pytest.mark.parametrize(
    ("text", "target", "level"),
    [
        ("kumod=info", "kumod::smtp_server", INFO),
        ("kumod=info", "lua", OFF),
        ("kumod=info,kumod::smtp_server=debug", "kumod::smtp_server::session", DEBUG),
        ("kumod::smtp_server=debug,kumod=info", "kumod::smtp_server::session", DEBUG),
        ("error,lua=info", "kumod::queue", ERROR),
        ("error,lua=info", "lua", INFO),
        (" WARN , kumod=OFF ", "config", WARN),
        ("warn,kumod=off", "kumod", OFF),
        ("kumod", "kumod::queue", TRACE),
        ("kumod=", "kumod::queue", TRACE),
        ("3", "kumod", INFO),
        ("kumod=5", "kumod", TRACE),
        ("", "kumod", ERROR),
        ("kumod=info,kumod=warn", "kumod", WARN),
    ],
)
def test_filter_grammar(text: str, target: str, level: int) -> None:
    assert DiagnosticFilter(text).threshold(target) == level


@pytest.mark.parametrize(
    "text", ["kumod=loud", "kumod[span]=info", "[{x=1}]=info", "=info", "a b=info", "a=b=c"]
)
def test_filter_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="log filter"):
        DiagnosticFilter(text)


def test_hourly_files(tmp_path: Path) -> None:
    now = NOW
    output = HourlyFile(str(tmp_path), lambda: now)
    output.write("one\n")
    output.write("two \udc80\n")
    now += 3600
    output.write("three\n")
    output.close()
    assert (tmp_path / "log.2025-09-12-11").read_text() == "one\ntwo \\udc80\n"
    assert (tmp_path / "log.2025-09-12-12").read_text() == "three\n"


def test_output_that_fails_stops_nobody(tmp_path: Path) -> None:
    diagnostics, output = install()
    output.close()
    structlog.get_logger("kumo_py").error("lost")
    Diagnostics(HourlyFile(str(tmp_path / "absent"), lambda: NOW), "full", "info").install()
    structlog.get_logger("kumo_py").error("lost")
    diagnostics.set_filter("info")


def test_process_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUMOD_LOG", raising=False)
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    configure_diagnostics(default_filter="error")
    structlog.get_logger("kumo_py.a").info("hidden")
    monkeypatch.setenv("KUMOD_LOG", "kumod=info")
    configure_diagnostics(default_filter="error")
    structlog.get_logger("kumo_py.b").info("shown")
    assert re.findall("hidden|shown", stderr.getvalue()) == ["shown"]

    configure_diagnostics("json", str(tmp_path / "diag"))
    structlog.get_logger("kumo_py.c").info("in a file")
    (name,) = os.listdir(tmp_path / "diag")
    assert re.fullmatch(r"log\.\d{4}-\d\d-\d\d-\d\d", name)
    assert orjson.loads((tmp_path / "diag" / name).read_text())["fields"] == {"message": "in a file"}

    monkeypatch.setenv("KUMOD_LOG", "kumod=loud")
    with pytest.raises(ValueError, match="loud"):
        configure_diagnostics()
