"""kumo.kafka: options, results and errors, against librdkafka's mock of a broker."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import trio
from kafka_cluster import KafkaCluster
from policy_host import run

from kumo_py.core.policy import PolicyError
from kumo_py.policy.modules.kafka import KafkaProducers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from policy_host import MakePolicy, RecordingHost

pytestmark = pytest.mark.time_limit(60)


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    with KafkaCluster() as cluster:
        yield cluster


@pytest.fixture
async def background(host: RecordingHost, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """What the policy starts in the background runs, as in a node, and leaves no thread behind."""
    monkeypatch.setattr("kumo_py.net.kafka.FLUSH_TIME", 0.3)
    async with trio.open_nursery() as nursery:
        host.spawn = lambda what, task: nursery.start_soon(task)  # type: ignore[method-assign]
        yield
        nursery.cancel_scope.cancel()
    with trio.fail_after(5):
        while threads():  # noqa: ASYNC110
            await trio.sleep(0.01)


def threads() -> int:
    return sum(thread.name == "kafka" for thread in threading.enumerate())


async def failure(policy: MakePolicy, code: str) -> str:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code)
    return str(caught.value).partition("\nstack traceback")[0]


def producer(address: str, options: str = "") -> str:
    return (
        f"local producer = kumo.kafka.build_producer {{ ['bootstrap.servers'] = '{address}', {options} }}\n"
    )


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("'localhost:9092'", "argument 'config' must be a table, got string 'localhost:9092'"),
        ("{}", "no brokers are given: set ['bootstrap.servers'] = 'HOST:PORT,HOST:PORT'"),
        ("{ ['bootstrap.servers'] = { 'x' } }", "['bootstrap.servers'] must be a string, got a table"),
        ("{ ['bootstrap.servers'] = 'x', acsk = 'all' }", 'No such configuration property: "acsk"'),
        ("{ ['bootstrap.servers'] = 'x', acks = 'some' }", 'Invalid value for configuration property'),
        ("{ ['bootstrap.servers'] = 'x', error_cb = 'f' }", 'No such configuration property: "error_cb"'),
        ("{ ['bootstrap.servers'] = 'x', stats_cb = 'f' }", "stats_cb"),
        ("{ ['bootstrap.servers'] = 'x', ['ssl.ca.location'] = 'no.pem', ['security.protocol'] = 'ssl' }",
         "ssl.ca.location failed"),
    ],
)  # fmt: skip
async def test_wrong_configurations(policy: MakePolicy, background: None, config: str, problem: str) -> None:
    text = await failure(policy, f"kumo.kafka.build_producer({config})")
    assert text.startswith("mine: policy.lua:3: kumo.kafka.build_producer: ")
    assert problem in text


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ("topic = 't'", "option 'payload' is required"),
        ("payload = 'x'", "option 'topic' is required"),
        ("topic = 't', payload = 'x', keys = 'k'", "did you mean 'key'"),
        ("topic = 't', payload = 'x', partition = -2", "option 'partition' must be an integer >= -1"),
        ("topic = 't', payload = 'x', headers = { a = {} }", "option 'headers.a' must be a string"),
        ("topic = 't', payload = 'x', timeout = 'soon'", "option 'timeout'"),
        (
            "topic = 't', payload = ('x'):rep(2000000)",
            "t: Unable to produce message: Broker: Message size too large",
        ),
        ("topic = 'two', payload = 'x', partition = 7", "Local: Unknown partition"),
    ],
)
async def test_wrong_records(
    policy: MakePolicy, background: None, cluster: KafkaCluster, record: str, problem: str
) -> None:
    code = producer(cluster.address, "['linger.ms'] = 0") + f"producer:send {{ {record} }}"
    if "two" in record:
        cluster.make_topic("two", 2)
        code = code.replace("producer:", "producer:send { topic = 'two', payload = 'first' } producer:")
    text = await failure(policy, code)
    assert text.startswith("mine: policy.lua:4: kafka_producer:send: ")
    assert problem in text


async def test_validation_connects_to_nothing(policy: MakePolicy) -> None:
    lua = policy(
        f"{producer('127.0.0.1:1')} kumo.on('mine', function() producer:send {{ topic = 't', payload = 'x' }} end)",
        validating=True,
    )
    await lua.load()
    with pytest.raises(PolicyError, match="kafka_producer:send: nothing is sent while"):
        await lua.ask("mine")
    lua.close()


async def test_without_the_extra(policy: MakePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kumo_py.policy.shared_clients.find_spec", lambda name: None)
    text = await failure(policy, producer("127.0.0.1:1"))
    assert text.endswith("kumo.kafka needs kumo-py[kafka]: pip install 'kumo-py[kafka]'")


async def test_what_arrives(policy: MakePolicy, background: None, cluster: KafkaCluster) -> None:
    cluster.make_topic("arrives", 2)
    code = (
        producer(cluster.address, "['linger.ms'] = 0, ['client.id'] = 'kumo'")
        + """
    local places = {}
    for n = 0, 2 do
      local partition, offset = producer:send {
        topic = 'arrives', payload = '\\xff\\0' .. n, key = 'k', headers = { a = 'b', c = '' }, partition = 1,
      }
      table.insert(places, { partition, offset })
    end
    local again = kumo.kafka.build_producer {
      ['bootstrap.servers'] = '%s', ['linger.ms'] = '0', ['client.id'] = 'kumo',
    }
    producer:close()
    producer:close()
    again:send { topic = 'arrives', payload = '', partition = 0, timeout = '1 minute' }
    local _, problem = pcall(producer.send, producer, { topic = 'arrives', payload = 'x' })
    table.insert(places, tostring(problem))
    return places
    """.replace("%s", cluster.address)
    )
    places = await run(policy, code)
    assert places[:3] == [[1, 0], [1, 1], [1, 2]]
    assert places[3].endswith("kafka_producer:send: client was closed")
    records = sorted(cluster.records("arrives", 4, 2), key=lambda record: (record.partition, record.offset))
    assert [record.value for record in records] == [b"", b"\xff\x000", b"\xff\x001", b"\xff\x002"]
    assert {(record.key, *record.headers.items()) for record in records[1:]} == {
        (b"k", ("a", b"b"), ("c", b""))
    }
    assert (records[0].key, records[0].headers) == (None, {})


async def test_producers_are_shared(policy: MakePolicy, background: None, cluster: KafkaCluster) -> None:
    cluster.make_topic("s")
    lua = policy(
        f"{producer(cluster.address)} kumo.on('mine', function() producer:send {{ topic = 's', payload = 'x' }} end)"
    )
    await lua.load()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(lua.ask, "mine")
    assert lua.env.contexts.made > 1
    assert len(lua.env.state(KafkaProducers)) == 1
    assert threads() == 1
    assert len(cluster.records("s", 20)) == 20
    lua.close()


async def test_batches(policy: MakePolicy, background: None, cluster: KafkaCluster) -> None:
    """The example of KumoMTA's reference."""
    cluster.make_topic("batch", 1)
    code = (
        producer(cluster.address, "['linger.ms'] = 5")
        + """
    producer:send { topic = 'batch', payload = '0' }
    local records = {}
    for n = 1, 100 do
      table.insert(records, { topic = 'batch', payload = n, partition = n == 7 and 9 or nil, timeout = '5s' })
    end
    local failed_items, errors = producer:send_batch(records)
    local text = ''
    for i, item_idx in ipairs(failed_items) do
      text = text .. string.format('item idx %d failed: %s', item_idx, errors[i])
    end
    local none, no_errors = producer:send_batch { { topic = 'batch', payload = 'x' } }
    assert(#none == 0 and #no_errors == 0)
    local _, problem = pcall(producer.send_batch, producer, { { topic = 'batch' } })
    return { text, tostring(problem) }
    """
    )
    text, problem = await run(policy, code)
    assert text == "item idx 7 failed: batch: Unable to produce message: Local: Unknown partition"
    assert "kafka_producer:send_batch: " in problem
    assert "option 'payload' is required" in problem
    values = [int(record.value) for record in cluster.records("batch", 101) if record.value != b"x"]
    assert values == [n for n in range(101) if n != 7]


