"""Whole nodes in the test's process: real policies, sockets and spools; how they start, work together, and stop."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio
from real_node import relay_policy
from smtp_client import SmtpClient
from smtp_sink import SmtpSink

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.daemon import Node, StartupError
from kumo_py.logs.reader import SegmentReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = pytest.mark.time_limit(30)

SINK = """
local kumo = require 'kumo'
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.configure_local_logs { log_dir = '@DIR@/logs', min_free_space = 0, min_free_inodes = 0 }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8' } }
end)
kumo.on('smtp_server_message_received', function(msg) msg:set_meta('queue', 'null') end)
"""


def write(directory: Path, text: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    policy = directory / "policy.lua"
    policy.write_text(text.replace("@DIR@", str(directory)))
    return policy


@asynccontextmanager
async def running(policy: Path, **options: Any) -> AsyncIterator[Node]:
    """A node, stopped in good order at the end."""
    async with trio.open_nursery() as nursery:
        node = Node(policy, **options)
        await nursery.start(node.serve)
        yield node
        if not node._stop.is_set():  # a second call would cut everything off
            node.stop()


async def submit(address: str, count: int = 1, recipient: str = "to@b.example") -> list[str]:
    """Send messages over one connection; the ids they got."""

    def run() -> list[str]:
        ids = []
        with SmtpClient(address) as client:
            client.greet()
            for number in range(count):
                assert client.envelope("from@a.example", recipient).code == 354
                client.send(
                    f"Subject: {number}\r\n\r\n.hello\r\n".replace("\r\n.", "\r\n..").encode() + b".\r\n"
                )
                reply = client.reply()
                assert reply.code == 250, reply
                ids.append(reply.text.partition("ids=")[2])
            client.command("QUIT")
        return ids

    return await trio.to_thread.run_sync(run)


async def until(condition: Callable[[], bool], within: float = 10.0) -> None:
    """Wait for something that another thread does; `within` so many seconds."""
    with trio.fail_after(within):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


def records(directory: Path) -> list[dict[str, Any]]:
    """The delivery log of a node that has stopped."""
    found = []
    for path in sorted((directory / "logs").iterdir()):
        with SegmentReader(path) as reader:
            found += [orjson.loads(line) for line in reader.lines()]
    return found


def kinds(directory: Path, id: str) -> list[str]:
    return [record["type"] for record in records(directory) if record["id"] == id]


# -- work ------------------------------------------------------------------------------------------------
async def test_a_relay(tmp_path: Path, sink: SmtpSink) -> None:
    async with running(write(tmp_path, relay_policy(tmp_path, sink.address))) as node:
        (address,) = node.addresses["smtp"]
        ids = await submit(address, 3)
        await until(lambda: len(sink.deliveries) == 3)
    assert [kinds(tmp_path, id) for id in ids] == [["Reception", "Delivery"]] * 3
    for number, (delivery, id) in enumerate(zip(sink.deliveries, ids, strict=True)):
        assert (delivery.sender, delivery.recipients) == ("from@a.example", ["to@b.example"])
        header, _, body = delivery.content.partition(b"\r\n\r\n")
        assert body == b".hello\r\n"
        assert header.startswith(b"X-KumoRef: ")
        assert f"id {id}".encode() in header
        assert header.endswith(f"Subject: {number}".encode())


async def test_three_nodes_in_one_process(tmp_path: Path) -> None:
    """Two relays and a sink, in a row."""
    async with running(write(tmp_path / "c", SINK)) as last:
        second_policy = write(tmp_path / "b", relay_policy(tmp_path / "b", last.addresses["smtp"][0]))
        async with running(second_policy) as second:
            first_policy = write(tmp_path / "a", relay_policy(tmp_path / "a", second.addresses["smtp"][0]))
            async with running(first_policy) as first:
                await submit(first.addresses["smtp"][0], 20)
                with trio.fail_after(10):
                    while len(first.queues.spool.data) or len(second.queues.spool.data):  # noqa: ASYNC110
                        await trio.sleep(0.01)
    for name in "ab":
        found = Counter(record["type"] for record in records(tmp_path / name))
        assert found == {"Reception": 20, "Delivery": 20}
    assert Counter(record["type"] for record in records(tmp_path / "c")) == {"Reception": 20}


async def test_a_restart_delivers_what_was_queued(tmp_path: Path) -> None:
    with SmtpSink() as sink:
        sink.close()
        policy = write(tmp_path, relay_policy(tmp_path, sink.address))
        async with running(policy) as node:
            ids = await submit(node.addresses["smtp"][0], 10)
        assert {record["type"] for record in records(tmp_path)} <= {"Reception", "TransientFailure"}
        sink.open()
        async with running(policy) as node:
            await until(lambda: len(sink.deliveries) == 10)
            await trio.sleep(0.1)
        async with running(policy) as node:
            await trio.sleep(0.1)
            assert len(node.queues.spool.data) == 0
    assert len(sink.deliveries) == 10
    assert all(kinds(tmp_path, id)[-1] == "Delivery" for id in ids)


async def test_deferred_messages_survive_a_stop(tmp_path: Path) -> None:
    with SmtpSink() as sink:
        sink.close()
        policy = write(tmp_path, relay_policy(tmp_path, sink.address, listener="deferred_spool = true,"))
        async with running(policy) as node:
            await submit(node.addresses["smtp"][0], 10)
        sink.open()
        async with running(policy):
            await until(lambda: len(sink.deliveries) == 10)
    assert len(sink.deliveries) == 10


# -- the end -----------------------------------------------------------------------------------------------------
class SlowHost:
    """Takes one message, and answers when it is told."""

    def __init__(self) -> None:
        self.has_content = trio.Event()
        self.may_answer = trio.Event()
        self.commands: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    async def serve(self) -> None:
        self._socket.setblocking(False)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        await trio.serve_listeners(self._run, [listener])

    async def _run(self, stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 slow\r\n")
        buffer, in_content = b"", False
        async for data in stream:
            buffer += data
            while True:
                if in_content:
                    if b"\r\n.\r\n" not in buffer:
                        break
                    buffer = buffer.partition(b"\r\n.\r\n")[2]
                    self.has_content.set()
                    await self.may_answer.wait()
                    await stream.send_all(b"250 queued\r\n")
                    in_content = False
                    continue
                line, found, rest = buffer.partition(b"\r\n")
                if not found:
                    break
                buffer = rest
                self.commands.append(line)
                in_content = line == b"DATA"
                await stream.send_all(b"354 go\r\n" if in_content else b"250 ok\r\n")


async def test_stop_lets_the_message_in_flight_finish(tmp_path: Path, nursery: trio.Nursery) -> None:
    host = SlowHost()
    nursery.start_soon(host.serve)
    node = Node(write(tmp_path, relay_policy(tmp_path, host.address)), grace=20)
    ended = trio.Event()

    async def serve(*, task_status: trio.TaskStatus[Node]) -> None:
        await node.serve(task_status=task_status)
        ended.set()

    await nursery.start(serve)
    (id,) = await submit(node.addresses["smtp"][0])
    await host.has_content.wait()
    node.stop()
    await trio.sleep(0.1)
    assert not ended.is_set()
    host.may_answer.set()
    with trio.fail_after(5):
        await ended.wait()
    assert kinds(tmp_path, id) == ["Reception", "Delivery"]
    assert host.commands[-1] == b"QUIT"


@pytest.mark.parametrize("how", ["grace", "second stop", "no grace"])
async def test_a_message_that_is_cut_off_is_kept(tmp_path: Path, nursery: trio.Nursery, how: str) -> None:
    host = SlowHost()
    nursery.start_soon(host.serve)
    grace = {"grace": 0.2, "second stop": 60, "no grace": 0}[how]
    policy = write(tmp_path, relay_policy(tmp_path, host.address, listener="deferred_spool = true,"))
    node = Node(policy, grace=grace)
    ended = trio.Event()

    async def serve(*, task_status: trio.TaskStatus[Node]) -> None:
        await node.serve(task_status=task_status)
        ended.set()

    await nursery.start(serve)
    (id,) = await submit(node.addresses["smtp"][0])
    await host.has_content.wait()
    node.stop()
    if how == "second stop":
        await trio.sleep(0.1)
        assert not ended.is_set()
        node.stop()
    with trio.fail_after(5):
        await ended.wait()
    assert kinds(tmp_path, id) == ["Reception"]
    with SmtpSink() as sink:
        policy = write(tmp_path, relay_policy(tmp_path, sink.address))
        async with running(policy):
            await until(lambda: len(sink.deliveries) == 1)
    assert kinds(tmp_path, id) == ["Reception", "Delivery"]


async def test_without_grace_the_spool_is_still_closed_in_order(tmp_path: Path, sink: SmtpSink) -> None:
    policy = write(tmp_path, relay_policy(tmp_path, sink.address))
    async with running(policy, grace=0) as node:
        await submit(node.addresses["smtp"][0], 20)
        await until(lambda: len(sink.deliveries) == 20)
        await trio.sleep(0.05)
    async with running(policy):
        await trio.sleep(0.2)
    assert len(sink.deliveries) == 20


async def test_a_client_hears_421_when_the_node_stops(tmp_path: Path, sink: SmtpSink) -> None:
    async with running(write(tmp_path, relay_policy(tmp_path, sink.address)), grace=10) as node:
        client = await trio.to_thread.run_sync(SmtpClient, node.addresses["smtp"][0])
        await trio.to_thread.run_sync(client.greet)
        node.stop()
        reply = await trio.to_thread.run_sync(client.reply)
        assert (reply.code, reply.text[:5]) == (421, "4.3.2")
        client.close()


async def test_a_slow_client_does_not_keep_dispatchers_from_finishing(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """A session in the middle of its DATA uses the grace up; what is being delivered is finished meanwhile."""
    host = SlowHost()
    nursery.start_soon(host.serve)
    policy = write(tmp_path, relay_policy(tmp_path, host.address))
    with trio.fail_after(10):
        async with running(policy, grace=0.5) as node:
            (id,) = await submit(node.addresses["smtp"][0])
            await host.has_content.wait()
            client = await trio.to_thread.run_sync(SmtpClient, node.addresses["smtp"][0])
            await trio.to_thread.run_sync(client.greet)
            await trio.to_thread.run_sync(partial(client.envelope, "from@a.example", "to@b.example"))
            client.send(b"Subject: half")
            node.stop()
            await trio.sleep(0.1)
            host.may_answer.set()
    client.close()
    assert kinds(tmp_path, id) == ["Reception", "Delivery"]
    assert host.commands[-1] == b"QUIT"


# -- what keeps a node from starting ------------------------------------------------------------------------------
async def problem(policy: Path) -> str:
    """What StartupError says."""
    with pytest.raises(BaseExceptionGroup) as caught, trio.fail_after(10):
        await Node(policy).serve()
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, StartupError)
    return str(error)


INIT = "local kumo = require 'kumo'\nkumo.on('init', function()\n%s\nend)\n"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("local kumo = require 'kumo'\nkumo.on('init', function()\n", ["policy.lua:3", "'end' expected"]),
        ("error 'no way'", ["policy.lua:1", "no way"]),
        (INIT % "error 'no way'", ["policy.lua:3", "no way"]),
        (INIT % "kumo.no_such_function()", ["policy.lua:3", "no_such_function"]),
        (INIT % "kumo.reject(500, 'not today')", ["500 not today"]),
        (INIT % "kumo.define_spool { name = 'data', pth = '/tmp/x' }", ["policy.lua:3", "pth", "path"]),
        (INIT % "kumo.start_esmtp_listener { listen = '127.0.0.1' }", ["policy.lua:3", "port"]),
        (INIT % "kumo.start_esmtp_listener { listen = 'nowhere:25' }", ["policy.lua:3", "nowhere:25"]),
        (INIT % "", ["no spool named data and meta", "kumo.define_spool"]),
        (INIT % "kumo.define_spool { name = 'data', path = '@DIR@/data' }", ["no spool named meta"]),
        (
            INIT % "for _ = 1, 2 do kumo.define_spool { name = 'data', path = '@DIR@/data' } end",
            ["policy.lua:3", "spool 'data' is defined already"],
        ),
        (
            INIT % "kumo.define_spool { name = 'data', path = '/proc/no/such/place' }",
            ["policy.lua:3", "spool 'data'", "/proc/no/such/place"],
        ),
        (
            INIT % "kumo.configure_local_logs { log_dir = '/proc/no/logs' }",
            ["policy.lua:3", "/proc/no"],
        ),
    ],
)
async def test_a_bad_policy_says_where_and_why(tmp_path: Path, text: str, parts: list[str]) -> None:
    text = await problem(write(tmp_path, text))
    for part in parts:
        assert part in text


async def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    text = await problem(tmp_path / "missing.lua")
    assert "missing.lua" in text
    assert "No such file" in text


async def test_an_address_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        text = await problem(write(tmp_path, SINK.replace("127.0.0.1:0", address)))
    assert f"cannot listen on {address}: Address already in use" in text
    assert "policy.lua:" in text


async def test_after_a_failed_start_the_addresses_are_free_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    text = INIT % f"kumo.start_esmtp_listener {{ listen = '127.0.0.1:{port}' }}"
    await problem(write(tmp_path, text))
    with socket.create_server(("127.0.0.1", port)):
        pass


# -- without serving --------------------------------------------------------------------------------------------------
async def test_validate_has_no_effect(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        policy = write(tmp_path, SINK.replace("127.0.0.1:0", address))
        assert await Node(policy).validate()
    assert [path.name for path in tmp_path.iterdir()] == ["policy.lua"]  # noqa: ASYNC240


async def test_validate_runs_the_policys_own_checks(tmp_path: Path) -> None:
    check = "\nkumo.on('validate_config', function() error 'bad weights' end)\n"
    with pytest.raises(PolicyError, match=r"policy.lua:\d+: bad weights"):
        await Node(write(tmp_path, SINK + check)).validate()


async def test_validate_finds_a_wrong_option(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="relay_hosts"):
        await Node(write(tmp_path, SINK.replace("relay_hosts", "relay_host"))).validate()


async def test_a_script_gets_its_arguments(tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = f"""
    local kumo = require 'kumo'
    kumo.on('main', function(...)
      local file = io.open('{out}', 'w')
      file:write(table.concat({{ ... }}, ' '))
      file:close()
    end)
    """
    assert await Node(write(tmp_path, text)).run_script("one", "two three")
    assert out.read_text() == "one two three"


async def test_a_script_that_fails(tmp_path: Path) -> None:
    text = "local kumo = require 'kumo'\nkumo.on('main', function() kumo.reject(400, 'no') end)"
    with pytest.raises((PolicyError, Rejection), match="no"):
        await Node(write(tmp_path, text)).run_script()
