"""Given what the server says, what does traffic-gen send, count and report?"""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from traffic_gen_peer import CLOSE, Script, SmtpServer

from traffic_gen import connection, reactor
from traffic_gen.engine import run
from traffic_gen.options import Options
from traffic_gen.payload import nonsense

if TYPE_CHECKING:
    from pathlib import Path

    from traffic_gen.options import Target
    from traffic_gen.summary import Summary

PIPELINING = (b"PIPELINING", b"8BITMIME")
NONE: tuple[bytes, ...] = ()


def options(target: Target, **changes: Any) -> Options:
    defaults: dict[str, Any] = {"target": target, "message_count": 20, "concurrency": 3}
    return Options(**defaults | changes)


def send(script: Script | None = None, **changes: Any) -> tuple[SmtpServer, Summary]:
    """Run against a server with that script until the end."""
    with SmtpServer(script) as server:
        summary = run(options(server.target, **changes))
    return server, summary


@pytest.fixture(autouse=True)
def _fast_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_BACKOFF_FIRST", 0.005)


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def sequences(server: SmtpServer) -> list[int]:
    return sorted(int(message.header("X-Traffic-Gen").split("/")[1]) for message in server.accepted)


@pytest.mark.parametrize("pipelining", ["full", "envelope", "off"])
@pytest.mark.parametrize("extensions", [PIPELINING, NONE])
@pytest.mark.parametrize("dribble", [False, True])
def test_every_message_arrives_once(pipelining: str, extensions: tuple[bytes, ...], dribble: bool) -> None:
    before = time.time()
    count = 6 if dribble else 20
    script = Script(extensions=extensions, dribble=dribble)
    server, summary = send(script, pipelining=pipelining, body_size=300, message_count=count)
    assert (summary.sent, summary.accepted, summary.failed, summary.unfinished) == (count, count, 0, 0)
    assert (summary.exit_code, summary.stopped_by, summary.error) == (0, "count", None)
    assert sequences(server) == list(range(count))
    assert len({message.header("Message-ID") for message in server.messages}) == count
    assert len({message.recipient for message in server.messages}) == count
    for message in server.messages:
        name, _, sent_at = message.header("X-Traffic-Gen").split("/")
        assert name == summary.run
        assert before <= float(sent_at) <= time.time()
        assert message.data.split(b"\r\n\r\n", 1)[1] == nonsense(300)
        assert message.header("From") == f"<{message.sender}>"
        assert message.header("To") == f"<{message.recipient}>"
        assert message.recipient.endswith(".mx-sink.test")
    assert all(commands[-1] == "QUIT" for commands in server.commands)
    assert summary.peak_connections == summary.connections == 3
    assert summary.accept.count == count
    assert summary.connect.count == 3
    assert bool(server.pipelined) == (pipelining != "off" and extensions == PIPELINING)


def test_look_ahead_needs_full_pipelining() -> None:
    def commands(pipelining: str) -> int:
        server, _ = send(pipelining=pipelining, concurrency=1, message_count=5)
        return server.pipelined

    # MAIL and RCPT of an envelope each have something behind them.
    assert commands("envelope") == 10
    assert commands("full") == 10
    assert commands("off") == 0


@pytest.mark.parametrize("size", [0, 1, 5000, 8192, 100_000, 1_000_000])
@pytest.mark.parametrize("starttls", [False, True])
def test_bodies_of_all_sizes_arrive_byte_for_byte(size: int, starttls: bool, tls: ssl.SSLContext) -> None:
    extensions = (*PIPELINING, b"STARTTLS")
    script = Script(extensions=extensions, tls=tls)
    server, summary = send(script, starttls=starttls, body_size=size, message_count=4, concurrency=2)
    assert summary.error is None
    assert sequences(server) == [0, 1, 2, 3]
    for message in server.messages:
        assert message.data.split(b"\r\n\r\n", 1)[1] == nonsense(size)


def test_body_file_arrives_byte_for_byte(tmp_path: Path) -> None:
    text = b".\n..\n.dot\nplain\n\n" + "naïve\n".encode() + b"." * 200 + b"\n" + b"x" * 20_000 + b"\n."
    path = tmp_path / "body"
    path.write_bytes(text)
    server, _ = send(body_file=path, message_count=3, concurrency=1)
    for message in server.accepted:
        assert message.data.split(b"\r\n\r\n", 1)[1] == text.replace(b"\n", b"\r\n") + b"\r\n"
    mails = [line for line in server.commands[0] if line.startswith("MAIL")]
    assert len(mails) == 3
    assert all(line.endswith("> BODY=8BITMIME") for line in mails)


def test_a_slow_reader_gets_it_all() -> None:
    server, summary = send(Script(delay=0.02), body_size=1_000_000, message_count=6, concurrency=3)
    assert summary.accepted == 6
    assert {len(message.data.split(b"\r\n\r\n", 1)[1]) for message in server.messages} == {1_000_000}


