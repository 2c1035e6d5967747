"""Servers that do anything at all, by seeds: every recipient comes to exactly one end, or is still in the spool."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
from smtp_out_harness import Closed, Server, egress, routed_to, start_delivery

from kumo_py.core.duration import Duration
from kumo_py.limits.spec import LimitSpec

if TYPE_CHECKING:
    from smtp_out_harness import Peer
    from trio.testing import MockClock

OK = {"DATA": "354 go", "EHLO": "250-peer", "QUIT": "221 bye"}


class AnyServer:
    """Mostly agrees. Notes which recipients of which message it took: it said 250, and did not close over it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.taken: Counter[tuple[str, str]] = Counter()

    async def __call__(self, peer: Peer) -> None:
        random = self.random
        await self._reply(peer, "220 peer", "connect")
        await peer.line()
        pipelining = random.random() < 0.6
        await peer.send("250-peer", "250-8BITMIME", "250 PIPELINING" if pipelining else "250 X")
        accepted: list[str] = []
        while True:
            line = await peer.line()
            verb = line.split(" ", 1)[0]
            if verb == "DATA" and not accepted and random.random() < 0.8:
                await peer.send("503 no recipients")
                continue
            code = await self._reply(peer, OK.get(verb, "250 ok"), verb)
            if verb == "QUIT":
                return
            if verb in ("MAIL", "RSET"):
                accepted, mailed = [], code == 250 and verb == "MAIL"
            elif verb == "RCPT":
                recipient = line[len("RCPT TO:<") : -1]
                if code == 250 and mailed:
                    accepted.append(recipient)
            elif verb == "DATA" and code == 354:
                content = await peer.content()
                number = content.partition(b"\r\n")[0].decode()
                code = await self._reply(peer, "250 queued", ".")
                if code == 250:
                    self.taken.update((number, recipient) for recipient in accepted)
                accepted = []

    async def _reply(self, peer: Peer, usual: str, verb: str) -> int:
        random = self.random
        chance = random.random()
        reply = usual
        if chance < 0.03 and verb != "connect":
            reply = random.choice(["450 later", "451 4.7.1 greylisted", "452 too many"])
        elif chance < 0.05 and verb != "connect":
            reply = random.choice(["550 never", "554 5.7.1 no", "552 too much"])
        elif chance < 0.06:
            reply = "421 4.3.2 bye"
        elif chance < 0.08:
            raise Closed
        elif chance < 0.09:
            await peer.send(reply[:3].encode())
            raise Closed
        elif chance < 0.095:
            await trio.sleep(50)
        await peer.send(reply)
        if reply.startswith("421"):
            raise Closed
        return int(reply[:3])


@pytest.mark.parametrize("seed", range(20))
async def test_nobody_is_lost_or_counted_twice(
    mock_clock: MockClock, nursery: trio.Nursery, seed: int
) -> None:
    random = Random(seed)
    anything = AnyServer(random)
    servers = [Server(anything) for _ in range(random.choice([1, 2]))]
    times = ("banner", "ehlo", "mail_from", "rcpt_to", "data", "data_dot", "rset")
    path = egress(
        connection_limit=LimitSpec(random.choice([1, 3])),
        max_deliveries_per_connection=random.choice([1, 3, 1000]),
        max_recipients_per_batch=random.choice([1, 2, 100]),
        reconnect_strategy=random.choice(["ConnectNextHost", "ReconnectSameHost", "TerminateSession"]),
        enable_rset=random.random() < 0.7,
        enable_pipelining=random.random() < 0.8,
        **{f"{time}_timeout": Duration(10) for time in times},
    )
    queue = routed_to(
        *(server.mx for server in servers), retry_interval=Duration(2), max_retry_interval=Duration(4)
    )
    node = await start_delivery(mock_clock, nursery, *servers, path=path, queue=queue, seed=seed)
    messages, recipients = [], {}
    for number in range(20):
        names = [f"r{index}@b.test" for index in range(random.choice([1, 1, 1, 3, 5]))]
        msg = node.make_message(*names, data=f"m{number}\r\n\r\nhello\r\n".encode())
        if random.random() < 0.5:
            await node.spool.save(msg)
        await node.put(msg)
        messages.append(msg)
        recipients[msg.id] = (f"m{number}", names)
        if random.random() < 0.2:
            await trio.sleep(random.random())
    await trio.sleep(random.choice([1, 20]))
    await node.stop()

    ends: Counter[tuple[str, str]] = Counter()
    for record in node.log.records:
        number_, names = recipients[record.id]
        assert set(record.recipients) <= set(names)
        if record.kind in ("Delivery", "Bounce"):
            ends.update((number_, name) for name in record.recipients)
        if record.kind == "Delivery":
            for name in record.recipients:
                assert anything.taken[number_, name] >= 1
    for msg in messages:
        number_, names = recipients[msg.id]
        left: set[str] = set()
        if node.in_spool(msg):
            msg.shrink_meta()
            await node.spool.load_meta(msg)
            left = set(msg.recipients)
        for name in names:
            assert ends[number_, name] + (name in left) == 1, (number_, name)
    assert node.queues.memory.held == 0
