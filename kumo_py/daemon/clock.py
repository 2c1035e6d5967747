"""The node's time: trio's clock, anchored once to the wall.

Everything that waits or expires reads this, so that it never steps back and so that a test's virtual clock
carries the whole node with it.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


def wall_clock() -> Callable[[], float]:
    """Unix time, from trio's clock and the wall's reading now; to be called inside trio."""
    return partial(_read, time.time() - trio.current_time())


def _read(offset: float) -> float:
    return offset + trio.current_time()
