"""The ready queue: messages of one source to one site that may go now, and the sessions that take them.

Named `source->site@protocol`. It owns its messages until a dispatcher takes one, and starts dispatchers:
one task per connection, no more than the connection limit, as many as KumoMTA's curve asks for at this
length. An idle dispatcher parks here; the one that parked last is woken first, so that surplus
connections idle out.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING

import outcome
import structlog
import trio

from kumo_py.core.duration import format_duration
from kumo_py.limits.lease import Denied
from kumo_py.logs import DeliveryCounts, LogContext
from kumo_py.queue.memory import MemoryState
from kumo_py.queue.refusals import Refusal, refused
from kumo_py.queue.running import Running, shutdown_timeout, watchdog_timeout
from kumo_py.queue.scheduled import refresh_time

if TYPE_CHECKING:
    from collections.abc import Container

    from kumo_py.dns import MailExchanger
    from kumo_py.limits.lease import Lease
    from kumo_py.message.message import Message
    from kumo_py.proto.reply import Response
    from kumo_py.queue.config import DeliveryProtocol, EgressPath, EgressSource
    from kumo_py.queue.context import InsertReason
    from kumo_py.queue.queues import Queues

log = structlog.get_logger("kumo_py.queue.ready")

CATCH_UP = 0.01
"""Seconds that a message may wait for a dispatcher at work before an idle one is woken for it."""
FEW = 2
"""Connections that a ready queue may have while the node is above its memory limit."""
_LEASE_RETRY = 0.25
"""Seconds after which a denied connection lease or rate is asked for again."""


_PROTOCOLS = {
    "smtp_client": "ESMTP",
    "lua": "Lua",
    "defersmtpinject": "DeferredSmtpInjection",
    "httpinject": "HttpInjectionGenerator",
}
"""What log records call a protocol, by the first word of its name in a ready queue's."""


@lru_cache(maxsize=1024)
def length_wanted(connections: int, limit: int) -> float:
    """The least queue length at which one more connection than these is wanted; infinite at the limit.

    The inverse of KumoMTA's goal, ceil(limit · (1 - e^(-0.023 · length))) capped by the length.
    """
    if connections >= limit:
        return math.inf
    return max(connections, math.floor(-math.log1p(-connections / limit) / 0.023)) + 1


class _Idler:
    """A parked dispatcher and since when (trio time)."""

    __slots__ = ("since", "task")

    def __init__(self, task: trio.lowlevel.Task, since: float) -> None:
        self.task = task
        self.since = since


