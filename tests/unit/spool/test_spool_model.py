"""Random histories against a dict, with restarts, crashes, power cuts, faults and compaction."""

from __future__ import annotations

import errno
import random
from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spool_disks import FaultyOps, MemoryDisk, config, contents, key, patched, quiet, settled

from kumo_py.spool import Spool, SpoolError, group_commit, open_spool, segment_log, segment_writer

ACTIONS = st.one_of(
    st.tuples(st.just("store"), st.integers(0, 9), st.integers(0, 400)),
    st.tuples(st.just("store"), st.integers(0, 9), st.integers(0, 40)),
    st.tuples(st.just("remove"), st.integers(0, 9), st.just(0)),
    st.tuples(st.sampled_from(["wait", "settle", "quiet", "step"]), st.just(0), st.just(0)),
    st.tuples(st.just("compact"), st.just(0), st.integers(0, 3)),
    st.tuples(st.sampled_from(["close", "kill", "power"]), st.just(0), st.just(0)),
    st.tuples(st.just("fault"), st.integers(0, 5), st.integers(1, 6)),
)
FAULTS = ["writev", "fdatasync", "ftruncate", "rename", "unlink", "fsync_dir"]


class Model:
    """For each id the states it may be in after a crash, oldest first; the last one is the present.

    A state is data, or None for "not there". What is promised leaves one state only.
    """

    def __init__(self) -> None:
        self.states: dict[bytes, list[bytes | None]] = {}
        self.tickets: list[tuple[int, bytes, bytes]] = []
        self.cancelled: set[bytes] = set()  # removed before they were confirmed: perhaps never written
        self.failed: set[bytes] = set()
        self.stores = 0

    def now(self) -> dict[bytes, bytes]:
        return {id: states[-1] for id, states in self.states.items() if states[-1] is not None}

    def store(self, spool: Spool, id: bytes, size: int) -> None:
        self.stores += 1
        data = b"%d " % self.stores + bytes(size)
        self.states.setdefault(id, [None]).append(data)
        self.tickets.append((spool.store(id, data), id, data))

    def remove(self, spool: Spool, id: bytes) -> None:
        spool.remove(id)
        self.cancelled.update(data for _, stored, data in self.tickets if stored == id)
        self.states.setdefault(id, [None]).append(None)

    async def wait(self, spool: Spool) -> None:
        """Wait for all tickets; what was confirmed is from now on the oldest possible state."""
        tickets, self.tickets = self.tickets, []
        for ticket, id, data in tickets:
            states = self.states[id]
            try:
                await spool.wait_durable(ticket)
            except SpoolError:
                # It never happened. If it was the present, the one before is.
                self.failed.add(data)
                states.remove(data)
            else:
                if data not in self.cancelled:
                    del states[: states.index(data)]

    def certain(self) -> None:
        """Everything has been written: only the present is possible."""
        for states in self.states.values():
            del states[:-1]

    def check_and_adopt(self, found: dict[bytes, bytes], tolerated: set[bytes]) -> None:
        """After a crash: what is there must be possible, and is now the present."""
        for id in self.states.keys() | found.keys():
            data = found.get(id)
            assert data in self.states[id] or data in tolerated
            self.states[id] = [data]
        self.tickets.clear()


async def play(kind: str, actions: list[tuple[str, int, int]]) -> None:
    disk = MemoryDisk()
    ops = FaultyOps(disk)
    now = [0.0]

    async def opened() -> Any:
        return await open_spool(config(kind=kind), ops, clock=lambda: now[0])

    spool = await opened()
    model = Model()
    for action, number, size in actions:
        now[0] += 10
        match action:
            case "store":
                model.store(spool, key(number), size)
            case "remove":
                model.remove(spool, key(number))
            case "wait":
                await model.wait(spool)
            case "step":
                await trio.sleep(0.0005)
            case "compact":  # size: how long it is waited for; it goes on after that
                with trio.move_on_after(5.0 if size == 0 else size * 0.0003) as scope, suppress(SpoolError):
                    await spool.compact()
                assert size or not scope.cancelled_caught
            case "fault":
                name, count = FAULTS[number], size
                left = [count]

                def fault(call: str, _: int, name: str = name, left: list[int] = left) -> int | None:
                    if call != name or not left[0]:
                        return None
                    left[0] -= 1
                    return errno.EIO

                ops.fault = fault
            case "settle" | "quiet":
                ops.fault = lambda call, count: None
                await (quiet if action == "quiet" else settled)(spool)
                await model.wait(spool)
                await quiet(spool)  # removals that failed before are written now
                assert await contents(spool) == model.now()
                if action == "quiet":
                    reopened = await open_spool(config(kind=kind), disk.after_kill())
                    assert await contents(reopened) == model.now()
                    await reopened.aclose()
            case "close" | "kill" | "power":
                if action == "close":
                    ops.fault = lambda call, count: None
                    await spool.aclose()
                    await model.wait(spool)
                    model.certain()
                after = disk.after_power_cut() if action == "power" else disk.after_kill()
                ops.fault = lambda call, count: None
                if action != "close":
                    await spool.aclose()
                disk, ops = after, FaultyOps(after)
                spool = await opened()
                assert spool.problems == [] or action != "close"
                # A disk that fails to sync a directory twice has its way if the power goes at that moment.
                tolerated = model.failed if (kind, action) == ("LocalDisk", "power") else set()
                model.check_and_adopt(await contents(spool), tolerated)
    ops.fault = lambda call, count: None
    await model.wait(spool)
    await spool.aclose()
    spool = await open_spool(config(kind=kind), disk)
    assert await contents(spool) == model.now()
    await spool.aclose()


def run(kind: str, actions: list[tuple[str, int, int]]) -> None:
    with (
        patched(segment_log, SEGMENT_BYTES=900, _SEARCH_INTERVAL=0.0),
        patched(segment_writer, _STEP_RECORDS=3),
        patched(group_commit, _MAX_RECORDS=5),
    ):
        trio.run(play, kind, actions)


@pytest.mark.parametrize("kind", ["SegmentLog", "LocalDisk"])
@settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
@given(actions=st.lists(ACTIONS, max_size=60))
def test_any_history(kind: str, actions: list[tuple[str, int, int]]) -> None:
    run(kind, actions)


@pytest.mark.parametrize("seed", range(10))
def test_long_histories_with_much_churn(seed: int) -> None:
    """What hypothesis rarely makes: hundreds of steps, most of them stores and removals."""
    dice = random.Random(seed)
    actions = []
    for _ in range(400):
        action = dice.choices(
            [
                "store",
                "remove",
                "wait",
                "settle",
                "quiet",
                "step",
                "compact",
                "close",
                "kill",
                "power",
                "fault",
            ],
            [40, 30, 6, 3, 4, 6, 3, 1, 2, 2, 2],
        )[0]
        count = dice.randrange(1, 5) if action in ("fault", "compact") else dice.randrange(300)
        actions.append((action, dice.randrange(6 if action == "fault" else 25), count))
    run("SegmentLog", actions)
