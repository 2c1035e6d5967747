"""Metrics as text for Prometheus (its text format 0.0.4) and as KumoMTA's JSON.

Written here because prometheus-client takes five times as long, and adds `_total` to the names of counters, which
KumoMTA's don't have. Big families are written in slices, so that a node with 100,000 queues goes on meanwhile.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import orjson
import trio

from kumo_py.core.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

_SLICE = 256
"""Samples written in one go before other tasks get a turn."""
_PIECE = 48 * 1024
"""Octets that are worth a write."""
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


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
        openings = [f'{label}="' for label in family.labels]
        for some in _slices(family.samples):
            text = "".join([_lines(name, openings, values, value) for values, value in some])
            parts.append(text)
            size += len(text)
            if size >= _PIECE:
                yield "".join(parts).encode("utf-8", "replace")
                parts.clear()
                size = 0
                await trio.lowlevel.checkpoint()
    yield "".join(parts).encode("utf-8", "replace")


def _lines(name: str, openings: list[str], values: tuple[str, ...], value: float | Histogram) -> str:
    """`openings`: of each label, up to its value."""
    if not openings:
        labels = braced = ""
    elif len(openings) == 1:
        labels = f'{openings[0]}{_escaped(values[0])}"'
        braced = f"{{{labels}}}"
    else:
        labels = ",".join([f'{openings[i]}{_escaped(text)}"' for i, text in enumerate(values)])
        braced = f"{{{labels}}}"
    if not isinstance(value, Histogram):
        return f"{name}{braced} {value}\n"
    before = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
    *totals, count = accumulate(value.counts)
    shown = _bounds_shown(value.bounds)
    lines = [f"{before}{bound}{total}\n" for bound, total in zip(shown, totals, strict=True)]
    lines.append(
        f'{before}le="+Inf"}} {count}\n{name}_sum{braced} {value.sum}\n{name}_count{braced} {count}\n'
    )
    return "".join(lines)


@lru_cache(maxsize=64)
def _bounds_shown(bounds: tuple[float, ...]) -> list[str]:
    return [f'le="{bound:g}"}} ' for bound in bounds]


def _escaped(text: str) -> str:
    if '"' in text or "\\" in text or "\n" in text:
        return text.translate(_ESCAPES)
    return text


async def stream_json(families: Iterable[Family]) -> AsyncGenerator[bytes, None]:
    """One object: a key for each metric, with help, type and value.

    The value is null without samples, a number without labels, {label: {value: number}} for one label, and a list of
    objects with the labels and the number as "@" for more.
    """
    parts = [b"{"]
    size = 0
    before = b""
    for family in families:
        about = orjson.dumps({"help": family.help, "type": family.kind})[:-1]
        parts.append(b'%s"%s":%s,"value":' % (before, family.name.encode(), about))
        before = b",\n"
        for part in _json_value(family):
            parts.append(part)
            size += len(part)
            if size >= _PIECE:
                yield b"".join(parts)
                parts.clear()
                size = 0
                await trio.lowlevel.checkpoint()
        parts.append(b"}")
    yield b"".join([*parts, b"}"])


def _json_value(family: Family) -> Iterator[bytes]:
    """In parts."""
    slices = _slices(family.samples)
    first = next(slices, None)
    if first is None:
        yield b"null"
    elif not family.labels:
        yield orjson.dumps(_plain(first[0][1]))
    elif len(family.labels) == 1:
        opening = b'{"%s":{' % family.labels[0].encode()
        for some in chain((first,), slices):
            yield opening + orjson.dumps({values[0]: _plain(value) for values, value in some})[1:-1]
            opening = b","
        yield b"}}"
    else:
        opening = b"["
        for some in chain((first,), slices):
            rows = [
                dict(zip((*family.labels, "@"), (*values, _plain(value)), strict=True))
                for values, value in some
            ]
            yield opening + orjson.dumps(rows)[1:-1]
            opening = b","
        yield b"]"


def _plain(value: float | Histogram) -> object:
    if not isinstance(value, Histogram):
        return value
    *totals, count = accumulate(value.counts)
    return {
        "count": count,
        "sum": value.sum,
        "avg": value.sum / count if count else 0.0,
        "bucket": list(zip(value.bounds, totals, strict=True)),
    }


def _slices(samples: Iterable[Sample]) -> Iterator[Sequence[Sample]]:
    if isinstance(samples, list | tuple) and len(samples) <= _SLICE:
        if samples:
            yield samples
        return
    remaining = iter(samples)
    while some := list(islice(remaining, _SLICE)):
        yield some
