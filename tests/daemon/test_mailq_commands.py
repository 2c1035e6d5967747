"""mailq, flush, hold, release and delete against a real node, whose next host refuses some domains for a while."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from click.testing import CliRunner, Result
from real_node import RealNode
from smtp_client import SmtpClient
from smtp_sink import SmtpSink
from test_node_in_process import records
from test_policy_cli import fails, succeeds

from kumo_py.cli import main
from kumo_py.cli.mailq import _read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from real_node import Preloaded
    from smtp_sink import _Connection

pytestmark = pytest.mark.time_limit(60)

POLICY = """
local kumo = require 'kumo'
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.configure_local_logs { log_dir = '@DIR@/logs', min_free_space = 0, min_free_inodes = 0 }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8' } }
  kumo.start_http_listener { listen = '127.0.0.1:0' }
end)
kumo.on('http_message_generated', function(msg)
  msg:set_scheduling { first_attempt = '2099-12-24T18:00:00Z' }
end)
kumo.on('get_queue_config', function()
  return kumo.make_queue_config { protocol = { smtp = { mx_list = { '@TO@' } } }, retry_interval = '1h' }
end)
kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path { enable_tls = 'Disabled', prohibited_hosts = {}, max_ready = 20000 }
end)
"""


class PickySink(SmtpSink):
    """Refuses some domains for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()

    def _command(self, connection: _Connection, line: str) -> bytes:
        if line[:4] == "RCPT" and any(f"@{domain}>" in line for domain in self.refused):
            return b"451 4.7.1 come back later\r\n"
        if line[:4] == "DATA" and not connection.recipients:
            return b"503 5.5.1 no recipients\r\n"
        return super()._command(connection, line)


class World:
    """A node that can be started again, and its next host."""

    def __init__(self, directory: Path, preloaded: Preloaded, sink: PickySink) -> None:
        self.directory = directory
        self.sink = sink
        self._preloaded = preloaded
        self._policy = POLICY.replace("@DIR@", str(directory)).replace("@TO@", sink.address)
        self.start()

    def start(self) -> None:
        self.node = RealNode(self._policy, self.directory, preloaded=self._preloaded)
        self.node.wait_ready()
        found = re.search(r"http listener on (\S+)", self.node.text)
        assert found
        self.endpoint = f"http://{found[1]}"

    def run(self, *args: str, input: str | None = None) -> Result:
        return CliRunner().invoke(
            main,
            [*args, "--endpoint", self.endpoint],
            prog_name="kumo-py",
            input=input,
            env={"NO_PROXY": "*"},
        )

    def listed(self, *args: str) -> dict[str, dict[str, Any]]:
        """What `mailq --json` prints, by id."""
        lines = succeeds(self.run("mailq", "--json", *args)).splitlines()
        return {row["queue_id"]: row for row in map(json.loads, lines)}

    def submit(self, domain: str, count: int, sender: str = "from@a.example") -> list[str]:
        ids = []
        with SmtpClient(self.node.address) as client:
            client.greet()
            for number in range(count):
                assert client.envelope(sender, f"to{number}@{domain}").code == 354
                client.send(b"Subject: %d\r\n\r\nhello\r\n.\r\n" % number)
                ids.append(client.reply().text.partition("ids=")[2])
        return ids

    def defer(self, domain: str, count: int, sender: str = "from@a.example") -> list[str]:
        """Messages whose first attempt has failed."""
        self.sink.refused.add(domain)
        ids = self.submit(domain, count, sender)
        until(
            lambda: (
                sum(row["queue_name"] == "deferred" for row in self.listed("--domain", domain).values())
                >= count
            )
        )
        return ids


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 10
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


@pytest.fixture
def world(tmp_path: Path, preloaded: Preloaded) -> Iterator[World]:
    with PickySink() as sink:
        world = World(tmp_path, preloaded, sink)
        yield world
        world.node.kill()


