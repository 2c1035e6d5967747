"""Whether the disk under a spool has the free room that the policy asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.spool.config import parse_minimum

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.spool.config import SpoolConfig
    from kumo_py.spool.file_ops import FileOps

_FRESH = 1.0
"""Seconds for which an answer is kept."""


class FreeSpace:
    """KumoMTA `min_free_space` and `min_free_inodes`: percentages are rounded down before comparing."""

    def __init__(self, config: SpoolConfig, ops: FileOps, clock: Callable[[], float]) -> None:
        self._path = config.path
        self._space = parse_minimum(config.min_free_space)
        self._inodes = parse_minimum(config.min_free_inodes)
        self._ops = ops
        self._clock = clock
        self._low = False
        self._until = float("-inf")

    def low(self) -> bool:
        """A disk that does not answer counts as full: nothing could be stored on it either."""
        now = self._clock()
        if now >= self._until:
            self._until = now + _FRESH
            try:
                disk = self._ops.statvfs(self._path)
            except OSError:
                self._low = True
            else:
                self._low = _below(self._space, disk.f_bavail, disk.f_blocks, disk.f_frsize) or _below(
                    self._inodes, disk.f_favail, disk.f_files, 1
                )
        return self._low


def _below(minimum: tuple[int, bool], available: int, total: int, unit: int) -> bool:
    """`total` is 0 on file systems without a fixed number of inodes: those never run out."""
    number, percent = minimum
    if total == 0:
        return False
    return available * 100 // total < number if percent else available * unit < number
