"""Histograms: which bucket a value falls into, and what is timed."""

from __future__ import annotations

import pytest

from kumo_py.core.histogram import SECONDS, Histogram, together


def test_value_on_a_bound_belongs_below_it() -> None:
    found = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1, 100.0):
        found.observe(value)
    assert found.counts == [2, 2, 2]
    assert found.sum == pytest.approx(106.6)


def test_together() -> None:
    one, two = Histogram(), Histogram()
    one.observe(0.001)
    two.observe(0.001)
    two.observe(60.0)
    total = together([one, two])
    assert (total.counts[0], total.counts[-1], total.sum) == (2, 1, pytest.approx(60.002))
    assert together([]).counts == [0] * (len(SECONDS) + 1)
