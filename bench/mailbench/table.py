"""The results as text: per workload, size and mode the peers with their ratio to kumo-py, and the targets.

A ratio is the median of the rounds' ratios, each of two runs made shortly after one another. Runs count for
it where they are clean; if a peer has no round in which both are, all rounds count, and the ratio is marked `~`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from .load import SMTP_SOURCE
from .peers.kumo_py import KumoPy
from .result import Absent, Idle, Run, Session
from .targets import TARGETS, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .result import Line

CLEAN_SLOWDOWN = 1.3
"""Relative to the fastest probe of all runs."""
CLEAN_OTHERS = 0.35
"""Cores."""


@dataclass(frozen=True, slots=True)
class Ratio:
    value: float
    clean: bool

    def __str__(self) -> str:
        return f"{'' if self.clean else '~'}{self.value:.3g}x"


@dataclass(frozen=True, slots=True)
class Row:
    """One peer under one load: its runs by round (of the last session, if several measured it)."""

    peer: str
    generator: str
    runs: dict[int, Run]
    clean: frozenset[int]
    """Rounds."""

    def middle(self, field: Callable[[Run], float]) -> float:
        """The median over the clean runs, or over all if none is."""
        return median(field(self.runs[number]) for number in self.clean or self.runs)

    def ratio_to(self, base: Row) -> Ratio:
        """How many times the CPU of `base` this takes. They have a round in common."""
        both = self.runs.keys() & base.runs.keys()
        clean = both & self.clean & base.clean
        ratios = [self.runs[number].cpu_us / base.runs[number].cpu_us for number in clean or both]
        return Ratio(median(ratios), bool(clean))


@dataclass(slots=True)
class Group:
    """All rows of one workload, size, mode and number of sessions."""

    workload: str
    size: int
    mode: str
    sessions: int
    rows: list[Row]

    def row(self, peer: str, generator: str = SMTP_SOURCE) -> Row | None:
        return next((row for row in self.rows if (row.peer, row.generator) == (peer, generator)), None)

    def ratio(self, row: Row) -> Ratio | None:
        """To kumo-py under the same generator."""
        base = self.row(KumoPy.name, row.generator)
        if base is None or not base.runs.keys() & row.runs.keys():
            return None
        return row.ratio_to(base)


def groups(lines: Iterable[Line]) -> list[Group]:
    """Sort the runs that went well."""
    runs = [line for line in lines if isinstance(line, Run) and not line.error]
    fastest = min((run.probe_ns for run in runs), default=0.0)
    sorted_out: dict[tuple[str, int, str, int], dict[tuple[str, str], dict[int, Run]]] = {}
    for run in runs:
        group = sorted_out.setdefault((run.workload, run.size, run.mode, run.sessions), defaultdict(dict))
        group[run.peer, run.generator][run.round] = run
    found = []
    for key, by_peer in sorted_out.items():
        rows = [
            Row(
                peer, generator, by_round, frozenset(n for n, run in by_round.items() if _clean(run, fastest))
            )
            for (peer, generator), by_round in by_peer.items()
        ]
        rows.sort(
            key=lambda row: (row.peer != KumoPy.name, row.generator, row.middle(lambda run: run.cpu_us))
        )
        found.append(Group(*key, rows))
    return found


def _clean(run: Run, fastest: float) -> bool:
    return run.probe_ns <= CLEAN_SLOWDOWN * fastest and run.other_cores <= CLEAN_OTHERS


def text(lines: Sequence[Line]) -> str:
    """Everything."""
    found = groups(lines)
    parts = [f"{line.machine}, {line.time}" for line in lines if isinstance(line, Session)]
    parts += [_group_text(group) for group in found]
    for part in (_targets_text(found), _idle_text(lines), _failures_text(lines)):
        if part:
            parts.append(part)
    return "\n\n".join(parts)


def _group_text(group: Group) -> str:
    out = [
        f"{group.workload}, {size_text(group.size)}, {group.mode}, {group.sessions} sessions",
        f"{'peer':26} {'CPU µs':>7} {'ratio':>7} {'msg/s':>7} {'accepted/s':>10} {'user':>5} {'sent by µs':>10} "
        f"{'sink µs':>7} {'probe ns':>8} {'others':>6} {'clean':>6}",
    ]
    for row in group.rows:
        name = row.peer if row.generator == SMTP_SOURCE else f"{row.peer} ({row.generator})"
        ratio = group.ratio(row)
        out.append(
            f"{name:26} {row.middle(lambda run: run.cpu_us):7.0f} {ratio or '–'!s:>7} "
            f"{row.middle(lambda run: run.msgs_s):7.0f} {row.middle(lambda run: run.accepted_s):10.0f} "
            f"{row.middle(lambda run: run.user_share):5.0%} {row.middle(lambda run: run.generator_us):10.0f} "
            f"{row.middle(lambda run: run.sink_us):7.0f} {row.middle(lambda run: run.probe_ns):8.0f} "
            f"{row.middle(lambda run: run.other_cores):6.2f} {f'{len(row.clean)}/{len(row.runs)}':>6}"
        )
    return "\n".join(out)


def _targets_text(found: Sequence[Group]) -> str:
    """Only what was measured."""
    out = []
    for target in TARGETS:
        for group in found:
            if (group.workload, group.size, group.mode) != (target.workload, target.size, target.mode):
                continue
            row = group.row(target.peer)
            ratio = group.ratio(row) if row is not None else None
            if ratio is not None:
                verdict = (
                    "pass" if ratio.value >= target.ratio else "FAIL" if not target.is_goal else "missed"
                )
                out.append(f"{verdict:6} {target.describe()}: {target.peer} takes {ratio}")
    return "\n".join(["targets, by the ratios above", *out]) if out else ""


def _idle_text(lines: Iterable[Line]) -> str:
    idle = [line for line in lines if isinstance(line, Idle)]
    if not idle:
        return ""
    out = [
        "idle connections, after EHLO",
        f"{'peer':14} {'opened':>7} {'alive':>7} {'PSS MB':>7} {'KB each':>8} {'RSS MB':>7} {'KB each':>8} "
        f"{'CPU µs each':>11}",
    ]
    out += [
        f"{line.peer:14} {line.opened:7} {line.alive:7} {line.pss_mb:7.1f} {line.pss_kb:8.1f} {line.rss_mb:7.1f} "
        f"{line.rss_kb:8.1f} {line.open_us:11.0f}"
        for line in idle
    ]
    return "\n".join(out)


def _failures_text(lines: Iterable[Line]) -> str:
    out = []
    for line in lines:
        if isinstance(line, Absent):
            out.append(f"{line.workload} {line.peer}: {line.reason}")
        elif isinstance(line, Run) and line.error:
            out.append(f"{line.workload} {line.peer} {size_text(line.size)} {line.mode}: {line.error}")
    return "\n".join(["left out", *out]) if out else ""
