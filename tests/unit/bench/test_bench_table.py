"""From runs to ratios and verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from mailbench.load import PERSIST, SMTP_SOURCE, TRAFFIC_GEN
from mailbench.peer import RELAY
from mailbench.result import Absent, Idle, Results, Run, Session, read
from mailbench.table import groups, text

if TYPE_CHECKING:
    from pathlib import Path

RUN = Run(
    workload=RELAY,
    size=1024,
    mode=PERSIST,
    sessions=20,
    generator=SMTP_SOURCE,
    peer="kumo-py",
    version="1",
    round=1,
    count=1000,
    cpu_us=100.0,
    user_share=0.5,
    msgs_s=1000.0,
    accepted_s=1000.0,
    generator_us=50.0,
    sink_us=50.0,
    probe_ns=30.0,
    other_cores=0.1,
)


def run(**changes: Any) -> Run:
    return msgspec.structs.replace(RUN, **changes)


def rounds(peer: str, *cpu_us: float, **changes: Any) -> list[Run]:
    return [run(peer=peer, round=number, cpu_us=cpu, **changes) for number, cpu in enumerate(cpu_us, 1)]


def ratio(runs: list[Run], peer: str, generator: str = SMTP_SOURCE) -> str:
    [group] = groups(runs)
    row = group.row(peer, generator)
    assert row is not None
    return str(group.ratio(row))


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # A machine at half speed in the second round doubles both: the ratio of medians would be 7x or 5x.
    assert ratio(rounds("kumo-py", 100, 200, 100) + rounds("postfix", 900, 1800, 1000), "postfix") == "9x"


def test_disturbed_rounds_do_not_count_where_clean_ones_exist() -> None:
    ours = rounds("kumo-py", 100, 100, 100)
    theirs = [
        run(peer="postfix", round=1, cpu_us=800.0),
        run(peer="postfix", round=2, cpu_us=3000.0, other_cores=0.9),
        run(peer="postfix", round=3, cpu_us=3000.0, probe_ns=60.0),
    ]
    assert ratio(ours + theirs, "postfix") == "8x"


def test_a_ratio_of_disturbed_rounds_is_marked() -> None:
    runs = rounds("kumo-py", 100, other_cores=1.5) + rounds("postfix", 750)
    assert ratio(runs, "postfix") == "~7.5x"


def test_each_generator_has_its_own_base() -> None:
    runs = rounds("kumo-py", 100) + rounds("kumo-py", 80, generator=TRAFFIC_GEN)
    runs += rounds("postfix", 400, generator=TRAFFIC_GEN)
    assert ratio(runs, "postfix", TRAFFIC_GEN) == "5x"


def test_without_a_common_round_there_is_no_ratio() -> None:
    assert ratio([run(round=1), run(peer="postfix", round=2)], "postfix") == "None"


@pytest.mark.parametrize(
    ("cpu_us", "target", "goal"), [(1300, "pass", "pass"), (900, "pass", "missed"), (700, "FAIL", "missed")]
)
def test_targets_are_judged(cpu_us: float, target: str, goal: str) -> None:
    shown = text(rounds("kumo-py", 100) + rounds("postfix", cpu_us))
    verdicts = {line.split()[5]: line.split()[0] for line in shown.splitlines() if " CPU ≤ 1/" in line}
    assert verdicts == {"target": target, "goal": goal}


def test_failed_runs_and_absent_peers_are_named_and_not_counted() -> None:
    lines = [
        run(),
        run(peer="haraka", error="3 of 9 messages were delivered"),
        Absent(RELAY, "exim", "no exim"),
    ]
    shown = text(lines)
    assert "relay haraka 1 KB persist: 3 of 9 messages were delivered" in shown
    assert "relay exim: no exim" in shown
    [group] = groups(lines)
    assert [row.peer for row in group.rows] == ["kumo-py"]


def test_results_survive_the_file(tmp_path: Path) -> None:
    results = Results(tmp_path / "new" / "results.jsonl")
    idle = Idle("kumo-py", "1", 5000, 5000, 60.0, 50.0, 6.0, 5.8, 70.0)
    for line in (
        Session("2 × CPU", "2026-01-01T00:00:00+00:00", ["--quick"]),
        run(),
        Absent("sink", "exim", "no"),
        idle,
    ):
        results.add(line)
    assert read([tmp_path / "new" / "results.jsonl"]) == results.lines
