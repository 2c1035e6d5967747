"""DANE (RFC 7672): what TLSA records make of a connection, on the wire. The zones are in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trustme
from smtp_out_harness import Server, egress, start_delivery
from smtp_out_tls_harness import (
    NAME,
    TRANSACTION,
    Identity,
    broken,
    found,
    offering,
    plain,
    trusted_by_the_system,
)

from kumo_py.core.duration import Duration
from kumo_py.core.key_source import KeySource
from kumo_py.dns import ZoneBackend, ZoneText
from kumo_py.dns.mta_sts import MtaSts
from kumo_py.queue.config import DeliveryProtocol, QueueConfig, SmtpProtocol
from kumo_py.smtp_out.dane import DaneResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import trio
    from smtp_out_harness import DeliveryNode
    from trio.testing import MockClock

HELLO = "EHLO me.test"
MODES = ["Opportunistic", "OpportunisticInsecure", "Required", "RequiredInsecure", "Disabled"]
WHOLE = [HELLO, "STARTTLS", HELLO, *TRANSACTION, "QUIT"]


@pytest.fixture(scope="module")
def ours() -> Identity:
    return Identity()


@pytest.fixture(scope="module")
def other() -> Identity:
    return Identity()


@pytest.fixture(autouse=True)
def _trusted(tmp_path: Path) -> Iterator[None]:
    """Nobody of these."""
    with trusted_by_the_system(trustme.CA(), tmp_path):
        yield


def zone(server: Server, records: Sequence[str], *, where: str = "b.test", more: str = "") -> str:
    tlsa = "\n".join(f"_{server.port}._tcp.mx TLSA {record}" for record in records)
    return f"$ORIGIN {where}.\n@ MX 10 mx\nmx A 127.0.0.1\n{tlsa}\n{more}\n"


async def start(
    clock: MockClock,
    nursery: trio.Nursery,
    server: Server,
    zones: Sequence[str | ZoneText],
    *,
    queue: QueueConfig | None = None,
    failures: dict[str, Any] | None = None,
    **options: Any,
) -> DeliveryNode:
    given = {"enable_dane": True, "smtp_port": server.port, "starttls_timeout": Duration(3), **options}
    queue = queue or QueueConfig(retry_interval=Duration(3600))
    node = await start_delivery(clock, nursery, server, queue=queue, path=egress(**given))
    node.resolver._backend = ZoneBackend(zones, failures)
    return node


def secure(text: str) -> ZoneText:
    return ZoneText(zone=text, secure=True)


# -- usable records ------------------------------------------------------------------------------------------
@pytest.mark.option("make_egress_path.enable_dane")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("usage", [2, 3])
async def test_enable_dane_takes_the_certificate_of_the_record_and_no_other(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity, other: Identity, mode: str, usage: int
) -> None:
    for identity, kind in ((ours, "Delivery"), (other, "TransientFailure")):
        server = Server(offering(identity.context))
        node = await start(
            mock_clock,
            nursery,
            server,
            [secure(zone(server, [ours.record(usage)]))],
            enable_tls=mode,
            opportunistic_tls_reconnect_on_failed_handshake=True,
        )
        msg = await node.send()
        await node.done(1)
        (record,) = node.log.records
        assert record.kind == kind
        assert found(node) == {"ok": 1}
        if kind == "Delivery":
            assert server.commands == [WHOLE]
            assert record.context.tls is not None
            # The certificate that the record names.
            organization = "O=Leaf" if usage == 3 else "O=Authority"
            assert organization in record.context.tls.subject_name
        else:
            assert "DANE: the certificate is not valid" in record.content
            assert node.in_spool(msg)
            assert server.commands == [[HELLO, "STARTTLS"]]


@pytest.mark.parametrize("usage", [2, 3])
@pytest.mark.parametrize(("selector", "matching"), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)])
async def test_selectors_and_matching_types(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity, usage: int, selector: int, matching: int
) -> None:
    server = Server(offering(ours.context))
    zones = [secure(zone(server, [ours.record(usage, selector, matching)]))]
    node = await start(mock_clock, nursery, server, zones)
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]
    assert found(node) == {"ok": 1}


async def test_the_name_counts_with_dane_ta_only(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    identity = Identity("else.test")
    for usage, kind in ((3, "Delivery"), (2, "TransientFailure")):
        server = Server(offering(identity.context))
        node = await start(mock_clock, nursery, server, [secure(zone(server, [identity.record(usage)]))])
        await node.send()
        await node.done(1)
        assert node.log.kinds == [kind]


@pytest.mark.parametrize("script", [plain, broken])
async def test_a_host_with_records_must_offer_tls(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity, script: Any
) -> None:
    server = Server(script)
    node = await start(
        mock_clock,
        nursery,
        server,
        [secure(zone(server, [ours.record(3)]))],
        enable_tls="OpportunisticInsecure",
        opportunistic_tls_reconnect_on_failed_handshake=True,
    )
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["TransientFailure"]
    assert server.messages == []


async def test_openssl_options_count_with_dane(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity
) -> None:
    server = Server(offering(ours.context))
    zones = [secure(zone(server, [ours.record(3)]))]
    node = await start(mock_clock, nursery, server, zones, openssl_options="NO_TLSV1_3")
    await node.send()
    await node.done(1)
    tls = node.log.records[0].context.tls
    assert tls is not None
    assert tls.protocol_version == "TLSv1.2"


async def test_a_certificate_by_dane_is_good_enough_for_a_password(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity
) -> None:
    server = Server(offering(ours.context, replies={"AUTH": "235 ok"}))
    node = await start(
        mock_clock,
        nursery,
        server,
        [secure(zone(server, [ours.record(3)]))],
        smtp_auth_plain_username="me",
        smtp_auth_plain_password=KeySource(key_data="secret"),
    )
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]


async def test_the_next_host_is_tried(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity, other: Identity
) -> None:
    good = Server(offering(ours.context))
    bad = Server(offering(other.context), host="127.0.0.2", port=good.port)
    await nursery.start(bad.serve)
    text = (
        f"$ORIGIN b.test.\n@ MX 10 bad\n@ MX 20 mx\nbad A 127.0.0.2\nmx A 127.0.0.1\n"
        f"_{good.port}._tcp.bad TLSA {ours.record(3)}\n_{good.port}._tcp.mx TLSA {ours.record(3)}\n"
    )
    node = await start(mock_clock, nursery, good, [secure(text)])
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]
    assert (len(bad.peers), len(bad.messages), len(good.messages)) == (1, 0, 1)


# -- records that cannot be used ---------------------------------------------------------------------------------
UNUSABLE = ["0 1 1 " + "00" * 32, "1 1 1 " + "00" * 32, "3 7 1 " + "00" * 32]


@pytest.mark.parametrize("mode", MODES)
async def test_unusable_records_demand_tls_without_a_valid_certificate(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity, mode: str
) -> None:
    server = Server(offering(ours.context))
    node = await start(mock_clock, nursery, server, [secure(zone(server, UNUSABLE))], enable_tls=mode)
    await node.send()
    await node.done(1)
    assert found(node) == {"unusable": 1}
    if mode == "Required":  # more than DANE asks for
        assert node.log.kinds == ["TransientFailure"]
    else:
        assert server.commands == [WHOLE]


async def test_unusable_records_forbid_clear_text(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(plain)
    node = await start(mock_clock, nursery, server, [secure(zone(server, UNUSABLE))])
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["TransientFailure"]
    assert "DANE (none of its records is usable), and STARTTLS is not offered" in node.log.records[0].content


async def test_one_usable_record_is_enough(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity
) -> None:
    server = Server(offering(ours.context))
    node = await start(mock_clock, nursery, server, [secure(zone(server, [*UNUSABLE, ours.record(3)]))])
    await node.send()
    await node.done(1)
    assert (node.log.kinds, found(node)) == (["Delivery"], {"ok": 1})


async def test_an_unauthenticated_peer_gets_no_password(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity
) -> None:
    server = Server(offering(ours.context, replies={"AUTH": "235 ok"}))
    zones = [secure(zone(server, UNUSABLE))]
    node = await start(mock_clock, nursery, server, zones, smtp_auth_plain_username="me")
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["TransientFailure"]
    assert server.commands == [[HELLO, "STARTTLS", HELLO]]


# -- where DANE does not apply -----------------------------------------------------------------------------------
async def test_without_enable_dane_records_do_not_count(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity
) -> None:
    server = Server(plain)
    zones = [secure(zone(server, [ours.record(3)]))]
    node = await start(mock_clock, nursery, server, zones, enable_dane=False)
    await node.send()
    await node.done(1)
    assert (node.log.kinds, found(node)) == (["Delivery"], {})


async def test_records_of_an_unsigned_zone_do_not_count(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity
) -> None:
    server = Server(plain)
    node = await start(mock_clock, nursery, server, [zone(server, [ours.record(3)])])
    await node.send()
    await node.done(1)
    assert (node.log.kinds, found(node)) == (["Delivery"], {"insecure_chain": 1})


async def test_an_unsigned_mx_record_breaks_the_chain(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity
) -> None:
    """The hosts' zone is signed, the domain's is not."""
    server = Server(plain)
    hosts = f"$ORIGIN hosts.test.\nmx A 127.0.0.1\n_{server.port}._tcp.mx TLSA {ours.record(3)}\n"
    zones = [secure(hosts), "$ORIGIN b.test.\n@ MX 10 mx.hosts.test.\n"]
    node = await start(mock_clock, nursery, server, zones)
    await node.send()
    await node.done(1)
    assert (node.log.kinds, found(node)) == (["Delivery"], {"insecure_chain": 1})


async def test_a_signed_zone_without_records(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(plain)
    node = await start(mock_clock, nursery, server, [secure(zone(server, []))])
    await node.send()
    await node.done(1)
    assert (node.log.kinds, found(node)) == (["Delivery"], {"not_applicable": 1})


async def test_records_of_another_port_do_not_count(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity
) -> None:
    server = Server(plain)
    more = f"_25._tcp.mx TLSA {ours.record(3)}"
    node = await start(mock_clock, nursery, server, [secure(zone(server, [], more=more))])
    await node.send()
    await node.done(1)
    assert (node.log.kinds, found(node)) == (["Delivery"], {"not_applicable": 1})


async def test_an_address_has_no_records(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(plain)
    smtp = SmtpProtocol(mx_list=[server.mx], treat_mx_list_as_secure=True)
    queue = QueueConfig(protocol=DeliveryProtocol(smtp=smtp))
    node = await start(mock_clock, nursery, server, [], queue=queue)
    await node.send()
    await node.done(1)
    assert (node.log.kinds, found(node)) == (["Delivery"], {"insecure_chain": 1})


# -- lookups that fail -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("failure", ["SERVFAIL", "TIMEOUT"])
@pytest.mark.parametrize("mode", ["Opportunistic", "Disabled"])
async def test_nothing_is_sent_while_the_records_cannot_be_looked_up(
    mock_clock: MockClock, nursery: trio.Nursery, failure: str, mode: str
) -> None:
    server = Server(plain)
    node = await start(
        mock_clock,
        nursery,
        server,
        [secure(zone(server, []))],
        failures={f"_{server.port}._tcp.{NAME}": failure},
        enable_tls=mode,
    )
    msg = await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert record.kind == "TransientFailure"
    assert "DANE records cannot be looked up securely: TLSA lookup" in record.content
    assert node.in_spool(msg)
    assert server.commands == [[HELLO]]
    assert found(node) == {"tempfail": 1}


# -- aliases (RFC 7672 §2.2.2) --------------------------------------------------------------------------------------
ALIAS = """$ORIGIN b.test.
@ MX 10 mx
mx CNAME host.unsigned.test.
"""
UNSIGNED = "$ORIGIN unsigned.test.\nhost A 127.0.0.1\n"


async def test_a_signed_alias_into_an_unsigned_zone_keeps_its_records(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity, other: Identity
) -> None:
    for identity, kind in ((ours, "Delivery"), (other, "TransientFailure")):
        server = Server(offering(identity.context))
        signed = secure(f"{ALIAS}_{server.port}._tcp.mx TLSA {ours.record(3)}\n")
        node = await start(mock_clock, nursery, server, [signed, UNSIGNED])
        await node.send()
        await node.done(1)
        assert (node.log.kinds, found(node)) == ([kind], {"ok": 1})


async def test_a_host_of_an_unsigned_zone_without_an_alias_has_none(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity
) -> None:
    server = Server(plain)
    signed = secure("$ORIGIN b.test.\n@ MX 10 host.unsigned.test.\n")
    text = f"{UNSIGNED}_{server.port}._tcp.host TLSA {ours.record(3)}\n"
    node = await start(mock_clock, nursery, server, [signed, text])
    await node.send()
    await node.done(1)
    assert (node.log.kinds, found(node)) == (["Delivery"], {"insecure_chain": 1})


# -- treat_mx_list_as_secure --------------------------------------------------------------------------------------
@pytest.mark.option("make_queue_config.protocol.smtp.treat_mx_list_as_secure")
@pytest.mark.parametrize("trusted", [False, True])
async def test_treat_mx_list_as_secure(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity, trusted: bool
) -> None:
    server = Server(offering(ours.context))
    smtp = SmtpProtocol(mx_list=[NAME], treat_mx_list_as_secure=trusted)
    queue = QueueConfig(protocol=DeliveryProtocol(smtp=smtp))
    zones = [secure(zone(server, [ours.record(3)]))]
    node = await start(mock_clock, nursery, server, zones, queue=queue)
    await node.send()
    await node.done(1)
    if trusted:
        assert (node.log.kinds, found(node)) == (["Delivery"], {"ok": 1})
    else:
        # The certificate is of nobody whom the system trusts.
        assert (node.log.kinds, found(node)) == (["TransientFailure"], {"insecure_chain": 1})


# -- MTA-STS beside it ---------------------------------------------------------------------------------------------
def enforced(node: DeliveryNode, mode: str = "enforce") -> None:
    node.resolver.mta_sts = MtaSts()
    node.resolver.mta_sts.use_fixed({"b.test": f"version: STSv1\nmode: {mode}\nmx: *.b.test\nmax_age: 86400"})


async def test_dane_comes_before_mta_sts(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity
) -> None:
    """RFC 8461 §2: the certificate need not be one that the system trusts."""
    server = Server(offering(ours.context))
    node = await start(mock_clock, nursery, server, [secure(zone(server, [ours.record(3)]))])
    enforced(node)
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]


@pytest.mark.parametrize(("mode", "kind"), [("enforce", "TransientFailure"), ("testing", "Delivery")])
async def test_mta_sts_adds_to_unusable_records(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity, mode: str, kind: str
) -> None:
    server = Server(offering(ours.context))
    node = await start(mock_clock, nursery, server, [secure(zone(server, UNUSABLE))])
    enforced(node, mode)
    await node.send()
    await node.done(1)
    assert node.log.kinds == [kind]


async def test_testing_does_not_lift_what_unusable_records_demand(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(plain)
    node = await start(mock_clock, nursery, server, [secure(zone(server, UNUSABLE))])
    enforced(node, "testing")
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["TransientFailure"]


# -- domains that share a host ----------------------------------------------------------------------------------
@pytest.mark.parametrize("order", [("c", "b"), ("c", "b", "c", "b"), ("b", "c")])
async def test_a_signed_domain_does_not_ride_on_an_unsigned_ones_connection(
    mock_clock: MockClock, nursery: trio.Nursery, ours: Identity, order: tuple[str, ...]
) -> None:
    """Both use the same host, so the same ready queue; only b.test's MX record leads there securely."""
    server = Server(plain)
    zones = [secure(zone(server, [ours.record(3)])), f"$ORIGIN c.test.\n@ MX 10 {NAME}.\n"]
    node = await start(mock_clock, nursery, server, zones)
    for domain in order:
        await node.send(f"to@{domain}.test")
    await node.done(len(order))
    assert len({record.site for record in node.log.records}) == 1
    by_domain = {(record.recipients[0].partition("@")[2], record.kind) for record in node.log.records}
    assert by_domain == {("b.test", "TransientFailure"), ("c.test", "Delivery")}
    assert all("RCPT TO:<to@b.test>" not in commands for commands in server.commands)


def test_every_result_has_kumomtas_name() -> None:
    names = {"ok", "unusable", "not_applicable", "insecure_chain", "tempfail"}
    assert {result.value for result in DaneResult} == names
