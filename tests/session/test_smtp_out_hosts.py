"""Which hosts are tried, in which order, and what follows when none of them will do."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from queue_harness import constant
from smtp_out_harness import Server, egress, routed_to, start_delivery, usual

from kumo_py.core.cidr import CidrSet
from kumo_py.core.duration import Duration
from kumo_py.queue.config import EgressSource, NamedHost, QueueConfig

if TYPE_CHECKING:
    from smtp_out_harness import Peer
    from trio.testing import MockClock


def unused_port() -> int:
    """A loopback port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def drop(peer: Peer) -> None:
    """Close as soon as a message has come."""
    await peer.greet()
    await peer.line()


async def refuse(peer: Peer) -> None:
    await peer.send("554 5.7.1 go away")
    await peer.line()


# -- mx_list -------------------------------------------------------------------------------------------
@pytest.mark.option("make_queue_config.protocol.smtp.mx_list")
@pytest.mark.option("make_egress_path.smtp_port")
@pytest.mark.option("make_egress_source.remote_port")
@pytest.mark.parametrize(
    "form", ["[ip]:port", "ip:port", "name:port", "name and addr", "smtp_port", "remote_port"]
)
async def test_forms_of_mx_list(mock_clock: MockClock, nursery: trio.Nursery, form: str) -> None:
    server = Server()
    await nursery.start(server.serve)
    port = server.port
    options: dict[str, Any] = {}
    handlers: dict[str, Any] = {}
    host: str | NamedHost
    match form:
        case "[ip]:port":
            host = f"[127.0.0.1]:{port}"
        case "ip:port":
            host = f"127.0.0.1:{port}"
        case "name:port":
            host = f"mx.b.test:{port}"
        case "name and addr":
            host = NamedHost(name="some.name.test", addr=f"127.0.0.1:{port}")
        case "smtp_port":
            host, options = "mx.b.test", {"smtp_port": port}
        case _:
            host, options = "mx.b.test", {"smtp_port": 1}
            from kumo_py.queue.config import EgressPool, PoolEntry

            handlers = {
                "get_egress_pool": constant(EgressPool(name="p", entries=[PoolEntry(name="s")])),
                "get_egress_source": constant(EgressSource(name="s", remote_port=port)),
            }
    queue = routed_to(host, **({"egress_pool": "p"} if handlers else {}))
    node = await start_delivery(mock_clock, nursery, queue=queue, path=egress(**options), handlers=handlers)
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert record.kind == "Delivery"
    assert record.context.peer is not None
    name = {"[ip]:port": "[127.0.0.1]", "ip:port": "127.0.0.1", "name and addr": "some.name.test"}
    assert record.context.peer.name == name.get(form, "mx.b.test")


