"""Stepping in at a real node, and looking at its machine: KumoMTA's endpoints, and kcli's commands for them."""

from __future__ import annotations

import re
import socket
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from operated_node import World, operated_node, recent, until
from test_policy_cli import fails, succeeds

from kumo_py.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from real_node import Preloaded

pytestmark = pytest.mark.time_limit(60)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Iterator[World]:
    with operated_node(tmp_path_factory.mktemp("node"), preloaded) as world:
        yield world


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, world: World) -> Callable[..., Result]:
    monkeypatch.setenv("KUMO_KCLI_ENDPOINT", world.endpoint)
    monkeypatch.setenv("NO_PROXY", "*")
    return lambda *args: CliRunner().invoke(main, args, prog_name="kumo-py")


# -- stepping in ---------------------------------------------------------------------------------------------
def test_spools(world: World, run: Callable[..., Result]) -> None:
    assert world.post("spool-compact", name="meta") == ""
    assert succeeds(run("spool-compact", "--name", "data")) == ""
    text = world.post("spool-compact", 500, name="mata")
    assert text == "Error: no spool named 'mata' has been defined (did you mean 'meta'?)"
    assert "it keeps a file for each message" in world.post("spool-compact", 500, name="files")
    assert "'name'" in world.post("spool-compact", 422)
    assert "no spool named 'x'" in fails(run("spool-compact", "--name", "x"))
    assert "Missing option '--name'" in fails(run("spool-compact"), 2)


def test_aborting_a_connection(world: World, run: Callable[..., Result]) -> None:
    """Its message is tried again later, and the next one has its turn."""
    [before] = world.ready(world.rate)["dispatchers"]
    session = before["session_id"]
    text = world.post("abort-ready-q-conn", 404, queue_name="x", session_id=session)
    assert text == f"no matching dispatcher for queue=x session={session}"
    other = str(uuid.uuid4())
    text = fails(run("abort-ready-q-conn", world.rate, other))
    assert f"404 no matching dispatcher for queue={world.rate} session={other}" in text
    assert "not a valid UUID" in fails(run("abort-ready-q-conn", world.rate, "x"), 2)
    world.post("abort-ready-q-conn", 422, queue_name=world.rate, session_id="x")
    assert succeeds(run("abort-ready-q-conn", world.rate, session)) == f"aborted {session}\n"
    until(lambda: world.ready(world.rate)["state"]["connection_count"] == 0)
    [one] = until(lambda: world.messages("rate.example"))
    assert one["id"] == world.ids["rate.example"][0]
    assert one["message"]["num_attempts"] == 0


def test_rebinding(world: World, run: Callable[..., Result]) -> None:
    world.submit("moved.example", 2)
    name = "moved.example"
    until(lambda: len(world.messages(name)) == 2)
    result = run(
        "rebind", "--domain", name, "--reason", "why", "--data", '{"x": "1", "y": "2"}', "--set", "y = 3"
    )
    assert succeeds(result) == "" == result.stdout
    assert "in the background" in result.stderr

    def metas() -> list[dict[str, Any]]:
        return [one["message"]["meta"] for one in world.get("inspect-sched-q", queue_name=name)["messages"]]

    until(lambda: [(meta.get("x"), meta.get("y")) for meta in metas()] == [("1", "3")] * 2)
    options = ["--domain", name, "--reason", "the other way", "--trigger-rebind-event", "--suppress-logging"]
    succeeds(run("rebind", *options, "--set", "route=relay.example"))
    moved = f"{name}!relay.example"
    until(lambda: len(world.messages(moved)) == 2)
    assert world.get("inspect-sched-q", queue_name=name)["num_scheduled"] == 0
    assert world.post("rebind", reason="x", data={}, domain="nobody.example") == "{}"
    assert "did you mean 'domain'" in world.post("rebind", 422, reason="x", data={}, domian="x")
    assert "'data' is required" in world.post("rebind", 422, reason="x")


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--reason", "x"], 1, "--everything"),
        (["--everything"], 2, "Missing option '--reason'"),
        (["--everything", "--reason", "x", "--data", "{"], 1, "not JSON"),
        (["--everything", "--reason", "x", "--data", '{"a": 1}'], 1, "strings as values"),
        (["--everything", "--reason", "x", "--data", "[]"], 1, "must be an object"),
        (["--everything", "--reason", "x", "--set", "a="], 2, "is not KEY=VALUE"),
        (["--everything", "--reason", "x", "--set", "a"], 2, "is not KEY=VALUE"),
        (["--queue", "x", "--reason", "x"], 2, "No such option"),
    ],
)
def test_wrong_rebinds(run: Callable[..., Result], arguments: list[str], code: int, error: str) -> None:
    assert error in fails(run("rebind", *arguments), code)


# -- the machine ---------------------------------------------------------------------------------------------
def test_the_machine(world: World) -> None:
    found = world.client.get("/api/machine-info").json()
    assert list(found) == [
        "node_id",
        "hostname",
        "mac_address",
        "num_cores",
        "kernel_version",
        "platform",
        "distribution",
        "os_version",
        "total_memory_bytes",
        "container_runtime",
        "cpu_brand",
        "fingerprint",
        "online_since",
        "process_kind",
        "version",
    ]
    assert uuid.UUID(found["node_id"])
    assert found["hostname"] == socket.gethostname()
    assert re.fullmatch(r"([0-9A-F]{2}:){5}[0-9A-F]{2}", found["mac_address"])
    assert found["num_cores"] >= 1
    assert found["platform"].startswith("linux/")
    assert found["total_memory_bytes"] > 1 << 28
    assert found["fingerprint"].endswith(f"node_id={found['node_id']}")
    assert found["process_kind"] == "kumod"
    assert recent(found["online_since"])


def test_memory_and_tasks(world: World) -> None:
    response = world.client.get("/api/admin/memory/stats")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert re.search(r"^RSS = [0-9,]+\.[0-9] MiB$", response.text, re.MULTILINE)
    assert re.search(r"^soft limit = ", response.text, re.MULTILINE)
    assert re.search(r"^messages: \d+ in the timer wheel, \d+ in ready queues$", response.text, re.MULTILINE)
    text = world.client.get("/api/admin/task-dump").text
    assert re.match(r"\d+ tasks\n\n", text)
    assert re.search(
        r"ReadyQueue\._dispatch\n( *at .*\n)* *at Connection\.reply \(kumo_py/smtp_out/conn", text
    )
    assert re.search(r"^ +\S+  \(\d+ times\)$", text, re.MULTILINE) or "times)" not in text
    assert "(/" not in text
    assert world.client.get("/api/admin/task-dump?timeout=soon").status_code == 400


def test_help_in_markdown(run: Callable[..., Result]) -> None:
    text = succeeds(run("markdown-help"))
    assert text.startswith("# `kumo-py`\n\n")
    section = text.partition("\n## `kumo-py inspect-sched-q`\n")[2].partition("\n## ")[0]
    assert "**Usage:** `kumo-py inspect-sched-q [OPTIONS] QUEUE_NAME`" in section
    assert "\n* `--limit INTEGER RANGE` — How many of its messages to print; 5 unless given." in section
    assert "markdown-help" not in text
    assert "markdown-help" not in succeeds(run("--help"))
