"""The retry schedule: KumoMTA's formulas."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.duration import Duration
from kumo_py.message.scheduling import Moment
from kumo_py.queue.config import QueueConfig
from kumo_py.queue.retry import (
    delay_after,
    delay_at_start_up,
    elapsed_after,
    infer_attempts,
    jitter,
    past_expires,
    past_max_age,
)

DEFAULT = QueueConfig()
MINUTE = 60.0


@pytest.mark.parametrize(
    ("attempts", "minutes"), [(0, 20), (1, 40), (2, 80), (3, 160), (4, 320), (5, 640), (6, 1280)]
)
def test_delay_doubles_with_each_attempt(attempts: int, minutes: int) -> None:
    assert delay_after(DEFAULT, attempts) == minutes * MINUTE


def test_max_retry_interval_caps_the_delay() -> None:
    config = QueueConfig(max_retry_interval=Duration(3600))
    assert [delay_after(config, n) for n in range(4)] == [1200, 2400, 3600, 3600]


def test_delay_is_whole_seconds() -> None:
    assert delay_after(QueueConfig(retry_interval=Duration(2.9)), 1) == 4


@pytest.mark.parametrize(("interval", "bound"), [(1200, 29), (60, 1), (86400, 29), (10, 0)])
def test_jitter_stays_within_half_of_a_twentieth(interval: float, bound: int) -> None:
    config = QueueConfig(retry_interval=Duration(interval))
    random = Random(1)
    drawn = [jitter(config, random) for _ in range(2000)]
    assert all(value.is_integer() and abs(value) <= bound for value in drawn)
    assert min(drawn) == -bound
    assert max(drawn) == bound


@pytest.mark.parametrize(
    ("age_minutes", "attempts"), [(0, 0), (19, 0), (20, 1), (59, 1), (60, 2), (139, 2), (140, 3)]
)
def test_attempts_are_inferred_from_age(age_minutes: int, attempts: int) -> None:
    assert infer_attempts(DEFAULT, age_minutes * MINUTE) == attempts


def test_start_up_due_is_creation_plus_the_delays_of_attempts_one_to_n_minus_one() -> None:
    # Three attempts: 40 and 80 minutes after creation's own interval are counted, the first 20 are not.
    assert delay_at_start_up(DEFAULT, 3, 100 * MINUTE) == 20 * MINUTE
    assert delay_at_start_up(DEFAULT, 3, 130 * MINUTE) == 0.0
    assert delay_at_start_up(DEFAULT, 0, 5 * MINUTE) == 0.0


def test_a_message_is_given_up_for_a_reason_that_names_the_limit() -> None:
    config = QueueConfig(max_age=Duration(3600))
    assert past_max_age(config, 4000) == (
        "Next delivery time would be 1h 6m 40s after creation, which exceeds max_age=1h"
    )
    expires = Moment("2026-03-01T12:00:00+01:00")
    assert past_expires(expires, expires.unix - 1) is None
    assert past_expires(expires, expires.unix) == (
        "Next delivery time would be at 2026-03-01T11:00:00Z which exceeds the expiry time "
        "2026-03-01T12:00:00+01:00 configured via set_scheduling"
    )


@given(st.floats(0, 10 * 86400), st.integers(1, 5000), st.one_of(st.none(), st.integers(1, 5000)))
def test_inferred_attempts_fit_into_the_age(age: float, interval: int, cap: int | None) -> None:
    config = QueueConfig(
        retry_interval=Duration(interval), max_retry_interval=None if cap is None else Duration(cap)
    )
    attempts = infer_attempts(config, age)
    elapsed = elapsed_after(config, attempts)
    assert elapsed <= age < elapsed + delay_after(config, attempts)


@given(st.integers(0, 60), st.integers(1, 5000), st.one_of(st.none(), st.integers(1, 50000)))
def test_elapsed_is_the_sum_of_the_delays(attempts: int, interval: int, cap: int | None) -> None:
    config = QueueConfig(
        retry_interval=Duration(interval), max_retry_interval=None if cap is None else Duration(cap)
    )
    assert elapsed_after(config, attempts) == sum(delay_after(config, n) for n in range(attempts))
