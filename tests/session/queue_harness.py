"""The queues of a node over a spool in memory, a log that keeps its records, and a policy of Python functions.

Time is trio's: under `autojump_clock` days pass in a moment. Times in records and sendings are seconds since the start.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.dns import Resolver, ZoneBackend
from kumo_py.limits.lease import Leases
from kumo_py.limits.throttle import Throttles
from kumo_py.logs import LogContext, RecordType
from kumo_py.message.message import Message
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue.context import InsertReason
from kumo_py.queue.queues import Queues
from kumo_py.spool.messages import MessageSpool

if TYPE_CHECKING:
    from kumo_py.core.key_source import KeySource
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.spool import SpoolError

WALL = 1_763_768_000.0
"""Unix time at trio's time 0 of a virtual clock."""

ZONE = """
$ORIGIN test.
b     MX 10 mx.b
c     MX 10 mx.c
mx.b  A 127.0.0.1
mx.c  A 127.0.0.1
null  MX 0 .
"""

BODY = b"Subject: x\r\n\r\nhello\r\n"

Handlers = Mapping[str, Callable[..., Any]]


class ScriptedPolicy:
    """Python handlers, sync or async, under the events' names."""

    def __init__(self, handlers: Handlers) -> None:
        self.handlers = dict(handlers)
        self.asked: list[tuple[Any, ...]] = []
        """Each event with its arguments."""

    def handles(self, event: str) -> bool:
        return event in self.handlers

    async def ask(self, event: str, *args: Any) -> Any:
        self.asked.append((event, *args))
        handler = self.handlers.get(event)
        answer = None if handler is None else handler(*args)
        return await answer if inspect.isawaitable(answer) else answer

    async def load_key(self, source: KeySource) -> bytes:
        inline = source.inline_bytes()
        return await trio.Path(source.path or "").read_bytes() if inline is None else inline

    def count(self, event: str) -> int:
        return sum(asked[0] == event for asked in self.asked)


class MemorySpool:
    """A Spool in a dict. `failing` makes stores fail, `unreadable` loads."""

    notice: str | None = None

    def __init__(self, name: str) -> None:
        self.name = self.path = name
        self.problems: list[str] = []
        self.unhealthy = False
        self.stored: dict[bytes, bytes] = {}
        self.stores = 0
        self.loads = 0
        self.failing: SpoolError | None = None
        self.unreadable: SpoolError | None = None
        self._tickets: dict[int, SpoolError] = {}

    def store(self, id: bytes, data: bytes) -> int:
        self.stores += 1
        if self.failing is None:
            self.stored[id] = data
        else:
            self._tickets[self.stores] = self.failing
        return self.stores

    async def wait_durable(self, ticket: int) -> None:
        await trio.lowlevel.checkpoint()
        if ticket in self._tickets:
            raise self._tickets.pop(ticket).again()

    def remove(self, id: bytes) -> None:
        self.stored.pop(id, None)

    async def load(self, id: bytes) -> bytes:
        self.loads += 1
        await trio.lowlevel.checkpoint()
        if self.unreadable is not None:
            raise self.unreadable.again()
        return self.stored[id]

    def size_of(self, id: bytes) -> int | None:
        return len(self.stored[id]) if id in self.stored else None

    def ids(self) -> Iterator[bytes]:
        return iter(list(self.stored))

    def __len__(self) -> int:
        return len(self.stored)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def free_space_low(self) -> bool:
        return False


class Record(NamedTuple):
    """One line of the log."""

    kind: str
    id: bytes
    recipients: tuple[str, ...]
    queue: str
    response: Response
    site: str
    attempts: int
    at: float
    context: LogContext

    @property
    def code(self) -> int:
        return self.response.code

    @property
    def content(self) -> str:
        return self.response.content


class RecordingLog:
    """A delivery log in a list."""

    needs_headers = False

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.records: list[Record] = []
        self.unwanted: set[str] = set()
        self._changed = trio.Event()

    async def reach(self, count: int) -> None:
        """Wait until there are so many records."""
        while len(self.records) < count:
            self._changed = trio.Event()
            await self._changed.wait()

    def wants(self, kind: RecordType) -> bool:
        return kind.value not in self.unwanted

    async def record(
        self,
        kind: RecordType,
        msg: Message,
        response: Response,
        context: LogContext,
        *,
        recipients: Any = None,
        queue: str | None = None,
        feedback_report: object = None,
    ) -> None:
        if kind.value in self.unwanted:
            return
        assert msg.meta_loaded, f"a {kind.value} record of a message without metadata"
        recipients = msg.recipients if recipients is None else recipients
        name = msg.queue_name if queue is None else queue
        if context.counts is not None:
            context.counts.note(kind, len(recipients))
        at = self._wall() - WALL
        record = Record(
            kind.value, msg.id, tuple(recipients), name, response, context.site, msg.attempts, at, context
        )
        self.records.append(record)
        self._changed.set()

    def of(self, kind: str) -> list[Record]:
        return [record for record in self.records if record.kind == kind]

    @property
    def kinds(self) -> list[str]:
        return [record.kind for record in self.records]

    @property
    def brief(self) -> list[tuple[str, int]]:
        """Kind and code of each record."""
        return [(record.kind, record.code) for record in self.records]


