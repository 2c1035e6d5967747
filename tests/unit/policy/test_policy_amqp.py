"""kumo.amqp: options, results and errors, against a real RabbitMQ and against brokers that misbehave."""

from __future__ import annotations

import importlib.util
import re
import struct
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from pamqp import commands, exceptions, frame, header, heartbeat
from policy_host import run
from rabbitmq_server import RabbitConsumer, RabbitServer
from redis_server import free_port

from kumo_py.core.policy import PolicyError
from kumo_py.policy.modules.amqp import parse_amqp_uri

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from policy_host import MakePolicy, RecordingHost

pytestmark = pytest.mark.time_limit(90)


@pytest.fixture(scope="module")
def tls_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, and certificate and key of the server and of a client."""
    directory = tmp_path_factory.mktemp("authority")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    for name, identity in (("server", "localhost"), ("client", "me@example.com")):
        made = authority.issue_cert(identity)
        made.cert_chain_pems[0].write_to_path(directory / f"{name}.pem")
        made.private_key_pem.write_to_path(directory / f"{name}.key")
    return directory


@pytest.fixture(scope="module")
def broker(
    tmp_path_factory: pytest.TempPathFactory, authority: Path, tls_port: int
) -> Iterator[RabbitServer]:
    config = f"""
    listeners.ssl.1 = 127.0.0.1:{tls_port}
    ssl_options.cacertfile = {authority}/ca.pem
    ssl_options.certfile = {authority}/server.pem
    ssl_options.keyfile = {authority}/server.key
    ssl_options.verify = verify_peer
    ssl_options.fail_if_no_peer_cert = true
    """
    with RabbitServer(tmp_path_factory.mktemp("rabbitmq"), config) as broker:
        yield broker


@pytest.fixture
def consumer(broker: RabbitServer) -> Iterator[RabbitConsumer]:
    """With a fresh queue `q`."""
    with RabbitConsumer(broker.port) as consumer:
        consumer.make_queue("q")
        consumer.take_all("q")
        yield consumer


@pytest.fixture
async def background(host: RecordingHost) -> AsyncIterator[None]:
    """What the policy starts in the background runs, as in a node."""
    async with trio.open_nursery() as nursery:
        host.spawn = lambda what, task: nursery.start_soon(task)  # type: ignore[method-assign]
        yield
        nursery.cancel_scope.cancel()


async def failure(policy: MakePolicy, code: str) -> str:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code)
    return str(caught.value).partition("\nstack traceback")[0]


def basic(port: int, options: str, connection: str = "") -> str:
    return (
        "kumo.amqp.basic_publish { routing_key = 'q', payload = 'x', "
        f"connection = {{ host = '127.0.0.1', port = {port}, {connection} }}, {options} }}"
    )


def client(port: int, options: str = "") -> str:
    second = f", {{ {options} }}" if options else ""
    return f"local client = kumo.amqp.build_client('amqp://127.0.0.1:{port}'{second})\n"


# -- options --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("{}", "option 'routing_key' is required"),
        ("{ routing_key = 'q', payload = 'x' }", "option 'connection' is required"),
        ("{ routing_key = 'q', payload = 'x', connection = {} }", "option 'connection.host' is required"),
        (
            "{ routing_key = 'q', payload = {}, connection = { host = 'h' } }",
            "option 'payload' must be a string",
        ),
        ("{ routing_key = 'q', payload = 'x', connection = { hots = 'h' } }", "did you mean 'host'"),
        ("{ routing_key = 'q', payload = 'x', conection = { host = 'h' } }", "did you mean 'connection'"),
        (
            "{ routing_key = 'q', payload = 'x', connection = { host = 'h', port = 0 } }",
            "must be an integer >= 1",
        ),
        (
            "{ routing_key = 'q', payload = 'x', connection = { host = 'h', client_cert = 'c' } }",
            "both client_cert and client_private_key must be specified, or neither",
        ),
        ("{ routing_key = 'q', payload = 'x', connection = { host = 'h' }, priority = 256 }", "<= 255"),
        (
            "{ routing_key = 'q', payload = 'x', connection = { host = 'h' }, timestamp = 1e15 }",
            "option 'timestamp': 1000000000000000 is not a time in seconds",
        ),
    ],
)
async def test_wrong_options(policy: MakePolicy, options: str, problem: str) -> None:
    text = await failure(policy, f"kumo.amqp.basic_publish {options}")
    assert text.startswith("mine: policy.lua:3: kumo.amqp.basic_publish: ")
    assert problem in text


def test_uris() -> None:
    broker = parse_amqp_uri("amqp://me:se%2Fcret@[::1]:9/a%2fb?heartbeat=7&connection_timeout=1500")
    assert (broker.host, broker.port, broker.username, broker.password) == ("::1", 9, "me", "se/cret")
    assert (broker.vhost, broker.heartbeat, broker.connect_timeout) == ("a/b", 7, 1.5)
    assert not broker.tls
    broker = parse_amqp_uri("amqps://h?cacertfile=/ca&certfile=/c&keyfile=/k&auth_mechanism=external")
    assert (broker.port, broker.vhost, broker.tls, broker.external) == (5671, "/", True, True)
    assert (broker.authority, broker.certificate, broker.key) == ("/ca", "/c", "/k")


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("localhost", "'localhost' is not an AMQP URI: write amqp://USER:PASSWORD@HOST:PORT/VHOST"),
        ("http://localhost", "is not an AMQP URI"),
        ("amqp://h:x", "is not an AMQP URI"),
        ("amqp://me:secret@h:x", "'amqp://…@h:x' is not an AMQP URI"),
        ("amqp://h?hartbeat=1", "'hartbeat', which is unknown; did you mean 'heartbeat'?"),
        ("amqp://h?heartbeat=x", "heartbeat must be 0 to 65535, got 'x'"),
        ("amqp://h?auth_mechanism=amqplain", "auth_mechanism must be plain or external"),
    ],
)
async def test_wrong_uris(policy: MakePolicy, uri: str, problem: str) -> None:
    text = await failure(policy, f"kumo.amqp.build_client '{uri}'")
    assert text.startswith("mine: policy.lua:3: kumo.amqp.build_client: ")
    assert problem in text


async def test_validation_connects_to_nothing(policy: MakePolicy) -> None:
    lua = policy(
        f"""
        {client(1)}
        kumo.on('one', function() {basic(1, "")} end)
        kumo.on('other', function() client:publish {{ routing_key = 'q', payload = 'x' }} end)
        """,
        validating=True,
    )
    await lua.load()
    for event in ("one", "other"):
        with pytest.raises(PolicyError, match="nothing is sent while a configuration is only validated"):
            await lua.ask(event)
    lua.close()


async def test_without_the_extra(policy: MakePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kumo_py.policy.shared_clients.find_spec", lambda name: None)
    for code in (basic(1, ""), client(1)):
        text = await failure(policy, code)
        assert text.endswith("kumo.amqp needs kumo-py[amqp]: pip install 'kumo-py[amqp]'")
    monkeypatch.undo()
    assert importlib.util.find_spec("pamqp")


# -- basic_publish, with RabbitMQ ---------------------------------------------------------------------------------
async def test_what_arrives(
    policy: MakePolicy, background: None, broker: RabbitServer, consumer: RabbitConsumer
) -> None:
    consumer.ask(commands.Exchange.Declare(exchange="e", exchange_type="topic"))
    consumer.ask(commands.Queue.Bind(queue="q", exchange="e", routing_key="log.*"))
    connection = f"connection = {{ host = '127.0.0.1', port = {broker.port}, connection_name = 'kumo' }}"
    await run(policy, f"""
        kumo.amqp.basic_publish {{ {connection},
          exchange = 'e', routing_key = 'log.delivery', payload = '\\xff\\0' .. ('x'):rep(300000), mandatory = true,
          app_id = 'kumo', content_encoding = 'identity', content_type = 'application/json', correlation_id = 'c',
          delivery_mode = 2, expiration = '60000', message_id = 'm', message_type = 't', priority = 3,
          reply_to = 'r', timestamp = 1800000000, user_id = 'guest', cluster_id = 'k',
          headers = {{
            text = 'a', whole = 5, big = 1 << 40, part = 0.1, yes = true, list = {{ 1, 'b' }}, inner = {{ x = 'y' }},
          }},
        }}
        kumo.amqp.basic_publish {{ {connection}, routing_key = 'q', payload = '' }}
    """)  # fmt: skip
    first, second = consumer.take_all("q")
    assert first.payload == b"\xff\0" + b"x" * 300000
    assert (first.exchange, first.routing_key) == ("e", "log.delivery")
    got = first.properties
    assert (got.app_id, got.content_encoding, got.content_type) == ("kumo", "identity", "application/json")
    assert (got.correlation_id, got.delivery_mode, got.expiration) == ("c", 2, "60000")
    assert (got.message_id, got.message_type, got.priority, got.reply_to) == ("m", "t", 3, "r")
    assert (got.timestamp, got.user_id) == (datetime(2027, 1, 15, 8, tzinfo=UTC), "guest")
    assert got.headers == {
        "text": "a", "whole": 5, "big": 1 << 40, "part": 0.1, "yes": True, "list": [1, "b"], "inner": {"x": "y"},
    }  # fmt: skip
    assert (second.payload, second.exchange, second.routing_key) == (b"", "", "q")


@pytest.mark.parametrize(
    ("options", "connection", "problem"),
    [
        ("exchange = 'none'", "", "404 NOT_FOUND - no exchange 'none' in vhost '/'"),
        ("exchange = 'amq.fanout', mandatory = true", "", "the message came back: 312 NO_ROUTE"),
        ("immediate = true", "", "540 NOT_IMPLEMENTED - immediate=true"),
        ("user_id = 'me'", "", "406 PRECONDITION_FAILED - user_id property set to 'me'"),
        ("", "password = 'wrong'", "403 ACCESS_REFUSED - Login was refused"),
        ("", "vhost = 'none'", "530 NOT_ALLOWED - vhost none not found"),
        ("exchange = ('x'):rep(200)", "", "this cannot be said in AMQP: Max length exceeded for exchange"),
        ("headers = { [('x'):rep(200)] = 1 }", "", "is longer than 128 octets"),
        ("app_id = ('x'):rep(256)", "", "this cannot be said in AMQP: "),
    ],
)
async def test_refusals(
    policy: MakePolicy,
    background: None,
    broker: RabbitServer,
    consumer: RabbitConsumer,
    options: str,
    connection: str,
    problem: str,
) -> None:
    text = await failure(policy, basic(broker.port, options, connection))
    assert text.startswith("mine: policy.lua:3: kumo.amqp.basic_publish: ")
    assert problem in text
    await run(policy, basic(broker.port, ""))  # the next message has a connection that works
    assert len(consumer.take_all("q")) == 1


async def test_connections_are_kept_and_counted(
    policy: MakePolicy, background: None, broker: RabbitServer, consumer: RabbitConsumer
) -> None:
    publish = basic(broker.port, "", "pool_size = 2, connection_name = 'counted'")
    lua = policy(f"kumo.on('mine', function() {publish} end)")
    await lua.load()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(lua.ask, "mine")
    await lua.ask("mine")
    assert len(consumer.take_all("q")) == 11
    with trio.fail_after(10):  # for RabbitMQ to write its log
        while broker.connections("counted") < 2:  # noqa: ASYNC110
            await trio.sleep(0.05)
    assert broker.connections("counted") == 2
    lua.close()


async def test_tls(
    policy: MakePolicy, background: None, broker: RabbitServer, consumer: RabbitConsumer, authority: Path, tls_port: int
) -> None:  # fmt: skip
    keys = f"client_cert = '{authority}/client.pem', client_private_key = '{authority}/client.key'"
    code = basic(tls_port, "", f"enable_tls = true, %s {keys}").replace("127.0.0.1", "localhost")
    await run(policy, code % f"root_ca_cert = '{authority}/ca.pem',")
    assert len(consumer.take_all("q")) == 1
    text = await failure(policy, code % "")
    assert f"localhost:{tls_port}: TLS: " in text
    assert "certificate" in text
    assert "no.pem: No such file or directory" in await failure(policy, code % "root_ca_cert = 'no.pem',")
    # The certificate has no name for the address.
    text = await failure(
        policy, code.replace("localhost", "127.0.0.1") % f"root_ca_cert = '{authority}/ca.pem',"
    )
    assert "127.0.0.1" in text
    assert "TLS: " in text
    uri = f"amqps://localhost:{tls_port}?cacertfile={authority}/ca.pem&certfile={authority}/client.pem"
    await run(
        policy,
        f"""
        local client = kumo.amqp.build_client '{uri}&keyfile={authority}/client.key'
        client:publish {{ routing_key = 'q', payload = 'x' }}
        client:publish_with_timeout({{ routing_key = 'q', payload = 'y' }}, 5000)
    """,
    )
    await _until(consumer, 2)
    text = await failure(
        policy, f"kumo.amqp.build_client '{uri}&keyfile={authority}/client.key&auth_mechanism=external'"
    )
    assert "the broker offers " in text
    assert text.endswith(", not EXTERNAL")


async def _until(consumer: RabbitConsumer, count: int) -> list[Any]:
    """What was not confirmed may take a moment."""
    taken: list[Any] = []
    with trio.fail_after(5):
        while len(taken) < count:
            taken += consumer.take_all("q")
            await trio.sleep(0.01)
    return taken


# -- build_client, with RabbitMQ ----------------------------------------------------------------------------------
async def test_a_client_without_confirmations(
    policy: MakePolicy, background: None, broker: RabbitServer, consumer: RabbitConsumer
) -> None:
    """The example of KumoMTA's reference, and more."""
    code = (
        client(broker.port)
        + """
    local confirm = client:publish { routing_key = 'q', payload = 'w00t!', properties = {
      kind = 'k', headers = { a = { LongString = 's' }, b = { x = 1, y = 2 } }, delivery_mode = 1,
    } }
    local result = confirm:wait()
    assert(result.status == 'NotRequested')
    local again, problem = pcall(confirm.wait, confirm)
    result = client:publish_with_timeout({ routing_key = 'q', payload = 2 }, 1000)
    assert(result.status == 'NotRequested' and result.reply_code == nil and result.reply_text == nil)
    client:close()
    local problems = { tostring(problem) }
    for _, method in ipairs { 'publish', 'close' } do
      local _, problem = pcall(client[method], client, { routing_key = 'q', payload = 'x' })
      table.insert(problems, tostring(problem))
    end
    return problems
    """
    )
    problems = await run(policy, code)
    assert [re.sub(r"policy.lua:\d+: ", "", problem) for problem in problems] == [
        "amqp_confirm:wait: confirmation already taken!?",
        "amqp_client:publish: client was closed",
        "amqp_client:close: client was closed",
    ]
    first, second = await _until(consumer, 2)
    assert (first.payload, second.payload) == (b"w00t!", b"2")
    assert (first.properties.message_type, first.properties.delivery_mode) == ("k", 1)
    assert first.properties.headers == {"a": "s", "b": {"x": 1, "y": 2}}