async def test_ipv6(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        listener.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 loopback here")
    port = listener.getsockname()[1]
    listener.listen()
    server = Server()
    server._socket.close()
    server._socket = listener
    await nursery.start(server.serve)
    node = await start_delivery(mock_clock, nursery, queue=routed_to(f"[::1]:{port}"))
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert record.kind == "Delivery"
    assert record.context.peer is not None
    assert record.context.peer.addr == f"[::1]:{port}"


@pytest.mark.option("make_egress_source.source_address")
@pytest.mark.option("make_egress_source.ehlo_domain")
@pytest.mark.option("make_egress_pool.name")
@pytest.mark.option("make_egress_source.name")
async def test_the_source_address_is_bound(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    from kumo_py.queue.config import EgressPool, PoolEntry

    server = Server()
    handlers = {
        "get_egress_pool": constant(EgressPool(name="p", entries=[PoolEntry(name="s")])),
        "get_egress_source": constant(
            EgressSource(name="s", source_address="127.0.0.9", ehlo_domain="s.test")
        ),
    }
    queue = routed_to(server.mx, egress_pool="p")
    node = await start_delivery(mock_clock, nursery, server, queue=queue, handlers=handlers)
    await node.send()
    await node.done(1)
    context = node.log.records[0].context
    assert context.source_address is not None
    assert context.source_address.address.startswith("127.0.0.9:")
    assert (context.egress_source, context.egress_pool) == ("s", "p")
    assert server.commands[0][0] == "EHLO s.test"


async def test_a_source_address_that_is_not_here(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    from kumo_py.queue.config import EgressPool, PoolEntry

    server = Server()
    handlers = {
        "get_egress_pool": constant(EgressPool(name="p", entries=[PoolEntry(name="s")])),
        "get_egress_source": constant(EgressSource(name="s", source_address="192.0.2.9")),
    }
    queue = routed_to(server.mx, egress_pool="p")
    node = await start_delivery(mock_clock, nursery, server, queue=queue, handlers=handlers)
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert record.kind == "TransientFailure"
    assert "bind 192.0.2.9" in record.content


def test_a_source_address_is_an_address() -> None:
    from kumo_py.core.options import OptionError, convert

    with pytest.raises(OptionError, match="source_address"):
        convert({"name": "s", "source_address": "mail.example.com"}, EgressSource, "kumo.make_egress_source")


# -- several hosts ----------------------------------------------------------------------------------------
async def test_the_next_host_is_tried_without_a_record(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    bad, good = Server(refuse), Server()
    nobody = f"[127.0.0.1]:{unused_port()}"
    queue = routed_to(nobody, bad.mx, good.mx)
    node = await start_delivery(mock_clock, nursery, bad, good, queue=queue)
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert (record.kind, record.attempts) == ("Delivery", 0)
    assert record.context.peer is not None
    assert record.context.peer.addr == good.address
    assert len(bad.peers) == 1


async def test_all_hosts_are_named_when_none_answers(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    bad = Server(refuse)
    port = unused_port()
    node = await start_delivery(mock_clock, nursery, bad, queue=routed_to(f"[127.0.0.1]:{port}", bad.mx))
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert (record.kind, record.code, record.context.peer) == ("TransientFailure", 400, None)
    start = "KumoMTA internal: failed to connect to any candidate hosts: "
    assert record.content.startswith(start)
    for part in (f"127.0.0.1:{port}", "Connection refused", bad.address, "554 5.7.1 go away"):
        assert part in record.content


async def test_a_host_that_does_not_resolve_is_left_out(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server()
    queue = routed_to("nowhere.example", server.mx)
    node = await start_delivery(
        mock_clock, nursery, server, queue=queue, failures={"nowhere.example": "SERVFAIL"}
    )
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]


async def test_mx_hosts_in_preference_order(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    zone = "$ORIGIN test.\nb MX 20 second.b\nb MX 10 first.b\nfirst.b A 127.0.0.2\nsecond.b A 127.0.0.1\n"
    server = Server()  # on 127.0.0.1
    node = await start_delivery(
        mock_clock, nursery, server, queue=QueueConfig(), path=egress(smtp_port=server.port), zone=zone
    )
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert record.kind == "Delivery"
    assert record.context.peer is not None
    assert (record.context.peer.name, record.context.peer.addr) == ("second.b.test", "127.0.0.1")
    assert record.site == "unspecified->(first|second).b.test@smtp_client"


STRATEGIES = {
    # Message 1 is lost to host 1. Where do 2 and 3 go?
    "ConnectNextHost": (1, 2),
    "ReconnectSameHost": (3, 0),
    "TerminateSession": (3, 0),
}


@pytest.mark.option("make_egress_path.reconnect_strategy")
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_reconnect_strategies(mock_clock: MockClock, nursery: trio.Nursery, strategy: str) -> None:
    first, second = Server(drop), Server()
    path = egress(reconnect_strategy=strategy)
    node = await start_delivery(mock_clock, nursery, first, second, path=path)
    for _ in range(3):
        await node.send()
    await node.done(3)
    at_first, at_second = STRATEGIES[strategy]
    assert len(first.peers) == at_first
    assert len(second.messages) == at_second
    assert node.log.kinds.count("TransientFailure") == at_first
    assert {record.id for record in node.log.records} == {record.id for record in node.log.records[:3]}
    sessions = {record.context.session_id for record in node.log.records}
    assert len(sessions) == (3 if strategy == "TerminateSession" else 1)


@pytest.mark.option("make_egress_path.consecutive_connection_failures_before_delay")
async def test_too_many_failed_connections_delay_the_whole_queue(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    path = egress(consecutive_connection_failures_before_delay=2)
    queue = routed_to(f"[127.0.0.1]:{unused_port()}")
    node = await start_delivery(mock_clock, nursery, path=path, queue=queue)
    messages = [await node.send(saved=False) for _ in range(10)]
    await node.done(10)
    texts = [record.content for record in node.log.records]
    assert sum(text.startswith("KumoMTA internal: failed to connect") for text in texts) == 3
    bulk = [
        record for record in node.log.records if record.content.startswith("KumoMTA internal: bulk delay")
    ]
    assert len(bulk) == 7
    assert {(record.kind, record.code, str(record.response.enhanced)) for record in bulk} == {
        ("TransientFailure", 451, "4.4.1")
    }
    assert {msg.attempts for msg in messages} == {1}
    assert all(node.in_spool(msg) for msg in messages)


async def test_a_success_resets_the_count_of_failures(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(refuse, refuse, usual(), refuse, refuse, usual())
    path = egress(consecutive_connection_failures_before_delay=2, max_deliveries_per_connection=1)
    node = await start_delivery(mock_clock, nursery, server, path=path)
    for _ in range(6):
        await node.send()
        await trio.sleep(0.1)
    await node.done(6)
    assert node.log.kinds == ["TransientFailure", "TransientFailure", "Delivery"] * 2


# -- nobody to connect to --------------------------------------------------------------------------------------
@pytest.mark.option("make_egress_path.prohibited_hosts")
@pytest.mark.parametrize(
    ("recipient", "zone", "path", "code", "enhanced", "text"),
    [
        ("to@null.test", None, {}, 556, "5.1.10", "Recipient address has a null MX"),
        (
            "to@b.test",
            None,
            {"prohibited_hosts": CidrSet(["127.0.0.0/8"])},
            550,
            "5.4.4",
            "mx.b.test/127.0.0.1 is on the list of prohibited_hosts",
        ),
        (
            "to@b.test",
            "$ORIGIN test.\nb MX 1 x.b\nx.b A 127.0.0.1\nx.b A 192.0.2.7\n",
            {"prohibited_hosts": CidrSet(["192.0.2.0/24"])},
            550,
            "5.4.4",
            "x.b.test/192.0.2.7 is on the list of prohibited_hosts",
        ),
        (
            "to@b.test",
            "$ORIGIN test.\nb MX 1 x.b\nx.b AAAA ::ffff:127.0.0.1\n",
            {"prohibited_hosts": CidrSet(["127.0.0.0/8"])},
            550,
            "5.4.4",
            "is on the list of prohibited_hosts",
        ),
        (
            "to@b.test",
            None,
            {"skip_hosts": CidrSet(["127.0.0.0/8"])},
            451,
            "4.4.4",
            "KumoMTA internal: MX consisted solely of hosts on the skip_hosts list",
        ),
        (
            "to@b.test",
            "$ORIGIN test.\nb MX 10 nothing.b\n",
            {},
            451,
            "4.4.4",
            "MX didn't resolve to any hosts",
        ),
        ("to@[127.0.0.1]", None, {"prohibited_hosts": CidrSet(["127.0.0.1"])}, 550, "5.4.4", "127.0.0.1"),
        ("to@[IPv6:::1]", None, {"prohibited_hosts": CidrSet(["::1"])}, 550, "5.4.4", "::1 is on the list"),
    ],
)
async def test_no_plan_is_an_answer_for_the_whole_queue(
    mock_clock: MockClock,
    nursery: trio.Nursery,
    recipient: str,
    zone: str | None,
    path: dict[str, Any],
    code: int,
    enhanced: str,
    text: str,
) -> None:
    options: dict[str, Any] = {} if zone is None else {"zone": zone}
    node = await start_delivery(mock_clock, nursery, path=egress(smtp_port=unused_port(), **path), **options)
    messages = [await node.send(recipient) for _ in range(3)]
    await node.done(3)
    kind = "Bounce" if code >= 500 else "TransientFailure"
    for msg, record in zip(messages, node.log.records, strict=True):
        assert (record.id, record.kind, record.code, str(record.response.enhanced)) == (
            msg.id,
            kind,
            code,
            enhanced,
        )
        assert text in record.content
        assert record.context.peer is None
        assert node.in_spool(msg) == (code < 500)


@pytest.mark.option("make_egress_path.skip_hosts")
async def test_skipped_hosts_leave_the_others(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    zone = "$ORIGIN test.\nb MX 10 first.b\nb MX 20 second.b\nfirst.b A 127.0.0.2\nsecond.b A 127.0.0.1\n"
    server = Server()
    skipped = Server(host="127.0.0.2", port=server.port)
    path = egress(skip_hosts=CidrSet(["127.0.0.2"]), smtp_port=server.port)
    node = await start_delivery(
        mock_clock, nursery, server, skipped, queue=QueueConfig(), path=path, zone=zone
    )
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]
    assert (len(server.messages), skipped.peers) == (1, [])


async def test_a_refused_queue_whose_metadata_cannot_be_read_is_kept(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    from kumo_py.spool import SpoolError

    server = Server(usual(MAIL="450 later"))
    queue = routed_to(server.mx, retry_interval=Duration(5))
    node = await start_delivery(mock_clock, nursery, server, queue=queue)
    msg = await node.send()
    await node.log.reach(1)
    # At its next attempt it has left memory, all hosts are prohibited, and the spool is sick.
    ready = next(iter(node.queues.ready.values()))
    ready.path = egress(prohibited_hosts=CidrSet(["127.0.0.0/8"]))
    node.meta.unreadable = SpoolError("cannot read: Input/output error", 5)
    await trio.sleep(12)
    assert node.log.kinds == ["TransientFailure"]
    assert node.in_spool(msg)
    assert len(node.queues.wheel) == 1
    await node.stop()
