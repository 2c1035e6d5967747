"""The ceilings that a configuration amounts to."""

from __future__ import annotations

from typing import Any

import pytest

from kumo_py.core.options import convert
from kumo_py.queue.config import EgressPath, QueueConfig
from kumo_py.queue.constraints import Ceiling, describe, path_constraints, queue_constraints, tightest


def path(**options: Any) -> EgressPath:
    return convert(options, EgressPath, "test")


def queue(**options: Any) -> QueueConfig:
    return convert(options, QueueConfig, "test")


def shown(ceiling: Ceiling | None) -> tuple[str, str | None, str] | None:
    return ceiling and (ceiling.source.kind, ceiling.source.name, ceiling.display)


def test_the_defaults_limit_connections_only() -> None:
    found = path_constraints(path())
    assert shown(found.max_concurrent_dispatchers) == ("primary", None, "32")
    assert found.max_concurrent_dispatchers.value == 32.0
    assert (found.max_message_rate, found.max_connection_rate, found.max_source_selection_rate) == (None,) * 3


def test_the_lowest_rate_counts_whatever_its_unit() -> None:
    found = path_constraints(
        path(
            max_message_rate="1000/s",
            additional_message_rate_throttles={"hourly": "10/hr", "minutes": "8/min", "seconds": "5/s"},
            connection_limit=10,
            additional_connection_limits={"small": "local:4", "large": 100},
            additional_source_selection_rates={"one": "2/s"},
            source_selection_rate="100/m",
        )
    )
    assert shown(found.max_message_rate) == ("additional", "hourly", "10/h")
    assert found.max_message_rate is not None
    assert found.max_message_rate.value == pytest.approx(10 / 3600)
    assert found.max_message_rate_declared == "1000/s"
    assert shown(found.max_concurrent_dispatchers) == ("additional", "small", "4")
    assert shown(found.max_source_selection_rate) == ("primary", None, "100/m")


def test_a_limit_of_the_same_height_does_not_replace_the_paths_own() -> None:
    found = path_constraints(path(connection_limit=4, additional_connection_limits={"same": 4}))
    assert shown(found.max_concurrent_dispatchers) == ("primary", None, "4")


def test_few_connections_with_few_messages_each() -> None:
    options = {
        "max_message_rate": "1000/s",
        "max_deliveries_per_connection": 10,
        "max_connection_rate": "10/s",
    }
    found = path_constraints(path(**options))
    assert shown(found.max_message_rate) == ("reconnect_cycling", None, "10 × 10/s = 100/s")
    assert found.max_message_rate_declared == "1000/s"
    assert describe(found) == (
        "ceilings:\n"
        "  concurrent dispatchers: 32\n"
        "    source: connection_limit\n"
        "  message rate:           10 × 10/s = 100/s\n"
        "    source: max_deliveries_per_connection × max_connection_rate\n"
        "    declared: max_message_rate = 1000/s ← effectively unreachable\n"
        "  connection rate:        10/s\n"
        "    source: max_connection_rate\n"
    )
    options["max_message_rate"] = "50/s"
    found = path_constraints(path(**options))
    assert shown(found.max_message_rate) == ("primary", None, "50/s")
    assert found.max_message_rate_declared is None


def test_the_scheduled_queue_may_be_the_tightest() -> None:
    both = tightest(
        path_constraints(path(max_message_rate="100/s")), queue_constraints(queue(max_message_rate="5/s"))
    )
    assert shown(both.max_message_rate) == ("other", "scheduled queue max_message_rate", "5/s")
    assert both.max_message_rate_declared == "100/s"
    assert shown(both.max_concurrent_dispatchers) == ("primary", None, "32")
    assert "source: scheduled queue max_message_rate" in describe(both)
    both = tightest(
        path_constraints(path(max_message_rate="5/s")), queue_constraints(queue(max_message_rate="6/s"))
    )
    assert shown(both.max_message_rate) == ("primary", None, "5/s")
    assert both.max_message_rate_declared is None
    assert tightest(path_constraints(path()), queue_constraints(queue())).max_message_rate is None
