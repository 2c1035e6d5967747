"""All queues of a node, and the way of a message between them.

    insert → promote → ready queue → dispatcher → forget
       ↑        ↓                        ↓
       └── timer wheel ←──────────── requeue

A message is owned by exactly one of: the wheel (delayed), `held` (by an operator), a ready queue, a task that is busy
with it (`in_hand`).
Delayed messages are saved and leave memory as far as their queue's `shrink_policy` allows. Errors of the policy never
lose a message: it waits and is tried again. Nor do tasks that end halfway: what they had in hand is tried again, or
saved if the node ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, TypeVarTuple

import structlog
import trio

from kumo_py.core.duration import format_duration
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.core.spool_id import LOWEST, TIMED, created
from kumo_py.core.timer_wheel import TimerWheel
from kumo_py.limits.shared import SharedThrottles
from kumo_py.logs import LogContext, RecordType
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue import retry
from kumo_py.queue.admin import AdminRules
from kumo_py.queue.census import waiting
from kumo_py.queue.config import UNSPECIFIED_POOL, QueueConfig
from kumo_py.queue.context import Context, InsertReason, add, describe
from kumo_py.queue.directory import QueueDirectory
from kumo_py.queue.egress import SourceSelector
from kumo_py.queue.hold import Holding
from kumo_py.queue.maildir import MaildirDelivery
from kumo_py.queue.memory import MemoryState, ReadyMemory, shrink, waiting_reduction
from kumo_py.queue.past import Past
from kumo_py.queue.path_limits import LEASE_DURATION, PathLimits
from kumo_py.queue.placement import NotPlaced, Placement, ReadyQueueFull
from kumo_py.queue.promotion import TICK, Promotion
from kumo_py.queue.ready import ReadyQueue
from kumo_py.queue.scheduled import NULL_QUEUE, ScheduledQueue
from kumo_py.queue.source_health import SourceHealth
from kumo_py.queue.sweep import Sweep
from kumo_py.queue.times import QueueTimes
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from kumo_py.core.policy import Policy
    from kumo_py.dns import Resolver
    from kumo_py.limits.lease import Leases
    from kumo_py.limits.throttle import Throttles
    from kumo_py.logs import DeliveryLog
    from kumo_py.message.message import Message
    from kumo_py.queue.running import Running
    from kumo_py.spool.messages import MessageSpool

_As = TypeVarTuple("_As")

log = structlog.get_logger("kumo_py.queue")

FULL_DELAY = 60.0
"""A message that finds its ready queue full waits a random time up to this many seconds."""
SAVE_TIME = 10.0
"""Seconds that a node which ends may take to save what is only in memory."""
_SLICE = 128
"""Messages handled in one go before other tasks get a turn."""

Dispatcher = Callable[[ReadyQueue], Awaitable[None]]
"""One outgoing session: takes messages from the ready queue until there are none for its idle time."""


class Queues:
    """See the module. One per node; runs on the trio thread."""

    def __init__(
        self,
        *,
        policy: Policy,
        spool: MessageSpool,
        delivery_log: DeliveryLog,
        resolver: Resolver,
        throttles: Throttles,
        leases: Leases,
        wall: Callable[[], float],
        rates: SharedThrottles | None = None,
        admin: AdminRules | None = None,
        random: Random | None = None,
        body_budget: int = 512 << 20,
    ) -> None:
        self.policy = policy
        self.spool = spool
        self.log = delivery_log
        self.resolver = resolver
        self.throttles = throttles
        self.rates = rates or SharedThrottles(trio.current_time, throttles)
        self.limits = PathLimits(self.rates, leases, self.spawn)
        leases.released = self.connect_now
        self.wall = wall
        """Unix time that never steps."""
        self.random = random or Random()
        self.dispatchers: dict[str, Dispatcher] = {}
        """By the protocol's first word in a ready queue's name."""
        self.source_health = SourceHealth(trio.current_time)
        self.placement = Placement(self)
        self.ready = self.placement.ready
        self.past = Past()
        self.looks = 0
        """How often a ready queue was looked after."""
        self.times = QueueTimes()
        self.directory = QueueDirectory(policy, self.placement)
        self.scheduled = self.directory.queues
        delivery_log.on_failure = self.directory.note_failure
        self.wheel: TimerWheel[Message] = TimerWheel(TICK, wall())
        self.in_hand: dict[Message, trio.lowlevel.Task | None] = {}
        """Messages that some task is busy with, and which one; None if it is to be another one soon."""
        self.holding = Holding(self)
        self.held, self.orders = self.holding.held, self.holding.orders
        self.stopping = False
        self.suspend_when_spool_unhealthy = True
        self.memory = ReadyMemory(self, body_budget)
        self.memory_state: Callable[[], MemoryState] = lambda: MemoryState.OK
        self.body_came, self.body_left = self.memory.body_came, self.memory.body_left
        self.promotion = Promotion(self)
        self.maildir = MaildirDelivery(self)
        self.admin = AdminRules(trio.current_time, wall) if admin is None else admin  # false without rules
        self.sweep = Sweep(self, self.admin)
        self.source_health.on_suspend = self.sweep.source_suspended
        self._unconfigured: dict[str, ScheduledQueue] = {}
        self._unread = _placeholder("")
        self._nursery: trio.Nursery | None = None
        self._work = trio.CancelScope()

    # -- running -----------------------------------------------------------------------------------
    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until `stop`, and until the dispatchers have finished the message in hand."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                with self._work:
                    async with trio.open_nursery() as work:
                        work.start_soon(self.promotion.run)
                        work.start_soon(self._tend)
        finally:
            self.stopping = True
            await self._save_unsaved()

    def stop(self) -> None:
        """Begin to stop: nothing new is tried."""
        self.stopping = True
        self._work.cancel()
        now = trio.current_time()
        for queue in self.ready.values():
            queue.close_idle(now, all_of_them=True)
            queue.finish(now)

    def connect_now(self, ready: str) -> None:
        """A limit that kept a ready queue from opening connections has given way."""
        if ready in self.ready:
            self.ready[ready].connect_now()

    @property
    def running(self) -> bool:
        return self._nursery is not None and not self.stopping

    def spawn(self, run: Callable[[*_As], Awaitable[None]], *args: *_As) -> None:
        assert self._nursery is not None, "Queues.serve is not running"
        self._nursery.start_soon(run, *args)

    async def _save_unsaved(self) -> None:
        """What is only in memory goes to the spool before the node ends; together, to share a sync."""
        with trio.move_on_after(SAVE_TIME, shield=True):
            await self.holding.settle()
            unsaved = [msg for queue in self.ready.values() for msg in queue.take_all()]
            unsaved += [msg for msg in waiting(self) if msg.queue is not None]
            unsaved += [msg for msg in self.in_hand if not msg.spooled]
            unsaved = [msg for msg in dict.fromkeys(unsaved) if not (msg.data_saved and msg.meta_saved)]
            for start in range(0, len(unsaved), _SLICE):
                async with trio.open_nursery() as nursery:
                    for msg in unsaved[start : start + _SLICE]:
                        nursery.start_soon(self.save, msg)

    async def _tend(self) -> None:
        """Once a second: close idle connections, open wanted ones, drop queues that are long unused."""
        ticks = 0
        while True:
            await trio.sleep(1.0)
            ticks += 1
            now = trio.current_time()
            for count, queue in enumerate(list(self.ready.values())):
                self.looks += 1
                queue.close_idle(now)
                queue.watch(now)
                if ticks % 10 == 0:
                    queue.extend_leases(now, LEASE_DURATION)
                if queue.messages:
                    if self.source_health.rests_for(queue.source.name) > 0.0:  # it came too late to be met
                        self.sweep.source_suspended(queue.source.name)
                    queue.wake_for_backlog()
                    if now >= queue.next_refresh:
                        # Not here: a policy that hangs must not hold up the others, nor let leases run out.
                        self.spawn(self.placement.refresh_path, queue)
                    queue.connect_more()
                if count % _SLICE == _SLICE - 1:
                    await trio.lowlevel.checkpoint()
            self.source_health.end_rests()
            self.promotion.look()
            if ticks % 10 == 0:
                self._reap(now)

    def _reap(self, now: float) -> None:
        self.admin.forget_expired()
        self.holding.forget_settled()
        for queue in [queue for queue in self.ready.values() if queue.reapable(now)]:
            del self.ready[queue.name]
            self.past.ended(queue)
        self.directory.reap(now)
        for name in [name for name, queue in self._unconfigured.items() if queue.delayed == 0]:
            del self._unconfigured[name]

    def epoch_changed(self) -> None:
        """The policy, or something it reads, is another one now.

        Configurations with `refresh_strategy = "Epoch"` are asked for anew before they are used again, as are all
        pools and sources, and queues that could not be set up; the others in their own time.
        """
        self.directory.epoch_changed()
        self.placement.egress.forget()
        now = trio.current_time()
        for ready in self.ready.values():
            if ready.path.refresh_strategy == "Epoch":
                ready.next_refresh = now

    async def resolve(self, name: str) -> ScheduledQueue:
        """The scheduled queue of this name, set up if need be.

        Raises PolicyError or Rejection when its configuration or its pool cannot be had.
        """
        if name in self.scheduled:
            return await self.directory.resolve(name)
        started = perf_counter()
        queue = await self.directory.resolve(name)
        self.times.resolve.observe(perf_counter() - started)
        return queue

    def waiting_in(self, name: str) -> list[ScheduledQueue]:
        """The queue of this name, and where its messages wait while it cannot be set up, as far as there are any."""
        return [
            queue for known in (self.scheduled, self._unconfigured) if (queue := known.get(name)) is not None
        ]

    # -- insertion ---------------------------------------------------------------------------------
    async def insert(
        self, msg: Message, queue: ScheduledQueue, context: Context = (InsertReason.RECEIVED,)
    ) -> None:
        """Take a message over: it waits until it is due, or goes to a ready queue now."""
        started = perf_counter() if msg.id[LOWEST] < TIMED else None
        queue.last_change = trio.current_time()
        self.in_hand[msg] = trio.lowlevel.current_task()
        try:
            if self.orders and self.holding.takes(msg):
                return
            if self.admin.bounces and await self.sweep.bounces(msg, queue):
                return
            if msg.due > self.wall():
                await self._delay(msg, queue, context)
            else:
                await self._promote(msg, queue, context)
        except Exception:
            self.in_hand.pop(msg, None)  # it is its injector's again
            raise
        if started is not None:
            self.times.insert.observe(perf_counter() - started)

    async def insert_or_wait(self, msg: Message, queue: ScheduledQueue, context: Context) -> None:
        """`insert` for a message that has no injector to be told: whatever fails, it waits and is tried again."""
        if queue.config.protocol.maildir_path is not None and self.running and msg.due <= self.wall():
            self.maildir.soon(msg, queue, context)
        else:
            await self.insert_now_or_wait(msg, queue, context)

    async def insert_now_or_wait(self, msg: Message, queue: ScheduledQueue, context: Context) -> None:
        """The same, and delivery to a maildir is over when it returns."""
        try:
            await self.insert(msg, queue, context)
        except Exception as err:
            expected = isinstance(err, PolicyError | Rejection | SpoolError)
            log.error(
                "message waits", id=msg.id.hex(), queue=queue.name, error=str(err), exc_info=not expected
            )
            await self._hold_back(msg, queue)

    async def hold_back(self, msg: Message, name: str) -> None:
        """Keep a message while the queue of this name cannot be set up.

        It is sent by no defaults, which know nothing of the policy's routes, and does not expire by them.
        """
        await self._hold_back(msg, self.unconfigured(name))

    @property
    def placeholders(self) -> tuple[ScheduledQueue, ...]:
        """What messages wait in while their queue is not known."""
        return *self._unconfigured.values(), self._unread

    def unconfigured(self, name: str) -> ScheduledQueue:
        """Something for messages to wait in while their queue cannot be set up."""
        queue = self._unconfigured.get(name)
        if queue is None:
            queue = self._unconfigured[name] = _placeholder(name)
        return queue

    async def _hold_back(self, msg: Message, queue: ScheduledQueue) -> None:
        """Keep a message that cannot go on just now, for up to a minute."""
        self.delay_by(msg, self.random.random() * FULL_DELAY)
        self.in_hand.setdefault(msg, None)
        if await self.save(msg):
            shrink(msg, waiting_reduction(queue.config, msg.due - self.wall()))
        self.into_wheel(msg, queue, msg.due)

    async def _promote(self, msg: Message, queue: ScheduledQueue, context: Context) -> None:
        if queue.name == NULL_QUEUE:
            self.forget(msg)
            return
        if self.stopping:
            await self.save(msg)  # for the next start
            return
        if self.spool.unhealthy and self.suspend_when_spool_unhealthy:
            await self._wait_for_spool(msg)
            return
        if self.admin and await self.sweep.stops(msg, queue):
            return
        throttled = await self._throttle(msg, queue)
        if throttled is not None:
            response, reason, delay = throttled
            await self.requeue(msg, response, add(context, reason), count_attempt=False, delay=delay)
            return
        if queue.config.protocol.maildir_path is not None:
            before = perf_counter()
            await self.maildir.deliver(msg, queue, context)
            self.times.delivery["maildir"].observe(perf_counter() - before)
            return
        rules = self.admin.generation
        started = perf_counter() if msg.id[LOWEST] < TIMED else None
        try:
            await self.placement.place(msg, queue)
            if started is not None:
                self.times.place.observe(perf_counter() - started)
            if rules != self.admin.generation:  # one came while the message was on its way
                self.sweep.start()
        except ReadyQueueFull:
            queue.full_delays += 1
            self.delay_by(msg, self.random.random() * FULL_DELAY)
            await self._delay(msg, queue, add(context, InsertReason.READY_QUEUE_FULL))
        except NotPlaced as err:
            await self.spool.load_meta(msg)
            response = internal_response(451, (4, 4, 4), str(err))
            where = LogContext(egress_pool=err.pool, provider_name=queue.config.provider_name)
            await self.log.record(RecordType.TransientFailure, msg, response, where)
            context = add(context, InsertReason.LOGGED_TRANSIENT_FAILURE)
            await self.requeue(msg, response, add(context, InsertReason.FAILED_TO_INSERT))

    async def _wait_for_spool(self, msg: Message) -> None:
        text = "KumoMTA internal: delivery suspended: spool unhealthy: removals cannot be written"
        response = internal_response(451, (4, 4, 4), text)
        await self.spool.load_meta(msg)
        await self.log.record(RecordType.Delayed, msg, response, LogContext())
        reasons = (InsertReason.SPOOL_UNHEALTHY, InsertReason.LOGGED_TRANSIENT_FAILURE)
        await self.requeue(msg, response, reasons)

    async def _throttle(
        self, msg: Message, queue: ScheduledQueue
    ) -> tuple[Response, InsertReason, float | None] | None:
        """Whether the queue's rate or the policy holds the message back: why, and for how long."""
        rate = queue.config.max_message_rate
        if rate is not None:
            key = f"schedq-{queue.name}-message-rate"
            wait = await self.rates.admit(key, rate)
            if wait > 0.0:
                queue.rate_delays += 1
                text = f"KumoMTA internal: {queue.name} throttled message rate, delay={wait:.3f}s"
                return (internal_response(451, (4, 4, 4), text), InsertReason.MESSAGE_RATE_THROTTLE, wait)
        if self.policy.handles("throttle_insert_ready_queue"):
            await self.spool.load_meta(msg)
            await self.policy.ask("throttle_insert_ready_queue", msg)
            if msg.due > self.wall():
                queue.event_delays += 1
                text = (
                    f"KumoMTA internal: {queue.name} throttle_insert_ready_queue event throttled "
                    f"message rate, due={msg.due:.3f}"
                )
                return (internal_response(451, (4, 4, 4), text), InsertReason.THROTTLED_BY_EVENT, None)
        return None

    async def _delay(self, msg: Message, queue: ScheduledQueue, context: Context) -> None:
        """Let the message wait in the wheel until its due time."""
        quiet = context == (InsertReason.ENUMERATED,) or InsertReason.LOGGED_TRANSIENT_FAILURE in context
        if not quiet and self.log.wants(RecordType.Delayed):
            await self.spool.load_meta(msg)
            if context == (InsertReason.RECEIVED,) and msg.schedule is not None:
                context = add(context, InsertReason.SCHEDULED_FOR_LATER)
            wait = max(0.0, msg.due - self.wall())
            text = f"Context: {describe(context)}. Next due in {format_duration(round(wait))}"
            await self.log.record(RecordType.Delayed, msg, Response(400, None, text, None), LogContext())
        if await self.save(msg):
            shrink(msg, waiting_reduction(queue.config, msg.due - self.wall()))
        self.into_wheel(msg, queue, msg.due)

    def into_wheel(self, msg: Message, queue: ScheduledQueue, due: float) -> None:
        """Let a message wait in its queue until it is due (Unix time)."""
        msg.due = due
        if self.orders and self.holding.takes(msg):
            return
        msg.queue = queue
        queue.delayed += 1
        queue.last_change = trio.current_time()
        self.in_hand.pop(msg, None)
        self.wheel.insert(due, msg)
        self.promotion.wake_for(due)

    def out_of_wheel(self, msg: Message, queue: ScheduledQueue) -> None:
        """Take over a message that waits in this queue, or is held there; its slot in the wheel is void."""
        msg.queue = None
        queue.delayed -= 1
        if self.held and self.held.pop(msg, None) is not None:
            queue.held -= 1
        self.in_hand[msg] = trio.lowlevel.current_task()

    async def save(self, msg: Message) -> bool:
        """Make the message durable; a sick spool keeps it in memory, and says so."""
        if msg.data_saved and msg.meta_saved:
            return True
        try:
            await self.spool.save(msg)
        except Exception as err:
            expected = isinstance(err, SpoolError)
            log.error("message is only in memory", id=msg.id.hex(), error=str(err), exc_info=not expected)
            return False
        return True

    # -- after an attempt --------------------------------------------------------------------------
    async def requeue(
        self,
        msg: Message,
        response: Response,
        context: Context,
        *,
        count_attempt: bool = True,
        delay: float | None = None,
    ) -> None:
        """Put a message back after a failed or prevented attempt.

        With `count_attempt` it waits by the retry schedule; else for `delay` seconds, or a random time up to
        a minute. Past its lifetime it expires. Raises nothing: what fails makes it wait.
        """
        self.in_hand.setdefault(msg, None)
        try:
            await self._requeue(msg, response, context, count_attempt=count_attempt, delay=delay)
        except Exception as err:
            log.exception("message could not be requeued; it waits", id=msg.id.hex(), error=str(err))
            await self._hold_back(msg, self._unread)

    async def _requeue(
        self, msg: Message, response: Response, context: Context, *, count_attempt: bool, delay: float | None
    ) -> None:
        try:
            await self.spool.load_meta(msg)
            name = msg.queue_name
        except (KeyError, SpoolError, ValueError) as err:
            await self.unreadable(msg, err, LogContext())
            return
        if self.policy.handles("requeue_message"):
            reasons = [reason.value for reason in context]
            try:
                await self.policy.ask(
                    "requeue_message", msg, response.to_single_line(), reasons, count_attempt, delay
                )
            except Rejection as err:
                bounce = Response(err.code, None, err.text, None)
                await self.log.record(RecordType.Bounce, msg, bounce, LogContext())
                self.forget(msg)
                return
            except PolicyError as err:
                log.error("requeue_message failed; the message keeps its queue", error=str(err))
            await self.spool.load_meta(msg)  # the handler may have shrunk it
            if msg.queue_name != name:
                name = msg.queue_name
                msg.attempts += 1
                msg.due = 0.0
                count_attempt, delay = False, 0.0
        try:
            queue = await self.resolve(name)
        except (PolicyError, Rejection):
            await self.hold_back(msg, name)
            return
        if await self.reschedule(msg, queue, count_attempt=count_attempt, delay=delay):
            await self.insert_or_wait(msg, queue, context)

    async def reschedule(
        self, msg: Message, queue: ScheduledQueue, *, count_attempt: bool, delay: float | None
    ) -> bool:
        """Set the due time; False when that would be too late and the message has expired."""
        config = queue.config
        age = self.wall() - created(msg.id)
        if count_attempt:
            wait = retry.delay_after(config, msg.attempts) + retry.jitter(config, self.random)
            msg.attempts += 1
            self.delay_by(msg, wait)
            if msg.schedule is not None and msg.schedule.expires is not None:
                reason = retry.past_expires(msg.schedule.expires, msg.due)
            else:
                # As in KumoMTA, what counts is when it would be due without its schedule.
                reason = retry.past_max_age(config, age + wait) if age + wait > config.max_age else None
            site = ""
        else:
            self.delay_by(msg, self.random.random() * FULL_DELAY if delay is None else delay)
            due_age = max(age, msg.due - created(msg.id))
            reason = retry.past_max_age(config, due_age) if due_age >= config.max_age else None
            site = "localhost"
        if reason is None or msg in self.orders:  # what an operator is to hold does not expire
            return True
        await self.expire(msg, queue, reason, site=site)
        return False

    def delay_by(self, msg: Message, wait: float) -> None:
        """Make it due in so many seconds, or when its schedule allows it after that."""
        now = self.wall()
        msg.set_due(now + wait if wait > 0.0 else 0.0, now)

    async def expire(self, msg: Message, queue: ScheduledQueue, reason: str, *, site: str = "") -> None:
        """Give up a message whose next attempt would come too late."""
        config = queue.config
        where = LogContext(site=site, egress_pool=config.egress_pool, provider_name=config.provider_name)
        response = Response(551, EnhancedCode(5, 4, 7), reason, None)
        await self.log.record(RecordType.Expiration, msg, response, where)
        self.forget(msg)

    async def unreadable(self, msg: Message, err: Exception, context: LogContext) -> None:
        """The spool could not give a message back: what is gone bounces, what may be a passing fault waits."""
        gone = not isinstance(err, SpoolError)
        log.error("message cannot be read from the spool", id=msg.id.hex(), gone=gone, error=str(err))
        if not msg.meta_loaded:
            if gone:
                self.in_hand.pop(msg, None)
            else:
                await self._hold_back(msg, self._unread)
            return
        text = f"KumoMTA internal: message content is not readable: {err or 'not in the spool'}"
        if gone:
            await self.log.record(RecordType.Bounce, msg, Response(551, None, text), context)
            self.forget(msg)
        else:
            response = Response(451, EnhancedCode(4, 3, 0), text)
            await self.log.record(RecordType.TransientFailure, msg, response, context)
            await self.requeue(msg, response, (InsertReason.LOGGED_TRANSIENT_FAILURE,))

    def forget(self, msg: Message) -> None:
        """The message has reached its end: take it out of the spool."""
        self.in_hand.pop(msg, None)
        self.spool.remove(msg)

    # -- for ready queues --------------------------------------------------------------------------
    async def dispatch(self, ready: ReadyQueue) -> None:
        """Run one outgoing session."""
        await self.dispatchers[ready.protocol.name.partition(":")[0]](ready)

    async def left_by(self, task: trio.lowlevel.Task, running: Running, ready: ReadyQueue) -> None:
        """A dispatcher has ended; what it still had in hand, because it was cancelled or failed, is tried again."""
        if self.stopping:
            return
        for msg in [msg for msg, busy in self.in_hand.items() if busy is task]:
            text = "KumoMTA internal: returning message to scheduled queue"
            context: Context = (InsertReason.DISPATCHER_DROP,)
            if running.by_watchdog:
                text = f"dispatcher watchdog aborted task; {running.summary()}"
                context = add(context, InsertReason.LOGGED_TRANSIENT_FAILURE)
            response = internal_response(451, (4, 4, 1), text)
            if running.by_watchdog:
                try:
                    await self.spool.load_meta(msg)
                    await self.log.record(RecordType.Delayed, msg, response, ready.log_context(running))
                except (KeyError, SpoolError, ValueError) as err:
                    log.error("no record of a message", id=msg.id.hex(), error=str(err))
            await self.requeue(msg, response, context, count_attempt=False)


def _placeholder(name: str) -> ScheduledQueue:
    """Something for messages to wait in while their queue is not known."""
    return ScheduledQueue(name, QueueConfig(), SourceSelector(UNSPECIFIED_POOL))


def internal_response(code: int, enhanced: tuple[int, int, int], text: str) -> Response:
    """A response that this node made up itself."""
    return Response(code, EnhancedCode(*enhanced), text, None)
