"""Limits of connections that many paths share: never exceeded, used to the full, and everybody's turn comes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trio
from queue_harness import Sender, Sent, constant, start_node

from kumo_py.core.duration import Duration
from kumo_py.limits.spec import LimitSpec
from kumo_py.queue.config import EgressPath

if TYPE_CHECKING:
    from trio.testing import MockClock

    from kumo_py.queue.ready import ReadyQueue

SITES = 25
ZONE = "$ORIGIN test.\n" + "".join(
    f"d{number} MX 10 mx{number}\nmx{number} A 127.0.0.1\n" for number in range(SITES)
)


class BriefSender(Sender):
    """Ten messages a connection, a second for each, and a second to connect."""

    async def run(self, ready: ReadyQueue) -> None:
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            await trio.sleep(1)
            for _ in range(10):
                msg = ready.take()
                if msg is None:
                    return
                self.sent.append(Sent(self.node.now, msg.id, ready.source.name, ready.name, 0))
                await trio.sleep(1)
                self.node.queues.forget(msg)
        finally:
            self.open -= 1


@pytest.mark.option("make_egress_path.additional_connection_limits")
@pytest.mark.parametrize("limit", [1, 4])
async def test_paths_take_turns_under_a_shared_limit(
    autojump_clock: MockClock, nursery: trio.Nursery, limit: int
) -> None:
    path = EgressPath(
        connection_limit=LimitSpec(3),
        additional_connection_limits={"all": LimitSpec(limit)},
        max_ready=10**6,
        idle_timeout=Duration(1),
    )
    node = await start_node(nursery, {"get_egress_path_config": constant(path)}, zone=ZONE)
    sender = BriefSender(node)
    for number in range(SITES * 400):
        await node.send(f"to@d{number % SITES}.test", saved=False)
    seconds = 11 * 100
    await trio.sleep(seconds)
    assert sender.peak == limit
    # Ten of eleven seconds: no place was ever free while somebody wanted it.
    assert len(sender.sent) == pytest.approx(limit * seconds * 10 / 11, rel=0.01)
    counts = Counter(sent.queue for sent in sender.sent)
    assert len(counts) == SITES
    fair = limit * seconds * 10 / 11 / SITES
    assert all(abs(count - fair) <= 20 for count in counts.values())
