"""What the trace commands print for an event, and which events they leave out."""

from __future__ import annotations

from typing import Any

import pytest

from kumo_py.cli.trace import _CLIENT, _SERVER, _elapsed, _escaped, _Kind, _Printer

SERVER_META = {"received_from": "10.1.1.1:1000", "received_via": "10.1.1.2:25"}


def printer(
    kind: _Kind = _SERVER, *, color: str = "no", only_new: bool = False, only_one: bool = False
) -> _Printer:
    return _Printer(kind, color=color, only_new=only_new, only_one=only_one)


def event(payload: Any, meta: Any = SERVER_META, seconds: float = 0.0) -> dict[str, Any]:
    return {"conn_meta": meta, "payload": payload, "when": f"2026-01-01T00:00:{seconds:012.9f}Z"}


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines without the session's name and time."""
    return [
        line.partition("] ")[2][6:]
        for line in capsys.readouterr().out.splitlines()
        if "conn_meta" not in line
    ]


@pytest.mark.parametrize(
    ("payload", "lines"),
    [
        ("Connected", ["=== Connected 2026-01-01 00:00:00.000000 UTC"]),
        ("Closed", ["=== Closed"]),
        ({"Read": "a\r\n\r\nb\r\n"}, [" -> a", " -> ", " -> b"]),
        ({"Read": "\r\n"}, []),
        ({"Write": "250-a\r\n250 b\r\n"}, ["<-  250-a", "<-  250 b"]),
        ({"AbbreviatedRead": {"snippet": "a", "len": 7}}, [" -> a", "=== bytes read=7"]),
        (
            {"Diagnostic": {"level": "INFO", "message": "m\x1b[2J"}},
            ["=== INFO: m\N{REPLACEMENT CHARACTER}[2J"],
        ),
        ({"Callback": {"name": "n", "result": None, "error": None}}, ["=== n: Ok"]),
        ({"Callback": {"name": "n", "result": {"a": "é"}, "error": None}}, ['=== n: Ok: {"a":"é"}']),
        ({"Callback": {"name": "n", "result": None, "error": "no"}}, ["=== n: Error: no"]),
        ("Strange", ["=== Strange"]),
        ({"Strange": [1]}, ["=== Strange [1]"]),
    ],
)
def test_payloads(capsys: pytest.CaptureFixture[str], payload: Any, lines: list[str]) -> None:
    assert printer().show(event(payload)) is False
    assert shown(capsys) == lines


@pytest.mark.parametrize(
    ("payload", "lines"),
    [
        ("BeginSession", ["=== BeginSession 2026-01-01 00:00:00.000000 UTC"]),
        ("Connected", ["=== Connected"]),
        ("MessageObtained", ["=== MessageObtained"]),
        ({"Read": "250-a\r\n250 b\r\n"}, [" <- 250-a", " <- 250 b"]),
        ({"Write": "a\r\nb\r\n\r\n"}, ["->  a", "->  b"]),
        ({"AbbreviatedWrite": {"snippet": "a", "len": 7}}, ["->  a", "=== bytes written=7"]),
    ],
)
def test_payloads_of_the_client(capsys: pytest.CaptureFixture[str], payload: Any, lines: list[str]) -> None:
    assert printer(_CLIENT).show(event(payload, {"id": "7"})) is False
    assert shown(capsys) == lines


def test_colors(capsys: pytest.CaptureFixture[str]) -> None:
    show = printer(color="yes").show
    for payload in ({"Read": "a"}, {"Write": "b"}, {"Diagnostic": {"level": "ERROR", "message": "c"}}):
        show(event(payload))
    out = capsys.readouterr().out
    for part in ("\x1b[32m -> a\x1b[0m", "\x1b[36m<-  b\x1b[0m", "=== \x1b[31mERROR: c\x1b[0m"):
        assert part in out
    printer(color="tty").show(event({"Read": "a"}))
    assert "\x1b" not in capsys.readouterr().out, "stdout is no terminal here"


