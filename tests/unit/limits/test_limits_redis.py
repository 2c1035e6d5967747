"""Throttles and leases that nodes share through a real Redis."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import pytest
import trio
from redis_server import redis_server

from kumo_py.limits.lease import Denied, Lease, Leases
from kumo_py.limits.redis import RedisLeases, RedisThrottles
from kumo_py.limits.shared import TROUBLE, SharedThrottles
from kumo_py.limits.spec import LimitSpec, ThrottleSpec
from kumo_py.net.redis import RedisClient, RedisOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture
async def client(port: int) -> AsyncIterator[RedisClient]:
    client = RedisClient(RedisOptions(node=f"redis://127.0.0.1:{port}"))
    yield client
    client.close()


@pytest.fixture
def key() -> str:
    return str(uuid.uuid4())


# -- throttles -------------------------------------------------------------------------------------------
async def test_the_burst_of_a_throttle_is_exact(client: RedisClient, key: str) -> None:
    throttles = await RedisThrottles.connect(client)
    assert not throttles.has_cell
    spec = ThrottleSpec.parse("100/hr,max_burst=5")
    taken = [await throttles.take(key, spec, 1) for _ in range(7)]
    assert [one.retry_after is None for one in taken] == [True] * 5 + [False] * 2
    assert [one.remaining for one in taken] == [4, 3, 2, 1, 0, 0, 0]
    assert taken[0].limit == 5
    assert taken[0].reset_after == pytest.approx(36.0, abs=0.1)
    assert taken[4].reset_after == pytest.approx(180.0, abs=0.5)
    assert taken[6].retry_after == pytest.approx(36.0, abs=0.5)


async def test_what_is_told_to_wait_is_admitted_then(client: RedisClient, key: str) -> None:
    throttles = await RedisThrottles.connect(client)
    spec = ThrottleSpec.parse("20/s,max_burst=1")
    start = time.monotonic()
    admitted = 0
    while admitted < 7:
        wait = (await throttles.take(key, spec, 1)).retry_after
        if wait is None:
            admitted += 1
        else:
            assert wait <= 0.051
            await trio.sleep(wait)
    assert 0.29 < time.monotonic() - start < 0.6


async def test_quantities(client: RedisClient, key: str) -> None:
    throttles = await RedisThrottles.connect(client)
    spec = ThrottleSpec.parse("10/m")
    assert (await throttles.take(key, spec, 8)).remaining == 2
    refused = await throttles.take(key, spec, 3)
    assert refused.retry_after == pytest.approx(6.0, abs=0.2)
    assert (await throttles.take(key, spec, 2)).retry_after is None


async def test_state_is_kummotas_and_goes_by_itself(client: RedisClient, key: str) -> None:
    throttles = await RedisThrottles.connect(client)
    await throttles.take(key, ThrottleSpec.parse("6/m"), 1)
    name = f"{key}:6:6:60".encode()
    assert float(await client.command(b"GET", name)) == pytest.approx(time.time() + 10, abs=1)
    assert 9000 < await client.command(b"PTTL", name) < 10100
    await client.command(b"SET", name, b"%d" % (time.time() + 60))  # as KumoMTA's script writes it
    assert (await throttles.take(key, ThrottleSpec.parse("6/m"), 1)).retry_after is not None


async def test_redis_cell() -> None:
    asked = []

    async def serve(stream: trio.SocketStream) -> None:
        answers = [
            b"+PONG\r\n",
            b"*1\r\n*1\r\n$11\r\ncl.throttle\r\n",
            b"*5\r\n:0\r\n:5\r\n:4\r\n:-1\r\n:2\r\n",
        ]
        async with stream:
            for answer in [*answers, b"*5\r\n:1\r\n:5\r\n:0\r\n:3\r\n:60\r\n"]:
                asked.append(await stream.receive_some(65536))
                await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        url = f"redis://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        client = RedisClient(RedisOptions(node=url))
        throttles = await RedisThrottles.connect(client)
        assert throttles.has_cell
        spec = ThrottleSpec.parse("100/m,max_burst=5")
        assert await throttles.take("k", spec, 1) == (5, 4, 2.0, None)
        assert await throttles.take("k", spec, 1) == (5, 0, 60.0, 3.0)
        assert asked[2].split(b"\r\n")[2::2] == [b"CL.THROTTLE", b"k:100:5:60", b"4", b"100", b"60", b"1"]
        client.close()
        nursery.cancel_scope.cancel()


async def test_local_specs_stay_in_the_node(client: RedisClient, key: str) -> None:
    nodes = [SharedThrottles(trio.current_time) for _ in range(2)]
    for node in nodes:
        node.store = await RedisThrottles.connect(client)
    shared, local = ThrottleSpec.parse("1/hr"), ThrottleSpec.parse("local:1/hr")
    assert [await node.admit(key, shared) > 0 for node in nodes] == [False, True]
    assert [await node.admit(key, local) > 0 for node in nodes] == [False, False]
    assert (await nodes[1].take(key, shared)).retry_after is not None


async def test_nothing_passes_while_redis_is_away() -> None:
    node = SharedThrottles(trio.current_time)
    node.store = RedisThrottles(RedisClient(RedisOptions(node="redis://127.0.0.1:1")), has_cell=False)
    assert await node.admit("k", ThrottleSpec.parse("1000/s")) == TROUBLE
    with pytest.raises(OSError, match="cannot be connected to"):
        await node.take("k", ThrottleSpec.parse("1000/s"))


# -- leases ----------------------------------------------------------------------------------------------
class Node:
    """One that opens connections."""

    def __init__(self, client: RedisClient, nursery: trio.Nursery) -> None:
        self.granted: list[str] = []
        self._changed = trio.Event()
        self.leases = RedisLeases(client, Leases(), spawn=nursery.start_soon, granted=self._note)

    def _note(self, holder: str) -> None:
        self.granted.append(holder)
        self._changed.set()

    def ask(self, limits: list[tuple[str, LimitSpec]], holder: str, duration: float = 60.0) -> Lease | Denied:
        return self.leases.acquire(limits, holder, trio.current_time(), duration)

    async def lease(self, limits: list[tuple[str, LimitSpec]], holder: str, duration: float = 60.0) -> Lease:
        """Ask until there is one."""
        with trio.fail_after(5):
            while True:
                self._changed = trio.Event()
                answer = self.ask(limits, holder, duration)
                if isinstance(answer, Lease):
                    return answer
                with trio.move_on_after(answer.wait):
                    await self._changed.wait()


async def test_nodes_share_a_limit(client: RedisClient, nursery: trio.Nursery, key: str) -> None:
    one, two = Node(client, nursery), Node(client, nursery)
    limits = [(key, LimitSpec(2))]
    first = await one.lease(limits, "a")
    await two.lease(limits, "a")
    assert one.granted == two.granted == ["a"]
    assert await client.command(b"ZCARD", key.encode()) == 2
    assert isinstance(one.ask(limits, "b"), Denied)
    await trio.sleep(0.1)
    denied = one.ask(limits, "b")
    assert isinstance(denied, Denied)
    assert denied.name == key
    assert 0 < denied.wait <= 1.0
    first.release()
    await one.lease(limits, "b")
    assert await client.command(b"ZCARD", key.encode()) == 2


async def test_all_limits_or_none(client: RedisClient, nursery: trio.Nursery, key: str) -> None:
    node = Node(client, nursery)
    small, large = (f"{key}-small", LimitSpec(1)), (f"{key}-large", LimitSpec(9))
    await node.lease([small], "x")
    assert isinstance(node.ask([large, small], "y"), Denied)
    await trio.sleep(0.1)
    assert await client.command(b"ZCARD", large[0].encode()) == 0
    denied = node.ask([large, small], "y")
    assert isinstance(denied, Denied)
    assert denied.name == small[0]


async def test_local_limits_count_in_the_node(client: RedisClient, nursery: trio.Nursery, key: str) -> None:
    node = Node(client, nursery)
    local = (key, LimitSpec(1, local=True))
    only_local = node.ask([local], "x")
    assert isinstance(only_local, Lease)
    shared = (f"{key}-shared", LimitSpec(5))
    for _ in range(3):
        assert isinstance(node.ask([shared, local], "y"), Denied)
        await trio.sleep(0.05)
    only_local.release()
    lease = await node.lease([shared, local], "y")
    assert isinstance(node.ask([local], "z"), Denied)
    lease.release()
    assert isinstance(node.ask([local], "z"), Lease)


async def test_a_lease_expires_unless_it_is_extended(
    client: RedisClient, nursery: trio.Nursery, key: str
) -> None:
    node = Node(client, nursery)
    limits = [(key, LimitSpec(1))]
    lease = await node.lease(limits, "a", duration=0.3)
    assert lease.extend(trio.current_time(), 0.8)
    await trio.sleep(0.4)
    assert isinstance(node.ask(limits, "b"), Denied)
    start = trio.current_time()
    await node.lease(limits, "b")
    assert trio.current_time() - start > 0.2
    lease.release()  # what it held is another's now
    await trio.sleep(0.05)
    assert await client.command(b"ZCARD", key.encode()) == 1
    assert 0 < await client.command(b"TTL", key.encode()) < 70


async def test_a_place_that_nobody_comes_for_is_given_back(
    client: RedisClient, nursery: trio.Nursery, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kumo_py.limits.redis._KEPT", 0.1)
    node = Node(client, nursery)
    assert isinstance(node.ask([(key, LimitSpec(1))], "a"), Denied)
    await trio.sleep(0.05)
    assert await client.command(b"ZCARD", key.encode()) == 1
    await trio.sleep(0.15)
    assert await client.command(b"ZCARD", key.encode()) == 0


async def test_no_connection_while_redis_is_away(nursery: trio.Nursery) -> None:
    node = Node(RedisClient(RedisOptions(node="redis://127.0.0.1:1")), nursery)
    limits = [("k", LimitSpec(9))]
    assert isinstance(node.ask(limits, "a"), Denied)
    await trio.sleep(0.1)
    denied = node.ask(limits, "a")
    assert isinstance(denied, Denied)
    assert 0 < denied.wait <= TROUBLE


async def test_a_lease_that_redis_has_lost_is_taken_anew_if_there_is_a_place(
    client: RedisClient, nursery: trio.Nursery, key: str
) -> None:
    one, two = Node(client, nursery), Node(client, nursery)
    limits = [(key, LimitSpec(1))]
    lease = await one.lease(limits, "a")
    await client.command(b"DEL", key.encode())
    assert lease.extend(trio.current_time(), 60.0)
    await trio.sleep(0.1)
    assert await client.command(b"ZCARD", key.encode()) == 1
    assert isinstance(two.ask(limits, "b"), Denied)
    await trio.sleep(0.1)
    # Now another one takes the place before the lease is extended.
    await client.command(b"DEL", key.encode())
    await two.lease(limits, "b")
    assert lease.extend(trio.current_time(), 60.0)
    await trio.sleep(0.1)
    assert not lease.extend(trio.current_time(), 60.0)
    assert await client.command(b"ZCARD", key.encode()) == 1
    lease.release()


async def test_a_lease_released_while_it_is_extended_leaves_nothing(
    client: RedisClient, nursery: trio.Nursery, key: str
) -> None:
    node = Node(client, nursery)
    lease = await node.lease([(key, LimitSpec(1))], "a")
    for _ in range(20):
        lease.extend(trio.current_time(), 60.0)
    lease.release()
    await trio.sleep(0.2)
    assert await client.command(b"ZCARD", key.encode()) == 0


async def test_the_nodes_clocks_do_not_matter(
    client: RedisClient, nursery: trio.Nursery, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Node(client, nursery)
    await one.lease([(key, LimitSpec(1))], "a")
    monkeypatch.setattr("time.time", lambda: 4e9)
    two = Node(client, nursery)
    two.ask([(key, LimitSpec(1))], "b")
    await trio.sleep(0.1)
    assert two.granted == []
    expires = float(await client.command(b"ZSCORE", key.encode(), await _first(client, key)))
    assert expires < 3e9


async def _first(client: RedisClient, key: str) -> bytes:
    [member] = await client.command(b"ZRANGE", key.encode(), b"0", b"-1")
    assert isinstance(member, bytes)
    return member
