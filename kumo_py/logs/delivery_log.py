"""The delivery log: what became of every message, in the files that `kumo.configure_local_logs` describes.

Owns the segment writers. `record` runs through without a task switch unless a filter event is asked, or the
disk fails and `back_pressure` lines wait; encoding, compressing and writing are done in it. Lines become
readable and segments end in time while `serve` runs. `aclose` comes after it, when nobody records any more.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.logs.disk_space import lacking_on
from kumo_py.logs.json_text import to_json
from kumo_py.logs.record import EMPTY_OBJECT, RecordEncoder
from kumo_py.logs.record_type import RecordType
from kumo_py.logs.segment import SegmentWriter, complete_segments
from kumo_py.logs.selection import HeaderSelection, MetaSelection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kumo_py.core.policy import Policy
    from kumo_py.logs.config import LocalLogsConfig
    from kumo_py.logs.context import LogContext
    from kumo_py.message.message import Message
    from kumo_py.proto.reply import Response

log = structlog.get_logger("kumo_py.logs.delivery_log")

_DISK_CHECK_INTERVAL = 5.0
"""Seconds for which an answer about free space holds."""


class DeliveryLog:
    """All loggers of a node. nodeid: text of a UUID; clock: Unix seconds; policy: asked filter events."""

    def __init__(self, nodeid: str, clock: Callable[[], float], policy: Policy | None = None) -> None:
        self._clock = clock
        self._policy = policy
        self._encoder = RecordEncoder(nodeid)
        self._loggers: list[_LocalLogger] = []
        self._wanted: frozenset[RecordType] = frozenset()
        self._due_changed = trio.Event()
        self._drained = trio.lowlevel.ParkingLot()
        self._disk_checked = -math.inf
        self._disk_low: str | None = None
        self.needs_headers = False
        """Whether a logger wants headers: a message's content must be loaded before `record`."""

    async def add_local(self, config: LocalLogsConfig) -> None:
        """Start a logger: make its directories, complete earlier processes' segments. Raises OSError."""
        logger = _LocalLogger(config, self._clock, self._wake)
        for directory in logger.directories:
            os.makedirs(directory, exist_ok=True)
            await trio.to_thread.run_sync(complete_segments, directory)
        self._loggers.append(logger)
        self._wanted |= logger.routes.keys()
        self.needs_headers = self.needs_headers or bool(logger.headers)

    def wants(self, kind: RecordType) -> bool:
        """Whether any logger takes this kind: if not, spare building a record."""
        return kind in self._wanted

    async def record(
        self,
        kind: RecordType,
        msg: Message,
        response: Response,
        context: LogContext,
        *,
        recipients: Sequence[str] | None = None,
        queue: str | None = None,
        feedback_report: object = None,
    ) -> None:
        """Log what happened to a message.

        recipients: those that it happened to, by default all. queue: the scheduled queue, if its name is at
        hand. feedback_report: what a Feedback record carries. Parts that are not loaded are left out.
        """
        now = self._clock()
        if recipients is None:
            recipients = msg.recipients
        for logger in self._loggers:
            route = logger.routes.get(kind)
            if route is None:
                continue
            if logger.filter_event is not None and not await self._passes(logger.filter_event, msg):
                continue
            meta = to_json(logger.meta.pick(msg.meta)) if logger.meta else EMPTY_OBJECT
            headers = EMPTY_OBJECT
            if logger.headers and msg.data_loaded:
                headers = to_json(logger.headers.pick(msg.data))
            line = self._encoder.message(
                kind, msg, response, context, recipients, queue, now, meta, headers, feedback_report
            )
            if logger.is_full and not await self._has_room(logger):
                continue
            writer, segment_header = route
            writer.append(line, segment_header)

    async def record_rejection(
        self,
        sender: str | None,
        recipients: Sequence[str],
        response: Response,
        context: LogContext,
        meta: Mapping[str, object],
    ) -> None:
        """Log an answer of 4xx or 5xx to a client; no filter event is asked, as there is no message.

        sender, recipients: of the transaction so far; the last recipient is named. meta: the connection's.
        """
        now = self._clock()
        recipient = recipients[-1] if recipients else ""
        for logger in self._loggers:
            route = logger.routes.get(RecordType.Rejection)
            if route is None:
                continue
            picked = to_json(logger.meta.pick(meta)) if logger.meta else EMPTY_OBJECT
            line = self._encoder.rejection(sender or "", recipient, response, context, now, picked)
            if logger.is_full and not await self._has_room(logger):
                continue
            writer, segment_header = route
            writer.append(line, segment_header)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flush lines and end segments when it is time."""
        task_status.started()
        while True:
            writers = [writer for logger in self._loggers for writer in logger.writers]
            with trio.move_on_at(min((writer.due for writer in writers), default=math.inf)):
                await self._due_changed.wait()
            self._due_changed = trio.Event()
            now = trio.current_time()
            for writer in writers:
                if writer.due <= now:
                    writer.tend()
            self._drained.unpark_all()

    async def aclose(self) -> None:
        """Write everything and complete the segments. The log wants nothing afterwards."""
        loggers, self._loggers = self._loggers, []
        self._wanted = frozenset()
        for logger in loggers:
            for writer in logger.writers:
                writer.finish()
        self._drained.unpark_all()
        await trio.lowlevel.checkpoint()

    def disk_low(self) -> str | None:
        """What lacks on a log directory's file system, or None; looked at every 5 seconds at most."""
        now = self._clock()
        if not 0.0 <= now - self._disk_checked < _DISK_CHECK_INTERVAL:
            self._disk_checked = now
            before, self._disk_low = self._disk_low, self._look_at_disks()
            if self._disk_low is not None and before is None:
                log.error(f"{self._disk_low}; new mail is refused")
            elif self._disk_low is None and before is not None:
                log.error("the log directories have enough space again")
        return self._disk_low

    def _look_at_disks(self) -> str | None:
        for logger in self._loggers:
            for directory in logger.directories:
                try:
                    lacking = lacking_on(directory, logger.min_free_space, logger.min_free_inodes)
                except OSError as err:
                    log.warning("cannot tell a log directory's free space", log_dir=directory, error=str(err))
                    continue
                if lacking is not None:
                    return f"log directory {directory}: {lacking}"
        return None

    async def _passes(self, event: str, msg: Message) -> bool:
        if self._policy is None:
            return False
        try:
            answer = await self._policy.ask(event, msg)
        except (PolicyError, Rejection) as err:
            log.error("log filter failed; the record is left out", filter_event=event, error=str(err))
            return False
        return answer is not None and answer is not False

    async def _has_room(self, logger: _LocalLogger) -> bool:
        """Wait until it has; False if the log was closed meanwhile."""
        while logger.is_full:
            if logger not in self._loggers:
                log.error("a delivery log record is lost: the log was closed while the disk failed")
                return False
            await self._drained.park()
        return True

    def _wake(self) -> None:
        self._due_changed.set()


