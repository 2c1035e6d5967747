"""Publishing by AMQP 0-9-1, as RabbitMQ speaks it: a pool of connections, and a client of one connection.

pamqp is the grammar of the frames, SocketTransport the socket. A connection has one channel, a task that reads and one
that sends heartbeats. A broker confirms what it has taken over if it was asked to (`confirms`); what it cannot route
comes back first if it was published as mandatory. An error on the channel ends the connection here: its reason reaches
everyone who waits, and the next message makes a new connection. https://www.rabbitmq.com/docs/specification
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar

import structlog
import trio
from pamqp import body, commands, encode, exceptions, frame, header, heartbeat

from kumo_py.core.duration import format_duration
from kumo_py.net.client_tls import client_context, problem
from kumo_py.net.http import connect as open_transport

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping

    from pamqp.base import Frame
    from pamqp.common import FieldValue

    from kumo_py.net.transport import SocketTransport

log = structlog.get_logger("kumo_py.net.amqp")

DEFAULT_HEARTBEAT = 60
"""Seconds; the broker may want fewer."""
CLOSE_TIME = 2.0
"""Seconds that a good-bye may take."""
_PROTOCOL = header.ProtocolHeader().marshal()
_CHANNEL = 1
_LONGEST_NAME = 128
_CLOSED = "the client was closed"
_CLIENT: dict[str, Any] = {
    "product": "kumo-py",
    "capabilities": {
        "authentication_failure_close": True,
        "connection.blocked": True,
        "publisher_confirms": True,
        "consumer_cancel_notify": True,
    },
}

Status: TypeAlias = Literal["Ack", "Nack", "NotRequested"]
F = TypeVar("F", bound="Frame")


class AmqpError(OSError):
    """Nothing was published, or the broker does not say that it was; the text says why."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker is, and who we are to it; durations in seconds."""

    host: str
    port: int = 5672
    username: str = "guest"
    password: str = "guest"
    vhost: str = "/"
    connection_name: str | None = None
    heartbeat: int = DEFAULT_HEARTBEAT
    """Seconds; 0 is none."""
    tls: bool = False
    authority: str | None = None
    certificate: str | None = None
    key: str | None = None
    external: bool = False
    """The certificate says who we are."""
    confirms: bool = True
    frame_max: int = 131072
    """Octets."""
    connect_timeout: float = 20.0

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Properties(commands.Basic.Properties):
    """A message's properties, whose headers keep numbers as exact as they are: pamqp would make floats 32 bits wide."""

    def encode_property(self, name: str, value: FieldValue) -> bytes:
        return _table(value) if isinstance(value, dict) else super().encode_property(name, value)


def _table(value: Mapping[str, FieldValue]) -> bytes:
    """Raises ValueError or TypeError."""
    fields = []
    for name, item in value.items():
        if len(name.encode()) > _LONGEST_NAME:
            raise ValueError(f"the name of header '{name[:20]}…' is longer than {_LONGEST_NAME} octets")
        fields.append(encode.short_string(name) + _field(item))
    whole = b"".join(fields)
    return struct.pack(">I", len(whole)) + whole


def _field(value: FieldValue) -> bytes:
    match value:
        case float():
            return b"d" + struct.pack(">d", value)
        case dict():
            return b"F" + _table(value)
        case list():
            whole = b"".join(map(_field, value))
            return b"A" + struct.pack(">I", len(whole)) + whole
    return encode.encode_table_value(value)


