"""The Redis client, with real servers and with scripted ones."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from redis_server import redis_server

from kumo_py.core.options import OptionError, convert
from kumo_py.net.redis import Login, RedisClient, RedisError, RedisOptions, Server, key_slot, parse_redis_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


def make(**options: object) -> RedisClient:
    return RedisClient(convert(options, RedisOptions, "test"))


@asynccontextmanager
async def scripted(*sessions: list[bytes]) -> AsyncIterator[str]:
    """A server that answers the commands of each connection in turn with these bytes, then closes it."""
    waiting = list(sessions)

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            for answer in waiting.pop(0) if waiting else []:
                if not await stream.receive_some(65536):
                    return
                await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield f"redis://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def test_commands_and_replies(port: int) -> None:
    client = make(node=f"redis://127.0.0.1:{port}/3")
    assert await client.command(b"SET", b"key", b"\x00\xff") == b"OK"
    assert await client.command(b"GET", b"key") == b"\x00\xff"
    assert await client.command(b"GET", b"none") is None
    assert await client.command(b"RPUSH", b"list", b"a", b"b") == 2
    assert await client.command(b"LRANGE", b"list", b"0", b"-1") == [b"a", b"b"]
    assert await make(node=f"redis://127.0.0.1:{port}").command(b"GET", b"key") is None
    with pytest.raises(RedisError, match="ERR unknown command"):
        await client.command(b"NONSENSE")
    assert {how: sum(times.counts) for how, times in client.times.items()} == {
        ("query", "ok"): 5,
        ("query", "error"): 1,
    }
    assert client.label == f"redis://127.0.0.1:{port}"
    client.close()


async def test_many_commands_at_once(port: int) -> None:
    client = make(node=f"redis://127.0.0.1:{port}", pool_size=3)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(client.command, b"INCR", b"counter")
    assert await client.command(b"GET", b"counter") == b"50"
    clients = await client.command(b"CLIENT", b"LIST")
    assert clients.count(b"cmd=incr") + clients.count(b"cmd=get") + clients.count(b"cmd=client") <= 3
    client.close()


async def test_a_script_is_sent_once(port: int) -> None:
    client = make(node=f"redis://127.0.0.1:{port}")
    for value in (b"1", b"2"):
        assert await client.script(b"return {KEYS[1], ARGV[1]}", [b"k"], value) == [b"k", value]
    with pytest.raises(RedisError, match="boom"):
        await client.script(b"return redis.error_reply('ERR boom')", [])
    assert {how: sum(times.counts) for how, times in client.times.items()} == {
        ("script", "ok"): 2,
        ("script", "error"): 1,
    }
    client.close()


async def test_a_command_that_is_cancelled_takes_its_connection_with_it(port: int) -> None:
    client = make(node=f"redis://127.0.0.1:{port}", pool_size=1)
    with trio.move_on_after(0.05) as scope:
        await client.command(b"BLPOP", b"nothing", b"10")
    assert scope.cancelled_caught
    assert await client.command(b"ECHO", b"fine") == b"fine"
    client.close()


async def test_logging_in(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "se:cret") as port:
        client = make(node=f"redis://:se%3Acret@127.0.0.1:{port}")
        assert await client.command(b"PING") == b"PONG"
        client.close()
        client = make(node=f"redis://127.0.0.1:{port}", username="default", password="se:cret")
        assert await client.command(b"PING") == b"PONG"
        client.close()
        with pytest.raises(RedisError, match="refuses AUTH: WRONGPASS"):
            await make(node=f"redis://:wrong@127.0.0.1:{port}").command(b"PING")
        with pytest.raises(RedisError, match="NOAUTH"):
            await make(node=f"redis://127.0.0.1:{port}").command(b"PING")


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with redis_server(tmp_path, "--unixsocket", str(path)):
        client = make(node=f"unix://{path}")
        assert await client.command(b"PING") == b"PONG"
        client.close()


async def test_a_cluster(tmp_path: Path) -> None:
    cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with redis_server(tmp_path / "a", *cluster) as a, redis_server(tmp_path / "b", *cluster) as b:
        first, second = (make(node=f"redis://127.0.0.1:{port}") for port in (a, b))
        await first.command(b"CLUSTER", b"ADDSLOTSRANGE", b"0", b"8191")
        await second.command(b"CLUSTER", b"ADDSLOTSRANGE", b"8192", b"16383")
        await first.command(b"CLUSTER", b"MEET", b"127.0.0.1", b"%d" % b)
        with trio.fail_after(10):
            for one in (first, second):
                while b"cluster_state:ok" not in await one.command(b"CLUSTER", b"INFO"):  # noqa: ASYNC110
                    await trio.sleep(0.05)
        client = make(node=[f"redis://127.0.0.1:{a}"])
        for n in range(20):
            assert await client.command(b"SET", b"key%d" % n, b"%d" % n) == b"OK"
        assert [await client.command(b"GET", b"key%d" % n) for n in range(20)] == [
            b"%d" % n for n in range(20)
        ]
        assert await client.script(b"return redis.call('GET', KEYS[1])", [b"key7"]) == b"7"
        client._slots = [(0, 16383, Server("127.0.0.1", a))]  # as if slots had moved since
        assert [await client.command(b"GET", b"key%d" % n) for n in range(20)] == [
            b"%d" % n for n in range(20)
        ]
        for one in (first, second, client):
            one.close()


async def test_an_idle_connection_that_the_server_closed_is_replaced() -> None:
    async with scripted([b"+one\r\n"], [b"+two\r\n"]) as url:
        client = make(node=url)
        assert await client.command(b"PING") == b"one"
        assert await client.command(b"PING") == b"two"
        client.close()


@pytest.mark.parametrize(
    ("session", "problem"),
    [
        ([], "closed the connection"),
        ([b"$5\r\nab"], "the connection was closed within a reply"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "no reply begins with b'H'"),
    ],
)
async def test_a_server_that_is_not_well(session: list[bytes], problem: str) -> None:
    async with scripted(session) as url:
        with pytest.raises(RedisError, match=problem):
            await make(node=url).command(b"PING")


async def test_a_server_that_is_silent_or_not_there() -> None:
    async with scripted([b"", b""]) as url:
        with pytest.raises(RedisError, match="did not answer in time"):
            await make(node=url, response_timeout="50ms").command(b"PING")
    with pytest.raises(RedisError, match="cannot be connected to"):
        await make(node=url).command(b"PING")


async def test_waiting_for_a_connection_ends(port: int) -> None:
    client = make(node=f"redis://127.0.0.1:{port}", pool_size=1, wait_timeout="50ms")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.command, b"BLPOP", b"nothing", b"0.3")
        await trio.sleep(0.05)
        with pytest.raises(RedisError, match="none of 1 connections became free in time"):
            await client.command(b"PING")
    client.close()


@pytest.mark.parametrize(
    ("url", "server", "login"),
    [
        ("redis://h", Server("h", 6379), Login(None, None, 0)),
        ("redis://u:p%40@h:1/2", Server("h", 1), Login("u", "p@", 2)),
        ("rediss://[::1]:2", Server("::1", 2, tls=True), Login(None, None, 0)),
        ("unix:///run/r.sock", Server("", 0, path="/run/r.sock"), Login(None, None, 0)),
    ],
)
def test_urls(url: str, server: Server, login: Login) -> None:
    assert parse_redis_url(url) == (server, login)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"node": "127.0.0.1:6379"}, "'127.0.0.1:6379' is not a Redis URL: write redis://HOST:PORT"),
        ({"node": "redis://h/x"}, "the database 'x' is not a number"),
        ({"node": "redis://h:99999"}, "is not a Redis URL"),
        ({"node": []}, "node must name at least one server"),
        ({"node": "redis://h", "pool_size": 0}, "pool_size must be at least 1"),
        ({"nodes": "redis://h"}, "did you mean 'node'"),
    ],
)
def test_wrong_options(options: dict[str, object], problem: str) -> None:
    with pytest.raises(OptionError, match=problem):
        convert(options, RedisOptions, "test")


def test_slots() -> None:
    assert key_slot(b"123456789") == 0x31C3
    assert key_slot(b"a{123456789}b{c}") == 0x31C3
    assert key_slot(b"{}x") != key_slot(b"")
