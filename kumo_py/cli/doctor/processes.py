"""What runs on the host: nodes and their limits, other mail servers, and who listens on which port."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kumo_py.cli.doctor.finding import Finding
from kumo_py.cli.doctor.host import Limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kumo_py.cli.doctor.finding import Mark
    from kumo_py.cli.doctor.host import Host

_UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_PROGRAMS = ("kumo-py", "kumo_py", "kumod")
_FILES, _FEW_FILES = 65_535, 4096
_PROCESSES = 1024
"""Threads, mostly: a node has a few dozen, and its user may have more than one."""
_LISTEN = "0A"

_OTHERS = {
    "exim4": ("Exim", "exim4"),
    "exim": ("Exim", "exim"),
    "sendmail": ("Sendmail", "sendmail"),
    "sendmail-mta": ("Sendmail", "sendmail"),
    "smtpd": ("OpenSMTPD", "opensmtpd"),
    "qmail-send": ("qmail", "qmail"),
    "haraka": ("Haraka", "haraka"),
    "maddy": ("Maddy", "maddy"),
    "stalwart": ("Stalwart", "stalwart"),
    "pmtad": ("PowerMTA", "pmta"),
    "qpidd": ("the Qpid broker", "qpidd"),
}
"""By command name: what it is, and its service."""


class Process(NamedTuple):
    pid: str
    name: str
    arguments: tuple[str, ...]

    @property
    def is_node(self) -> bool:
        """kumo-py serve, or kumod."""
        ours = any(_is_node_program(argument) for argument in self.arguments[:3])
        return ours and ("serve" in self.arguments or "kumod" in self.arguments[0])


def _is_node_program(path: str) -> bool:
    return path.rpartition("/")[2] in _PROGRAMS


def processes(host: Host) -> list[Process]:
    found = []
    for pid in filter(str.isdigit, host.names("/proc")):
        name = host.text(f"/proc/{pid}/comm")
        if name is not None:
            arguments = tuple((host.text(f"/proc/{pid}/cmdline") or "").rstrip("\0").split("\0"))
            found.append(Process(pid, name.strip(), arguments))
    return found


# -- limits ------------------------------------------------------------------------------------------------------
def check_limits(host: Host, running: Iterable[Process]) -> Iterator[Finding]:
    """Of this user, of the service units of nodes, and of the nodes that run."""
    mend = "printf '* hard nofile 1048576\\n* hard nproc 65535\\n' | sudo tee /etc/security/limits.d/kumo-py.conf"
    yield _files("open files of this user", host.limit("RLIMIT_NOFILE"), f"{mend}, and log in again")
    yield _processes("processes of this user", host.limit("RLIMIT_NPROC"), f"{mend}, and log in again")
    for unit, text in _units(host):
        edit = f"sudo systemctl edit {unit}: [Service] "
        if (files := _setting(text, "LimitNOFILE")) is not None:
            yield _files(f"open files of {unit}", files, f"{edit}LimitNOFILE=1048576")
        for name in ("LimitNPROC", "TasksMax"):
            if (most := _setting(text, name)) is not None:
                yield _processes(f"{name} of {unit}", most, f"{edit}{name}=infinity")
    for process in running:
        if process.is_node and (limit := _limit_of(host, process.pid, "Max open files")) is not None:
            yield _files(
                f"open files of node {process.pid}", limit, "raise the limit of its service, and restart it"
            )


def _files(name: str, limit: Limit, mend: str) -> Finding:
    """The hard limit counts: a node raises the soft one to it."""
    found = f"{_number(limit.hard)} (soft {_number(limit.soft)})"
    if limit.hard is None or limit.hard >= _FILES:
        return Finding("limits", name, "ok", found)
    mark: Mark = "bad" if limit.hard < _FEW_FILES else "warn"
    why = "each connection is an open file; without one, clients are refused and nothing can be sent"
    return Finding("limits", name, mark, found, f"at least {_FILES}", why, mend)


def _processes(name: str, limit: Limit, mend: str) -> Finding:
    found = _number(limit.hard)
    if limit.hard is None or limit.hard >= _PROCESSES:
        return Finding("limits", name, "ok", found)
    why = "threads count as processes: the node's disk and DNS work runs in them"
    return Finding("limits", name, "bad", found, f"at least {_PROCESSES}", why, mend)


def _number(limit: int | None) -> str:
    return "unlimited" if limit is None else str(limit)


def _units(host: Host) -> Iterator[tuple[str, str]]:
    """Service units that start a node, with what is added to them."""
    seen = set()
    for directory in _UNIT_DIRECTORIES:
        for name in host.names(directory):
            text = host.text(f"{directory}/{name}") if name.endswith(".service") else None
            if text is None or name in seen:
                continue
            seen.add(name)
            commands = [line.partition("=")[2] for line in text.splitlines() if line.startswith("ExecStart=")]
            if any(
                _is_node_program(word.lstrip("-@:+!")) for command in commands for word in command.split()
            ):
                additions = (
                    host.text(f"{one}/{name}.d/{part}") or ""
                    for one in reversed(_UNIT_DIRECTORIES)
                    for part in host.names(f"{one}/{name}.d")
                )
                yield name, "\n".join([text, *additions])


def _setting(unit: str, name: str) -> Limit | None:
    """`N`, `SOFT:HARD` or infinity; the last of several counts."""
    values = [line.partition("=")[2].strip() for line in unit.splitlines() if line.startswith(f"{name}=")]
    if not values:
        return None
    soft, _, hard = values[-1].partition(":")
    return Limit(_parsed(soft), _parsed(hard or soft))


def _parsed(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _limit_of(host: Host, pid: str, name: str) -> Limit | None:
    for line in (host.text(f"/proc/{pid}/limits") or "").splitlines():
        if line.startswith(name):
            soft, hard, *_ = line.removeprefix(name).split()
            return Limit(_parsed(soft), _parsed(hard))
    return None


# -- ports and other mail servers --------------------------------------------------------------------------------
def check_ports(host: Host, running: Iterable[Process], ports: Iterable[int]) -> Iterator[Finding]:
    """Whether they are free, or a node's."""
    taken = _listening(host)
    owners = _owners(host, running, {inode for inodes in taken.values() for inode in inodes})
    for port in ports:
        name = f"port {port}"
        if port not in taken:
            yield Finding("network", name, "ok", "free")
            continue
        by = {owners[inode] for inode in taken[port] if inode in owners}
        if not by:
            why = "a node cannot listen there; root sees who does"
            yield Finding("network", name, "warn", "taken", "free", why, f"sudo ss -ltnp 'sport = :{port}'")
        elif all(one.is_node for one in by):
            yield Finding("network", name, "ok", "a node listens")
        else:
            who = ", ".join(sorted(f"{one.name} ({one.pid})" for one in by))
            mend = f"stop {who}, or let the node listen elsewhere"
            yield Finding(
                "network", name, "bad", f"taken by {who}", "free", "a node cannot listen there", mend
            )


