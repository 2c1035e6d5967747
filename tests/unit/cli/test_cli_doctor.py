"""kumo-py doctor: what it finds on hosts that are fit for a node, and on those that are not."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from kumo_py.cli import main
from kumo_py.cli.doctor import Layout, examine
from kumo_py.cli.doctor.host import Answer, Host, Limit, Space
from kumo_py.cli.doctor.processes import Process
from kumo_py.cli.doctor.software import check_encoding, check_tls

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kumo_py.cli.doctor.finding import Finding

NOW = 1_766_599_200.0
GIB = 1 << 30

GOOD: Mapping[str, str] = {
    "/proc/sys/net/core/somaxconn": "4096\n",
    "/proc/sys/net/core/rmem_max": "4194304\n",
    "/proc/sys/net/core/wmem_max": "4194304\n",
    "/proc/sys/net/ipv4/tcp_max_syn_backlog": "8192\n",
    "/proc/sys/net/ipv4/tcp_tw_reuse": "1\n",
    "/proc/sys/net/ipv4/tcp_fin_timeout": "30\n",
    "/proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t16777216\n",
    "/proc/sys/net/ipv4/tcp_wmem": "4096\t131072\t16777216\n",
    "/proc/sys/net/ipv4/ip_local_port_range": "10240\t65535\n",
    "/proc/sys/net/netfilter/nf_conntrack_max": "262144\n",
    "/proc/sys/net/netfilter/nf_conntrack_count": "1000\n",
    "/proc/sys/fs/file-max": "9223372036854775807\n",
    "/proc/sys/vm/overcommit_memory": "0\n",
    "/proc/sys/vm/max_map_count": "262144\n",
    "/proc/sys/vm/dirty_ratio": "20\n",
    "/proc/sys/vm/dirty_background_ratio": "5\n",
    "/proc/sys/vm/swappiness": "10\n",
    "/proc/swaps": "Filename Type Size Used Priority\n/dev/sda2 partition 2097148 0 -2\n",
    "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "/proc/meminfo": "MemTotal: 8388608 kB\nHugePages_Total: 0\nSwapTotal: 2097148 kB\nSwapFree: 2097148 kB\n",
    "/proc/self/cgroup": "0::/system.slice/kumo-py.service\n",
    "/sys/fs/cgroup/system.slice/kumo-py.service/memory.max": "max\n",
    "/sys/fs/cgroup/system.slice/kumo-py.service/cpu.max": "max 100000\n",
    "/proc/self/mountinfo": (
        "22 1 8:1 / / rw,relatime - overlay overlay rw\n"
        "23 22 8:2 / /var/spool rw,relatime shared:1 - ext4 /dev/sda2 rw\n"
    ),
    "/etc/resolv.conf": "# comment\nsearch example\nnameserver 127.0.0.1\nnameserver 10.0.0.53\n",
    "/proc/net/tcp": "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode\n",
    "/proc/1/comm": "systemd\n",
    "/proc/1/cmdline": "/sbin/init\0",
}


class Machine(Host):
    """Of files below a directory, and of what is set."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.root = root
        self.limits = {"RLIMIT_NOFILE": Limit(1024, 1048576), "RLIMIT_NPROC": Limit(None, None)}
        self.processors = 4
        self.rooms: dict[str, Space | OSError] = {}
        self.syncs: dict[str, list[float] | OSError] = {}
        self.time = NOW
        self.synchronised: bool | None = True
        self.name = "mail.example.com"
        self.answers: dict[tuple[str, str], Answer] = {}

    def write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def directory(self, path: str) -> str:
        (self.root / path.lstrip("/")).mkdir(parents=True)
        return path

    def listens(self, port: int, process: Process, inode: str, *, v6: bool = False) -> None:
        """A process that listens on it."""
        file = "/proc/net/tcp6" if v6 else "/proc/net/tcp"
        address = "0" * (32 if v6 else 8)
        line = f"   0: {address}:{port:04X} {address}:0000 0A 00000000:00000000 00:00000000 00000000 0 0 {inode} 1\n"
        self.write(file, (self.text(file) or "head\n") + line)
        self.runs(process)
        fds = self.root / "proc" / process.pid / "fd"
        fds.mkdir(exist_ok=True)
        (fds / inode).symlink_to(f"socket:[{inode}]")

    def runs(self, process: Process) -> None:
        self.write(f"/proc/{process.pid}/comm", process.name + "\n")
        self.write(f"/proc/{process.pid}/cmdline", "\0".join(process.arguments) + "\0")

    def limit(self, name: str) -> Limit:
        return self.limits[name]

    def cpus(self) -> int:
        return self.processors

    def space(self, directory: str) -> Space:
        found = self.rooms.get(directory, Space(50 * GIB, 100 * GIB, 900, 1000))
        if isinstance(found, OSError):
            raise found
        return found

    def sync_times(self, directory: str, count: int) -> list[float]:
        found = self.syncs.get(directory, [0.001] * count)
        if isinstance(found, OSError):
            raise found
        return found

    def now(self) -> float:
        return self.time

    def clock_is_synchronised(self) -> bool | None:
        return self.synchronised

    def hostname(self) -> str:
        return self.name

    def ask_dns(self, name: str, kind: str) -> Answer:
        return self.answers.get((name, kind), Answer(0.001, []))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "machine")
    for path, text in GOOD.items():
        made.write(path, text)
    return made


