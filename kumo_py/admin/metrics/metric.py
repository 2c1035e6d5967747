"""What is known of a metric before there is a node: KumoMTA prints that for `--dump-metric-metadata`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kumo_py.admin.exposition import Family
from kumo_py.core.histogram import SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kumo_py.admin.exposition import Sample
    from kumo_py.core.histogram import Histogram


class Metric(NamedTuple):
    """A name, and what it means. KumoMTA's metrics have KumoMTA's names, kinds and labels."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    """One line."""
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets."""
    pruned: bool = False
    """Its samples go with what they are about."""

    def of(self, samples: Iterable[Sample]) -> Family:
        return Family(self.name, self.kind, self.help, self.labels, samples)

    def value(self, value: float | Histogram | None) -> Family:
        """Of a metric without labels; None is no sample."""
        return self.of(() if value is None else (((), value),))

    def each(self, values: Mapping[Any, Any], number: Callable[[Any], float] | None = None) -> Family:
        """A sample for each value of the label, or of all labels; read later, until when nothing may change."""
        return self.of(
            (key if isinstance(key, tuple) else (key,), value if number is None else number(value))
            for key, value in values.items()
        )


def counter(name: str, help_: str, *labels: str, pruned: bool = False) -> Metric:
    return Metric(name, "counter", help_, labels, (), pruned)


def gauge(name: str, help_: str, *labels: str, pruned: bool = False) -> Metric:
    return Metric(name, "gauge", help_, labels, (), pruned)


def seconds(name: str, help_: str, *labels: str, bounds: tuple[float, ...] = SECONDS) -> Metric:
    """A histogram of durations."""
    return Metric(name, "histogram", help_, labels, bounds)
