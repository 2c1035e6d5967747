"""kumo-py top: what a frame shows, what keys do, and how it behaves in a terminal whose node comes and goes."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from click.testing import CliRunner
from pseudo_terminal import PseudoTerminal
from rich.console import Console

from kumo_py.cli import main
from kumo_py.cli.top.frame import Scene, draw, rate, size, span, sparkline
from kumo_py.cli.top.history import History
from kumo_py.cli.top.overview import Overview
from kumo_py.cli.top.wishes import Wishes

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.time_limit(30)

NOW = 1_766_599_200.0  # 2025-12-24T18:00:00Z
ERROR = {"when": "2025-12-24T17:58:00.000Z", "text": "451 4.7.1 slow\x1b[2J down"}


def overview(**totals: Any) -> dict[str, Any]:
    """As a node answers."""
    return {
        "now": "2025-12-24T18:00:00.000Z",
        "console": True,
        "node": {
            "hostname": "mx.node.example",
            "node_id": "7bd12317-380e-52ed-ab8b-741be99d87cc",
            "version": "0.1.0",
            "started": "2025-12-21T14:00:00.000Z",
            "uptime": 3 * 86400 + 4 * 3600.0,
        },
        "policy": {
            "policy": "/etc/init.lua",
            "files": ["/etc/init.lua"],
            "epoch": 3,
            "since": NOW - 7200,
            "reloads": 1,
            "failures": 0,
            "error": None,
            "failed_at": None,
            "restart_needed": [],
        },
        "totals": {
            "received": 1000,
            "delivered": 900,
            "failed": 10,
            "transfailed": 50,
            "scheduled": 1234567,
            "ready": 40,
            "connections_in": 3,
            "connections_out": 12,
            "memory_usage": 210 << 20,
            "memory_limit": 1 << 30,
            "cpu_seconds": 100.0,
        }
        | totals,
        "scheduled_queues": {
            "count": 2,
            "shown": [
                queue("gold@one.example", 20, oldest=3725.0, last_error=ERROR),
                queue("two.example", 10, oldest=None, suspended="too many complaints"),
            ],
        },
        "ready_queues": {
            "count": 3,
            "shown": [
                ready("ip1", "mx.one.example", 30, connections=10, transfailed=7, last_error=ERROR),
                ready(
                    "ip2",
                    "mx.one.example",
                    5,
                    failed=2,
                    last_error=ERROR | {"text": "older", "when": "2025-12-24T17:00:00Z"},
                ),
                ready("ip1", "mx.two.example", 5, provider="two", connection_limit=None),
            ],
        },
        "tenants": [{"tenant": "gold", "messages": 20}, {"tenant": "silver", "messages": 10}],
        "sites": [],
        "rules": {"count": 0, "shown": []},
    }


def queue(name: str, messages: int, **fields: Any) -> dict[str, Any]:
    return {"name": name, "messages": messages, "oldest": 0.0, "last_error": None, "suspended": None} | fields


def ready(source: str, site: str, messages: int, **fields: Any) -> dict[str, Any]:
    return (
        queue(f"{source}->{site}@smtp_client", messages)
        | {
            "site": site,
            "source": source,
            "provider": None,
            "protocol": "smtp_client",
            "connections": 1,
            "connection_limit": 10,
            "delivered": 100,
            "failed": 0,
            "transfailed": 0,
        }
        | fields
    )


def parsed(value: dict[str, Any]) -> Overview:
    return msgspec.convert(value, Overview)


def scene(*overviews: dict[str, Any], interval: float = 2.0) -> Scene:
    made = Scene("http://127.0.0.1:8000")
    for number, one in enumerate(overviews):
        made.history.add(parsed(one), 50.0 + number * interval)
    return made


def text(of: Scene, width: int = 100, height: int | None = 30, now: float = NOW) -> list[str]:
    """The lines of a frame."""
    console = Console(width=width, height=height or 1000, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(draw(of, now, width, height))
    return capture.get().splitlines()


def row(lines: list[str], start: str) -> str:
    [found] = [line for line in lines if line.strip().startswith(start)]
    return " ".join(found.split())


# -- frames ------------------------------------------------------------------------------------------------------
def test_the_head_and_the_rates() -> None:
    later = overview(received=1100, delivered=1000, transfailed=50, failed=11, cpu_seconds=100.5)
    lines = text(scene(overview(), later))
    assert len(lines) == 30
    assert row(lines, "kumo-py top").startswith("kumo-py top mx.node.example version 0.1.0, up 3d 4h, ")
    assert row(lines, "policy") == "policy epoch 3, for 2h: /etc/init.lua"
    assert row(lines, "cpu") == (
        "cpu 25% memory 210 MiB/1.0 GiB ██░░░░░░ connections 3 in 12 out scheduled 1,234,567 ready 40"
    )
    assert row(lines, "received") == "received 50.0/s █ 1,100"
    assert row(lines, "deferred") == "deferred 0.0/s 50"
    assert row(lines, "bounced") == "bounced 0.5/s █ 11"
    assert row(lines, "1 queues") == "1 queues 2 2 sites 3 3 errors 4 tenants 2 order: size"
    assert lines[-1].startswith("q quit")


def test_rates_are_drawn_against_their_highest() -> None:
    assert sparkline([0, 1, 50, 100], 6) == "   ▁▄█"
    assert sparkline([], 3) == sparkline([0.0, 0.0], 3) == "   "


def test_a_policy_that_was_refused_is_shown() -> None:
    refused = overview()
    refused["policy"]["error"] = "init.lua:3: unexpected\nsymbol"
    assert row(text(scene(refused)), "policy").endswith(
        "the last edit is refused: init.lua:3: unexpected symbol"
    )
    refused["policy"] |= {"error": None, "restart_needed": ["kumo.start_esmtp_listener"]}
    assert row(text(scene(refused), 200), "policy").endswith(
        "at the next start only: kumo.start_esmtp_listener"
    )


def test_queues_with_their_age_and_what_keeps_them() -> None:
    lines = text(scene(overview()))
    when = time.strftime("%H:%M:%S", time.localtime(NOW - 120))
    shown = "451 4.7.1 slow\N{REPLACEMENT CHARACTER}[2J down"
    assert row(lines, "QUEUE") == "QUEUE MESSAGES OLDEST LAST ERROR"
    assert row(lines, "gold@one") == f"gold@one.example 20 1h 2m {when} {shown}"
    assert row(lines, "two.example") == "two.example 10 - suspended: too many complaints"


def test_sites_with_rates_and_connections() -> None:
    later = overview()
    later["ready_queues"]["shown"][0] |= {"delivered": 140, "transfailed": 8}
    later["ready_queues"]["shown"].append(ready("ip9", "new.example", 1))
    shown = scene(overview(), later)
    shown.wishes.view = "sites"
    lines = text(shown, 120)
    assert row(lines, "SITE") == "SITE SOURCE READY CONN OK/s DEFER/s FAIL/s LAST ERROR"
    first, second = (" ".join(line.split()) for line in lines if line.startswith("mx.one"))
    assert first.startswith("mx.one.example ip1 30 10/10 20.0 0.5 0.0 ")
    assert second.startswith("mx.one.example ip2 5 1/10 0.0 0.0 0.0 ")
    assert row(lines, "two:") == "two: mx.two.example ip1 5 1 0.0 0.0 0.0"
    assert row(lines, "new.example") == "new.example ip9 1 1/10 - - -"


def test_errors_by_site_the_latest_first() -> None:
    shown = scene(overview())
    shown.wishes.view = "errors"
    lines = text(shown)
    assert row(lines, "SITE") == "SITE DEFERRED FAILED AGO LAST ERROR"
    assert row(lines, "mx.one") == "mx.one.example 7 2 2m 451 4.7.1 slow\N{REPLACEMENT CHARACTER}[2J down"
    assert not any("mx.two" in line for line in lines)


def test_tenants() -> None:
    shown = scene(overview())
    shown.wishes.view = "tenants"
    lines = text(shown)
    assert row(lines, "gold") == "gold 20 " + "█" * 40
    assert row(lines, "silver") == "silver 10 " + "█" * 20


@pytest.mark.parametrize("width", [1, 20, 80, 300])
def test_a_frame_fits_whatever_the_terminal(width: int) -> None:
    shown = scene(overview(), overview())
    shown.lost_at = NOW
    for height in range(1, 40):
        for shown.wishes.view, shown.wishes.help in (("queues", False), ("sites", False), ("sites", True)):
            assert len(text(shown, width, height)) <= height
        assert len(text(Scene("http://127.0.0.1:8000"), width, height)) <= height


def test_the_table_has_what_room_is_left() -> None:
    many = overview()
    many["scheduled_queues"]["shown"] = [queue(f"q{n}.example", n) for n in range(100)]
    assert sum(line.startswith("q") for line in text(scene(many), height=30)) == 20 + 1  # and the keys
    assert sum(line.startswith("q") for line in text(scene(many), height=12)) == 6 + 1
    assert not any("received" in line for line in text(scene(many), height=12))
    assert sum(line.startswith("q") for line in text(scene(many), height=None)) == 100


def test_a_node_that_is_gone_is_shown_with_what_was_known() -> None:
    shown = scene(overview())
    shown.lost_at, shown.problem = NOW - 12, "GET http://127.0.0.1:8000: refused"
    lines = text(shown)
    since = time.strftime("%H:%M:%S", time.localtime(NOW - 12))
    assert row(lines, "no answer") == f"no answer since {since} (12s): GET http://127.0.0.1:8000: refused"
    assert row(lines, "gold@one")
    unknown = Scene("http://127.0.0.1:8000")
    assert text(unknown) == ["asking http://127.0.0.1:8000 …"]


def test_a_restart_begins_the_rates_anew() -> None:
    history = History()
    history.add(parsed(overview()), 1.0)
    history.add(parsed(overview(received=1010)), 2.0)
    assert list(history.rates["received"]) == [10.0]
    restarted = overview(received=5, cpu_seconds=0.1)
    restarted["node"]["started"] = "2025-12-24T18:00:00.000Z"
    history.add(parsed(restarted), 3.0)
    assert list(history.rates["received"]) == []
    assert history.cpu is None
    history.add(parsed(restarted | {"totals": restarted["totals"] | {"received": 7}}), 4.0)
    assert list(history.rates["received"]) == [2.0]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (125, "2m 5s"), (3600, "1h"), (90000, "1d 1h"), (-1, "0s")],
)
def test_spans(seconds: float, expected: str) -> None:
    assert span(seconds) == expected


def test_sizes_and_rates() -> None:
    assert [size(n) for n in (0, 1023, 1024, 10240, 5 << 30, 3 << 50)] == [
        "0 B", "1023 B", "1.0 KiB", "10 KiB", "5.0 GiB", "3072.0 TiB",
    ]  # fmt: skip
    assert [rate(n) for n in (0, 99.94, 1234.6)] == ["0.0", "99.9", "1,235"]


# -- keys --------------------------------------------------------------------------------------------------------
def test_keys_choose_view_order_and_pause() -> None:
    wishes = Wishes()
    assert not wishes.press("q")
    for key, expected in (
        ("tab", "sites"),
        ("right", "errors"),
        ("left", "sites"),
        ("4", "tenants"),
        ("tab", "queues"),
    ):
        assert wishes.press(key)
        assert wishes.view == expected
    for key, order in (("o", "age"), ("down", "errors"), ("o", "size"), ("up", "errors")):
        wishes.press(key)
        assert wishes.query(20) == {"limit": "20", "order": order}
    wishes.press("1")
    wishes.press("p")
    wishes.press("?")
    assert (wishes.paused, wishes.help) == (True, True)
    wishes.press(" ")
    wishes.press("h")
    wishes.press("x")
    assert wishes == Wishes(order="errors")


def test_the_errors_view_asks_for_the_latest_errors() -> None:
    assert Wishes(view="errors").query(7) == {"limit": "7", "order": "errors"}


def test_a_name_is_typed_after_a_slash() -> None:
    wishes = Wishes()
    for key in ("/", "q", "x", "backspace", "p", "enter"):
        assert wishes.press(key)
    assert wishes.query(1)["match"] == "qp"
    wishes.press("escape")
    assert "match" not in wishes.query(1)
    for key in ("/", "a", "left", "escape"):
        wishes.press(key)
    assert wishes == Wishes()


# -- in a terminal -----------------------------------------------------------------------------------------------
class FakeNode:
    """Answers as a node does; it may be taken down and up again at one address."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self._address = ("127.0.0.1", 0)
        self._server: HTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._address[1]}"

    def up(self) -> None:
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                assert parts.path == "/api/kumo-py/overview/v1"
                node.asked.append(dict(parse_qsl(parts.query)))
                body = json.dumps(overview(received=1000 + len(node.asked))).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = HTTPServer(self._address, Handler)
        self._address = ("127.0.0.1", self._server.server_port)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def down(self) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def node() -> Iterator[FakeNode]:
    node = FakeNode()
    node.up()
    yield node
    node.down()


