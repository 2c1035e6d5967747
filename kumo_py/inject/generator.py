"""Deferred generation: requests that wait in a queue of their own until their messages are made.

A request is a message of the queue GENERATOR_QUEUE, its content the request as JSON. It is Delivered when all that
could be made of it is queued. A recipient for whom nothing can be made is Bounced (KumoMTA: forgotten). While spool
or policy fail, the request stays, with the recipients that are still to be served, and is tried again. A crash in
between makes some messages twice, and loses none.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, cast

import msgspec
import structlog

from kumo_py.core.duration import Duration
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.inject.origin import GENERATOR_QUEUE, Origin
from kumo_py.inject.request import InjectRequest
from kumo_py.logs import LogContext, RecordType
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue.config import DeliveryProtocol, QueueConfig
from kumo_py.queue.context import InsertReason
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from kumo_py.core.acl import AuthInfo
    from kumo_py.inject.injector import Injector, Outcome
    from kumo_py.message.message import Message
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue

log = structlog.get_logger("kumo_py.inject.generator")


class _Protocol(DeliveryProtocol, frozen=True):
    """What no policy can choose."""

    @property
    def name(self) -> str:
        return "httpinject"


class Generator:
    """The node's dispatchers of the generator's queue."""

    def __init__(self, queues: Queues, injector: Injector) -> None:
        self._queues = queues
        self._injector = injector
        protocol = _Protocol()
        queues.directory.internal[GENERATOR_QUEUE] = QueueConfig(
            protocol=protocol, retry_interval=Duration(10.0)
        )
        queues.dispatchers[protocol.name] = self.run

    async def run(self, ready: ReadyQueue) -> None:
        """Serve requests until there is none for `idle_timeout`."""
        latency = self._queues.times.delivery["httpinject"]
        ready.running.phase = "DeliveringMessage"
        while not ready.stopping:
            msg = ready.take()
            if msg is None:
                if not await ready.wait():
                    return
                continue
            started = perf_counter()
            try:
                await self._serve(msg, ready)
            except BaseException:
                ready.put_back(msg)
                raise
            latency.observe(perf_counter() - started)

    async def _serve(self, msg: Message, ready: ReadyQueue) -> None:
        queues = self._queues
        context = LogContext(
            site=ready.name,
            delivery_protocol="HttpInjectionGenerator",
            provider_name=ready.path.provider_name,
            counts=ready.running.counts,
        )
        try:
            await queues.spool.load(msg)
        except (KeyError, SpoolError, ValueError) as err:
            await queues.unreadable(msg, err, context)
            return
        try:
            request = msgspec.json.decode(msg.data, type=InjectRequest)
            outcome = await self._injector.run(request, _origin(msg))
        except Exception as err:
            log.exception("an injection request is unusable", id=msg.id.hex())
            await queues.log.record(RecordType.Bounce, msg, Response(500, None, str(err)), context)
            queues.forget(msg)
            return
        await self._settle(msg, request, outcome, context)

    async def _settle(
        self, msg: Message, request: InjectRequest, outcome: Outcome, context: LogContext
    ) -> None:
        queues = self._queues
        again = []
        for recipient, err in outcome.failures:
            if isinstance(err, SpoolError | PolicyError):
                again.append((recipient, err))
                continue
            response = Response(err.code if isinstance(err, Rejection) else 550, None, str(err))
            await queues.log.record(RecordType.Bounce, msg, response, context, recipients=[recipient.email])
        if again:
            rest = msgspec.structs.replace(request, recipients=[recipient for recipient, _ in again])
            msg.set_data(msgspec.json.encode(rest))
            response = Response(
                451, EnhancedCode(4, 3, 0), f"{len(again)} recipients are left: {again[0][1]}"
            )
            await queues.log.record(RecordType.TransientFailure, msg, response, context)
            await queues.requeue(msg, response, (InsertReason.LOGGED_TRANSIENT_FAILURE,))
            return
        if outcome.successes or not outcome.failures:
            await queues.log.record(RecordType.Delivery, msg, Response(250, None, "ok"), context)
        queues.forget(msg)


def _origin(msg: Message) -> Origin:
    peer_ip = msg.meta_text("received_from") or ""
    auth = msg.get_meta("auth_info")
    if not isinstance(auth, dict):
        auth = {"peer_address": peer_ip, "identities": [], "groups": []}
    return Origin(cast("AuthInfo", auth), peer_ip, msg.meta_text("received_via"), msg.meta_text("hostname"))
