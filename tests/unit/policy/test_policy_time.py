"""The module `kumo.time`; parse_duration's TimeDelta too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_host import run

from kumo_py.core.chrono_format import chrono_format
from kumo_py.core.policy import PolicyError
from kumo_py.policy.modules.time import UserLatencies

if TYPE_CHECKING:
    import trio
    from policy_host import MakePolicy


async def test_a_time_and_its_parts(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local t = kumo.time.with_ymd_hms(2000, 1, 2, 3, 4, 5)
        return {
          tostring(t), t.year, t.month, t.day, t.hour, t.minute, t.second, t.unix_timestamp, t.unix_timestamp_millis,
          t.rfc2822, t.rfc3339, type(t),
          t == kumo.time.parse_rfc2822(t.rfc2822), t == kumo.time.parse_rfc3339(t.rfc3339),
          t == kumo.time.from_unix_timestamp(t.unix_timestamp), t == kumo.time.from_unix_timestamp(0),
        }
        """,
    )
    assert result == [
        "2000-01-02 03:04:05 UTC", 2000, 1, 2, 3, 4, 5, 946782245, 946782245000, "Sun, 2 Jan 2000 03:04:05 +0000",
        "2000-01-02T03:04:05+00:00", "userdata", True, True, True, False,
    ]  # fmt: skip


async def test_other_zones_and_fractions(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local k = kumo.time
        return {
          tostring(k.parse_rfc3339 '2000-01-02T03:04:05.25+02:00'),
          k.parse_rfc3339('2000-01-02t03:04:05.123456z').rfc3339,
          tostring(k.parse_rfc2822 '2 Jan 2000 03:04 -0530'), tostring(k.parse_rfc2822 'Sun, 2 Jan 2000 03:04:05 UTC'),
          tostring(k.from_unix_timestamp(0.5)), k.from_unix_timestamp(-1.5).unix_timestamp,
          k.from_unix_timestamp(-1.5).unix_timestamp_millis, tostring(k.from_unix_timestamp(-1.5)),
        }
        """,
    )
    assert result == [
        "2000-01-02 01:04:05.250 UTC", "2000-01-02T03:04:05.123456+00:00", "2000-01-02 08:34:00 UTC",
        "2000-01-02 03:04:05 UTC", "1970-01-01 00:00:00.500 UTC", -2, -1500, "1969-12-31 23:59:58.500 UTC",
    ]  # fmt: skip


async def test_sums_and_differences(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local epoch, half = kumo.time.from_unix_timestamp(0), kumo.time.from_unix_timestamp(0.5)
        local delta = half - epoch
        local three = delta + delta + delta
        return {
          delta.seconds, delta.human, tostring(half + delta), tostring(half - kumo.time.parse_duration(0.5)),
          three.seconds, (three - delta).nanoseconds, (three - delta).microseconds, (three - delta).milliseconds,
          (epoch - half).seconds, (epoch - half).human, (epoch - half).milliseconds, tostring(half - '1m'),
        }
        """,
    )
    assert result == [
        0.5, "500ms", "1970-01-01 00:00:01 UTC", "1970-01-01 00:00:00 UTC", 1.5, 1000000000, 1000000, 1000, -0.5,
        "-500ms", -500, "1969-12-31 23:59:00.500 UTC",
    ]  # fmt: skip


