"""CPU, memory and end of a tree of processes."""

from __future__ import annotations

import subprocess
import sys

from mailbench.process_group import ProcessTree, memory_of

BUSY_THEN_IDLE = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; print(flush=True); time.sleep(60)'])
while time.process_time() < 0.1:
    pass
print(flush=True)
child.wait()
"""


def test_a_tree_of_processes_is_measured_and_stopped() -> None:
    tree = ProcessTree()
    with subprocess.Popen([sys.executable, "-c", BUSY_THEN_IDLE], stdout=subprocess.PIPE) as root:
        tree.adopt(root.pid)
        assert root.stdout is not None
        root.stdout.readline(), root.stdout.readline()
        assert len(tree.pids()) == 2
        cpu = tree.cpu()
        assert 0.09 <= cpu.total < 10
        assert cpu.user > 0
        memory = memory_of(tree.pids())
        assert memory.rss > 5
        tree.stop(5.0, root.poll)
    assert root.returncode == -15
    assert tree.pids() == []
