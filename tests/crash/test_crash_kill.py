"""kill -9 at a random instant, restart, again and again: what was answered 250 is delivered, and nothing else.

A message may come twice only if a kill came between its delivery and the note of it on disk.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from checked_load import Load, sequence_of
from real_node import Preloaded, RealNode, relay_policy
from spool_contents import spooled

from kumo_py.logs.reader import records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from smtp_sink import SmtpSink

pytestmark = pytest.mark.slow

CLIENTS = 8
NOTED_WITHIN = 2.0
"""Seconds in which a delivery is noted on disk: usually a few milliseconds, but machines may be busy."""
SINK_LAG = 1.0
"""Seconds for which the sink may have messages of a dead relay in its socket buffers."""


def small(chance: random.Random) -> int:
    return chance.choice((0, 200, 500, 1000, 1000, 2000, 5000, 60_000))


@dataclass
class Relay:
    """A relay that is killed and started again on one spool."""

    directory: Path
    policy: str
    preloaded: Preloaded
    node: RealNode | None = None
    address: str = "127.0.0.1:1"
    kills: list[tuple[float, float]] = field(default_factory=list)

    def start(self, *, wait: bool = True) -> RealNode:
        node = self.node = RealNode(self.policy, self.directory, preloaded=self.preloaded)
        if wait:
            node.wait_ready()
            self.address = node.address
        return node

    def kill(self) -> None:
        assert self.node is not None
        assert self.node.alive, f"it ended by itself:\n{self.node.text}"
        self.node.kill()
        self.kills.append(self.node.killed_at)

    def drain(self, sink: SmtpSink, wanted: set[int], timeout: float) -> None:
        """Let it run until everything wanted has arrived and nothing more comes; then stop it in good order."""
        deadline = time.monotonic() + timeout
        quiet_since, count, missing = time.monotonic(), -1, set(wanted)
        seen = 0
        while missing or time.monotonic() - quiet_since < 1.5:
            if len(sink.deliveries) != count:
                quiet_since, count = time.monotonic(), len(sink.deliveries)
                missing -= {sequence_of(delivery.content) for delivery in sink.deliveries[seen:count]}
                seen = count
            assert time.monotonic() < deadline, (
                f"{len(missing)} messages are lost, such as {sorted(missing)[:5]}"
            )
            time.sleep(0.02)
        assert self.node is not None
        self.node.stop()


@pytest.fixture
def relay(tmp_path: Path, sink: SmtpSink, preloaded: Preloaded) -> Iterator[Relay]:
    relay = Relay(tmp_path, relay_policy(tmp_path, sink.address), preloaded)
    yield relay
    if relay.node is not None:
        relay.node.kill()
    preloaded.segment_bytes = None


def check_end(relay: Relay, load: Load, sink: SmtpSink) -> None:
    """The promises, after everything has been drained."""
    arrivals = [(sequence_of(delivery.content), delivery.at) for delivery in sink.deliveries]
    delivered = {sequence for sequence, _ in arrivals}
    lost = load.acknowledged - delivered
    assert not lost, f"{len(lost)} acknowledged messages are lost, such as {sorted(lost)[:5]}"
    invented = delivered - load.acknowledged - load.uncertain
    assert not invented, f"delivered, but never sent to the end or refused: {sorted(invented)[:5]}"
    assert spooled(relay.directory) == set(), "something was left in the spool"
    for record in records(relay.directory / "logs"):
        assert record["type"] in ("Reception", "Delivery", "TransientFailure", "Delayed"), record
    duplicates = find_duplicates(relay.kills, arrivals)
    by_kill = Counter(kill for kill, _ in duplicates)
    print(
        f"{len(relay.kills)} kills, {len(load.acknowledged)} acknowledged, {len(load.uncertain)} unanswered, "
        f"{len(arrivals)} deliveries, {len(duplicates)} of them duplicates "
        f"({len(duplicates) / len(relay.kills):.2f} per kill, at most {max(by_kill.values(), default=0)}; "
        f"first delivered at most {1000 * max((age for _, age in duplicates), default=0.0):.0f} ms before it)"
    )


def find_duplicates(
    kills: list[tuple[float, float]], arrivals: list[tuple[int, float]]
) -> list[tuple[int, float]]:
    """For each: the number of the kill that explains it, and the seconds from the first delivery to that kill.

    One that no kill explains is an AssertionError.
    """
    duplicates = []
    last: dict[int, float] = {}
    for sequence, at in arrivals:
        first, last[sequence] = last.get(sequence), at
        if first is None:
            continue
        # What a relay sent may be taken from a socket buffer when it is dead already.
        ages = [(before - first, n) for n, (before, after) in enumerate(kills) if after < at]
        ages = [item for item in ages if item[0] >= -SINK_LAG]
        assert ages, f"message {sequence} came twice without a kill between"
        age, kill = min(ages, key=lambda item: abs(item[0]))
        assert age < NOTED_WITHIN, f"message {sequence} came twice, first {age:.3f}s before a kill"
        duplicates.append((kill, age))
    return duplicates


@pytest.mark.time_limit(120)
def test_no_acknowledged_message_is_lost_in_sixty_kills(relay: Relay, sink: SmtpSink) -> None:
    chance = random.Random(1)
    load = Load(lambda: relay.address, clients=CLIENTS, seed=1, sizes=small)
    for _ in range(60):
        relay.start()
        time.sleep(chance.uniform(0.02, 0.4))
        relay.kill()
    load.stop()
    relay.start()
    relay.drain(sink, load.acknowledged, 30)
    check_end(relay, load, sink)
    assert len(load.acknowledged) > 1000
    assert load.unfinished, "no kill came in the middle of a message"
    assert load.uncertain, "no kill came before an answer"


@pytest.mark.time_limit(90)
def test_a_queue_that_only_grows_survives_kills_at_start_up(relay: Relay, sink: SmtpSink) -> None:
    """With the sink down; half of the kills hit the node while it starts and enumerates its spool."""
    chance = random.Random(2)
    sink.close()
    load = Load(lambda: relay.address, clients=CLIENTS, seed=2, sizes=small)
    for number in range(30):
        if number % 2:
            relay.start(wait=False)
            time.sleep(chance.uniform(0.0, 0.15))
        else:
            relay.start()
            time.sleep(chance.uniform(0.05, 0.3))
        relay.kill()
    load.stop()
    assert not sink.deliveries
    waiting = spooled(relay.directory)
    assert len(load.acknowledged) <= len(waiting) <= len(load.acknowledged) + len(load.uncertain)
    sink.open()
    for number in range(10):  # and now the kills find a long queue that is being emptied
        relay.start(wait=False)
        time.sleep(chance.uniform(0.05, 0.3) if number % 2 else chance.uniform(0.0, 0.15))
        relay.kill()
    relay.start()
    relay.drain(sink, load.acknowledged, 40)
    check_end(relay, load, sink)


@pytest.mark.time_limit(60)
def test_kills_while_segments_end_and_are_removed(relay: Relay, sink: SmtpSink) -> None:
    """Segments of 256 KB: each run fills, seals, compacts and unlinks several."""
    relay.preloaded.segment_bytes = 256 << 10
    chance = random.Random(3)
    load = Load(
        lambda: relay.address, clients=CLIENTS, seed=3, sizes=lambda chance: chance.choice((1000, 30_000))
    )
    for number in range(20):
        relay.start()
        if number % 5 == 1:
            sink.close()
        elif number % 5 == 3:
            sink.open()
        time.sleep(chance.uniform(0.1, 0.5))
        relay.kill()
    load.stop()
    relay.start()
    relay.drain(sink, load.acknowledged, 40)
    check_end(relay, load, sink)


@pytest.mark.time_limit(60)
def test_kills_just_when_a_full_segment_was_followed_by_another(relay: Relay, sink: SmtpSink) -> None:
    """Segments of their real size, 64 MiB, and messages of 3 MB."""
    chance = random.Random(4)
    sink.close()
    load = Load(lambda: relay.address, clients=4, seed=4, sizes=lambda _: 3_000_000)
    for _ in range(3):
        old = {*relay.directory.glob("data/*.seg")}
        node = relay.start()
        deadline = time.monotonic() + 10
        while len({*relay.directory.glob("data/*.seg")} - old) < 2:
            assert time.monotonic() < deadline, f"no segment was filled ({load.refused}):\n{node.text}"
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.1))
        relay.kill()
    load.stop()
    sink.open()
    relay.start()
    relay.drain(sink, load.acknowledged, 40)
    check_end(relay, load, sink)
