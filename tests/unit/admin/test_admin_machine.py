"""What machine-info finds out of the files of a system."""

from __future__ import annotations

import pytest

from kumo_py.admin import machine

FILES = {
    "/proc/cpuinfo": "processor\t: 0\nmodel name\t: Fast 1\nmodel name\t: Fast 1\nmodel name\t: Slow 2\n",
    "/proc/meminfo": "MemFree:  5 kB\nMemTotal:       2048 kB\n",
    "/etc/os-release": 'PRETTY_NAME="x"\nNAME="Some Linux"\nVERSION_ID="9.1"\nID=some\n',
    "/etc/machine-id": "0123\n",
    "/proc/1/environ": "A=1\0container=lxc\0B=2\0",
}


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    files = dict(FILES)
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
    return files


def test_a_machine(files: dict[str, str]) -> None:
    found = machine._machine()
    assert found["cpu_brand"] == "Fast 1, Slow 2"
    assert found["total_memory_bytes"] == 2 << 20
    assert (found["distribution"], found["os_version"]) == ("some", "Linux (Some Linux 9.1)")
    assert found["machine_uid"] == "0123"
    assert found["container_runtime"] == "lxc"


def test_a_machine_that_tells_nothing(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    files.clear()
    monkeypatch.setattr(machine, "_CONTAINER_MARKS", {})
    found = machine._machine()
    assert (found["cpu_brand"], found["total_memory_bytes"], found["machine_uid"]) == ("", 0, "")
    assert (found["distribution"], found["os_version"]) == ("linux", "Linux")
    assert found["container_runtime"] is None
    assert len(str(found["mac_address"])) == 17


def test_the_first_network_interface(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "listdir", lambda path: ["lo", "eth1", "eth0"])
    files["/sys/class/net/lo/address"] = "00:00:00:00:00:00\n"
    files["/sys/class/net/eth0/address"] = "02:fc:00:00:00:01\n"
    files["/sys/class/net/eth1/address"] = "02:fc:00:00:00:02\n"
    assert machine._mac_address() == "02:FC:00:00:00:01"
