"""How busy the CPUs are, from the counters of the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from kumo_py.daemon import cpu

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock


async def test_shares_of_the_last_three_seconds(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = cpu.CpuUsage()
    usage.count = 4
    machine = iter([(100, 1000), (400, 2200), (400, 3400)])
    monkeypatch.setattr(cpu, "_machine", lambda: next(machine))
    monkeypatch.setattr("time.monotonic", trio.current_time)
    process = iter([5.0, 6.5, 6.5])
    monkeypatch.setattr("time.process_time", lambda: next(process))
    nursery.start_soon(usage.watch)
    await trio.sleep(3.5)
    assert (usage.process, usage.system) == (pytest.approx(50.0), pytest.approx(100.0))
    await trio.sleep(3)
    assert (usage.process, usage.system) == (0.0, 0.0)
    nursery.cancel_scope.cancel()


def test_ticks_of_all_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(cpu, "_STAT", stat)
    assert cpu._machine() == (0, 0)
    stat.write_text("cpu  10 1 5 100 20 3 2 1 7 7\ncpu0 5 0 0 0 0 0 0 0 0 0\n")
    assert cpu._machine() == (22, 142)


def test_this_machine_tells() -> None:
    busy, total = cpu._machine()
    assert 0 < busy < total
