"""The delivery log: what became of every message, in files, as messages, and in counts.

Owns the segment writers, the hooks, the bounce classifier and the accounting. `record` runs through without a
task switch unless an event of the policy is asked, or the disk fails and `back_pressure` lines wait, or as many
wait in a hook; encoding, compressing and writing are done in it. Lines become readable, segments end in time
and hooks work while `serve` runs. `aclose` comes after it, when nobody records any more.
"""

from __future__ import annotations

import math
import os
from time import perf_counter
from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.core.histogram import Histogram
from kumo_py.core.policy import PolicyError, Rejection, SilentPolicy
from kumo_py.core.spool_id import LOWEST, TIMED, created
from kumo_py.core.templates import Templates
from kumo_py.logs.accounting import Accounting
from kumo_py.logs.audit_log import AuditLog
from kumo_py.logs.classifier import CLASSIFIED, BounceClassifier
from kumo_py.logs.counts import FAILURES, LastError, last_error
from kumo_py.logs.disk_space import lacking_on
from kumo_py.logs.hooks import LOG_RECORD, DispositionHook, LogHook, rendered
from kumo_py.logs.json_text import to_json
from kumo_py.logs.local_logger import LocalLogger
from kumo_py.logs.record import EMPTY_OBJECT, UNCATEGORIZED, RecordEncoder
from kumo_py.logs.record_type import RecordType
from kumo_py.logs.segment import complete_segments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kumo_py.core.policy import Policy
    from kumo_py.logs.audit_log import AuditLogConfig
    from kumo_py.logs.config import (
        ClassifierConfig,
        DispositionHookConfig,
        LocalLogsConfig,
        LogHookConfig,
    )
    from kumo_py.logs.context import LogContext
    from kumo_py.logs.hooks import MessageSink
    from kumo_py.message.message import Message
    from kumo_py.proto.reply import Response

log = structlog.get_logger("kumo_py.logs.delivery_log")

DELIVERY_TIMES = (
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 4 * 3600.0, 12 * 3600.0, 24 * 3600.0, 72 * 3600.0),
)
"""Upper bounds, in seconds: from what is sent on at once to what waits for days."""
_DELIVERY = RecordType.Delivery
_RECEPTION = RecordType.Reception
_DISK_CHECK_INTERVAL = 5.0
"""Seconds for which an answer about free space holds."""


