from __future__ import annotations

import math
import random

import pytest

from traffic_gen.histogram import Histogram


def exact(values: list[float], percentile: float) -> float:
    """Nearest rank."""
    return sorted(values)[math.ceil(percentile / 100 * len(values)) - 1]


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def test_empty_histogram_gives_zeroes() -> None:
    histogram = Histogram()
    assert histogram.percentiles(50, 99) == [0.0, 0.0]
    assert histogram.mean == 0.0


def test_small_values_are_exact() -> None:
    histogram = filled([micros / 1e6 for micros in range(1, 101)])
    assert histogram.percentiles(1, 50, 95, 99, 100) == pytest.approx([1e-6, 50e-6, 95e-6, 99e-6, 100e-6])
    assert histogram.mean == pytest.approx(50.5e-6)


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0, 50.0])
def test_percentiles_are_within_a_fifth_of_a_percent(scale: float) -> None:
    draw = random.Random(7)
    values = [draw.expovariate(1 / scale) for _ in range(20_000)]
    histogram = filled(values)
    for percentile in (50, 75, 95, 99, 99.9):
        (found,) = histogram.percentiles(percentile)
        assert found == pytest.approx(exact(values, percentile), rel=0.002, abs=1.5e-6)
    assert histogram.largest == max(values)


def test_percentiles_never_exceed_the_largest_value() -> None:
    histogram = filled([1.2345678])
    assert histogram.percentiles(50, 100) == pytest.approx([1.2345678] * 2, rel=0.002)
    assert max(histogram.percentiles(50, 100)) <= 1.2345678


def test_out_of_range_values_are_counted_at_the_ends() -> None:
    histogram = filled([-1.0, 1e9])
    assert histogram.count == 2
    assert histogram.percentiles(50) == [0.0]


def test_histograms_add_up() -> None:
    draw = random.Random(1)
    values = [draw.random() for _ in range(1000)]
    parts = filled(values[:300])
    parts.add(filled(values[300:]))
    whole = filled(values)
    assert parts.buckets == whole.buckets
    assert (parts.count, parts.largest) == (whole.count, whole.largest)
    assert parts.mean == pytest.approx(whole.mean)
