"""An outgoing SMTP session: the dispatcher that takes messages of one ready queue to the hosts of one site.

One task drives a session: it goes through the connection plan, makes a connection ready (`establish`) and converses
over it (`conversation`). Its network waits are bounded by `Connection.deadline`, which SmtpDelivery's watch looks at
once a second, because a cancel scope for each wait would cost more than the wait itself.

A message taken from the ready queue is this session's until it is settled: logged and forgotten, requeued, or
put back untried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kumo_py.logs import LogContext, Peer, RecordType
from kumo_py.logs.trace import Trace
from kumo_py.net.transport import format_address
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue.context import InsertReason
from kumo_py.smtp_out.connect import advice, connect
from kumo_py.smtp_out.connection import Connection, ConnectionFailed
from kumo_py.smtp_out.conversation import Conversation, End
from kumo_py.smtp_out.demand import destination_of
from kumo_py.smtp_out.establish import ClearAgain, ClientTls, Establishment
from kumo_py.smtp_out.plan import NoPlan, make_plan, shown
from kumo_py.smtp_out.tracing import SessionTrace
from kumo_py.smtp_out.work import Work
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from kumo_py.dns import HostAddress
    from kumo_py.message.message import Message
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue


class SmtpDelivery:
    """The node's SMTP dispatchers; `run` is what `Queues.dispatchers` calls."""

    def __init__(self, queues: Queues, hostname: str, trace: Trace | None = None) -> None:
        self.queues = queues
        self.trace = trace or Trace()
        self.hostname = hostname
        self.tls = ClientTls(queues.policy)
        self._sessions: set[Session] = set()

    async def run(self, ready: ReadyQueue) -> None:
        session = Session(self, ready)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    async def watch(self) -> None:
        """Cancel what waits too long; precise to a second, never early."""
        while True:
            await trio.sleep(1.0)
            now = trio.current_time()
            for session in self._sessions:
                session.check_deadline(now)


