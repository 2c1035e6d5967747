"""kumo-py logs tail: which records it shows, in which order, and how they look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click
import pytest
import zstandard
from click.testing import CliRunner, Result

from kumo_py.cli import main
from kumo_py.cli.logs.fields import FIELDS, Filter, as_text, value_of
from kumo_py.cli.logs.lines import one_line
from kumo_py.cli.logs.segments import Segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kumo_py.cli.logs.segments import Line

    Follow = Callable[[Path], Segments]

START = 1_766_599_200  # 2025-12-24T18:00:00Z


def record(n: int = 0, **fields: Any) -> dict[str, Any]:
    """The n-th second's record."""
    return {
        "type": "Delivery",
        "id": f"{n:032x}",
        "sender": "a@sender.example",
        "recipient": f"user{n}@gmail.com",
        "queue": "gold@gmail.com",
        "site": "ip1->gmail-smtp-in.l.google.com@smtp_client",
        "size": 1000 + n,
        "response": {
            "code": 250,
            "enhanced_code": {"class": 2, "subject": 0, "detail": 0},
            "content": "OK",
            "command": ".",
        },
        "peer_address": {"name": "gmail-smtp-in.l.google.com", "addr": "127.0.0.1"},
        "timestamp": START + n,
        "meta": {"tenant": "acme", "a.b": 1},
        "headers": {"Subject": "Hello", "X-Twice": ["one", "two"]},
        "tls_cipher": None,
    } | fields


def write(path: Path, *records: dict[str, Any] | bytes, live: bool = False) -> Path:
    """A segment; a live one has no end and may be written to."""
    text = b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in records)
    stream = zstandard.ZstdCompressor().compressobj()
    data = stream.compress(text)
    data += stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK if live else zstandard.COMPRESSOBJ_FLUSH_FINISH)
    path.write_bytes(data)
    if records and isinstance(records[-1], dict):
        os.utime(path, (records[-1]["timestamp"] + 1,) * 2)
    path.chmod(0o644 if live else 0o444)
    return path


