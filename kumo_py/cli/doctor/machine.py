"""Processors, memory, the control group's limits, and the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kumo_py.cli.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kumo_py.cli.doctor.finding import Mark
    from kumo_py.cli.doctor.host import Host

_CPUS = 2
_MEMORY, _LITTLE_MEMORY = 2 << 30, 512 << 20
_TOLERANCE = 5.0
"""Seconds by which a file may be newer than now."""
_LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
"""Before this program was written."""


def check_machine(host: Host) -> Iterator[Finding]:
    """What the node has to work with."""
    yield from _cpus(host)
    yield from _memory(host)
    yield from _swap(host)


def _cpus(host: Host) -> Iterator[Finding]:
    count = host.cpus()
    why = "a node keeps one busy, and its disk, DNS and key work takes a part of another"
    if count >= _CPUS:
        yield Finding("host", "processors", "ok", str(count))
    else:
        yield Finding(
            "host", "processors", "warn", str(count), f"at least {_CPUS}", why, "give the machine more"
        )
    quota, _, period = (_of_group(host, "cpu.max") or "max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        share = int(quota) / int(period)
        found = f"{share:.2f} processors"
        if share >= 1:
            yield Finding("host", "cpu.max of the control group", "ok", found)
        else:
            why = "the node is stopped for a while whenever it has used its share"
            mend = "raise CPUQuota= of its service, or the limit of its container"
            yield Finding("host", "cpu.max of the control group", "warn", found, "at least 1", why, mend)


def _memory(host: Host) -> Iterator[Finding]:
    total = _meminfo(host).get("MemTotal")
    limit = _of_group(host, "memory.max") or host.text("/sys/fs/cgroup/memory/memory.limit_in_bytes") or ""
    grouped = int(limit) if limit.strip().isdigit() else None
    sizes = [one for one in (total, grouped) if one is not None]
    if not sizes:
        return
    least = min(sizes)
    found = f"{least / (1 << 30):.1f} GiB" + (", by the control group" if least == grouped else "")
    if least >= _MEMORY:
        yield Finding("host", "memory", "ok", found)
        return
    mark: Mark = "bad" if least < _LITTLE_MEMORY else "warn"
    why = "a node takes no more mail when three quarters of it are used"
    yield Finding(
        "host", "memory", mark, found, "at least 2 GiB", why, "give the machine, or the container, more"
    )


def _swap(host: Host) -> Iterator[Finding]:
    info = _meminfo(host)
    total, free, memory = (info.get(name, 0) for name in ("SwapTotal", "SwapFree", "MemTotal"))
    used = total - free
    if total == 0:
        yield Finding("host", "swap", "ok", "none")
    elif used <= memory / 10:
        yield Finding("host", "swap", "ok", f"{used >> 20} of {total >> 20} MiB used")
    else:
        found = f"{used >> 20} of {total >> 20} MiB used"
        why = "memory was too small at some time; what was swapped out comes back slowly"
        mend = "give the machine more memory, then sudo swapoff -a && sudo swapon -a"
        yield Finding("host", "swap", "warn", found, "less than a tenth of the memory", why, mend)


def _meminfo(host: Host) -> dict[str, int]:
    """In bytes."""
    lines = (line.split() for line in (host.text("/proc/meminfo") or "").splitlines())
    return {fields[0].rstrip(":"): int(fields[1]) * 1024 for fields in lines if len(fields) == 3}


def _of_group(host: Host, name: str) -> str | None:
    """A file of this process's control group, or of the container's root."""
    for line in (host.text("/proc/self/cgroup") or "").splitlines():
        if line.startswith("0::"):
            path = line[3:].rstrip("/")
            return host.text(f"/sys/fs/cgroup{path}/{name}") or host.text(f"/sys/fs/cgroup/{name}")
    return host.text(f"/sys/fs/cgroup/{name}")


def check_clock(host: Host, directories: Iterable[str]) -> Iterator[Finding]:
    """Whether it is kept right, and has not gone backwards since files were written."""
    now = host.now()
    if now < _LONG_AGO:
        why = "retries, expiry, DKIM signatures and certificates go by it"
        shown = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
        yield Finding("host", "clock", "bad", shown, "now", why, "sudo chronyc makestep, or set it by hand")
    synchronised = host.clock_is_synchronised()
    if synchronised is True:
        yield Finding("host", "time synchronisation", "ok", "the clock is kept right")
    elif synchronised is False:
        why = "log times, retries and signatures drift away from those of others"
        mend = "sudo apt install chrony (dnf install chrony), or sudo timedatectl set-ntp true"
        yield Finding(
            "host", "time synchronisation", "warn", "nothing keeps the clock right", "NTP", why, mend
        )
    for directory in directories:
        newest = host.newest(directory)
        if newest is not None and newest > now + _TOLERANCE:
            found = f"{directory} has a file from {newest - now:.0f}s in the future"
            why = "the clock went backwards: messages are due later than they should, and ids may repeat"
            yield Finding(
                "host", "clock", "bad", found, "no file newer than now", why, "mend the clock, then restart"
            )
