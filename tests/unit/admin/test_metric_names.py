"""KumoMTA's metrics: each is here with its kind, labels and buckets, or the documentation says why it is not."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from kumo_py.admin.metrics import METRICS

HERE = {metric.name: metric for metric in METRICS}
README = (Path(__file__).parents[3] / "docs" / "monitoring" / "README.md").read_text()
with (Path(__file__).parent / "kumomta_metrics.tsv").open() as table:
    KUMOMTA = list(csv.DictReader(table, delimiter="\t"))


@pytest.mark.parametrize("theirs", KUMOMTA, ids=lambda row: row["name"])
def test_metric_of_kumomta(theirs: dict[str, str]) -> None:
    ours = HERE.get(theirs["name"])
    if ours is None:
        absent = README.partition("## KumoMTA's metrics that a kumo-py node has not")[2].partition(
            "And some"
        )[0]
        assert f"`{theirs['name']}`" in absent
        return
    assert ours.kind == theirs["kind"]
    assert list(ours.labels) == [label for label in theirs["labels"].split(",") if label]
    assert list(ours.bounds) == [float(bound) for bound in theirs["buckets"].split(",") if bound]
    assert ours.pruned == (theirs["pruned"] == "yes")


def test_names_of_our_own() -> None:
    known = {row["name"] for row in KUMOMTA}
    for metric in METRICS:
        assert re.fullmatch("[a-z][a-z0-9_]*", metric.name)
        assert metric.help
        assert "\n" not in metric.help
        if metric.name not in known:
            assert metric.name.startswith(("kumo_py_", "process_"))
            assert (metric.kind == "counter") == metric.name.endswith("_total")


def test_no_name_is_given_twice() -> None:
    assert len(HERE) == len(METRICS)