async def test_a_broker_that_is_not_there(policy: MakePolicy, background: None) -> None:
    code = producer("127.0.0.1:1") + "producer:send { topic = 't', payload = 'x', timeout = '500ms' }"
    text = await failure(policy, code)
    assert "kafka_producer:send: t: no acknowledgement within 500ms; 127.0.0.1:1/bootstrap: " in text
    assert "Connection refused" in text


async def test_librdkafka_gives_up_first(policy: MakePolicy, background: None) -> None:
    code = producer("127.0.0.1:1", "['message.timeout.ms'] = 300")
    text = await failure(policy, code + "producer:send { topic = 't', payload = 'x', timeout = '10s' }")
    assert "t: Local: Message timed out; 127.0.0.1:1/bootstrap: " in text


async def test_a_full_queue_waits(policy: MakePolicy, background: None, cluster: KafkaCluster) -> None:
    """Five records at most are in the producer; none of forty is lost."""
    cluster.make_topic("full")
    lua = policy(
        producer(cluster.address, "['queue.buffering.max.messages'] = 5, ['linger.ms'] = 1")
        + "kumo.on('mine', function(n) producer:send { topic = 'full', payload = n } end)"
    )
    await lua.load()
    async with trio.open_nursery() as nursery:
        for n in range(40):
            nursery.start_soon(lua.ask, "mine", str(n))
    assert {int(record.value) for record in cluster.records("full", 40)} == set(range(40))
    lua.close()


async def test_a_queue_that_stays_full(policy: MakePolicy, background: None) -> None:
    lua = policy(
        producer("127.0.0.1:1", "['queue.buffering.max.messages'] = 1")
        + "kumo.on('mine', function() producer:send { topic = 't', payload = 'x', timeout = '300ms' } end)"
    )
    await lua.load()
    problems = []

    async def send() -> None:
        with pytest.raises(PolicyError) as caught:
            await lua.ask("mine")
        problems.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(send)
    assert sum("no acknowledgement within 300ms" in problem for problem in problems) == 1
    assert sum("the producer's queue was full for 300ms" in one for one in problems) == 1
    lua.close()


async def test_what_is_queued_at_the_end_is_sent(
    policy: MakePolicy, host: RecordingHost, cluster: KafkaCluster
) -> None:
    cluster.make_topic("end", 1)
    async with trio.open_nursery() as nursery:
        host.spawn = lambda what, task: nursery.start_soon(task)  # type: ignore[method-assign]
        lua = policy(
            producer(cluster.address, "['linger.ms'] = 30000")
            + "kumo.on('mine', function() producer:send { topic = 'end', payload = 'last' } end)"
        )
        await lua.load()
        with trio.move_on_after(0.3):
            await lua.ask("mine")
        nursery.cancel_scope.cancel()
    assert [record.value for record in cluster.records("end", 1)] == [b"last"]
    lua.close()
