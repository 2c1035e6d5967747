"""An outgoing SMTP session: the dispatcher that takes messages of one ready queue to one site.

Steady state costs one round trip and one write a message: the next envelope rides in the write that ends the
body before it (RFC 2920 §3.1 allows message text to begin a group). One task drives a session; its network
waits are bounded by `Connection.deadline`, which SmtpDelivery's watch looks at once a second, because a
cancel scope for each wait would cost more than the wait itself.

A message taken from the ready queue is this session's until it is settled: logged and forgotten, requeued, or
put back untried.
"""

from __future__ import annotations

import uuid
from contextlib import nullcontext
from typing import TYPE_CHECKING

import trio

from kumo_py.logs import LogContext, Peer, RecordType
from kumo_py.proto.client import stuff
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue.context import InsertReason
from kumo_py.smtp_out.connect import advice, connect
from kumo_py.smtp_out.connection import Connection, ConnectionFailed, TlsFailed
from kumo_py.smtp_out.envelope import Envelope, Refused, Untried, envelope_replies
from kumo_py.smtp_out.outcome import settle
from kumo_py.smtp_out.plan import NoPlan, make_plan, shown
from kumo_py.smtp_out.tls import ClientContexts, wants_tls
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kumo_py.dns import HostAddress
    from kumo_py.message.message import Message
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue


class SmtpDelivery:
    """The node's SMTP dispatchers; `run` is what `Queues.dispatchers` calls."""

    def __init__(self, queues: Queues, hostname: str) -> None:
        self.queues = queues
        self.hostname = hostname
        self.contexts = ClientContexts()
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
        "_ahead",
        "_at_once",
        "_connection",
        "_context",
        "_delivery",
        "_envelope_sent",
        "_message",
        "_queues",
        "_ready",
        "_scope",
        "_session_id",
        "_tried",
    )

    def __init__(self, delivery: SmtpDelivery, ready: ReadyQueue) -> None:
        self._delivery = delivery
        self._queues = delivery.queues
        self._ready = ready
        self._session_id = str(uuid.uuid4())
        self._message: Message | None = None
        """The message in hand."""
        self._at_once = 0
        """How many of its recipients may go now, at the front: the others failed in this session. 0 is all."""
        self._ahead: Envelope | None = None
        """The next one's envelope, once it is sent."""
        self._envelope_sent: Envelope | None = None
        """The envelope of the message in hand, if it was sent with the body before it."""
        self._connection: Connection | None = None
        self._context = LogContext()
        self._tried = 0
        """Messages tried on this connection."""
        self._scope = trio.CancelScope()

    def check_deadline(self, now: float) -> None:
        """Cancel the wait that is under way if it has lasted too long."""
        if self._connection is not None and self._connection.deadline < now:
            self._scope.cancel()

    # -- hosts -------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Deliver until there is nothing left for `idle_timeout`, or no host is left to try."""
        ready, queues = self._ready, self._queues
        try:
            plan = await make_plan(ready, queues.resolver, queues.random)
        except NoPlan as err:
            await self._refuse_all(err.response, err.reason)
            return
        self._context = self._log_context()
        if not ready.stopping:
            self._take()
        failures: list[ConnectionFailed] = []
        try:
            while plan and self._message is not None:
                host = plan.pop(0)
                ended_well, failure = await self._use(host)
                if failure is not None:
                    failures.append(failure)
                    continue
                if ended_well or ready.path.reconnect_strategy == "TerminateSession":
                    return
                failures.clear()
                if ready.path.reconnect_strategy == "ReconnectSameHost":
                    plan.insert(0, host)
                self._refill(plan)
            if failures:
                await self._no_host_answered(failures)
        finally:
            self._give_back()

    def _refill(self, plan: list[HostAddress]) -> None:
        """Have a message in hand for the next host."""
        if plan and self._message is None and not self._ready.stopping:
            self._take()

    def _take(self) -> Message | None:
        self._message = self._ready.take()
        self._at_once = 0
        return self._message

    def _give_back(self) -> None:
        """What was taken and not tried goes back, in order."""
        if self._ahead is not None:
            self._ready.put_back(self._ahead.msg)
        if self._message is not None:
            self._ready.put_back(self._message)
        self._ahead = self._envelope_sent = self._message = None

    async def _use(self, host: HostAddress) -> tuple[bool, ConnectionFailed | None]:
        """Connect and deliver: whether the session ended in good order, or why none came about."""
        path = self._ready.path
        where = f"{host.name}/{shown(host)}"
        established = ended_well = False
        try:
            made = await connect(self._queues, host, self._ready.source, path)
        except ConnectionFailed as err:
            return False, err
        connection = self._connection = Connection(*made)
        try:
            with trio.CancelScope() as self._scope:
                await self._establish(connection, host)
                established = True
                self._ready.consecutive_failures = 0
                ended_well = await self._converse(connection)
                if ended_well:
                    await connection.quit()
            if self._scope.cancelled_caught:
                what, seconds = connection.waiting_for
                if not established:
                    return False, ConnectionFailed(
                        f"{where}: timed out after {seconds:g}s waiting for {what}"
                    )
                text = (
                    f"KumoMTA internal: failed to send message to {self._ready.name} {where}: "
                    f"Timed Out waiting {seconds:g}s for response to {what}"
                )
                await self._fail_in_hand(Response(421, EnhancedCode(4, 4, 2), text, what))
        except ConnectionFailed as err:
            if not established:
                return False, type(err)(f"{where}: {err}")
            text = f"KumoMTA internal: failed to send message: {err}"
            await self._fail_in_hand(Response(400, None, text, connection.waiting_for[0]))
        finally:
            self._connection = None
            connection.close()
        return ended_well, None

    async def _establish(self, connection: Connection, host: HostAddress) -> None:
        path, source = self._ready.path, self._ready.source
        ehlo_domain = path.ehlo_domain or source.ehlo_domain or self._delivery.hostname
        await connection.greet(ehlo_domain, path)
        use_tls = wants_tls(path.enable_tls, offered="STARTTLS" in connection.extensions)
        if use_tls is None:
            raise TlsFailed(f"enable_tls={path.enable_tls}, and STARTTLS is not offered")
        if use_tls:
            context = self._delivery.contexts.get(path.enable_tls)
            await connection.start_tls(context, host.name.strip("[]"), ehlo_domain, path)
        self._tried = 0
        self._context = self._log_context(host, connection)

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
            session_id=self._session_id,
        )
        if host is not None and connection is not None:
            context.peer = Peer(host.name, shown(host), host.is_secure)
            context.source_address = connection.source_address
            context.tls = connection.tls
        return context

    # -- messages over one connection --------------------------------------------------------------
    async def _converse(self, connection: Connection) -> bool:
        """Send message after message; False when the server has closed, or is about to.

        Raises ConnectionFailed, with `_message` the one that was being tried.
        """
        pipelining = self._ready.path.enable_pipelining and "PIPELINING" in connection.extensions
        while self._message is not None or await self._next_message(connection):
            msg = self._message
            assert msg is not None
            if self._envelope_sent is None and not await self._prepare(msg):
                continue
            at_once = self._at_once or len(msg.recipients)
            sent = self._envelope_sent
            limit = min(at_once, self._ready.path.max_recipients_per_batch)
            recipients = msg.recipients[:limit] if sent is None else sent.recipients
            closed = False
            try:
                responses = await self._transact(connection, msg, recipients, pipelining=pipelining)
            except Refused as refused:
                responses, closed = refused.responses, refused.closed
            except Untried:
                return False
            self._tried += 1
            self._envelope_sent, self._ahead = self._ahead, None
            self._message = None if self._envelope_sent is None else self._envelope_sent.msg
            untried = at_once - len(recipients)
            # A reply that came just when the watch gave it up still counts.
            given_up = self._scope.cancel_called
            with trio.CancelScope(shield=True) if given_up else nullcontext():
                self._at_once = await settle(self._queues, msg, recipients, responses, self._context, untried)
            if self._at_once:
                self._message = msg
            if closed or given_up or any(response.code == 421 for response in responses):
                self._envelope_sent = None
                return False
        return True

    async def _transact(
        self, connection: Connection, msg: Message, recipients: Sequence[str], *, pipelining: bool
    ) -> list[Response]:
        """One transaction; the response for each recipient. Raises Refused, Untried or ConnectionFailed."""
        path = self._ready.path
        envelope, ahead = self._envelope_sent, self._envelope_sent is not None
        if envelope is None:
            envelope = Envelope(msg, recipients, connection, path)
        self._envelope_sent = None
        if pipelining and not ahead:
            await connection.send([envelope.pipelined(connection)], "MAIL", path.mail_from_timeout)
        answers = await envelope_replies(connection, envelope, path, pipelined=pipelining, ahead=ahead)
        known = msg.dot_lines is not None
        parts = list(stuff(msg.data, msg.dot_lines, has_clean_endings=known))
        # A transaction that ends well leaves nothing to reset but what `enable_rset` asks for.
        connection.use_rset = path.enable_rset
        # Of several recipients some may have to follow in a transaction of their own, before the next message.
        alone = len(msg.recipients) == 1
        if pipelining and alone and (following := self._look_ahead(connection)) is not None:
            parts.append(following.pipelined(connection))
            self._ahead = following
        await connection.send(parts, "the message", path.data_dot_timeout)
        if path.use_lmtp:
            # RFC 2033 §4.2: a reply for each recipient that was accepted.
            return [
                await connection.reply(".", path.data_dot_timeout) if answer.is_success else answer
                for answer in answers
            ]
        sent = trio.current_time()
        final = await connection.reply(".", path.data_dot_timeout)
        self._ready.note_pace(trio.current_time() - sent)
        if final.code != 250:
            connection.use_rset = True
        return [final if answer.is_success else answer for answer in answers]

    def _look_ahead(self, connection: Connection) -> Envelope | None:
        """The envelope that may ride with this body: of a message that needs no waiting for anything."""
        ready = self._ready
        path = ready.path
        if (
            not ready.messages
            or ready.stopping
            or self._tried + 1 >= path.max_deliveries_per_connection
            or path.max_message_rate is not None
            or path.additional_message_rate_throttles
        ):
            return None
        msg = ready.messages[0]
        if not (msg.data_loaded and msg.meta_loaded):
            return None
        try:
            envelope = Envelope(msg, msg.recipients[: path.max_recipients_per_batch], connection, path)
        except Refused:
            return None
        ready.take()
        return envelope

    async def _next_message(self, connection: Connection) -> bool:
        """Wait for the next message; False to close the connection."""
        ready = self._ready
        while self._tried < ready.path.max_deliveries_per_connection and not ready.stopping:
            if self._take() is not None:
                return True
            # A server that has gone meanwhile leaves the message to a new session.
            if not await ready.wait() or not connection.alive():
                return False
        return False

    async def _prepare(self, msg: Message) -> bool:
        """Load the message and wait for the path's rates; False if it had to be given away."""
        try:
            await self._queues.spool.load(msg)
        except (KeyError, SpoolError, ValueError) as err:
            self._message = None
            await self._queues.unreadable(msg, err, self._context)
            return False
        return await self._admitted(msg)

    async def _admitted(self, msg: Message) -> bool:
        """Wait for the message rates; one that asks for more than `idle_timeout` empties the ready queue."""
        ready, queues = self._ready, self._queues
        rates = queues.limits.message_rates(ready)
        for key, spec in rates:
            while (wait := await queues.rates.admit(key, spec)) > 0.0:
                if wait >= ready.path.idle_timeout:
                    self._give_back()
                    response = Response(451, EnhancedCode(4, 4, 1), "KumoMTA internal: ready queue throttled")
                    reason = InsertReason.MESSAGE_RATE_THROTTLE
                    await ready.requeue_all(response, reason, delay=wait, count_attempt=False)
                    return False
                if ready.stopping:
                    self._give_back()
                    return False
                await trio.sleep(min(wait, 1.0))
        return True

    # -- failures ----------------------------------------------------------------------------------
    async def _fail_in_hand(self, response: Response) -> None:
        """The connection broke under a message: it waits for its next attempt."""
        msg, self._message = self._message, None
        self._envelope_sent = None
        if self._ahead is not None:
            self._ready.put_back(self._ahead.msg)
            self._ahead = None
        if msg is not None:
            await self._transient_failure(msg, response)

    async def _no_host_answered(self, failures: list[ConnectionFailed]) -> None:
        ready = self._ready
        msg, self._message = self._message, None
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
