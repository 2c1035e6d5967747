"""Log records of a node to NATS, RabbitMQ and Kafka: real brokers, read back by clients that are not ours."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson
import pytest
from kafka_cluster import KafkaCluster
from nats_server import NatsServer
from pamqp import commands
from rabbitmq_server import RabbitConsumer, RabbitServer
from smtp_client import SmtpClient
from test_node_in_process import records

from kumo_py.daemon import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import StartNode
    from real_node import RealNode
    from smtp_sink import SmtpSink

pytestmark = pytest.mark.time_limit(120)

POLICIES = Path(__file__).parent.parent / "policies"

POLICY = """
local kumo = require 'kumo'
dofile '@SENDER@'
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.configure_local_logs {
    log_dir = '@DIR@/logs', min_free_space = 0, min_free_inodes = 0, meta = { 'reception_protocol' },
  }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8' } }
end)
kumo.on('get_queue_config', function(domain)
  return kumo.make_queue_config { protocol = { smtp = { mx_list = { '@SINK@' } } } }
end)
kumo.on('get_egress_path_config', function(domain)
  return kumo.make_egress_path {
    prohibited_hosts = {}, enable_tls = 'Disabled', enable_mta_sts = false, idle_timeout = '1s',
    connection_limit = 4, consecutive_connection_failures_before_delay = 1000000,
  }
end)
"""


class Arrived(NamedTuple):
    where: str
    """Subject, routing key or topic."""
    record: dict[str, Any]
    headers: dict[str, Any]
    key: str | None = None


class Broker(Protocol):
    """What the tests need of each."""

    sender: str
    """Which policy sends to it."""

    @property
    def environment(self) -> dict[str, str]: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def arrived(self) -> list[Arrived]:
        """All that has arrived since it was first started."""


class _Nats(NatsServer):
    sender = "senders_nats"

    def __init__(self, directory: Path) -> None:
        login = {"user": "kumo", "pass": "secret"}
        super().__init__(directory, "authorization { user: kumo, password: secret }", login)
        self.start()
        self.make_stream("LOG", "log.>")

    @property
    def environment(self) -> dict[str, str]:
        return {"NATS_ADDRESS": self.address}

    def arrived(self) -> list[Arrived]:
        return [
            Arrived(subject, orjson.loads(payload), headers)
            for subject, payload, headers in self.messages("LOG")
        ]


class _Rabbit(RabbitServer):
    sender = "senders_amqp"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._arrived: list[Arrived] = []
        self.start()
        with RabbitConsumer(self.port) as consumer:
            consumer.ask(commands.Exchange.Declare(exchange="kumo", exchange_type="topic", durable=True))
            consumer.make_queue("log")
            consumer.ask(commands.Queue.Bind(queue="log", exchange="kumo", routing_key="log.*"))

    @property
    def environment(self) -> dict[str, str]:
        return {"AMQP_PORT": str(self.port)}

    def arrived(self) -> list[Arrived]:
        with RabbitConsumer(self.port) as consumer:
            for taken in consumer.take_all("log"):
                properties = taken.properties
                assert (properties.delivery_mode, properties.content_type) == (2, "application/json")
                headers = (properties.headers or {}) | {"id": properties.message_id}
                record = orjson.loads(taken.payload)
                assert properties.timestamp is not None
                assert int(properties.timestamp.timestamp()) == int(record["timestamp"])
                self._arrived.append(Arrived(taken.routing_key, record, headers))
        return self._arrived


class _Kafka(KafkaCluster):
    sender = "senders_kafka"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.make_topic("mail.log", 1)

    @property
    def environment(self) -> dict[str, str]:
        return {"KAFKA_SERVERS": self.address, "KAFKA_TIMEOUT": "2s"}

    def arrived(self) -> list[Arrived]:
        return [
            Arrived(
                "mail.log",
                orjson.loads(record.value),
                {name: value.decode() for name, value in record.headers.items()},
                None if record.key is None else record.key.decode(),
            )
            for record in self.records("mail.log")
        ]


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Rabbit]:
    """It takes seconds to start."""
    rabbit = _Rabbit(tmp_path_factory.mktemp("rabbitmq"))
    yield rabbit
    rabbit.__exit__()


@pytest.fixture(params=[_Nats, _Rabbit, _Kafka], ids=["nats", "amqp", "kafka"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """One that has nothing."""
    if request.param is _Rabbit:
        rabbit = request.getfixturevalue("rabbit")
        rabbit.arrived().clear()
        yield rabbit
        return
    directory = tmp_path / "broker"
    directory.mkdir()
    broker = request.param(directory)
    yield broker
    broker.__exit__()


@pytest.fixture
def start(start_node: StartNode, tmp_path: Path, sink: SmtpSink) -> Callable[..., RealNode]:
    """Starts a node that sends its records to a broker."""

    def start(broker: Broker, **environment: str) -> RealNode:
        parts = {"SENDER": str(POLICIES / f"{broker.sender}.lua"), "DIR": str(tmp_path), "SINK": sink.address}
        text = POLICY
        for name, part in parts.items():
            text = text.replace(f"@{name}@", part)
        return start_node(text, environment=broker.environment | {"RETRY_INTERVAL": "1s"} | environment)

    return start


def submit(node: RealNode, count: int) -> list[str]:
    """Send messages; the ids they got."""
    ids = []
    with SmtpClient(node.address) as client:
        client.greet()
        for number in range(count):
            assert client.envelope("from@a.example", "to@b.example").code == 354
            client.send(f"Subject: {number}\r\n\r\nhello\r\n.\r\n".encode())
            reply = client.reply()
            assert reply.code == 250, reply
            ids.append(reply.text.partition("ids=")[2])
        client.command("QUIT")
    return ids


def wanted(ids: list[str]) -> set[tuple[str, str]]:
    return {(id, kind) for id in ids for kind in ("Reception", "Delivery")}


def wait_for(broker: Broker, ids: list[str]) -> list[Arrived]:
    """All that has arrived, once both records of each message have."""
    deadline = time.monotonic() + 60
    while True:
        arrived = broker.arrived()
        missing = wanted(ids) - {(one.record["id"], one.record["type"]) for one in arrived}
        if not missing:
            return arrived
        assert time.monotonic() < deadline, f"{len(missing)} records are missing"
        time.sleep(0.1)


def test_every_record_arrives_once(broker: Broker, start: Callable[..., RealNode], tmp_path: Path) -> None:
    node = start(broker)
    ids = submit(node, 20)
    arrived = wait_for(broker, ids)
    node.stop()
    assert len(arrived) == 40
    for one in arrived:
        record = one.record
        assert (record["sender"], record["recipient"]) == ("from@a.example", "to@b.example")
        assert record["headers"]["Subject"] in map(str, range(20))
        match broker.sender:
            case "senders_nats":
                assert one.where == f"log.{record['type'].lower()}"
                assert one.headers["Kumo-Sender"] == "from@a.example"
            case "senders_amqp":
                assert one.where == f"log.{record['type'].lower()}"
                assert (one.headers["sender"], one.headers["attempts"]) == ("from@a.example", 0)
            case _:
                assert (one.where, one.key) == ("mail.log", "b.example")
                assert one.headers["type"] == record["type"]
    own = "Nats-Msg-Id" if broker.sender == "senders_nats" else "id"
    assert len({one.headers[own] for one in arrived}) == 40
    assert not [record for record in hook_records(tmp_path) if record["type"] != "Delivery"]


def hook_records(directory: Path) -> list[dict[str, Any]]:
    """What the delivery log of a node that has stopped says of the hook's messages."""
    return [
        record for record in records(directory) if record["meta"].get("reception_protocol") == "LogRecord"
    ]


