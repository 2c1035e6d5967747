from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from traffic_gen_peer import CLOSE, HttpServer, http_reply

from traffic_gen import connection
from traffic_gen.engine import run
from traffic_gen.http import HttpReply, fail_count, parse_reply
from traffic_gen.options import Options
from traffic_gen.throttle import parse_throttle

if TYPE_CHECKING:
    from traffic_gen.summary import Summary

REPLIES = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", HttpReply(200, b"abc", True)),
    (b"HTTP/1.1 200 OK\r\ncontent-length:3 \r\nConnection: Close\r\n\r\nabc", HttpReply(200, b"abc", False)),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", HttpReply(200, b"", False)),
    (b"HTTP/1.1 503\r\nContent-Length: 1\r\n\r\nx", HttpReply(503, b"x", True)),
    (b"HTTP/1.1 204 No Content\r\n\r\n", HttpReply(204, b"", True)),
    (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        HttpReply(200, b"x", True),
    ),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        HttpReply(200, b"abcde", True),
    ),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: x\r\n\r\n",
        HttpReply(200, b"a", True),
    ),
]


@pytest.mark.parametrize(("data", "reply"), REPLIES)
def test_replies_are_complete_at_their_last_byte(data: bytes, reply: HttpReply) -> None:
    assert parse_reply(data) == reply
    for end in range(len(data)):
        assert parse_reply(data[:end]) is None


def test_a_reply_without_length_ends_with_the_connection() -> None:
    data = b"HTTP/1.1 200 OK\r\n\r\nabc"
    assert parse_reply(data) is None
    assert parse_reply(data, closed=True) == HttpReply(200, b"abc", False)


@pytest.mark.parametrize(
    "data", [b"220 smtp\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n"]
)
def test_other_protocols_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no HTTP/1 reply"):
        parse_reply(data)


def test_a_broken_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="chunked"):
        parse_reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")


@pytest.mark.parametrize(
    ("body", "count"),
    [(b'{"fail_count":2}', 2), (b'{"fail_count":"2"}', 0), (b"{}", 0), (b"OK", 0), (b"[]", 0), (b"\xff", 0)],
)
def test_fail_count(body: bytes, count: int) -> None:
    assert fail_count(body) == count


@pytest.fixture(autouse=True)
def _fast_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_BACKOFF_FIRST", 0.005)


def inject(server: HttpServer, **changes: Any) -> Summary:
    defaults: dict[str, Any] = {"target": server.target, "http": True, "message_count": 10, "concurrency": 2}
    return run(Options(**defaults | changes))


def recipients(server: HttpServer) -> list[str]:
    return [each["email"] for _, request in server.requests for each in request["recipients"]]


def test_messages_are_injected_over_persistent_connections() -> None:
    with HttpServer() as server:
        summary = inject(server)
    assert (summary.accepted, summary.failed, summary.exit_code) == (10, 0, 0)
    assert summary.connections == 2
    assert {line for line, _ in server.requests} == {"POST /api/inject/v1 HTTP/1.1"}
    assert len(set(recipients(server))) == 10
    contents = [request["content"] for _, request in server.requests]
    assert sorted(content.split(f"X-Traffic-Gen: {summary.run}/")[1][0] for content in contents) == list(
        "0123456789"
    )


def test_batches_fill_up_to_the_count() -> None:
    with HttpServer() as server:
        summary = inject(server, http_batch_size=4, concurrency=1)
    assert [len(request["recipients"]) for _, request in server.requests] == [4, 4, 2]
    assert summary.accepted == 10
    assert len(set(recipients(server))) == 10


def test_large_bodies_go_through() -> None:
    with HttpServer() as server:
        summary = inject(server, body_size=1_000_000)
    assert summary.accepted == 10
    assert {len(request["content"].split("\r\n\r\n", 1)[1]) for _, request in server.requests} == {1_000_000}


def test_failed_recipients_are_counted() -> None:
    with HttpServer([http_reply(3, failed=1)]) as server:
        summary = inject(server, http_batch_size=4, concurrency=1, keep_going=True)
    assert (summary.accepted, summary.failed) == (9, 1)


def test_deferred_generation_counts_requests_as_accepted() -> None:
    with HttpServer([http_reply(0), http_reply(0), http_reply(0)]) as server:
        summary = inject(server, http_batch_size=4, concurrency=1, http_defer_generation=True)
    assert summary.accepted == 10


def test_a_refused_request_fails_its_batch() -> None:
    with HttpServer([http_reply(0, status="503 Busy")]) as server:
        summary = inject(server, http_batch_size=4, concurrency=1, keep_going=True)
    assert (summary.accepted, summary.failed, summary.exit_code) == (6, 4, 0)
    (said,) = summary.refusals
    assert said.startswith(f"{server.target} answered the injection with: 503")


def test_without_keep_going_it_ends_the_run() -> None:
    with HttpServer([http_reply(0, status="401 Who")]) as server:
        summary = inject(server, concurrency=1)
    assert (summary.failed, summary.exit_code) == (1, 1)


def test_close_after_each_reply_is_no_error() -> None:
    replies = [http_reply(1, extra="Connection: close\r\n") for _ in range(10)]
    with HttpServer(replies) as server:
        summary = inject(server)
    assert (summary.accepted, summary.error) == (10, None)
    assert summary.reconnects > 0


def test_a_drop_fails_what_was_sent() -> None:
    with HttpServer([CLOSE]) as server:
        summary = inject(server, keep_going=True)
    assert (summary.accepted, summary.failed, summary.connection_errors) == (9, 1, 1)


def test_no_http_server() -> None:
    with HttpServer([b"220 smtp here\r\n"]) as server:
        summary = inject(server, concurrency=1)
    assert summary.error is not None
    assert "sent no HTTP/1 reply: 220 smtp here" in summary.error


def test_nobody_listens() -> None:
    with HttpServer() as server:
        pass
    summary = inject(server)
    assert summary.error == f"{server.target} failed: Connection refused"


def test_throttle_counts_messages_not_requests() -> None:
    with HttpServer() as server:
        summary = inject(server, http_batch_size=5, throttle=parse_throttle("50/s,max_burst=5"))
    assert summary.accepted == 10
    assert summary.elapsed >= 0.09
