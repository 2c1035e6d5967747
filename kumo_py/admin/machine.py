"""The machine that a node runs on, the memory that it takes, and what its tasks are doing: for diagnosis."""

from __future__ import annotations

import gc
import os
import re
import socket
import sys
import uuid
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from kumo_py.admin import parameters
from kumo_py.admin.endpoint import Parameter, endpoint, json_of
from kumo_py.admin.exchange import json_response, text_response
from kumo_py.admin.task_tree import task_tree
from kumo_py.queue.admin import Timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.admin.call import Call
    from kumo_py.admin.exchange import Response
    from kumo_py.admin.node import Node

_CONTAINER_MARKS = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}
_DUMP_TIME = 5
"""Seconds that a task dump may take unless the request says so."""


@endpoint(gives=json_of(dict[str, Any]))
async def machine_info(call: Call) -> Response:
    """GET /api/machine-info: the machine that the node runs on (KumoMTA's MachineInfoV1).

    The providers of clouds are not asked who the machine is, so that the fingerprint has no id of theirs.
    """
    node = call.node
    facts = await trio.to_thread.run_sync(_machine)
    machine_id = facts.pop("machine_uid")
    fingerprint = f"node_id={node.nodeid}"
    if machine_id:
        fingerprint = f"machine_uid={machine_id},{fingerprint}"
    online = {
        "fingerprint": fingerprint,
        "online_since": Timestamp(node.started).to_option(),
        "process_kind": "kumod",  # KumoMTA's name for what we are; others are tsa-daemon and proxy-server
        "version": version("kumo-py"),
    }
    return json_response({"node_id": node.nodeid, "hostname": socket.gethostname(), **facts, **online})


def _machine() -> dict[str, object]:
    """What the system says of itself; blocks."""
    system = os.uname()
    release = _os_release()
    models = dict.fromkeys(re.findall(r"^model name\s*:\s*(.*)$", _read("/proc/cpuinfo"), re.MULTILINE))
    total = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    name = " ".join(filter(None, (release.get("NAME"), release.get("VERSION_ID"))))
    return {
        "mac_address": _mac_address(),
        "num_cores": len(os.sched_getaffinity(0)),
        "kernel_version": system.release,
        "platform": f"{sys.platform}/{system.machine}",
        "distribution": release.get("ID", sys.platform),
        "os_version": f"{system.sysname} ({name})" if name else system.sysname,
        "total_memory_bytes": int(total[1]) * 1024 if total else 0,
        "container_runtime": _container_runtime(),
        "cpu_brand": ", ".join(models),
        "machine_uid": (_read("/etc/machine-id") or _read("/var/lib/dbus/machine-id")).strip(),
    }


def _read(path: str) -> str:
    """The file, or "" if there is none to be read."""
    with suppress(OSError):
        return Path(path).read_text(errors="replace")
    return ""


def _os_release() -> dict[str, str]:
    """os-release(5)"""
    text = _read("/etc/os-release") or _read("/usr/lib/os-release")
    return {key: value.strip("\"'") for key, value in re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)}


def _mac_address() -> str:
    """Of the first network interface that has one; made up if there is none."""
    with suppress(OSError):
        for interface in sorted(os.listdir("/sys/class/net")):
            address = _read(f"/sys/class/net/{interface}/address").strip()
            if re.fullmatch(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", address) and address != "00:00:00:00:00:00":
                return address.upper()
    return ":".join(f"{byte:02X}" for byte in uuid.getnode().to_bytes(6))


def _container_runtime() -> str | None:
    """As far as it shows itself."""
    named = re.search(r"(?:^|\0)container=([^\0]+)", _read("/proc/1/environ"))
    if named:
        return named[1]
    return next((runtime for mark, runtime in _CONTAINER_MARKS.items() if os.path.exists(mark)), None)


# -- memory --------------------------------------------------------------------------------------------------
@endpoint()
async def memory_stats(call: Call) -> Response:
    """GET /api/admin/memory/stats: what memory is used for: text for people, which may change."""
    status = await trio.to_thread.run_sync(_read, "/proc/self/status")
    return text_response("\n".join(_memory(call.node, status)) + "\n")


def _memory(node: Node, status: str) -> Iterator[str]:
    memory = node.memory
    yield f"RSS = {_mib(memory.usage)}"
    for name in ("VmHWM", "RssAnon", "RssFile", "VmSize", "VmSwap"):
        found = re.search(rf"^{name}:\s*(\d+) kB", status, re.MULTILINE)
        if found:
            yield f"{name} = {_mib(int(found[1]) * 1024)}"
    for label, limit in (("low threshold", memory.low_threshold), ("soft limit", memory.soft_limit)):
        yield f"{label} = {'none' if limit is None else _mib(limit)}"
    yield f"times above the low threshold = {memory.low_count}, above the soft limit = {memory.over_limit_count}"
    yield f"\nPython: {sys.getallocatedblocks():,} blocks allocated, {gc.get_freeze_count():,} objects frozen"
    for number, generation in enumerate(gc.get_stats()):
        counts = ", ".join(f"{name} {count:,}" for name, count in generation.items())
        yield f"garbage collector, generation {number}: {counts}"
    if not node.ready:
        return
    queues = node.queues
    in_ready = sum(len(ready.messages) for ready in list(queues.ready.values()))
    yield f"\nmessages: {len(queues.wheel):,} in the timer wheel, {in_ready:,} in ready queues"
    yield f"bodies in ready queues = {_mib(queues.memory.held)}"
    yield f"queues: {len(queues.scheduled):,} scheduled, {len(queues.ready):,} ready"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MiB"


# -- tasks ---------------------------------------------------------------------------------------------------
@endpoint(query=(Parameter("timeout", "Seconds that it may take.", "integer"),))
async def task_dump(call: Call) -> Response:
    """GET /api/admin/task-dump?timeout=SECONDS: all tasks and where each is; text for people, which may change."""
    timeout = parameters.count(call.query, "timeout")
    lines: list[str] = []
    with trio.move_on_after(_DUMP_TIME if timeout is None else timeout) as scope:
        lines = await task_tree()
    if scope.cancelled_caught:
        lines.append("the time is over: try again with a larger timeout")
    return text_response("\n".join(lines) + "\n")
