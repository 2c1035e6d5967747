"""When does a run begin, pause and end, and where does it connect from?"""

from __future__ import annotations

import errno
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from traffic_gen_peer import Script, SmtpServer

from traffic_gen import reactor
from traffic_gen.engine import run
from traffic_gen.options import Options, Target
from traffic_gen.reactor import Reactor, StopRequest, resolve
from traffic_gen.throttle import parse_throttle

if TYPE_CHECKING:
    from traffic_gen.summary import Summary


def options(server: SmtpServer, **changes: Any) -> Options:
    defaults: dict[str, Any] = {"target": server.target, "concurrency": 4}
    return Options(**defaults | changes)


def test_duration_ends_the_run_and_answers_are_awaited() -> None:
    with SmtpServer() as server:
        start = time.monotonic()
        summary = run(options(server, duration=0.3))
        assert 0.3 <= time.monotonic() - start < 5
    assert summary.stopped_by == "duration"
    assert summary.exit_code == 0
    assert summary.accepted == summary.sent == len(server.accepted) > 20
    assert all(commands[-1] == "QUIT" for commands in server.commands)


def test_count_ends_the_run_before_the_duration() -> None:
    with SmtpServer() as server:
        summary = run(options(server, duration=30, message_count=5))
    assert (summary.accepted, summary.stopped_by) == (5, "count")


def test_unanswered_messages_are_unfinished_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reactor._DRAIN, "duration", 0.05)
    with SmtpServer(Script(delay=0.6)) as server:
        summary = run(options(server, duration=0.1))
    assert (summary.accepted, summary.failed) == (0, 0)
    assert summary.unfinished >= 4
    assert summary.exit_code == 1


def test_a_request_to_stop_waits_for_replies() -> None:
    stop = StopRequest()
    with SmtpServer(Script(delay=0.05)) as server:
        timer = threading.Timer(0.3, stop.ask)
        timer.start()
        summary = run(options(server, duration=60), stop=stop)
        timer.join()
    assert (summary.stopped_by, summary.exit_code) == ("signal", 130)
    assert summary.accepted == summary.sent == len(server.accepted) > 0


def test_a_second_request_breaks_off() -> None:
    stop = StopRequest()
    stop.break_off()
    with SmtpServer(Script(delay=1)) as server:
        start = time.monotonic()
        summary = run(options(server, duration=60), stop=stop)
        assert time.monotonic() - start < 0.9
    assert summary.exit_code == 130


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reactor, "_TICK", 0.05)
    seen: list[tuple[float, int]] = []

    def progress(summary: Summary) -> None:
        seen.append((summary.elapsed, summary.accepted))

    with SmtpServer(Script(delay=0.01)) as server:
        summary = run(options(server, duration=0.4), progress)
    assert 2 <= len(seen) <= 9
    assert seen == sorted(seen)
    assert summary.accepted >= seen[-1][1] > 0
    assert summary.cpu > 0
    assert summary.max_rss > 1_000_000


def test_throttle_spaces_the_messages() -> None:
    with SmtpServer() as server:
        start = time.monotonic()
        summary = run(options(server, message_count=15, throttle=parse_throttle("50/s,max_burst=5")))
        took = time.monotonic() - start
    assert summary.accepted == 15
    assert 0.19 <= took < 5
    sent = sorted(float(message.header("X-Traffic-Gen").split("/")[2]) for message in server.accepted)
    assert sent[5] - sent[0] >= 0.015
    assert sent[-1] - sent[0] >= 0.19


def test_an_idle_connection_that_the_server_ends_is_opened_again() -> None:
    with SmtpServer() as server:
        hang_up = threading.Timer(0.1, server.hang_up)
        hang_up.start()
        summary = run(
            options(server, concurrency=1, message_count=3, throttle=parse_throttle("4/s,max_burst=1"))
        )
        hang_up.join()
    assert (summary.accepted, summary.error) == (3, None)
    assert summary.reconnects == 1


def test_all_connections_are_opened_before_the_first_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reactor, "_WINDOW", 3)
    with SmtpServer() as server:
        summary = run(options(server, concurrency=40, message_count=60))
    assert summary.peak_connections == 40
    assert len(server.commands) == 40
    assert summary.opening > 0
    assert summary.rate == pytest.approx(60 / (summary.elapsed - summary.opening))


def test_no_more_connections_than_messages() -> None:
    with SmtpServer() as server:
        summary = run(options(server, concurrency=40, message_count=2))
    assert summary.connections == 2


def test_many_connections_come_from_several_loopback_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reactor, "_CONNECTIONS_PER_SOURCE", 4)
    with SmtpServer() as server:
        summary = run(options(server, concurrency=12, message_count=12))
    assert summary.accepted == 12
    assert sorted(server.peers) == ["127.0.0.1"] * 4 + ["127.0.0.2"] * 4 + ["127.0.0.3"] * 4


def test_exhausted_ports_lead_to_the_next_address(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Reactor._start_connect

    def start_connect(self: Reactor, sock: socket.socket, source: int) -> int:
        return errno.EADDRNOTAVAIL if source < 2 else original(self, sock, source)

    monkeypatch.setattr(Reactor, "_start_connect", start_connect)
    with SmtpServer() as server:
        summary = run(options(server, concurrency=3, message_count=3))
    assert summary.accepted == 3
    assert set(server.peers) == {"127.0.0.3"}


def test_exhausted_ports_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reactor, "_start_connect", lambda *_: errno.EADDRNOTAVAIL)
    with SmtpServer() as server:
        summary = run(options(server, message_count=3))
    assert summary.exit_code == 1
    assert summary.error is not None
    assert "no free local port for connection 1: widen net.ipv4.ip_local_port_range" in summary.error


def test_ipv4_is_preferred() -> None:
    assert resolve("127.0.0.1", 25) == (socket.AF_INET, ("127.0.0.1", 25))
    assert resolve("::1", 25) == (socket.AF_INET6, ("::1", 25))
    assert str(Target("::1", 25)) == "[::1]:25"
