"""The lines of log segments: the last ones, those since some time, and what is written from now on.

Segments are whole, torn, or still being written; several may be written at a time, by loggers with suffixes of their
own or into several directories. What cannot be read is reported once, and left out.
"""

from __future__ import annotations

import heapq
import os
import re
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import orjson

from kumo_py.logs.reader import SegmentReader, segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Wanted = Callable[["Line"], bool]

_NAME = re.compile(r"(\d{8}-\d{6})(\.\d{1,6})?")


class Line(NamedTuple):
    """A line as it is in the file."""

    time: float
    """Unix seconds; of what has no time, that of the line before."""
    text: bytes
    record: dict[str, Any] | None
    """None for what is no record: a segment's header, or the text of a template."""


class _Segment:
    """One that has been opened, with its reader where it stopped. Raises OSError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.reader = SegmentReader(path)
        self._time = _opened(path)

    def line(self, text: bytes) -> Line:
        try:
            record = orjson.loads(text)
        except orjson.JSONDecodeError:
            record = None
        if not isinstance(record, dict):
            return Line(self._time, text, None)
        self._time = _time(record, self._time)
        return Line(self._time, text, record)


class Segments:
    """Those of directories, and those named one by one; open until the end of the `with` block."""

    def __init__(self, paths: Iterable[str], complain: Callable[[str], None], *, follow: bool) -> None:
        """`complain` takes what a person should know. follow: `new` will be called."""
        self._paths = list(paths)
        self._complain = complain
        self._follow = follow
        self._met: set[str] = set()
        self._open_ones: set[_Segment] = set()
        self._live: list[_Segment] = []
        self._complaints: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for segment in list(self._open_ones):
            self._close(segment)

    def last(self, count: int, wanted: Wanted | None) -> list[Line]:
        """The last so many lines that are wanted; None: all are.

        Segments are read from the newest backwards, as far as is needed.
        """
        kept: list[tuple[float, int, Line]] = []
        number = 0
        for changed, path in sorted(((_changed(path), path) for path in self._find()), reverse=True):
            if len(kept) == count and (not count or changed < kept[0][0]):
                self._pass_over(path)
            elif segment := self._open(path):
                texts = self._texts(segment)
                if wanted is None:
                    lines = deque(map(segment.line, deque(texts, count)))
                else:
                    lines = deque(filter(wanted, map(segment.line, texts)), count)
                number -= len(lines)
                for at, line in enumerate(lines, number):
                    heapq.heappush(kept, (line.time, at, line))
                    if len(kept) > count:
                        heapq.heappop(kept)
        return [line for _, _, line in sorted(kept)]

    def since(self, time: float) -> Iterator[Line]:
        """The lines since then (Unix time); of segments that were written side by side, in the order of time."""
        waiting = deque(sorted(self._find(), key=os.path.basename))
        heads: list[tuple[float, int, Line, Iterator[Line]]] = []
        number = 0
        while waiting or heads:
            if waiting and not (heads and heads[0][0] < _opened(waiting[0])):
                path = waiting.popleft()
                if _changed(path) < time:
                    self._pass_over(path)
                elif segment := self._open(path):
                    lines: Iterator[Line] = map(segment.line, self._texts(segment))
                    if (first := next(lines, None)) is not None:
                        number += 1
                        heapq.heappush(heads, (first.time, number, first, lines))
                continue
            _, order, line, lines = heads[0]
            if line.time >= time:
                yield line
            if (following := next(lines, None)) is not None:
                heapq.heapreplace(heads, (following.time, order, following, lines))
            else:
                heapq.heappop(heads)

    def new(self) -> list[Line]:
        """The lines that came since the last call, or since the others were asked for."""
        live, self._live = self._live, []
        live += filter(None, [self._open(path) for path in self._find() if path not in self._met])
        lines = [line for segment in live for line in map(segment.line, self._texts(segment))]
        lines.sort(key=lambda line: line.time)
        return lines

    def _find(self) -> list[str]:
        found: list[str] = []
        for path in self._paths:
            try:
                found += segments(path) if os.path.isdir(path) else [path]
            except OSError as err:
                self._report(path, err)
        return found

    def _open(self, path: str) -> _Segment | None:
        self._met.add(path)
        try:
            segment = _Segment(path)
        except OSError as err:
            self._report(path, err)
            return None
        self._open_ones.add(segment)
        return segment

    def _close(self, segment: _Segment) -> None:
        self._open_ones.discard(segment)
        segment.reader.close()

    def _pass_over(self, path: str) -> None:
        """Of what it has now, nothing is wanted."""
        self._met.add(path)
        if self._follow and (segment := self._open(path)):
            if segment.reader.is_complete:
                self._close(segment)
            else:
                deque(self._texts(segment), 0)

    def _texts(self, segment: _Segment) -> Iterator[bytes]:
        """The lines that came since the last time; the segment is closed unless there may be more."""
        reader = segment.reader
        ended = not self._follow or reader.is_complete  # before reading, lest a line slips in between
        try:
            yield from reader.lines()
        except OSError as err:
            self._report(segment.path, err)
            ended = True
        if reader.is_torn:
            self._report(segment.path, "it is torn, or no log segment: what follows cannot be read")
            ended = True
        if ended:
            self._close(segment)
        else:
            self._live.append(segment)

    def _report(self, path: str, problem: object) -> None:
        text = f"{path}: {getattr(problem, 'strerror', None) or problem}"
        if text not in self._complaints:
            self._complaints.add(text)
            self._complain(text)


def _time(record: dict[str, Any], otherwise: float) -> float:
    """When it was logged, as precisely as it says."""
    precise, seconds = record.get("event_time"), record.get("timestamp")
    if isinstance(precise, str):
        try:
            return datetime.fromisoformat(precise).timestamp()
        except ValueError:
            pass
    return seconds if isinstance(seconds, int | float) else otherwise


def _opened(path: str) -> float:
    """When the segment was begun, as its name says; long ago if it does not."""
    found = _NAME.match(os.path.basename(path))
    if found is None:
        return 0.0
    try:
        second = datetime.strptime(found[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return 0.0
    return second.timestamp() + float(found[2] or 0)


def _changed(path: str) -> float:
    """When something was written to it last; long ago if it has gone."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
