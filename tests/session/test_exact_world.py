"""A world of mailbox providers that defer, drop, reset and tarpit: nothing is lost, and nothing comes twice.

200 domains on 120 sites, 4 sources. What a provider does is drawn from a fixed seed. The first world has no network, so
that 100,000 messages fit into seconds; the second one is real SMTP on loopback sockets.
"""

from __future__ import annotations

import re
import select
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
from queue_harness import QueueNode, constant, start_node
from smtp_out_harness import Closed, Peer, Server, routed_to, start_delivery
from smtp_out_harness import egress as loopback_path

from kumo_py.core.duration import Duration
from kumo_py.limits.spec import LimitSpec, ThrottleSpec
from kumo_py.logs import LogContext, RecordType
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue.config import EgressPath, EgressPool, EgressSource, PoolEntry, QueueConfig
from kumo_py.queue.context import InsertReason
from kumo_py.queue.message_rates import admitted
from kumo_py.queue.retry import delay_after

if TYPE_CHECKING:
    from trio.testing import MockClock

    from kumo_py.message.message import Message
    from kumo_py.queue.ready import ReadyQueue

DOMAINS, SITES, SOURCES = 200, 120, 4
RETRY = QueueConfig(
    egress_pool="p", retry_interval=Duration(600), max_retry_interval=Duration(7200), max_age=Duration(86400)
)
JITTER = 15.0
"""Half of a twentieth of retry_interval."""
TICK = 0.11
"""What the timer wheel and its sleep may add."""

HANDLERS = {
    "get_queue_config": constant(RETRY),
    "get_egress_pool": constant(
        EgressPool(
            name="p", entries=[PoolEntry(name=f"s{number}", weight=number + 1) for number in range(SOURCES)]
        )
    ),
    "get_egress_source": lambda name: EgressSource(name=name),
}
ZONE = "$ORIGIN test.\n" + "".join(
    f"d{number} MX 10 mx{number % SITES}\n" + (f"mx{number} A 127.0.0.1\n" if number < SITES else "")
    for number in range(DOMAINS)
)


def number_of(site: str) -> int:
    return int(re.sub(r"\D", "", site))


class World:
    """Providers without a network: each one's sites, limits and moods."""

    def __init__(self, node: QueueNode, seed: int) -> None:
        self.node = node
        self.random = Random(seed)
        self.taken: Counter[bytes] = Counter()
        """How often each message was accepted."""
        self.broken_after_dot: Counter[bytes] = Counter()
        self.attempts: dict[bytes, list[float]] = {}
        self.due: dict[bytes, float] = {}
        self.open: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.early = 0
        self.wrong_delay: list[tuple[int, float]] = []
        node.queues.dispatchers["smtp_client"] = self.run

    async def run(self, ready: ReadyQueue) -> None:
        site = ready.site_name
        mood = Random(site)
        defer, bounce, drop, after = (mood.uniform(0, most) for most in (0.25, 0.05, 0.03, 0.02))
        counted = (ready.name, f"group{number_of(site) % 10}")
        for name in counted:
            self.open[name] += 1
            self.peak[name] = max(self.peak[name], self.open[name])
        try:
            await trio.sleep(0.05)
            if self.random.random() < 0.01 and (msg := ready.take()) is not None:
                await self.tempfail(ready, msg, "no answer")
                return
            while True:
                msg = ready.take()
                if msg is None:
                    if not await ready.wait():
                        return
                    continue
                if not await admitted(self.node.queues, ready, [msg]):
                    continue
                await trio.sleep(60.0 if self.random.random() < 0.001 else 0.05)
                draw = self.random.random()
                if draw < defer:
                    await self.tempfail(ready, msg, "4.7.1 later")
                elif draw < defer + bounce:
                    await self.finish(ready, msg, RecordType.Bounce, Response(550, None, "no"))
                elif draw < defer + bounce + drop:
                    await self.tempfail(ready, msg, "connection dropped")
                    return
                elif draw < defer + bounce + drop + after:
                    self.taken[msg.id] += 1
                    self.broken_after_dot[msg.id] += 1
                    await self.tempfail(ready, msg, "connection reset after the dot")
                    return
                else:
                    self.taken[msg.id] += 1
                    await self.finish(ready, msg, RecordType.Delivery, Response(250, None, "ok"))
        finally:
            for name in counted:
                self.open[name] -= 1

    def note_attempt(self, msg: Message) -> None:
        now = self.node.now
        self.early += now < self.due.get(msg.id, 0.0) - 1e-6
        self.attempts.setdefault(msg.id, []).append(now)

    async def finish(self, ready: ReadyQueue, msg: Message, kind: RecordType, response: Response) -> None:
        self.note_attempt(msg)
        await self.node.spool.load_meta(msg)
        await self.node.log.record(kind, msg, response, LogContext(site=ready.name))
        self.node.queues.forget(msg)

    async def tempfail(self, ready: ReadyQueue, msg: Message, text: str) -> None:
        self.note_attempt(msg)
        response = Response(451, EnhancedCode(4, 0, 0), text, None)
        await self.node.spool.load(msg)
        await self.node.log.record(RecordType.TransientFailure, msg, response, LogContext(site=ready.name))
        tried, now = msg.attempts, self.node.wall()
        await self.node.queues.requeue(msg, response, (InsertReason.LOGGED_TRANSIENT_FAILURE,))
        delay = msg.due - now
        if abs(delay - delay_after(RETRY, tried)) > JITTER or msg.attempts != tried + 1:
            self.wrong_delay.append((tried, delay))
        self.due[msg.id] = msg.due - now + self.node.now


