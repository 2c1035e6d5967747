"""A node whose policy shares its limits through a real Redis."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from real_node import relay_policy
from redis_server import redis_server
from smtp_client import SmtpClient
from smtp_sink import SmtpSink

from kumo_py.daemon import Node, StartupError
from kumo_py.limits.redis import RedisLeases

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.time_limit(30)


def policy(directory: Path, to: str, *lines: str) -> Path:
    path = directory / "policy.lua"
    more = "\n".join(lines)
    path.write_text(f"{relay_policy(directory, to)}\nkumo.on('pre_init', function()\n{more}\nend)\n")
    return path


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[Node]:
    async with trio.open_nursery() as nursery:
        node = Node(path)
        await nursery.start(node.serve)
        yield node
        node.stop()


def submit(address: str, count: int) -> None:
    with SmtpClient(address) as client:
        client.greet()
        for _ in range(count):
            assert client.envelope("from@a.example", "to@b.example").code == 354
            client.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
            assert client.reply().code == 250


async def test_mail_goes_by_the_limits_in_redis(tmp_path: Path) -> None:
    with redis_server(tmp_path) as port, SmtpSink() as sink:
        shared = f"kumo.configure_redis_throttles {{ node = 'redis://127.0.0.1:{port}' }}"
        throttle = "assert(not kumo.make_throttle('mine', '1/hr'):throttle().throttled)"
        async with running(policy(tmp_path, sink.address, shared, throttle)) as node:
            assert isinstance(node.queues.limits.leases, RedisLeases)
            await trio.to_thread.run_sync(submit, node.addresses["smtp"][0], 3)
            with trio.fail_after(10):
                while len(sink.deliveries) < 3:  # noqa: ASYNC110  (the sink is a thread)
                    await trio.sleep(0.02)
            assert node._redis is not None
            keys = await node._redis.command(b"KEYS", b"*")
            assert b"lua-user-throttle-mine:1:1:3600" in keys
            assert any(key.startswith(b"kumomta.connection_limit.") for key in keys)
        (tmp_path / "second").mkdir()
        with pytest.RaisesGroup(
            pytest.RaisesExc(StartupError, match=r"Redis counts the limits already"), flatten_subgroups=True
        ):
            async with running(policy(tmp_path / "second", sink.address, shared, shared)):
                pass


async def test_a_redis_that_is_not_there_keeps_the_node_from_starting(tmp_path: Path) -> None:
    lines = "kumo.configure_redis_throttles { node = 'redis://127.0.0.1:1' }"
    with pytest.RaisesGroup(
        pytest.RaisesExc(StartupError, match=r"127.0.0.1:1 cannot be connected to"), flatten_subgroups=True
    ):
        async with running(policy(tmp_path, "127.0.0.1:2", lines)):
            pass
