"""What a whole node says of itself after known traffic: exact numbers, by service, provider and source."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
import trio
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from real_node import relay_policy
from test_node_in_process import running, submit, until, write

from kumo_py.admin.metrics import METRICS
from kumo_py.admin.metrics.caches import every_cache
from kumo_py.cli import main
from kumo_py.daemon import Node
from kumo_py.policy.modules.time import MOST_LABELS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.time_limit(30)

METRIC = {metric.name: metric for metric in METRICS}
ANSWERS = {"later": "450 4.2.1 not now", "never": "550 5.1.1 nobody here"}
"""To RCPT, by local part."""

MORE = """
kumo.on('pre_init', function()
  kumo.start_http_listener { listen = '127.0.0.1:0' }
end)
kumo.on('get_egress_pool', function(name)
  return kumo.make_egress_pool { name = name, entries = { { name = 'out' } } }
end)
kumo.on('get_egress_source', function(name)
  return kumo.make_egress_source { name = name }
end)
kumo.on('get_queue_config', function(domain)
  return kumo.make_queue_config {
    protocol = { smtp = { mx_list = { '@TO@' } } }, egress_pool = 'pool', retry_interval = '1h', @QUEUE@
  }
end)
kumo.on('smtp_server_message_received', function(msg)
  local timer = kumo.time.start_timer('tagging')
  timer:done()
end)
"""


async def serve_smtp(stream: trio.SocketStream) -> None:
    """A server that answers RCPT as ANSWERS says."""
    lines = b""
    in_data = False
    await stream.send_all(b"220 peer\r\n")
    async for data in stream:
        lines += data
        *complete, lines = lines.split(b"\r\n")
        for line in complete:
            if in_data:
                in_data = line != b"."
                answer = None if in_data else "250 taken"
            elif line.startswith(b"EHLO"):
                answer = "250 peer"
            elif line.startswith(b"RCPT"):
                local = line.partition(b"<")[2].partition(b"@")[0].decode()
                answer = ANSWERS.get(local, "250 ok")
            elif line == b"DATA":
                in_data, answer = True, "354 go"
            else:
                answer = "250 ok"
            if answer is not None:
                await stream.send_all(answer.encode() + b"\r\n")


def relay(directory: Path, to: str, *, queue: str = "", **options: str) -> Path:
    more = MORE.replace("@TO@", to).replace("@QUEUE@", queue) + options.pop("more", "")
    # Of two handlers of an event that return something the first one counts.
    text = relay_policy(directory, to, more="", **options)
    head, middle, tail = text.partition("kumo.on('get_queue_config'")
    return write(directory, head + more + middle + tail)


@asynccontextmanager
async def peer() -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve_smtp, 0, host="127.0.0.1"))
        host, port = listeners[0].socket.getsockname()
        yield f"{host}:{port}"
        nursery.cancel_scope.cancel()


class Metrics:
    """As /metrics.json has them."""

    def __init__(self, text: bytes) -> None:
        self._found: dict[str, dict[str, Any]] = orjson.loads(text)

    def __getitem__(self, name: str) -> Any:
        """A number; a dict by the label's value; or a list of labels and numbers."""
        metric = METRIC[name]
        value = self._found[name]["value"]
        return value[metric.labels[0]] if value is not None and len(metric.labels) == 1 else value

    def timed(self, name: str, label: str = "") -> int:
        """How many times are in a histogram."""
        value = self[name]
        count: int = (value[label] if label else value)["count"]
        return count


async def scrape(node: Node) -> Metrics:
    async with client(node) as http:
        return Metrics((await http.get("/metrics.json")).content)


def client(node: Node) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://{node.addresses['http'][0]}")


async def settled(node: Node, count: int) -> None:
    """Until there were so many records."""
    await until(lambda: sum(node.log.outcomes.values()) == count)