@pytest.mark.time_limit(120)
@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_nothing_is_lost_or_doubled_in_a_world_of_moods(
    autojump_clock: MockClock, nursery: trio.Nursery, count: int
) -> None:
    def path(_domain: str, _source: str, site: str) -> EgressPath:
        number = number_of(site)
        return EgressPath(
            connection_limit=LimitSpec(1 + number % 5),
            additional_connection_limits={f"group{number % 10}": LimitSpec(20)},
            max_message_rate=ThrottleSpec.parse("300/m") if number % 3 == 0 else None,
            max_connection_rate=ThrottleSpec.parse("60/m") if number % 7 == 0 else None,
            max_ready=64,
        )

    node = await start_node(nursery, {**HANDLERS, "get_egress_path_config": path}, zone=ZONE)
    world = World(node, 20261122)
    node.log.unwanted = {"Delayed"}
    ids = []
    for number in range(count):
        ids.append((await node.send(f"u{number}@d{number * 7 % DOMAINS}.test")).id)
        if number % 50 == 0:
            await trio.sleep(0.5)
    with trio.fail_after(2 * 86400):
        while node.data.stored:  # noqa: ASYNC110  (the end is not announced)
            await trio.sleep(60)
    ends = Counter(
        record.id for record in node.log.records if record.kind in ("Delivery", "Bounce", "Expiration")
    )
    kinds = Counter(record.kind for record in node.log.records)
    assert len(ends) == count
    assert set(ends.values()) == {1}
    assert set(ends) == set(ids)
    delivered = {record.id for record in node.log.records if record.kind == "Delivery"}
    for id in ids:
        assert world.taken[id] == (id in delivered) + world.broken_after_dot[id]
    assert world.early == 0
    assert world.wrong_delay == []
    assert kinds["TransientFailure"] > 0.1 * count
    assert not node.queues.in_hand
    assert not node.meta.stored
    # Nobody had more connections than it allows, and all are gone with their leases.
    for name, peak in world.peak.items():
        assert peak <= (20 if name.startswith("group") else 1 + number_of(name.partition("->")[2]) % 5)
    assert max(peak for name, peak in world.peak.items() if name.startswith("group")) == 20
    await trio.sleep(60)  # the last one may have been idle for less than its idle_timeout
    assert not any(world.open.values())
    await trio.sleep(640)
    assert (len(node.queues.ready), len(node.queues.scheduled)) == (0, 0)
    assert all(not node.leases.holders(f"group{number}") for number in range(10))


