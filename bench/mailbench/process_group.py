"""The processes of one server, and the CPU time and memory of them all, dead children included.

A fresh cgroup that holds only the server tells it exactly; where none can be made, /proc tells it in ticks of 10 ms.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Cpu(NamedTuple):
    """Seconds so far. In a v1 cgroup the split into user and system is sampled; the total is exact."""

    total: float
    user: float
    system: float


class Memory(NamedTuple):
    """MiB. PSS counts a page that n processes share as 1/n in each."""

    rss: float
    pss: float


class ProcessGroup(Protocol):
    """enter: called in the child before exec. adopt: told of the child, after it was started."""

    def enter(self) -> None: ...

    def adopt(self, pid: int) -> None: ...

    def pids(self) -> list[int]: ...

    def cpu(self) -> Cpu: ...

    def stop(self, grace: float, reap: Callable[[], object]) -> None: ...


def new_group(name: str) -> ProcessGroup:
    """A cgroup of that name if one can be made, else by /proc."""
    try:
        return CGroup(name)
    except OSError:
        return ProcessTree()


class CGroup:
    """A cgroup (v1 cpuacct, or v2) of its own, below the one that this program is in. Raises OSError if it can't."""

    def __init__(self, name: str) -> None:
        for base, version in _cgroup_bases():
            path = base / f"mailbench-{name}"
            try:
                path.mkdir()
            except OSError:
                continue
            self._path, self._version = path, version
            return
        raise OSError("no writable cgroup")

    def enter(self) -> None:
        (self._path / "cgroup.procs").write_text("0")

    def adopt(self, pid: int) -> None:
        pass

    def pids(self) -> list[int]:
        return [int(pid) for pid in (self._path / "cgroup.procs").read_text().split()]

    def cpu(self) -> Cpu:
        if self._version == 2:
            stat = _pairs(self._path / "cpu.stat")
            return Cpu(*(stat[key] / 1e6 for key in ("usage_usec", "user_usec", "system_usec")))
        stat = _pairs(self._path / "cpuacct.stat")
        usage = int((self._path / "cpuacct.usage").read_text())
        return Cpu(usage / 1e9, stat["user"] / TICKS, stat["system"] / TICKS)

    def stop(self, grace: float, reap: Callable[[], object]) -> None:
        _stop(self.pids, grace, reap)
        for _ in range(50):
            try:
                self._path.rmdir()
                break
            except OSError:
                time.sleep(0.1)


class ProcessTree:
    """The spawned processes and all below them. A dead child's time counts once its parent has waited for it."""

    def __init__(self) -> None:
        self._roots: list[int] = []

    def enter(self) -> None:
        pass

    def adopt(self, pid: int) -> None:
        self._roots.append(pid)

    def pids(self) -> list[int]:
        children = defaultdict(list)
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                children[int(_stat(int(pid))[1])].append(int(pid))
        found = []
        pending = [root for root in self._roots if os.path.exists(f"/proc/{root}")]
        while pending:
            found.append(pending.pop())
            pending += children[found[-1]]
        return found

    def cpu(self) -> Cpu:
        user = system = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                fields = _stat(pid)
                user += int(fields[11]) + int(fields[13])
                system += int(fields[12]) + int(fields[14])
        return Cpu((user + system) / TICKS, user / TICKS, system / TICKS)

    def stop(self, grace: float, reap: Callable[[], object]) -> None:
        _stop(self.pids, grace, reap)


def cpu_of(pid: int) -> float:
    """User and system seconds of one process. Raises OSError if it's gone."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_of(pids: list[int], *, pss: bool = True) -> Memory:
    """The sum over some processes. PSS takes the kernel a while: leave it out (0) where it isn't needed."""
    rss = pss_kib = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            rss += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
            if pss and (
                found := re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
            ):
                pss_kib += int(found[1])
    return Memory(rss / 2**20, pss_kib / 1024)


def _cgroup_bases() -> list[tuple[Path, int]]:
    """(folder, version) of the groups that this process is in."""
    mine: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        mine |= dict.fromkeys(controllers.split(","), path.removeprefix("/"))
    first: list[tuple[Path, int]] = []
    second: list[tuple[Path, int]] = []
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, options, *_ = line.split()
        if kind == "cgroup" and "cpuacct" in options.split(",") and "cpuacct" in mine:
            first.append((Path(point, mine["cpuacct"]), 1))
        elif kind == "cgroup2" and "" in mine:
            second.append((Path(point, mine[""]), 2))
    return first + second


def _pairs(path: Path) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on (proc(5) numbers it 3)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _stop(pids: Callable[[], list[int]], grace: float, reap: Callable[[], object]) -> None:
    """SIGTERM, and SIGKILL after `grace` seconds, to what is in the group then."""
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for pid in pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + patience
        while time.monotonic() < end:
            reap()
            if not any(_alive(pid) for pid in pids()):
                return
            time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return _stat(pid)[0] != "Z"
    except OSError:
        return False
