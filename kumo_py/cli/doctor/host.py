"""The machine, as the doctor's checks see it. They look at nothing else, so that a test can show them any machine.

Files are read below a root. Nothing is changed, but for small files in spool directories, by which the disk's time is
taken and which are gone at once.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SYNCED_BYTES = 4096
_ADJTIMEX_BYTES = 256
"""More than `struct timex` has."""
_STATUS_AT = 40
"""Where its `status` is, on 64-bit Linux."""
_STA_UNSYNC = 0x40
_TIME_ERROR = 5


class Limit(NamedTuple):
    """None is no limit."""

    soft: int | None
    hard: int | None


class Space(NamedTuple):
    """Of a file system; inodes are 0 where it does not count them."""

    free_bytes: int
    total_bytes: int
    free_inodes: int
    total_inodes: int


class Answer(NamedTuple):
    """Of the DNS."""

    seconds: float
    values: list[str]
    problem: str | None = None


class Host:
    """This machine and this process."""

    def __init__(self, root: str = "/") -> None:
        self._root = Path(root)

    # -- files -----------------------------------------------------------------------------------------------------
    def text(self, path: str) -> str | None:
        """None if it cannot be read."""
        try:
            return (self._root / path.lstrip("/")).read_text(errors="replace")
        except OSError:
            return None

    def names(self, directory: str) -> list[str]:
        """What is in it; nothing if it cannot be read."""
        try:
            return sorted(os.listdir(self._root / directory.lstrip("/")))
        except OSError:
            return []

    def link(self, path: str) -> str:
        """Where it points to; empty if that cannot be told."""
        try:
            return os.readlink(self._root / path.lstrip("/"))
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        return (self._root / path.lstrip("/")).exists()

    def sysctl(self, name: str) -> list[int] | None:
        """Its numbers; None if this kernel has none of this name."""
        text = self.text("/proc/sys/" + name.replace(".", "/"))
        try:
            return None if text is None else [int(part) for part in text.split()]
        except ValueError:
            return None

    # -- this process ----------------------------------------------------------------------------------------------
    def limit(self, name: str) -> Limit:
        """name: as in `resource`, such as RLIMIT_NOFILE."""
        both = resource.getrlimit(getattr(resource, name))
        return Limit(*(None if value == resource.RLIM_INFINITY else value for value in both))

    def cpus(self) -> int:
        """Those that this process may use."""
        return len(os.sched_getaffinity(0))

    # -- disks -----------------------------------------------------------------------------------------------------
    def space(self, directory: str) -> Space:
        """Raises OSError."""
        info = os.statvfs(self._root / directory.lstrip("/"))
        return Space(
            info.f_bavail * info.f_frsize, info.f_blocks * info.f_frsize, info.f_favail, info.f_files
        )

    def sync_times(self, directory: str, count: int) -> list[float]:
        """Seconds that each of so many small writes took until it was on the disk. Raises OSError."""
        times = []
        with tempfile.TemporaryFile(dir=self._root / directory.lstrip("/"), prefix=".doctor") as file:
            for _ in range(count):
                os.write(file.fileno(), b"\0" * SYNCED_BYTES)
                before = time.perf_counter()
                os.fdatasync(file.fileno())
                times.append(time.perf_counter() - before)
        return times

    def newest(self, directory: str) -> float | None:
        """When the file in it that was changed last was changed (Unix time)."""
        times = []
        with suppress(OSError), os.scandir(self._root / directory.lstrip("/")) as entries:
            for entry in entries:
                with suppress(OSError):
                    times.append(entry.stat(follow_symlinks=False).st_mtime)
        return max(times, default=None)

    # -- clock and names -------------------------------------------------------------------------------------------
    def now(self) -> float:
        return time.time()

    def clock_is_synchronised(self) -> bool | None:
        """Whether something keeps the kernel's clock right; None if that cannot be told."""
        buffer = ctypes.create_string_buffer(_ADJTIMEX_BYTES)  # modes 0: only asks
        try:
            state = ctypes.CDLL(None).adjtimex(buffer)
        except (OSError, AttributeError):
            return None
        if state < 0:
            return None
        status = int.from_bytes(buffer.raw[_STATUS_AT : _STATUS_AT + 4], "little")
        return state != _TIME_ERROR and not status & _STA_UNSYNC

    def hostname(self) -> str:
        return socket.gethostname()

    def ask_dns(self, name: str, kind: str) -> Answer:
        """kind: MX, A, AAAA or PTR (of an address). Asks the name servers of /etc/resolv.conf."""
        import trio

        from kumo_py.dns import DnsError, Resolver

        async def ask() -> list[str]:
            resolver = Resolver()
            match kind:
                case "MX":
                    return list((await resolver.lookup_mx(name)).hosts)
                case "A":
                    return list(await resolver.lookup_a(name))
                case "AAAA":
                    return list(await resolver.lookup_aaaa(name))
            return list(await resolver.lookup_ptr(name))

        before = time.perf_counter()
        try:
            values, problem = trio.run(ask), None
        except DnsError as err:
            values, problem = [], str(err)
        return Answer(time.perf_counter() - before, values, problem)