def test_mailq_looks_like_postfix(world: World) -> None:
    assert succeeds(world.run("mailq")) == "Mail queue is empty\n"
    first, second = *world.defer("slow.example", 1), *world.defer("late.example", 1, sender="")
    text = succeeds(world.run("mailq"))
    lines = text.splitlines()
    assert lines[0].startswith("-Queue ID-")
    assert lines[0].split() == [
        "-Queue", "ID------------------------", "--Size--", "---Arrival", "Time----", "-Sender/Recipient-------",
    ]  # fmt: skip
    entries = text.partition("\n")[2].split("\n\n")
    found = {entry.split()[0]: entry.splitlines() for entry in entries[:-1]}
    assert set(found) == {first, second}
    entry = found[first]
    size = len(b"Subject: 0\r\n\r\nhello\r\n")
    shown = re.fullmatch(rf"{first}  +(\d+) \w\w\w \w\w\w [ \d]\d \d\d:\d\d:\d\d  from@a\.example", entry[0])
    assert shown
    assert int(shown[1]) > size  # a Received header is on top
    assert entry[1].strip() == "(451 4.7.1 come back later)"
    assert entry[2].strip() == "to0@slow.example"
    assert found[second][0].endswith("  MAILER-DAEMON")
    assert entries[-1] == "-- 1 Kbytes in 2 Requests.\n"


def test_mailq_as_json(world: World) -> None:
    [id] = world.defer("slow.example", 1)
    row = world.listed()[id]
    assert abs(row.pop("arrival_time") - time.time()) < 60
    assert row.pop("message_size") > 0
    assert row.pop("due") > "2026"
    assert row == {
        "queue_name": "deferred",
        "queue_id": id,
        "forced_expire": False,
        "sender": "from@a.example",
        "recipients": [{"address": "to0@slow.example", "delay_reason": "451 4.7.1 come back later"}],
        "scheduled_queue": "slow.example",
        "attempts": 1,
    }


def test_flush_once_the_next_host_is_well(world: World) -> None:
    world.defer("slow.example", 5)
    [other] = world.defer("late.example", 1)
    text = succeeds(world.run("flush", "--site", "slow.example"))
    assert text == "flushed 5 messages\n"
    until(lambda: all(row["attempts"] == 2 for row in world.listed("--domain", "slow.example").values()))
    assert world.listed()[other]["attempts"] == 1
    world.sink.refused.clear()
    assert json.loads(succeeds(world.run("flush", "--queue", "slow.example", "--json"))) == {
        "matched": 5, "changed": 5, "in_flight": 0, "unchanged": 0, "held": 0, "suspended": 0, "scheduled": 0,
        "failed": 0, "not_found": [], "error": None,
    }  # fmt: skip
    world.sink.wait_for(5, 10)
    until(lambda: set(world.listed()) == {other})
    assert succeeds(world.run("flush", "--id", other)) == "flushed 1 message\n"
    world.sink.wait_for(6, 10)


def test_hold_over_restarts(world: World) -> None:
    held = world.defer("slow.example", 3)
    free = held.pop()
    assert succeeds(world.run("hold", *held, "--reason", "who is this?")) == "held 2 messages\n"
    assert succeeds(world.run("hold", *held)) == "held 0 messages\nleft 2 messages: held already\n"
    world.sink.refused.clear()
    assert succeeds(world.run("flush")) == "flushed 1 message\nleft 2 messages: held\n"
    world.sink.wait_for(1, 10)
    until(lambda: free not in world.listed())

    def still_held() -> None:
        rows = world.listed("--held")
        assert set(rows) == set(held) == set(world.listed())
        for id, row in rows.items():
            assert row["queue_name"] == "hold"
            assert row["recipients"][0]["delay_reason"] == "held: who is this?"
            assert row["message_size"] > 0
            assert re.search(rf"{id}! ", succeeds(world.run("mailq")))

    still_held()
    world.node.stop()
    world.start()
    until(lambda: len(world.listed()) == 2)
    still_held()
    world.node.kill()
    world.start()
    until(lambda: len(world.listed()) == 2)
    still_held()
    assert len(world.sink.deliveries) == 1
    assert succeeds(world.run("release", "ALL")) == "released 2 messages\n"
    world.sink.wait_for(3, 10)
    until(lambda: not world.listed())
    world.node.kill()
    world.start()
    time.sleep(0.3)
    assert not world.listed()
    assert len(world.sink.deliveries) == 3


