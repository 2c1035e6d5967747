"""A session of an operator: every command, as a program, against a node under load; what each prints is checked.

Mail for good.test flows to a sink the whole time; mail for slow.test waits, because nobody listens there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from real_node import RealNode, relay_policy
from smtp_client import SmtpClient
from smtp_sink import SmtpSink

from kumo_py import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.time_limit(120), pytest.mark.slow]

PROGRAM = Path(sys.executable).with_name("kumo-py")
GENERATOR = Path(sys.executable).with_name("traffic-gen")
WAITING = 60
MORE = """
kumo.on('smtp_server_message_received', function(msg)
  if msg:recipient().domain == 'slow.test' then
    msg:set_meta('tenant', 'gold')
    msg:set_meta('campaign', msg:sender().user)
  end
end)
"""
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


class Session:
    """Runs commands, and notes which."""

    def __init__(self, url: str, sink: SmtpSink, policy: Path, directory: Path) -> None:
        self.sink = sink
        self.policy = policy
        self.directory = directory
        self.called: set[str] = set()
        self._environment = os.environ | {"KUMO_KCLI_ENDPOINT": url, "COLUMNS": "200", "TERM": "dumb"}

    def start(self, *words: str) -> subprocess.Popen[str]:
        self.called.add(words[0])
        return subprocess.Popen(
            [PROGRAM, *words], env=self._environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: str, status: int = 0) -> str:
        """What the command prints on standard output."""
        with self.start(*words) as process:
            out, err = process.communicate(timeout=30)
        assert process.returncode == status, (words, out, err)
        return out

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    directory = tmp_path_factory.mktemp("operator")
    with SmtpSink() as sink:
        text = relay_policy(directory, sink.address, more=MORE)
        text = text.replace(
            "return kumo.make_queue_config {",
            "if domain == 'slow.test' then\n    return kumo.make_queue_config {\n"
            "      retry_interval = '1h', protocol = { smtp = { mx_list = { '127.0.0.1:1' } } },\n    }\n  end\n"
            "  return kumo.make_queue_config {",
        ).replace("'get_queue_config', function()", "'get_queue_config', function(domain)")
        text = text.replace(
            "  kumo.start_esmtp_listener {",
            "  kumo.start_http_listener { listen = '127.0.0.1:0' }\n  kumo.start_esmtp_listener {",
        )
        node = RealNode(text, directory)
        try:
            node.wait_ready()
            found = re.search(r"http listener on (\S+)", node.text)
            assert found is not None
            with SmtpClient(node.address) as client:
                client.greet()
                for number in range(WAITING):
                    sender = "spring" if number % 2 else "autumn"
                    assert client.envelope(f"{sender}@a.test", f"to{number}@slow.test").code == 354
                    client.send(b"Subject: waits\r\n\r\nfor somebody\r\n.\r\n")
                    assert client.reply().code == 250
            load = subprocess.Popen(
                [GENERATOR, "--target", node.address, "--domain", "good.test", "--domain-suffix=", "--duration", "100",
                 "--throttle", "100/s", "--concurrency", "4", "--progress", "none"],
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                sink.wait_for(20, 20)
                yield Session(f"http://{found[1]}", sink, directory / "policy.lua", directory)
                assert load.poll() is None, "the load ended before the session"
            finally:
                load.kill()
                load.wait()
            node.stop()
        finally:
            node.kill()


SPRING, AUTUMN = "spring:gold@slow.test", "autumn:gold@slow.test"


def test_looking(session: Session) -> None:
    run = session.run
    summary = run("queue-summary")
    assert re.search(rf"^{re.escape(SPRING)}\s+30\b", summary, re.M)
    site = re.escape(f"mx_list:{session.sink.address}")
    assert re.search(rf"^{site} +unspecified +smtp_client +[1-9]\d*", summary, re.M)
    assert re.search(rf"^{site} +[1-9]\d*", run("provider-summary", "--show-domains"), re.M)
    frame = run("top", "--once")
    assert SPRING in frame
    assert "policy epoch" in frame
    waiting = [json.loads(line) for line in run("mailq", "--json", "--queue", SPRING).splitlines()]
    assert len(waiting) == 30
    assert {entry["recipients"][0]["address"].partition("@")[2] for entry in waiting} == {"slow.test"}
    assert re.search(r"^-- .* in 60 Requests\.$", run("mailq", "--domain", "slow.test"), re.M)
    id = waiting[0]["queue_id"]
    message = session.json("inspect-message", id, "--want-body")["message"]
    assert (message["sender"], message["meta"]["tenant"]) == ("spring@a.test", "gold")
    assert "Subject: waits" in message["data"]
    queue = session.json("inspect-sched-q", SPRING, "--limit", "3")
    assert (queue["num_scheduled"], len(queue["messages"])) == (30, 3)
    ready = f"unspecified->mx_list:{session.sink.address}@smtp_client"
    assert "good.test" in run("inspect-ready-q", ready, "--sched-q")
    assert session.json("inspect-ready-q", ready, "--json")["egress_source"] == "unspecified"
    path = session.json("resolve-egress-path", "good.test", "--json")
    assert path["queue_name"] == ready
    assert run("inspect-message", "0" * 32, status=1) == ""


def test_tracing(session: Session) -> None:
    for command, said in (("trace-smtp-server", "MAIL FROM:<"), ("trace-smtp-client", "250 ")):
        with session.start(command, "--only-one", "--terse", "--color", "no") as tracing:
            assert tracing.stdout is not None
            lines = []
            while said not in (line := tracing.stdout.readline()):
                assert line, (command, lines)
                lines.append(line)
            tracing.terminate()
            tracing.communicate(timeout=10)


def test_logs(session: Session) -> None:
    logs = str(session.directory / "logs")
    lines = session.run(
        "logs", "tail", logs, "-n", "5", "--filter", "type=TransientFailure", "--json"
    ).splitlines()
    assert [json.loads(line)["queue"] in (SPRING, AUTUMN) for line in lines] == [True] * 5
    assert re.search(r"Delivery .*good\.test", session.run("logs", "tail", logs, "--filter", "type=Delivery"))
    with session.start("tailer", logs, "--batch-size", "1") as tailing:
        assert tailing.stdout is not None
        assert json.loads(tailing.stdout.readline())["type"] in ("Reception", "TransientFailure", "Delivery")
        tailing.terminate()
        tailing.communicate(timeout=10)


def test_holding_and_releasing(session: Session) -> None:
    run = session.run
    ids = [json.loads(line)["queue_id"] for line in run("mailq", "--json", "--queue", SPRING).splitlines()]
    assert session.json("hold", "--reason", "a look", ids[0], "--json")["changed"] == 1
    assert f"{ids[0]}!" in run("mailq", "--held")
    assert session.json("release", ids[0], "--json")["changed"] == 1
    assert session.json("flush", "--queue", SPRING, "--json")["changed"] == 30
    assert session.json("delete", "--reason", "not wanted", ids[1], "--json")["changed"] == 1
    run("inspect-message", ids[1], status=1)
    run("hold", "0" * 32, status=1)


def test_suspending(session: Session) -> None:
    run = session.run
    id = session.json("suspend", "--domain", "nowhere.test", "--reason", "a pause", "--duration", "10m")["id"]
    assert re.fullmatch(UUID, id)
    (listed,) = session.json("suspend-list")
    assert (listed["id"], listed["domain"], listed["reason"]) == (id, "nowhere.test", "a pause")
    run("suspend-cancel", "--id", id)
    assert session.json("suspend-list") == []
    ready = f"unspecified->mx_list:{session.sink.address}@smtp_client"
    id = session.json("suspend-ready-q", "--name", ready, "--reason", "look", "--duration", "10m")["id"]
    assert session.json("suspend-ready-q-list")[0]["name"] == ready
    run("suspend-ready-q-cancel", "--id", id)
    assert session.json("suspend-ready-q-list") == []
    sent = len(session.sink.deliveries)
    session.sink.wait_for(sent + 5, 60)  # it flows again


def test_bouncing_and_rebinding(session: Session) -> None:
    run = session.run
    run("rebind", "--campaign", "spring", "--reason", "moved", "--set", "campaign=winter")
    assert re.search(r"^winter:gold@slow\.test\s+29\b", run("queue-summary"), re.M)
    id = run("bounce", "--campaign", "autumn", "--reason", "enough", "--duration", "10m").strip()
    assert re.fullmatch(UUID, id)
    (listed,) = session.json("bounce-list", "--json")
    assert (listed["id"], listed["campaign"], listed["total_bounced"]) == (id, "autumn", 30)
    assert "campaign=autumn" in run("bounce-list")
    run("bounce-cancel", "--id", id)
    named = session.json("suspend", "--queue", "winter:gold@slow.test", "--reason", "only this")["id"]
    assert re.search(r"^winter:gold@slow\.test\s+29 \S*suspend: only this$", run("queue-summary"), re.M)
    assert not re.search(r"^good\.test\s.*only this", run("queue-summary"), re.M)
    run("suspend-cancel", "--id", named)
    id = run("bounce", "--queue", "winter:gold@slow.test", "--reason", "all of it").strip()
    assert "queue=winter:gold@slow.test" in run("bounce-list")
    run("bounce-cancel", "--id", id)
    assert session.json("bounce-list", "--json") == []


def test_the_node_itself(session: Session) -> None:
    run = session.run
    assert "policy.lua" in run("policy")
    assert run("bump-config-epoch").strip() == "OK"
    assert run("set-log-filter", "kumod=info").strip() == "OK"
    assert run("spool-compact", "--name", "data") == ""
    ready = f"unspecified->mx_list:{session.sink.address}@smtp_client"
    connections = session.json("inspect-ready-q", ready, "--json")["dispatchers"]
    assert connections
    run("abort-ready-q-conn", ready, connections[0]["session_id"])
    found = json.loads(subprocess.run([PROGRAM, "doctor", "--json"], capture_output=True, check=False).stdout)
    session.called.add("doctor")
    assert {one["topic"] for one in found} >= {"host", "limits", "kernel", "software"}
    assert {one["mark"] for one in found} <= {"ok", "warn", "bad"}


def test_policies(session: Session) -> None:
    run, policy = session.run, str(session.policy)
    run("serve", "--validate", "--policy", policy)
    assert "/api/inject/v1" in session.json("serve", "--dump-openapi-spec")["paths"]
    assert "get_queue_config" in run("lua", "api", "get_queue_config")
    assert "mx_list" in run("explain", "path", "--domain", "good.test", "--policy", policy)
    assert session.json("resolve-queue-config", "slow.test", "--policy", policy)["retry_interval"] == "1h"
    assert "overall rate 100/s, 6,000/m" in run("explain-throttle", "100/s,max_burst=2")
    assert "connection_limit" in run("resolve-shaping-domain", "good.test", "--policy", policy)
    rules = Path(cli.__file__).parents[1] / "logs" / "data" / "providers.toml"
    run("validate-bounces", str(rules))
    shaping = session.directory / "shaping.toml"
    shaping.write_text("['good.test']\nmx_rollup = false\nconnection_limit = 5\n")
    run("validate-shaping", str(shaping))
    assert run("markdown-help").startswith("# `kumo-py`")


def test_all_of_them(session: Session) -> None:
    """resolve-site-name asks the DNS, so it has a test of its own, with a DNS of its own."""
    assert set(cli._FILES) - session.called == {"resolve-site-name"}
