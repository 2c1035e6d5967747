"""Group commit: what the three kinds of spool have in common, on the trio side.

`store` and `remove` only note what is to be done in the open batch. One batch at a time is with the
writer thread; what arrives meanwhile, and a moment after (LINGER), is the next one, so that however many
messages wait, they share one sync. A batch succeeds or fails as a whole.

What is visible: the stores of unfinished batches, the newest first, then the index, which holds what is on
disk. A removal leaves all of them at once; its trace on disk follows with the next batch, and is tried
again until it is written. Nobody waits for it: after a crash in between, the message is back.

A ticket is the number of its batch. Batches finish in order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

import trio
from outcome import Error

from kumo_py.spool.errors import SpoolError
from kumo_py.spool.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kumo_py.spool.config import SpoolConfig
    from kumo_py.spool.file_ops import FileOps
    from kumo_py.spool.free_space import FreeSpace
    from kumo_py.spool.writer import Job

_MAX_RECORDS = 4096
_MAX_BYTES = 16 << 20
"""A batch that has reached either is closed: trio prepares it in one go."""

LINGER = 0.003
"""Seconds that a batch waits for more to join it, at the most.

A message of 1 KB that goes to the disk alone takes 56 to 103 µs of CPU, one of twenty 8 to 10 (measured). Stores
wait only while the batches before had several, and no longer than until most of those are back; removals, for which
nobody waits, wait for stores.
"""
_MAX_FAILURES = 1024
_MAX_PROBLEMS = 1000


class Batch:
    """What is written, and succeeds or fails, together."""

    __slots__ = ("removes", "size", "stores", "sync", "ticket", "waiters")

    def __init__(self, ticket: int) -> None:
        self.ticket = ticket
        self.stores: dict[bytes, bytes] = {}
        self.removes: list[tuple[bytes, int]] = []
        """Ids, and the index entry each of them had."""
        self.waiters: set[trio.lowlevel.Task] = set()
        self.size = 0
        """Bytes of data given to `store`."""
        self.sync = False
        """Whether a store asked for a sync, even without `flush`."""


class GroupCommit(ABC):
    """A spool without its disk format; see `kumo_py.spool.Spool` for the public methods."""

    def __init__(
        self, config: SpoolConfig, ops: FileOps, index: dict[bytes, int], free_space: FreeSpace, lock_fd: int
    ) -> None:
        self.name = config.name
        self.path = config.path
        self.notice: str | None = None
        self.problems: list[str] = []
        self.unhealthy = False
        self._where = f"spool '{config.name}' at {config.path}"
        self._ops = ops
        self._lock_fd = lock_fd
        self._index = index
        self._open = Batch(1)
        self._queued = [self._open]  # not yet with the writer; the last one is open
        self._flight: Batch | None = None
        self._finished = 0  # the newest ticket whose batch has ended
        self._failures: list[tuple[int, int, SpoolError]] = []  # first and last ticket, oldest first
        self._forgotten = 0  # failures up to this ticket are no longer in the list
        self._retry: list[tuple[bytes, int]] = []  # removals that could not be written
        self._retry_now = False
        self._idle = True  # nothing is with the writer, nor on the way to it
        self._lingering = False  # the open batch waits for more
        self._expected = 1  # stores, going by the last batches
        self._nap = trio.CancelScope()
        self._chored = False
        self._quiet = False
        self._closing = False
        self._last: Job | None = None
        self._closed = trio.Event()
        self._close_error: SpoolError | None = None
        self.free_space_low: Callable[[], bool] = free_space.low
        self._writer = Writer(config.name, self._on_done, self._on_quiet)
        trio.lowlevel.spawn_system_task(self._pace, name=f"pace of {self._where}")

    # -- for everybody -----------------------------------------------------------------------------------
    def store(self, id: bytes, data: bytes, *, sync: bool = False) -> int:
        """Queue a write that replaces an older record of the 16-byte id. Returns a ticket; never blocks.

        With `sync` its batch is synced, even without `flush`.
        """
        if len(id) != 16 or data.__class__ is not bytes:
            raise TypeError("store() takes an id of 16 bytes and data as bytes")
        if self._idle:
            self._wake_writer()
        batch = self._open
        if batch.size >= _MAX_BYTES or len(batch.stores) >= _MAX_RECORDS:
            batch = self._next_batch()
        batch.stores[id] = data
        batch.size += len(data)
        if sync:
            batch.sync = True
        if self._lingering and self._is_full_enough(batch):
            self._stop_lingering()
        return batch.ticket

    async def wait_durable(self, ticket: int) -> None:
        """Wait until what `store` gave the ticket for is written and, if `flush`, synced.

        Raises SpoolError if that failed: then nothing of it is kept. Not a checkpoint if the batch has ended.
        """
        if ticket > self._finished:
            if ticket > self._open.ticket:
                raise ValueError(f"{self._where} gave out no ticket {ticket}")
            if self._idle:
                self._wake_writer()  # an emptied batch: end it
            batch = self._flight
            if batch is None or batch.ticket != ticket:
                batch = self._queued[ticket - self._open.ticket - 1]
            waiters = batch.waiters
            task = trio.lowlevel.current_task()
            waiters.add(task)

            def abort(_: object) -> trio.lowlevel.Abort:
                waiters.discard(task)
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        elif self._failures and (error := self._failure(ticket)):
            raise error

    def remove(self, id: bytes) -> None:
        """Forget the id, if it is known. Never blocks.

        A store that is still pending is then not written at all; who waits for it is told the outcome of the
        rest of its batch, as if it had been written and removed.
        """
        for batch in self._batches():
            batch.stores.pop(id, None)  # what is being written is buried as soon as it is there
        location = self._index.pop(id, None)
        if location is not None:
            if self._idle:
                self._wake_writer()
            self._unindexed(id, location)
            self._bury(id, location)

    async def load(self, id: bytes) -> bytes:
        """Return the data of an id. Raises KeyError if there is none, SpoolError if it cannot be read."""
        for batch in self._batches():
            if (data := batch.stores.get(id)) is not None:
                return data
        return await self._read(id, self._index[id])

    def size_of(self, id: bytes) -> int | None:
        """Octets of an id's data, as far as that is known without reading it."""
        for batch in self._batches():
            if (data := batch.stores.get(id)) is not None:
                return len(data)
        location = self._index.get(id)
        return None if location is None else self._size_at(location)

    def ids(self) -> Iterator[bytes]:
        """The ids that are there now, less those removed before the iterator comes to them."""
        known = [*self._index, *self._unfinished()]
        return (
            id for id in known if id in self._index or any(id in batch.stores for batch in self._batches())
        )

    def __len__(self) -> int:
        return len(self._index) + len(self._unfinished())

    async def compact(self) -> None:
        """Give back the space of what was removed. Raises SpoolError."""
        raise SpoolError(f"{self._where} has nothing to compact: it keeps a file for each message")

    async def aclose(self) -> None:
        """Write out and sync all that is pending, then stop the thread and give up the lock.

        May be cancelled, and called again. Raises SpoolError if the last sync failed.
        """
        if not self._closing:
            self._closing = self._retry_now = True
            if self._idle:
                self._wake_writer()
            if self._lingering:
                self._stop_lingering()
        await self._closed.wait()
        if self._close_error:
            raise self._close_error.again()

    # -- for each kind of spool --------------------------------------------------------------------------
    @abstractmethod
    def _begin(self, batch: Batch) -> Job | None:
        """Make the job that writes `batch`; None if there is nothing to be written after all."""

    @abstractmethod
    def _written(self, batch: Batch, job: Job) -> list[tuple[bytes, int]]:
        """The job succeeded: bring the index up to date, and bury what is no longer in `batch.stores`.

        Returns the removals that are to be tried again.
        """

    def _lost(self, job: Job) -> None:
        """The job failed, and undid what it had done."""
        return

    def _unindexed(self, id: bytes, location: int) -> None:
        """Take note that the index no longer has the id, which was at `location`."""
        return

    def _bury(self, id: bytes, location: int) -> None:
        """Have the record of a removed id removed from disk with the next batch."""
        batch = self._open
        if len(batch.removes) >= _MAX_RECORDS:
            batch = self._next_batch()
        batch.removes.append((id, location))

    @abstractmethod
    async def _read(self, id: bytes, location: int) -> bytes:
        """Return the data of an indexed record. Raises SpoolError."""

    def _size_at(self, location: int) -> int | None:
        """Octets of an indexed record's data, if its location tells."""
        return None

    def _chore(self, pending: bool) -> Job | None:
        """Return work beside the batches. With `pending` a batch waits: only what cannot."""
        return None

    def _chore_done(self, job: Job) -> None:
        """Take note of a chore's result, or of its error."""
        return

    @abstractmethod
    def _last_job(self) -> Job:
        """Make the job that syncs everything before the end."""

    def _release(self) -> None:
        """Close what is open, on the trio thread, after the last job."""
        return

    def _problem(self, text: str) -> None:
        """Report what a person should know; the list is bounded."""
        if len(self.problems) < _MAX_PROBLEMS and text not in self.problems:
            self.problems.append(text)

    # -- the way of a batch ------------------------------------------------------------------------------
    def _batches(self) -> list[Batch]:
        """All that have not ended, the newest first."""
        batches = self._queued[::-1]
        if self._flight is not None:
            batches.append(self._flight)
        return batches

    def _unfinished(self) -> set[bytes]:
        """Ids whose first record is not yet on disk."""
        return {id for batch in self._batches() for id in batch.stores if id not in self._index}

    def _wake_writer(self) -> None:
        if self._closed.is_set():
            raise SpoolError(f"{self._where} is closed")
        self._idle = False
        self._linger()

    # -- the pace ----------------------------------------------------------------------------------------
    def _is_full_enough(self, batch: Batch) -> bool:
        """Whether a batch has most of what the last ones had."""
        return 4 * len(batch.stores) >= 3 * self._expected and bool(batch.stores)

    def _linger(self) -> None:
        self._lingering = True
        self._nap.deadline = trio.current_time() + LINGER

    def _stop_lingering(self) -> None:
        """Go on with what has come, after what is running now."""
        self._lingering = False
        self._nap.deadline = inf
        self._writer.call_soon(self._next)

    async def _pace(self) -> None:
        """Ends each lingering that nothing ended before."""
        while not self._closed.is_set():
            with self._nap:
                await self._closed.wait()
            self._nap = trio.CancelScope()
            if self._lingering and not self._closed.is_set():
                self._lingering = False
                self._next()

    def _next_batch(self) -> Batch:
        self._open = Batch(self._open.ticket + 1)
        self._queued.append(self._open)
        return self._open

    def _next(self, *, linger: bool = False) -> None:
        """Nothing is with the writer: give it the next job, if there is one; with `linger` perhaps a bit later."""
        while True:
            batch = self._queued[0]
            pending = bool(
                batch.stores or batch.removes or batch.waiters or (self._retry_now and self._retry)
            )
            # Chores and batches take turns, so that neither starves.
            if not (pending and self._chored) and (chore := self._chore(pending)):
                self._chored = True
                self._writer.submit(chore)
                return
            self._chored = False
            if not pending:
                break
            if linger and not (self._closing or self._is_full_enough(batch)):
                self._linger()
                return
            self._quiet = False
            if batch.stores:
                self._expected = max(len(batch.stores), 3 * self._expected // 4)
            if batch is self._open:
                self._next_batch()
            del self._queued[0]
            if self._retry:
                batch.removes += self._retry[:_MAX_RECORDS]
                del self._retry[:_MAX_RECORDS]
            try:
                job = self._begin(batch)
            except Exception as error:  # else it would end the whole trio run, from a callback
                self._postpone(batch.removes)
                self._end(batch, error)
                continue
            if job is not None:
                self._flight = batch
                self._writer.submit(job)
                return
            self._end(batch, None)
        if self._closing and not self._closed.is_set():
            self._last = self._last_job()
            self._writer.submit(self._last)
        else:
            self._idle = True

    def _on_done(self, job: Job) -> None:
        batch = self._flight
        if job is self._last:
            self._close(job.error)
            return
        if batch is None:
            self._chore_done(job)
        else:
            self._flight = None
            if job.error is None:
                self._postpone(self._written(batch, job))
            else:
                self._lost(job)
                self._postpone(batch.removes)
            self._end(batch, job.error)
        self._next(linger=True)

    def _on_quiet(self) -> None:
        self._quiet = self._retry_now = True
        if self._idle and not self._closed.is_set():
            self._idle = False
            self._next()

    def _postpone(self, removes: list[tuple[bytes, int]]) -> None:
        """Keep removals that could not be written for a later batch; one of their own only after a pause."""
        self._retry += removes
        self._retry_now = not removes

    def _end(self, batch: Batch, error: Exception | None) -> None:
        """Tell all who wait for the batch."""
        ticket = self._finished = batch.ticket
        self.unhealthy = bool(self._retry)
        if error is None:
            for task in batch.waiters:
                trio.lowlevel.reschedule(task)
            return
        failure = SpoolError.of(f"write to {self._where}", error)
        consecutive = self._failures and self._failures[-1][1] == ticket - 1
        self._failures.append((self._failures.pop()[0] if consecutive else ticket, ticket, failure))
        if len(self._failures) > _MAX_FAILURES:
            self._forgotten = self._failures.pop(0)[1]
        for task in batch.waiters:
            trio.lowlevel.reschedule(task, Error(failure.again()))

    def _failure(self, ticket: int) -> SpoolError | None:
        for first, last, error in reversed(self._failures):
            if ticket > last:
                return None
            if ticket >= first:
                return error.again()
        if ticket <= self._forgotten:
            # Somebody waits very late, after very many failures. To call it lost is the safe answer.
            return SpoolError(f"{self._where} no longer knows how ticket {ticket} ended")
        return None

    def _close(self, error: Exception | None) -> None:
        if error:
            self._close_error = SpoolError.of(f"sync {self._where}", error)
        if self._retry:
            self._problem(f"{self._where}: {len(self._retry)} removals could not be written")
        self._closed.set()
        while self._queued[0].stores or self._queued[0].waiters:  # stored during the last job
            batch = self._queued.pop(0)
            if not self._queued:
                self._next_batch()
            self._end(batch, SpoolError("it is closed"))
        self._release()
        with suppress(OSError):
            self._ops.close(self._lock_fd)
        self._idle = True
        self._writer.stop()