@pytest.fixture
def everything_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives messages ids such as one in 16 has."""
    monkeypatch.setattr(Node, "new_id", lambda self: self._ids.next(time.time_ns() // 25600 * 25600))


@pytest.mark.usefixtures("everything_timed")
async def test_three_deliveries_two_transient_failures_and_a_bounce(tmp_path: Path) -> None:
    async with peer() as to, running(relay(tmp_path, to)) as node:
        for local, count in (("to", 3), ("later", 2), ("never", 1)):
            await submit(node.addresses["smtp"][0], count, f"{local}@b.example")
        await settled(node, 12)
        metrics = await scrape(node)
        queue = node.queues.scheduled["b.example"]
    site = f"mx_list:{to}"
    ready = f"smtp_client:out->{site}@smtp_client"
    for name, number in (("delivered", 3), ("transfail", 2), ("fail", 1)):
        assert metrics[f"total_messages_{name}"] == {"smtp_client": number, ready: number}
        assert metrics[f"total_messages_{name}_by_provider"] == {site: number}
        assert metrics[f"total_messages_{name}_by_provider_and_source"] == [
            {"provider": site, "source": "out", "pool": "pool", "@": number}
        ]
    assert queue.last_error is not None
    assert queue.last_error[1] in ("450 4.2.1 not now", "550 5.1.1 nobody here")
    outcomes = {kind: count for kind, count in metrics["kumo_py_outcomes_total"].items() if count}
    assert outcomes == {"Reception": 6, "Delivery": 3, "TransientFailure": 2, "Bounce": 1}
    assert metrics["total_connection_count"]["esmtp_listener"] == 3
    assert metrics["total_connection_count"][ready] >= 1
    assert metrics["total_messages_received"] == {
        "esmtp_listener": 6,
        "esmtp_listener:127.0.0.1:0": 6,
        "http_listener": 0,
    }
    assert metrics["scheduled_count"] == {"b.example": 2}
    assert (metrics["scheduled_count_total"], metrics["message_count"]) == (2, 2)
    assert metrics["kumo_py_spool_messages"] == {"data": 2, "meta": 2}
    assert metrics.timed("kumo_py_delivery_seconds") == 3
    # Two of them came back to their queue.
    for name, count in (
        ("message_save_latency", 8),
        ("queue_resolve_latency", 1),
        ("ready_queue_insert_latency", 6),
        # of transactions, the first and then each 16th
        ("smtpsrv_transaction_duration", 1),
        ("smtpsrv_read_data_duration", 1),
        ("smtpsrv_process_data_duration", 1),
    ):
        assert metrics.timed(name) == count, name
    assert metrics.timed("queue_insert_latency") == 8
    assert metrics.timed("deliver_message_latency_rollup", "smtp_client") == 6
    assert metrics.timed("log_submit_latency", f"dir-{tmp_path / 'logs'}") == 12
    assert metrics["user_lua_latency"]["tagging"]["count"] == 6


async def test_refusals_count_by_listener_and_in_total(tmp_path: Path) -> None:
    refusing = "kumo.on('smtp_server_mail_from', function() kumo.reject(550, 'go away') end)"
    async with peer() as to, running(relay(tmp_path, to, more=refusing)) as node:
        with pytest.raises(AssertionError):
            await submit(node.addresses["smtp"][0])
        metrics = await scrape(node)
    found = metrics["smtp_server_rejections"]
    assert found["total"] == found["127.0.0.1:0"] == metrics["kumo_py_outcomes_total"]["Rejection"] >= 1


async def test_throttled_messages_count_by_queue(tmp_path: Path) -> None:
    async with peer() as to, running(relay(tmp_path, to, queue="max_message_rate = '1/h'")) as node:
        await submit(node.addresses["smtp"][0], 3)
        await settled(node, 6)
        metrics = await scrape(node)
    assert metrics["delayed_due_to_message_rate_throttle"] == {"b.example": 2}
    assert metrics["delayed_due_to_ready_queue_full"] is None
    assert metrics["ready_full"] == dict.fromkeys(metrics["ready_full"], 0)


async def test_full_ready_queue(tmp_path: Path) -> None:
    full = "max_ready = 1, max_connection_rate = '1/h', "
    async with peer() as to, running(relay(tmp_path, to, path=full)) as node:
        node.queues.limits.admit_connection = lambda ready: 3600.0  # type: ignore[method-assign]
        await submit(node.addresses["smtp"][0], 3)
        metrics = await scrape(node)
    assert metrics["delayed_due_to_ready_queue_full"] == {"b.example": 2}
    assert metrics["ready_full"]["smtp_client"] == 2
    assert metrics["ready_count"]["smtp_client"] == 1
    assert (metrics["message_count"], metrics["message_data_resident_count"]) == (3, 1)
    assert metrics["message_meta_resident_count"] == 1


async def test_deliveries_to_maildirs(tmp_path: Path) -> None:
    maildir = f"""
      kumo.on('get_queue_config', function()
        return kumo.make_queue_config {{ protocol = {{ maildir_path = '{tmp_path}/mail' }} }}
      end)"""
    text = relay_policy(tmp_path, "127.0.0.1:9")
    head, middle, tail = text.partition("kumo.on('get_queue_config'")
    listener = "kumo.on('pre_init', function() kumo.start_http_listener { listen = '127.0.0.1:0' } end)"
    async with running(write(tmp_path, head + listener + maildir + middle + tail)) as node:
        await submit(node.addresses["smtp"][0], 2)
        metrics = await scrape(node)
    assert metrics["total_messages_delivered"] == {"maildir": 2}
    assert metrics.timed("deliver_message_latency_rollup", "maildir") == 2
    assert metrics["total_messages_delivered_by_provider"] is None


async def test_engine_of_a_spool(tmp_path: Path) -> None:
    pytest.importorskip("rocksdict")
    options = "kind = 'RocksDB', min_free_space = 0, min_free_inodes = 0"
    async with peer() as to, running(relay(tmp_path, to, spool=options)) as node:
        await submit(node.addresses["smtp"][0], 1, "later@b.example")
        metrics = await scrape(node)
    paths = {str(tmp_path / name) for name in ("data", "meta")}
    assert metrics["rocks_spool_mem_table_total"].keys() == paths
    assert min(metrics["rocks_spool_mem_table_total"].values()) > 0
    assert (
        metrics["rocks_spool_write_stopped"]
        == metrics["rocks_spool_load_shed_active"]
        == dict.fromkeys(paths, 0)
    )


async def test_labels_of_timers_do_not_grow_for_ever(tmp_path: Path) -> None:
    labels = (
        "kumo.on('pre_init', function() for i = 1, 600 do kumo.time.start_timer('t' .. i):done() end end)"
    )
    async with peer() as to, running(relay(tmp_path, to, more=labels)) as node:
        found = (await scrape(node))["user_lua_latency"]
    assert len(found) == MOST_LABELS + 1
    assert found["(others)"]["count"] == 600 - MOST_LABELS


async def test_policy_that_is_only_validated_has_metrics_too(tmp_path: Path) -> None:
    asking = "kumo.on('init', function() assert(kumo.prometheus_metrics().lua_count.value == 1) end)"
    node = Node(write(tmp_path, f"local kumo = require 'kumo'\n{asking}"))
    try:
        assert await node.validate()
    finally:
        node.policy.close()


# -- what there is -------------------------------------------------------------------------------------------------
async def test_every_metric_is_there_as_it_is_described(tmp_path: Path) -> None:
    async with peer() as to, running(relay(tmp_path, to)) as node:
        await until(lambda: node.ready)
        async with client(node) as http:
            text = (await http.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    found = {name: family.type for name, family in families.items()}
    # The parser takes "_total" off the names of counters.
    described = {
        metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name: metric.kind
        for metric in METRICS
    }
    assert found == described
    for metric in METRICS:
        family = families[metric.name if metric.name in families else metric.name.removesuffix("_total")]
        assert family.documentation == metric.help
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), sample
        if metric.kind == "histogram" and family.samples:
            bounds = [sample.labels["le"] for sample in family.samples if "le" in sample.labels]
            assert [float(bound) for bound in bounds[: len(metric.bounds)]] == list(metric.bounds)


def test_metadata_in_kumomtas_format() -> None:
    result = CliRunner().invoke(main, ["serve", "--dump-metric-metadata"])
    assert result.exit_code == 0, result.output
    found = {metric["name"]: metric for metric in orjson.loads(result.stdout)}
    assert list(found) == sorted(found)
    assert found["timeq_pop_tardiness"] == {
        "name": "timeq_pop_tardiness",
        "help": "Seconds that messages leave the timer wheel late",
        "doc": None,
        "metric_type": "Histogram",
        "label_names": [],
        "buckets": [0.25, 0.5, 1.0, 2.5, 3.0, 5.0, 10.0, 15.0],
        "pruning": "NonPruning",
    }
    assert found["ready_full"]["label_names"] == ["service"]
    assert found["ready_full"]["pruning"] == "Pruning"


async def test_list_of_caches(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["serve", "--dump-lruttl-caches"])
    assert result.exit_code == 0, result.output
    listed = {cache["name"]: cache["capacity"] for cache in orjson.loads(result.stdout)}
    async with peer() as to, running(relay(tmp_path, to)) as node:
        await scrape(node)
        caches = every_cache(node)
    assert {cache.name: cache.capacity for cache in caches} == listed


async def test_sizes_of_caches(tmp_path: Path) -> None:
    async with peer() as to, running(relay(tmp_path, to)) as node:
        await submit(node.addresses["smtp"][0])
        metrics = await scrape(node)
    assert metrics["lruttl_cache_size"]["egress_source_sources"] == 1
    assert metrics["lruttl_populated_count"]["egress_source_sources"] == 1
    assert metrics["lruttl_miss_count"]["egress_source_sources"] >= 1
