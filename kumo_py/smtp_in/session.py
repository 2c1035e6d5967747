"""One SMTP session: the loop that turns what arrives into replies, and the state it works on.

What arrives is answered by the present *mode*: read a command, a content, a chunk, a SASL response, a PROXY
header. A mode takes what it can from the receiver and gives a Reply; or a coroutine, if somebody has to be waited
for; or None, if it needs more input. Nearly all commands are answered at once, in `_step`, which the transport
calls without waking the session's task (wire.py); what must be waited for, logged or closed is left to the task.
All replies to a pipelined batch go out in one send (RFC 2920).

Time: a session has one cancel scope and no timers. It writes down until when it may do what it does, and
`Endpoint.sweep` cuts off those that are late, about once a second. A command, or a content, has

    client_timeout + 1 s for each RECEIVE_RATE octets that arrived

from the reply before it, and `client_timeout` between two receives, so that a client that drips octets is shut
out; the work after DATA has `data_processing_timeout`. What is committed is never cut off (reception.py).

A session raises nothing but Cancelled: an error of the policy, or of ours, is a 421 4.3.0.
"""

from __future__ import annotations

import enum
import errno
import math
import uuid
from typing import TYPE_CHECKING, Final, TypeAlias

import structlog
import trio

from kumo_py.core.policy import Disconnect, PolicyError, Rejection
from kumo_py.logs import LogContext, Peer, RecordType, Tls
from kumo_py.message.connection import ConnectionMeta
from kumo_py.proto.command import CommandError
from kumo_py.proto.reply import Response
from kumo_py.proto.server import Receiver
from kumo_py.smtp_in import replies
from kumo_py.smtp_in.opening import open_session, read_proxy_header
from kumo_py.smtp_in.replies import Hangup, Reply
from kumo_py.smtp_in.tracing import SessionTrace
from kumo_py.smtp_in.verbs import read_command
from kumo_py.smtp_in.wire import exchange
from kumo_py.spool.errors import SpoolError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from kumo_py.net.transport import Transport
    from kumo_py.smtp_in.endpoint import Endpoint
    from kumo_py.smtp_in.envelope import Transaction
    from kumo_py.smtp_in.params import ListenerDomain

log = structlog.get_logger("kumo_py.smtp_in")

RECEIVE_RATE: Final = 1024
"""Octets per second below which a client must not stay on the average."""
FAREWELL: Final = 2.0
"""Seconds that a client which is still sending gets to read the last reply."""
_MOST_REPLIES: Final = 256
"""Replies that are held back for one send while pipelined input is left."""

Answer: TypeAlias = "Reply | Coroutine[Any, Any, Reply | None] | None"
"""What a mode or a verb has to say: at once, after waiting for somebody, or nothing yet."""
Mode: TypeAlias = "Callable[[Session], Answer]"


class Phase(enum.Enum):
    """What a session is doing, as far as cutting it off is concerned."""

    BUSY = enum.auto()
    """With a command, or with a message that is committed: never cut off."""
    READING = enum.auto()
    WRITING = enum.auto()
    """Also a TLS handshake, and the end."""
    WORKING = enum.auto()
    """Between the end of a content and its commitment: if cut off, the message is refused."""


