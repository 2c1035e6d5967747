"""What an operator's rules do to messages.

A message meets the rules when it is inserted and when it is promoted; a new rule makes a sweep through the ready
queues, so that what was promoted before it is met too. Thereafter nothing that a rule matches can be sent. A
message in a dispatcher's hand is not taken away from it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.logs import LogContext, RecordType
from kumo_py.message.queue_name import QueueName
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue.admin import BounceRule
from kumo_py.queue.census import waiting
from kumo_py.queue.context import InsertReason
from kumo_py.queue.hold import held_by
from kumo_py.queue.scheduled import ScheduledQueue
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.queue.admin import AdminRules, Rule
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue

log = structlog.get_logger("kumo_py.queue.sweep")

_SLICE = 64
"""Messages handled in one go before other tasks get a turn."""


class Sweep:
    """See the module. One per node."""

    def __init__(self, queues: Queues, rules: AdminRules) -> None:
        self._queues = queues
        self._rules = rules
        rules.on_change = self.start

    # -- on the way ----------------------------------------------------------------------------------
    async def bounces(self, msg: Message, queue: ScheduledQueue) -> bool:
        """Whether the message has bounced by a rule. Raises KeyError or SpoolError."""
        rule = self._rules.bounce_of(queue.name, queue.components)
        if rule is None:
            return False
        await self._bounce(msg, queue.name, rule)
        return True

    async def stops(self, msg: Message, queue: ScheduledQueue) -> bool:
        """Whether the message has bounced, or was sent back because its queue is suspended.

        Raises KeyError or SpoolError.
        """
        if await self.bounces(msg, queue):
            return True
        rule = self._rules.suspension_of(queue.name, queue.components)
        if rule is None:
            return False
        await self._send_back(msg, rule, queue.name)
        return True

    def suspends(self, queue: ScheduledQueue) -> bool:
        """Whether what waits in a queue had better wait on: it, or all ready queues that it is known to lead to."""
        rules = self._rules
        if rules.suspension_of(queue.name, queue.components) is not None:
            return True
        if not rules.ready:
            return False
        known = [queue.ready_by_source.get(source) for source, *_ in queue.selector.entries]
        return bool(known) and all(found and rules.ready_suspended(found[1].name) for found in known)

    async def _bounce(self, msg: Message, name: str, rule: BounceRule) -> None:
        if not rule.suppress_logging:
            await self._queues.spool.load_meta(msg)
            text = f"Administrator bounced with reason: {rule.reason}"
            response = Response(551, EnhancedCode(5, 7, 1), text)
            await self._queues.log.record(RecordType.AdminBounce, msg, response, LogContext(site="localhost"))
        rule.bounced[name] += 1
        self._queues.forget(msg)

    async def _send_back(self, msg: Message, rule: Rule, site: str) -> None:
        await self._queues.spool.load_meta(msg)
        text = f"KumoMTA internal: scheduled queue is suspended: {rule.reason}"
        response = Response(451, EnhancedCode(4, 4, 4), text)
        await self._queues.log.record(RecordType.TransientFailure, msg, response, LogContext(site=site))
        await self._queues.requeue(msg, response, (InsertReason.LOGGED_TRANSIENT_FAILURE,))

    # -- what lies in ready queues -------------------------------------------------------------------
    def start(self) -> None:
        """Apply the rules to what ready queues hold, in a task of its own."""
        if self._queues.running:
            self._queues.spawn(self._ready_queues, list(self._queues.ready.values()))

    async def _ready_queues(self, several: list[ReadyQueue]) -> None:
        try:
            for ready in several:
                if self._rules.ready_suspended(ready.name):
                    await self._empty(ready, InsertReason.READY_QUEUE_SUSPENDED)
                else:
                    await self._sift(ready)
        except Exception:
            # A bug here must not stop the node; what was in hand is still in the spool.
            log.exception("an operator's rules could not be applied to ready queues")

    def source_suspended(self, source: str) -> None:
        """A source begins to rest: what lies in its ready queues goes to others, in a task of its own."""
        if self._queues.running:
            self._queues.spawn(self._empty_source, source)

    async def _empty_source(self, source: str) -> None:
        try:
            for ready in list(self._queues.ready.values()):
                if ready.source.name == source:
                    await self._empty(ready, InsertReason.SOURCE_SUSPENDED)
        except Exception:
            log.exception("the ready queues of a suspended source could not be emptied", source=source)

    async def _empty(self, ready: ReadyQueue, reason: InsertReason) -> None:
        """Send everything of a suspended ready queue back to where it came from."""
        ready.close_idle(trio.current_time(), all_of_them=True)
        for count, msg in enumerate(ready.take_all(), 1):
            await self.reinsert(msg, reason)
            if count % _SLICE == 0:
                await trio.lowlevel.checkpoint()

    async def _sift(self, ready: ReadyQueue) -> None:
        """Take out of a ready queue what some rule matches."""
        messages = list(ready.messages)
        for start in range(0, len(messages), _SLICE):
            slice_ = messages[start : start + _SLICE]
            without_meta = [msg for msg in slice_ if not msg.meta_loaded]
            for msg in without_meta:
                await self._load_meta(msg)
            rules = {msg: rule for msg in slice_ if (rule := self._rule_for(msg)) is not None}
            withdrawn = ready.withdraw(rules)
            held = set(ready.messages)
            for msg in without_meta:
                if msg in held and msg.meta_loaded and msg.meta_saved:
                    msg.shrink_meta()
            for msg in withdrawn:
                await self._apply(rules[msg], msg, ready)
            await trio.lowlevel.checkpoint()

    async def returned(self, given: tuple[ReadyQueue, Message]) -> None:
        """Apply the rules to a message that a dispatcher gives back; it goes to its ready queue if there are none."""
        ready, msg = given
        try:
            if self._rules.ready_suspended(ready.name):
                await self.reinsert(msg, InsertReason.READY_QUEUE_SUSPENDED)
                return
            await self._load_meta(msg)
            rule = self._rule_for(msg)
            if rule is not None:
                await self._apply(rule, msg, ready)
                return
            ready.put_back(msg, sifted=True)
            ready.connect_more()
        except Exception:
            log.exception("an operator's rules could not be applied to a message", id=msg.id.hex())

    async def _apply(self, rule: Rule, msg: Message, ready: ReadyQueue) -> None:
        if isinstance(rule, BounceRule):
            await self._bounce(msg, msg.queue_name, rule)
        else:
            await self._send_back(msg, rule, ready.name)

    async def _load_meta(self, msg: Message) -> None:
        """As far as that is possible: else whoever comes to send it finds out, and deals with it."""
        with contextlib.suppress(KeyError, SpoolError):
            await self._queues.spool.load_meta(msg)

    def _rule_for(self, msg: Message) -> Rule | None:
        if not msg.meta_loaded:
            return None
        try:
            name = msg.queue_name
        except ValueError:
            return None
        parts = QueueName.parse(name)
        return self._rules.bounce_of(name, parts) or self._rules.suspension_of(name, parts)

    async def reinsert(self, msg: Message, reason: InsertReason, name: str = "") -> None:
        """Let a message find its way anew, now, under its queue's present configuration. Raises nothing.

        `name` is that queue's; without it the message is asked, which may have to be read.
        """
        queues = self._queues
        if not name:
            try:
                await queues.spool.load_meta(msg)
                name = msg.queue_name
            except (KeyError, SpoolError, ValueError) as err:
                await queues.unreadable(msg, err, LogContext())
                return
            if (held := held_by(msg.meta)) is not None:
                await queues.holding.hold_again(msg, held)
                return
        try:
            queue = await queues.resolve(name)
        except (PolicyError, Rejection):
            await queues.hold_back(msg, name)
        else:
            await queues.insert_or_wait(msg, queue, (reason,))

    # -- what waits ----------------------------------------------------------------------------------
    async def delayed(self, rule: BounceRule) -> None:
        """Bounce what waits for its time, without waiting for it: KumoMTA does so over HTTP, not from Lua."""
        queues = self._queues
        matches: dict[str, bool] = {}
        for count, msg in enumerate(waiting(queues), 1):
            if queues.stopping:
                return
            queue = msg.queue
            if isinstance(queue, ScheduledQueue) and queue.name:
                found = matches.get(queue.name)
                if found is None:
                    found = matches[queue.name] = rule.criteria.match(queue.name, queue.components)
                if found:
                    queues.out_of_wheel(msg, queue)
                    try:
                        await self._bounce(msg, queue.name, rule)
                    except (KeyError, SpoolError) as err:
                        await queues.unreadable(msg, err, LogContext())
            if count % _SLICE == 0:
                await trio.lowlevel.checkpoint()