def test_a_broker_that_goes_away_and_comes_back(broker: Broker, start: Callable[..., RealNode]) -> None:
    node = start(broker)
    ids = submit(node, 10)
    wait_for(broker, ids)
    broker.stop()
    ids += submit(node, 10)
    time.sleep(1.5)  # for attempts that fail
    broker.start()
    wait_for(broker, ids)
    node.stop()


def test_a_broker_that_goes_away_in_between(broker: Broker, start: Callable[..., RealNode]) -> None:
    """While records are being sent."""
    node = start(broker)
    ids = submit(node, 30)
    broker.stop()
    ids += submit(node, 5)
    broker.start()
    wait_for(broker, ids)
    node.stop()


PROBLEMS = {
    "senders_nats": [
        ({"NATS_PASSWORD": "wrong"}, "the server refuses the connection: Authorization Violation"),
        ({"NATS_ADDRESS": "127.0.0.1:1"}, "127.0.0.1:1: Connection refused"),
    ],
    "senders_amqp": [
        ({"AMQP_PASSWORD": "wrong"}, "403 ACCESS_REFUSED - Login was refused"),
        ({"AMQP_EXCHANGE": "none"}, "404 NOT_FOUND - no exchange 'none' in vhost '/'"),
        ({"AMQP_EXCHANGE": "amq.direct"}, "the message came back: 312 NO_ROUTE"),
        ({"AMQP_PORT": "1"}, "127.0.0.1:1: Connection refused"),
    ],
    "senders_kafka": [
        ({"KAFKA_SERVERS": "127.0.0.1:1", "KAFKA_TIMEOUT": "300ms"}, "Connection refused"),
    ],
}  # fmt: skip


def test_errors_are_said_and_the_records_wait(
    broker: Broker, start: Callable[..., RealNode], tmp_path: Path
) -> None:
    ids: list[str] = []
    for settings, problem in PROBLEMS[broker.sender]:
        node = start(broker, **settings)
        ids += submit(node, 1)
        time.sleep(1.0)
        node.stop()
        failures = [record for record in hook_records(tmp_path) if record["type"] == "TransientFailure"]
        assert any(problem in record["response"]["content"] for record in failures), node.text
    assert not broker.arrived()
    node = start(broker)
    assert len(wait_for(broker, ids)) == 2 * len(ids)
    node.stop()


async def test_a_script_may_publish(tmp_path: Path) -> None:
    server = _Nats(tmp_path)
    try:
        (tmp_path / "script.lua").write_text(f"""
            local kumo = require 'kumo'
            kumo.on('main', function(text)
              local client = kumo.nats.connect {{ servers = {{ 'kumo:secret@{server.address}' }} }}
              client:publish {{ subject = 'log.note', payload = kumo.serde.json_encode {{ text = text }} }}
            end)
        """)
        assert await Node(tmp_path / "script.lua").run_script("hello")
        assert [(one.where, one.record) for one in server.arrived()] == [("log.note", {"text": "hello"})]
    finally:
        server.stop()