SPOOL, LOGS = "/var/spool/kumo", "/var/log/kumo"
WHERE = Layout(spools=(SPOOL,), logs=(LOGS,))


def complaints(machine: Machine, where: Layout | None = None, dns: str | None = None) -> dict[str, Finding]:
    """By name; each says what it should be, why, and what mends it."""
    found = {one.name: one for one in examine(machine, where or Layout(), dns) if one.mark != "ok"}
    for one in found.values():
        assert all((one.found, one.wanted, one.why, one.mend)), one
    return found


def marks(found: Mapping[str, Finding]) -> dict[str, str]:
    return {name: one.mark for name, one in found.items()}


def test_a_host_that_is_fit(machine: Machine) -> None:
    machine.directory(SPOOL)
    machine.directory(LOGS)
    assert complaints(machine, WHERE) == {}
    names = {one.name for one in examine(machine, WHERE)}
    assert {"net.core.somaxconn", "port 25", "port 587", "port 8000", "time synchronisation", "Lua"} <= names
    assert f"spool {SPOOL}: sync" in names


def test_a_host_of_which_little_can_be_seen(tmp_path: Path) -> None:
    bare = Machine(tmp_path / "bare")
    bare.synchronised = None
    assert complaints(bare) == {}


@pytest.mark.parametrize(
    ("name", "text", "mark", "found"),
    [
        ("net.core.somaxconn", "128", "warn", "128"),
        ("net.ipv4.tcp_max_syn_backlog", "512", "warn", "512"),
        ("net.ipv4.tcp_tw_reuse", "0", "warn", "0"),
        ("net.ipv4.tcp_tw_reuse", "2", "warn", "2"),
        ("net.ipv4.tcp_fin_timeout", "120", "warn", "120"),
        ("net.ipv4.tcp_rmem", "4096 87380 1000000", "warn", "4096 87380 1000000"),
        ("net.ipv4.tcp_wmem", "4096 16384 1000000", "warn", "4096 16384 1000000"),
        ("net.core.rmem_max", "65536", "warn", "65536"),
        ("net.core.wmem_max", "65536", "warn", "65536"),
        ("fs.file-max", "10000", "bad", "10000"),
        ("vm.overcommit_memory", "2", "warn", "2"),
        ("vm.max_map_count", "1000", "warn", "1000"),
        ("vm.dirty_ratio", "60", "warn", "60"),
        ("vm.dirty_background_ratio", "30", "warn", "30"),
        ("vm.swappiness", "60", "warn", "60"),
        ("net.ipv4.ip_local_port_range", "32768 60999", "warn", "32768 to 60999: 28232 ports"),
        ("net.ipv4.ip_local_port_range", "50000 50999", "bad", "50000 to 50999: 1000 ports"),
        ("net.netfilter.nf_conntrack_max", "1100", "bad", "1000 of 1100 connections"),
    ],
)
def test_a_kernel_parameter_that_is_wrong(
    machine: Machine, name: str, text: str, mark: str, found: str
) -> None:
    machine.write("/proc/sys/" + name.replace(".", "/"), text + "\n")
    wrong = complaints(machine)
    assert marks(wrong) == {name: mark}
    assert wrong[name].found == found
    assert f"{name} = " in wrong[name].mend
    assert "sysctl -p" in wrong[name].mend


