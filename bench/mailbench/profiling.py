"""Our node under a profiler, with load from a generator: where the CPU time of a message goes.

The profiler runs from the first message to the last, without start and stop of the node. `exact` is cProfile, whose
call counts are exact, but which makes small Python functions look dearer than they are beside work in C. `sampled`
disturbs little: the time of C code, and of the kernel, counts for the Python line that called it.
"""

from __future__ import annotations

import json
import os
import pstats
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .load import CountingSink, send
from .peer import FILES, RELAY
from .peers.kumo_py import KumoPy
from .server import Server, ServerError

if TYPE_CHECKING:
    from .load import Load

EXACT, SAMPLED = "exact", "sampled"
RUN_LIMIT = 300.0
_ROOT = Path(__file__).resolve().parents[2]


def profile(kind: str, workload: str, load: Load, count: int, top: int, out: Path) -> None:
    """Run, and print the `top` functions. Raises ServerError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    peer = KumoPy([sys.executable, FILES / "profiled_node.py", kind, out.resolve()])
    with ExitStack() as stack:
        sink = stack.enter_context(CountingSink()) if workload == RELAY else None
        server = stack.enter_context(Server(peer, workload, sink_port=sink.port if sink else 0))
        [pid] = server.group.pids()
        os.kill(pid, signal.SIGUSR1)
        before = server.group.cpu()
        sent = send(load, server.listen_port, count, RUN_LIMIT)
        if sent.error:
            raise ServerError(sent.error)
        if sink is not None and not sink.wait_for(count, RUN_LIMIT):
            raise ServerError(f"only {sink.messages()} of {count} messages were delivered")
        after = server.group.cpu()
        os.kill(pid, signal.SIGUSR2)
        _wait_for(out)
    microseconds = (after.total - before.total) / count * 1e6
    user, system = after.user - before.user, after.system - before.system
    if kind == EXACT:
        pstats.Stats(str(out)).strip_dirs().sort_stats("tottime").print_stats(top)
    else:
        _print_samples(json.loads(out.read_text()), microseconds, top)
    print(
        f"{count} messages of {load.size} bytes, {load.mode}: {microseconds:.0f} µs CPU each under the profiler "
        f"({user / (user + system):.0%} user); the profile is in {out}"
    )


def _wait_for(out: Path) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end and not (out.exists() and out.stat().st_size):
        time.sleep(0.05)
    time.sleep(0.3)  # for the rest of the file


def _print_samples(
    stacks: list[tuple[list[tuple[str, int, str]], int]], microseconds: float, top: int
) -> None:
    """µs of a message by innermost function, with what it was called for; and by room."""
    total = sum(count for _, count in stacks) or 1
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    rooms: Counter[str] = Counter()
    for stack, count in stacks:
        names = [f"{_short(file)} {function}" for file, _, function in stack]
        own[names[0]] += count
        for name in set(names):
            within[name] += count
        rooms[next(filter(None, (_room(file) for file, _, _ in stack)), "trio itself")] += count
    scale = microseconds / total
    print(f"{'own µs':>7} {'with all it calls':>18}")
    for name, count in own.most_common(top):
        print(f"{count * scale:7.1f} {within[name] * scale:18.1f}  {name}")
    print("\nµs by the innermost room on the stack, with the library code that it calls")
    for room, count in rooms.most_common():
        print(f"{count * scale:7.1f}  {room}")
    print()


def _room(file: str) -> str:
    """`kumo_py/spool`, or nothing for code that isn't ours. All of a node runs below `cli`: that tells nothing."""
    path = Path(file)
    if not path.is_relative_to(_ROOT / "kumo_py"):
        return ""
    room = "/".join(path.relative_to(_ROOT).parts[:2])
    return "" if room in ("kumo_py/cli", "kumo_py/daemon") else room


def _short(file: str) -> str:
    """The path below the project, or the last two parts."""
    path = Path(file)
    if _room(file):
        return str(path.relative_to(_ROOT))
    return "/".join(path.parts[-2:])
