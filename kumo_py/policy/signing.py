"""Threads for cryptography that takes long and lets go of the GIL: RSA signatures, hashes of large bodies.

They are started when there is work and end when there has been none for `IDLE` seconds. What is finished is handed
over in batches. Measured, in CPU time for each signature: under load 83 to 93 µs with RSA-1024 where `trio.to_thread`
takes 139 to 144, 223 with RSA-2048 against 241 to 243; one RSA-1024 signature at a time costs more, 103 against 93.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

import outcome
import trio

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

IDLE = 10.0
"""Seconds."""


class _Job(Generic[T]):
    __slots__ = ("result", "task", "work")

    def __init__(self, work: Callable[[], T], task: trio.lowlevel.Task) -> None:
        self.work = work
        self.task: trio.lowlevel.Task | None = task
        """Who waits; None if nobody does any more."""
        self.result: outcome.Value[T] | outcome.Error


class SigningThreads:
    """A node's threads. Everything but `_serve` runs on the trio thread."""

    def __init__(self) -> None:
        self.limit = len(os.sched_getaffinity(0))
        """Threads at most: as many as there are CPUs, unless the policy says otherwise."""
        self._chosen = False
        self._token: trio.lowlevel.TrioToken | None = None
        self._jobs: SimpleQueue[_Job[object]] = SimpleQueue()
        self._done: deque[_Job[object]] = deque()
        self._told = False  # the trio thread will come for what is done
        self._lock = threading.Lock()  # over what decides whether a thread starts or ends
        self._threads = 0
        self._free = 0  # threads that have no job, less the jobs that have no thread

    @property
    def threads(self) -> tuple[int, int]:
        """How many there are, and how many of them have nothing to do."""
        return self._threads, max(0, self._free)

    def choose(self, threads: int) -> None:
        """Set the number of threads, for good (KumoMTA `set_signing_threads`). Raises ValueError."""
        if threads < 1:
            raise ValueError(f"at least 1 thread is needed, got {threads}")
        if self._chosen and threads != self.limit:
            raise ValueError(f"the number of threads is {self.limit} already")
        self.limit = threads
        self._chosen = True

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. If the caller is cancelled, it is finished all the same."""
        if self._token is None:
            self._token = trio.lowlevel.current_trio_token()
        job = _Job(work, trio.lowlevel.current_task())
        with self._lock:
            self._jobs.put(job)  # type: ignore[arg-type]
            self._free -= 1
            if self._free < 0 and self._threads < self.limit:
                self._threads += 1
                self._free += 1
                threading.Thread(target=self._serve, name="dkimsign", daemon=True).start()

        def abort(_: object) -> trio.lowlevel.Abort:
            job.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    def _deliver(self) -> None:
        self._told = False
        while self._done:
            job = self._done.popleft()
            if job.task is not None:
                trio.lowlevel.reschedule(job.task, job.result)

    def _serve(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE)
            except Empty:
                with self._lock:
                    if not self._jobs.empty():
                        continue
                    self._threads -= 1
                    self._free -= 1
                return
            job.result = outcome.capture(job.work)
            with self._lock:
                self._free += 1
            self._done.append(job)
            del job
            if not self._told:
                self._told = True
                assert self._token is not None
                try:
                    self._token.run_sync_soon(self._deliver)
                except trio.RunFinishedError:
                    return