def test_a_kernel_parameter_that_is_no_number(machine: Machine) -> None:
    machine.write("/proc/sys/net/core/somaxconn", "many")
    assert complaints(machine) == {}


def test_swappiness_does_not_matter_without_swap(machine: Machine) -> None:
    machine.write("/proc/sys/vm/swappiness", "60")
    machine.write("/proc/swaps", "Filename Type Size Used Priority\n")
    assert complaints(machine) == {}


def test_transparent_huge_pages(machine: Machine) -> None:
    machine.write("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")
    wrong = complaints(machine)["transparent huge pages"]
    assert (wrong.mark, wrong.found, wrong.wanted) == ("warn", "always", "madvise")


# -- limits ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("hard", "mark"), [(1024, "bad"), (20_000, "warn"), (65_535, None), (None, None)])
def test_open_files_of_this_user(machine: Machine, hard: int | None, mark: str | None) -> None:
    machine.limits["RLIMIT_NOFILE"] = Limit(1024, hard)
    assert marks(complaints(machine)) == ({} if mark is None else {"open files of this user": mark})


def test_processes_of_this_user(machine: Machine) -> None:
    machine.limits["RLIMIT_NPROC"] = Limit(100, 100)
    assert marks(complaints(machine)) == {"processes of this user": "bad"}


UNIT = "[Service]\nExecStart=/usr/bin/kumo-py serve --policy /etc/init.lua\nLimitNOFILE=1024:4000\nTasksMax=100\n"


def test_limits_of_a_service(machine: Machine) -> None:
    machine.write("/etc/systemd/system/mail.service", UNIT)
    machine.write("/etc/systemd/system/other.service", UNIT.replace("kumo-py serve", "postfix"))
    wrong = complaints(machine)
    assert marks(wrong) == {"open files of mail.service": "bad", "TasksMax of mail.service": "bad"}
    assert "systemctl edit mail.service" in wrong["open files of mail.service"].mend
    machine.write(
        "/etc/systemd/system/mail.service.d/limits.conf", "[Service]\nLimitNOFILE=infinity\nTasksMax=5000\n"
    )
    assert complaints(machine) == {}


def test_limits_of_a_node_that_runs(machine: Machine) -> None:
    machine.runs(Process("77", "python3", ("/usr/bin/python3", "/usr/bin/kumo-py", "serve")))
    limits = "Limit           Soft Limit  Hard Limit  Units\nMax open files  1024        4096        files\n"
    machine.write("/proc/77/limits", limits)
    assert marks(complaints(machine)) == {"open files of node 77": "warn"}
    machine.write("/proc/77/limits", limits.replace("4096", "unlimited"))
    assert complaints(machine) == {}


# -- machine and clock -------------------------------------------------------------------------------------------
def test_processors(machine: Machine) -> None:
    machine.processors = 1
    machine.write("/sys/fs/cgroup/system.slice/kumo-py.service/cpu.max", "50000 100000\n")
    wrong = complaints(machine)
    assert marks(wrong) == {"processors": "warn", "cpu.max of the control group": "warn"}
    assert wrong["cpu.max of the control group"].found == "0.50 processors"


@pytest.mark.parametrize(
    ("file", "text", "found", "mark"),
    [
        ("/proc/meminfo", "MemTotal: 1048576 kB\n", "1.0 GiB", "warn"),
        (
            "/sys/fs/cgroup/system.slice/kumo-py.service/memory.max",
            "268435456\n",
            "0.2 GiB, by the control group",
            "bad",
        ),
    ],
)
def test_memory(machine: Machine, file: str, text: str, found: str, mark: str) -> None:
    machine.write(file, text)
    wrong = complaints(machine)
    assert marks(wrong) == {"memory": mark}
    assert wrong["memory"].found == found


def test_memory_of_an_older_control_group(machine: Machine) -> None:
    machine.write("/proc/self/cgroup", "4:memory:/docker\n")
    machine.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", f"{GIB}\n")
    assert complaints(machine)["memory"].found == "1.0 GiB, by the control group"


def test_swap_that_is_used(machine: Machine) -> None:
    machine.write("/proc/meminfo", "MemTotal: 8388608 kB\nSwapTotal: 2097148 kB\nSwapFree: 48 kB\n")
    assert marks(complaints(machine)) == {"swap": "warn"}


