"""Metrics as text for Prometheus (its text format 0.0.4) and as KumoMTA's JSON.

Written here because prometheus-client takes five times as long, and adds `_total` to the names of counters, which
KumoMTA's don't have. Big families are written in slices, so that a node with 100,000 queues goes on meanwhile.
"""

from __future__ import annotations

from itertools import accumulate, islice
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import orjson
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

_SLICE = 256
"""Samples written in one go before other tasks get a turn."""
_PIECE = 16 * 1024
"""Octets that are worth a write."""
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Histogram(NamedTuple):
    """Upper bounds, a count for each and one for what is above, and the sum of all that was counted."""

    bounds: Sequence[float]
    counts: Sequence[int]
    sum: float


Sample: TypeAlias = "tuple[tuple[str, ...], float | Histogram]"


class Family(NamedTuple):
    """A metric: its samples have a value for each label. `samples` is read once."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]
    samples: Iterable[Sample]


async def stream_text(families: Iterable[Family], prefix: str = "") -> AsyncGenerator[bytes, None]:
    """`prefix` goes before each name."""
    parts: list[str] = []
    size = 0
    for family in families:
        name = prefix + family.name
        parts.append(f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n")
        for some in _slices(family.samples):
            text = "".join([_lines(name, family.labels, values, value) for values, value in some])
            parts.append(text)
            size += len(text)
            if size >= _PIECE:
                yield "".join(parts).encode("utf-8", "replace")
                parts.clear()
                size = 0
                await trio.lowlevel.checkpoint()
    yield "".join(parts).encode("utf-8", "replace")


def _lines(name: str, names: tuple[str, ...], values: tuple[str, ...], value: float | Histogram) -> str:
    labels = ",".join(
        [f'{label}="{text.translate(_ESCAPES)}"' for label, text in zip(names, values, strict=True)]
    )
    if type(value) is not Histogram:
        return f"{name}{{{labels}}} {value}\n" if labels else f"{name} {value}\n"
    before = f"{name}_bucket{{{labels}{',' if labels else ''}le="
    totals = list(accumulate(value.counts))
    lines = [f'{before}"{bound}"}} {total}\n' for bound, total in zip(value.bounds, totals, strict=False)]
    braced = f"{{{labels}}}" if labels else ""
    lines.append(f'{before}"+Inf"}} {totals[-1]}\n')
    lines.append(f"{name}_sum{braced} {value.sum}\n{name}_count{braced} {totals[-1]}\n")
    return "".join(lines)


async def stream_json(families: Iterable[Family]) -> AsyncGenerator[bytes, None]:
    """One object: a key for each metric, with help, type and value.

    The value is null without samples, a number without labels, {label: {value: number}} for one label, and a list of
    objects with the labels and the number as "@" for more.
    """
    before = b"{"
    for family in families:
        head = orjson.dumps({"help": family.help, "type": family.kind})[:-1]
        yield before + orjson.dumps(family.name) + b":" + head + b',"value":'
        before = b",\n"
        async for piece in _json_value(family):
            yield piece
        yield b"}"
    yield b"{}" if before == b"{" else b"}"


async def _json_value(family: Family) -> AsyncGenerator[bytes, None]:
    slices = _slices(family.samples)
    first = next(slices, None)
    if first is None:
        yield b"null"
        return
    if not family.labels:
        yield orjson.dumps(_plain(first[0][1]))
        return
    one = len(family.labels) == 1
    yield b'{"%s":{' % family.labels[0].encode() if one else b"["
    comma = b""
    some: list[Sample] | None = first
    while some is not None:
        if one:
            text = orjson.dumps({values[0]: _plain(value) for values, value in some})
        else:
            text = orjson.dumps(
                [
                    dict(zip(family.labels, values, strict=True), **{"@": _plain(value)})
                    for values, value in some
                ]
            )
        yield comma + text[1:-1]
        comma = b","
        await trio.lowlevel.checkpoint()
        some = next(slices, None)
    yield b"}}" if one else b"]"


def _plain(value: float | Histogram) -> object:
    if type(value) is not Histogram:
        return value
    totals = list(accumulate(value.counts))
    count = totals[-1]
    return {
        "count": count,
        "sum": value.sum,
        "avg": value.sum / count if count else 0.0,
        "bucket": [list(pair) for pair in zip(value.bounds, totals, strict=False)],
    }


def _slices(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    remaining = iter(samples)
    while some := list(islice(remaining, _SLICE)):
        yield some
