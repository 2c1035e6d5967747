"""The disks of spools and logs: kind, room, and how long a sync takes, for which every client waits."""

from __future__ import annotations

import re
from statistics import median
from typing import TYPE_CHECKING

from kumo_py.cli.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.cli.doctor.finding import Mark
    from kumo_py.cli.doctor.host import Host

_SYNCS = 20
_LOST = ("tmpfs", "ramfs", "devtmpfs")
_LAYERED = ("overlay", "aufs", "fuse.overlayfs")
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "9p")
_SLOW, _TOO_SLOW = 0.010, 0.100
"""Seconds of the median."""
_LONG = 0.500
"""Seconds of the worst."""
_OWN = "run the doctor as the node's user, or sudo chown USER {}"
_ESCAPE = re.compile(r"\\([0-7]{3})")


def check_spool(host: Host, directory: str) -> Iterator[Finding]:
    """A directory that has to keep what was acknowledged."""
    name = f"spool {directory}"
    if not host.exists(directory):
        yield _missing(name)
        return
    yield from _file_system(host, directory, name)
    yield from _room(host, directory, name)
    try:
        times = sorted(host.sync_times(directory, _SYNCS))
    except OSError as err:
        why, mend = "the node has to write there", _OWN.format(directory)
        yield Finding("storage", f"{name}: sync", "bad", err.strerror or str(err), "writable", why, mend)
        return
    middle, worst = median(times), times[-1]
    found = f"median {1000 * middle:.2f} ms, worst {1000 * worst:.2f} ms of {len(times)}"
    if middle <= _SLOW and worst <= _LONG:
        yield Finding("storage", f"{name}: sync", "ok", found)
        return
    mark: Mark = "bad" if middle > _TOO_SLOW else "warn"
    why = "a client waits for a sync before its message is acknowledged"
    wanted = f"median at most {1000 * _SLOW:.0f} ms, worst at most {1000 * _LONG:.0f} ms"
    mend = "use a local SSD, by itself if others write much; a controller's cache needs its battery"
    yield Finding("storage", f"{name}: sync", mark, found, wanted, why, mend)


def check_logs(host: Host, directory: str) -> Iterator[Finding]:
    """A directory of delivery logs."""
    name = f"logs {directory}"
    if host.exists(directory):
        yield from _room(host, directory, name)
    else:
        yield _missing(name)


def _missing(name: str) -> Finding:
    directory = name.partition(" ")[2]
    why = "the node makes it if it may; on which disk that is cannot be told yet"
    return Finding(
        "storage",
        name,
        "warn",
        "not there",
        "a directory",
        why,
        f"sudo install -d -o USER -m 2770 {directory}",
    )


def _file_system(host: Host, directory: str, name: str) -> Iterator[Finding]:
    kind = _kind(host, directory)
    name = f"{name}: file system"
    mend = "mount a local disk there (ext4 or XFS)"
    if kind in _LOST:
        why = "it lives in memory: a power cut loses acknowledged messages"
        yield Finding("storage", name, "bad", kind, "a disk's", why, mend)
    elif kind in _LAYERED:
        why = "it goes with the container, and is slow"
        yield Finding("storage", name, "warn", kind, "a volume", why, "mount a volume there")
    elif kind in _REMOTE:
        why = "a sync goes over the network, and locks and renames may not hold what they promise"
        yield Finding("storage", name, "warn", kind, "a local disk's", why, mend)
    elif kind:
        yield Finding("storage", name, "ok", kind)


def _kind(host: Host, directory: str) -> str:
    """The type of the file system that is mounted nearest above it; empty if that cannot be told."""
    best, kind = "", ""
    for line in (host.text("/proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        point = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[4])
        if (directory + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind


def _room(host: Host, directory: str, name: str) -> Iterator[Finding]:
    try:
        space = host.space(directory)
    except OSError as err:
        why, mend = "the node has to write there", _OWN.format(directory)
        yield Finding("storage", f"{name}: room", "bad", err.strerror or str(err), "readable", why, mend)
        return
    for what, free, total, shown in (
        ("room", space.free_bytes, space.total_bytes, f"{space.free_bytes / (1 << 30):.1f} GiB"),
        ("inodes", space.free_inodes, space.total_inodes, str(space.free_inodes)),
    ):
        if total == 0:
            continue
        share = free / total
        found = f"{shown} free, {share:.0%}"
        if share >= 0.2:
            yield Finding("storage", f"{name}: {what}", "ok", found)
            continue
        mark: Mark = "bad" if share < 0.1 else "warn"
        why = "below a tenth a node takes no more mail (min_free_space, min_free_inodes)"
        mend = f"make room: sudo du -x {directory} | sort -n | tail; old logs are yours to remove"
        yield Finding("storage", f"{name}: {what}", mark, found, "at least 20%", why, mend)