def test_changes_of_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    show = printer(_CLIENT).show
    for meta in (
        {"id": "7", "a": 1, "b": [1, "é"]},
        {"id": "7", "a": 1, "b": [1, "é"]},
        {"id": "7", "a": None, "c": "\x1b"},
    ):
        show(event("Connected", meta))
    changes = [line.partition("=== ")[2] for line in capsys.readouterr().out.splitlines()]
    assert changes == [
        "Connected",
        "conn_meta a=1",
        'conn_meta b=[1,"é"]',
        'conn_meta id="7"',
        "Connected",
        "Connected",
        "conn_meta deleted b",
        "conn_meta a=null",
        'conn_meta c="\\u001b"',
    ]


def test_the_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    show = printer().show
    show(event("Connected"))
    show(event({"Write": "220 hi"}, seconds=0.0123))
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("[10.1.1.1:1000->10.1.1.2:25]       === Connected")
    assert out[-1] == "[10.1.1.1:1000->10.1.1.2:25]  12ms <-  220 hi"


def test_only_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Losses are told, whatever is wanted."""
    other = {"received_from": "10.9.9.9:1", "received_via": "10.1.1.2:25"}
    show = printer(only_one=True).show
    assert [
        show(event({"Diagnostic": {"level": "ERROR", "message": "missed"}}, None)),
        show(event("Connected")),
        show(event("Connected", other)),
        show(event("Closed", other)),
        show(event({"Diagnostic": {"level": "ERROR", "message": "missed"}}, None)),
        show(event("Closed")),
    ] == [False] * 5 + [True]
    assert shown(capsys) == [
        "=== ERROR: missed",
        "=== Connected 2026-01-01 00:00:00.000000 UTC",
        "=== ERROR: missed",
        "=== Closed",
    ]


@pytest.mark.parametrize(
    ("kind", "first", "meta"), [(_SERVER, "Connected", SERVER_META), (_CLIENT, "BeginSession", {"id": "7"})]
)
def test_only_new(capsys: pytest.CaptureFixture[str], kind: _Kind, first: str, meta: Any) -> None:
    show = printer(kind, only_new=True).show
    show(event({"Read": "a"}, meta))
    show(event("Closed", meta))
    assert capsys.readouterr().out == ""
    show(event(first, meta))
    show(event({"Read": "a"}, meta))
    assert len(shown(capsys)) == 2


def test_an_outgoing_session_that_goes_on_with_the_next_host(capsys: pytest.CaptureFixture[str]) -> None:
    show = printer(_CLIENT, only_new=True).show
    for payload in ("BeginSession", "Connected", "Closed", "Connected", {"Read": "220 hi"}):
        show(event(payload, {"id": "7"}))
    assert shown(capsys)[-2:] == ["=== Connected", " <- 220 hi"]


def test_a_session_whose_addresses_change(capsys: pytest.CaptureFixture[str]) -> None:
    """It stays the same one, under its new name."""
    show = printer(only_one=True).show
    show(event("Connected"))
    proxied = SERVER_META | {
        "received_from": "192.0.2.1:7",
        "orig_received_from": SERVER_META["received_from"],
    }
    show(event({"Read": "NOOP"}, proxied, seconds=2))
    assert "[192.0.2.1:7->10.1.1.2:25]    2s  -> NOOP" in capsys.readouterr().out.splitlines()
    assert show(event("Closed", proxied)) is True


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        [],
        None,
        event("Connected", {"received_from": "x"}),
        event("Connected", []),
        event({}),
        event(7),
        event("Connected") | {"when": "now"},
        event("Connected") | {"when": 7},
        event({"MessageDisposition": {}}),
    ],
)
def test_what_is_no_event(wrong: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        printer().show(wrong)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ns"),
        (-1, "0ns"),
        (1e-6, "1µs"),
        (0.000999, "999µs"),
        (0.0015, "2ms"),
        (0.4, "400ms"),
        (1, "1s"),
        (75.6, "76s"),
    ],
)
def test_elapsed(seconds: float, text: str) -> None:
    assert _elapsed(seconds) == text


def test_escaped() -> None:
    assert _escaped("a\"b'c\\\t\0\x1b[31m é \u202e") == "a\\\"b\\'c\\\\\\t\\0\\u{1b}[31m é \\u{202e}"