def _listening(host: Host) -> dict[int, list[str]]:
    """The inodes of listening sockets, by port."""
    found: dict[int, list[str]] = {}
    for file in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in (host.text(file) or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN:
                found.setdefault(int(fields[1].rpartition(":")[2], 16), []).append(fields[9])
    return found


def _owners(host: Host, running: Iterable[Process], inodes: set[str]) -> dict[str, Process]:
    if not inodes:
        return {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    return {
        inode: process
        for process in running
        for number in host.names(f"/proc/{process.pid}/fd")
        if (inode := wanted.get(host.link(f"/proc/{process.pid}/fd/{number}"))) is not None
    }


def check_other_servers(running: Iterable[Process]) -> Iterator[Finding]:
    """Programs that want the same ports, or the same disk."""
    found: dict[str, str] = {}
    for process in running:
        if process.name == "master" and "postfix" in process.arguments[0]:
            found["Postfix"] = "postfix"
        elif process.name in _OTHERS:
            what, service = _OTHERS[process.name]
            found[what] = service
    if not found:
        yield Finding("host", "other mail servers", "ok", "none")
    for what, service in sorted(found.items()):
        why = "it takes port 25, and memory and disk from the node"
        yield Finding(
            "host", what, "warn", "runs", "not beside a node", why, f"sudo systemctl disable --now {service}"
        )