def test_latency_is_that_of_the_transaction() -> None:
    _, summary = send(Script(delay=0.03), message_count=4, concurrency=1, pipelining="envelope")
    assert summary.accept.percentiles(50)[0] >= 0.03


@pytest.mark.parametrize("extensions", [PIPELINING, NONE])
@pytest.mark.parametrize(
    ("verb", "reply", "stage"),
    [
        ("MAIL", b"451 4.7.1 later\r\n", "MAIL FROM"),
        ("RCPT", b"550 5.1.1 nobody\r\n", "RCPT TO"),
        ("DATA", b"451 4.3.0 not now\r\n", "DATA"),
        ("BODY", b"554-5.6.0 bad\r\n554 5.6.0 content\r\n", "the message"),
        ("BODY", b"421 4.3.2 going down\r\n", "the message"),
        ("MAIL", b"421 4.3.2 going down\r\n", "MAIL FROM"),
    ],
)
class TestRefusals:
    def test_keep_going_counts_and_goes_on(
        self, verb: str, reply: bytes, stage: str, extensions: tuple[bytes, ...]
    ) -> None:
        script = Script(replies={verb: [reply, reply]}, extensions=extensions)
        server, summary = send(script, keep_going=True)
        assert (summary.sent, summary.accepted, summary.failed) == (20, 18, 2)
        assert (summary.exit_code, summary.error) == (0, None)
        assert len(server.accepted) == len(set(sequences(server))) == 18
        text = " / ".join(reply.decode().split("\r\n")[:-1])
        assert dict(summary.refusals) == {f"{server.target} answered {stage} with: {text}": 2}
        assert "failed messages were not tried again" in summary.as_text()

    def test_else_the_first_one_ends_the_run(
        self, verb: str, reply: bytes, stage: str, extensions: tuple[bytes, ...]
    ) -> None:
        script = Script(replies={f"{verb}*": [reply]}, extensions=extensions)
        server, summary = send(script, message_count=1000)
        assert (summary.exit_code, summary.stopped_by) == (1, "error")
        assert summary.accepted == 0
        assert 1 <= summary.failed <= 3  # what the three connections were told at the same time
        assert summary.sent < 20
        first = reply.decode().split("\r\n")[0]
        assert summary.error is not None
        assert summary.error.startswith(f"{server.target} answered {stage} with: {first}")


def test_a_refused_recipient_whose_data_is_taken_all_the_same() -> None:
    # RFC 2920 section 3.1: a server may answer 354 although no recipient is left.
    script = Script(replies={"RCPT": [b"550 5.1.1 nobody\r\n"], "BODY": [b"554 5.5.1 no recipients\r\n"]})
    server, summary = send(script, keep_going=True, concurrency=1)
    assert (summary.accepted, summary.failed) == (19, 1)
    assert len(server.messages) == 19


def test_the_transaction_is_reset_after_a_refusal() -> None:
    script = Script(replies={"RCPT": [b"550 5.1.1 nobody\r\n"], "DATA": [b"503 5.5.1 no recipients\r\n"]})
    server, summary = send(script, keep_going=True, concurrency=1, message_count=3)
    assert (summary.accepted, summary.failed) == (2, 1)
    verbs = [line.split()[0] for line in server.commands[0]]
    assert verbs[1:6] == ["MAIL", "RCPT", "DATA", "RSET", "MAIL"]


@pytest.mark.parametrize("last", [b"421 4.4.5 enough\r\n", b"451 4.5.3 too many recipients\r\n"])
@pytest.mark.parametrize("extensions", [PIPELINING, NONE])
def test_a_connection_used_up_is_no_error(last: bytes, extensions: tuple[bytes, ...]) -> None:
    # A server that takes two messages per connection.
    per_connection = [b"250 ok\r\n", b"250 ok\r\n", last]
    script = Script(replies={"RCPT": per_connection * 9}, extensions=extensions)
    server, summary = send(script, concurrency=1, message_count=10)
    assert (summary.accepted, summary.failed, summary.error) == (10, 0, None)
    assert summary.reconnects == 4
    assert summary.connections == 5
    assert sequences(server) == list(range(10))