class QueueNode:
    """Queues and what they need."""

    def __init__(
        self,
        handlers: Handlers,
        *,
        zone: str = ZONE,
        failures: dict[str, Any] | None = None,
        seed: int = 1,
        body_budget: int = 512 << 20,
        spools: tuple[MemorySpool, MemorySpool] | None = None,
    ) -> None:
        self.policy = ScriptedPolicy(handlers)
        self._offset = WALL if trio.current_time() < 1e6 else WALL - trio.current_time()
        self.data, self.meta = spools or (MemorySpool("data"), MemorySpool("meta"))
        self.spool = MessageSpool(self.data, self.meta)
        self.log = RecordingLog(self.wall)
        self.throttles = Throttles()
        self.leases = Leases()
        self.resolver = Resolver(backend=ZoneBackend([zone], failures))
        self.queues = Queues(
            policy=self.policy,
            spool=self.spool,
            delivery_log=self.log,  # type: ignore[arg-type]  # a fake
            resolver=self.resolver,
            throttles=self.throttles,
            leases=self.leases,
            wall=self.wall,
            random=Random(seed),
            body_budget=body_budget,
        )
        self.ended = trio.Event()
        self._serial = 0

    def wall(self) -> float:
        return self._offset + trio.current_time()

    @property
    def now(self) -> float:
        """Seconds since the start of a virtual clock."""
        return self.wall() - WALL

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            await self.queues.serve(task_status=task_status)
        finally:
            self.ended.set()

    def make_message(
        self,
        *recipients: str,
        sender: str = "from@a.test",
        meta: dict[str, object] | None = None,
        data: bytes = BODY,
        age: float = 0.0,
    ) -> Message:
        """A message that came in `age` seconds ago, in memory only."""
        self._serial += 1
        id = SpoolIdSource(self._serial.to_bytes(6), 0).next(int((self.wall() - age) * 1e9))
        return Message(id, sender, recipients or ("to@b.test",), {} if meta is None else meta, data)

    async def put(self, msg: Message) -> Message:
        """Insert a message as the listener does, without saving it."""
        await self.queues.insert(msg, await self.queues.resolve(msg.queue_name))
        return msg

    async def send(self, *recipients: str, saved: bool = True, **options: Any) -> Message:
        """Make a message, save it, insert it."""
        msg = self.make_message(*recipients, **options)
        if saved:
            await self.spool.save(msg)
        return await self.put(msg)

    async def stop(self) -> None:
        """As the node does."""
        self.queues.stop()
        await self.ended.wait()

    def in_spool(self, msg: Message) -> bool:
        """Whether a restart would find it."""
        return msg.id in self.data.stored and msg.id in self.meta.stored


class Sent(NamedTuple):
    """A message that a Sender took."""

    at: float
    id: bytes
    source: str
    queue: str
    connection: int


class Sender:
    """A dispatcher without a network. What becomes of a message, `outcome` says; by default it is delivered."""

    def __init__(self, node: QueueNode) -> None:
        self.node = node
        self.sent: list[Sent] = []
        self.open = 0
        self.peak = 0
        self.connections: list[float] = []
        """When each was opened."""
        self.closed: list[float] = []
        self.duration = 0.0
        """Seconds that one message takes."""
        self.outcome: Callable[[ReadyQueue, Message], Awaitable[None]] = self.deliver
        node.queues.dispatchers["smtp_client"] = self.run

    async def run(self, ready: ReadyQueue) -> None:
        number = len(self.connections)
        self.connections.append(self.node.now)
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            while True:
                msg = None if ready.stopping else ready.take()
                if msg is None:
                    if not await ready.wait():
                        return
                    continue
                self.sent.append(Sent(self.node.now, msg.id, ready.source.name, ready.name, number))
                await trio.sleep(self.duration)
                await self.outcome(ready, msg)
        finally:
            self.open -= 1
            self.closed.append(self.node.now)

    @property
    def times(self) -> list[float]:
        return [sent.at for sent in self.sent]

    @property
    def ids(self) -> list[bytes]:
        return [sent.id for sent in self.sent]

    @property
    def sources(self) -> list[str]:
        return [sent.source for sent in self.sent]

    async def deliver(self, ready: ReadyQueue, msg: Message) -> None:
        await self.node.spool.load_meta(msg)
        await self.node.log.record(
            RecordType.Delivery, msg, Response(250, None, "ok"), LogContext(site=ready.name)
        )
        self.node.queues.forget(msg)

    async def defer(self, ready: ReadyQueue, msg: Message) -> None:
        """Answer 451."""
        response = Response(451, EnhancedCode(4, 0, 0), "later", None)
        await self.node.spool.load(msg)
        await self.node.log.record(RecordType.TransientFailure, msg, response, LogContext(site=ready.name))
        await self.node.queues.requeue(msg, response, (InsertReason.LOGGED_TRANSIENT_FAILURE,))


async def start_node(nursery: trio.Nursery, handlers: Handlers | None = None, **options: Any) -> QueueNode:
    """A running node; it ends with the nursery."""
    node = QueueNode(handlers or {}, **options)
    await nursery.start(node.serve)
    return node


async def start_sender(
    nursery: trio.Nursery, handlers: Handlers | None = None, **options: Any
) -> tuple[QueueNode, Sender]:
    """A running node whose messages a Sender takes."""
    node = await start_node(nursery, handlers, **options)
    return node, Sender(node)


def constant(value: Any) -> Callable[..., Any]:
    """A handler that always returns the same."""
    return partial(_constant, value)


def _constant(value: Any, *_: Any) -> Any:
    return value
