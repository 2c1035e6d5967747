"""try_next_host_on_transport_error: a message that a connection broke under goes to the next host at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from smtp_out_harness import Server, egress, routed_to, start_delivery
from smtp_out_tls_harness import EXTENSIONS

from kumo_py.core.duration import Duration

if TYPE_CHECKING:
    from smtp_out_harness import Peer
    from trio.testing import MockClock


async def drop_after_mail(peer: Peer) -> None:
    await peer.greet(*EXTENSIONS)
    await peer.line()


async def say_421(peer: Peer) -> None:
    await peer.greet(*EXTENSIONS)
    await peer.converse({"MAIL": "421 4.3.2 bye"})


async def say_421_in_the_end(peer: Peer) -> None:
    await peer.greet(*EXTENSIONS)
    await peer.converse({".": "421 4.3.2 bye"})


async def be_silent(peer: Peer) -> None:
    await peer.greet(*EXTENSIONS)
    await peer.converse({"MAIL": "silence", "RCPT": "silence", "DATA": "silence"})


FAILURES = [drop_after_mail, say_421, say_421_in_the_end, be_silent]


@pytest.mark.option("make_egress_path.try_next_host_on_transport_error")
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("strategy", ["ConnectNextHost", "ReconnectSameHost", "TerminateSession"])
@pytest.mark.parametrize("enabled", [True, False])
async def test_try_next_host_on_transport_error(
    mock_clock: MockClock, nursery: trio.Nursery, failure: Any, strategy: str, enabled: bool
) -> None:
    bad, good = Server(failure), Server()
    path = egress(
        try_next_host_on_transport_error=enabled,
        reconnect_strategy=strategy,
        mail_from_timeout=Duration(5),
    )
    queue = routed_to(bad.mx, good.mx, retry_interval=Duration(600))
    node = await start_delivery(mock_clock, nursery, bad, good, path=path, queue=queue)
    msg = await node.send("to@b.test", "two@b.test")
    goes_on = enabled and strategy != "TerminateSession"
    await node.log.reach(2 if goes_on else 1)
    await trio.sleep(1)
    kinds = [(record.kind, record.attempts, record.recipients) for record in node.log.records]
    both = ("to@b.test", "two@b.test")
    failed, delivered = ("TransientFailure", 0, both), ("Delivery", 0, both)
    assert kinds == ([failed, delivered] if goes_on else [failed])
    assert len(good.messages) == goes_on
    assert node.in_spool(msg) == (not goes_on)
    await node.stop()


async def test_try_next_host_ends_with_the_last_host(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    servers = [Server(say_421) for _ in range(3)]
    path = egress(try_next_host_on_transport_error=True, reconnect_strategy="ReconnectSameHost")
    queue = routed_to(*(server.mx for server in servers), retry_interval=Duration(600))
    node = await start_delivery(mock_clock, nursery, *servers, path=path, queue=queue)
    msg = await node.send()
    await node.log.reach(3)
    await trio.sleep(1)
    assert node.log.brief == [("TransientFailure", 421)] * 3
    assert [len(server.peers) for server in servers] == [1, 1, 1]
    assert msg.attempts == 1
    await node.stop()


async def test_what_was_sent_ahead_is_not_lost_when_the_message_goes_to_the_next_host(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    bad, good = Server(say_421_in_the_end), Server()
    path = egress(try_next_host_on_transport_error=True)
    node = await start_delivery(mock_clock, nursery, bad, good, path=path)
    for number in range(3):
        await node.send(f"to{number}@b.test")
    await node.done(4)
    assert node.log.kinds == ["TransientFailure", *["Delivery"] * 3]
    assert [message.rcpts for message in good.messages] == [
        (f"RCPT TO:<to{number}@b.test>",) for number in range(3)
    ]


async def test_a_refusal_of_the_message_is_no_transport_error(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def later(peer: Peer) -> None:
        await peer.greet(*EXTENSIONS)
        await peer.converse({"RCPT": "450 4.2.1 later"})

    bad, good = Server(later), Server()
    path = egress(try_next_host_on_transport_error=True)
    queue = routed_to(bad.mx, good.mx, retry_interval=Duration(600))
    node = await start_delivery(mock_clock, nursery, bad, good, path=path, queue=queue)
    await node.send()
    await node.done(1)
    assert node.log.brief == [("TransientFailure", 450)]
    assert good.peers == []