async def test_a_client_with_confirmations(
    policy: MakePolicy, background: None, broker: RabbitServer, consumer: RabbitConsumer
) -> None:
    code = (
        client(broker.port, "confirm_select = true")
        + """
    local confirms = {}
    for n = 1, 50 do
      table.insert(confirms, client:publish {
        routing_key = n == 7 and 'none' or 'q', payload = n, options = { mandatory = true },
      })
    end
    local results = {}
    for n = #confirms, 1, -1 do results[n] = confirms[n]:wait() end
    return results
    """
    )
    results = await run(policy, code)
    assert results[6] == {"status": "Ack", "reply_code": 312, "reply_text": "NO_ROUTE"}
    assert results[:6] + results[7:] == [{"status": "Ack"}] * 49
    assert len(consumer.take_all("q")) == 49


async def test_an_error_reaches_all_who_wait_and_the_next_message_a_new_connection(
    policy: MakePolicy, background: None, broker: RabbitServer, consumer: RabbitConsumer
) -> None:
    code = (
        client(broker.port, "confirm_select = true")
        + """
    local confirm = client:publish { routing_key = 'q', payload = 'x', exchange = 'none' }
    local _, problem = pcall(confirm.wait, confirm)
    assert(client:publish { routing_key = 'q', payload = 'y' }:wait().status == 'Ack')
    return tostring(problem)
    """
    )
    assert "404 NOT_FOUND - no exchange 'none'" in await run(policy, code)
    assert [taken.payload for taken in consumer.take_all("q")] == [b"y"]