@dataclass(frozen=True, slots=True)
class Publication:
    """What is published."""

    exchange: str
    routing_key: str
    payload: bytes
    properties: Properties = field(default_factory=Properties)
    mandatory: bool = False
    immediate: bool = False

    def frames(self, largest: int) -> list[bytes]:
        """As it goes over the wire, in frames of at most `largest` octets. Raises ValueError."""
        content = header.ContentHeader(body_size=len(self.payload), properties=self.properties)
        try:
            method = commands.Basic.Publish(
                exchange=self.exchange,
                routing_key=self.routing_key,
                mandatory=self.mandatory,
                immediate=self.immediate,
            )
            parts = [frame.marshal(method, _CHANNEL) + frame.marshal(content, _CHANNEL)]
        except (TypeError, ValueError, struct.error) as err:
            raise ValueError(f"this cannot be said in AMQP: {err}") from None
        step = largest - 8
        parts += [
            frame.marshal(body.ContentBody(self.payload[at : at + step]), _CHANNEL)
            for at in range(0, len(self.payload), step)
        ]
        return parts


class Outcome(NamedTuple):
    """What became of a message; a code and text only if it came back."""

    status: Status
    code: int | None = None
    text: str | None = None


class Confirmation:
    """Of one message; `wait` for it."""

    __slots__ = ("_done", "_error", "_outcome", "_publication", "_returned")

    def __init__(self, publication: Publication) -> None:
        self._publication = publication
        self._done = trio.Event()
        self._outcome: Outcome | None = None
        self._error: AmqpError | None = None
        self._returned: commands.Basic.Return | None = None

    def may_be(self, returned: commands.Basic.Return) -> bool:
        """Whether this message may be the one that came back: frames do not say."""
        mine = self._publication
        return (
            (mine.mandatory or mine.immediate)
            and self._returned is None
            and (mine.exchange, mine.routing_key) == (returned.exchange, returned.routing_key)
        )

    def came_back(self, returned: commands.Basic.Return) -> None:
        self._returned = returned

    def settle(self, status: Status) -> None:
        came_back = self._returned
        if came_back is None:
            self._outcome = Outcome(status)
        else:
            self._outcome = Outcome(status, came_back.reply_code, came_back.reply_text)
        self._done.set()

    def fail(self, error: AmqpError) -> None:
        self._error = error
        self._done.set()

    async def wait(self) -> Outcome:
        """Raises AmqpError."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._outcome is not None
        return self._outcome


class Connection:
    """One connection and its channel. `serve` it; `ended` says why once it is of no more use."""

    def __init__(self, broker: Broker) -> None:
        self.ended: str | None = None
        self.loses_messages = False
        """Whether it ended with messages on their way that nobody asked a confirmation of."""
        self._broker = broker
        self._transport: SocketTransport
        self._buffer = bytearray()
        self._frame_max = broker.frame_max
        self._heartbeat = 0.0
        self._last_sent = self._last_received = 0.0
        self._sending = trio.Lock()
        self._last_tag = 0
        self._waiting: dict[int, Confirmation] = {}
        self._blocked: str | None = None
        self._unblocked = trio.Event()
        self._serving = trio.CancelScope()
        self._is_unconfirmed = False
        self._is_over = False
        """Whether there is nothing more to say to the broker."""

    def close(self) -> None:
        """Begin to end it."""
        self._end(_CLOSED)

    # -- life --------------------------------------------------------------------------------------------
    async def serve(
        self,
        tls: Callable[[], Awaitable[ssl.SSLContext]],
        *,
        task_status: trio.TaskStatus[Connection] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Connect and log in, which may raise AmqpError; then serve until it ends."""
        broker = self._broker
        try:
            with trio.fail_after(broker.connect_timeout):
                self._transport = await open_transport(broker.host, broker.port)
                try:
                    if broker.tls:
                        await self._transport.start_tls(await tls(), server_hostname=broker.host)
                    await self._log_in()
                except BaseException:
                    self._transport.close()
                    raise
        except trio.TooSlowError:
            limit = format_duration(broker.connect_timeout)
            raise AmqpError(f"{broker}: no connection within {limit}") from None
        except (OSError, ValueError) as err:
            raise AmqpError(f"{broker}: {problem(err)}") from err
        task_status.started(self)
        try:
            with self._serving:
                async with trio.open_nursery() as nursery:
                    if self._heartbeat:
                        nursery.start_soon(self._beat)
                    await self._read()
        finally:
            self.close()
            if self.ended != _CLOSED:
                log.warning("amqp: no connection any more", broker=str(broker), problem=self.ended)
            await self._say_goodbye()
            self._transport.close()

    async def _log_in(self) -> None:
        broker = self._broker
        await self._transport.send_all(_PROTOCOL)
        start = await self._expect(commands.Connection.Start)
        mechanism, response = "PLAIN", f"\0{broker.username}\0{broker.password}"
        if broker.external:
            mechanism, response = "EXTERNAL", ""
        offered = (start.mechanisms or "").split()
        if mechanism not in offered:
            raise AmqpError(f"the broker offers {' and '.join(offered)}, not {mechanism}")
        about = dict(_CLIENT)
        if broker.connection_name is not None:
            about["connection_name"] = broker.connection_name
        await self._say(
            commands.Connection.StartOk(client_properties=about, mechanism=mechanism, response=response), 0
        )
        tune = await self._expect(commands.Connection.Tune)
        self._frame_max = min(tune.frame_max or broker.frame_max, broker.frame_max)
        beat = min(tune.heartbeat, broker.heartbeat) if tune.heartbeat else broker.heartbeat
        self._heartbeat = float(beat)
        await self._say(commands.Connection.TuneOk(_CHANNEL, self._frame_max, beat), 0)
        await self._say(commands.Connection.Open(broker.vhost), 0)
        await self._expect(commands.Connection.OpenOk)
        await self._say(commands.Channel.Open(), _CHANNEL)
        await self._expect(commands.Channel.OpenOk)
        if broker.confirms:
            await self._say(commands.Confirm.Select(), _CHANNEL)
            await self._expect(commands.Confirm.SelectOk)

    async def _expect(self, kind: type[F]) -> F:
        """The next frame. Raises AmqpError for another one."""
        while True:
            match (await self._frame())[1]:
                case commands.Connection.Close() | commands.Channel.Close() as close:
                    raise AmqpError(_reason(close))
                case heartbeat.Heartbeat():
                    pass
                case commands.Connection.Blocked() as blocked:
                    self._blocked = blocked.reason
                case found if isinstance(found, kind):
                    return found
                case found:
                    raise AmqpError(f"the broker says {found.name} instead of {kind.name}")

    async def _frame(self) -> tuple[int, frame.FrameTypes]:
        """The next frame with its channel. Raises OSError; AmqpError for what is none."""
        buffer = self._buffer
        while True:
            if buffer[:4] == b"AMQP":
                raise AmqpError("the broker does not speak AMQP 0-9-1")
            if len(buffer) >= 7:
                size = int.from_bytes(buffer[3:7], "big") + 8
                if size > self._frame_max + 8:
                    raise AmqpError(f"the broker sends a frame of {size} octets, which is too long")
                if len(buffer) >= size:
                    break
            data = await self._transport.receive()
            if not data:
                raise AmqpError("the broker closed the connection")
            buffer += data
            self._last_received = trio.current_time()
        whole = bytes(buffer[:size])
        del buffer[:size]
        try:
            _, channel, found = frame.unmarshal(whole)
        except (exceptions.PAMQPException, ValueError, TypeError, struct.error, LookupError) as err:
            raise AmqpError(f"the broker sends no AMQP: {err}") from None
        except RecursionError:
            raise AmqpError("the broker sends no AMQP: tables within tables without end") from None
        return channel, found

    async def _read(self) -> None:
        try:
            while True:
                channel, found = await self._frame()
                match found:
                    case commands.Basic.Ack():
                        self._settle(found.delivery_tag, found.multiple, "Ack")
                    case commands.Basic.Nack():
                        self._settle(found.delivery_tag, found.multiple, "Nack")
                    case commands.Basic.Return():
                        self._came_back(found)
                    case commands.Connection.Blocked():
                        self._blocked = found.reason or "no reason given"
                    case commands.Connection.Unblocked():
                        self._unblock()
                    case commands.Channel.Flow():
                        self._blocked = None if found.active else "the broker stopped the flow"
                        if found.active:
                            self._unblock()
                        await self._say(commands.Channel.FlowOk(bool(found.active)), channel)
                    case commands.Channel.Close():
                        self._end(_reason(found))
                    case commands.Connection.Close():
                        self._end(_reason(found))
                        self._is_over = True
                        with suppress(OSError):
                            await self._transport.send_all(frame.marshal(commands.Connection.CloseOk(), 0))
                    case _:  # heartbeats, and the content of what came back
                        pass
        except OSError as err:
            self._end(problem(err))
            self._is_over = True

    async def _beat(self) -> None:
        """Say that we are there, and notice when the broker is not: nothing came for two heartbeats."""
        self._last_sent = self._last_received = trio.current_time()
        with suppress(OSError):  # the reader sees it too
            while True:
                await trio.sleep(self._heartbeat / 2)
                now = trio.current_time()
                if now - self._last_received > 2 * self._heartbeat:
                    self._end("the broker is silent")
                if now - self._last_sent > self._heartbeat / 3:
                    await self._say(heartbeat.Heartbeat(), 0)

    def _end(self, reason: str) -> None:
        if self.ended is None:
            self.ended = reason
            self.loses_messages = self._is_unconfirmed
            self._serving.cancel()
            self._unblock()
        for confirmation in self._waiting.values():
            confirmation.fail(self._error())
        self._waiting.clear()

    def _error(self) -> AmqpError:
        return AmqpError(f"{self._broker}: {self.ended}")

    async def _say_goodbye(self) -> None:
        """So that the broker does not log that we broke down."""
        if self._is_over:
            return
        with trio.move_on_after(CLOSE_TIME, shield=True), suppress(OSError):
            await self._say(commands.Connection.Close(200, "", 0, 0), 0)
            while not isinstance((await self._frame())[1], commands.Connection.CloseOk):
                pass

    # -- messages ----------------------------------------------------------------------------------------
    async def publish(self, publication: Publication) -> Confirmation:
        """Send a message. Raises AmqpError or ValueError; a cancelled one may take the connection with it."""
        parts = publication.frames(self._frame_max)
        while self._blocked is not None and self.ended is None:
            await self._unblocked.wait()
        async with self._sending:
            if self.ended is not None:
                raise self._error()
            confirmation = Confirmation(publication)
            if self._broker.confirms:
                self._last_tag += 1
                self._waiting[self._last_tag] = confirmation
            else:
                self._is_unconfirmed = True
                confirmation.settle("NotRequested")
            await self._send(parts)
        return confirmation

    @property
    def blocked(self) -> str | None:
        """Why the broker takes nothing now (RabbitMQ: memory or disk)."""
        return self._blocked

    async def _say(self, what: frame.FrameTypes, channel: int) -> None:
        async with self._sending:
            await self._send([frame.marshal(what, channel)])

    async def _send(self, parts: list[bytes]) -> None:
        whole = False
        try:
            await self._transport.send_parts(parts)
            whole = True
        except OSError as err:
            self._end(problem(err))
            raise self._error() from err
        finally:
            if not whole:
                self._is_over = True
                self._end("the connection ended within a frame")
        self._last_sent = trio.current_time()

    def _settle(self, tag: int, multiple: bool, status: Status) -> None:
        if multiple:
            tags = [one for one in self._waiting if one <= tag or not tag]
        else:
            tags = [tag] if tag in self._waiting else []
        for one in tags:
            self._waiting.pop(one).settle(status)

    def _came_back(self, returned: commands.Basic.Return) -> None:
        for confirmation in self._waiting.values():
            if confirmation.may_be(returned):
                confirmation.came_back(returned)
                return

    def _unblock(self) -> None:
        self._blocked = None
        self._unblocked.set()
        self._unblocked = trio.Event()