def test_a_clock_that_nobody_keeps(machine: Machine) -> None:
    machine.synchronised = False
    assert marks(complaints(machine)) == {"time synchronisation": "warn"}


def test_a_clock_that_is_wrong(machine: Machine) -> None:
    machine.time = 1000.0
    assert complaints(machine)["clock"].found == "1970-01-01"


def test_a_clock_that_went_backwards(machine: Machine) -> None:
    machine.directory(SPOOL)
    machine.write(f"{SPOOL}/000001.seg", "")
    os.utime(machine.root / SPOOL[1:] / "000001.seg", (NOW + 3600,) * 2)
    wrong = complaints(machine, Layout(spools=(SPOOL,)))
    assert marks(wrong) == {"clock": "bad"}
    assert wrong["clock"].found == f"{SPOOL} has a file from 3600s in the future"


# -- storage -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "mark"),
    [("tmpfs", "bad"), ("overlay", "warn"), ("nfs4", "warn"), ("xfs", None), ("fuse.sshfs", "warn")],
)
def test_the_kind_of_a_spools_file_system(machine: Machine, kind: str, mark: str | None) -> None:
    directory = machine.directory("/var/spool/a b/data")
    text = (
        GOOD["/proc/self/mountinfo"]
        + f"24 23 0:9 / /var/spool/a\\040b rw master:1 - {kind} none rw\nodd line\n"
    )
    machine.write("/proc/self/mountinfo", text)
    wrong = complaints(machine, Layout(spools=(directory,)))
    assert marks(wrong) == ({} if mark is None else {f"spool {directory}: file system": mark})


@pytest.mark.parametrize(
    ("times", "mark"),
    [
        ([0.001, 0.009, 0.4], None),
        ([0.001, 0.02, 0.02], "warn"),
        ([0.001, 0.001, 0.6], "warn"),
        ([0.2] * 3, "bad"),
    ],
)
def test_how_long_a_sync_takes(machine: Machine, times: list[float], mark: str | None) -> None:
    machine.directory(SPOOL)
    machine.syncs[SPOOL] = times
    wrong = complaints(machine, Layout(spools=(SPOOL,)))
    assert marks(wrong) == ({} if mark is None else {f"spool {SPOOL}: sync": mark})


def test_a_spool_that_cannot_be_written(machine: Machine) -> None:
    machine.directory(SPOOL)
    machine.syncs[SPOOL] = PermissionError(13, "Permission denied")
    wrong = complaints(machine, Layout(spools=(SPOOL,)))
    assert wrong[f"spool {SPOOL}: sync"].found == "Permission denied"


def test_room_for_spools_and_logs(machine: Machine) -> None:
    machine.directory(SPOOL)
    machine.directory(LOGS)
    machine.rooms[SPOOL] = Space(15 * GIB, 100 * GIB, 0, 0)
    machine.rooms[LOGS] = Space(5 * GIB, 100 * GIB, 50, 1000)
    assert marks(complaints(machine, WHERE)) == {
        f"spool {SPOOL}: room": "warn",
        f"logs {LOGS}: room": "bad",
        f"logs {LOGS}: inodes": "bad",
    }
    machine.rooms[LOGS] = PermissionError(13, "Permission denied")
    assert complaints(machine, WHERE)[f"logs {LOGS}: room"].mark == "bad"


def test_directories_that_are_not_there_yet(machine: Machine) -> None:
    assert marks(complaints(machine, WHERE)) == {f"spool {SPOOL}": "warn", f"logs {LOGS}": "warn"}


# -- network -----------------------------------------------------------------------------------------------------
NODE = Process("77", "kumo-py", ("/usr/bin/python3", "/opt/bin/kumo-py", "serve"))
POSTFIX = Process("88", "master", ("/usr/lib/postfix/sbin/master", "-w"))


def test_a_port_that_another_has(machine: Machine) -> None:
    machine.listens(25, POSTFIX, "1001")
    machine.listens(8000, NODE, "1002", v6=True)
    wrong = complaints(machine)
    assert marks(wrong) == {"Postfix": "warn", "port 25": "bad"}
    assert wrong["port 25"].found == "taken by master (88)"
    assert "systemctl disable --now postfix" in wrong["Postfix"].mend
    assert any(
        one.name == "port 8000" and one.found == "a node listens" for one in examine(machine, Layout())
    )


