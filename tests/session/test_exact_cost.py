"""A message costs the same however many queues there are, and queues that nobody uses go.

Counted in calls of functions, which are the same on every machine.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import trio
from queue_harness import QueueNode, Sender, constant, start_sender

from kumo_py.core.duration import Duration
from kumo_py.limits.spec import LimitSpec
from kumo_py.queue.config import EgressPath, EgressPool, EgressSource, PoolEntry, QueueConfig

if TYPE_CHECKING:
    from types import FrameType

    from trio.testing import MockClock

PATH = EgressPath(connection_limit=LimitSpec(3), max_ready=10**6, idle_timeout=Duration(30))


class Calls:
    """How many functions, of Python and of C, were called."""

    def __init__(self) -> None:
        self.count = 0

    def _note(self, _frame: FrameType, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            self.count += 1

    def __enter__(self) -> Calls:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


async def send_round(node: QueueNode, queues: int, count: int) -> None:
    for number in range(count):
        await node.send(f"a@d{number * 7919 % queues}.test", saved=False)
        if number % 100 == 99:
            await trio.sleep(0.001)
    await trio.sleep(0.5)


async def calls_a_message(nursery: trio.Nursery, queues: int) -> float:
    sites = min(queues, 100)
    zone = "$ORIGIN test.\n" + "".join(f"d{number} MX 10 mx{number % sites}\n" for number in range(queues))
    zone += "".join(f"mx{number} A 127.0.0.1\n" for number in range(sites))
    node, sender = await start_sender(nursery, {"get_egress_path_config": constant(PATH)}, zone=zone)
    node.log.unwanted = {"Delivery"}
    for number in range(queues):
        await node.send(f"a@d{number}.test", saved=False)
    await trio.sleep(0.5)
    assert (len(node.queues.scheduled), len(node.queues.ready)) == (queues, sites)
    sender.sent.clear()
    with Calls() as calls:
        await send_round(node, queues, 2000)
    assert len(sender.sent) == 2000
    await node.stop()
    return calls.count / 2000


async def test_a_message_costs_the_same_in_any_number_of_queues(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    few, many, very_many = [await calls_a_message(nursery, queues) for queues in (100, 1_000, 10_000)]
    assert many == pytest.approx(few, rel=0.05)
    assert very_many == pytest.approx(few, rel=0.05)


async def start_many(nursery: trio.Nursery, domains: int) -> tuple[QueueNode, Sender]:
    """A ready queue for each domain and each of four sources."""
    zone = "$ORIGIN test.\n" + "".join(
        f"d{number} MX 10 mx{number}\nmx{number} A 127.0.0.1\n" for number in range(domains)
    )
    pool = EgressPool(name="p", entries=[PoolEntry(name=f"s{number}") for number in range(4)])
    handlers = {
        "get_queue_config": constant(QueueConfig(egress_pool="p")),
        "get_egress_pool": constant(pool),
        "get_egress_source": lambda name: EgressSource(name=name),
        "get_egress_path_config": constant(PATH),
    }
    node, sender = await start_sender(nursery, handlers, zone=zone)
    for number in range(4 * domains):
        await node.send(f"a@d{number % domains}.test", saved=False)
    return node, sender


async def test_queues_that_nobody_uses_go(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, sender = await start_many(nursery, 200)
    await trio.sleep(1)
    assert (len(node.queues.ready), len(node.queues.scheduled)) == (800, 200)
    assert sender.open == 800
    await trio.sleep(35)
    assert sender.open == 0
    with Calls() as calls:
        await trio.sleep(60)
    assert calls.count / 60 / 800 < 12  # of each queue, a second
    for _ in range(7):
        await trio.sleep(100)
        await node.send("a@d7.test", saved=False)
    assert len(node.queues.scheduled) == 1
    assert len(node.queues.ready) == 4
    await trio.sleep(700)
    assert (len(node.queues.ready), len(node.queues.scheduled)) == (0, 0)
