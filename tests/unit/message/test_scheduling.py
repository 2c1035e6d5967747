"""Schedules: which moments they allow, how they are written, what is wrong with one."""

from __future__ import annotations

import contextlib
from datetime import datetime
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.message.message import Message, NotLoaded
from kumo_py.message.rfc3339 import parse_rfc3339
from kumo_py.message.scheduling import Schedule, parse_schedule, parse_schedule_json
from kumo_py.spool.errors import SpoolError
from kumo_py.spool.messages import decode_meta, encode_meta

OFFICE = {"dow": "Mon,Wed", "tz": "America/Phoenix", "start": "09:00:00", "end": "17:00:00"}
PHOENIX = ZoneInfo("America/Phoenix")


def schedule(**fields: object) -> Schedule:
    return parse_schedule(fields, "test")


def local(text: str, zone: str = "America/Phoenix") -> float:
    """Unix time of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("due", "adjusted"),
    [
        ("2026-03-02T10:00", "2026-03-02T10:00"),  # a Monday, within
        ("2026-03-02T08:59:59", "2026-03-02T09:00"),
        ("2026-03-02T09:00", "2026-03-02T09:00"),
        ("2026-03-02T16:59:59", "2026-03-02T16:59:59"),
        ("2026-03-02T17:00", "2026-03-04T09:00"),  # the end is not within
        ("2026-03-03T10:00", "2026-03-04T09:00"),  # Tuesday
        ("2026-03-04T20:00", "2026-03-09T09:00"),  # Wednesday evening to the next Monday
    ],
)
def test_a_window_moves_the_due_time_to_its_next_opening(due: str, adjusted: str) -> None:
    assert schedule(**OFFICE).adjust(local(due)) == local(adjusted)


def test_the_first_attempt_is_not_before_its_time() -> None:
    made = schedule(first_attempt="2026-03-02T17:00:00-07:00")
    assert made.adjust(local("2026-03-01T00:00")) == local("2026-03-02T17:00")
    assert made.adjust(local("2026-03-02T17:01")) == local("2026-03-02T17:01")
    both = schedule(first_attempt="2026-03-02T17:00:00-07:00", **OFFICE)
    assert both.adjust(local("2026-03-01T00:00")) == local("2026-03-04T09:00")


def test_a_day_whose_window_the_clocks_cut_is_passed_over() -> None:
    # On Sunday 29 March 2026, 02:30 does not exist in Berlin; on 25 October it exists twice.
    early = schedule(dow="Sun,Mon", tz="Europe/Berlin", start="02:30:00", end="04:00:00")
    assert early.adjust(local("2026-03-29T00:00", "Europe/Berlin")) == local(
        "2026-03-30T02:30", "Europe/Berlin"
    )
    assert early.adjust(local("2026-10-25T00:00", "Europe/Berlin")) == local(
        "2026-10-26T02:30", "Europe/Berlin"
    )


@given(st.integers(1_700_000_000, 1_900_000_000))
def test_an_adjusted_time_is_never_earlier_and_lies_in_the_window(due: int) -> None:
    adjusted = schedule(**OFFICE).adjust(float(due))
    at = datetime.fromtimestamp(adjusted, PHOENIX)
    assert due <= adjusted <= due + 7 * 86400
    assert at.weekday() in (0, 2)
    assert 9 <= at.hour < 17


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"dow": "Mon,Tuseday"}, "option 'dow': invalid day 'Tuseday' (did you mean 'Tuesday'?)"),
        ({"dow": "Mon", "tz": "PDT"}, "option 'tz': 'PDT' is not a time zone"),
        ({"tz": "../../etc/passwd"}, "is not a time zone"),
        ({"tz": "America"}, "is not a time zone"),
        ({"start": "25:00"}, "option 'start': '25:00' is not a time of day, such as '09:00:00'"),
        ({"first_attempt": "09:00:00"}, "option 'first_attempt': '09:00:00' is not an RFC 3339 time"),
        ({"expires": "2026-03-01T00:00:00"}, "is not an RFC 3339 time with its zone"),
        ({"expires": 5}, "option 'expires': must be a string, got 5"),
        ({"tz": "UTC", "start": "09:00:00"}, "needs dow, tz, start and end: dow, end are missing"),
        (OFFICE | {"end": None, "tz": None}, "tz, end are missing"),
        (OFFICE | {"end": "08:00:00"}, "start=09:00:00 must not be after end=08:00:00"),
        ({"days": "Mon"}, "unknown option 'days'; the options are dow, end, expires"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match="test: ") as caught:
        parse_schedule(fields, "test")
    assert error in str(caught.value)


def test_a_schedule_is_written_as_it_can_be_read() -> None:
    fields = {
        "dow": "wednesday,MON",
        "tz": "Etc/UTC",
        "start": "9:00",
        "end": "17:00:00",
        "first_attempt": "2026-12-19 16:39:57-0800",
        "expires": "2026-12-20T00:00:00.500+00:00",
    }
    made = parse_schedule(fields, "test")
    assert made.to_table() == {
        "dow": "Mon,Wed",
        "tz": "Etc/UTC",
        "start": "09:00:00",
        "end": "17:00:00",
        "first_attempt": "2026-12-19T16:39:57-08:00",
        "expires": "2026-12-20T00:00:00.500000Z",
    }
    assert parse_schedule_json(orjson.dumps(made.to_table()), "test") == made
    with pytest.raises(ValueError, match="test: not JSON"):
        parse_schedule_json(b"{dow", "test")
    with pytest.raises(ValueError, match="test: options have names, such as"):
        parse_schedule_json(b"[]", "test")


def _message() -> Message:
    return Message(bytes(16), "a@a.test", ("b@b.test",), {}, b"Subject: x\r\n\r\n")


def test_a_message_keeps_its_schedule_in_the_spool_and_out_of_it() -> None:
    msg = _message()
    before = encode_meta(msg)
    msg.set_schedule(schedule(first_attempt="2026-03-02T17:00:00Z"), now=0.0)
    assert msg.due == 1_772_470_800.0
    msg.set_due(5.0, now=0.0)
    assert msg.due == 1_772_470_800.0
    record = encode_meta(msg)
    assert orjson.loads(record)["schedule"] == {"first_attempt": "2026-03-02T17:00:00Z"}

    again = Message.from_spool(bytes(16))
    decode_meta(again, record)
    assert again.schedule == msg.schedule
    with pytest.raises(NotLoaded):
        Message.from_spool(bytes(16)).set_schedule(None, 0.0)

    msg.set_schedule(None, now=0.0)
    msg.set_due(0.0, now=50.0)
    assert msg.due == 0.0
    assert encode_meta(msg) == before  # as older versions wrote it


def test_a_schedule_that_cannot_be_read_makes_the_message_wait() -> None:
    msg = Message.from_spool(bytes(16))
    record = {"sender": "", "recipients": [], "meta": {}, "schedule": {"tz": "Mars/Olympus"}}
    with pytest.raises(SpoolError, match="Mars/Olympus"):
        decode_meta(msg, orjson.dumps(record))
    assert not msg.meta_loaded


@given(st.text(max_size=60), st.binary(max_size=60))
def test_no_text_raises_anything_else(text: str, data: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_rfc3339(text)
    with contextlib.suppress(ValueError):
        parse_schedule_json(data, "test")


@pytest.mark.parametrize("text", ["2026-02-30T00:00:00Z", "0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z"])
def test_days_that_no_schedule_can_use(text: str) -> None:
    with pytest.raises(ValueError, match="is not an RFC 3339 time"):
        parse_rfc3339(text)