def test_a_port_that_somebody_has(machine: Machine) -> None:
    machine.listens(587, NODE, "1003")
    (machine.root / "proc" / NODE.pid / "fd" / "1003").unlink()
    assert marks(complaints(machine)) == {"port 587": "warn"}
    assert complaints(machine, Layout(ports=(2525,))) == {}


def test_other_mail_servers(machine: Machine) -> None:
    machine.runs(Process("5", "exim4", ("/usr/sbin/exim4",)))
    machine.runs(Process("6", "qpidd", ("/usr/sbin/qpidd",)))
    machine.runs(Process("7", "master", ("/usr/bin/something",)))
    assert marks(complaints(machine)) == {"Exim": "warn", "the Qpid broker": "warn"}


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("nameserver 127.0.0.53\n", "warn"),
        ("nameserver 10.0.0.53\nnameserver 127.0.0.1\n", "warn"),
        ("nameserver odd\n", "warn"),
        ("nameserver ::1\n", None),
        ("search example\n", None),
    ],
)
def test_name_servers(machine: Machine, text: str, mark: str | None) -> None:
    machine.write("/etc/resolv.conf", text)
    assert marks(complaints(machine)) == ({} if mark is None else {"name servers": mark})


def test_a_host_name_without_a_domain(machine: Machine) -> None:
    machine.name = "mail"
    assert marks(complaints(machine)) == {"host name": "warn"}


def answers(machine: Machine, **changes: Answer) -> None:
    """For all that is right, but for what is given by kind."""
    machine.answers = {
        ("big.example", "MX"): Answer(0.002, ["mx.big.example"]),
        ("mail.example.com", "A"): Answer(0.002, ["192.0.2.1"]),
        ("192.0.2.1", "PTR"): Answer(0.002, ["mail.example.com."]),
    }
    machine.answers |= {key: changes[key[1]] for key in machine.answers if key[1] in changes}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"MX": Answer(0.1, [])}, {"MX of big.example": "warn"}),
        ({"MX": Answer(2.0, [])}, {"MX of big.example": "bad"}),
        ({"MX": Answer(5.0, [], "no answer in time")}, {"MX of big.example": "bad"}),
        ({"A": Answer(0.1, [])}, {"address of mail.example.com": "warn"}),
        ({"PTR": Answer(0.1, ["pool-1.example.net."])}, {"name of 192.0.2.1": "warn"}),
    ],
)
def test_the_dns_when_it_is_asked(
    machine: Machine, changes: dict[str, Answer], expected: dict[str, str]
) -> None:
    answers(machine, **changes)
    assert marks(complaints(machine, dns="big.example")) == expected


def test_the_dns_is_not_asked_otherwise(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ask_dns", lambda *_: pytest.fail("the DNS was asked"))
    assert complaints(machine) == {}


# -- software ----------------------------------------------------------------------------------------------------
def test_software() -> None:
    assert check_encoding("utf8").mark == "ok"
    assert check_encoding("ANSI_X3.4-1968").mark == "warn"
    for release, level, expected in (
        ((3, 0), 2, []),
        ((1, 1), 1, ["TLS library"]),
        ((3, 2), 0, ["TLS security level"]),
        ((3, 2), 3, ["TLS security level"]),
    ):
        found = check_tls(release, "OpenSSL", level)
        assert [one.name for one in found if one.mark == "warn"] == expected


# -- the command -------------------------------------------------------------------------------------------------
def doctor(machine: Machine, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments], obj=machine)


def test_the_report(machine: Machine) -> None:
    machine.write("/proc/sys/net/core/somaxconn", "128")
    result = doctor(machine)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    start = next(number for number, line in enumerate(lines) if "somaxconn" in line)
    assert lines[start].split() == ["warn", "net.core.somaxconn", "128"]
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == ["wanted:", "why:", "mend:"]
    assert lines[-1].endswith(" ok, 1 warn, 0 bad")
    assert [line for line in lines if not line.startswith(" ")][:-1] == [
        "host", "limits", "kernel", "network", "software",
    ]  # fmt: skip


