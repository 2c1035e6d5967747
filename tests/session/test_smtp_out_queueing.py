"""Sessions and their ready queue: rates, limits, memory, and the end of the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from smtp_out_harness import EXTENSIONS, Server, egress, routed_to, start_delivery, usual

from kumo_py.core.duration import Duration
from kumo_py.limits.spec import LimitSpec, ThrottleSpec
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from smtp_out_harness import Peer
    from trio.testing import MockClock

BARE = ("8BITMIME",)
SICK = SpoolError("cannot read spool 'data' at /spool: Input/output error", 5)


def slow(seconds: float, *extensions: str) -> Server:
    """Answers each content after so many seconds."""

    async def script(peer: Peer) -> None:
        await peer.greet(*(extensions or EXTENSIONS))
        while True:
            line = await peer.line()
            if line == "DATA":
                await peer.send("354 go")
                peer.server.messages.append((await peer.content(),))  # type: ignore[arg-type]
                await trio.sleep(seconds)
            await peer.send("221 bye" if line == "QUIT" else "250 ok")
            if line == "QUIT":
                return

    return Server(script)


# -- rates ---------------------------------------------------------------------------------------------
async def test_a_short_throttle_delay_holds_the_connection(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server()
    path = egress(max_message_rate=ThrottleSpec.parse("30/m,max_burst=1"), idle_timeout=Duration(5))
    node = await start_delivery(mock_clock, nursery, server, path=path)
    for _ in range(5):
        await node.send()
    await node.done(5)
    assert [record.at for record in node.log.records] == [pytest.approx(2.0 * n, abs=0.1) for n in range(5)]
    assert node.log.kinds == ["Delivery"] * 5
    assert len(server.peers) == 1


@pytest.mark.option("make_egress_path.max_message_rate")
async def test_a_long_throttle_delay_empties_the_ready_queue(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server()
    path = egress(max_message_rate=ThrottleSpec.parse("6/m,max_burst=1"), idle_timeout=Duration(5))
    handlers = {"requeue_message": lambda *_: None}
    node = await start_delivery(mock_clock, nursery, server, path=path, handlers=handlers)
    messages = [await node.send() for _ in range(3)]
    await node.log.reach(3)
    delivery, *delayed = node.log.records
    assert delivery.kind == "Delivery"
    assert [record.kind for record in delayed] == ["Delayed"] * 2
    assert all("MessageRateThrottle. Next due in 10s" in record.content for record in delayed)
    assert [asked[2:] for asked in node.policy.asked if asked[0] == "requeue_message"] == [
        (
            "451 4.4.1 KumoMTA internal: ready queue throttled",
            ["MessageRateThrottle"],
            False,
            pytest.approx(10.0, abs=0.1),
        )
    ] * 2
    await trio.sleep(31)
    deliveries = node.log.of("Delivery")
    assert [record.at for record in deliveries] == [
        pytest.approx(0.0, abs=0.1),
        pytest.approx(10.0, abs=1.2),
        pytest.approx(20.0, abs=2.4),
    ]
    assert {msg.attempts for msg in messages} == {0}
    await node.stop()


@pytest.mark.option("make_egress_path.additional_message_rate_throttles")
async def test_an_additional_throttle_is_shared_by_name(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    first, second = Server(), Server()
    await nursery.start(first.serve)
    await nursery.start(second.serve)
    path = egress(additional_message_rate_throttles={"both": ThrottleSpec.parse("60/m,max_burst=1")})
    handlers = {
        "get_queue_config": lambda domain, *_: routed_to((first if domain == "b.test" else second).mx)
    }
    node = await start_delivery(mock_clock, nursery, path=path, handlers=handlers)
    for _ in range(3):
        await node.send("to@b.test")
        await node.send("to@c.test")
    await node.done(6)
    times = sorted(record.at for record in node.log.records)
    assert times == [pytest.approx(1.0 * n, abs=0.2) for n in range(6)]
    assert (len(first.messages), len(second.messages)) == (3, 3)


async def test_stop_does_not_wait_for_a_throttle(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server()
    path = egress(max_message_rate=ThrottleSpec.parse("1/m,max_burst=1"), idle_timeout=Duration(100))
    node = await start_delivery(mock_clock, nursery, server, path=path)
    messages = [await node.send(saved=False) for _ in range(2)]
    await node.log.reach(1)
    await trio.sleep(1)
    with trio.fail_after(5):
        await node.stop()
    assert node.log.kinds == ["Delivery"]
    assert node.in_spool(messages[1])


async def test_parallel_connections_share_the_work(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = slow(1.0)
    node = await start_delivery(mock_clock, nursery, server, path=egress(connection_limit=LimitSpec(4)))
    for _ in range(100):
        await node.send()
    await node.done(100)
    assert node.log.kinds == ["Delivery"] * 100
    assert len({record.id for record in node.log.records}) == 100
    assert len(server.peers) == 4
    assert node.now < 35


# -- messages that cannot be read -------------------------------------------------------------------------------
async def test_content_that_is_gone_bounces(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(usual(MAIL=["450 later", "250 ok"]))
    queue = routed_to(server.mx, retry_interval=Duration(5))
    node = await start_delivery(mock_clock, nursery, server, queue=queue)
    msg = await node.send()
    await node.log.reach(1)
    node.data.remove(msg.id)
    await node.done(2)
    assert node.log.brief == [("TransientFailure", 450), ("Bounce", 551)]
    assert not node.meta.stored
    assert server.messages == []


async def test_content_that_cannot_be_read_waits(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(usual(MAIL="450 later"), usual())
    queue = routed_to(server.mx, retry_interval=Duration(10))
    node = await start_delivery(mock_clock, nursery, server, queue=queue)
    msg = await node.send()
    await node.log.reach(1)
    node.data.unreadable = SICK
    await node.log.reach(2)
    node.data.unreadable = None
    await node.done(3)
    assert node.log.brief == [("TransientFailure", 450), ("TransientFailure", 451), ("Delivery", 250)]
    assert node.log.records[1].content.startswith("KumoMTA internal: message content is not readable: ")
    assert not node.in_spool(msg)


async def test_metadata_that_cannot_be_read_waits(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(usual(MAIL="450 later"), usual())
    queue = routed_to(server.mx, retry_interval=Duration(10))
    node = await start_delivery(mock_clock, nursery, server, queue=queue)
    await node.send()
    await node.log.reach(1)
    node.meta.unreadable = SICK
    await trio.sleep(15)
    assert node.log.kinds == ["TransientFailure"]
    node.meta.unreadable = None
    await node.log.reach(2)
    assert node.log.kinds == ["TransientFailure", "Delivery"]
    assert node.now < 90
    await node.stop()


async def test_one_unreadable_message_does_not_stop_the_others(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server()
    node = await start_delivery(mock_clock, nursery, server, body_budget=0)
    messages = [await node.send() for _ in range(5)]
    node.data.remove(messages[2].id)
    await node.done(5)
    assert sorted(node.log.kinds) == ["Bounce"] + ["Delivery"] * 4
    assert len(server.messages) == 4


# -- the end ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("extensions", [EXTENSIONS, BARE])
async def test_stop_lets_the_message_in_flight_finish(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...]
) -> None:
    server = slow(5.0, *extensions)
    node = await start_delivery(mock_clock, nursery, server)
    messages = [await node.send(saved=False) for _ in range(5)]
    await trio.sleep(1)
    await node.stop()
    delivered = {record.id for record in node.log.records}
    # The one in flight, and the one whose envelope was sent with it.
    assert [record.id for record in node.log.records] == [msg.id for msg in messages[: len(delivered)]]
    assert len(delivered) == (2 if extensions is EXTENSIONS else 1)
    assert len(server.messages) == len(delivered)
    assert server.commands[0][-1] == "QUIT"
    for msg in messages[len(delivered) :]:
        assert node.in_spool(msg)


async def test_stop_takes_no_new_message_to_a_slow_connection(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await trio.sleep(5)
        await peer.greet()
        await peer.converse()

    server = Server(script)
    node = await start_delivery(mock_clock, nursery, server)
    messages = [await node.send(saved=False) for _ in range(3)]
    await trio.sleep(1)
    await node.stop()
    assert len(node.log.records) <= 1
    kept = [msg for msg in messages if node.in_spool(msg)]
    assert len(kept) + len(node.log.records) == 3


async def test_cancelled_in_flight_nothing_is_lost(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = slow(100.0)
    async with trio.open_nursery() as inner:
        node = await start_delivery(mock_clock, inner, server)
        messages = [await node.send(saved=False) for _ in range(5)]
        await trio.sleep(1)
        inner.cancel_scope.cancel()
    assert node.log.records == []
    assert all(node.in_spool(msg) for msg in messages)