class _LocalLogger:
    """One `configure_local_logs`. routes: writer and segment header of each type that is enabled."""

    __slots__ = (
        "_back_pressure",
        "directories",
        "filter_event",
        "headers",
        "meta",
        "min_free_inodes",
        "min_free_space",
        "routes",
        "writers",
    )

    def __init__(self, config: LocalLogsConfig, clock: Callable[[], float], wake: Callable[[], None]) -> None:
        writers: dict[tuple[str, str], SegmentWriter] = {}
        self.routes: dict[RecordType, tuple[SegmentWriter, str]] = {}
        for kind in RecordType:
            per_record = config.per_record.get(kind.value, config.per_record.get("Any"))
            directory, suffix, segment_header = config.log_dir, "", ""
            if per_record is not None:
                if not per_record.enable:
                    continue
                directory = per_record.log_dir or directory
                suffix = per_record.suffix or ""
                segment_header = per_record.segment_header
            place = (directory, suffix)
            if place not in writers:
                writers[place] = SegmentWriter(
                    directory,
                    suffix,
                    compression_level=config.compression_level,
                    max_size=config.max_file_size,
                    max_duration=config.max_segment_duration,
                    clock=clock,
                    wake=wake,
                )
            self.routes[kind] = (writers[place], segment_header)
        self.writers = tuple(writers.values())
        self.directories = tuple(dict.fromkeys([config.log_dir, *(place[0] for place in writers)]))
        self.meta = MetaSelection(config.meta)
        self.headers = HeaderSelection(config.headers)
        self.filter_event = config.filter_event
        self.min_free_space = config.min_free_space
        self.min_free_inodes = config.min_free_inodes
        self._back_pressure = config.back_pressure

    @property
    def is_full(self) -> bool:
        """Whether the disk fails and as many lines wait as may."""
        failing = False
        for writer in self.writers:
            failing = failing or writer.failing
        return failing and sum(writer.waiting for writer in self.writers) >= self._back_pressure