def tail(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["logs", "tail", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def shown(*arguments: object) -> list[int]:
    """The seconds of the records."""
    lines = tail(*arguments, "--json").stdout.splitlines()
    return [json.loads(line)["timestamp"] - START for line in lines]


# -- which records -----------------------------------------------------------------------------------------------
def test_the_last_ten_records_are_shown_oldest_first(tmp_path: Path) -> None:
    write(tmp_path / "20251224-180000.000001", *(record(n) for n in range(8)))
    write(tmp_path / "20251224-180008.000001", *(record(n) for n in range(8, 12)), live=True)
    assert shown(tmp_path) == list(range(2, 12))
    assert shown(tmp_path, "-n", 3) == [9, 10, 11]
    assert shown(tmp_path, "-n", 0) == []
    assert shown(tmp_path, "-n", 100) == list(range(12))


def test_older_segments_are_not_read_once_there_is_enough(tmp_path: Path) -> None:
    write(tmp_path / "20251224-180000.0", record(0))
    (tmp_path / "20251224-180000.0").chmod(0o644)
    (tmp_path / "20251224-180000.0").write_bytes(b"this would be torn")
    os.utime(tmp_path / "20251224-180000.0", (START, START))
    write(tmp_path / "20251224-180005.0", record(5), record(6))
    result = tail(tmp_path, "-n", 2, "--json")
    assert result.stderr == ""
    assert "it is torn" in tail(tmp_path, "-n", 3, "--json").stderr


def test_loggers_that_write_side_by_side_are_merged_by_time(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    write(one / "20251224-180000.1", record(0), record(3), record(5))
    write(one / "20251224-180006.1", record(6), record(9))
    write(other / "20251224-180001.1_bounces", record(1), record(2), record(4), record(8))
    assert shown(one, other) == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert shown(one, other, "-n", 4) == [5, 6, 8, 9]
    assert shown(one, other, "--since", "2025-12-24T18:00:02Z") == [2, 3, 4, 5, 6, 8, 9]
    assert shown(one, other, "--since", "2025-12-24T18:00:02Z", "-n", 2) == [8, 9]
    assert shown(one / "20251224-180006.1", other) == [1, 2, 4, 6, 8, 9]


def test_since_takes_how_long_ago(tmp_path: Path) -> None:
    now = int(time.time()) - START
    write(tmp_path / "20251224-180000.1", record(now - 7200), record(now - 600), record(now - 60))
    assert shown(tmp_path, "--since", "20m") == [now - 600, now - 60]
    assert shown(tmp_path, "--since", "3 hours") == [now - 7200, now - 600, now - 60]
    assert "'yesterday' is neither a time such as" in tail(tmp_path, "--since", "yesterday", code=2).stderr


def test_times_are_compared_to_the_fraction(tmp_path: Path) -> None:
    event_time = "2025-12-24T18:00:00.{}Z".format
    write(tmp_path / "20251224-180000.1_a", record(size=1, event_time=event_time(500000)))
    write(tmp_path / "20251224-180000.1_b", record(size=2, event_time=event_time(100000)))
    lines = tail(tmp_path, "--format", "{size}").stdout.split()
    assert lines == ["2", "1"]


def test_all_filters_must_hold(tmp_path: Path) -> None:
    bounce = {"code": 550, "enhanced_code": {"class": 5, "subject": 1, "detail": 1}, "content": "unknown"}
    write(
        tmp_path / "20251224-180000.1",
        record(0),
        record(1, type="Bounce", response=bounce),
        record(2, type="Bounce", response=bounce, recipient="x@yahoo.com"),
        record(3, type="Reception", site=""),
    )
    assert shown(tmp_path, "--filter", "type=Bounce") == [1, 2]
    assert shown(tmp_path, "--filter", "type=Bounce", "--filter", "recipient~@gmail") == [1]
    assert shown(tmp_path, "--filter", "response.code>=500", "-n", 1) == [2]
    assert shown(tmp_path, "--filter", "type!=Bounce") == [0, 3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("recipient=user0@gmail.com", True),
        ("recipient ~ @GMAIL", True),
        ("recipient!~@gmail", False),
        ("response.code>=250", True),
        ("response.code>250", False),
        ("response.code < 300", True),
        ("response.code<=249", False),
        ("response.code=250.0", True),
        ("response.enhanced_code=2.0.0", True),
        ("response.enhanced_code.class=2", True),
        ("site!=", True),
        ("tls_cipher=", True),
        ("session_id=", True),
        ("session_id!=x", True),
        ("tls_cipher~.", False),
        ("meta.tenant=acme", True),
        ("meta.a.b=1", True),
        ("meta.none=acme", False),
        ("headers.subject~hell", True),
        ("headers.x-twice=two", True),
        ("headers.X-Twice!=two", False),
        ("headers.x-twice!=three", True),
        ("peer_address.name~google", True),
        ("size>=1e3", True),
        ("num_attempts>=0", False),
        ("queue>=gold@", True),
    ],
)
def test_a_filter_compares_a_field_with_a_value(text: str, expected: bool) -> None:
    assert Filter(text)(record()) is expected


def test_of_several_recipients_one_is_enough() -> None:
    several = record(recipient=["a@one.example", "b@two.example"])
    assert Filter("recipient=b@two.example")(several)
    assert Filter("recipient~two")(several)
    assert not Filter("recipient!~two")(several)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipent=x", "records have no field 'recipent'; did you mean 'recipient'?"),
        ("response.cod=1", "records have no field 'response.cod'; did you mean 'response.code'?"),
        ("zzzzzz=1", "there are type, id, sender"),
        ("meta=x", "'meta' has a name of its own for each value: write meta.NAME"),
        ("response=x", "'response' has parts: response.code, response.enhanced_code"),
        ("type=bounce", "there are no records of type 'bounce'; did you mean 'Bounce'?"),
        ("type=zzz", "there are no records of type 'zzz'; there are Reception, Delivery"),
        ("recipient", "'recipient' is no filter: write such as type=Bounce"),
        ("recipient~(", "'(' is no regular expression: "),
        ("recipient~(?=a)", "'(?=a)': look-around and back-references cannot be used"),
    ],
)
def test_a_wrong_filter_is_explained(text: str, message: str, tmp_path: Path) -> None:
    result = tail(tmp_path, "--filter", text, code=2)
    assert message in result.stderr


