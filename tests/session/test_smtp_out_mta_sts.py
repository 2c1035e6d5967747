"""MTA-STS (RFC 8461): what a domain's policy makes of the TLS to its hosts, on the wire."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from smtp_out_harness import Server, egress, start_delivery
from smtp_out_tls_harness import (
    TRANSACTION,
    broken,
    context_for,
    offering,
    plain,
    trusted_by_the_system,
)
from structlog.testing import capture_logs

from kumo_py.core.duration import Duration
from kumo_py.dns.mta_sts import MtaSts
from kumo_py.queue.config import QueueConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trio
    from smtp_out_harness import DeliveryNode
    from trio.testing import MockClock

HELLO = "EHLO me.test"
MODES = ["Opportunistic", "OpportunisticInsecure", "Required", "RequiredInsecure", "Disabled"]
ZONE = """
$ORIGIN test.
b     MX 10 mx.b
c     MX 10 mx.b
two   MX 10 mx.b
two   MX 20 other.b
mx.b    A 127.0.0.1
other.b A 127.0.0.2
"""


def policy(mode: str, *hosts: str) -> str:
    lines = ["version: STSv1", f"mode: {mode}", "max_age: 86400", *(f"mx: {host}" for host in hosts)]
    return "\r\n".join(lines)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def _trusted(authority: trustme.CA, tmp_path: Path) -> Iterator[None]:
    with trusted_by_the_system(authority, tmp_path):
        yield


async def start(
    clock: MockClock,
    nursery: trio.Nursery,
    server: Server,
    policies: dict[str, str],
    *more: Server,
    zone: str = ZONE,
    **options: Any,
) -> DeliveryNode:
    path = egress(smtp_port=server.port, starttls_timeout=Duration(3), **options)
    queue = QueueConfig(retry_interval=Duration(3600))
    node = await start_delivery(clock, nursery, server, *more, queue=queue, path=path, zone=zone)
    node.resolver.mta_sts = MtaSts()
    node.resolver.mta_sts.use_fixed(policies)
    return node


SERVERS = ["valid", "other name", "common name only", "other authority", "no TLS", "broken TLS"]


def server_of(kind: str, authority: trustme.CA) -> Server:
    match kind:
        case "valid":
            return Server(offering(context_for(authority)))
        case "other name":
            return Server(offering(context_for(authority, "else.test")))
        case "common name only":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("x@b.test", common_name="mx.b.test").configure_cert(context)
            return Server(offering(context))
        case "other authority":
            return Server(offering(context_for(trustme.CA())))
        case "broken TLS":
            return Server(broken)
        case _:
            return Server(plain)


# -- enforce -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", SERVERS)
async def test_enforce_demands_a_valid_certificate_for_the_hosts_name(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, mode: str, kind: str
) -> None:
    server = server_of(kind, authority)
    node = await start(
        mock_clock,
        nursery,
        server,
        {"b.test": policy("enforce", "*.b.test")},
        enable_tls=mode,
        opportunistic_tls_reconnect_on_failed_handshake=True,
        remember_broken_tls=Duration(3600),
    )
    msg = await node.send()
    await node.done(1)
    (record,) = node.log.records
    if kind == "valid":
        assert record.kind == "Delivery"
        assert server.commands == [[HELLO, "STARTTLS", HELLO, *TRANSACTION, "QUIT"]]
        return
    assert (record.kind, record.code) == ("TransientFailure", 400)
    assert node.in_spool(msg)
    assert server.messages == []
    # Not even the envelope was shown.
    assert all("MAIL" not in line for commands in server.commands for line in commands)
    if kind == "no TLS":
        assert "MTA-STS, and STARTTLS is not offered" in record.content


async def test_enforce_sends_to_hosts_of_the_policy_only(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    """The preferred host is none of them, whatever its certificate."""
    listed = Server(offering(context_for(authority, "other.b.test")), host="127.0.0.2")
    unlisted = Server(offering(context_for(authority)), port=listed.port)
    policies = {"two.test": policy("enforce", "other.b.test")}
    node = await start(mock_clock, nursery, listed, policies, unlisted)
    await node.send("to@two.test")
    await node.done(1)
    assert node.log.kinds == ["Delivery"]
    assert len(listed.messages) == 1
    assert unlisted.peers == []


@pytest.mark.option("make_egress_path.enable_mta_sts")
async def test_enable_mta_sts_false_leaves_tls_to_the_path(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(plain)
    policies = {"b.test": policy("enforce", "*.b.test")}
    node = await start(mock_clock, nursery, server, policies, enable_mta_sts=False)
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]


@pytest.mark.parametrize("policies", [{}, {"b.test": policy("none")}])
async def test_without_a_policy_the_path_counts(
    mock_clock: MockClock, nursery: trio.Nursery, policies: dict[str, str]
) -> None:
    node = await start(mock_clock, nursery, Server(plain), policies)
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]


# -- testing -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", SERVERS)
async def test_testing_delivers_and_tells(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, kind: str
) -> None:
    """RFC 8461 §5: mail goes out as if there were no policy; a bad certificate does not matter."""
    server = server_of(kind, authority)
    with capture_logs() as logs:
        node = await start(mock_clock, nursery, server, {"b.test": policy("testing", "*.b.test")})
        await node.send()
        await node.done(1)
    assert node.log.kinds == ["Delivery"]
    encrypted = kind not in ("no TLS", "broken TLS")
    assert (node.log.records[0].context.tls is not None) == encrypted
    told = [entry for entry in logs if entry["event"].startswith("MTA-STS")]
    assert len(told) == (not encrypted)


@pytest.mark.parametrize("mode", ["Required", "Disabled"])
async def test_testing_lifts_no_demand_of_the_path(
    mock_clock: MockClock, nursery: trio.Nursery, mode: str
) -> None:
    server = Server(offering(context_for(trustme.CA())))
    policies = {"b.test": policy("testing", "*.b.test")}
    node = await start(mock_clock, nursery, server, policies, enable_tls=mode)
    await node.send()
    await node.done(1)
    if mode == "Required":
        assert node.log.kinds == ["TransientFailure"]
    else:
        assert server.commands == [[HELLO, *TRANSACTION, "QUIT"]]


# -- domains that share their hosts ------------------------------------------------------------------------
@pytest.mark.parametrize("order", [("c", "b"), ("b", "c"), ("c", "b", "c", "b")])
@pytest.mark.parametrize("kind", ["other authority", "no TLS"])
async def test_each_domain_has_its_own_policy_though_they_share_a_ready_queue(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, order: tuple[str, ...], kind: str
) -> None:
    """b.test enforces, c.test has no policy. The envelope of neither may ride along with the other's content."""
    server = server_of(kind, authority)
    policies = {"b.test": policy("enforce", "*.b.test")}
    node = await start(mock_clock, nursery, server, policies, enable_tls="OpportunisticInsecure")
    for domain in order:
        await node.send(f"to@{domain}.test")
    await node.done(len(order))
    assert len({record.site for record in node.log.records}) == 1
    by_domain = {(record.recipients[0].partition("@")[2], record.kind) for record in node.log.records}
    assert by_domain == {("b.test", "TransientFailure"), ("c.test", "Delivery")}
    assert {message.rcpts[0] for message in server.messages} == {"RCPT TO:<to@c.test>"}
    assert all("RCPT TO:<to@b.test>" not in commands for commands in server.commands)


