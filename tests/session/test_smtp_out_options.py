"""Options of paths and queues whose effect no other scenario shows."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trio
from queue_harness import constant, start_sender
from smtp_out_harness import Server, egress, start_delivery

from kumo_py.core.duration import Duration
from kumo_py.queue.config import QueueConfig

if TYPE_CHECKING:
    from smtp_out_harness import Peer
    from trio.testing import MockClock

    from kumo_py.queue.config import IpStrategy


@pytest.mark.option("make_egress_path.starttls_timeout")
async def test_starttls_timeout(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    async def silent(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.line()
        await peer.line()

    path = egress(starttls_timeout=Duration(11), enable_tls="Required")
    node = await start_delivery(mock_clock, nursery, Server(silent), path=path)
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert record.kind == "TransientFailure"
    assert "timed out after 11s waiting for STARTTLS" in record.content
    assert record.at >= 11


@pytest.mark.option("make_egress_path.ip_lookup_strategy")
@pytest.mark.parametrize(
    ("strategy", "delivered_by"),
    [
        ("Ipv4AndIpv6", "127.0.0.1"),
        ("Ipv4Only", "127.0.0.1"),
        ("Ipv6Only", None),
        ("Ipv4ThenIpv6", "127.0.0.1"),
        ("Ipv6ThenIpv4", None),
    ],
)
async def test_ip_lookup_strategy(
    mock_clock: MockClock, nursery: trio.Nursery, strategy: IpStrategy, delivered_by: str | None
) -> None:
    zone = "$ORIGIN test.\nb MX 10 mx.b\nmx.b A 127.0.0.1\nmx.b AAAA ::1\n"
    server = Server()  # IPv4 only
    path = egress(ip_lookup_strategy=strategy, smtp_port=server.port)
    node = await start_delivery(mock_clock, nursery, server, queue=QueueConfig(), path=path, zone=zone)
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    if delivered_by is None:
        assert record.kind == "TransientFailure"
        assert "::1" in record.content
        assert "127.0.0.1" not in record.content
    else:
        assert record.kind == "Delivery"
        assert record.context.peer is not None
        assert record.context.peer.addr == delivered_by


@pytest.mark.option("make_egress_path.provider_name")
async def test_the_provider_is_in_the_record(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    node = await start_delivery(mock_clock, nursery, Server(), path=egress(provider_name="big"))
    await node.send()
    await node.done(1)
    assert node.log.records[0].context.provider_name == "big"


@pytest.mark.option("make_queue_config.provider_name")
async def test_the_queues_provider_is_in_the_record_of_what_finds_no_way(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node, _ = await start_sender(
        nursery,
        {"get_queue_config": constant(QueueConfig(provider_name="big"))},
        failures={"b.test": "SERVFAIL"},
    )
    await node.send()
    (record,) = node.log.records
    assert (record.kind, record.context.provider_name) == ("TransientFailure", "big")


@pytest.mark.option("make_queue_config.reap_interval")
async def test_reap_interval(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node, _ = await start_sender(
        nursery, {"get_queue_config": constant(QueueConfig(reap_interval=Duration(100)))}
    )
    await node.send()
    await trio.sleep(95)
    assert list(node.queues.scheduled) == ["b.test"]
    await trio.sleep(20)
    assert not node.queues.scheduled


@pytest.mark.option("make_egress_path.aggressive_connection_opening")
@pytest.mark.parametrize("aggressive", [False, True])
async def test_a_session_that_comes_too_late_may_wait_for_the_next_message(
    mock_clock: MockClock, nursery: trio.Nursery, aggressive: bool
) -> None:
    server = Server()
    path = egress(aggressive_connection_opening=aggressive, idle_timeout=Duration(10))
    node = await start_delivery(mock_clock, nursery, server, path=path)
    await node.send()
    await trio.sleep(15)
    (ready,) = node.queues.ready.values()
    assert ready.connections == 0
    nursery.start_soon(node.delivery.run, ready)
    await trio.sleep(1)
    assert ready.idle_connections == aggressive
    assert len(server.peers) == 1  # it has nothing to connect for yet
    await node.send()
    await node.done(2)
    assert node.log.kinds == ["Delivery", "Delivery"]


@pytest.mark.parametrize("strategy", ["Ipv6Only", "Ipv6ThenIpv4"])
async def test_ipv6_is_used(mock_clock: MockClock, nursery: trio.Nursery, strategy: IpStrategy) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 loopback here")
    zone = "$ORIGIN test.\nb MX 10 mx.b\nmx.b A 127.0.0.1\nmx.b AAAA ::1\n"
    server = Server()
    server._socket.close()
    server._socket = listener
    server.host, server.port = "::1", listener.getsockname()[1]
    path = egress(ip_lookup_strategy=strategy, smtp_port=server.port)
    node = await start_delivery(mock_clock, nursery, server, queue=QueueConfig(), path=path, zone=zone)
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert record.kind == "Delivery"
    assert record.context.source_address is not None
    assert record.context.source_address.address.startswith("[::1]:")