def test_it_draws_takes_keys_follows_resizes_and_leaves_the_terminal_as_it_was(node: FakeNode) -> None:
    with PseudoTerminal("top", "--endpoint", node.url, "--update-interval", "0.2") as shown:
        shown.see(r"mx\.node\.example.*received.*gold@one\.example")
        assert not shown.echoes
        shown.press("\t")
        shown.see(r"SOURCE.*mx\.one\.example")
        shown.press("\x1b[D")
        shown.see("MESSAGES.*OLDEST")
        shown.press("o")
        shown.see("order: age")
        shown.press("/gold\r")
        shown.see("find: gold")
        shown.press("?")
        shown.see("this help")
        shown.press("?")
        shown.see("OLDEST")
        shown.resize(10, 60)
        last = shown.see("kumo-py top.*QUEUE.*q quit").rpartition("kumo-py top")[2]
        assert "received" not in last
        shown.press("p")
        shown.see("PAUSED")
        time.sleep(0.3)  # a request may be under way
        count = len(node.asked)
        time.sleep(0.5)
        assert len(node.asked) == count
        shown.press("q")
        assert shown.ended() == 0
        assert shown.is_restored
    assert {"limit": "50", "order": "size"} in node.asked
    assert {"limit": "50", "order": "age", "match": "gold"} in node.asked


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_terminal_is_restored_by_whatever_ends_it(
    node: FakeNode, number: signal.Signals, status: int
) -> None:
    with PseudoTerminal("top", "--endpoint", node.url) as shown:
        shown.see("gold@one")
        shown.signal(number)
        assert shown.ended() == status
        assert shown.is_restored