def test_every_field_of_the_inventory_can_be_asked_for() -> None:
    for name in FIELDS:
        Filter(f"{name}~.")(record())


# -- what is no whole segment ------------------------------------------------------------------------------------
def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    torn = write(tmp_path / "20251224-180000.1", record(0), record(1))
    data = torn.read_bytes()
    torn.chmod(0o644)
    torn.write_bytes(data + b"garbage" * 10)
    write(tmp_path / "20251224-180005.1", record(5))
    result = tail(tmp_path, tmp_path / "20251224-180005.1", "--json")
    assert [json.loads(line)["timestamp"] - START for line in result.stdout.splitlines()] == [0, 1, 5, 5]
    assert result.stderr == f"kumo-py: {torn}: it is torn, or no log segment: what follows cannot be read\n"


def test_a_segment_may_be_cut_off(tmp_path: Path) -> None:
    cut = write(tmp_path / "20251224-180000.1", *(record(n) for n in range(3)), live=True)
    assert shown(cut) == [0, 1, 2]


def test_a_segment_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "20251224-180000.1", record(0))
    write(tmp_path / "20251224-180001.1", record(1))
    opened = open

    def refuse(path: Any, *args: Any, **options: Any) -> Any:
        if str(path).endswith("180000.1"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *args, **options)

    monkeypatch.setattr("builtins.open", refuse)
    result = tail(tmp_path, "--json")
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == f"kumo-py: {tmp_path}/20251224-180000.1: Permission denied\n"


def test_what_is_not_there_is_said() -> None:
    assert "/nowhere/logs: there is no such directory or segment" in tail("/nowhere/logs", code=1).stderr


def test_lines_of_templates_are_shown_as_they_are_unless_records_are_chosen(tmp_path: Path) -> None:
    write(tmp_path / "20251224-180000.1", b"# header\x1b[2J", record(1))
    lines = tail(tmp_path).stdout.splitlines()
    assert lines[0] == "# header\N{REPLACEMENT CHARACTER}[2J"
    assert len(lines) == 2
    assert len(tail(tmp_path, "--json").stdout.splitlines()) == 1
    assert len(tail(tmp_path, "--filter", "type=Delivery").stdout.splitlines()) == 1


# -- following ---------------------------------------------------------------------------------------------------
class Growing:
    """A segment that is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = zstandard.ZstdCompressor().compressobj()
        path.touch(0o644)

    def write(self, *records: dict[str, Any]) -> None:
        text = b"".join(json.dumps(one).encode() + b"\n" for one in records)
        self._append(self._stream.compress(text) + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))

    def complete(self) -> None:
        self._append(self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
        self.path.chmod(0o444)

    def _append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)


@pytest.fixture
def segments() -> Iterator[Follow]:
    """Follows a directory."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(Segments([str(path)], pytest.fail, follow=True))


def seconds(lines: list[Line]) -> list[int]:
    return [int(line.time) - START for line in lines]


def test_following_goes_on_over_new_segments_and_several_live_ones(tmp_path: Path, segments: Follow) -> None:
    old = write(tmp_path / "20251224-175000.1", record(-600))
    first = Growing(tmp_path / "20251224-180000.1")
    first.write(record(0), record(1))
    read = segments(tmp_path)
    assert seconds(read.last(1, None)) == [1]
    assert read.new() == []
    first.write(record(2))
    side = Growing(tmp_path / "20251224-180003.1_side")
    side.write(record(3))
    first.write(record(4))
    assert seconds(read.new()) == [2, 3, 4]
    first.write(record(5))
    first.complete()
    second = Growing(tmp_path / "20251224-180006.1")
    second.write(record(6))
    old.unlink()
    assert seconds(read.new()) == [5, 6]
    side.write(record(7))
    assert seconds(read.new()) == [7]
    assert read.new() == []


