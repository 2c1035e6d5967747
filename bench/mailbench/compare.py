"""Runs the peers by turns: in each round each once, so that a slow moment of the machine hits all of them."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .load import MODES, PERSIST, SMTP_SOURCE, TRAFFIC_GEN, CountingSink, Load, send
from .machine import SpeedProbe, busy, own_cpu, wait_until_quiet
from .peer import RELAY, NotInstalled
from .peers import with_workload
from .peers.kumo_py import KumoPy
from .result import Absent, Run
from .server import Server, ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .peer import Peer
    from .result import Results

RUN_LIMIT = 120.0
"""Seconds."""
MAX_COUNT = 150_000
QUIET_CORES = 0.2
_SETTLE = 0.3
"""Seconds for what a relay does after its last delivery."""


@dataclass(frozen=True, slots=True)
class Plan:
    """seconds: CPU that a peer gets in a run. generators: None = ours on kumo-py too, smtp-source on all.

    patience: seconds to wait for a quiet moment before each round.
    """

    workloads: Sequence[str]
    sizes: Sequence[int]
    modes: Sequence[str]
    sessions: int
    rounds: int
    seconds: float
    generators: Sequence[str] | None
    patience: float = 0.0

    def loads(self, peer: Peer, size: int, mode: str) -> list[Load]:
        """traffic-gen keeps its connections: it has no part in mode conn."""
        wanted = self.generators
        if wanted is None:
            wanted = (SMTP_SOURCE, TRAFFIC_GEN) if peer.name == KumoPy.name else (SMTP_SOURCE,)
        return [
            Load(generator, size, self.sessions, mode)
            for generator in wanted
            if generator == SMTP_SOURCE or mode == PERSIST
        ]


@dataclass(slots=True)
class Contender:
    """A running server; its sink if it is a relay."""

    server: Server
    version: str
    sink: CountingSink | None

    def run(self, load: Load, round_number: int, count: int) -> Run:
        """Send and wait until nothing is left to do."""
        server, sink = self.server, self.sink
        received = sink.messages() if sink else 0
        with SpeedProbe() as probe:
            cpu, sink_cpu, others = server.group.cpu(), sink.cpu() if sink else 0.0, busy() - own_cpu()
            begin = time.perf_counter()
            sent = send(load, server.listen_port, count, RUN_LIMIT)
            error = sent.error
            wall = sent.wall
            if sink is not None and not error:
                if not sink.wait_for(received + count, RUN_LIMIT):
                    error = f"{sink.messages() - received} of {count} messages were delivered"
                wall = time.perf_counter() - begin
                error = error or self._settle(received + count)
            spent = server.group.cpu()
            sink_cpu = sink.cpu() - sink_cpu if sink else 0.0
            elapsed = time.perf_counter() - begin
            others = busy() - own_cpu() - others
        total, user, system = (after - before for after, before in zip(spent, cpu, strict=True))
        return Run(
            workload=server.workload,
            size=load.size,
            mode=load.mode,
            sessions=load.sessions,
            generator=load.generator,
            peer=server.peer.name,
            version=self.version,
            round=round_number,
            count=count,
            cpu_us=round(total / count * 1e6, 1),
            user_share=round(user / ((user + system) or 1), 3),
            msgs_s=round(count / wall, 1),
            accepted_s=round(count / sent.wall, 1),
            generator_us=round(sent.cpu / count * 1e6, 1),
            sink_us=round(sink_cpu / count * 1e6, 1),
            probe_ns=round(probe.nanoseconds, 1),
            other_cores=round(max(0.0, others - total - sent.cpu - sink_cpu) / elapsed, 3),
            error=error,
        )

    def _settle(self, expected: int) -> str:
        """Wait until the queue is empty; what is wrong then."""
        assert self.sink is not None
        end = time.monotonic() + RUN_LIMIT
        while not self.server.drained():
            if time.monotonic() > end:
                return "the queue did not become empty"
            time.sleep(0.05)
        time.sleep(_SETTLE)
        surplus = self.sink.messages() - expected
        return f"{surplus} messages were delivered twice" if surplus else ""

    def count_for(self, load: Load, seconds: float) -> int:
        """How many messages take so much CPU, found by growing runs, which warm it up too. Raises ServerError."""
        count = max(100, 2 * load.sessions)
        while True:
            run = self.run(load, 0, count)
            if run.error:
                raise ServerError(run.error)
            needed = seconds * 1e6 / run.cpu_us
            if count >= needed / 4 or count >= MAX_COUNT:
                return int(max(2 * load.sessions, min(needed, MAX_COUNT)))
            count *= 4


def compare(peers: Sequence[Peer], plan: Plan, results: Results) -> None:
    """Measure, and add to the results."""
    for workload in plan.workloads:
        with ExitStack() as stack:
            contenders = _start(with_workload(peers, workload), workload, plan.sessions, stack, results)
            for size in plan.sizes:
                for mode in (mode for mode in MODES if mode in plan.modes):
                    _rounds(contenders, plan, size, mode, results)


def _start(
    peers: Sequence[Peer], workload: str, sessions: int, stack: ExitStack, results: Results
) -> list[Contender]:
    started = []
    for peer in peers:
        try:
            version = peer.version()
            sink = stack.enter_context(CountingSink()) if workload == RELAY else None
            port = sink.port if sink else 0
            server = Server(peer, workload, max_connections=max(200, sessions), sink_port=port)
            stack.enter_context(server)
        except (NotInstalled, ServerError, OSError, subprocess.SubprocessError) as error:
            _tell(f"{workload} {peer.name}: left out: {error}")
            results.add(Absent(workload, peer.name, str(error)))
            continue
        started.append(Contender(server, version, sink))
    return started


def _rounds(contenders: Sequence[Contender], plan: Plan, size: int, mode: str, results: Results) -> None:
    entries: list[tuple[Contender, Load, int]] = []
    for contender in contenders:
        for load in plan.loads(contender.server.peer, size, mode):
            try:
                entries.append((contender, load, contender.count_for(load, plan.seconds)))
            except ServerError as error:
                name = contender.server.peer.name
                _tell(f"{contender.server.workload} {name} {size} {mode} {load.generator}: left out: {error}")
                results.add(
                    Absent(contender.server.workload, name, f"{size} {mode} {load.generator}: {error}")
                )
    for number in range(1, plan.rounds + 1):
        wait_until_quiet(plan.patience, QUIET_CORES)
        for contender, load, count in entries:
            run = contender.run(load, number, count)
            results.add(run)
            _tell(
                f"{run.workload} {size} {mode} round {number}/{plan.rounds}: {run.peer} from {run.generator}, {count} "
                f"messages, {run.cpu_us:.0f} µs CPU each, {run.msgs_s:.0f}/s {run.error}"
            )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
