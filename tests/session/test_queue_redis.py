"""Nodes that share their limits through a real Redis. Time is real here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import QueueNode, Sender, constant, start_sender
from redis_server import redis_server

from kumo_py.core.duration import Duration
from kumo_py.limits.redis import RedisLeases, RedisThrottles
from kumo_py.limits.spec import LimitSpec, ThrottleSpec
from kumo_py.net.redis import RedisClient, RedisOptions
from kumo_py.queue.config import EgressPath, QueueConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture
async def client(port: int) -> AsyncIterator[RedisClient]:
    client = RedisClient(RedisOptions(node=f"redis://127.0.0.1:{port}"))
    await client.command(b"FLUSHALL")
    yield client
    client.close()


async def start(
    nursery: trio.Nursery, client: RedisClient, path: EgressPath, **queue: Any
) -> tuple[QueueNode, Sender]:
    node, sender = await start_sender(
        nursery,
        {"get_egress_path_config": constant(path), "get_queue_config": constant(QueueConfig(**queue))},
    )
    queues = node.queues
    queues.rates.store = await RedisThrottles.connect(client)
    queues.limits.leases = RedisLeases(client, node.leases, spawn=queues.spawn, granted=queues.connect_now)
    return node, sender


async def test_a_connection_limit_holds_for_all_nodes(nursery: trio.Nursery, client: RedisClient) -> None:
    nodes = [await start(nursery, client, EgressPath(connection_limit=LimitSpec(1))) for _ in range(2)]
    open_now = peak = 0
    for node, sender in nodes:

        async def count(ready: Any, msg: Any, sender: Sender = sender) -> None:
            nonlocal open_now, peak
            open_now += 1
            peak = max(peak, open_now)
            await trio.sleep(0.02)
            open_now -= 1
            await sender.deliver(ready, msg)

        sender.outcome = count
        for _ in range(5):
            await node.send()
    with trio.fail_after(5):
        await nodes[0][0].log.reach(5)
        nodes[0][0].queues.stop()
        await nodes[1][0].log.reach(5)
    assert peak == 1


async def test_a_connection_rate_is_shared(nursery: trio.Nursery, client: RedisClient) -> None:
    path = EgressPath(max_connection_rate=ThrottleSpec.parse("1/hr"))
    (one, first), (two, second) = [await start(nursery, client, path) for _ in range(2)]
    await one.send()
    with trio.fail_after(5):
        await one.log.reach(1)
    await two.send()
    await trio.sleep(0.5)
    assert (len(first.connections), len(second.connections)) == (1, 0)


async def test_a_queues_message_rate_is_shared(nursery: trio.Nursery, client: RedisClient) -> None:
    rate = ThrottleSpec.parse("1/hr")
    (one, first), (two, second) = [
        await start(nursery, client, EgressPath(), max_message_rate=rate) for _ in range(2)
    ]
    await one.send()
    await two.send()
    with trio.fail_after(5):
        await one.log.reach(1)
    assert (len(first.sent), len(second.sent)) == (1, 0)
    assert two.queues.scheduled["b.test"].delayed == 1


async def test_a_source_that_other_nodes_have_used_up_is_passed_over(
    nursery: trio.Nursery, client: RedisClient
) -> None:
    path = EgressPath(source_selection_rate=ThrottleSpec.parse("1/hr"))
    (one, _), (two, _) = [await start(nursery, client, path) for _ in range(2)]
    await one.send()
    await two.send()
    assert two.log.brief == [("TransientFailure", 451)]
    assert "eligible for selection" in two.log.records[0].content


async def test_a_connection_whose_lease_is_lost_ends_after_its_message(
    nursery: trio.Nursery, client: RedisClient
) -> None:
    """Another node has the place: two connections would be one too many."""
    node, sender = await start(
        nursery, client, EgressPath(connection_limit=LimitSpec(1), idle_timeout=Duration(60))
    )
    await node.send()
    with trio.fail_after(5):
        await node.log.reach(1)
    name = b"kumomta.connection_limit.unspecified->mx.b.test@smtp_client"
    await client.command(b"DEL", name)
    await client.command(b"ZADD", name, b"%d" % (time.time() + 60), b"another")
    ready = node.queues.ready["unspecified->mx.b.test@smtp_client"]
    assert sender.open == 1
    for _ in range(2):
        ready.extend_leases(trio.current_time(), 60.0)
        await trio.sleep(0.2)
    assert sender.open == 0
    await node.send()
    await trio.sleep(0.3)
    assert len(sender.sent) == 1