def test_what_was_there_before_is_not_new(tmp_path: Path, segments: Follow) -> None:
    stale = Growing(tmp_path / "20251224-170000.1")
    stale.write(record(-3600))
    os.utime(stale.path, (START - 3600,) * 2)
    write(tmp_path / "20251224-180000.1", record(0), record(1))
    read = segments(tmp_path)
    assert seconds(read.last(1, None)) == [1]
    assert read.new() == []
    stale.write(record(2))
    assert seconds(read.new()) == [2]
    again = segments(tmp_path)
    assert seconds(list(again.since(START + 1))) == [1, 2]
    stale.write(record(3))
    assert seconds(again.new()) == [3]


def test_follow_ends_with_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growing = Growing(tmp_path / "20251224-180000.1")
    growing.write(record(0))
    polls = iter([lambda: growing.write(record(1), record(2, type="Bounce")), lambda: None])

    def sleep(interval: float) -> None:
        assert interval >= 0.25
        try:
            next(polls)()
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("time.sleep", sleep)
    result = tail(tmp_path, "-f", "--format", "{id} {type}", "--filter", "type!=Bounce", code=130)
    assert result.stdout == f"{0:032x} Delivery\n{1:032x} Delivery\n"


# -- how they look -----------------------------------------------------------------------------------------------
def test_one_line_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        text = one_line(record(7))
        assert text == (
            f"2025-12-24 18:00:07 \x1b[32mDelivery        \x1b[0m {7:032x} "
            "<a@sender.example> → <user7@gmail.com> "
            "ip1->gmail-smtp-in.l.google.com@smtp_client 250 2.0.0 OK"
        )
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_long_response_is_cut_to_the_width() -> None:
    long = record(response={"code": 550, "content": "word " * 100})
    plain = one_line(long)
    narrow = one_line(long, 200)
    assert len(plain) > 500
    assert len(narrow) == 200 + len("\x1b[32m\x1b[0m")
    assert narrow.endswith("…")
    assert one_line(long, 20).endswith(" 550 word word word word…")


def test_records_of_any_form_have_a_line() -> None:
    assert click.unstyle(one_line({})).split() == ["-", "-", "-", "<>", "→", "<>", "-"]
    assert "\x1b[2J" not in one_line(record(sender="\x1b[2J\n"))
    assert "a, b" in one_line(record(recipient=["a", "b"]))
    odd = {"type": 7, "timestamp": 1e300, "response": [], "recipient": {"x": True}, "id": None}
    assert "<x=true>" in one_line(odd)


def test_a_format_has_fields_in_braces(tmp_path: Path) -> None:
    write(tmp_path / "20251224-180000.1", record(1))
    text = "{recipient} {response.enhanced_code} {meta.tenant} {headers.x-twice} {tls_cipher}|"
    assert tail(tmp_path, "--format", text).stdout == "user1@gmail.com 2.0.0 acme one, two |\n"
    assert "did you mean 'recipient'" in tail(tmp_path, "--format", "{recpient}", code=2).stderr
    assert "exclude each other" in tail(tmp_path, "--format", "x", "--json", code=2).stderr


def test_values() -> None:
    assert value_of(record(), "response.command") == "."
    assert value_of(record(), "response.command.more") is None
    assert value_of(record(), "headers.none") is None
    assert as_text([1, None, True, {"a": "b"}]) == "1, , true, a=b"


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """As with `| head`."""
    write(tmp_path / "20251224-180000.1", *(record(n) for n in range(3000)))
    command = [sys.executable, "-m", "kumo_py", "logs", "tail", "-n", "3000", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "Delivery" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(10) == 1
