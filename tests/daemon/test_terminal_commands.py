"""What an operator looks at in a terminal, of a real node with real traffic."""

from __future__ import annotations

import json
import os
import re
import smtplib
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from pseudo_terminal import PseudoTerminal
from real_node import RealNode, relay_policy
from smtp_sink import SmtpSink

from kumo_py.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from real_node import Preloaded

    Run = Callable[..., Result]

pytestmark = pytest.mark.time_limit(60)

MORE = """
kumo.on('pre_init', function() kumo.start_http_listener { listen = '127.0.0.1:0' } end)
kumo.on('smtp_server_message_received', function(msg) msg:set_meta('tenant', 'gold') end)
"""


class Scene:
    """A node that relays to a sink, and its command line."""

    def __init__(self, directory: Path, preloaded: Preloaded) -> None:
        self.directory = directory
        self.sink = SmtpSink()
        self.sink.open()
        policy = relay_policy(
            directory,
            self.sink.address,
            path="provider_name = 'sinks',",
            logs="min_free_space = 0, min_free_inodes = 0, meta = { 'tenant' },",
            more=MORE,
        )
        self._preloaded = preloaded
        self.node = self.start_node(policy)
        found = re.search(r"http listener on (\S+)", self.node.text)
        assert found
        self.endpoint = f"http://{found[1]}"
        self.environment = os.environ | {
            "KUMO_KCLI_ENDPOINT": self.endpoint,
            "NO_PROXY": "*",
            "TERM": "xterm",
        }
        self.sent = 0

    def start_node(self, policy: str | Path) -> RealNode:
        node = RealNode(policy, self.directory, preloaded=self._preloaded)
        node.wait_ready()
        return node

    @property
    def logs(self) -> str:
        return str(self.directory / "logs")

    def send(self, count: int, domain: str) -> None:
        host, port = self.node.address.split(":")
        with smtplib.SMTP(host, int(port)) as client:
            for _ in range(count):
                self.sent += 1
                client.sendmail("a@sender.example", [f"u{self.sent}@{domain}"], "Subject: x\r\n\r\nhello\r\n")

    def run(self, *arguments: str) -> str:
        result = CliRunner(env=self.environment).invoke(main, arguments, prog_name="kumo-py")
        assert result.exit_code == 0, result.output
        return result.stdout

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, f"not within 20s: {what}"
            time.sleep(0.02)

    def start_command(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "kumo_py", *arguments]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        self.node.kill()
        self.sink.close()


@pytest.fixture
def scene(tmp_path: Path, preloaded: Preloaded) -> Iterator[Scene]:
    made = Scene(tmp_path, preloaded)
    yield made
    made.close()


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_summaries_of_what_was_sent_and_what_waits(scene: Scene) -> None:
    scene.send(3, "one.example")
    scene.send(2, "two.example")
    scene.sink.wait_for(5, 20)
    site = f"mx_list:{scene.sink.address}"
    ready = [site, "unspecified", "smtp_client", "5"]
    scene.wait_for(lambda: ready in [row[:4] for row in rows(scene.run("queue-summary"))], "counted")
    scene.sink.close()
    scene.send(4, "one.example")
    shown = ["gold@one.example", "4"]
    scene.wait_for(lambda: shown in rows(scene.run("queue-summary")), "deferred")
    scene.run("suspend", "--domain", "one.example", "--reason", "looking")
    scene.run("suspend-ready-q", "--name", f"unspecified->{site}@smtp_client", "--reason", "warm up")
    table = scene.run("queue-summary", "--by-volume")
    assert rows(table)[0] == ["SITE", "SOURCE", "PROTO", "D", "T", "C", "Q"]
    assert rows(table)[1][:4] == ready
    assert "🛑suspend: warm up" in table.splitlines()[1]
    waiting = rows(table)[rows(table).index(["SCHEDULED", "QUEUE", "COUNT"]) + 1]
    assert waiting == ["gold@one.example", "4", "🛑suspend:", "looking"]
    header, *providers = rows(scene.run("provider-summary"))
    assert header == ["PROVIDER", "D", "T", "F", "C", "Q"]
    by_name = {name: [int(count) for count in counts] for name, *counts in providers}
    assert by_name["sinks"][0] == 5
    assert by_name["sinks"][1] >= 4
    assert by_name[site] == [0, 0, 0, 0, 4]  # scheduled queues have a provider of their own, or their site
    header, pools = rows(scene.run("provider-summary", "--by-pool", "--limit", "1"))
    assert (header[1], pools[:3]) == ("POOL", ["sinks", "unspecified", "5"])
    scene.sink.open()