class Session:
    """The state; the verbs' files read and change it."""

    __slots__ = (
        "_arrived",
        "_cut",
        "_gone",
        "_id",
        "_log_context",
        "_out",
        "_scope",
        "_started",
        "_traced",
        "_unsettled",
        "authenticated",
        "clock",
        "concluded",
        "deadline",
        "domains",
        "endpoint",
        "esmtp",
        "foreign_extensions",
        "helo",
        "line",
        "local",
        "local_ip",
        "meta",
        "mode",
        "params",
        "peer",
        "peer_ip",
        "phase",
        "received_start",
        "receiver",
        "recipients_counted",
        "relay_host",
        "services",
        "stage",
        "tls",
        "trace",
        "transaction",
        "transport",
        "upgrade",
    )

    def __init__(self, endpoint: Endpoint, transport: Transport) -> None:
        self.endpoint = endpoint
        self.services = endpoint.services
        self.trace = endpoint.services.trace
        self.clock = endpoint.clock
        self.transport = transport
        self.local = transport.local
        self.peer = transport.peer
        self.local_ip = ip_of(transport.local)
        self.peer_ip = ip_of(transport.peer)
        self.meta = ConnectionMeta(
            {
                "reception_protocol": "ESMTP",
                "received_via": transport.local,
                "received_from": transport.peer,
            },
            self.peer_ip,
        )
        self.params = endpoint.session_params(self.local_ip, self.peer_ip, self.meta.values)
        self.receiver = Receiver()
        self.relay_host = self.peer_ip in self.params.relay_hosts
        self.helo: str | None = None
        self.esmtp = False
        """Greeted with EHLO."""
        self.foreign_extensions = False
        """The policy changed the list of extensions: parameters we don't know may belong to them."""
        self.tls: Tls | None = None
        self.authenticated = False
        self.transaction: Transaction | None = None
        self.recipients_counted = 0
        """RCPT commands that counted against max_messages_per_connection."""
        self.domains: dict[str, ListenerDomain | None] = {}
        """Answers of get_listener_domain."""
        self.mode: Mode = open_session
        self.upgrade: Callable[[Session], Awaitable[None]] | None = None
        """What must happen when the next replies are out: STARTTLS."""
        self.line: bytes | None = None
        """The command being answered, for log records."""
        self.concluded = False
        """The transaction ends with the next reply."""
        self.phase = Phase.BUSY
        self.stage = ""
        """While WORKING: KumoMTA's name for how far the work has come."""
        self.deadline = math.inf
        """Until when (clock.now) the present phase may last."""
        self.received_start: bytes | None = None
        """The constant part of Received headers, once it is known."""
        self._cut = False
        self._traced: SessionTrace | None = None
        self._id = ""
        self._log_context: LogContext | None = None
        self._out: list[bytes] = []
        """Replies that are due."""
        self._unsettled: Answer = None
        """An answer that a step left to the task."""
        self._gone = False
        """The client has closed the connection."""
        self._started = self.clock.now
        """When the client was last answered, and the octets that it has sent since."""
        self._arrived = 0
        self._scope = trio.CancelScope()

    # -- for the verbs -----------------------------------------------------------------------------
    def read_commands(self) -> None:
        """Back to the mode in which command lines are read."""
        self.mode = read_command

    @property
    def traced(self) -> SessionTrace:
        """What to tell those who watch, if `trace` has watchers."""
        traced = self._traced
        if traced is None:
            traced = self._traced = SessionTrace(self)
        return traced

    def ask(self, event: str, *args: Any, about: str = "") -> Awaitable[Any]:  # noqa: ANN401  as Policy.ask
        """`Policy.ask`; `about` is what a trace adds to the event's name."""
        if self.trace.watchers:
            return self.traced.ask(event + about, event, args)
        return self.services.policy.ask(event, *args)

    def set_addresses(self, local: str, peer: str, source: str) -> None:
        """Believe in other addresses, `ip:port`, than those of the connection; `source` says so."""
        values = self.meta.values
        if peer != self.peer:
            before, self.peer = self.peer, peer
            values["orig_received_from"] = self.transport.peer
            values["received_from"] = peer
            if self.trace.watchers:
                self.traced.diagnostic("INFO", f"{source} changed received_from from {before} -> {peer}")
        if local != self.local:
            before, self.local = self.local, local
            values["orig_received_via"] = self.transport.local
            values["received_via"] = local
            if self.trace.watchers:
                self.traced.diagnostic("INFO", f"{source} changed received_via from {before} -> {local}")
        self.local_ip = ip_of(local)
        self.peer_ip = self.meta.peer_ip = ip_of(peer)

    def identity_changed(self) -> None:
        """Forget what was derived from addresses, EHLO, TLS, AUTH and metadata."""
        self.relay_host = self.peer_ip in self.params.relay_hosts
        self.domains.clear()
        self._log_context = None
        self.received_start = None

    @property
    def log_context(self) -> LogContext:
        """What this session's log records have in common."""
        context = self._log_context
        if context is None:
            self._id = self._id or str(uuid.uuid4())
            context = self._log_context = LogContext(
                peer=Peer(self.helo or "", self.peer_ip), tls=self.tls, session_id=self._id
            )
        return context

    def begin_work(self) -> None:
        """Begin the work after a content; see Phase.WORKING."""
        self.phase = Phase.WORKING
        self.deadline = self.clock.now + self.params.data_processing_timeout
        self.stage = "rx"

    async def commit(self) -> None:
        """End it, unless it was cut off just now: from here on nobody cuts this session off, until its next reply."""
        await self._heed_cut()
        self.phase = Phase.BUSY
        self.deadline = math.inf

    async def shake_hands(self, context: ssl.SSLContext) -> None:
        """Forget what came in the clear and start TLS. Raises OSError."""
        self.receiver.discard()
        self.phase = Phase.WRITING
        self.deadline = self.clock.now + self.params.client_timeout
        await self.transport.start_tls(context)
        self.phase = Phase.BUSY
        self.deadline = math.inf

    # -- for the endpoint --------------------------------------------------------------------------
    def cut_off(self) -> None:
        """Make the session give up what it does; see Phase."""
        self.deadline = math.inf
        self._cut = True
        self._scope.cancel()

    @property
    def waits_for_command(self) -> bool:
        return self.phase is Phase.READING and self.mode is read_command

    async def _heed_cut(self) -> None:
        """Be cut off now, if that was decided just when what we waited for came."""
        if self._cut:
            await trio.lowlevel.checkpoint()

    # -- the loop ----------------------------------------------------------------------------------
    async def run(self) -> None:
        """Serve the connection to its end, and close it."""
        go_on = self._converse
        if self.trace.watchers:
            self.traced.tell("Connected")
        try:
            while True:
                with self._scope:
                    await go_on()
                if not self._scope.cancelled_caught:
                    return
                go_on = self._after_cut
                self._cut = False
                self._scope = trio.CancelScope()
        except OSError as err:  # the client is gone
            if self.trace.watchers:
                self.traced.diagnostic("ERROR", f"connection broken: {err}")
        except Hangup as err:
            if self.trace.watchers:
                self.traced.diagnostic("ERROR", f"connection closed: {err}")
            log.warning("connection closed", listener=self.local, peer=self.peer, error=str(err))
        except Exception:
            log.exception("SMTP session failed", listener=self.local, peer=self.peer)
        finally:
            if self._unsettled is not None and not isinstance(self._unsettled, Reply):
                self._unsettled.close()
            self.transport.close()
            if self.trace.watchers:
                self.traced.tell("Closed")

    async def _converse(self) -> None:
        """Exchange input for replies until a reply closes the session, or the client has."""
        while True:
            while (answer := self._answer_pending()) is not None:
                reply = await self._settle(answer)
                if reply is not None and reply.closes:
                    return await self._finish(reply)
                if not self.receiver.pending or self.upgrade is not None or len(self._out) >= _MOST_REPLIES:
                    break
            is_full = len(self._out) >= _MOST_REPLIES
            if self._out:
                await self._flush()
            if self.upgrade is not None:
                await self.upgrade(self)
            if is_full:
                await trio.lowlevel.checkpoint()
                continue
            if self.endpoint.stopping and self.mode is read_command:
                return await self._finish(await self._accounted(replies.shutting_down(self.params.hostname)))
            self._wait_for_next()
            await exchange(self.transport, self._step)
            if self._cut:
                await self._heed_cut()
            self.phase = Phase.BUSY
            self.deadline = math.inf
            if self._gone:
                if self.trace.watchers:
                    self.traced.abandoned()
                    self.traced.diagnostic("ERROR", "Peer Disconnected")
                return None

    def _step(self, data: bytes) -> bytes | None:
        """Answer what arrived, as long as nothing of it must be waited for; see wire.py."""
        if not data:
            self._gone = True
            return None
        self._arrived += len(data)
        self.receiver.feed(data)
        out = self._out
        self._unsettled = self._answer_pending()
        if self._unsettled is not None or len(out) >= _MOST_REPLIES or self.endpoint.stopping:
            return None
        if not out:
            self._wait_for_rest()
            return b""
        self._wait_for_next()
        answer = b"".join(out)
        out.clear()
        if self.trace.watchers:
            self.traced.write(answer)
        return answer

    def _wait_for_next(self) -> None:
        """The client has been answered, and its time begins anew."""
        self._started = now = self.clock.now
        self._arrived = 0
        self.phase = Phase.READING
        self.deadline = now + self.params.client_timeout

    def _wait_for_rest(self) -> None:
        """A command, or a content, has arrived in part."""
        now = self.clock.now
        self.deadline = min(now, self._started + self._arrived / RECEIVE_RATE) + self.params.client_timeout

    def _answer_pending(self) -> Answer:
        """Answer what is there, up to the first answer that has to be settled; None: more input is needed."""
        answer = self._unsettled
        if answer is not None:
            self._unsettled = None
            return answer
        receiver, out = self.receiver, self._out
        watched = self.trace.watchers
        rewriting = self.services.policy.handles("smtp_server_rewrite_response")
        while True:
            try:
                answer = self.traced.answer() if watched else self.mode(self)
            except Exception as err:
                answer = self._reply_to_error(err)
            if not isinstance(answer, Reply) or answer.code >= 400 or answer.closes or rewriting:
                return answer
            out.append(answer.wire)
            if not receiver.pending or len(out) >= _MOST_REPLIES:
                return None

    async def _settle(self, answer: Reply | Coroutine[Any, Any, Reply | None]) -> Reply | None:
        """Wait for an answer, and put it among those to send."""
        if not isinstance(answer, Reply):
            try:
                reply = await answer
            except Exception as err:
                reply = self._reply_to_error(err)
            if reply is None:
                return None
        else:
            reply = answer
        if reply.code < 400 and not self.services.policy.handles("smtp_server_rewrite_response"):
            self._out.append(reply.wire)
        else:
            reply = await self._accounted(reply)
        if self.concluded:
            self.conclude()
        self.phase = Phase.BUSY
        self.deadline = math.inf
        return reply

    def conclude(self) -> None:
        """The transaction is over."""
        self.concluded = False
        if self.transaction is not None and self.transaction.stopwatch is not None:
            self.transaction.stopwatch.stop()
        self.transaction = None

    async def _accounted(self, reply: Reply) -> Reply:
        """Put a reply, as the policy wants it, among those to send; log it if it is a refusal."""
        if self.services.policy.handles("smtp_server_rewrite_response"):
            reply = await self._rewritten(reply)
        self._out.append(reply.wire)
        if reply.code >= 400 and not (reply.code == 421 and reply.text.startswith("4.3.2 ")):
            await self._log_rejection(reply)
        return reply

    async def _rewritten(self, reply: Reply) -> Reply:
        command = self._command()
        try:
            answer = await self.ask(
                "smtp_server_rewrite_response", reply.code, reply.text, command, self.meta
            )
        except (Rejection, PolicyError) as err:
            log.error("smtp_server_rewrite_response failed; the reply stays as it is", error=str(err))
            return reply
        code, text = answer or (None, None)
        if code is None and text is None:
            return reply
        return Reply(
            reply.code if code is None else code,
            reply.text if text is None else text,
            disconnect=reply.disconnect,
            closes=reply.closes,
        )

    async def _log_rejection(self, reply: Reply) -> None:
        self.endpoint.counters.rejections += 1
        if not self.services.log.wants(RecordType.Rejection):
            return
        transaction = self.transaction
        await self.services.log.record_rejection(
            None if transaction is None else transaction.sender,
            () if transaction is None else transaction.recipients,
            Response.from_text(reply.code, reply.text, self._command()),
            self.log_context,
            self.meta.values,
        )

    def _command(self) -> str | None:
        """The command being answered, without the password that AUTH has in its third word."""
        if self.line is None:
            return None
        command = self.line.decode("utf-8", "replace")
        return " ".join(command.split(None, 2)[:2]) if command[:4].upper() == "AUTH" else command

    def _reply_to_error(self, err: Exception) -> Reply:
        hostname = self.params.hostname
        match err:
            case CommandError():
                return Reply(err.code, err.text)
            case Rejection():
                return Reply(err.code, err.text, disconnect=err.disconnect)
            case Hangup():
                raise err
            case OSError() if self.phase is Phase.WRITING:
                raise err  # the client is gone
            case SpoolError():
                if self.trace.watchers:
                    self.traced.diagnostic("ERROR", f"message not accepted: {err}")
                log.error("message not accepted", listener=self.local, peer=self.peer, error=str(err))
                if err.errno in (errno.ENOSPC, errno.EDQUOT):
                    return Reply(452, "4.3.1 insufficient system storage")
                return Reply(421, f"4.3.2 {hostname} the spool is not accepting writes. Try later")
        if self.endpoint.stopping:
            return replies.shutting_down(hostname)
        if self.trace.watchers:
            self.traced.diagnostic("ERROR", f"Error in SmtpServerSession: {err}")
        log.error(
            "SMTP session ends because of an error",
            listener=self.local,
            peer=self.peer,
            error=str(err),
            exc_info=None if isinstance(err, PolicyError) else err,
        )
        return replies.technical_difficulties(hostname)

    async def _flush(self, patience: float | None = None) -> None:
        self.phase = Phase.WRITING
        self.deadline = self.clock.now + (self.params.client_timeout if patience is None else patience)
        data = b"".join(self._out)
        self._out.clear()
        if self.trace.watchers:
            self.traced.write(data)
        await self.transport.send_all(data)
        self.phase = Phase.BUSY
        self.deadline = math.inf

    async def _finish(self, reply: Reply, patience: float | None = None) -> None:
        """Send the last replies; let a client that is still sending read them before the connection is reset."""
        if reply.disconnect is Disconnect.FOLLOW_WITH_421 and reply.code != 421:
            self._out.append(f"421 {self.params.hostname} disconnecting due to previous error\r\n".encode())
        await self._flush(patience)
        if self.receiver.pending or self.mode is not read_command:
            self.phase = Phase.WRITING
            self.deadline = self.clock.now + FAREWELL
            while await self.transport.receive():
                pass

    async def _after_cut(self) -> None:
        """Go on, in a new scope, after the endpoint has cut the session off."""
        if self.trace.watchers and self.phase is Phase.READING:
            self.traced.abandoned()
        if self.mode is read_proxy_header:
            return  # nobody there speaks SMTP yet
        if self.phase is Phase.READING:
            hostname = self.params.hostname
            reply = (
                replies.shutting_down(hostname) if self.endpoint.stopping else replies.idle_too_long(hostname)
            )
            await self._finish(await self._accounted(reply), FAREWELL)
        elif self.phase is Phase.WORKING:
            await self._settle(Reply(451, f"4.4.5 data_processing_timeout exceeded ({self.stage})"))
            await self._converse()


def ip_of(address: str) -> str:
    """The address of `ip:port` or `[ip6]:port`."""
    return address.rpartition(":")[0].strip("[]")
