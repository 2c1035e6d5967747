"""The timer wheel: never early, a tick late at most, nothing lost, cheap at a million."""

from __future__ import annotations

import math
import random
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.timer_wheel import TimerWheel


def test_items_come_out_when_they_are_due() -> None:
    wheel: TimerWheel[str] = TimerWheel(1.0, 100.0)
    wheel.insert(105.0, "b")
    wheel.insert(103.5, "a")
    wheel.insert(100.0, "past")
    wheel.insert(105.0, "c")
    assert len(wheel) == 4
    assert wheel.next_due() == 100.0
    assert wheel.advance(100.0) == ["past"]
    assert wheel.next_due() == 104.0
    assert wheel.advance(103.999) == []
    assert wheel.advance(104.0) == ["a"]
    assert wheel.next_due() == 105.0
    assert wheel.advance(200.0) == ["b", "c"]
    assert wheel.next_due() is None
    assert len(wheel) == 0


@pytest.mark.parametrize(
    ("wanted", "tick"), [(1.0, 1.0), (1.9, 1.0), (0.1, 0.0625), (0.5, 0.5), (60.0, 32.0), (0.001, 2.0**-10)]
)
def test_a_tick_is_a_power_of_two(wanted: float, tick: float) -> None:
    assert TimerWheel(wanted, 0.0).tick == tick


@pytest.mark.parametrize("tick", [0.0, -1.0, math.nan, math.inf])
def test_a_tick_must_be_above_zero(tick: float) -> None:
    with pytest.raises(ValueError, match="must be above zero"):
        TimerWheel(tick, 0.0)


@pytest.mark.parametrize("due", [math.nan, math.inf])
def test_a_due_time_must_be_finite(due: float) -> None:
    wheel: TimerWheel[int] = TimerWheel(1.0, 0.0)
    with pytest.raises((ValueError, OverflowError)):
        wheel.insert(due, 1)
    assert len(wheel) == 0


@pytest.mark.parametrize("due", [1.0, 1023.0, 1024.0, 1025.0, 2047.0, 2048.0, 1e6, 1e9, 1e12])
def test_a_window_boundary_makes_no_difference(due: float) -> None:
    wheel: TimerWheel[int] = TimerWheel(1.0, 0.0)
    wheel.insert(due, 1)
    assert wheel.advance(due - 0.5) == []
    assert wheel.advance(due) == [1]


def test_after_a_long_silence_everything_comes_in_order() -> None:
    wheel: TimerWheel[int] = TimerWheel(1.0, 0.0)
    dues = list(range(1, 10_000, 7))
    for due in reversed(dues):
        wheel.insert(due, due)
    assert wheel.advance(5e6) == dues


def test_a_clock_that_steps_back_does_no_harm() -> None:
    wheel: TimerWheel[str] = TimerWheel(1.0, 1000.0)
    wheel.insert(1005.0, "later")
    assert wheel.advance(10.0) == []
    wheel.insert(20.0, "past, as far as the wheel knows")
    assert wheel.advance(10.0) == ["past, as far as the wheel knows"]
    assert wheel.advance(1004.0) == []
    assert wheel.advance(1005.0) == ["later"]


def test_slices_go_on_while_the_wheel_changes() -> None:
    wheel: TimerWheel[int] = TimerWheel(1.0, 0.0)
    dues = [0.0] * 10 + [1.0 + number % 700 for number in range(2000)] + [3000.0] * 40
    for number, due in enumerate(dues):
        wheel.insert(due, number)
    assert sorted(item for piece in wheel.slices(64) for item in piece) == list(range(len(dues)))
    assert max(map(len, wheel.slices(64))) < 2 * 64
    seen = []
    for piece in wheel.slices(64):
        seen += piece
        wheel.insert(5000.0, -1)
        wheel.advance(len(seen))
    assert set(range(len(dues))) <= set(seen)
    assert list(TimerWheel(1.0, 0.0).slices(64)) == []


def test_iteration_and_draining() -> None:
    wheel: TimerWheel[int] = TimerWheel(1.0, 0.0)
    for due in (0, 1, 5, 5, 2000, 10**7):
        wheel.insert(due, due)
    assert sorted(wheel) == [0, 1, 5, 5, 2000, 10**7]
    assert sorted(wheel.drain()) == [0, 1, 5, 5, 2000, 10**7]
    assert len(wheel) == 0
    assert wheel.next_due() is None
    assert list(wheel) == wheel.drain() == wheel.advance(10.0**8) == []
    wheel.insert(10.0**8 + 1, 1)
    assert wheel.advance(10.0**8 + 1) == [1]


@given(
    st.sampled_from([0.001, 0.1, 1.0, 7.0]),
    st.floats(0, 2e9),
    st.lists(st.tuples(st.floats(-10, 5000), st.floats(0, 2000)), max_size=40),
)
def test_never_early_and_at_most_a_tick_late(
    tick: float, start: float, steps: list[tuple[float, float]]
) -> None:
    wheel: TimerWheel[float] = TimerWheel(tick, start)
    now = start
    waiting: list[float] = []
    for delay, pause in steps:
        due = now + delay
        wheel.insert(due, due)
        waiting.append(due)
        earliest = wheel.next_due()
        assert earliest is not None
        assert earliest - max(min(waiting), now) <= wheel.tick
        now += pause
        for item in wheel.advance(now):
            assert item <= now
            waiting.remove(item)
        assert all(now - item <= wheel.tick for item in waiting)
        assert len(wheel) == len(waiting)
    assert sorted(wheel.drain()) == sorted(waiting)


@given(st.sampled_from([0.1, 1.0]), st.lists(st.floats(0, 1e5), max_size=40))
def test_sleeping_until_next_due_gets_everything_out(tick: float, dues: list[float]) -> None:
    wheel: TimerWheel[float] = TimerWheel(tick, 0.0)
    for due in dues:
        wheel.insert(due, due)
    out: list[float] = []
    last = -1.0
    while (now := wheel.next_due()) is not None:
        assert now > last
        last = now
        taken = wheel.advance(now)
        assert all(0 <= now - item <= wheel.tick for item in taken)
        out += taken
    assert sorted(out) == sorted(dues)


def test_a_million_items_are_cheap() -> None:
    count = 1_000_000
    now = 1.7e9
    randomly = random.Random(1)
    dues = [now + randomly.random() * 86_400 for _ in range(count)]
    item = object()
    wheel: TimerWheel[object] = TimerWheel(0.25, now)
    started = time.process_time()
    for due in dues:
        wheel.insert(due, item)
    assert len(wheel.advance(now + 86_401)) == count
    assert time.process_time() - started < 3.0

    tracemalloc.start()
    for due in dues[::10]:
        wheel.insert(due + 86_401, item)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 16 * count / 10


def test_a_snapshot_stays_what_it_was() -> None:
    wheel: TimerWheel[int] = TimerWheel(0.05, 0.0)
    for number in range(3000):
        wheel.insert(number * 0.1, number)
    wheel.insert(-1.0, -1)
    shot = wheel.snapshot()
    for now in (0.5, 20.0, 100.0, 1000.0):
        wheel.advance(now)
        wheel.insert(0.0, 5000)
        wheel.insert(now + 40.0, 5001)
    wheel.drain()
    assert sorted(item for items, size in shot for item in items[:size]) == list(range(-1, 3000))
