"""The module `kumo.counter_series`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_host import run

from kumo_py.core.counter_series import MAX, CounterSeries
from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    import trio
    from policy_host import MakePolicy

DEFINE = "local series = kumo.counter_series.define { name = 's', num_buckets = 5, bucket_size = '2s' }\n"


async def test_counting(policy: MakePolicy) -> None:
    result = await run(
        policy,
        DEFINE
        + """
        series:delta(3) series:delta(-2)
        local one = series:sum()
        series:delta(-5)
        local none = series:sum()
        series:observe(42) series:increment(1)
        return { one, none, series:sum(), type(series) }
        """,
    )
    assert result == [1, 0, 43, "userdata"]


async def test_old_buckets_are_forgotten(policy: MakePolicy, autojump_clock: trio.testing.MockClock) -> None:
    result = await run(
        policy,
        DEFINE
        + """
        local sums = {}
        for n = 1, 6 do
          series:increment(n)
          sums[n] = series:sum()
          kumo.sleep(2)
        end
        local function over(span) return series:sum_over(span) end
        local overs = { over(0), over(1), over '3s', over(4), over(60) }
        kumo.sleep(60)
        return { sums, overs, series:sum() }
        """,
    )
    assert result == [[1, 3, 6, 10, 15, 20], [0, 0, 6, 6, 18], 0]


async def test_a_name_stands_for_one_series_until_its_shape_changes(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local function define(size, initial)
          return kumo.counter_series.define { name = 'x', num_buckets = 2, bucket_size = size, initial_value = initial }
        end
        local first = define('500ms', 7)
        local same, other = define(1, 9), nil
        same:increment(1)
        local sums = { first:sum(), same:sum() }
        other = define('1.2s', 3)
        sums[3], sums[4] = other:sum(), define('2s'):sum()
        return sums
        """,
    )
    assert result == [8, 8, 3, 3]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("series:increment(-1)", "policy.lua:4: series:increment: cannot add -1: use delta"),
        ("series:increment 'x'", "series:increment: argument 'by' must be an integer, got string 'x'"),
        ("series:observe(-1)", "series:observe: the value must be 0 or more, got -1"),
        ("series:sum_over 'x'", "argument 'duration' must be a duration"),
        (
            "kumo.counter_series.define { name = 'x', num_buckets = 0, bucket_size = 1 }",
            "num_buckets must be from 1",
        ),
        (
            "kumo.counter_series.define { name = 'x', num_buckets = 1, bucket_size = 0 }",
            "at least one second, got 0",
        ),
        (
            "kumo.counter_series.define { name = 'x', num_buckets = 1, bucket_size = 1, initial_value = -1 }",
            "initial_value must be 0 or more",
        ),
        ("kumo.counter_series.define { name = 'x', buckets = 1 }", "buckets"),
    ],
)
async def test_misuse_is_explained(policy: MakePolicy, code: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, DEFINE + code)
    assert problem in str(caught.value)


def test_buckets_are_full_at_last() -> None:
    series = CounterSeries(1, 1, 0.0, MAX)
    series.increment(0.5, 10)
    assert series.sum(0.5) == MAX
    series = CounterSeries(2, 1, 0.0, MAX)
    series.increment(1.5, 10)
    assert series.sum(1.5) == series.sum_over(1.5, 2) == MAX


async def test_full_buckets_have_a_number(policy: MakePolicy) -> None:
    assert (
        await run(policy, DEFINE + "series:observe(math.maxinteger) series:increment(1) return series:sum()")
        == MAX
    )


@given(
    st.integers(1, 6),
    st.integers(1, 3),
    st.lists(st.tuples(st.floats(0, 4), st.integers(0, 9)), max_size=30),
)
def test_it_counts_what_happened_in_the_latest_buckets(
    buckets: int, size: int, steps: list[tuple[float, int]]
) -> None:
    series = CounterSeries(buckets, size, 0.0)
    now, seen = 0.0, [(0.0, 0)]
    for wait, number in steps:
        now += wait
        series.increment(now, number)
        seen.append((now, number))
        for covered in range(1, buckets + 1):
            first = now // size - covered + 1
            assert series.sum_over(now, covered * size) == sum(n for when, n in seen if when // size >= first)
    assert series.sum(now) == series.sum_over(now, buckets * size)