async def test_a_connection_that_is_good_enough_carries_all(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    server = Server(offering(context_for(authority)))
    node = await start(mock_clock, nursery, server, {"b.test": policy("enforce", "*.b.test")})
    for domain in ("c", "b", "c", "b"):
        await node.send(f"to@{domain}.test")
    await node.done(4)
    assert node.log.kinds == ["Delivery"] * 4
    (peer,) = server.peers
    # The envelope of the next message rides along, whatever its domain.
    assert sum(b"\r\n.\r\n" in chunk and b"MAIL FROM" in chunk for chunk in peer.chunks) == 3


async def test_the_next_connection_demands_what_the_message_does(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    """Insecure TLS was enough for c.test; for b.test the same host has to prove who it is, and can."""
    server = Server(offering(context_for(authority)))
    node = await start(
        mock_clock,
        nursery,
        server,
        {"b.test": policy("enforce", "*.b.test")},
        enable_tls="OpportunisticInsecure",
    )
    for domain in ("c", "b", "c"):
        await node.send(f"to@{domain}.test")
    await node.done(3)
    assert node.log.kinds == ["Delivery"] * 3
    assert [len([line for line in commands if line == "."]) for commands in server.commands] == [1, 2]


async def test_who_tests_a_policy_lowers_nothing_for_others(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(offering(context_for(trustme.CA())))
    node = await start(mock_clock, nursery, server, {"b.test": policy("testing", "*.b.test")})
    for domain in ("b", "c"):
        await node.send(f"to@{domain}.test")
    await node.done(2)
    by_domain = {record.recipients: record.kind for record in node.log.records}
    assert by_domain == {("to@b.test",): "Delivery", ("to@c.test",): "TransientFailure"}


async def test_a_domain_that_cannot_be_looked_up_is_sent_nothing_in_the_clear(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Whoever can hinder lookups must not be able to switch its policy off."""
    server = Server(plain)
    node = await start(mock_clock, nursery, server, {"b.test": policy("enforce", "*.b.test")})
    await node.send("to@c.test")
    await node.log.reach(1)
    msg = node.make_message("to@b.test")
    queue = await node.queues.resolve(msg.queue_name)
    await node.spool.save(msg)

    async def unable(domain: str) -> Any:
        from kumo_py.dns import DnsError

        raise DnsError(domain, "MX", "SERVFAIL")

    ready = next(iter(node.queues.ready.values()))
    node.resolver.lookup_mx = unable  # type: ignore[method-assign]
    assert queue is not None
    ready.insert(msg)
    await node.log.reach(2)
    await node.stop()
    assert node.log.kinds == ["Delivery", "TransientFailure"]
    assert "the domain's MTA-STS policy cannot be looked up, and STARTTLS" in node.log.records[1].content
    assert [message.rcpts for message in server.messages] == [("RCPT TO:<to@c.test>",)]


async def test_hosts_of_another_domain_whose_site_has_the_same_name_are_none_of_its_own(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    """Somebody chose names that roll up to b.test's site, and has valid certificates for them."""
    zone = """
$ORIGIN test.
b   MX 10 one.x
b   MX 20 two.y
bad MX 10 one.x
bad MX 20 two.x
bad MX 30 one.y
one.x A 127.0.0.2
two.y A 127.0.0.2
one.y A 127.0.0.1
two.x A 127.0.0.1
"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("one.y.test", "two.x.test").configure_cert(context)
    theirs = Server(offering(context))
    node = await start(
        mock_clock,
        nursery,
        theirs,
        {"b.test": policy("enforce", "one.x.test", "two.y.test")},
        zone=zone,
    )
    await node.send("to@b.test", saved=True)
    await node.log.reach(1)  # nobody listens there
    for domain in ("bad", "b", "bad"):
        await node.send(f"to@{domain}.test")
    await node.log.reach(4)
    await node.stop()
    assert {record.site for record in node.log.records} == {"unspecified->(one|two).(x|y).test@smtp_client"}
    assert {message.rcpts for message in theirs.messages} == {("RCPT TO:<to@bad.test>",)}
    by_domain = {(record.recipients[0].partition("@")[2], record.kind) for record in node.log.records}
    assert by_domain == {("b.test", "TransientFailure"), ("bad.test", "Delivery")}
