"""Rates hold exactly: neither more than a path allows nor less, whatever the number of connections.

Time is virtual: what is asserted is what the rates themselves do, without what a machine's timers add.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import Handlers, QueueNode, Sender, Sent, constant, start_node

from kumo_py.core.duration import Duration
from kumo_py.limits.spec import LimitSpec, ThrottleSpec
from kumo_py.queue.config import EgressPath, EgressPool, EgressSource, PoolEntry, QueueConfig
from kumo_py.queue.message_rates import admitted

if TYPE_CHECKING:
    from trio.testing import MockClock

    from kumo_py.queue.ready import ReadyQueue

MANY = 10**9


class RatedSender(Sender):
    """Obeys the path's message rates, as SMTP sessions do."""

    async def run(self, ready: ReadyQueue) -> None:
        number = len(self.connections)
        self.connections.append(self.node.now)
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            while True:
                msg = ready.take()
                if msg is None:
                    if not await ready.wait():
                        return
                    continue
                if not await admitted(self.node.queues, ready, [msg]):
                    return
                self.sent.append(Sent(self.node.now, msg.id, ready.source.name, ready.name, number))
                await trio.sleep(self.duration)
                self.node.queues.forget(msg)
        finally:
            self.open -= 1


def egress(**options: Any) -> Handlers:
    given = {"max_ready": MANY, "connection_limit": LimitSpec(3), "idle_timeout": Duration(60), **options}
    return {"get_egress_path_config": constant(EgressPath(**given))}


async def start(
    nursery: trio.Nursery, queued: int, *domains: str, handlers: Handlers | None = None, **options: Any
) -> tuple[QueueNode, RatedSender]:
    """A node with so many messages in its queues."""
    node = await start_node(nursery, {**egress(**options), **(handlers or {})})
    sender = RatedSender(node)
    sender.duration = 0.02
    for number in range(queued):
        await node.send(f"to@{(domains or ('b.test',))[number % max(len(domains), 1)]}", saved=False)
    return node, sender


def most_at_once(times: list[float], rate: float) -> float:
    """The least burst B for which at most B + T · rate came in any stretch of T seconds."""
    burst = least = 0.0
    for count, at in enumerate(times):
        level = count - rate * at
        least = min(least, level) if count else level
        burst = max(burst, level - least + 1)
    return burst


@pytest.mark.parametrize(
    ("text", "rate", "burst"),
    [
        ("100/s", 100.0, 100),
        ("100/s,max_burst=1", 100.0, 1),
        ("1,000/m", 1000 / 60, 1000),
        ("6,000/m,max_burst=50", 100.0, 50),
        ("20/s,max_burst=3", 20.0, 3),
        ("local:100/s", 100.0, 100),
    ],
)
@pytest.mark.parametrize("connections", [1, 3, 50])
@pytest.mark.option("make_egress_path.max_message_rate")
async def test_a_rate_is_reached_and_never_exceeded(
    autojump_clock: MockClock, nursery: trio.Nursery, text: str, rate: float, burst: int, connections: int
) -> None:
    _, sender = await start(
        nursery,
        int(rate * 32 + burst),
        max_message_rate=ThrottleSpec.parse(text),
        connection_limit=LimitSpec(connections),
    )
    sender.duration = 0.005
    await trio.sleep(31)
    assert most_at_once(sender.times, rate) <= burst + 0.001
    assert len(sender.sent) <= burst + 31 * rate
    possible = min(burst, 31 * connections / sender.duration)
    assert len(sender.sent) >= (possible + 31 * rate) * 0.99 - 1
    assert sender.peak <= connections
    assert len(set(sender.ids)) == len(sender.ids)


MANY = int(os.environ.get("KUMO_PY_TEST_QUEUED", "200000"))
"""A million takes half a minute and 4.7 GB."""


@pytest.mark.parametrize("queued", [20_000, pytest.param(MANY, marks=pytest.mark.slow)])
async def test_a_minute_of_a_hundred_a_second_out_of_a_big_queue(
    autojump_clock: MockClock, nursery: trio.Nursery, queued: int
) -> None:
    node, sender = await start(nursery, queued, max_message_rate=ThrottleSpec.parse("100/s"))
    await trio.sleep(2)
    before = len(sender.sent)
    await trio.sleep(60)
    assert len(sender.sent) - before == pytest.approx(6000, rel=0.01)
    assert most_at_once(sender.times, 100) <= 100.001
    assert sender.peak == 3
    assert len(node.queues.ready["unspecified->mx.b.test@smtp_client"].messages) >= queued - 6400


