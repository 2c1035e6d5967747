"""Metrics as text and as JSON; prometheus-client reads the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from kumo_py.admin.exposition import Family, stream_json, stream_text
from kumo_py.core.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

HOSTILE = 'a"b\\c\nd{e}, f="g"\x00 é'


def families() -> list[Family]:
    one = Histogram((0.5, 1.0))
    one.counts, one.sum = [1, 2, 3], 12.5
    return [
        Family("plain", "gauge", "A number", (), [((), 17)]),
        Family("nothing", "gauge", "No number", (), []),
        Family("total_messages", "counter", "By service", ("service",), [(("a",), 1), ((HOSTILE,), 2)]),
        Family("pairs", "gauge", "Of two labels", ("x", "y"), [(("1", "2"), 3), (("4", "5"), 6.5)]),
        Family("empty", "counter", "Of no queue", ("queue",), []),
        Family("latency", "histogram", "Seconds", ("event",), [(("init",), one)]),
        Family("total_latency", "histogram", "Seconds", (), [((), one)]),
    ]


async def joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def test_text() -> None:
    text = (await joined(stream_text(families()))).decode()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert [(s.name, s.labels, s.value) for s in found["plain"].samples] == [("plain", {}, 17.0)]
    assert found["plain"].documentation == "A number"
    assert "# TYPE nothing gauge\n# HELP" in text
    assert [(s.labels, s.value) for s in found["total_messages"].samples] == [
        ({"service": "a"}, 1.0),
        ({"service": HOSTILE}, 2.0),
    ]
    assert "total_messages_total" not in text
    assert [(s.labels, s.value) for s in found["pairs"].samples] == [
        ({"x": "1", "y": "2"}, 3.0),
        ({"x": "4", "y": "5"}, 6.5),
    ]
    assert text[text.index("# TYPE latency") :] == (
        "# TYPE latency histogram\n"
        'latency_bucket{event="init",le="0.5"} 1\n'
        'latency_bucket{event="init",le="1"} 3\n'
        'latency_bucket{event="init",le="+Inf"} 6\n'
        'latency_sum{event="init"} 12.5\n'
        'latency_count{event="init"} 6\n'
        "# HELP total_latency Seconds\n"
        "# TYPE total_latency histogram\n"
        'total_latency_bucket{le="0.5"} 1\n'
        'total_latency_bucket{le="1"} 3\n'
        'total_latency_bucket{le="+Inf"} 6\n'
        "total_latency_sum 12.5\n"
        "total_latency_count 6\n"
    )


async def test_text_with_a_prefix() -> None:
    text = (await joined(stream_text(families(), "kumo_"))).decode()
    assert all(line.startswith(("kumo_", "# HELP kumo_", "# TYPE kumo_")) for line in text.splitlines())


async def test_json() -> None:
    found = orjson.loads(await joined(stream_json(families())))
    histogram = {"count": 6, "sum": 12.5, "avg": 12.5 / 6, "bucket": [[0.5, 1], [1.0, 3]]}
    assert found == {
        "plain": {"help": "A number", "type": "gauge", "value": 17},
        "nothing": {"help": "No number", "type": "gauge", "value": None},
        "total_messages": {
            "help": "By service",
            "type": "counter",
            "value": {"service": {"a": 1, HOSTILE: 2}},
        },
        "pairs": {
            "help": "Of two labels",
            "type": "gauge",
            "value": [{"x": "1", "y": "2", "@": 3}, {"x": "4", "y": "5", "@": 6.5}],
        },
        "empty": {"help": "Of no queue", "type": "counter", "value": None},
        "latency": {"help": "Seconds", "type": "histogram", "value": {"event": {"init": histogram}}},
        "total_latency": {"help": "Seconds", "type": "histogram", "value": histogram},
    }


async def test_nothing_at_all() -> None:
    assert await joined(stream_text([])) == b""
    assert orjson.loads(await joined(stream_json([]))) == {}


@pytest.mark.parametrize("labels", [("queue",), ("queue", "pool")])
async def test_many_samples_come_in_pieces_while_others_run(labels: tuple[str, ...]) -> None:
    count = 5000

    def family() -> Family:
        samples: Iterable[Any] = ((tuple(f"{label}{n}" for label in labels), n) for n in range(count))
        return Family("scheduled_count", "gauge", "Messages", labels, samples)

    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        text = [piece async for piece in stream_text([family()])]
        pieces = [piece async for piece in stream_json([family()])]
        nursery.cancel_scope.cancel()
    assert b"".join(text).count(b"\nscheduled_count{") == count
    value = orjson.loads(b"".join(pieces))["scheduled_count"]["value"]
    assert len(value["queue"] if len(labels) == 1 else value) == count
    assert max(map(len, [*text, *pieces])) < 64 * 1024
    assert turns >= len(text) + len(pieces) - 4
    assert len(text) > 2