def test_a_link_to_a_spool_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "link").symlink_to("spool")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["doctor", "--spool", "link", "--spool", "spool", "--json"])
    names = [one["name"] for one in json.loads(result.stdout) if one["name"].endswith(": sync")]
    assert names == [f"spool {tmp_path}/spool: sync"]


def test_something_bad_is_an_error(machine: Machine) -> None:
    machine.write("/proc/sys/fs/file-max", "1000")
    assert doctor(machine).exit_code == 1


def test_json(machine: Machine) -> None:
    machine.directory(SPOOL)
    machine.syncs[SPOOL] = [1.0, 1.0]
    result = doctor(machine, "--spool", SPOOL, "--json")
    assert result.exit_code == 1
    found: list[dict[str, Any]] = json.loads(result.output)
    assert {"topic", "name", "mark", "found", "wanted", "why", "mend"} == found[0].keys()
    assert [one["name"] for one in found if one["mark"] == "bad"] == [f"spool {SPOOL}: sync"]


POLICY = """
local kumo = require 'kumo'
kumo.on('init', function()
  kumo.define_spool { name = 'data', path = '/var/spool/kumo/data' }
  kumo.define_spool { name = 'meta', path = '/var/spool/kumo/meta' }
  kumo.configure_local_logs { log_dir = '/var/log/kumo' }
  kumo.start_esmtp_listener { listen = '0.0.0.0:2525' }
  kumo.start_http_listener { listen = '127.0.0.1:0' }
end)
"""


def test_the_directories_and_ports_of_a_policy(machine: Machine, tmp_path: Path) -> None:
    policy = tmp_path / "init.lua"
    policy.write_text(POLICY)
    for name in ("data", "meta"):
        machine.directory(f"/var/spool/kumo/{name}")
    result = doctor(machine, "--policy", str(policy), "--json")
    names = [one["name"] for one in json.loads(result.output)]
    assert [name for name in names if name.endswith(": sync")] == [
        "spool /var/spool/kumo/data: sync",
        "spool /var/spool/kumo/meta: sync",
    ]
    assert "logs /var/log/kumo" in names
    assert [name for name in names if name.startswith("port")] == ["port 2525"]
    assert not list((machine.root / "var/spool/kumo/data").iterdir())
    policy.write_text("kumo.nonsense()")
    result = doctor(machine, "--policy", str(policy))
    assert result.exit_code == 1
    assert "init.lua:1: attempt to index" in result.stderr


# -- this machine ------------------------------------------------------------------------------------------------
def test_this_machine_can_be_looked_at(tmp_path: Path) -> None:
    host = Host()
    assert host.cpus() >= 1
    assert host.limit("RLIMIT_NOFILE").hard != 0
    assert host.names(f"/proc/{os.getpid()}/fd")
    assert host.link("/proc/self/exe")
    assert host.link("/nowhere") == ""
    assert host.text("/nowhere") is None
    assert host.names("/nowhere") == []
    assert host.clock_is_synchronised() in (True, False, None)
    assert host.hostname()
    assert host.now() > NOW
    assert host.space(str(tmp_path)).total_bytes > 0
    assert len(host.sync_times(str(tmp_path), 3)) == 3
    assert host.newest(str(tmp_path)) is None
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    assert host.newest(str(tmp_path)) is not None
    findings = list(examine(host, Layout(spools=(str(tmp_path),))))
    assert len(findings) > 20


def test_the_dns_is_asked_as_a_node_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from kumo_py.dns import Resolver, ZoneBackend

    zone = "$ORIGIN one.example.\n@ 60 IN MX 10 mx.one.example.\nmx 60 IN A 127.0.0.1\nmx 60 IN AAAA ::1\n"
    back = "$ORIGIN 0.0.127.in-addr.arpa.\n1 60 IN PTR mx.one.example.\n"
    monkeypatch.setattr("kumo_py.dns.Resolver", lambda: Resolver(backend=ZoneBackend([zone, back])))
    host = Host()
    assert host.ask_dns("one.example", "MX").values == ["mx.one.example"]
    assert host.ask_dns("mx.one.example", "A").values == ["127.0.0.1"]
    assert host.ask_dns("mx.one.example", "AAAA").values == ["::1"]
    assert [name.rstrip(".") for name in host.ask_dns("127.0.0.1", "PTR").values] == ["mx.one.example"]
    assert host.ask_dns("none.example", "MX").problem is not None