async def test_who_waits_for_a_rate_asks_about_once_a_message(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred connections for a rate that three could carry."""
    node, sender = await start(
        nursery, 4000, max_message_rate=ThrottleSpec.parse("50/s"), connection_limit=LimitSpec(100)
    )
    asked = 0
    admit = node.queues.rates.admit

    async def counting(*args: Any, **options: Any) -> float:
        nonlocal asked
        asked += 1
        return await admit(*args, **options)

    monkeypatch.setattr(node.queues.rates, "admit", counting)
    await trio.sleep(30)
    assert len(sender.sent) == pytest.approx(1550, abs=2)
    assert asked < 2.2 * len(sender.sent)


async def test_a_dispatcher_may_wait_for_a_rate_longer_than_its_watchdog(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Thirty share a message each ten seconds: each waits for minutes, and none is stuck."""
    node, sender = await start(
        nursery,
        200,
        max_message_rate=ThrottleSpec.parse("6/m,max_burst=1"),
        connection_limit=LimitSpec(30),
        dispatcher_progress_watchdog_timeout=Duration(30),
    )
    await trio.sleep(600)
    assert len(sender.sent) == pytest.approx(60, abs=1)
    assert sender.open == 30
    assert node.log.records == []


async def test_an_edited_rate_starts_afresh(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    path = {"max_message_rate": ThrottleSpec.parse("10/m")}
    node, sender = await start(nursery, 100, **path, refresh_interval=Duration(30))
    await trio.sleep(29.5)
    assert len(sender.sent) == 10 + 4
    edited = ThrottleSpec.parse("20/m")
    node.policy.handlers.update(egress(max_message_rate=edited))
    # Who waits by the old rate goes over to the new one, which begins with its burst.
    await trio.sleep(10)
    assert len(sender.sent) == pytest.approx(14 + 20 + 3, abs=1)


@pytest.mark.option("make_egress_path.additional_message_rate_throttles")
@pytest.mark.parametrize("burst", [1, 20])
async def test_a_named_rate_is_shared_by_paths(
    autojump_clock: MockClock, nursery: trio.Nursery, burst: int
) -> None:
    named = {"both": ThrottleSpec.parse(f"20/s,max_burst={burst}")}
    _, sender = await start(
        nursery,
        4000,
        "b.test",
        "c.test",
        max_message_rate=ThrottleSpec.parse("15/s,max_burst=1"),
        additional_message_rate_throttles=named,
    )
    await trio.sleep(60)
    assert len(sender.sent) == pytest.approx(1200 + burst, rel=0.01)
    assert most_at_once(sender.times, 20) <= burst + 0.001
    for queue, count in Counter(sent.queue for sent in sender.sent).items():
        own = [sent.at for sent in sender.sent if sent.queue == queue]
        assert most_at_once(own, 15) <= 1.001
        assert count > 250


@pytest.mark.option("make_egress_path.max_connection_rate")
@pytest.mark.parametrize(
    ("text", "rate", "burst"), [("10/s,max_burst=1", 10.0, 1), ("5/s", 5.0, 5), ("120/m,max_burst=4", 2.0, 4)]
)
async def test_connections_are_opened_at_their_rate(
    autojump_clock: MockClock, nursery: trio.Nursery, text: str, rate: float, burst: int
) -> None:
    _, sender = await start(
        nursery, 2000, max_connection_rate=ThrottleSpec.parse(text), connection_limit=LimitSpec(500)
    )
    sender.duration = 1000.0
    await trio.sleep(20)
    assert most_at_once(sender.connections, rate) <= burst + 0.001
    assert len(sender.connections) == pytest.approx(burst + 20 * rate, abs=2)


@pytest.mark.option("make_egress_path.source_selection_rate")
async def test_a_source_is_chosen_no_more_often_than_its_rate_says(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A new address is warmed up: 10 an hour, with what the pool has besides for the rest."""

    def path(_domain: str, source: str, _site: str) -> EgressPath:
        rate = ThrottleSpec.parse("10/h,max_burst=2") if source == "new" else None
        return EgressPath(source_selection_rate=rate)

    node = await start_node(
        nursery,
        {
            "get_queue_config": constant(QueueConfig(egress_pool="p")),
            "get_egress_pool": constant(
                EgressPool(name="p", entries=[PoolEntry(name="old"), PoolEntry(name="new")])
            ),
            "get_egress_source": lambda name: EgressSource(name=name),
            "get_egress_path_config": path,
        },
    )
    sender = RatedSender(node)
    for _ in range(4 * 360):
        await node.send(saved=False)
        await trio.sleep(10)
    assert len(sender.sent) == 4 * 360
    new = [sent.at for sent in sender.sent if sent.source == "new"]
    assert len(new) == pytest.approx(2 + 40, abs=1)
    assert most_at_once(new, 10 / 3600) <= 2.001
    assert node.log.records == []


@pytest.mark.option("make_egress_path.additional_source_selection_rates")
async def test_a_selection_rate_is_not_used_up_while_another_one_denies(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = await start_node(
        nursery,
        egress(
            source_selection_rate=ThrottleSpec.parse("2/h"),
            additional_source_selection_rates={"all": ThrottleSpec.parse("3/h,max_burst=1")},
        ),
    )
    sender = RatedSender(node)
    await node.send()
    await node.send()
    await trio.sleep(1201)
    await node.send(saved=False)
    await trio.sleep(1)
    assert sender.times == [0.0, pytest.approx(1201, abs=1)]