def _reason(close: commands.Connection.Close | commands.Channel.Close) -> str:
    """What RabbitMQ says begins with the name of the code: "NOT_FOUND - no exchange 'x' in vhost '/'"."""
    return f"{close.reply_code} {close.reply_text}"


class _Home:
    """Where the connections of a pool or a client live."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._nursery: trio.Nursery | None = None
        self._is_open = trio.Event()
        self._context: ssl.SSLContext | None = None

    async def run(self) -> None:
        """Serve the connections until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._is_open.set()
            await trio.sleep_forever()

    async def _connect(self) -> Connection:
        """Raises AmqpError."""
        await self._is_open.wait()
        assert self._nursery is not None
        connection = Connection(self.broker)
        try:
            await self._nursery.start(connection.serve, self._tls)
        except RuntimeError:  # trio's way to say that the nursery has ended
            raise AmqpError(f"{self.broker}: {_CLOSED}") from None
        return connection

    async def _tls(self) -> ssl.SSLContext:
        broker = self.broker
        if self._context is None:
            self._context = await client_context(broker.authority, broker.certificate, broker.key)
        return self._context


class AmqpPool(_Home):
    """Connections that publish one message at a time, each until the broker has confirmed it."""

    def __init__(self, broker: Broker, *, size: int, wait_timeout: float, publish_timeout: float) -> None:
        """At most `size` connections; seconds to wait for one, and for a message to be confirmed."""
        super().__init__(broker)
        self._wait_timeout = wait_timeout
        self._publish_timeout = publish_timeout
        self._places = trio.Semaphore(size)
        self._idle: list[Connection] = []

    async def publish(self, publication: Publication) -> None:
        """Raises AmqpError or ValueError."""
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            await self._wait()
        try:
            await self._publish(publication)
        finally:
            self._places.release()

    async def _wait(self) -> None:
        try:
            with trio.fail_after(self._wait_timeout):
                await self._places.acquire()
        except trio.TooSlowError:
            limit = format_duration(self._wait_timeout)
            raise AmqpError(f"{self.broker}: none of the connections became free within {limit}") from None

    async def _publish(self, publication: Publication) -> None:
        connection = await self._take()
        is_done = False
        try:
            with trio.fail_after(self._publish_timeout):
                outcome = await (await connection.publish(publication)).wait()
            is_done = True
        except trio.TooSlowError:
            limit = format_duration(self._publish_timeout)
            why = (
                "" if connection.blocked is None else f"; the broker blocks publishers: {connection.blocked}"
            )
            raise AmqpError(f"{self.broker}: not confirmed within {limit}{why}") from None
        finally:
            if is_done and connection.ended is None:
                self._idle.append(connection)
            else:
                connection.close()
        if outcome.code is not None:
            raise AmqpError(f"{self.broker}: the message came back: {outcome.code} {outcome.text}")
        if outcome.status == "Nack":
            raise AmqpError(f"{self.broker}: the broker could not take the message (basic.nack)")

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.ended is None:
                return connection
        return await self._connect()


class AmqpClient(_Home):
    """One connection for any number of messages at once."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self._connection: Connection | None = None
        self._connecting = trio.Lock()

    async def connected(self) -> Connection:
        """The connection; a new one if there is none. Raises AmqpError.

        A connection that took messages with it which were not to be confirmed is an error once: somebody should know.
        """
        async with self._connecting:
            connection = self._connection
            if connection is not None and connection.ended is not None:
                self._connection = None
                if connection.loses_messages:
                    raise AmqpError(
                        f"{self.broker}: {connection.ended}; messages before this one may not have been taken"
                    )
            if self._connection is None:
                self._connection = await self._connect()
            return self._connection

    async def publish(self, publication: Publication) -> Confirmation:
        """Raises AmqpError or ValueError."""
        return await (await self.connected()).publish(publication)
