"""STARTTLS: when it is used, whom it believes, and what it forgets."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trustme
from queue_harness import BODY
from smtp_out_harness import Server, egress, routed_to, start_delivery
from smtp_out_tls_harness import (
    MAIL,
    NAME,
    TRANSACTION,
    context_for,
    offering,
    plain,
    start,
    trusted_by_the_system,
)

from kumo_py.core.duration import Duration
from kumo_py.queue.config import NamedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from smtp_out_harness import Peer
    from trio.testing import MockClock

MODES = ["Opportunistic", "OpportunisticInsecure", "Required", "RequiredInsecure", "Disabled"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def _trusted(authority: trustme.CA, tmp_path: Path) -> Iterator[None]:
    with trusted_by_the_system(authority, tmp_path):
        yield


# -- the five modes --------------------------------------------------------------------------------------
@pytest.mark.option("make_egress_path.enable_tls")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("certificate", ["good", "other name", "other authority", "none"])
async def test_modes(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, mode: str, certificate: str
) -> None:
    match certificate:
        case "good":
            server = Server(offering(context_for(authority)))
        case "other name":
            server = Server(offering(context_for(authority, "else.test")))
        case "other authority":
            server = Server(offering(context_for(trustme.CA())))
        case _:
            server = Server(plain)
    node = await start(mock_clock, nursery, server, mode=mode)
    msg = await node.send()
    await node.done(1)
    (record,) = node.log.records
    offered = certificate != "none"
    verifies = mode in ("Opportunistic", "Required")
    fails = (mode.startswith("Required") and not offered) or (
        verifies and certificate in ("other name", "other authority")
    )
    if fails:
        assert (record.kind, record.code) == ("TransientFailure", 400)
        assert node.in_spool(msg)
        assert server.messages == []
        assert MAIL not in server.commands[0]
        assert ("certificate" if offered else "STARTTLS is not offered") in record.content
        return
    assert record.kind == "Delivery"
    encrypted = offered and mode != "Disabled"
    if encrypted:
        assert server.commands == [["EHLO me.test", "STARTTLS", "EHLO me.test", *TRANSACTION, "QUIT"]]
        assert record.context.tls is not None
        assert record.context.tls.protocol_version == "TLSv1.3"
        assert record.context.tls.cipher.startswith("TLS_")
    else:
        assert server.commands == [["EHLO me.test", *TRANSACTION, "QUIT"]]
        assert record.context.tls is None
    assert server.contents == [BODY + b".\r\n"]


async def test_many_messages_over_tls(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    server = Server(offering(context_for(authority)))
    node = await start(mock_clock, nursery, server)
    content = b"".join(b"%d %b\r\n" % (number, b"x" * 90) for number in range(20_000))
    for _ in range(5):
        await node.send(data=content)
    await node.log.reach(5)
    await trio.sleep(1)
    await node.send()
    await node.done(6)
    assert node.log.kinds == ["Delivery"] * 6
    assert len(server.peers) == 1
    assert server.contents == [content + b".\r\n"] * 5 + [BODY + b".\r\n"]


async def test_tls12(mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA) -> None:
    context = context_for(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    node = await start(mock_clock, nursery, Server(offering(context)))
    await node.send()
    await node.done(1)
    assert node.log.records[0].context.tls is not None
    assert node.log.records[0].context.tls.protocol_version == "TLSv1.2"


# -- nothing of the clear part counts ---------------------------------------------------------------------------
async def test_extensions_are_forgotten(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    """RFC 3207 §4.2: what was offered in the clear does not hold."""
    server = Server(offering(context_for(authority), "SIZE"))
    node = await start(mock_clock, nursery, server)
    await node.send(data="é\r\n".encode())
    await node.send()
    await node.done(2)
    assert node.log.brief == [("Bounce", 554), ("Delivery", 250)]
    chunks = server.peers[0].chunks
    assert f"{MAIL}\r\n".encode() in chunks  # no pipelining either


@pytest.mark.parametrize("mode", MODES[:4])
@pytest.mark.parametrize(
    "injected", [b"250 injected\r\n", b"250-PIPELINING\r\n250 8BITMIME\r\n", b"2", b"550 5.0.0 bounce it\r\n"]
)
async def test_replies_in_the_same_segment_as_220(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, mode: str, injected: bytes
) -> None:
    context = context_for(authority)

    async def script(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.line()
        await peer.send(b"220 go\r\n" + injected)
        try:
            await peer.start_tls(context)
        except trio.BrokenResourceError:
            return
        await peer.line()

    server = Server(script)
    node = await start(mock_clock, nursery, server, mode=mode)
    msg = await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert (record.kind, record.code) == ("TransientFailure", 400)
    assert "injected" not in record.content
    assert node.in_spool(msg)
    assert server.commands == [["EHLO me.test", "STARTTLS"]]


async def test_replies_before_the_handshake_in_a_segment_of_their_own(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.line()
        await peer.send("220 go")
        await trio.sleep(0.5)
        await peer.send("250 injected")
        await peer.line()

    node = await start(mock_clock, nursery, Server(script))
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert (record.kind, record.code) == ("TransientFailure", 400)
    assert "injected" not in record.content


# -- failures --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES[:4])
@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (b"454 4.7.0 not now\r\n", "STARTTLS: 454 4.7.0 not now"),
        (b"421 4.3.2 bye\r\n", "STARTTLS: 421 4.3.2 bye"),
        (b"", "closed by peer"),
        (b"220 go\r\n", "TLS handshake"),
        (b"220 go\r\n<wait>nonsense\r\n", "TLS handshake"),
        (b"220 go\r\n<hang>", "timed out after 3s waiting for the TLS handshake"),
        (b"<hang>", "timed out after 3s waiting for STARTTLS"),
    ],
)
async def test_a_handshake_that_fails_leaves_the_message(
    mock_clock: MockClock, nursery: trio.Nursery, mode: str, reply: bytes, text: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.line()
        first, wait, rest = reply.partition(b"<wait>")
        await peer.send(first.removesuffix(b"<hang>"))
        if reply.endswith(b"<hang>"):
            await trio.sleep_forever()
        if wait:
            await trio.sleep(0.5)
            await peer.send(rest)
            await peer.stream.receive_some()

    node = await start(mock_clock, nursery, Server(script), mode=mode)
    msg = await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert (record.kind, record.code) == ("TransientFailure", 400)
    assert text in record.content
    assert node.in_spool(msg)


async def test_the_next_host_may_have_a_better_certificate(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    bad, good = Server(offering(context_for(trustme.CA()))), Server(offering(context_for(authority)))
    hosts = [NamedHost(name=NAME, addr=f"127.0.0.1:{server.port}") for server in (bad, good)]
    path = egress(enable_tls="Required")
    node = await start_delivery(mock_clock, nursery, bad, good, queue=routed_to(*hosts), path=path)
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]
    assert len(good.messages) == 1


async def test_an_address_literal_is_verified_as_an_address(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    good, bad = (
        Server(offering(context_for(authority, "127.0.0.1"))),
        Server(offering(context_for(authority))),
    )
    for server, kind in ((good, "Delivery"), (bad, "TransientFailure")):
        path = egress(enable_tls="Required")
        node = await start_delivery(mock_clock, nursery, server, path=path)
        await node.send()
        await node.done(1)
        assert node.log.kinds == [kind]


@pytest.mark.parametrize("how", ["close_notify", "FIN", "RST"])
async def test_a_server_that_leaves_an_idle_tls_connection(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, how: str
) -> None:
    context = context_for(authority)
    left = trio.Event()

    async def leaving(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.line()
        await peer.send("220 go")
        await peer.start_tls(context)
        await peer.line()
        await peer.ehlo("PIPELINING")
        for _ in range(3):
            await peer.line()
        await peer.send("250 ok", "250 ok", "354 go")
        peer.server.messages.append((await peer.content(),))  # type: ignore[arg-type]
        await peer.send("250 queued")
        await left.wait()
        if how == "RST":
            peer.reset()
        elif how == "close_notify":
            assert isinstance(peer.stream, trio.SSLStream)
            await peer.stream.unwrap()

    server = Server(leaving, offering(context))
    node = await start(mock_clock, nursery, server, idle_timeout=Duration(60))
    await node.send()
    await node.log.reach(1)
    left.set()
    await trio.sleep(1)
    await node.send()
    await node.done(2)
    assert node.log.kinds == ["Delivery"] * 2
    assert len(server.messages) == 2


@pytest.mark.parametrize("cut", [False, True])
async def test_a_truncated_tls_session_is_a_failure_of_the_message_in_hand(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, cut: bool
) -> None:
    context = context_for(authority)

    async def script(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.line()
        await peer.send("220 go")
        await peer.start_tls(context)
        await peer.line()
        await peer.ehlo("8BITMIME")
        await peer.line()
        if cut:
            assert isinstance(peer.stream, trio.SSLStream)
            await peer.stream.transport_stream.send_all(b"\x17\x03\x03\x00\xff half a record")

    node = await start(mock_clock, nursery, Server(script))
    msg = await node.send()
    await node.done(1)
    assert node.log.brief == [("TransientFailure", 400)]
    assert node.in_spool(msg)
