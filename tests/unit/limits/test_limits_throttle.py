"""Throttles admit what their spec says: no more in any window, and no less."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.limits.spec import ThrottleSpec
from kumo_py.limits.throttle import Throttles, ThrottleStatus

NOW = 1.7e9

specs = st.builds(
    ThrottleSpec,
    st.sampled_from([1, 2, 3, 7, 60, 1000, 999_983]),
    st.sampled_from([1, 60, 3600, 86_400, 7380]),
    st.none() | st.integers(0, 10),
)


def admitted_at_once(throttles: Throttles, spec: ThrottleSpec, now: float) -> int:
    count = 0
    while throttles.admit("k", spec, now) == 0.0:
        count += 1
    return count


@pytest.mark.parametrize(
    ("text", "burst"),
    [("6/m", 6), ("6/m,max_burst=1", 1), ("6/m,max_burst=4", 4), ("1/s", 1), ("100/s", 100)],
)
def test_the_burst_is_the_quantity_unless_said_otherwise(text: str, burst: int) -> None:
    assert admitted_at_once(Throttles(), ThrottleSpec.parse(text), NOW) == burst


def test_max_burst_1_spaces_evenly() -> None:
    spec, throttles = ThrottleSpec.parse("6/m,max_burst=1"), Throttles()
    assert throttles.admit("k", spec, NOW) == 0.0
    assert throttles.admit("k", spec, NOW) == pytest.approx(10.0, abs=1e-5)
    assert throttles.admit("k", spec, NOW + 9.99) == pytest.approx(0.01, abs=1e-5)
    assert throttles.admit("k", spec, NOW + 10.0) == 0.0
    assert throttles.admit("k", spec, NOW + 10.0) == pytest.approx(10.0, abs=1e-5)


def test_denied_requests_take_nothing() -> None:
    spec, throttles = ThrottleSpec.parse("1/m"), Throttles()
    assert throttles.admit("k", spec, NOW) == 0.0
    for second in range(60):
        assert throttles.admit("k", spec, NOW + second) > 0.0
    assert throttles.admit("k", spec, NOW + 60) == 0.0


def test_quantities() -> None:
    spec, throttles = ThrottleSpec.parse("10/s"), Throttles()
    assert throttles.admit("k", spec, NOW, 7) == 0.0
    assert throttles.admit("k", spec, NOW, 4) == pytest.approx(0.1, abs=1e-5)
    assert throttles.admit("k", spec, NOW, 3) == 0.0
    assert throttles.admit("k", spec, NOW, 11) == math.inf
    assert throttles.peek("k", spec, NOW, 11) == math.inf
    assert throttles.admit("new", spec, NOW, 0) == 0.0
    assert len(throttles) == 1


def test_names_and_specs_are_separate_counts() -> None:
    throttles = Throttles()
    spec, changed = ThrottleSpec.parse("1/h"), ThrottleSpec.parse("2/h")
    assert throttles.admit("a", spec, NOW) == 0.0
    assert throttles.admit("b", spec, NOW) == 0.0
    assert throttles.admit("a", changed, NOW) == 0.0
    assert throttles.admit("a", ThrottleSpec.parse("local:1/h"), NOW) > 0.0
    assert throttles.admit("a", spec, NOW) > 0.0


def test_status() -> None:
    spec, throttles = ThrottleSpec.parse("6/m"), Throttles()
    assert throttles.status("k", spec, NOW) == ThrottleStatus(limit=6, remaining=6, reset_after=0.0)
    throttles.admit("k", spec, NOW)
    assert throttles.status("k", spec, NOW) == ThrottleStatus(6, 5, 10.0)
    throttles.admit("k", spec, NOW, 5)
    assert throttles.status("k", spec, NOW) == ThrottleStatus(6, 0, 60.0)
    assert throttles.status("k", spec, NOW + 15) == ThrottleStatus(6, 1, 45.0)
    assert throttles.status("k", spec, NOW + 60) == ThrottleStatus(6, 6, 0.0)
    assert throttles.status("k", spec, NOW - 9999) == ThrottleStatus(6, 0, 60.0)
    assert len(throttles) == 1


def test_a_clock_that_steps_back_holds_up_nobody_for_long() -> None:
    spec, throttles = ThrottleSpec.parse("6/m"), Throttles()
    assert throttles.admit("k", spec, NOW) == 0.0
    earlier = NOW - 1e6
    assert throttles.peek("k", spec, earlier) == pytest.approx(10.0, abs=1e-5)
    assert throttles.admit("k", spec, earlier) == pytest.approx(10.0, abs=1e-5)
    assert throttles.admit("k", spec, earlier + 10.0) == 0.0
    assert admitted_at_once(throttles, spec, earlier + 70.0) == 6


gaps = st.lists(st.floats(0, 1e-3) | st.floats(0, 30) | st.floats(0, 1e5), min_size=1, max_size=60)


@given(specs, st.floats(0, 4e9), gaps, st.integers(1, 3))
def test_no_window_holds_more_than_burst_and_rate(
    spec: ThrottleSpec, start: float, gaps: list[float], quantity: int
) -> None:
    throttles = Throttles()
    taken: list[int] = []  # the nanosecond of each unit
    for now in accumulate(gaps, initial=start):
        for n in range(4):
            asked = 1 + (quantity + n) % 3
            if throttles.admit("k", spec, now, asked) == 0.0:
                taken += [int(now * 1e9)] * asked
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            beyond_burst = last - first + 1 - spec.burst
            assert beyond_burst * spec.period * 10**9 <= (taken[last] - begin) * spec.limit


@given(specs, st.floats(0, 4e9), gaps)
def test_a_retry_after_the_wait_succeeds_and_just_before_it_fails(
    spec: ThrottleSpec, now: float, gaps: list[float]
) -> None:
    throttles = Throttles()
    for gap in gaps:
        now += gap
        wait = throttles.peek("k", spec, now)
        assert throttles.admit("k", spec, now) == wait
        if wait:
            assert wait <= spec.interval + 1e-5
            early = now + wait - 1e-5
            if early > now:
                assert throttles.peek("k", spec, early) > 0.0
            now += wait
            assert throttles.peek("k", spec, now) == 0.0
            assert throttles.admit("k", spec, now) == 0.0


@pytest.mark.parametrize("start", [0.0, 1e5, 1.7e9])
@pytest.mark.parametrize(
    "text",
    ["7/s", "1000/s", "1000/s,max_burst=1", "100000/s", "3/m,max_burst=2", "1/3d", "999983/d,max_burst=1"],
)
def test_who_always_asks_again_gets_the_full_rate(text: str, start: float) -> None:
    spec, throttles = ThrottleSpec.parse(text), Throttles()
    now, count = start, 0
    while count < spec.burst + 5000:
        wait = throttles.admit("k", spec, now)
        if wait:
            now += wait
        else:
            count += 1
    assert count - spec.burst >= 0.99 * (now - start) / spec.interval


def test_memory_is_bounded_by_what_is_in_use() -> None:
    spec, throttles = ThrottleSpec.parse("1/s"), Throttles()
    longest = 0
    for n in range(20_000):
        throttles.admit(f"client-{n}", spec, NOW + n * 0.01)  # each in use for 1 s: 100 at a time
        longest = max(longest, len(throttles))
    assert longest <= 300


def test_what_is_in_use_is_never_forgotten() -> None:
    hourly, shortly, throttles = ThrottleSpec.parse("1/h"), ThrottleSpec.parse("1/s"), Throttles()
    throttles.admit("k", hourly, NOW)
    for n in range(3599):
        throttles.admit(f"client-{n}", shortly, NOW + n)
    assert throttles.admit("k", hourly, NOW + 3599) == pytest.approx(1.0, abs=1e-5)
    assert throttles.admit("k", hourly, NOW + 3600) == 0.0


@pytest.mark.parametrize("late", [0.0, 0.003, 0.009])
def test_who_comes_a_bit_late_loses_nothing(late: float) -> None:
    spec, throttles = ThrottleSpec.parse("100/s,max_burst=1"), Throttles()
    now, count, due = NOW, 0, None
    while now < NOW + 10:
        wait = throttles.admit("k", spec, now, due=due)
        count += wait == 0.0
        if wait:
            due = now + wait
            now = due + late
        else:
            due = None
    assert count == pytest.approx(1000, abs=2)


def test_who_comes_very_late_has_lost_its_turn_and_gains_one_at_most() -> None:
    spec, throttles = ThrottleSpec.parse("1000/s,max_burst=1"), Throttles()
    throttles.admit("k", spec, NOW)
    assert throttles.admit("k", spec, NOW + 5.0, due=NOW + 0.001) == 0.0
    assert admitted_at_once(throttles, spec, NOW + 5.0) == 1
    slow = ThrottleSpec.parse("1/s,max_burst=1")
    throttles.admit("k", slow, NOW)
    assert throttles.admit("k", slow, NOW + 3.0, due=NOW + 1.0) == 0.0
    assert throttles.admit("k", slow, NOW + 3.0) == pytest.approx(0.99, abs=0.001)
