"""Messages over one connection, one after the other.

Steady state costs one round trip and one write a message: the next envelope rides in the write that ends the body
before it (RFC 2920 §3.1 allows message text to begin a group).
"""

from __future__ import annotations

import enum
from contextlib import nullcontext
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from kumo_py.core.spool_id import LOWEST, TIMED
from kumo_py.proto.client import stuff
from kumo_py.queue.message_rates import delayed, send_back
from kumo_py.smtp_out.demand import all_may_ride, destination_of, may_ride
from kumo_py.smtp_out.envelope import Envelope, Refused, Untried, envelope_replies, lmtp_replies
from kumo_py.smtp_out.outcome import settle
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kumo_py.logs import LogContext
    from kumo_py.message.message import Message
    from kumo_py.proto.reply import Response
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.smtp_out.connection import Connection
    from kumo_py.smtp_out.demand import Destination
    from kumo_py.smtp_out.work import Work


class End(enum.Enum):
    """How a conversation ended."""

    DONE = "done"
    """In good order: nothing is left to do here."""
    BROKEN = "broken"
    """The server has closed, or is about to."""
    NEXT_HOST = "next host"
    """The same, and the message in hand may be tried on the next host (`try_next_host_on_transport_error`)."""
    ANEW = "anew"
    """The message in hand demands more of TLS than this connection has."""


class Conversation:
    """See the module."""

    __slots__ = (
        "_cleared",
        "_connection",
        "_context",
        "_destination",
        "_host",
        "_may_try_next",
        "_pipelining",
        "_queues",
        "_ready",
        "_scope",
        "_tried",
        "_work",
    )

    def __init__(
        self,
        queues: Queues,
        work: Work,
        ready: ReadyQueue,
        connection: Connection,
        context: LogContext,
        host: str,
        destination: Destination,
        scope: trio.CancelScope,
        *,
        may_try_next: bool,
    ) -> None:
        """`host` and `destination` are what the connection was made to, and for; `scope` is what the watch cancels."""
        self._queues = queues
        self._work = work
        self._ready = ready
        self._connection = connection
        self._context = context
        self._host = host
        self._destination = destination
        self._scope = scope
        self._may_try_next = may_try_next
        self._pipelining = ready.path.enable_pipelining and "PIPELINING" in connection.extensions
        self._tried = 0
        """Messages tried on this connection."""
        all_may = all_may_ride(ready, queues.resolver, destination, connection)
        self._cleared: set[str] | None = None if all_may else set()
        """The queues whose messages may go over this connection; None if all may."""

    async def run(self) -> End:
        """Send message after message. Raises ConnectionFailed, with the one that was being tried in hand."""
        work, ready = self._work, self._ready
        latency = self._queues.times.delivery["smtp_client"]
        while work.in_hand is not None or await self._next_message():
            msg = work.in_hand
            assert msg is not None
            started = perf_counter() if msg.id[LOWEST] < TIMED else None
            if work.sent is None:
                if not await self._load(msg):
                    continue
                if self._cleared is not None and not await self._may_ride(msg, self._cleared):
                    return End.ANEW
                if not await self._admitted():
                    continue
                if self._connection.traced.trace.watchers:
                    self._connection.traced.obtained(msg)
            at_once = work.at_once or len(msg.recipients)
            limit = min(at_once, ready.path.max_recipients_per_batch)
            recipients = msg.recipients[:limit] if work.sent is None else work.sent.recipients
            closed = False
            try:
                responses = await self._transact(msg, recipients)
            except Refused as refused:
                responses, closed = refused.responses, refused.closed
            except Untried:
                return End.BROKEN
            closed = closed or any(response.code == 421 for response in responses)
            again = closed and self._may_try_next
            self._tried += 1
            work.next()
            # A reply that came just when the watch gave it up still counts.
            given_up = self._scope.cancel_called
            with trio.CancelScope(shield=True) if given_up else nullcontext():
                left = await settle(
                    self._queues, msg, recipients, responses, self._context, at_once - len(recipients), again
                )
            if started is not None:
                latency.observe(perf_counter() - started)
            if left:
                work.again(msg, left)
            if closed or given_up:
                work.sent = None
                return End.NEXT_HOST if left and again else End.BROKEN
        return End.DONE

    # -- one message -------------------------------------------------------------------------------
    async def _transact(self, msg: Message, recipients: Sequence[str]) -> list[Response]:
        """One transaction; the response for each recipient. Raises Refused, Untried or ConnectionFailed."""
        work, connection, path, pipelining = self._work, self._connection, self._ready.path, self._pipelining
        envelope, ahead = work.sent, work.sent is not None
        if envelope is None:
            envelope = Envelope(msg, recipients, connection, path)
        work.sent = None
        if pipelining and not ahead:
            await connection.send([envelope.pipelined(connection)], "MAIL", path.mail_from_timeout)
        answers = await envelope_replies(connection, envelope, path, pipelined=pipelining, ahead=ahead)
        known = msg.dot_lines is not None
        parts = list(stuff(msg.data, msg.dot_lines, has_clean_endings=known))
        content = len(parts)
        # A transaction that ends well leaves nothing to reset but what `enable_rset` asks for.
        connection.use_rset = path.enable_rset
        # Of several recipients some may have to follow in a transaction of their own, before the next message.
        alone = len(msg.recipients) == 1
        if pipelining and alone and (following := self._look_ahead()) is not None:
            parts.append(following.pipelined(connection))
            work.ahead = following
        await connection.send(parts, "the message", path.data_dot_timeout, content)
        if path.use_lmtp:
            return await lmtp_replies(connection, answers, path)
        sent = trio.current_time()
        final = await connection.reply(".", path.data_dot_timeout)
        self._ready.note_pace(trio.current_time() - sent)
        if final.code != 250:
            connection.use_rset = True
        return [final if answer.is_success else answer for answer in answers]

    def _look_ahead(self) -> Envelope | None:
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
        if self._cleared is not None and msg.queue_name not in self._cleared:
            return None
        try:
            envelope = Envelope(msg, msg.recipients[: path.max_recipients_per_batch], self._connection, path)
        except Refused:
            return None
        ready.take()
        return envelope

    # -- the next message --------------------------------------------------------------------------
    async def _next_message(self) -> bool:
        """Wait for the next message; False to close the connection."""
        ready = self._ready
        while self._tried < ready.path.max_deliveries_per_connection and not ready.stopping:
            if self._work.take():
                return True
            # A server that has gone meanwhile leaves the message to a new session.
            if not await ready.wait() or not self._connection.alive():
                return False
        return False

    async def _load(self, msg: Message) -> bool:
        """Have all of the message in memory; False if it cannot be read, and is not in hand any more."""
        try:
            await self._queues.spool.load(msg)
        except (KeyError, SpoolError, ValueError) as err:
            self._work.give_up()
            await self._queues.unreadable(msg, err, self._context)
            return False
        return True

    async def _may_ride(self, msg: Message, cleared: set[str]) -> bool:
        """Whether the connection has the TLS that the message's domain demands."""
        if msg.queue_name in cleared:
            return True
        ready = self._ready
        destination = await destination_of(msg, ready, self._queues.resolver)
        if not may_ride(ready.path, self._destination, self._connection, self._host, destination):
            return False
        cleared.add(msg.queue_name)
        return True

    async def _admitted(self) -> bool:
        """Wait for the message rates; one that asks for more than `idle_timeout` empties the ready queue."""
        wait = await delayed(self._queues, self._ready)
        if wait <= 0.0:
            return True
        self._work.put_back()
        await send_back(self._ready, wait)
        return False
