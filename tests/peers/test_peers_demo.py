"""The demo, as a newcomer runs it: nothing is lost, and its last line says so to programs.

And its generator against a relay whose next host goes away for a second.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from real_node import CONNECTION_LIMIT, RealNode, relay_policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtp_sink import SmtpSink

pytestmark = [pytest.mark.slow, pytest.mark.time_limit(90)]

ROOT = Path(__file__).parents[2]
_LAST_LINE = re.compile(r"demo: sent=(\d+) delivered=(\d+) lost=(\d+) rate=(\d+)/s mmh=[\d.]+")
_TRACE = re.compile(rb"^X-Traffic-Gen: (\S+)", re.MULTILINE)


def test_demo(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "tools/demo/demo.py"),
        "--count",
        "2000",
        "--dir",
        str(tmp_path / "demo"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=80, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = _LAST_LINE.fullmatch(done.stdout.rstrip("\n").rpartition("\n")[2])
    assert summary, done.stdout
    sent, delivered, lost, rate = map(int, summary.groups())
    assert (sent, delivered, lost) == (2000, 2000, 0)
    assert rate > 0


def test_the_next_host_goes_away_and_comes_back(
    start_node: Callable[..., RealNode], tmp_path: Path, sink: SmtpSink
) -> None:
    count = 3000
    node = start_node(relay_policy(tmp_path, sink.address))
    program = str(Path(sys.executable).with_name("traffic-gen"))
    command = [program, "--target", node.address, "--message-count", str(count), "--concurrency", "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as generator:
        try:
            sink.wait_for(count // 3, 30)
            sink.close()
            time.sleep(1.0)
            assert len(sink.deliveries) < count
            sink.open()
            output, _ = generator.communicate(timeout=30)
        finally:
            generator.kill()
    assert generator.returncode == 0, output.decode()
    deadline = time.monotonic() + 30
    while len(arrived := traces(sink)) < count:
        assert time.monotonic() < deadline, f"{count - len(arrived)} messages are lost"
        time.sleep(0.1)
    node.stop()
    # A connection that broke between the sink's note and its answer: one message each, at most.
    assert arrived.total() <= count + CONNECTION_LIMIT


def traces(sink: SmtpSink) -> Counter[bytes]:
    return Counter(_TRACE.findall(b"".join(delivery.content for delivery in sink.deliveries)))
