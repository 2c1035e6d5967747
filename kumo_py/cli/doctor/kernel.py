"""Kernel parameters: what KumoMTA's guide to Linux tuning names, as far as it matters to kumo-py."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kumo_py.cli.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.cli.doctor.finding import Mark
    from kumo_py.cli.doctor.host import Host

_SYSCTL_FILE = "/etc/sysctl.d/90-kumo-py.conf"
_THP = "/sys/kernel/mm/transparent_hugepage/enabled"
_LEAST_PORTS = 40_000
_MOST_CONNECTIONS_TRACKED = 0.8


class _Parameter(NamedTuple):
    """One with a least or a greatest value; of several numbers, the last counts."""

    name: str
    least: int | None
    most: int | None
    advised: str
    why: str
    mark: Mark = "warn"


_BUFFERS = "4096 131072 16777216"
_PARAMETERS = (
    _Parameter(
        "net.core.somaxconn",
        4096,
        None,
        "4096",
        "connections that wait to be accepted are refused above it, when many clients come at once",
    ),
    _Parameter(
        "net.ipv4.tcp_max_syn_backlog",
        4096,
        None,
        "8192",
        "connections that are being opened are dropped above it",
    ),
    _Parameter(
        "net.ipv4.tcp_tw_reuse",
        1,
        1,
        "1",
        "ports of closed outgoing connections stay unusable for a minute: a busy source runs out of them",
    ),
    _Parameter(
        "net.ipv4.tcp_fin_timeout",
        None,
        60,
        "30",
        "connections that the peer never closes hold memory that long",
    ),
    _Parameter(
        "net.ipv4.tcp_rmem", 4 << 20, None, _BUFFERS, "large messages come in slowly over long distances"
    ),
    _Parameter(
        "net.ipv4.tcp_wmem", 4 << 20, None, _BUFFERS, "large messages go out slowly over long distances"
    ),
    _Parameter("net.core.rmem_max", 212_992, None, "16777216", "answers of the DNS are lost in bursts"),
    _Parameter("net.core.wmem_max", 212_992, None, "16777216", "questions to the DNS are lost in bursts"),
    _Parameter(
        "fs.file-max", 65_535, None, "1048576", "each connection and spool file is an open file", "bad"
    ),
    _Parameter(
        "vm.overcommit_memory",
        None,
        1,
        "0",
        "with 2, memory that is only reserved counts as used, and the node is refused memory that is there",
    ),
    _Parameter(
        "vm.max_map_count", 65_530, None, "262144", "a RocksDB spool maps its files into memory, each counts"
    ),
    _Parameter(
        "vm.dirty_ratio",
        None,
        40,
        "20",
        "all that is unwritten is written before a message is acknowledged: clients wait for it",
    ),
    _Parameter(
        "vm.dirty_background_ratio",
        None,
        20,
        "5",
        "the kernel begins to write late, and then much at once: syncs of the spool wait for it",
    ),
)


def check_kernel(host: Host) -> Iterator[Finding]:
    """Parameters that this kernel does not have are left out: containers see some of them only."""
    for parameter in _PARAMETERS:
        numbers = host.sysctl(parameter.name)
        if numbers:
            yield _judged(parameter, numbers)
    yield from _ports(host)
    yield from _swappiness(host)
    yield from _huge_pages(host)
    yield from _tracking(host)


def _judged(parameter: _Parameter, numbers: list[int]) -> Finding:
    name, least, most, advised, why, mark = parameter
    found = " ".join(map(str, numbers))
    if (least is None or numbers[-1] >= least) and (most is None or numbers[-1] <= most):
        return Finding("kernel", name, "ok", found)
    bounds = [f"at least {least}"] * (least is not None) + [f"at most {most}"] * (most is not None)
    wanted = str(least) if least == most else " and ".join(bounds)
    return Finding("kernel", name, mark, found, wanted, why, set_sysctl(name, advised))


def set_sysctl(name: str, value: str) -> str:
    """A command that holds after a reboot, too."""
    return f"echo '{name} = {value}' | sudo tee -a {_SYSCTL_FILE} && sudo sysctl -p {_SYSCTL_FILE}"


def _ports(host: Host) -> Iterator[Finding]:
    name = "net.ipv4.ip_local_port_range"
    numbers = host.sysctl(name)
    if numbers is None or len(numbers) != 2:
        return
    first, last = numbers
    found = f"{first} to {last}: {last - first + 1} ports"
    if last - first + 1 >= _LEAST_PORTS:
        yield Finding("kernel", name, "ok", found)
        return
    why = "each outgoing connection of a source address to a mail host takes a port"
    mend = set_sysctl(name, "10240 65535")
    mark: Mark = "bad" if last - first < 10_000 else "warn"
    yield Finding("kernel", name, mark, found, f"at least {_LEAST_PORTS} ports", why, mend)


def _swappiness(host: Host) -> Iterator[Finding]:
    numbers = host.sysctl("vm.swappiness")
    if not numbers:
        return
    has_swap = len((host.text("/proc/swaps") or "").splitlines()) > 1
    found = f"{numbers[0]}{'' if has_swap else ', without swap'}"
    if numbers[0] <= 30 or not has_swap:
        yield Finding("kernel", "vm.swappiness", "ok", found)
        return
    why = "a node that is swapped out answers nobody: better that the kernel gives its caches away"
    yield Finding(
        "kernel", "vm.swappiness", "warn", found, "at most 30", why, set_sysctl("vm.swappiness", "10")
    )


def _huge_pages(host: Host) -> Iterator[Finding]:
    text = host.text(_THP)
    if text is None:
        return
    chosen = text.partition("[")[2].partition("]")[0]
    name = "transparent huge pages"
    if chosen != "always":
        yield Finding("kernel", name, "ok", chosen)
        return
    why = "memory grows by 2 MiB for each small allocation, and the kernel stops the node while it tidies up"
    yield Finding("kernel", name, "warn", chosen, "madvise", why, f"echo madvise | sudo tee {_THP}")


def _tracking(host: Host) -> Iterator[Finding]:
    name = "net.netfilter.nf_conntrack_max"
    most, count = host.sysctl(name), host.sysctl("net.netfilter.nf_conntrack_count")
    if not (most and most[0] and count):
        return
    found = f"{count[0]} of {most[0]} connections"
    if count[0] <= _MOST_CONNECTIONS_TRACKED * most[0]:
        yield Finding("kernel", name, "ok", found)
        return
    why = "the firewall drops the packets of new connections once its table is full"
    yield Finding("kernel", name, "bad", found, "a fifth free", why, set_sysctl(name, str(4 * most[0])))