def test_one_frame_of_top(scene: Scene) -> None:
    scene.send(3, "one.example")
    scene.sink.close()
    scene.send(2, "two.example")
    frames = []

    def shown() -> bool:
        frames.append(scene.run("top", "--once", "--update-interval", "0.1"))
        return ["gold@two.example", "2"] in [row[:2] for row in rows(frames[-1])]

    scene.wait_for(shown, "the queue in a frame of top")
    assert re.search(r"received +0\.0/s +5\n", frames[-1])
    assert re.search(r"policy epoch 1, for \d+s: /", frames[-1])
    scene.sink.open()


def test_top_lives_with_its_node(scene: Scene) -> None:
    scene.send(5, "one.example")
    options = ["--update-interval", "0.2", "--endpoint", scene.endpoint]
    with PseudoTerminal("top", *options, rows=40, columns=160) as terminal:
        terminal.see("gold@one.example")
        terminal.press("2")
        terminal.see(f"sinks: mx_list:{scene.sink.address}")
        scene.node.kill()
        terminal.see("no answer since")
        terminal.press("q")
        assert terminal.ended() == 0
        assert terminal.is_restored


def test_the_log_is_followed_over_new_segments(scene: Scene) -> None:
    scene.send(2, "one.example")
    scene.sink.wait_for(2, 20)
    chosen = ["--filter", "type=Delivery", "--format", "{recipient} {response.code} {meta.tenant}"]
    with scene.start_command("logs", "tail", scene.logs, "-f", *chosen) as follower:
        assert follower.stdout is not None
        lines = sorted(follower.stdout.readline() for _ in range(2))
        assert lines == [f"u{n}@one.example 250 gold\n" for n in (1, 2)]
        scene.send(1, "two.example")
        assert follower.stdout.readline() == "u3@two.example 250 gold\n"
        scene.node.stop()  # which ends the segment
        scene.node = scene.start_node(scene.directory / "policy.lua")
        scene.send(1, "three.example")
        assert follower.stdout.readline() == "u4@three.example 250 gold\n"
        follower.terminate()
    assert len(os.listdir(scene.logs)) == 2
    records = [json.loads(line) for line in scene.run("logs", "tail", scene.logs, "--json").splitlines()]
    assert [one["type"] for one in records].count("Reception") == 4


def test_the_tailer_prints_what_a_node_logs(scene: Scene) -> None:
    scene.send(2, "one.example")
    with scene.start_command("tailer", scene.logs, "--batch-latency", "100ms") as tailer:
        assert tailer.stdout is not None
        kinds = [json.loads(tailer.stdout.readline())["type"] for _ in range(4)]
        assert sorted(kinds) == ["Delivery", "Delivery", "Reception", "Reception"]
        tailer.terminate()


def test_the_doctor_looks_where_the_policy_says(scene: Scene) -> None:
    """What it thinks of this machine is another matter."""
    arguments = ["doctor", "--json", "--policy", str(scene.directory / "policy.lua")]
    found = {one["name"]: one for one in json.loads(CliRunner().invoke(main, arguments).stdout)}
    for name in ("data", "meta"):
        assert found[f"spool {scene.directory / name}: sync"]["found"].startswith("median ")
    assert f"logs {scene.logs}: room" in found
    assert found["Lua"]["mark"] == "ok"