class MoodyServer(Server):
    """A provider on a real socket. It refuses, drops, resets and dawdles; it counts what it took, by recipient."""

    def __init__(self, seed: int) -> None:
        super().__init__(self._talk)
        self.random = Random(seed)
        self.taken: Counter[str] = Counter()
        self.unanswered: Counter[str] = Counter()
        """Taken, but the client cannot know."""
        self.peak = 0

    def _alive(self) -> int:
        """Connections that the client has not closed."""
        poll = select.poll()
        for peer in self.peers:
            if not peer.closed.is_set():
                poll.register(peer._socket.fileno(), select.POLLRDHUP)
        gone = len(poll.poll(0))
        return sum(not peer.closed.is_set() for peer in self.peers) - gone

    async def _talk(self, peer: Peer) -> None:
        self.peak = max(self.peak, self._alive())
        draw = self.random.random()
        if draw < 0.03:
            await peer.send("421 4.7.0 too many")
            return
        if draw < 0.05:
            peer.reset()
            return
        await peer.greet()
        rcpt = ""
        while True:
            line = await peer.line()
            if line.startswith("RCPT"):
                rcpt = line[line.index("<") + 1 : line.index(">")]
                draw = self.random.random()
                if draw < 0.12:
                    await peer.send("550 5.1.1 unknown" if draw < 0.04 else "451 4.2.1 later")
                    rcpt = ""
                    continue
            elif line == "DATA":
                if not rcpt:
                    await peer.send("503 no recipient")
                    continue
                await peer.send("354 go")
                await peer.content()
                await self._end_of_data(peer, rcpt)
                continue
            elif line == "QUIT":
                await peer.send("221 bye")
                raise Closed
            await peer.send("250 ok")

    async def _end_of_data(self, peer: Peer, rcpt: str) -> None:
        draw = self.random.random()
        if draw < 0.01:
            peer.reset()
            raise Closed
        if draw < 0.03:
            await peer.send("421 4.3.2 going down")
            raise Closed
        if draw < 0.06:
            await peer.send("452 4.2.2 full")
            return
        self.taken[rcpt] += 1
        if draw < 0.08:
            self.unanswered[rcpt] += 1
            if draw < 0.07:
                peer.reset()
            raise Closed
        if draw < 0.085:
            await trio.sleep(10)
        elif draw < 0.087:
            self.unanswered[rcpt] += 1
            await trio.sleep(40)
        await peer.send("250 taken")


@pytest.mark.time_limit(60)
async def test_nothing_is_lost_or_doubled_over_real_connections(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    count = 4_000
    servers = [MoodyServer(seed) for seed in range(8)]
    for server in servers:
        await nursery.start(server.serve)

    def queue(domain: str, *_: object) -> QueueConfig:
        return routed_to(
            servers[number_of(domain) % 8].mx, retry_interval=Duration(20), max_retry_interval=Duration(20)
        )

    path = loopback_path(
        connection_limit=LimitSpec(3),
        max_ready=10_000,
        consecutive_connection_failures_before_delay=10_000,
        data_dot_timeout=Duration(30),
    )
    node = await start_delivery(autojump_clock, nursery, path=path, handlers={"get_queue_config": queue})
    node.log.unwanted = {"Delayed"}
    recipients = [f"u{number}@d{number % 40}.test" for number in range(count)]
    for recipient in recipients:
        await node.send(recipient)
    with trio.fail_after(5 * 86400):
        while node.data.stored:  # noqa: ASYNC110  (the end is not announced)
            await trio.sleep(30)
    ends: dict[str, list[str]] = {recipient: [] for recipient in recipients}
    for record in node.log.records:
        if record.kind != "TransientFailure":
            ends[record.recipients[0]].append(record.kind)
    assert {tuple(kinds) for kinds in ends.values()} <= {("Delivery",), ("Bounce",)}
    for number, recipient in enumerate(recipients):
        server = servers[number % 40 % 8]
        delivered = ends[recipient] == ["Delivery"]
        assert server.taken[recipient] == delivered + server.unanswered[recipient], recipient
    peaks = [server.peak for server in servers]
    assert max(peaks) == 3
    assert peaks.count(3) > 4
    assert sum(sum(server.unanswered.values()) for server in servers) > 10
    await node.stop()