class DeliveryLog:
    """All loggers of a node. nodeid: text of a UUID; clock: Unix seconds; policy: asked filters and hooks."""

    def __init__(
        self,
        nodeid: str,
        clock: Callable[[], float],
        policy: Policy | None = None,
        templates: Templates | None = None,
    ) -> None:
        self._clock = clock
        self._policy: Policy = policy or SilentPolicy()
        self._templates = templates or Templates(clock)
        self._encoder = RecordEncoder(nodeid)
        self._loggers: list[LocalLogger] = []
        self._hooks: list[LogHook] = []
        self._disposition_hooks: list[DispositionHook] = []
        self._classifier: BounceClassifier | None = None
        self._classifier_config: ClassifierConfig | None = None
        self._accounting: Accounting | None = None
        self.audit: AuditLog | None = None
        """Logins and access; None unless the policy wants it."""
        self._has_others = False
        """Whether there is anything but files."""
        self._nursery: trio.Nursery | None = None
        self._sink: MessageSink | None = None
        self._wanted: frozenset[RecordType] = frozenset()
        self._due_changed = trio.Event()
        self._drained = trio.lowlevel.ParkingLot()
        self._disk_checked = -math.inf
        self._disk_low: str | None = None
        self._received = 0
        self._outcomes = dict.fromkeys(RecordType, 0)
        self.delivery_time = Histogram(DELIVERY_TIMES)
        """Seconds from reception to delivery, of messages."""
        self.classify_time = Histogram()
        self.on_failure: Callable[[Message, str | None, LastError], None] = lambda msg, queue, error: None
        """Called with what goes wrong, and with the scheduled queue's name if it is at hand."""
        self.needs_headers = False
        """Whether a logger wants headers: a message's content must be loaded before `record`."""

    async def add_local(self, config: LocalLogsConfig) -> None:
        """Start a logger: make its directories, complete earlier processes' segments. Raises OSError."""
        logger = LocalLogger(config, self._clock, self._wake, self._templates)
        for directory in logger.directories:
            os.makedirs(directory, exist_ok=True)
            await trio.to_thread.run_sync(complete_segments, directory)
        self._loggers.append(logger)
        self._wanted |= logger.routes.keys()
        self.needs_headers = self.needs_headers or bool(logger.headers)

    def add_hook(self, config: LogHookConfig) -> None:
        """Let records become messages. Raises ValueError."""
        self._check_hook_name(config.name)
        hook = LogHook(config, self._policy, self._templates)
        self._hooks.append(hook)
        self._has_others = True
        self._wanted |= hook.templates.keys()
        self.needs_headers = self.needs_headers or bool(hook.headers)
        self._start_hook(hook)

    def add_disposition_hook(self, config: DispositionHookConfig) -> None:
        """Let the policy see records when they are logged. Raises ValueError."""
        self._check_hook_name(config.name)
        hook = DispositionHook(config, self._policy)
        self._disposition_hooks.append(hook)
        self._has_others = True
        self._wanted |= hook.kinds

    async def set_classifier(self, config: ClassifierConfig) -> None:
        """Label what goes wrong, by rules that are read from files. Raises OSError or ValueError."""
        if self._classifier is not None:
            raise ValueError("there is a bounce classifier already: name all files in one call")
        self._classifier = await trio.to_thread.run_sync(BounceClassifier.load, config)
        self._classifier_config = config

    async def reload_classifier(self) -> None:
        """Read its files again; what is wrong with them is logged and changes nothing."""
        if self._classifier_config is None:
            return
        try:
            self._classifier = await trio.to_thread.run_sync(BounceClassifier.load, self._classifier_config)
        except (OSError, ValueError) as err:
            log.error("the bounce classifier keeps its old rules", error=str(err))

    async def add_audit(self, config: AuditLogConfig) -> None:
        """Log logins and access from now on. Raises OSError or ValueError."""
        if self.audit is not None:
            raise ValueError(f"there is an audit log already, in {self.audit.directory}")
        os.makedirs(config.log_dir, exist_ok=True)
        await trio.to_thread.run_sync(complete_segments, config.log_dir)
        self.audit = AuditLog(config, self._clock, self._wake, self._drained)

    def set_accounting(self, path: str) -> None:
        """Count receptions and deliveries in an SQLite database; a later call names another one."""
        if self._accounting is not None:
            self._accounting.path = path
            return
        self._accounting = Accounting(path, self._clock)
        self._has_others = True
        self._wanted |= {RecordType.Reception, RecordType.Delivery}
        if self._nursery is not None:
            self._nursery.start_soon(self._accounting.serve)

    def connect(self, sink: MessageSink) -> None:
        """Say where the messages of hooks go; they wait until then."""
        self._sink = sink
        for hook in self._hooks:
            self._start_hook(hook)

    def _start_hook(self, hook: LogHook) -> None:
        hook.sink = self._sink
        if self._sink is not None and self._nursery is not None:
            self._nursery.start_soon(hook.serve)

    def _check_hook_name(self, name: str) -> None:
        names = [hook.name for hook in self._hooks] + [hook.name for hook in self._disposition_hooks]
        if name in names:
            raise ValueError(f"there is a log hook named '{name}' already: hooks need names of their own")

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
        if kind is _RECEPTION:
            self._received += len(recipients)
        else:
            self._count(kind, msg, response, context, len(recipients), queue, now)
        label = UNCATEGORIZED
        if self._classifier is not None and kind in CLASSIFIED:
            before = perf_counter()
            label = self._classifier.label(response)
            self.classify_time.observe(perf_counter() - before)
        for logger in self._loggers:
            route = logger.routes.get(kind)
            if route is None:
                continue
            if logger.filter_event is not None and not await self._passes(logger.filter_event, msg):
                continue
            started = perf_counter() if msg.id[LOWEST] < TIMED else None
            meta = to_json(logger.meta.pick(msg.meta)) if logger.meta else EMPTY_OBJECT
            headers = EMPTY_OBJECT
            if logger.headers and msg.data_loaded:
                headers = to_json(logger.headers.pick(msg.data))
            line = self._encoder.message(
                kind, msg, response, context, recipients, queue, now, meta, headers, feedback_report, label
            )
            if logger.is_full and not await self._has_room(logger):
                continue
            writer, segment_header, template = route
            writer.append(line if template is None else rendered(template, line), segment_header)
            if started is not None:
                logger.latency.observe(perf_counter() - started)
        if self._has_others and msg.meta.get("reception_protocol") != LOG_RECORD:
            if self._accounting is not None:
                self._accounting.note(kind, len(recipients))
            for hook in self._hooks:
                if kind in hook.templates:
                    picked = hook.meta.pick(msg.meta)
                    headers = EMPTY_OBJECT
                    if hook.headers and msg.data_loaded:
                        headers = to_json(hook.headers.pick(msg.data))
                    meta = to_json(picked)
                    line = self._encoder.message(
                        kind,
                        msg,
                        response,
                        context,
                        recipients,
                        queue,
                        now,
                        meta,
                        headers,
                        feedback_report,
                        label,
                    )
                    before = perf_counter()
                    await hook.put(kind, line, msg.sender, recipients, picked)
                    hook.latency.observe(perf_counter() - before)
            for watcher in self._disposition_hooks:
                if kind in watcher.kinds:
                    line = self._encoder.message(
                        kind, msg, response, context, recipients, queue, now,
                        EMPTY_OBJECT, EMPTY_OBJECT, feedback_report, label,
                    )  # fmt: skip
                    before = perf_counter()
                    await watcher.fire(msg, line)
                    watcher.latency.observe(perf_counter() - before)

    def _count(
        self,
        kind: RecordType,
        msg: Message,
        response: Response,
        context: LogContext,
        recipients: int,
        queue: str | None,
        now: float,
    ) -> None:
        """All but receptions."""
        self._outcomes[kind] += recipients
        counts = context.counts
        if kind is _DELIVERY:
            if counts is not None:
                counts.delivered += recipients
            if msg.id[LOWEST] < TIMED and msg.meta.get("reception_protocol") != LOG_RECORD:
                self.delivery_time.observe(now - created(msg.id))
            return
        if counts is not None:
            counts.note(kind, recipients)
        if kind in FAILURES:
            error = last_error(now, response)
            if counts is not None:
                counts.last_error = error
            self.on_failure(msg, queue, error)

    @property
    def outcomes(self) -> dict[RecordType, int]:
        """For how many recipients there was something to record, by kind, whether a logger wanted it or not."""
        return self._outcomes | {_RECEPTION: self._received}

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
        self._outcomes[RecordType.Rejection] += 1
        sender, recipient = sender or "", recipients[-1] if recipients else ""
        label = UNCATEGORIZED if self._classifier is None else self._classifier.label(response)
        for logger in self._loggers:
            route = logger.routes.get(RecordType.Rejection)
            if route is None:
                continue
            picked = to_json(logger.meta.pick(meta)) if logger.meta else EMPTY_OBJECT
            line = self._encoder.rejection(sender, recipient, response, context, now, picked, label)
            if logger.is_full and not await self._has_room(logger):
                continue
            writer, segment_header, template = route
            writer.append(line if template is None else rendered(template, line), segment_header)
        for hook in self._hooks:
            if RecordType.Rejection in hook.templates:
                values = hook.meta.pick(meta)
                line = self._encoder.rejection(
                    sender, recipient, response, context, now, to_json(values), label
                )
                await hook.put(RecordType.Rejection, line, sender, (recipient,), values)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flush lines, end segments when it is time, and let hooks work."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._tend)
            if self._accounting is not None:
                nursery.start_soon(self._accounting.serve)
            for hook in self._hooks:
                self._start_hook(hook)
            task_status.started()

    async def _tend(self) -> None:
        while True:
            writers = [writer for logger in self._loggers for writer in logger.writers]
            if self.audit is not None:
                writers.append(self.audit.writer)
            with trio.move_on_at(min((writer.due for writer in writers), default=math.inf)):
                await self._due_changed.wait()
            self._due_changed = trio.Event()
            now = trio.current_time()
            for writer in writers:
                if writer.due <= now:
                    writer.tend()
            self._drained.unpark_all()

    async def aclose(self) -> None:
        """Hand over and write everything, complete the segments. The log wants nothing afterwards."""
        self._nursery = None
        for hook in self._hooks:
            await hook.drain()
        if self._accounting is not None:
            await self._accounting.flush()
        self._hooks, self._disposition_hooks, self._accounting = [], [], None
        loggers, self._loggers = self._loggers, []
        self._wanted = frozenset()
        for logger in loggers:
            for writer in logger.writers:
                writer.finish()
        if self.audit is not None:
            self.audit.close()
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
        wanted = [
            (directory, logger.min_free_space, logger.min_free_inodes)
            for logger in self._loggers
            for directory in logger.directories
        ]
        if self.audit is not None:
            wanted.append((self.audit.directory, self.audit.min_free_space, self.audit.min_free_inodes))
        for directory, min_free_space, min_free_inodes in wanted:
            try:
                lacking = lacking_on(directory, min_free_space, min_free_inodes)
            except OSError as err:
                log.warning("cannot tell a log directory's free space", log_dir=directory, error=str(err))
                continue
            if lacking is not None:
                return f"log directory {directory}: {lacking}"
        return None

    async def _passes(self, event: str, msg: Message) -> bool:
        try:
            answer = await self._policy.ask(event, msg)
        except (PolicyError, Rejection) as err:
            log.error("log filter failed; the record is left out", filter_event=event, error=str(err))
            return False
        return answer is not None and answer is not False

    async def _has_room(self, logger: LocalLogger) -> bool:
        """Wait until it has; False if the log was closed meanwhile."""
        logger.waits += 1
        while logger.is_full:
            if logger not in self._loggers:
                log.error("a delivery log record is lost: the log was closed while the disk failed")
                return False
            await self._drained.park()
        return True

    @property
    def loggers(self) -> Sequence[LocalLogger]:
        """Those that write files."""
        return self._loggers

    @property
    def hooks(self) -> Sequence[LogHook]:
        """Those that make messages."""
        return self._hooks

    @property
    def disposition_hooks(self) -> Sequence[DispositionHook]:
        return self._disposition_hooks

    def _wake(self) -> None:
        self._due_changed.set()