def test_delete_what_the_standard_input_says(world: World) -> None:
    ids = world.defer("slow.example", 4)
    listing = succeeds(world.run("mailq"))
    wanted = [line for line in listing.splitlines() if line.startswith(tuple(ids[:2]))]
    text = succeeds(world.run("delete", "-", "--reason", "spam", input="\n".join(wanted)))
    assert text == "deleted 2 messages\n"
    assert set(world.listed()) == set(ids[2:])
    result = world.run("delete", *ids[1:3])
    assert fails(result) == f"{ids[1]}: there is no such message\n"
    assert result.stdout == "deleted 1 message\n"
    assert succeeds(world.run("delete", "-", input="")) == "deleted 0 messages\n"
    assert "request: 'nonsense' is not a spool id" in fails(world.run("delete", "-", input="nonsense\n"))
    assert set(world.listed()) == {ids[3]}
    world.node.stop()
    found = [record for record in records(world.directory) if record["type"] == "AdminBounce"]
    assert {record["id"]: record["response"]["content"] for record in found} == {
        ids[0]: "Administrator deleted with reason: spam",
        ids[1]: "Administrator deleted with reason: spam",
        ids[2]: "Administrator deleted with reason: deleted by an operator",
    }


def test_delete_all_asks(world: World) -> None:
    world.defer("slow.example", 2)
    fails(world.run("delete", "ALL", input="n\n"))
    assert len(world.listed()) == 2
    assert succeeds(world.run("delete", "ALL", "-f", "--suppress-logging")) == "deleted 2 messages\n"
    assert not world.listed()
    world.node.stop()
    assert not [record for record in records(world.directory) if record["type"] == "AdminBounce"]


def test_pages_while_messages_leave(world: World) -> None:
    """Of 10,000 messages half leave while the pages are read: who stays is there once, nobody is there twice."""
    with httpx.Client(base_url=world.endpoint, trust_env=False, timeout=30) as client:

        def inject(domain: str) -> None:
            body = {
                "envelope_sender": "from@a.example",
                "recipients": [{"email": f"to{number}@{domain}"} for number in range(5000)],
                "content": "Subject: x\r\n\r\nhello\r\n",
            }
            assert client.post("/api/inject/v1", json=body).json()["success_count"] == 5000

        inject("stays.example")
        inject("leaves.example")
        pages: list[list[dict[str, Any]]] = []
        query = {"limit": "500"}
        while True:
            page = client.get("/api/kumo-py/messages/v1", params=query).json()
            pages.append(page["messages"])
            if len(pages) == 2:
                state = client.post(
                    "/api/kumo-py/flush/v1", json={"domain": "leaves.example", "force": True}
                ).json()
                assert state["matched"] > 0
            if page["next"] is None:
                break
            query["after"] = page["next"]
        left = len(world.sink.deliveries)
    rows = [row for page in pages for row in page]
    assert left > 0
    assert all(len(page) <= 500 for page in pages)
    assert len({row["id"] for row in rows}) == len(rows)
    stays = [row["recipients"][0] for row in rows if row["queue"] == "stays.example"]
    assert sorted(stays) == sorted(f"to{number}@stays.example" for number in range(5000))
    arrived = [row["arrived"] for row in rows]
    assert arrived == sorted(arrived)
    assert len(world.listed("--domain", "stays.example")) == 5000


# -- without a node ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("hold",), "say which messages: ids, - for ids on the standard input, options, or ALL"),
        (("delete", "ALL", "--domain", "x"), "ALL excludes ids and criteria"),
        (("release", "ALL", "76912000c73211f08000000000000001"), "ALL excludes ids and criteria"),
        (("mailq", "--older-than", "soon"), "is not a duration"),
    ],
)
def test_what_cannot_be_meant(args: tuple[str, ...], text: str) -> None:
    assert text in fails(CliRunner().invoke(main, args), 2)


def test_lines_are_read_while_nobody_takes_them() -> None:
    read: list[int] = []

    def lines() -> Iterator[str]:
        for number in range(1000):
            read.append(number)
            yield str(number)

    ahead = _read_ahead(lines())
    assert next(ahead) == "0"
    until(lambda: len(read) == 1000)
    assert list(ahead) == [str(number) for number in range(1, 1000)]


def test_a_node_that_is_not_there() -> None:
    result = CliRunner().invoke(main, ["mailq", "--endpoint", "http://127.0.0.1:9"], env={"NO_PROXY": "*"})
    assert "Does the node run" in fails(result)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", "peer closed connection"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n<html>\x1b\n",
            "this is no answer of a node: <html>\ufffd",
        ),
        (b"HTTP/1.1 503 No\r\ncontent-length: 5\r\n\r\nlater", ": 503 later"),
    ],
)
def test_an_answer_that_is_none(answer: bytes, text: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        result = CliRunner().invoke(main, ["mailq", "--endpoint", url], env={"NO_PROXY": "*"})
        serving.join(5)
    assert text in fails(result)
