"""The commands of an operator, against a real node, and without one."""

from __future__ import annotations

import json
import re
import socket
import threading
import uuid
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from real_node import RealNode, relay_policy

from kumo_py.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from real_node import Preloaded

pytestmark = pytest.mark.time_limit(60)

HTTP = """
kumo.on('pre_init', function() kumo.start_http_listener { listen = '127.0.0.1:0' } end)
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Iterator[RealNode]:
    directory = tmp_path_factory.mktemp("node")
    node = RealNode(relay_policy(directory, "127.0.0.1:9", more=HTTP), directory, preloaded=preloaded)
    node.wait_ready()
    yield node
    node.kill()


@pytest.fixture
def endpoint(node: RealNode) -> str:
    found = re.search(r"http listener on (\S+)", node.text)
    assert found
    return f"http://{found[1]}"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> Callable[..., Result]:
    """Runs a command; its output, and its messages."""
    monkeypatch.setenv("KUMO_KCLI_ENDPOINT", endpoint)
    monkeypatch.setenv("NO_PROXY", "*")
    return lambda *args: CliRunner().invoke(main, args, prog_name="kumo-py")


def succeeds(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(result: Result, code: int = 1) -> str:
    assert result.exit_code == code, result.output
    return result.stderr


def test_the_policy_and_its_reload(node: RealNode, run: Callable[..., Result]) -> None:
    file = node.directory / "policy.lua"
    text = succeeds(run("policy"))
    assert re.search(rf"^policy   {re.escape(str(file))}\nepoch    1, since 20\d\d-", text)
    assert "reloads  0 taken, 0 refused" in text
    good = file.read_text()
    file.write_text(good + "\nkumo.nowhere()\n")
    text = fails(run("policy", "reload"))
    assert text.startswith("Error: the policy is refused; epoch 1 goes on: ")
    assert "policy.lua:" in text
    assert "kumo.nowhere" in text
    text = succeeds(run("policy"))
    assert "The last edit was refused at 20" in text
    assert "kumo.nowhere" in text
    assert json.loads(succeeds(run("policy", "--json")))["epoch"] == 1
    file.write_text(good.replace("max_messages_per_connection", "banner = 'x', max_messages_per_connection"))
    text = succeeds(run("policy", "reload"))
    assert re.match(r"the policy was reloaded: epoch \d has begun\n", text)
    assert "takes effect at the next start only: kumo.start_esmtp_listener" in text
    assert "Takes effect at the next start only:" in succeeds(run("policy"))
    assert succeeds(run("bump-config-epoch")) == "OK\n"


def test_bounces(run: Callable[..., Result]) -> None:
    result = run(
        "bounce", "--domain", "b.example", "--tenant", "t", "--reason", "enough\x1b[2J", "--duration", "1h"
    )
    id = str(uuid.UUID(succeeds(result).strip()))
    assert "in the background" in result.stderr
    header, row = succeeds(run("bounce-list")).splitlines()
    assert header.split() == ["ID", "REASON", "REMAIN", "BOUNCED", "CRITERIA"]
    assert row.startswith(f"{id} enough\N{REPLACEMENT CHARACTER}[2J 59m 5")
    assert row.endswith(" 0 domain=b.example, tenant=t")
    [entry] = json.loads(succeeds(run("bounce-list", "--json")))
    assert entry["id"] == id
    assert succeeds(run("bounce-cancel", "--id", id)) == f"removed {id}\n"
    text = fails(run("bounce-cancel", "--id", id))
    assert f"404 bounce entry {id} not found" in text
    id = succeeds(run("bounce", "--everything", "--reason", "x", "--suppress-logging")).strip()
    assert succeeds(run("bounce-list")).splitlines()[1].endswith("everything")
    succeeds(run("bounce-cancel", "--id", id))


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("suspend", ["--domain", "b.example"]),
        ("suspend", ["--queue", "a@b.example", "--queue", "c.example"]),
        ("suspend-ready-q", ["--name", "unspecified->b.example@smtp_client"]),
    ],
)
def test_suspensions(run: Callable[..., Result], command: str, arguments: list[str]) -> None:
    id = json.loads(succeeds(run(command, *arguments, "--reason", "why")))["id"]
    [entry] = json.loads(succeeds(run(f"{command}-list")))
    assert (entry["id"], entry["reason"]) == (id, "why")
    assert entry["duration"].startswith("4m 59s")
    assert succeeds(run(f"{command}-cancel", "--id", id)) == f"removed {id}\n"
    assert json.loads(succeeds(run(f"{command}-list"))) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["bounce", "--reason", "x"], "--everything"),
        (["bounce", "--domain", "x"], "Missing option '--reason'"),
        (["bounce", "--domain", "x", "--everything", "--reason", "x"], "exclude each other"),
        (["suspend", "--queue", "x", "--tenant", "x", "--reason", "x"], "exclude each other"),
        (["suspend", "--routing-domain", "x", "--reason", "x"], "No such option"),
        (["suspend", "--everything", "--reason", "x", "--duration", "soon"], "soon"),
        (["bounce-cancel", "--id", "all"], "not a valid UUID"),
    ],
)
def test_wrong_arguments(run: Callable[..., Result], arguments: list[str], error: str) -> None:
    assert error in fails(run(*arguments), 2)


def test_the_log_filter(run: Callable[..., Result], node: RealNode) -> None:
    assert succeeds(run("set-log-filter", "kumod=info,lua=debug")) == "OK\n"
    text = fails(run("set-log-filter", "kumod=loud"))
    assert "422 Error: " in text
    assert "loud" in text


def test_where_the_node_is(
    run: Callable[..., Result], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option, before the command or after it, wins over the environment."""
    monkeypatch.setenv("KUMO_KCLI_ENDPOINT", "http://127.0.0.1:1")
    for arguments in (
        ("--endpoint", endpoint, "suspend-list"),
        ("suspend-list", "--endpoint", f"{endpoint}/"),
        ("--endpoint", "http://127.0.0.1:2", "suspend-list", "--endpoint", endpoint),
        ("policy", "--endpoint", endpoint, "reload"),
    ):
        succeeds(run(*arguments))
    text = fails(run("suspend-list"))
    assert text.startswith("Error: GET http://127.0.0.1:1/api/admin/suspend/v1: ")
    assert "Connection refused" in text
    assert "kumo.start_http_listener" in text
    monkeypatch.delenv("KUMO_KCLI_ENDPOINT")
    assert "http://127.0.0.1:8000" in run("suspend-list", "--help").output
    for url in ("nowhere", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999"):
        assert "Error: " in fails(run("suspend-list", "--endpoint", url)), url


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK", "this is no answer of a node: OK"),
        (
            b"HTTP/1.1 401 x\r\ncontent-length: 4\r\n\r\nno\x1b!",
            "401 no\N{REPLACEMENT CHARACTER}!; the listener's trusted_hosts",
        ),
        (b"220 mx.example ESMTP\r\n", "GET http://127.0.0.1"),
        (b"", "GET http://127.0.0.1"),
    ],
)
def test_who_answers_is_no_node(run: Callable[..., Result], answer: bytes, error: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        text = fails(run("--endpoint", url, "suspend-list"))
        thread.join()
    assert error in text
    assert len(text.splitlines()) == 1
