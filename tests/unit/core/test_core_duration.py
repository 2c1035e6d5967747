"""Durations: KumoMTA's notation in both directions."""

from __future__ import annotations

import copy
import math
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.duration import Duration, format_duration, parse_duration
from kumo_py.core.options import OptionError, convert, to_builtins

YEAR = 31_557_600
MONTH = 2_630_016


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        (5, 5.0),
        (0.25, 0.25),
        ("0", 0.0),
        ("0s", 0.0),
        ("5m", 300.0),
        ("1h 30m", 5400.0),
        ("1h30m", 5400.0),
        (" 10  seconds ", 10.0),
        ("7 days", 604_800.0),
        ("1week 1day", 691_200.0),
        ("2w", 1_209_600.0),
        ("12M", 12.0 * MONTH),
        ("1y 1month", float(YEAR + MONTH)),
        ("32ms", 0.032),
        ("17nsec", 17e-9),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        ("4.2s", 4.2),
        ("1 hour 2 mins 3 secs 4 millis", 3723.004),
    ],
)
def test_seconds_meant(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "5",
        "m",
        "m5",
        "5 5m",
        "-5m",
        "5m-",
        "5x",
        "5 S",
        "1h,30m",
        "1.h",
        ".5h",
        "1e3s",
        "٣m",
        -1,
        -0.001,
        math.nan,
        math.inf,
        2**64,
        10**400,
        "9" * 400 + "y",
        True,
        None,
        [],
        {},
        b"5m",
    ],
)
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1e-10, "0s"),
        (1e-9, "1ns"),
        (0.1, "100ms"),
        (1.0000015, "1s 1us 500ns"),
        (59, "59s"),
        (60, "1m"),
        (300, "5m"),
        (5400, "1h 30m"),
        (86_400, "1day"),
        (7 * 86_400, "7days"),
        (MONTH, "1month"),
        (2 * YEAR + 3 * MONTH + 86_399, "2years 3months 23h 59m 59s"),
    ],
)
def test_text_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration(text) == pytest.approx(seconds, abs=1e-9)


@given(st.integers(0, 253_370_764_800))
def test_whole_seconds_survive_a_round_trip(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 10**15))
def test_nanoseconds_survive_a_round_trip(nanoseconds: int) -> None:
    seconds = nanoseconds / 1e9
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text(alphabet="0123456789 .-smhdwMyunaiec\u00b5\t_", max_size=20))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert seconds >= 0


class Timeouts(msgspec.Struct, forbid_unknown_fields=True):
    connect: Duration = Duration("60s")
    remember: Duration | None = None


def test_as_an_option() -> None:
    made = convert({"connect": "1h 30m", "remember": 2}, Timeouts, "f")
    assert made == Timeouts(Duration(5400), Duration(2))
    assert isinstance(made.connect, Duration)
    assert to_builtins(made) == {"connect": "1h 30m", "remember": "2s"}
    assert convert({}, Timeouts, "f") == Timeouts()
    with pytest.raises(OptionError, match=r"^f: option 'connect': 'soon' is not a duration"):
        convert({"connect": "soon"}, Timeouts, "f")


def test_it_is_a_float() -> None:
    duration = Duration("5m")
    assert duration + 1 == 301.0
    assert f"{duration:.1f}" == "300.0"
    assert copy.copy(duration) == pickle.loads(pickle.dumps(duration)) == duration
