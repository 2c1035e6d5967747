"""Counting how values are spread, for Prometheus: plain numbers, which are read when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds that KumoMTA has for nearly everything."""


class Histogram:
    """Counts values by the least bound that is not below them; the last count is of those above all bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


def together(several: Iterable[Histogram]) -> Histogram:
    """One histogram of what several of the usual bounds have counted."""
    total = Histogram()
    for one in several:
        total.counts = [count + more for count, more in zip(total.counts, one.counts, strict=True)]
        total.sum += one.sum
    return total
