"""Delivery by the policy: `protocol = { custom_lua = { constructor = 'make.webhook' } }`.

The constructor event makes a connection, an object with `send` (or `send_batch`, for batches of more than one)
and perhaps `close`. A dispatcher holds one and gives it message after message. What `send` returns is the
text of the Delivery record. `kumo.reject` with a code of 4xx lets the batch be tried again, and 421 ends the
connection too; any other code bounces. Any other error of the policy ends the connection, and the batch is
tried again.

A batch has one outcome. A message taken from the ready queue is the dispatcher's until it is settled.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.logs import LogContext, Peer, RecordType
from kumo_py.message.queue_name import QueueName
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue.context import InsertReason
from kumo_py.queue.message_rates import admitted
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from kumo_py.core.policy import PolicyObject
    from kumo_py.message.message import Message
    from kumo_py.queue.config import LuaProtocol
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue

log = structlog.get_logger("kumo_py.queue.custom_lua")

_FAILED = (InsertReason.LOGGED_TRANSIENT_FAILURE,)


class LuaDelivery:
    """The node's dispatchers of `custom_lua`; `run` is what `Queues.dispatchers` calls."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def run(self, ready: ReadyQueue) -> None:
        await _Session(self._queues, ready).run()


class _Session:
    """One connection; see the module."""

    __slots__ = ("_batch", "_connection", "_context", "_queues", "_ready", "_running", "_tried")

    def __init__(self, queues: Queues, ready: ReadyQueue) -> None:
        self._queues = queues
        self._ready = ready
        self._batch: list[Message] = []
        """The messages in hand."""
        self._tried = 0
        self._connection: PolicyObject | None = None
        self._running = ready.running
        self._context = self._log_context(Peer(f"Lua via {self._protocol.constructor}", "0.0.0.0"))

    def _log_context(self, peer: Peer | None) -> LogContext:
        ready = self._ready
        return LogContext(
            site=ready.name,
            peer=peer,
            egress_pool=ready.pool,
            egress_source=ready.source.name,
            delivery_protocol="Lua",
            provider_name=ready.path.provider_name,
            session_id=self._running.session_id,
            counts=self._running.counts,
        )

    @property
    def _protocol(self) -> LuaProtocol:
        protocol = self._ready.protocol.custom_lua
        assert protocol is not None
        return protocol

    async def run(self) -> None:
        """Deliver until there is nothing left for `idle_timeout`, or the connection is to end."""
        latency = self._queues.times.delivery["lua"]
        try:
            while await self._gather():
                await self._load()
                if not self._batch:
                    continue
                if not await admitted(self._queues, self._ready, self._batch):
                    return
                if not await self._connected():
                    return
                started = perf_counter()
                goes_on = await self._send()
                latency.observe(perf_counter() - started)
                if not goes_on:
                    return
        finally:
            self._running.phase = "Closing"
            self._put_back()
            if self._connection is not None:
                await self._close(self._connection)

    # -- what to send --------------------------------------------------------------------------------
    async def _gather(self) -> bool:
        """Have a batch in hand: `min_batch_size`, or what came within `max_batch_latency`; False to end."""
        ready, batch = self._ready, self._batch
        started = trio.current_time()
        while self._tried < ready.path.max_deliveries_per_connection and not ready.stopping:
            protocol = self._protocol
            while len(batch) < protocol.batch_size and (msg := ready.take()) is not None:
                batch.append(msg)
            if len(batch) >= min(protocol.min_batch_size, protocol.batch_size):
                return True
            if not batch:
                if not await ready.wait():
                    return False
                started = trio.current_time()
                continue
            self._running.phase = {"AccumulatingBatch": {"have": len(batch), "want": protocol.min_batch_size}}
            with trio.move_on_at(started + min(protocol.max_batch_latency, ready.path.idle_timeout)):
                if await ready.wait():
                    continue
            return not ready.stopping
        return False

    async def _load(self) -> None:
        """Bring the batch into memory; what cannot be read is taken care of."""
        for msg in self._batch[:]:
            try:
                await self._queues.spool.load(msg)
            except (KeyError, SpoolError, ValueError) as err:
                self._batch.remove(msg)
                await self._queues.unreadable(msg, err, self._context)

    def _put_back(self) -> None:
        while self._batch:
            self._ready.put_back(self._batch.pop())

    # -- the connection ------------------------------------------------------------------------------
    async def _connected(self) -> bool:
        """Have a connection; False if the constructor failed."""
        if self._connection is not None:
            return True
        ready = self._ready
        self._running.phase = "AttemptingConnection"
        # One of the queues that lead here: its messages may be of others.
        name = QueueName.parse(self._batch[0].queue_name)
        try:
            self._connection = await self._queues.policy.construct(
                self._protocol.constructor, name.domain, name.tenant, name.campaign
            )
        except (PolicyError, Rejection) as err:
            log.error("no connection", ready_queue=ready.name, error=str(err))
            text = f"KumoMTA internal: failed to connect to any candidate hosts: {err}"
            self._context = self._log_context(None)
            await self._try_again(Response(400, None, text), _FAILED)
            ready.consecutive_failures += 1
            if ready.consecutive_failures > ready.path.consecutive_connection_failures_before_delay:
                text = "KumoMTA internal: bulk delay of ready queue: too many successive connection failures"
                self._batch = ready.take_all()
                await self._load()
                response = Response(451, EnhancedCode(4, 4, 1), text)
                await self._try_again(response, (InsertReason.CONNECTION_FAILURES, *_FAILED))
            return False
        ready.opened += 1
        ready.consecutive_failures = 0
        return True

    async def _close(self, connection: PolicyObject) -> None:
        try:
            await connection.call("close", optional=True)
        except (PolicyError, Rejection) as err:
            log.error("a connection's close failed", ready_queue=self._ready.name, error=str(err))
        finally:
            connection.discard()

    # -- delivery ------------------------------------------------------------------------------------
    async def _send(self) -> bool:
        """Give the batch to the policy and settle it; False if the connection is to end."""
        connection, batch = self._connection, self._batch
        assert connection is not None
        started = trio.current_time()
        self._running.phase = "DeliveringMessage"
        self._tried += len(batch)
        try:
            if self._protocol.batch_size == 1:
                text = await connection.call("send", batch[0])
            else:
                text = await connection.call("send_batch", batch)
        except Rejection as err:
            response = Response(err.code, None, err.text)
            if 400 <= err.code < 500:
                await self._try_again(response, _FAILED)
            else:
                await self._finish(RecordType.Bounce, response)
            return err.code != 421
        except PolicyError as err:
            log.error("delivery failed", ready_queue=self._ready.name, error=str(err))
            text = f"KumoMTA internal: error in deliver_message: {err}"
            self._context = self._log_context(None)
            await self._try_again(Response(400, None, text), _FAILED)
            return False
        self._ready.note_pace((trio.current_time() - started) / len(batch))
        await self._finish(RecordType.Delivery, Response(200, None, text))
        return True

    async def _finish(self, kind: RecordType, response: Response) -> None:
        while self._batch:
            msg = self._batch[0]
            await self._queues.log.record(kind, msg, response, self._context)
            self._queues.forget(msg)
            self._batch.pop(0)

    async def _try_again(self, response: Response, reasons: tuple[InsertReason, ...]) -> None:
        while self._batch:
            msg = self._batch[0]
            await self._queues.log.record(RecordType.TransientFailure, msg, response, self._context)
            self._batch.pop(0)
            await self._queues.requeue(msg, response, reasons)
