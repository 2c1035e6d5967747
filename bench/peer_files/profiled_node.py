"""kumo-py under a profiler: profiled_node.py exact|sampled OUT ARGUMENTS…

SIGUSR1 begins, SIGUSR2 ends and writes OUT. exact: cProfile, OUT is for pstats. sampled: the stack at every
tick of the kernel that finds the node at work (every 4 ms, as a rule); OUT is JSON, a list of stacks and their
counts, a stack is a list of [file, line, function], the innermost first.
"""

from __future__ import annotations

import cProfile
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from kumo_py.cli import main

if TYPE_CHECKING:
    from types import FrameType

INTERVAL = 0.001


class Exact:
    def __init__(self, out: Path) -> None:
        self._out = out
        self._profiler = cProfile.Profile()

    def begin(self, *_: object) -> None:
        self._profiler.enable()

    def end(self, *_: object) -> None:
        self._profiler.disable()
        self._profiler.dump_stats(self._out)


class Sampled:
    def __init__(self, out: Path) -> None:
        self._out = out
        self._stacks: Counter[tuple[tuple[str, int, str], ...]] = Counter()

    def begin(self, *_: object) -> None:
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def end(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._out.write_text(json.dumps(list(self._stacks.items())))

    def _sample(self, number: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            code = frame.f_code
            stack.append((code.co_filename, frame.f_lineno, code.co_name))
            frame = frame.f_back
        self._stacks[tuple(stack)] += 1


kind, out, *arguments = sys.argv[1:]
profiler = {"exact": Exact, "sampled": Sampled}[kind](Path(out))
signal.signal(signal.SIGUSR1, profiler.begin)
signal.signal(signal.SIGUSR2, profiler.end)
sys.argv[:] = ["kumo-py", *arguments]
main()
