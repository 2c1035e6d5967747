"""Egress sources: addresses, ports, proxies, and what follows when one of them cannot be used."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from proxies import HaProxy, Socks5
from queue_harness import constant
from smtp_out_harness import Server, egress, routed_to, start_delivery

from kumo_py.core.duration import Duration
from kumo_py.core.key_source import KeySource
from kumo_py.core.options import OptionError, convert
from kumo_py.limits.spec import ThrottleSpec
from kumo_py.queue.config import EgressPath, EgressPool, EgressSource, PoolEntry, Suspension, Threshold
from kumo_py.queue.source_health import Ailment

if TYPE_CHECKING:
    from queue_harness import Record
    from smtp_out_harness import DeliveryNode, Peer
    from trio.testing import MockClock

ELSEWHERE = "192.0.2.9"
"""An address that no machine has (RFC 5737)."""
FIVE_MINUTES = Suspension(duration=Duration(300))


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def sources(*several: EgressSource, **weights: int) -> dict[str, Any]:
    """A pool of these sources."""
    known = {source.name: source for source in several}
    entries = [PoolEntry(name=name, weight=weights.get(name, 1)) for name in known]
    return {
        "get_egress_pool": constant(EgressPool(name="p", entries=entries)),
        "get_egress_source": known.__getitem__,
    }


async def start(
    clock: MockClock,
    nursery: trio.Nursery,
    server: Server,
    *several: EgressSource,
    path: EgressPath | None = None,
    zone: str | None = None,
    **queue: Any,
) -> DeliveryNode:
    options: dict[str, Any] = {} if zone is None else {"zone": zone}
    return await start_delivery(
        clock,
        nursery,
        server,
        path=path,
        queue=routed_to(server.mx, egress_pool="p", **queue),
        handlers=sources(*several),
        **options,
    )


async def one_record(
    clock: MockClock, nursery: trio.Nursery, server: Server, source: EgressSource, **options: Any
) -> Record:
    node = await start(clock, nursery, server, source, **options)
    await node.send()
    await node.done(1)
    return node.log.records[0]


# -- HAProxy ---------------------------------------------------------------------------------------------------
@pytest.mark.option("make_egress_source.ha_proxy_server")
@pytest.mark.option("make_egress_source.ha_proxy_source_address")
async def test_haproxy(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server, proxy = Server(), HaProxy()
    await nursery.start(proxy.serve)
    source = EgressSource(name="s", ha_proxy_server=proxy.address, ha_proxy_source_address="127.0.0.8")
    record = await one_record(mock_clock, nursery, server, source)
    assert record.kind == "Delivery"
    (header,) = proxy.headers
    assert (header.source, header.destination) == (("127.0.0.8", 0), ("127.0.0.1", server.port))
    seen = record.context.source_address
    assert seen is not None
    assert (seen.address, seen.server, seen.protocol) == ("127.0.0.8:0", proxy.address, "haproxy")
    assert record.context.peer is not None
    assert record.context.peer.addr == server.address


async def test_a_listener_of_ours_believes_the_header(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    from kumo_py.proto.proxy import parse_proxy_header

    headers = []

    async def behind_haproxy(peer: Peer) -> None:
        await peer._receive()
        header = parse_proxy_header(peer._buffer)
        assert header is not None
        headers.append(header)
        peer._buffer = peer._buffer[header.consumed :]
        await peer.greet()
        await peer.converse()

    server = Server(behind_haproxy)
    source = EgressSource(
        name="s", ha_proxy_server=server.address, ha_proxy_source_address="127.0.0.8", remote_port=2525
    )
    record = await one_record(mock_clock, nursery, server, source)
    assert record.kind == "Delivery"
    assert headers[0].destination == ("127.0.0.1", 2525)


# -- SOCKS 5 ---------------------------------------------------------------------------------------------------
@pytest.mark.option("make_egress_source.socks5_proxy_server")
@pytest.mark.option("make_egress_source.socks5_proxy_source_address")
async def test_socks5(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server, proxy = Server(), Socks5()
    await nursery.start(proxy.serve)
    source = EgressSource(
        name="s", socks5_proxy_server=proxy.address, socks5_proxy_source_address="127.0.0.8"
    )
    record = await one_record(mock_clock, nursery, server, source)
    assert record.kind == "Delivery"
    assert proxy.requests == [(2, "127.0.0.8", 0), (1, "127.0.0.1", server.port)]
    seen = record.context.source_address
    assert seen is not None
    assert seen.address.startswith("127.0.0.8:")
    assert not seen.address.endswith(":0")
    assert (seen.server, seen.protocol) == (proxy.address, "socks5")


@pytest.mark.option("make_egress_source.socks5_proxy_username")
@pytest.mark.option("make_egress_source.socks5_proxy_password")
@pytest.mark.parametrize("password", ["secret", "wrong"])
async def test_socks5_with_a_login(mock_clock: MockClock, nursery: trio.Nursery, password: str) -> None:
    server, proxy = Server(), Socks5(login=(b"me", b"secret"))
    await nursery.start(proxy.serve)
    source = EgressSource(
        name="s",
        socks5_proxy_server=proxy.address,
        socks5_proxy_source_address="127.0.0.8",
        socks5_proxy_username="me",
        socks5_proxy_password=KeySource(key_data=password),
    )
    record = await one_record(mock_clock, nursery, server, source)
    assert proxy.logins == [(b"me", password.encode())]
    if password == "secret":
        assert record.kind == "Delivery"
    else:
        assert record.kind == "TransientFailure"
        assert f"via socks5 {proxy.address}: it does not accept the username and password" in record.content


async def test_a_password_that_cannot_be_read(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    source = EgressSource(
        name="s",
        socks5_proxy_server="127.0.0.1:1",
        socks5_proxy_source_address="127.0.0.8",
        socks5_proxy_username="me",
        socks5_proxy_password=KeySource(path="/nowhere/password"),
    )
    record = await one_record(mock_clock, nursery, Server(), source)
    assert record.kind == "TransientFailure"
    assert "reading socks5_proxy_password: " in record.content
    assert "/nowhere/password" in record.content


async def test_ipv6_through_a_proxy(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    try:
        proxy = Socks5("::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    server = Server()
    server._socket.close()
    server._socket = socket.create_server(("::1", 0), family=socket.AF_INET6)
    server.host, server.port = "::1", server._socket.getsockname()[1]
    await nursery.start(proxy.serve)
    source = EgressSource(name="s", socks5_proxy_server=proxy.address, socks5_proxy_source_address="::1")
    record = await one_record(mock_clock, nursery, server, source)
    assert record.kind == "Delivery"
    assert proxy.requests[1] == (1, "::1", server.port)
    assert record.context.source_address is not None
    assert record.context.source_address.address.startswith("[::1]:")


# -- which proxy, from where -----------------------------------------------------------------------------------
async def test_a_proxy_is_found_by_name_and_its_addresses_are_tried_in_turn(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server, proxy = Server(), Socks5()
    await nursery.start(proxy.serve)
    zone = "$ORIGIN test.\nb MX 1 b\nproxy A 127.0.0.77\nproxy A 127.0.0.1\nproxy AAAA ::1\n"
    source = EgressSource(
        name="s",
        socks5_proxy_server=f"proxy.test:{proxy.port}",
        socks5_proxy_source_address="127.0.0.8",
        source_address="127.0.0.5",
    )
    record = await one_record(mock_clock, nursery, server, source, zone=zone)
    assert record.kind == "Delivery"
    assert proxy.clients == ["127.0.0.5"]  # source_address is for the way to the proxy
    assert record.context.source_address is not None
    assert record.context.source_address.server == proxy.address


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"socks5_proxy_server": "nowhere.test:1080"}, "looking up socks5_proxy_server nowhere.test:1080"),
        ({"socks5_proxy_server": "127.0.0.1:99999"}, "has no valid port"),
        (
            {"socks5_proxy_server": "[::1]:1080", "source_address": "127.0.0.5"},
            "it has no address of the IP version of source_address 127.0.0.5",
        ),
        (
            {"socks5_proxy_server": "127.0.0.1:1", "socks5_proxy_source_address": "::1"},
            "socks5_proxy_source_address ::1 is of the other IP version",
        ),
        (
            {"source_address": "::1", "socks5_proxy_source_address": None},
            "source_address ::1 is of the other IP",
        ),
    ],
)
async def test_ways_that_lead_nowhere(
    mock_clock: MockClock, nursery: trio.Nursery, options: dict[str, Any], text: str
) -> None:
    source = EgressSource(**{"name": "s", "socks5_proxy_source_address": "127.0.0.8", **options})
    record = await one_record(mock_clock, nursery, Server(), source)
    assert record.kind == "TransientFailure"
    assert text in record.content
    assert record.content.startswith(
        "KumoMTA internal: failed to connect to any candidate hosts: connect to "
    )


async def test_half_a_proxy_is_none(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    """As in KumoMTA, both the server and the address to send from must be given."""
    server = Server()
    record = await one_record(
        mock_clock, nursery, server, EgressSource(name="s", socks5_proxy_server="127.0.0.1:1")
    )
    assert record.kind == "Delivery"


@pytest.mark.option("make_egress_path.connect_timeout")
async def test_a_proxy_that_does_not_answer(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    async def silent(peer: Peer) -> None:
        await peer.line()

    proxy = Server(silent)
    await nursery.start(proxy.serve)
    source = EgressSource(
        name="s", socks5_proxy_server=proxy.address, socks5_proxy_source_address="127.0.0.8"
    )
    path = egress(connect_timeout=Duration(7))
    record = await one_record(mock_clock, nursery, Server(), source, path=path)
    assert f"via socks5 {proxy.address}: timed out after 7s" in record.content
    assert 7.0 <= record.at < 8.0


@pytest.mark.parametrize("option", ["ha_proxy_server", "socks5_proxy_server"])
@pytest.mark.parametrize("value", ["127.0.0.1", "a b:80", "host:port", "", ":80"])
def test_a_proxy_has_a_port(option: str, value: str) -> None:
    with pytest.raises(OptionError, match=option):
        convert({"name": "s", option: value}, EgressSource, "kumo.make_egress_source")


# -- sources that rest -----------------------------------------------------------------------------------------
def unplumbed(name: str = "bad", rule: Suspension | None = FIVE_MINUTES) -> EgressSource:
    return EgressSource(name=name, source_address=ELSEWHERE, suspend_when_unplumbed=rule)


@pytest.mark.option("make_egress_source.suspend_when_unplumbed")
async def test_an_unplumbed_source_is_left_to_rest(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    node = await start(
        mock_clock, nursery, Server(), unplumbed(), EgressSource(name="good"), retry_interval=Duration(10)
    )
    for _ in range(10):
        await node.send()
    await node.log.reach(11)  # one was tried on the bad source first
    kinds = node.log.kinds
    assert (kinds.count("Delivery"), kinds.count("TransientFailure")) == (10, 1)
    (failure,) = node.log.of("TransientFailure")
    assert "source_address is not an address of this machine" in failure.content
    assert f"bind {ELSEWHERE}" in failure.content
    assert {record.context.egress_source for record in node.log.of("Delivery")} == {"good"}
    health = node.queues.source_health
    assert health.resting == {("bad", "Unplumbed"): 1}
    assert health.suspensions == {("bad", "Unplumbed"): 1}
    assert 280 < health.rests_for("bad") <= 300
    await trio.sleep(310)
    assert health.resting == {("bad", "Unplumbed"): 0}
    await node.send()
    await node.send()
    await node.log.reach(14)
    assert health.suspensions == {("bad", "Unplumbed"): 2}
    await node.stop()


async def test_without_a_rule_failures_are_counted_only(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    node = await start(mock_clock, nursery, Server(), unplumbed(rule=None))
    for _ in range(3):
        await node.send()
    await node.done(3)
    assert node.log.kinds == ["TransientFailure"] * 3
    assert node.queues.source_health.failures == {("bad", "Unplumbed"): 3}
    assert node.queues.source_health.bind_failures == 3
    assert node.queues.source_health.proxy_failures == 0
    assert [ready.opened for ready in node.queues.ready.values()] == [0]
    assert node.queues.source_health.resting == {}


async def test_when_all_sources_rest_messages_wait(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    node = await start(mock_clock, nursery, Server(), unplumbed())
    await node.send()
    await node.log.reach(1)
    msg = await node.send()
    await node.done(2)
    record = node.log.records[1]
    assert (record.id, record.kind, record.code, str(record.response.enhanced)) == (
        msg.id,
        "TransientFailure",
        451,
        "4.4.4",
    )
    assert "pool=`p` are eligible for selection at this time" in record.content
    assert msg.attempts == 1


async def test_what_is_placed_while_a_source_begins_to_rest_does_not_lie_there(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = await start(mock_clock, nursery, Server(), EgressSource(name="bad"), EgressSource(name="good"))
    await node.send()
    await node.log.reach(1)
    (ready,) = [queue for queue in node.queues.ready.values() if queue.source.name == "bad"]
    node.queues.source_health.report(unplumbed(), Ailment.UNPLUMBED)
    await trio.sleep(0.1)
    msg = node.make_message()
    await node.spool.save(msg)
    assert ready.insert(msg)  # as if it had been on its way
    await node.log.reach(2)
    assert node.log.records[1].context.egress_source == "good"
    assert node.log.records[1].at < 10
    await node.stop()


async def test_a_threshold_tolerates_failures(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    rule = Suspension(trigger=Threshold(Threshold=ThrottleSpec.parse("3/1m")), duration=Duration(300))
    node = await start(mock_clock, nursery, Server(), unplumbed(rule=rule))
    health = node.queues.source_health
    rests = []
    for wait in (100, 1, 1, 1):  # the first one is too old when the others come
        await node.send()
        await trio.sleep(wait)
        rests.append(health.rests_for("bad") > 0)
    assert rests == [False, False, False, True]
    await node.stop()


@pytest.mark.option("make_egress_source.suspend_when_proxy_unhealthy")
@pytest.mark.parametrize("trouble", ["refused", "bind", "destination"])
async def test_an_unhealthy_proxy(mock_clock: MockClock, nursery: trio.Nursery, trouble: str) -> None:
    if trouble == "refused":
        address = f"127.0.0.1:{unused_port()}"
    else:
        proxy = Socks5(bind=1) if trouble == "bind" else Socks5(connect=5)
        await nursery.start(proxy.serve)
        address = proxy.address
    bad = EgressSource(
        name="bad",
        socks5_proxy_server=address,
        socks5_proxy_source_address="127.0.0.8",
        suspend_when_proxy_unhealthy=FIVE_MINUTES,
    )
    node = await start(mock_clock, nursery, Server(), bad)
    await node.send()
    await node.done(1)
    text = node.log.records[0].content
    health = node.queues.source_health
    if trouble == "destination":  # not the proxy's fault
        assert "it cannot connect 127.0.0.8 to 127.0.0.1" in text
        assert "connection refused" in text
        assert not health.failures
    else:
        assert "every attempt failed because the proxy cannot" in text
        assert health.resting == {("bad", "ProxyUnhealthy"): 1}
        assert health.proxy_failures == (trouble == "refused")


async def test_what_lies_in_the_ready_queue_of_a_suspended_source_goes_to_others(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    bad = EgressSource(
        name="bad",
        socks5_proxy_server=f"127.0.0.1:{unused_port()}",
        socks5_proxy_source_address="127.0.0.8",
        suspend_when_proxy_unhealthy=FIVE_MINUTES,
    )
    server = Server()
    node = await start_delivery(
        mock_clock,
        nursery,
        server,
        queue=routed_to(server.mx, egress_pool="p"),
        handlers=sources(bad, EgressSource(name="good"), bad=1000),
    )
    queue = await node.queues.resolve("b.test")
    messages = [node.make_message() for _ in range(5)]
    await node.spool.save(*messages)
    async with trio.open_nursery() as together:
        for msg in messages:
            together.start_soon(node.queues.insert, msg, queue)
    await node.log.reach(5)
    assert node.log.kinds.count("TransientFailure") == 1
    assert [record.context.egress_source for record in node.log.of("Delivery")] == ["good"] * 4
    # The fifth one is tried again, and from the same source.
    await node.done(6)
    assert node.log.kinds.count("TransientFailure") == 2
    assert node.log.records[5].attempts == 1
