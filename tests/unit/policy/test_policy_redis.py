"""The redis module, and kumo.configure_redis_throttles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis_server import redis_server

from kumo_py.core.policy import PolicyError
from kumo_py.net.redis import RedisOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policy_host import MakePolicy, RecordingHost


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


async def run(policy: MakePolicy, code: str, port: int = 1) -> object:
    lua = policy(
        f"""
        local redis = require 'redis'
        kumo.on('mine', function()
          local conn = redis.open {{ node = 'redis://127.0.0.1:{port}' }}
          {code}
        end)
        """
    )
    await lua.load()
    try:
        return await lua.ask("mine")
    finally:
        lua.close()


async def test_queries(policy: MakePolicy, port: int) -> None:
    result = await run(
        policy,
        """
        return {
          conn:query('SET', 'n', 5), conn:query('INCRBY', 'n', 2), conn:query('GET', 'n'), conn:query('PING'),
          tostring(conn:query('GET', 'none')), conn:query('RPUSH', 'l', { 'a', 1, true, 2.5 }),
          conn:query('LRANGE', 'l', 0, -1), conn:query('HSET', 'h', { k = 'v' }), conn:query('HGET', 'h', 'k'),
          #conn:query('GET', 'n'), conn:query('SET', 'raw', '\\255'), conn:query('STRLEN', 'raw'),
        }
        """,
        port,
    )
    assert result == [True, 7, "7", "PONG", "nil", 4, ["a", "1", "1", "2.5"], 1, "v", 1, True, 1]


async def test_connections_of_equal_options_are_shared(policy: MakePolicy, port: int) -> None:
    result = await run(
        policy,
        f"""
        local same = redis.open {{ node = 'redis://127.0.0.1:{port}' }}
        local first = conn:query('CLIENT', 'ID')
        return {{ first == same:query('CLIENT', 'ID'), type(conn) }}
        """,
        port,
    )
    assert result == [True, "userdata"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("conn:query('NONSENSE')", "RedisConnection:query: ERR unknown command"),
        ("conn:query()", "a command has at least a name"),
        ("redis.open { nodes = 'x' }", "redis.open: unknown option 'nodes' (did you mean 'node'?)"),
        ("redis.open { node = 'localhost' }", "'localhost' is not a Redis URL: write redis://HOST:PORT"),
        ("conn:qery 'PING'", "did you mean query?"),
    ],
)
async def test_mistakes(code: str, problem: str, policy: MakePolicy, port: int) -> None:
    with pytest.raises(PolicyError) as raised:
        await run(policy, code, port)
    assert problem in str(raised.value)
    assert "policy.lua:6: " in str(raised.value)


async def test_a_server_that_is_not_there(policy: MakePolicy) -> None:
    with pytest.raises(PolicyError, match=r"127.0.0.1:1 cannot be connected to"):
        await run(policy, "conn:query('PING')")


async def test_sharing_limits(policy: MakePolicy, host: RecordingHost) -> None:
    await run(
        policy,
        "kumo.configure_redis_throttles { node = { 'redis://a', 'redis://b' }, read_from_replicas = true }",
    )
    (options,) = host.named("share_limits")
    assert isinstance(options, RedisOptions)
    assert options.is_cluster
    assert options.urls == ["redis://a", "redis://b"]
    assert host.named("warn") == ["redis: the option 'read_from_replicas' has no effect in kumo-py"]


async def test_validation_asks_no_server(policy: MakePolicy, host: RecordingHost) -> None:
    lua = policy("kumo.configure_redis_throttles { node = 'redis://a' }", validating=True)
    await lua.load()
    assert host.named("share_limits") == []
