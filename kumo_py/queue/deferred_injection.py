"""Listeners with `deferred_queue`: their messages get the policy's decisions after the client has got its 250.

Such a message waits in DEFERRED_QUEUE. A dispatcher of its own runs `smtp_server_message_deferred_inject` with it,
and moves it to the queue that its metadata then names, with a DeferredInjectionRebind record. `kumo.reject` with a
code of 500 or more bounces it. After any other error it is tried again, with what the handler has changed.

Until it is in its own queue the spool says that it is in this one, so a restart runs the event again.
"""

from __future__ import annotations

import contextlib
from ipaddress import ip_address
from time import perf_counter
from typing import TYPE_CHECKING

import structlog

from kumo_py.core.duration import Duration
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.logs import LogContext, RecordType
from kumo_py.message.connection import ConnectionMeta
from kumo_py.proto.reply import Response
from kumo_py.queue.config import DeliveryProtocol, QueueConfig
from kumo_py.queue.context import InsertReason
from kumo_py.queue.message_rates import admitted
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.queue.scheduled import ScheduledQueue

log = structlog.get_logger("kumo_py.queue.deferred_injection")

DEFERRED_QUEUE = "deferred_smtp_inject.kumomta.internal"
"""Where messages wait for their event."""
_EVENT = "smtp_server_message_deferred_inject"


class _Protocol(DeliveryProtocol, frozen=True):
    """What no policy can choose."""

    @property
    def name(self) -> str:
        return "defersmtpinject"


class DeferredInjection:
    """The node's dispatchers of the queue; `run` is what `Queues.dispatchers` calls."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        protocol = _Protocol()
        queues.directory.internal[DEFERRED_QUEUE] = QueueConfig(
            protocol=protocol, retry_interval=Duration(60.0)
        )
        queues.dispatchers[protocol.name] = self.run

    async def run(self, ready: ReadyQueue) -> None:
        """Serve messages until there is none for `idle_timeout`, within the limits of the path."""
        ready.running.phase = "DeliveringMessage"
        hand: list[Message] = []
        served = 0
        latency = self._queues.times.delivery["defersmtpinject"]
        try:
            while served < ready.path.max_deliveries_per_connection and not ready.stopping:
                msg = ready.take()
                if msg is None:
                    if not await ready.wait():
                        return
                    continue
                hand.append(msg)
                if not await admitted(self._queues, ready, hand):
                    return
                started = perf_counter()
                await self._serve(hand, ready)
                latency.observe(perf_counter() - started)
                served += 1
        finally:
            for msg in hand:
                if msg.meta_loaded:
                    msg.set_meta("queue", DEFERRED_QUEUE)
                ready.put_back(msg)

    async def _serve(self, hand: list[Message], ready: ReadyQueue) -> None:
        """Settle the message in hand; the hand is empty once somebody else owns it."""
        queues = self._queues
        (msg,) = hand
        context = LogContext(
            site=ready.name, delivery_protocol="DeferredSmtpInjection", counts=ready.running.counts
        )
        try:
            await queues.spool.load(msg)
            found = await self._decide(msg)
        except (KeyError, SpoolError, ValueError) as err:
            hand.clear()
            await queues.unreadable(msg, err, context)
            return
        if not isinstance(found, Response):
            await queues.log.record(
                RecordType.DeferredInjectionRebind, msg, Response(250, None, "ok"), context, queue=found.name
            )
            queues.delay_by(msg, 0.0)
            hand.clear()
            await queues.insert_or_wait(msg, found, (InsertReason.RECEIVED,))
            return
        msg.set_meta("queue", DEFERRED_QUEUE)
        if found.code >= 500:
            await queues.log.record(RecordType.Bounce, msg, found, context)
            hand.clear()
            queues.forget(msg)
        else:
            await queues.log.record(RecordType.TransientFailure, msg, found, context)
            hand.clear()
            await queues.requeue(msg, found, (InsertReason.LOGGED_TRANSIENT_FAILURE,))

    async def _decide(self, msg: Message) -> ScheduledQueue | Response:
        """Run the event: the queue that the message is to go to, or why it cannot.

        Raises KeyError, SpoolError or ValueError if it cannot be read back.
        """
        queues, refusal = self._queues, None
        msg.set_meta("queue", None)
        try:
            await queues.policy.ask(_EVENT, msg, _connection(msg))
        except Rejection as err:
            refusal = Response(err.code, None, err.text)
        except PolicyError as err:
            log.error("deferred injection failed", id=msg.id.hex(), error=str(err))
            refusal = Response(450, None, str(err))
        await queues.spool.load_meta(msg)  # the handler may have shrunk it
        if refusal is not None:
            return refusal
        try:
            if msg.queue_name == DEFERRED_QUEUE:
                return Response(450, None, f"{_EVENT}: the handler left the message in {DEFERRED_QUEUE}")
            return await queues.resolve(msg.queue_name)
        except (PolicyError, Rejection, ValueError) as err:
            return Response(450, None, str(err))


def _connection(msg: Message) -> ConnectionMeta:
    """What the message's metadata tells of the client; changes to it do not reach the message."""
    meta = ConnectionMeta(dict(msg.meta))
    with contextlib.suppress(ValueError):
        meta.peer_ip = str(ip_address(meta.text("received_from").rpartition(":")[0].strip("[]")))
    logins = (("authn_id", "SmtpAuthPlainAuthentication"), ("authz_id", "SmtpAuthPlainAuthorization"))
    meta.identities = tuple((name, how) for key, how in logins if (name := meta.text(key)))
    return meta
