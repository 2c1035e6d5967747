"""Turns: who waits for a throttle comes one after the other."""

from __future__ import annotations

from kumo_py.limits.turns import MOST, Turns


def test_those_who_wait_come_one_after_the_other() -> None:
    turns = Turns()
    assert [turns.next("k", 100.0, 0.5, 0.125) for _ in range(3)] == [100.5, 100.625, 100.75]
    assert turns.next("other", 100.0, 0.5, 0.125) == 100.5


def test_nobody_is_sent_away_for_long() -> None:
    turns = Turns()
    given = [turns.next("k", 100.0, 0.25, 0.5) for _ in range(5)]
    assert given == [100.25, 100.75, 101.0, 101.0, 101.0]
    assert turns.next("slow", 100.0, 4.0, 10.0) == 104.0
    assert turns.next("slow", 100.0, 4.0, 10.0) == 104.0
    assert turns.behind("k", 100.0, 0.5) == 100.0 + MOST


def test_who_comes_later_is_behind_those_who_wait() -> None:
    turns = Turns()
    assert turns.behind("k", 100.0, 0.25) is None
    turns.next("k", 100.0, 0.5, 0.25)
    assert turns.behind("k", 100.0, 0.25) == 100.75
    assert turns.behind("k", 100.25, 0.25) == 101.0
    assert turns.behind("k", 101.255, 0.25) == 101.25  # just late
    assert turns.behind("k", 102.0, 0.25) is None


def test_what_is_past_is_forgotten() -> None:
    turns = Turns()
    for number in range(5000):
        turns.next(f"k{number}", float(number), 0.5, 0.125)
    assert len(turns) < 1100