class Session:
    """See the module."""

    __slots__ = (
        "_connection",
        "_context",
        "_establishment",
        "_queues",
        "_ready",
        "_running",
        "_scope",
        "_seen",
        "_traced",
        "_work",
    )

    def __init__(self, delivery: SmtpDelivery, ready: ReadyQueue) -> None:
        ehlo_domain = ready.path.ehlo_domain or ready.source.ehlo_domain or delivery.hostname
        self._queues = delivery.queues
        self._ready = ready
        self._work = Work(ready)
        self._establishment = Establishment(delivery.queues, ready, delivery.tls, ehlo_domain)
        self._running = ready.running
        self._running.describe = self._describe
        self._traced = SessionTrace(delivery.trace, ready, self._running.session_id, self._work)
        self._seen = 0.0
        """The connection's deadline at the last look."""
        self._connection: Connection | None = None
        self._context = LogContext()
        self._scope = trio.CancelScope()

    def check_deadline(self, now: float) -> None:
        """Cancel the wait that is under way if it has lasted too long."""
        if self._connection is None:
            return
        deadline = self._connection.deadline
        if deadline < now:
            self._scope.cancel()
        if deadline != self._seen:
            self._seen = deadline
            self._running.steps += 1

    # -- hosts -------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Deliver until there is nothing left for `idle_timeout`, or no host is left to try."""
        ready, queues, work = self._ready, self._queues, self._work
        try:
            plan = await make_plan(ready, queues.resolver, queues.random)
        except NoPlan as err:
            is_null = ready.mx is not None and ready.mx.is_null
            self._traced.begin(None if is_null else ())
            self._traced.diagnostic("ERROR", err.response.to_single_line())
            self._traced.end()
            await self._refuse_all(err.response, err.reason)
            return
        self._traced.begin(plan)
        self._context = self._log_context()
        if not ready.stopping:
            work.take()
            # It may have been quicker to start than whoever takes the messages; as in KumoMTA it waits for more then.
            if work.in_hand is None and ready.path.aggressive_connection_opening and await ready.wait():
                work.take()
        failures: list[ConnectionFailed] = []
        try:
            while plan and work.in_hand is not None:
                host = plan.pop(0)
                try:
                    end = await self._use(host, is_last=not plan)
                except ConnectionFailed as err:
                    self._traced.diagnostic("ERROR", str(err))
                    failures.append(err)
                    if isinstance(err, ClearAgain):
                        plan.insert(0, host)
                    continue
                strategy = ready.path.reconnect_strategy
                if end is End.DONE or (end is End.BROKEN and strategy == "TerminateSession"):
                    return
                failures.clear()
                if end is End.ANEW or (end is End.BROKEN and strategy == "ReconnectSameHost"):
                    plan.insert(0, host)
                if plan and not ready.stopping:
                    work.refill()
            if failures:
                await self._no_host_answered(failures)
        finally:
            self._traced.end()
            work.put_back()

    async def _use(self, host: HostAddress, *, is_last: bool) -> End:
        """Connect and deliver. Raises ConnectionFailed if no session came about."""
        ready, queues = self._ready, self._queues
        where = f"{host.name}/{shown(host)}"
        self._running.phase = "AttemptingConnection"
        established = False
        end: End | None = None
        port = ready.source.remote_port or host.port or ready.path.smtp_port
        self._traced.diagnostic("INFO", f"Attempting connection to {format_address((host.addr, port))}")
        transport, source = await connect(queues, host, ready.source, ready.path)
        ready.opened += 1
        connection = self._connection = Connection(transport, source, self._traced)
        self._traced.connected(host, source)
        try:
            with trio.CancelScope() as self._scope:
                destination = await destination_of(self._work.in_hand, ready, queues.resolver)
                await self._establishment.run(connection, host, destination)
                established = True
                self._traced.established()
                self._running.phase = "DeliveringMessage"
                ready.consecutive_failures = 0
                self._context = self._log_context(host, connection)
                end = await Conversation(
                    queues,
                    self._work,
                    ready,
                    connection,
                    self._context,
                    host.name,
                    destination,
                    self._scope,
                    may_try_next=not is_last and self._tries_next_host,
                ).run()
                if end is End.DONE or end is End.ANEW:
                    self._running.phase = "Closing"
                    await connection.quit()
            if end is not None:
                return end
            if not established:
                raise self._establishment.timed_out(connection)
            what, seconds = connection.waiting_for
            text = (
                f"KumoMTA internal: failed to send message to {ready.name} {where}: "
                f"Timed Out waiting {seconds:g}s for response to {what}"
            )
            response = Response(421, EnhancedCode(4, 4, 2), text, what)
        except ConnectionFailed as err:
            if not established:
                raise type(err)(f"{where}: {err}") from err
            text = f"KumoMTA internal: failed to send message: {err}"
            response = Response(400, None, text, connection.waiting_for[0])
        finally:
            self._connection = None
            connection.close()
            self._traced.closed()
        return await self._fail_in_hand(response, try_next=not is_last and self._tries_next_host)

    def _describe(self) -> str | None:
        connection, msg = self._connection, self._work.in_hand
        if connection is None or not connection.waiting_for[0]:
            return None
        waiting = f"waiting for {connection.waiting_for[0]}"
        if msg is None or self._running.phase != "DeliveringMessage":
            return waiting
        return f"send msg with {len(msg.recipients)} recip(s), {waiting}"

    @property
    def _tries_next_host(self) -> bool:
        path, ready = self._ready.path, self._ready
        return (
            path.try_next_host_on_transport_error
            and path.reconnect_strategy != "TerminateSession"
            and not ready.stopping
        )

    def _log_context(
        self, host: HostAddress | None = None, connection: Connection | None = None
    ) -> LogContext:
        ready = self._ready
        context = LogContext(
            site=ready.name,
            egress_pool=ready.pool,
            egress_source=ready.source.name,
            delivery_protocol="ESMTP",
            provider_name=ready.path.provider_name,
            session_id=self._running.session_id,
            counts=self._running.counts,
        )
        if host is not None and connection is not None:
            context.peer = Peer(host.name, shown(host), host.is_secure)
            context.source_address = connection.source_address
            context.tls = connection.tls
        return context

    # -- failures ----------------------------------------------------------------------------------
    async def _fail_in_hand(self, response: Response, *, try_next: bool) -> End:
        """The connection broke under a message: it waits for its next attempt, or for the next host."""
        self._traced.diagnostic("ERROR", response.to_single_line())
        work = self._work
        work.disconnected()
        msg = work.in_hand
        if msg is None:
            return End.BROKEN
        if try_next:
            await self._queues.log.record(RecordType.TransientFailure, msg, response, self._context)
            return End.NEXT_HOST
        work.give_up()
        await self._transient_failure(msg, response)
        return End.BROKEN

    async def _no_host_answered(self, failures: list[ConnectionFailed]) -> None:
        ready = self._ready
        msg = self._work.give_up()
        if msg is None:
            return
        text = f"KumoMTA internal: failed to connect to any candidate hosts: {advice(failures)}"
        text += ", ".join(map(str, failures))
        self._context = self._log_context()
        await self._transient_failure(msg, Response(400, None, text))
        ready.consecutive_failures += 1
        if ready.consecutive_failures > ready.path.consecutive_connection_failures_before_delay:
            text = (
                "KumoMTA internal: bulk delay of ready queue: too many successive connection failures "
                "where there was no answer from any hosts listed in MX"
            )
            await self._refuse_all(
                Response(451, EnhancedCode(4, 4, 1), text), InsertReason.CONNECTION_FAILURES
            )

    async def _transient_failure(self, msg: Message, response: Response) -> None:
        try:
            await self._queues.spool.load_meta(msg)
        except (KeyError, SpoolError, ValueError) as err:
            await self._queues.unreadable(msg, err, self._context)
            return
        await self._queues.log.record(RecordType.TransientFailure, msg, response, self._context)
        await self._queues.requeue(msg, response, (InsertReason.LOGGED_TRANSIENT_FAILURE,))

    async def _refuse_all(self, response: Response, reason: InsertReason) -> None:
        """Give every message of the ready queue the same answer."""
        queues = self._queues
        self._context = self._log_context()
        for msg in self._ready.take_all():
            try:
                await queues.spool.load_meta(msg)
            except (KeyError, SpoolError, ValueError) as err:
                await queues.unreadable(msg, err, self._context)
                continue
            if response.is_permanent:
                await queues.log.record(RecordType.Bounce, msg, response, self._context)
                queues.forget(msg)
            else:
                await queues.log.record(RecordType.TransientFailure, msg, response, self._context)
                await queues.requeue(msg, response, (reason, InsertReason.LOGGED_TRANSIENT_FAILURE))