@pytest.mark.parametrize("verb", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA"])
def test_a_drop_before_the_body_loses_no_message(verb: str) -> None:
    server, summary = send(Script(replies={verb: [CLOSE, CLOSE]}), keep_going=True)
    assert (summary.accepted, summary.failed, summary.connection_errors) == (20, 0, 2)
    assert sequences(server) == list(range(20))
    assert summary.exit_code == 0


def test_a_drop_after_the_body_fails_the_message() -> None:
    server, summary = send(Script(replies={"BODY": [CLOSE, CLOSE]}), keep_going=True)
    assert (summary.accepted, summary.failed, summary.connection_errors) == (18, 2, 2)
    assert len(sequences(server)) == 18
    assert any("while the reply to the message was awaited" in said for said in summary.refusals)


@pytest.mark.parametrize(
    ("replies", "says"),
    [
        ({"GREETING": [b"554 5.7.1 go away\r\n"]}, "answered connect with: 554 5.7.1 go away"),
        ({"GREETING": [b"421 busy\r\n"]}, "answered connect with: 421 busy"),
        ({"GREETING": [CLOSE]}, "closed the connection while the reply to connect was awaited"),
        ({"EHLO": [b"502 what\r\n"]}, "answered EHLO with: 502 what"),
        ({"MAIL": [CLOSE]}, "closed the connection while the reply to"),
        ({"GREETING": [b"HTTP/1.1 400 Bad Request\r\n"]}, "sent what is no SMTP reply: HTTP/1.1 400"),
        (
            {"GREETING": [b"220 hi\r\n250 more\r\n"]},
            "answered connect with: 220 hi and went on unasked: 250 more",
        ),
        ({"MAIL": [b"250" + b"-" * 200_000]}, "sent a reply line of more than 65536 bytes"),
        ({"EHLO": [b"250-x\r\n" * 9000]}, "sent a reply without end"),
        ({"MAIL": [b"550 \x1b[31mred\x00\r\n"]}, "with: 550 ?[31mred?"),
    ],
)
def test_what_went_wrong_is_said(replies: dict[str, list[bytes]], says: str) -> None:
    _, summary = send(Script(replies=replies), concurrency=1, timeout=5)
    assert summary.exit_code == 1
    assert summary.error is not None
    assert says in summary.error


def test_nobody_listens() -> None:
    with SmtpServer() as server:
        target = server.target
    summary = run(options(target, concurrency=100, message_count=1000))
    assert summary.exit_code == 1
    assert summary.error == f"{target} failed: Connection refused"
    assert summary.connection_errors == 1


def test_nobody_listens_and_keep_going_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_GIVE_UP_AFTER", 0.1)
    with SmtpServer() as server:
        target = server.target
    summary = run(options(target, keep_going=True))
    assert summary.exit_code == 1
    assert summary.error is not None
    assert "gave up connecting with 20 messages unsent" in summary.error
    assert "Connection refused" in summary.error


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reactor, "_TICK", 0.05)
    _, summary = send(Script(delay=0.5), timeout=0.1, concurrency=1)
    assert summary.exit_code == 1
    assert summary.error is not None
    assert "said nothing for 0.1 s while the reply to the message was awaited" in summary.error


def test_a_server_that_never_says_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reactor, "_TICK", 0.02)
    monkeypatch.setattr(reactor, "_GOODBYE", 0.05)
    _, summary = send(Script(replies={"QUIT*": [b"221-wait\r\n"]}))
    assert (summary.accepted, summary.exit_code) == (20, 0)


def test_starttls(tls: ssl.SSLContext) -> None:
    server, summary = send(Script(extensions=(*PIPELINING, b"STARTTLS"), tls=tls), starttls=True)
    assert summary.accepted == 20
    assert summary.protocol == "smtp+starttls"
    for commands in server.commands:
        verbs = [line.split()[0] for line in commands]
        assert verbs[:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


def test_starttls_not_offered_is_an_error() -> None:
    _, summary = send(Script(), starttls=True)
    assert summary.exit_code == 1
    assert summary.error is not None
    assert "does not offer STARTTLS" in summary.error


@pytest.mark.parametrize("injected", [b"250 injected\r\n", b"250-part", b"421 no\r\n"])
def test_words_in_the_clear_after_starttls_are_not_believed(tls: ssl.SSLContext, injected: bytes) -> None:
    script = Script(extensions=(b"STARTTLS",), tls=tls, replies={"STARTTLS": [b"220 go on\r\n" + injected]})
    with SmtpServer(script) as server:
        summary = run(options(server.target, starttls=True, concurrency=1))
        server.failures.clear()
    assert summary.error is not None
    assert injected.decode().strip() in summary.error
    assert summary.sent == 0


def test_a_failed_handshake_is_said() -> None:
    script = Script(extensions=(b"STARTTLS",), replies={"STARTTLS": [b"220 go on\r\n", b"220 go on\r\n"]})
    with SmtpServer(script) as server:
        script.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # no certificate: no cipher in common
        summary = run(options(server.target, starttls=True, concurrency=1))
    assert summary.error is not None
    assert "failed in TLS: " in summary.error


def test_ehlo_names_a_domain_that_cannot_be_real() -> None:
    server, _ = send()
    assert server.ehlo_names == {"traffic-gen.mx-sink.test"}
