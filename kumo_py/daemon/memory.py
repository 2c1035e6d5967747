"""How much memory the node may take: above the soft limit it takes no more mail (KumoMTA's memory management).

Without limits of the policy's, the hard limit is the least of the control group's, `RLIMIT_RSS` and the machine's
memory; the soft limit is three quarters of it, the low threshold 80 % of that. What counts is the resident set.
Above the low threshold, messages leave memory on their way to a ready queue, and above the soft limit those that are
there (`queue/memory.py`).
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.queue.memory import MemoryState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = structlog.get_logger("kumo_py.memory")

_INTERVAL = 1.0
"""Seconds between looks."""
_CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_STATM = "/proc/self/statm"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_UNLIMITED = 1 << 60
"""Bytes; control groups of version 1 write a number near 2**63 for no limit."""


class Memory:
    """Limits and use in bytes; None is not known."""

    def __init__(self) -> None:
        self.hard_limit: int | None = min(_limits(), default=None)
        self._soft: int | None = None
        self._low: int | None = None
        self.usage = _resident(Path(_STATM).read_bytes())
        """Of a second ago at most, while `watch` runs."""
        self.over_soft_limit = False
        """Whether mail is refused just now."""
        self.state = MemoryState.OK
        self.on_shortage: Callable[[], None] = lambda: None
        """Called when the soft limit is crossed upwards."""
        self.over_limit_count = 0
        self.low_count = 0
        """How often these limits were crossed upwards."""

    @property
    def soft_limit(self) -> int | None:
        return self._soft if self._soft is not None else _part(self.hard_limit, 0.75)

    @soft_limit.setter
    def soft_limit(self, limit: int) -> None:
        self._soft = limit

    @property
    def low_threshold(self) -> int | None:
        """Where the node begins to save memory."""
        return self._low if self._low is not None else _part(self.soft_limit, 0.8)

    @low_threshold.setter
    def low_threshold(self, limit: int) -> None:
        self._low = limit

    async def watch(self) -> None:
        """Keep `over_soft_limit` up to date, for ever."""
        statm = os.open(_STATM, os.O_RDONLY)  # kept, so that it is there when descriptors are not
        try:
            await self._watch(statm)
        finally:
            os.close(statm)

    async def _watch(self, statm: int) -> None:
        was_low = False
        while True:
            limit, low = self.soft_limit, self.low_threshold
            used = self.usage = _resident(os.pread(statm, 100, 0))
            is_low = low is not None and used > low
            self.state = MemoryState.LOW if is_low else MemoryState.OK
            self.low_count += is_low and not was_low
            was_low = is_low
            over = limit is not None and used > limit
            if over:
                self.state = MemoryState.NONE
            if over != self.over_soft_limit:
                self.over_soft_limit = over
                self.over_limit_count += over
                what = "above" if over else "below"
                consequence = "mail is refused until it falls" if over else "mail is taken again"
                log.warning(f"memory in use ({used >> 20} MiB) is {what} the soft limit: {consequence}")
                if over:
                    self.on_shortage()
            await trio.sleep(_INTERVAL)


def _resident(statm: bytes) -> int:
    return int(statm.split()[1]) * _PAGE


def _part(limit: int | None, share: float) -> int | None:
    return None if limit is None else int(limit * share)


def _limits() -> Iterator[int]:
    yield _PAGE * os.sysconf("SC_PHYS_PAGES")
    for file in _CGROUP_FILES:
        try:
            text = Path(file).read_text()
        except OSError:
            continue
        if text.strip().isdigit() and int(text) < _UNLIMITED:
            yield int(text)
    soft, _ = resource.getrlimit(resource.RLIMIT_RSS)
    if soft != resource.RLIM_INFINITY:
        yield soft