class ReadyQueue:
    """See the module. All methods run on the trio thread; those not `async` never block."""

    __slots__ = (
        "_ended",
        "_idle",
        "_leases",
        "_limited",
        "_lost",
        "_owner",
        "_pace",
        "_retry_at",
        "_running",
        "_throttled",
        "_will_retry",
        "aborted",
        "connections",
        "consecutive_failures",
        "last_change",
        "messages",
        "mx",
        "name",
        "next_refresh",
        "opened",
        "overflows",
        "path",
        "pool",
        "protocol",
        "provider",
        "route",
        "site_name",
        "source",
    )

    def __init__(
        self,
        owner: Queues,
        *,
        name: str,
        site_name: str,
        route: str,
        protocol: DeliveryProtocol,
        source: EgressSource,
        pool: str,
        path: EgressPath,
        mx: MailExchanger | None,
    ) -> None:
        self._owner = owner
        self.name = name
        self.site_name = site_name
        self.route = route
        self.protocol = protocol
        self.source = source
        self.pool = pool
        self.path = path
        self.mx = mx
        self.provider = path.provider_name or site_name
        """By which it counts, whatever its path is called later."""
        self.messages: deque[Message] = deque()
        self.connections = 0
        self.opened = 0
        """Connections that came to stand."""
        self.overflows = 0
        """Messages that were not taken because it was full."""
        self.aborted = 0
        """Dispatchers that made no progress."""
        self.consecutive_failures = 0
        """Connection plans in a row of which no host answered."""
        self.last_change = trio.current_time()
        self.next_refresh = refresh_time(path)
        self._idle: list[_Idler] = []
        self._leases: dict[Lease, trio.lowlevel.Task | None] = {}
        """Of each connection, and the dispatcher once it runs."""
        self._lost: set[trio.lowlevel.Task] = set()
        """Dispatchers whose lease is gone."""
        self._will_retry = False
        self._running: dict[trio.lowlevel.Task, Running] = {}
        self._ended = DeliveryCounts()
        """Of the dispatchers that run no more."""
        self._limited: Refusal | None = None
        self._throttled: Refusal | None = None
        self._retry_at = 0.0
        self._pace = 1.0
        """Seconds that the remote server takes for a message: a moving average."""

    # -- messages in and out -----------------------------------------------------------------------
    @property
    def full(self) -> bool:
        return len(self.messages) >= self.path.max_ready

    def insert(self, msg: Message) -> bool:
        """Take a message over, and see that somebody sends it; False when the queue is full."""
        if self.full:
            self.overflows += 1
            return False
        owner = self._owner
        if owner.orders and owner.holding.takes(msg):
            return True
        self.messages.append(msg)
        owner.in_hand.pop(msg, None)
        owner.body_came(msg)
        if self._idle:
            if self._is_behind():
                self._wake(self._idle.pop(), True)
        elif self._wants_connection():
            self.connect_more()
        return True

    def _is_behind(self) -> bool:
        """Whether the dispatchers at work need help with what waits.

        Not while they can send it within CATCH_UP seconds: a message that goes with the one before it needs one wake-up
        instead of three.
        """
        at_work = self.connections - len(self._idle)
        return len(self.messages) * self._pace > CATCH_UP * at_work

    def note_pace(self, seconds: float) -> None:
        """A session reports how long the server took for a message."""
        self._pace += (seconds - self._pace) * 0.125

    def take(self) -> Message | None:
        """The next message; the caller owns it now."""
        if not self.messages:
            return None
        msg = self.messages.popleft()
        self._owner.body_left(msg)
        self._owner.in_hand[msg] = task = trio.lowlevel.current_task()
        if (running := self._running.get(task)) is not None:
            running.steps += 1
        return msg

    def put_back(self, msg: Message, *, sifted: bool = False) -> None:
        """Return a message that was taken but not tried; it goes first, unless an operator's rule matches it.

        Nothing happens if it has gone elsewhere since it was taken.
        """
        owner = self._owner
        running = self._running.get(trio.lowlevel.current_task())
        if msg not in owner.in_hand or (running is not None and running.aborted):
            return
        if owner.orders and owner.holding.takes(msg):
            return
        if not sifted and owner.admin and owner.running:
            owner.in_hand[msg] = None
            owner.spawn(owner.sweep.returned, (self, msg))
            return
        del owner.in_hand[msg]
        self.messages.appendleft(msg)
        self._owner.body_came(msg)

    def withdraw(self, messages: Container[Message]) -> list[Message]:
        """Take out those of the messages that are still here; the caller owns them now."""
        taken = [msg for msg in self.messages if msg in messages]
        if taken:
            self.messages = deque(msg for msg in self.messages if msg not in messages)
            self._hand_over(taken)
        return taken

    def take_all(self) -> list[Message]:
        """Take out all of them; the caller owns them now."""
        taken = list(self.messages)
        self.messages.clear()
        self._hand_over(taken)
        return taken

    def take_excess(self) -> list[Message]:
        """Take out what came last, as far as there is more than `max_ready`; the caller owns it now."""
        taken: list[Message] = []
        while len(self.messages) > self.path.max_ready:
            taken.append(self.messages.pop())
        self._hand_over(taken)
        return taken

    def _hand_over(self, taken: list[Message]) -> None:
        task = trio.lowlevel.current_task()
        for msg in taken:
            self._owner.body_left(msg)
            self._owner.in_hand[msg] = task

    # -- dispatchers -------------------------------------------------------------------------------
    @property
    def _suspended(self) -> bool:
        owner = self._owner
        if self.name in owner.admin.ready and owner.admin.ready_suspended(self.name):
            return True
        if owner.spool.unhealthy and owner.suspend_when_spool_unhealthy:
            return True
        return owner.source_health.rests_for(self.source.name) > 0.0

    @property
    def running(self) -> Running:
        """Of the dispatcher that asks."""
        task = trio.lowlevel.current_task()
        return self._running.get(task) or Running(str(uuid.uuid4()), self._ended)

    @property
    def stopping(self) -> bool:
        """Whether the dispatcher that asks is to end after the message in hand."""
        return self._owner.stopping or (bool(self._lost) and trio.lowlevel.current_task() in self._lost)

    async def wait(self) -> bool:
        """Park an idle dispatcher: True when there may be a message, False to close the connection.

        That is after `idle_timeout`, or when the node stops.
        """
        if self.stopping or self._suspended:
            return False
        if self.messages:
            return True
        idler = _Idler(trio.lowlevel.current_task(), trio.current_time())
        self._idle.append(idler)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._idle.remove(idler)
            return trio.lowlevel.Abort.SUCCEEDED

        self.last_change = idler.since
        woken: bool = await trio.lowlevel.wait_task_rescheduled(abort)
        if (running := self._running.get(idler.task)) is not None:
            running.steps += 1
        return woken

    def _wake(self, idler: _Idler, value: bool) -> None:
        trio.lowlevel.reschedule(idler.task, outcome.Value(value))

    def wake_for_backlog(self) -> None:
        """Called once a second: the dispatchers at work may be slower than they were."""
        for _ in range(min(len(self.messages), len(self._idle))):
            self._wake(self._idle.pop(), True)

    def close_idle(self, now: float, *, all_of_them: bool = False) -> None:
        """Let go of the dispatchers that have waited for `idle_timeout` (trio time)."""
        idle, limit = self._idle, self.path.idle_timeout
        while idle and (all_of_them or now - idle[0].since >= limit):
            self._wake(idle.pop(0), False)

    @property
    def idle_connections(self) -> int:
        return len(self._idle)

    def _wants_connection(self) -> bool:
        return len(self.messages) >= length_wanted(self.connections, self.path.connection_limit.limit)

    def connect_more(self) -> None:
        """Start as many dispatchers as the length asks for and the limits allow."""
        owner = self._owner
        if owner.stopping or trio.current_time() < self._retry_at or self._suspended:
            return
        while self._wants_connection():
            if self.connections >= FEW and owner.memory_state() is MemoryState.NONE:
                return
            lease = owner.limits.lease_connection(self)
            if isinstance(lease, Denied):
                self._retry_at = trio.current_time() + min(lease.wait, _LEASE_RETRY)
                self._limited = self._refused(self._limited, f"TooManyLeases for {lease.name}")
                return
            wait = owner.limits.admit_connection(self)
            if wait > 0.0:
                # First: who waits for the lease is asked at once.
                self._retry_at = trio.current_time() + wait
                text = f"max_connection_rate throttling for {format_duration(round(wait, 3))}"
                self._throttled = self._refused(self._throttled, text)
                if wait < 1.0 and not self._will_retry:
                    self._will_retry = True
                    owner.spawn(self._retry)
                lease.release()
                return
            self.connections += 1
            self._leases[lease] = None
            self._limited = self._throttled = None
            owner.spawn(self._dispatch, lease)

    def _refused(self, before: Refusal | None, context: str) -> Refusal:
        return refused(
            before, context, wall=self._owner.wall(), now=trio.current_time(), until=self._retry_at
        )

    async def _retry(self) -> None:
        """Look again when the rate of connections allows one: a look each second would be too few."""
        await trio.sleep_until(self._retry_at)
        self._will_retry = False
        self.connect_more()

    def connect_now(self) -> None:
        """A limit that was in the way has given way."""
        self._retry_at = 0.0
        self.connect_more()

    def extend_leases(self, now: float, duration: float) -> None:
        """Keep the places of the connections that are open for `duration` seconds (trio time)."""
        for lease, task in self._leases.items():
            if not lease.extend(now, duration) and task is not None:
                # Another node may have its place: this connection ends after the message in hand.
                self._lost.add(task)
        for idler in [idler for idler in self._idle if idler.task in self._lost]:
            self._idle.remove(idler)
            self._wake(idler, False)

    def watch(self, now: float) -> None:
        """Called once a second: cancel dispatchers that make no progress."""
        if not self._running:
            return
        idle = {idler.task for idler in self._idle}
        limit = watchdog_timeout(self.path, self.protocol)
        for task, running in self._running.items():
            stuck = running.stuck(now)
            if stuck >= limit and task not in idle and not running.aborted:
                log.error(
                    "a dispatcher makes no progress and is cancelled",
                    ready_queue=self.name,
                    session_id=running.session_id,
                    stuck=format_duration(round(stuck)),
                )
                self.aborted += 1
                running.abort(by_watchdog=True)

    def finish(self, now: float) -> None:
        """The node ends: dispatchers have `system_shutdown_timeout` for what they have in hand."""
        for running in self._running.values():
            running.scope.deadline = now + shutdown_timeout(self.path)

    async def _dispatch(self, lease: Lease) -> None:
        task = trio.lowlevel.current_task()
        running = self._running[task] = Running(str(uuid.uuid4()))
        self._leases[lease] = task
        failed = False
        try:
            with running.scope:
                await self._owner.dispatch(self)
        except trio.Cancelled:
            # The node ends at once: its places are for nobody.
            self._owner.stopping = True
            raise
        except Exception:
            failed = True
            # A bug in one session must not stop the node; its messages are still in the spool.
            log.exception("dispatcher failed", ready_queue=self.name)
            self._retry_at = trio.current_time() + 1.0
        finally:
            del self._running[task]
            self._ended.add(running.counts)
            running.counts = self._ended
            self.connections -= 1
            self.last_change = trio.current_time()
            del self._leases[lease]
            self._lost.discard(task)
            lease.release()
        if failed or running.aborted:
            await self._owner.left_by(task, running, self)
        # What it was woken for and did not take is for another one.
        if self.messages and self._idle:
            self._wake(self._idle.pop(), True)
        self.connect_more()

    def log_context(self, running: Running) -> LogContext:
        """For records of messages whose dispatcher cannot say."""
        return LogContext(
            site=self.name,
            egress_pool=self.pool,
            egress_source=self.source.name,
            delivery_protocol=_PROTOCOLS.get(self.protocol.name.partition(":")[0]),
            provider_name=self.path.provider_name,
            session_id=running.session_id,
            counts=running.counts,
        )

    # -- the queue as a whole ----------------------------------------------------------------------
    @property
    def counts(self) -> DeliveryCounts:
        """What its dispatchers have done so far, added up."""
        total = DeliveryCounts()
        for counts in (self._ended, *(running.counts for running in self._running.values())):
            total.add(counts)
        return total

    @property
    def refusals(self) -> dict[str, Refusal]:
        """Why it has no more connections just now, if it wants some, by KumoMTA's name for such a state."""
        if not self._wants_connection():
            return {}
        now = trio.current_time()
        known = {"connection_limited": self._limited, "connection_rate_throttled": self._throttled}
        return {name: state for name, state in known.items() if state is not None and state.holds(now)}

    @property
    def dispatchers(self) -> list[tuple[Running, float | None]]:
        """Those that run; of idle ones also since when (trio time)."""
        idle = {idler.task: idler.since for idler in self._idle}
        return [(running, idle.get(task)) for task, running in self._running.items()]

    def abort_dispatcher(self, session_id: str) -> bool:
        """End a dispatcher at once; whether there was one. What it has in hand is tried again."""
        for running in self._running.values():
            if running.session_id == session_id and not running.aborted:
                running.abort()
                return True
        return False

    async def requeue_all(
        self, response: Response, reason: InsertReason, *, delay: float | None, count_attempt: bool
    ) -> None:
        """Send every message back to its scheduled queue, after `delay` seconds or by the retry schedule."""
        for msg in self.take_all():
            await self._owner.requeue(msg, response, (reason,), count_attempt=count_attempt, delay=delay)

    def reapable(self, now: float) -> bool:
        """Whether nothing has happened here for ten minutes."""
        return not self.messages and not self.connections and now - self.last_change > 600.0