async def test_an_error_that_nobody_waited_for_is_told_with_the_next_message(
    policy: MakePolicy, background: None, broker: RabbitServer, consumer: RabbitConsumer
) -> None:
    code = (
        client(broker.port)
        + """
    client:publish { routing_key = 'q', payload = 'x', exchange = 'none' }
    kumo.sleep(0.3)
    local _, problem = pcall(client.publish, client, { routing_key = 'q', payload = 'y' })
    client:publish { routing_key = 'q', payload = 'z' }
    return tostring(problem)
    """
    )
    problem = await run(policy, code)
    assert "404 NOT_FOUND - no exchange 'none'" in problem
    assert problem.endswith("messages before this one may not have been taken")
    assert [taken.payload for taken in await _until(consumer, 1)] == [b"z"]


# -- brokers that misbehave ---------------------------------------------------------------------------------------
class FakeBroker:
    """The end of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def say(self, what: Any, channel: int = 1) -> None:
        await self.stream.send_all(frame.marshal(what, channel))

    async def read(self, kind: type[Any]) -> Any:
        """The next frame of a kind; others are dropped. Raises EndOfChannel."""
        while True:
            try:
                size, _, found = frame.unmarshal(self.buffer)
            except exceptions.UnmarshalingException:
                data = await self.stream.receive_some()
                if not data:
                    raise trio.EndOfChannel from None
                self.buffer += data
                continue
            self.buffer = self.buffer[size:]
            if isinstance(found, kind):
                return found

    async def greet(self, beat: int = 0) -> None:
        await self.read(header.ProtocolHeader)
        await self.say(commands.Connection.Start(0, 9, {}, "PLAIN AMQPLAIN"), 0)
        await self.read(commands.Connection.StartOk)
        await self.say(commands.Connection.Tune(0, 4096, beat), 0)
        await self.read(commands.Connection.Open)
        await self.say(commands.Connection.OpenOk(), 0)
        await self.read(commands.Channel.Open)
        await self.say(commands.Channel.OpenOk())
        await self.read(commands.Confirm.Select)
        await self.say(commands.Confirm.SelectOk())


@asynccontextmanager
async def fake_broker(serve: Callable[[FakeBroker], Awaitable[None]]) -> AsyncIterator[int]:
    async def connection(stream: trio.SocketStream) -> None:
        with suppress(trio.EndOfChannel, trio.BrokenResourceError):
            await serve(FakeBroker(stream))

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, connection, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def _nested(depth: int) -> bytes:
    """Connection.Start with tables within tables."""
    table = b""
    for _ in range(depth):
        table = b"\1aF" + struct.pack(">I", len(table)) + table
    payload = struct.pack(">HHBBI", 10, 10, 0, 9, len(table)) + table + bytes(8)
    return struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (_nested(3000), "the broker sends no AMQP: tables within tables without end"),
        (b"AMQP\0\1\0\0", "the broker does not speak AMQP 0-9-1"),
        (b"\1\0\0\xff\xff\xff\xff", "which is too long"),
        (b"\1\0\0\0\0\0\4\xff\xff\xff\xff\xce", "the broker sends no AMQP"),
        (b"\1\0\0\0\0\0\4\0\x0a\0\x0a\xcd", "the broker sends no AMQP"),
        (
            frame.marshal(commands.Connection.OpenOk(), 0),
            "says Connection.OpenOk instead of Connection.Start",
        ),
        (
            frame.marshal(commands.Connection.Start(0, 9, {}, "SCRAM"), 0),
            "the broker offers SCRAM, not PLAIN",
        ),
        (b"", "the broker closed the connection"),
    ],
)
async def test_greetings_that_are_none(
    policy: MakePolicy, background: None, said: bytes, problem: str
) -> None:
    async def serve(broker: FakeBroker) -> None:
        await broker.read(header.ProtocolHeader)
        if said:
            await broker.stream.send_all(said)
            await broker.read(header.ProtocolHeader)

    async with fake_broker(serve) as port:
        text = await failure(policy, basic(port, ""))
    assert text.startswith(f"mine: policy.lua:3: kumo.amqp.basic_publish: 127.0.0.1:{port}: ")
    assert problem in text


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([commands.Basic.Nack(1)], "the broker could not take the message (basic.nack)"),
        ([commands.Connection.Close(320, "CONNECTION_FORCED - shutdown", 0, 0)], "320 CONNECTION_FORCED - shutdown"),
        ([commands.Connection.Blocked("low on memory"), commands.Basic.Ack(99)],
         "not confirmed within 300ms; the broker blocks publishers: low on memory"),
        ([], "not confirmed within 300ms"),
        (None, "the broker closed the connection"),
    ],
)  # fmt: skip
async def test_answers_to_a_message(
    policy: MakePolicy, background: None, answers: list[Any] | None, problem: str
) -> None:
    async def serve(broker: FakeBroker) -> None:
        await broker.greet()
        await broker.read(commands.Basic.Publish)
        if answers is None:
            return
        for answer in answers:
            await broker.say(answer, 0 if answer.name.startswith("Connection") else 1)
        await broker.read(commands.Connection.CloseOk)

    async with fake_broker(serve) as port:
        text = await failure(policy, basic(port, "", "publish_timeout = '300ms'"))
    assert f"127.0.0.1:{port}: {problem}" in text


async def test_a_blocked_connection_waits(policy: MakePolicy, background: None) -> None:
    said: list[str] = []

    async def serve(broker: FakeBroker) -> None:
        await broker.greet()
        await broker.say(commands.Connection.Blocked("low on disk"), 0)
        with trio.move_on_after(0.2):
            await broker.read(commands.Basic.Publish)
            said.append("too early")
        await broker.say(commands.Connection.Unblocked(), 0)
        await broker.read(commands.Basic.Publish)
        said.append("published")
        await broker.say(commands.Basic.Ack(1))
        await broker.read(commands.Connection.Close)

    async with fake_broker(serve) as port:
        code = client(port, "confirm_select = true")
        code += "kumo.sleep(0.1) return client:publish { routing_key = 'q', payload = 'x' }:wait().status"
        assert await run(policy, code) == "Ack"
    assert said == ["published"]


async def test_heartbeats(
    policy: MakePolicy, background: None, autojump_clock: trio.testing.MockClock
) -> None:
    """They are sent, and a broker without any is given up."""
    beats: list[float] = []

    async def serve(broker: FakeBroker) -> None:
        await broker.greet(beat=10)
        while True:
            await broker.read(heartbeat.Heartbeat)
            beats.append(trio.current_time())

    async with fake_broker(serve) as port:
        # The jumping clock must not jump over what the kernel does.
        autojump_clock.autojump_threshold = 0.05
        code = (
            client(port, "confirm_select = true")
            + "client:publish { routing_key = 'q', payload = 'x' }:wait()"
        )
        text = await failure(policy, code)
    assert f"127.0.0.1:{port}: the broker is silent" in text
    assert len(beats) >= 3
    assert max(after - before for before, after in pairwise(beats)) <= 5.5


async def test_a_broker_that_says_nothing(policy: MakePolicy, background: None) -> None:
    async def serve(broker: FakeBroker) -> None:
        await trio.sleep_forever()

    async with fake_broker(serve) as port:
        text = await failure(policy, basic(port, "", "connect_timeout = '100ms'"))
    assert f"127.0.0.1:{port}: no connection within 100ms" in text


async def test_a_node_that_has_ended(policy: MakePolicy, host: RecordingHost, broker: RabbitServer) -> None:
    lua = policy(
        client(broker.port)
        + """
        kumo.on('mine', function() client:publish { routing_key = 'q', payload = 'x' } end)
    """
    )
    async with trio.open_nursery() as nursery:
        host.spawn = lambda what, task: nursery.start_soon(task)  # type: ignore[method-assign]
        await lua.load()
        nursery.cancel_scope.cancel()
    with pytest.raises(PolicyError, match=r"amqp_client:publish: .*: the client was closed"):
        await lua.ask("mine")
    lua.close()


async def test_all_connections_in_use(policy: MakePolicy, background: None) -> None:
    async def serve(broker: FakeBroker) -> None:
        await broker.greet()
        await trio.sleep_forever()

    async with fake_broker(serve) as port:
        options = "pool_size = 1, wait_timeout = '100ms', publish_timeout = '1s'"
        lua = policy(f"kumo.on('mine', function() {basic(port, '', options)} end)")
        await lua.load()
        problems = []

        async def publish() -> None:
            with pytest.raises(PolicyError) as caught:
                await lua.ask("mine")
            problems.append(str(caught.value))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            nursery.start_soon(publish)
        lua.close()
    assert "none of the connections became free within 100ms" in problems[0]
    assert "not confirmed within 1s" in problems[1]
