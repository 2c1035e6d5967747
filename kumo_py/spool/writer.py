"""The thread that does a spool's blocking work, one job after the other.

The thread holds the GIL only between system calls: whatever can be computed ahead is computed by the trio
side, which owns all state. While a job runs, the objects it was given belong to the thread.
"""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET = 1.0
"""Seconds without a job after which the trio side is told, once, that the spool is quiet."""


class Job:
    """Blocking work. `error` is what `run` raised, and set before the trio side sees the job again."""

    __slots__ = ("error",)

    def __init__(self) -> None:
        self.error: Exception | None = None

    def run(self) -> None:
        raise NotImplementedError


class Writer:
    """Runs jobs in the order given; `done(job)` and `quiet()` are then called on the trio thread."""

    def __init__(self, name: str, done: Callable[[Job], None], quiet: Callable[[], None]) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._done = done
        self._quiet = quiet
        # A daemon: an interpreter that ends without `stop` must not hang. What was reported durable is so.
        self._thread = threading.Thread(target=self._run, name=f"spool {name}", daemon=True)
        self.submit = self._jobs.put
        self._thread.start()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Have trio call back after what is running now, so that more work can join."""
        self._token.run_sync_soon(callback)

    def stop(self) -> None:
        """End the thread. To be called when no job is under way."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        post = self._token.run_sync_soon
        quiet = False
        while True:
            try:
                job = self._jobs.get() if quiet else self._jobs.get(timeout=QUIET)
            except Empty:
                quiet = True
                try:
                    post(self._quiet)
                except trio.RunFinishedError:
                    return
                continue
            if job is None:
                return
            quiet = False
            try:
                job.run()
            except Exception as error:  # the trio side decides what it means
                job.error = error
            try:
                post(self._done, job)
            except trio.RunFinishedError:
                return
            del job  # it may hold megabytes, and the next one may be long in coming