async def test_durations(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local d = kumo.time.parse_duration
        return {
          d(2.5).seconds, d(2).seconds, d(2) == d '2s', d(0.1) + d(0.2) == d(0.3),
          d '5 mins'.human, tostring(d '5 mins'),
          d(-90).human, d(-1.5).milliseconds, d(d '1h').seconds, d '1us 500ns'.microseconds, d '1us 500ns'.nanoseconds,
          d(2) ~= d(3), type(d(1)),
        }
        """,
    )
    assert result == [2.5, 2, True, True, "5m", "5m", "-1m 30s", -1500, 3600, 1, 1500, True, "userdata"]


async def test_now_is_the_nodes_clock(policy: MakePolicy, autojump_clock: trio.testing.MockClock) -> None:
    result = await run(
        policy,
        """
        local start = kumo.time.now()
        kumo.time.sleep(1.5)
        local later = kumo.time.now()
        return {
          start.unix_timestamp, (later - start).seconds, start.elapsed.human, later.elapsed.seconds, start ~= later,
        }
        """,
    )
    assert result == [1_800_000_000, 1.5, "1s 500ms", 0, True]


async def test_timers_measure_what_is_done(
    policy: MakePolicy, autojump_clock: trio.testing.MockClock
) -> None:
    lua = policy(
        """
        kumo.on('mine', function()
          local timer = kumo.time.start_timer 'work'
          kumo.time.start_timer 'forgotten'
          kumo.sleep(2)
          local first, second = timer:done(), timer:done()
          do
            local other <close> = kumo.time.start_timer 'work'
            kumo.sleep(20)
          end
          return { first, second == nil, type(timer) }
        end)
        """
    )
    await lua.load()
    assert await lua.ask("mine") == [2, True, "userdata"]
    measured = lua.env.state(UserLatencies)
    assert list(measured) == ["work"]
    assert measured["work"].sum == 22
    assert measured["work"].counts == [0] * 8 + [1, 0, 0, 1]
    lua.close()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "kumo.time.with_ymd_hms(2023, 2, 29, 0, 0, 0)",
            "policy.lua:3: kumo.time.with_ymd_hms: there is no 2023-02-29",
        ),
        ("kumo.time.with_ymd_hms(2023, 2)", "argument 'day' must be an integer, got nil"),
        ("kumo.time.from_unix_timestamp 'x'", "argument 'seconds' must be a number, got string 'x'"),
        ("kumo.time.from_unix_timestamp(1e18)", "the time must lie in the years 1 to 9999"),
        ("kumo.time.from_unix_timestamp(0 / 0)", "the time must lie in the years 1 to 9999"),
        ("kumo.time.parse_rfc3339 '2000-01-02'", "'2000-01-02' is not an RFC 3339 time"),
        ("kumo.time.parse_rfc2822 'yesterday'", "kumo.time.parse_rfc2822: 'yesterday' is not a date"),
        (
            "kumo.time.parse_duration 'x'",
            "kumo.time.parse_duration: argument 'value' must be a duration: 'x' is not",
        ),
        ("kumo.time.parse_duration(1e300)", "a TimeDelta cannot be longer than 292 years"),
        ("local _ = kumo.time.now() + 'x'", "Time.add: argument 'span' must be a duration"),
        ("local _ = kumo.time.now() - {}", "Time.sub: argument 'other' must be a Time or a duration"),
        ("local _ = kumo.time.now().weekday", "a Time has no method or field 'weekday'"),
        ("local _ = kumo.time.parse_duration(1) + 1", "a TimeDelta can be added to"),
        ("local _ = kumo.time.parse_duration(1).hours", "a TimeDelta has seconds, milliseconds"),
        ("kumo.time.sleep(-1)", "cannot sleep for -1 seconds"),
        ("kumo.time.start_timer(nil)", "argument 'label' must be a string, got nil"),
    ],
)
async def test_misuse_is_explained(policy: MakePolicy, code: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code)
    assert problem in str(caught.value)


WHEN = datetime(2001, 7, 8, 0, 34, 59, 26490, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("%Y-%C-%y-%q", "2001-20-01-3"),
        ("%m %b %B %h", "07 Jul July Jul"),
        ("%d|%e|%-d|%_d|%0e", "08| 8|8| 8|08"),
        ("%a %A %w %u", "Sun Sunday 0 7"),
        ("%U %W %G %g %V %j", "27 27 2001 01 27 189"),
        ("%D %x %F %v", "07/08/01 07/08/01 2001-07-08  8-Jul-2001"),
        ("%H %k %I %l %P %p %M %S", "00  0 12 12 am AM 34 59"),
        ("%f %.f %.3f %.6f %.9f", "026490000 .026490 .026 .026490 .026490000"),
        ("%3f %6f %9f", "026 026490 026490000"),
        ("%R %T %X %r", "00:34 00:34:59 00:34:59 12:34:59 AM"),
        ("%Z %z %:z %::z %:::z", "UTC +0000 +00:00 +00:00:00 +00"),
        ("%c", "Sun Jul  8 00:34:59 2001"),
        ("%+ %s", "2001-07-08T00:34:59.026490+00:00 994552499"),
        ("a%tb%nc%%", "a\tb\nc%"),
        ("%H:%M:%S%", "00:34:59%"),
        ("%Q %-A %E %5f é", "%Q %-A %E %5f é"),
        ("", ""),
    ],
)
def test_formats_of_chrono(spec: str, text: str) -> None:
    assert chrono_format(WHEN, spec) == text


async def test_a_time_is_formatted(policy: MakePolicy) -> None:
    code = "local t = kumo.time.with_ymd_hms(2000, 1, 2, 3, 4, 5) return { t:format '%H:%M:%S%', t:format '%.3f %:z' }"
    assert await run(policy, code) == ["03:04:05%", ".000 +00:00"]


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1000, 1, 1)))
def test_formats_that_c_knows_too(when: datetime) -> None:
    for letter in "YCymdewuUWGgVjHIMSbBaAT":
        assert chrono_format(when, f"%{letter}") == when.strftime(f"%{letter}"), letter


def test_whole_seconds_have_no_fraction() -> None:
    whole = WHEN.replace(microsecond=0)
    assert chrono_format(whole, "%.f|%+|%.3f") == "|2001-07-08T00:34:59+00:00|.000"
    assert chrono_format(WHEN.replace(microsecond=500_000), "%.f") == ".500"
    assert chrono_format(whole.replace(hour=13), "%I %p %l %P") == "01 PM  1 pm"
