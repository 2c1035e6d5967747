#!/usr/bin/env python3
"""The main job on one machine: generator → relay (Lua policy, durable spool, queues) → sink, and what it took.

Starts a sink node and a relay node with the policies in `policies/`, drives the relay with traffic-gen, waits until
the sink has logged every message, stops both nodes and prints a summary. Its last line is for programs:

    demo: sent=N delivered=N lost=0 rate=R/s mmh=M

Exit status 0 only if nothing was lost, nothing came twice, and both nodes stopped cleanly.
"""

from __future__ import annotations

import argparse
import calendar
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kumo_py.logs.reader import SegmentReader

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 30.0
STOP_TIMEOUT = 60.0
STALL_TIMEOUT = 90.0
"""Seconds without a delivery after which messages count as lost."""
TICKS = os.sysconf("SC_CLK_TCK")
_LISTENING = re.compile(r"smtp listener on (\S+)")


class NodeProcess:
    """A node in a process of its own; its diagnostics go to a file."""

    def __init__(self, name: str, policy: str, environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self.address = ""
        self._ready = threading.Event()
        command = [sys.executable, "-m", "kumo_py", "serve", "--policy", str(ROOT / "policies" / policy)]
        self._process = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self.log.open("w") as file:
            for line in self._process.stderr:
                file.write(line)
                file.flush()
                if found := _LISTENING.search(line):
                    self.address = found[1]
                if "initialization complete" in line:
                    self._ready.set()
        self._ready.set()

    def wait_ready(self) -> None:
        """Raises SystemExit with the node's own words if it does not start."""
        if not self._ready.wait(START_TIMEOUT) or not self.address:
            self.stop()
            sys.exit(f"demo: the {self.name} node did not start:\n{self.log.read_text()}")

    def cpu(self) -> float:
        """User and system seconds so far; NaN where the system doesn't tell."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return float("nan")
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self) -> int:
        """SIGTERM, then SIGKILL; the exit status."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join(5)
        return status


class Deliveries:
    """What the sink has logged, read while it is still being written."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._readers: dict[Path, SegmentReader] = {}
        self.seen: Counter[str] = Counter()
        self.delays: list[float] = []
        """Seconds from the generator's send to the sink's reception."""
        self.last = 0.0

    def read(self) -> None:
        """Take in what has come since the last call."""
        for path in sorted(self._log_dir.glob("*")):
            if path not in self._readers:
                self._readers[path] = SegmentReader(path)
        for reader in self._readers.values():
            for line in reader.lines():
                record = orjson.loads(line)
                trace = record["headers"].get("X-Traffic-Gen")
                if trace is None:
                    continue
                run, sequence, sent = trace.split("/")
                received = _unix(record["event_time"])
                self.seen[f"{run}/{sequence}"] += 1
                self.delays.append(received - float(sent))
                self.last = max(self.last, received)

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()


def _unix(rfc3339: str) -> float:
    """RFC 3339 in UTC, with nanoseconds, to Unix seconds."""
    whole, _, fraction = rfc3339.removesuffix("Z").partition(".")

    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction or 0}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000, help="messages")
    parser.add_argument("--body-size", default="1024", help="bytes of body, with a unit if you like: 100kb")
    parser.add_argument("--concurrency", type=int, default=20, help="connections to the relay")
    parser.add_argument("--dir", type=Path, default=Path("var/demo"), help="logs and spool; emptied first")
    options = parser.parse_args()

    work = options.dir.resolve()
    shutil.rmtree(work, ignore_errors=True)
    for name in ("sink", "relay"):
        (work / name).mkdir(parents=True)
    console = Console(stderr=True)
    sink = NodeProcess(
        "sink",
        "sink.lua",
        {"KUMO_SINK_LISTEN": "127.0.0.1:0", "KUMO_SINK_DIR": str(work / "sink"), "KUMO_SINK_LOG": "1"},
        work / "sink.diagnostics",
    )
    sink.wait_ready()
    relay = NodeProcess(
        "relay",
        "relay.lua",
        {
            "KUMO_RELAY_LISTEN": "127.0.0.1:0",
            "KUMO_RELAY_TO": sink.address,
            "KUMO_RELAY_DIR": str(work / "relay"),
        },
        work / "relay.diagnostics",
    )
    deliveries = Deliveries(work / "sink" / "logs")
    try:
        relay.wait_ready()
        console.print(f"traffic-gen → relay {relay.address} → sink {sink.address}")
        cpu = {node.name: node.cpu() for node in (relay, sink)}
        started = time.time()
        generated = _generate(relay.address, options, work / "traffic-gen.json")
        _wait_for_deliveries(deliveries, generated["accepted"], console)
        cpu = {node.name: node.cpu() - cpu[node.name] for node in (relay, sink)}
    finally:
        statuses = [relay.stop(), sink.stop()]
    deliveries.read()
    deliveries.close()
    return _summarize(generated, deliveries, cpu, started, work, statuses)


def _generate(target: str, options: argparse.Namespace, json_file: Path) -> dict[str, object]:
    program = Path(sys.executable).with_name("traffic-gen")
    command = [str(program), "--target", target, "--json-file", str(json_file)]
    command += ["--message-count", str(options.count), "--body-size", str(options.body_size)]
    command += ["--concurrency", str(options.concurrency), "--keep-going"]
    subprocess.run(command, check=False)
    if not json_file.exists():
        sys.exit("demo: the generator left no summary")
    summary: dict[str, object] = json.loads(json_file.read_text())
    return summary


def _wait_for_deliveries(deliveries: Deliveries, accepted: int, console: Console) -> None:
    columns = (TextColumn("delivered"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("delivered", total=accepted)
        moved = time.monotonic()
        while True:
            before = len(deliveries.seen)
            deliveries.read()
            progress.update(task, completed=len(deliveries.seen))
            if len(deliveries.seen) >= accepted:
                return
            if len(deliveries.seen) > before:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL_TIMEOUT:
                return
            time.sleep(0.2)


def _summarize(
    generated: dict[str, object],
    deliveries: Deliveries,
    cpu: dict[str, float],
    started: float,
    work: Path,
    statuses: list[int],
) -> int:
    sent, accepted = int(generated["sent"]), int(generated["accepted"])  # type: ignore[call-overload]
    delivered = len(deliveries.seen)
    twice = sum(deliveries.seen.values()) - delivered
    lost = accepted - delivered
    elapsed = max(deliveries.last - started, 1e-9)
    rate = delivered / elapsed
    accept = generated["accept_latency_ms"]
    assert isinstance(accept, dict)
    per_message = 1000 / max(delivered, 1)
    generator_cpu = float(generated["cpu_us_per_message"]) / 1000  # type: ignore[arg-type]
    delays = sorted(deliveries.delays) or [float("nan")]
    end_to_end = [1000 * _percentile(delays, share) for share in (0.50, 0.95, 0.99)]
    print(f"""
messages      sent {sent}, accepted {accepted}, delivered {delivered}, lost {lost}, delivered twice {twice}
rate          {rate:.0f} msg/s, {rate * 3600 / 1e6:.2f} million messages per hour (from start to last delivery)
accept        p50 {accept["p50"]:.1f} ms, p95 {accept["p95"]:.1f} ms, p99 {accept["p99"]:.1f} ms
end to end    p50 {end_to_end[0]:.1f} ms, p95 {end_to_end[1]:.1f} ms, p99 {end_to_end[2]:.1f} ms
CPU/message   relay {cpu["relay"] * per_message:.3f} ms, sink {cpu["sink"] * per_message:.3f} ms, \
generator {generator_cpu:.3f} ms
logs, spool   {work}
demo: sent={sent} delivered={delivered} lost={lost} rate={rate:.0f}/s mmh={rate * 3600 / 1e6:.2f}""")
    if any(statuses):
        print(f"demo: a node stopped with status {statuses}", file=sys.stderr)
    return 0 if lost == 0 and twice == 0 and delivered and not any(statuses) else 1


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    sys.exit(main())