def test_a_node_may_go_and_come_again(node: FakeNode) -> None:
    with PseudoTerminal("top", "--endpoint", node.url, "--update-interval", "0.1", columns=200) as shown:
        shown.see("gold@one")
        node.down()
        shown.see(r"no answer since \d\d:\d\d:\d\d \(\d+s\): GET http://127")
        node.up()
        shown.see(r"no answer((?!no answer).)*kumo-py top((?!no answer).)*q quit")
        shown.press("q")
        assert shown.ended() == 0


def test_a_terminal_is_needed(node: FakeNode) -> None:
    result = CliRunner().invoke(main, ["top", "--endpoint", node.url])
    assert result.exit_code == 1
    assert "top needs a terminal to draw on; --once prints one frame wherever it is" in result.stderr
    assert node.asked == []


def test_one_frame(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("COLUMNS", "120")
    result = CliRunner().invoke(main, ["top", "--once", "--endpoint", node.url, "--update-interval", "0.1"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert re.search(r"received +\d+\.\d/s +█ +1,002", result.output)
    assert row(lines, "gold@one").startswith("gold@one.example 20 1h 2m")
    assert len(node.asked) == 2
    assert "\x1b" not in result.output


def test_an_answer_that_is_no_overview_is_named(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("test_cli_top.overview", lambda **_: {"now": 1})
    result = CliRunner().invoke(main, ["top", "--once", "--endpoint", node.url])
    assert result.exit_code == 1
    assert "/api/kumo-py/overview/v1: this is no answer of a node: " in result.stderr
