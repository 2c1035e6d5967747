"""What an outgoing session tells those who watch: KumoMTA's events, each with what is known of its message."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from smtp_out_harness import TIMEOUTS, Server, egress, routed_to, start_delivery, usual
from smtp_out_tls_harness import EXTENSIONS, context_for, offering, start, trusted_by_the_system

from kumo_py.core.duration import Duration
from kumo_py.core.key_source import KeySource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from smtp_out_harness import DeliveryNode, Peer
    from trio.testing import MockClock

    from kumo_py.logs.trace import Event

SECRET = "AGRhbmllbAB0aWdlcg=="
"""RFC 4616: NUL, daniel, NUL, tiger."""


class Watcher:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def note(self, event: Event) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def of(self, kind: str) -> list[Any]:
        return [event.data for event in self.events if event.kind == kind]

    @property
    def messages(self) -> list[str]:
        """Of diagnostics."""
        return [data["message"] for data in self.of("Diagnostic")]


@contextmanager
def watching(node: DeliveryNode) -> Iterator[Watcher]:
    watcher = Watcher()
    with node.delivery.trace.watching(watcher):
        yield watcher


async def test_a_whole_session(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server()
    node = await start_delivery(mock_clock, nursery, server)
    with watching(node) as watcher:
        msg = await node.send("to@b.test", meta={"tenant": "acme", "campaign": "spring"})
        await node.done(1)
    shown = [(event.kind, event.data) for event in watcher.events]
    content = watcher.of("Write")[-3]
    assert shown == [
        ("BeginSession", None),
        ("Diagnostic", {"level": "INFO", "message": f"Attempting connection to {server.address}"}),
        ("Connected", None),
        ("Read", b"220 peer ESMTP\r\n"),
        ("Write", b"EHLO me.test\r\n"),
        ("Read", b"250-peer\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"),
        ("MessageObtained", None),
        ("Write", b"MAIL FROM:<from@a.test>\r\n"),
        ("Write", b"RCPT TO:<to@b.test>\r\n"),
        ("Write", b"DATA\r\n"),
        *(("Read", data) for data in watcher.of("Read")[2:-2]),
        ("Write", content),
        ("Write", b".\r\n"),
        ("Read", b"250 ok\r\n"),
        ("Write", b"QUIT\r\n"),
        ("Read", b"221 bye\r\n"),
        ("Closed", None),
    ]
    assert content + b".\r\n" == server.contents[0]
    begin, connected, obtained = (
        watcher.events[watcher.kinds.index(name)].meta
        for name in ("BeginSession", "Connected", "MessageObtained")
    )
    assert begin is not None
    assert connected is not None
    name = begin["ready_queue_name"]
    assert begin == {
        "egress_pool": "unspecified",
        "egress_source": "unspecified",
        "id": begin["id"],
        "ready_queue_name": name,
        "mx_plan": {"Addresses": [{"name": "[127.0.0.1]", "addr": server.address, "is_secure": False}]},
    }
    source = connected["source_address"]
    assert connected == begin | {
        "mx_host": "[127.0.0.1]",
        "mx_address": server.address,
        "source_address": source,
    }
    assert obtained == connected | {
        "message_id": msg.id.hex(),
        "sender": "from@a.test",
        "recipient": ["to@b.test"],
        "domain": "b.test",
        "routing_domain": None,
        "tenant": "acme",
        "campaign": "spring",
        "queue_name": "spring:acme@b.test",
    }
    assert watcher.events[-1].meta == obtained


async def test_messages_one_behind_the_other(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    """An envelope that goes with the content before it is told with its own message, the answers to that with its."""
    server = Server()
    node = await start_delivery(mock_clock, nursery, server)
    with watching(node) as watcher:
        for number in range(3):
            await node.send(f"to{number}@b.test")
        await node.done(3)
    by_recipient: dict[str, list[bytes]] = {}
    for event in watcher.events:
        assert event.meta is not None
        if event.kind == "Write" and "recipient" in event.meta:
            by_recipient.setdefault(event.meta["recipient"][0], []).append(event.data)  # type: ignore[index,arg-type]
    assert [peer[-1] for peer in server.commands] == ["QUIT"], "one connection"
    assert list(by_recipient) == ["to0@b.test", "to1@b.test", "to2@b.test"]
    for recipient, written in by_recipient.items():
        assert f"RCPT TO:<{recipient}>\r\n".encode() in written
        assert [line for line in written if line.startswith(b"RCPT")] == [
            f"RCPT TO:<{recipient}>\r\n".encode()
        ]
        assert b".\r\n" in written
    assert watcher.kinds.count("MessageObtained") == 3
    finals = [event.meta for event in watcher.events if event.kind == "Read"][-2]
    assert finals is not None
    assert finals["recipient"] == ["to2@b.test"]


async def test_who_comes_late_sees_the_rest(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    asked, go_on = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet("8BITMIME")
        await peer.line()
        asked.set()
        await go_on.wait()
        await peer.send("250 ok")
        await peer.converse()

    node = await start_delivery(mock_clock, nursery, Server(script))
    await node.send("to@b.test")
    await asked.wait()
    with watching(node) as watcher:
        go_on.set()
        await node.log.reach(1)
    await node.stop()
    first = watcher.events[0]
    assert (first.kind, first.data) == ("Read", b"250 ok\r\n")
    assert first.meta is not None
    assert first.meta["recipient"] == ["to@b.test"]
    assert "Addresses" in str(first.meta["mx_plan"])


async def test_hosts_that_fail(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.send("554 not today")

    bad, good = Server(refuse), Server(usual())
    node = await start_delivery(mock_clock, nursery, bad, good)
    with watching(node) as watcher:
        await node.send()
        await node.done(1)
    steps = [kind for kind in watcher.kinds if kind not in ("Read", "Write")]
    attempt = ["Diagnostic", "Connected"]
    assert steps == ["BeginSession", *attempt, "Closed", "Diagnostic", *attempt, "MessageObtained", "Closed"]
    assert "banner: 554 not today" in watcher.messages[1]
    plan = watcher.events[0].meta["mx_plan"]  # type: ignore[index]
    hosts = [host["addr"] for host in plan["Addresses"]]  # type: ignore[index]
    assert hosts == [good.address, bad.address], "as KumoMTA has it: the first one to be tried comes last"
    assert len({event.meta["id"] for event in watcher.events}) == 1  # type: ignore[index]


async def test_nobody_answers(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    """Such a session ends too, so that whoever follows it knows."""
    node = await start_delivery(mock_clock, nursery, queue=routed_to("[127.0.0.1]:1"))
    with watching(node) as watcher:
        await node.send()
        await node.log.reach(1)
        await node.stop()
    assert watcher.kinds[:4] == ["BeginSession", "Diagnostic", "Diagnostic", "Closed"]
    assert "Connection refused" in watcher.messages[1]


async def test_nobody_to_connect_to(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    node = await start_delivery(mock_clock, nursery)
    with watching(node) as watcher:
        await node.send("to@null.test")
        await node.log.reach(1)
    await node.stop()
    assert watcher.kinds == ["BeginSession", "Diagnostic", "Closed"]
    assert watcher.messages == ["556 5.1.10 Recipient address has a null MX"]
    assert watcher.events[0].meta["mx_plan"] == "NullMx"  # type: ignore[index]


async def test_the_connection_breaks_under_a_message(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    node = await start_delivery(mock_clock, nursery, Server(usual(dot="close")))
    with watching(node) as watcher:
        await node.send()
        await node.log.reach(1)
    await node.stop()
    assert watcher.kinds[-2:] == ["Closed", "Diagnostic"]
    assert "connection closed by peer while waiting for ." in watcher.messages[-1]


async def test_a_reply_that_does_not_come(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    path = egress(**TIMEOUTS)
    node = await start_delivery(mock_clock, nursery, Server(usual(dot="silence")), path=path)
    with watching(node) as watcher:
        await node.send()
        await node.log.reach(1)
    await node.stop()
    assert "Timed Out waiting 8s for response to ." in watcher.messages[-1]


async def test_recipients_that_follow_in_a_transaction_of_their_own(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    path = egress(max_recipients_per_batch=1)
    node = await start_delivery(mock_clock, nursery, Server(), path=path)
    with watching(node) as watcher:
        await node.send("a@b.test", "c@b.test")
        await node.done(2)
    obtained = [event.meta["recipient"] for event in watcher.events if event.kind == "MessageObtained"]  # type: ignore[index]
    assert obtained == [["a@b.test", "c@b.test"], ["c@b.test"]]


# -- TLS and passwords ---------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def test_tls_and_password(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, tmp_path: Path
) -> None:
    server = Server(
        offering(context_for(authority), "AUTH PLAIN", *EXTENSIONS, replies={"AUTH": "235 2.7.0 ok"})
    )
    login = {"smtp_auth_plain_username": "daniel", "smtp_auth_plain_password": KeySource(key_data="tiger")}
    with trusted_by_the_system(authority, tmp_path):
        node = await start(mock_clock, nursery, server, **login)
        with watching(node) as watcher:
            await node.send()
            await node.done(1)
    assert server.commands[0][3] == f"AUTH PLAIN {SECRET}"
    assert b"AUTH PLAIN [hidden]\r\n" in watcher.of("Write")
    assert SECRET not in repr(watcher.events)
    assert any(text.startswith("STARTTLS handshake -> TLSv1.3:TLS_") for text in watcher.messages)


async def test_tls_that_fails(mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA) -> None:
    server = Server(offering(context_for(authority)))
    node = await start(mock_clock, nursery, server, starttls_timeout=Duration(3))
    with watching(node) as watcher:
        await node.send()
        await node.log.reach(1)
    await node.stop()
    assert any(text.startswith("STARTTLS handshake failed: TLS handshake with") for text in watcher.messages)
