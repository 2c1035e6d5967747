"""The HTTP API under load: what admin calls cost the mail beside them, and how fast messages are injected."""

from __future__ import annotations

import http.client
import itertools
import json
import statistics
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from .load import OUR_GENERATOR, CountingSink
from .peer import RELAY
from .peers.kumo_py import KumoPy
from .server import Server, ServerError, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

MAIL_RATE, ADMIN_RATE, MOST_SLOWER = 2000, 100, 5.0
"""Messages and admin calls a second; per cent that the mail may be slower for them."""
BATCH, TARGET = 100, 5000
"""Recipients of an injection request, and how many should be injected a second."""
_DOMAIN = "dest.test"
_CALLS = (
    "/metrics",
    "/metrics.json",
    "/api/kumo-py/overview/v1",
    "/api/admin/bounce/v1",
    "/api/admin/suspend/v1",
    "/api/admin/ready-q-states/v1",
    "/api/admin/suspend-ready-q/v1",
    "/api/kumo-py/policy/v1",
)
_LINE = "A line of a text that somebody is to read, for {{ name }}, of some ninety characters.\r\n"


class _Run(NamedTuple):
    """messages per second, milliseconds until a message was accepted, µs of CPU per message, ms until an admin call
    was answered (0 without)."""

    rate: float
    p50: float
    p95: float
    cpu: float
    call: float


class _Operator:
    """Asks for one thing after the other, ADMIN_RATE times a second."""

    def __init__(self, peer: KumoPy) -> None:
        self._connection = _client(peer)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.latencies: list[float] = []
        self.error = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        due = time.perf_counter()
        for path in itertools.cycle(_CALLS):
            due += 1 / ADMIN_RATE
            if self._stopping.wait(max(0.0, due - time.perf_counter())):
                return
            began = time.perf_counter()
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            response.read()
            self.latencies.append(time.perf_counter() - began)
            if response.status != 200:
                self.error = f"GET {path}: {response.status}"
                return


def admin(seconds: float, rounds: int) -> None:
    """Mail at MAIL_RATE, and as fast as it goes, without admin calls and with them, by turns.

    Raises ServerError if a message or a call fails.
    """
    for name, throttle in ((f"{MAIL_RATE}/s", f"{MAIL_RATE}/s,max_burst=20"), ("full speed", None)):
        pairs = [
            (_mail(seconds, throttle, calls=False), _mail(seconds, throttle, calls=True))
            for _ in range(rounds)
        ]
        without, with_ = (
            _Run(*map(statistics.median, zip(*runs, strict=True))) for runs in zip(*pairs, strict=True)
        )
        slower = statistics.median(100 * (1 - b.rate / a.rate) for a, b in pairs)
        for words, run in (("alone", without), (f"+{ADMIN_RATE} calls/s", with_)):
            call = f", a call {run.call:.1f} ms" if run.call else ""
            print(
                f"{name:10} {words:13} {run.rate:7.0f} msg/s, accepted in {run.p50:.2f} ms (95 %: {run.p95:.2f}), "
                f"{run.cpu:.0f} µs of CPU a message{call}"
            )
        print(
            f"{name:10} {'pass' if slower <= MOST_SLOWER else 'missed'}: {slower:.1f} % slower, "
            f"{MOST_SLOWER:g} allowed"
        )


def _mail(seconds: float, throttle: str | None, *, calls: bool) -> _Run:
    peer = KumoPy(http_port=free_port())
    with CountingSink() as sink, Server(peer, RELAY, sink_port=sink.port) as server:
        options = f"--progress none --json --concurrency 20 --domain {_DOMAIN} --domain-suffix= --duration"
        command = [
            OUR_GENERATOR,
            *options.split(),
            str(seconds),
            "--target",
            f"127.0.0.1:{server.listen_port}",
        ]
        if throttle:
            command += ["--throttle", throttle]
        operator = _Operator(peer)
        before = server.group.cpu().total
        if calls:
            with operator:
                done = subprocess.run(command, capture_output=True, check=False)
        else:
            done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode or operator.error:
            raise ServerError(operator.error or done.stderr.decode(errors="replace"))
        summary: dict[str, Any] = json.loads(done.stdout)
        sent: int = summary["accepted"]
        if not sink.wait_for(sent, 60):
            raise ServerError(f"{sink.messages()} of {sent} messages were delivered")
        rate = sent / (time.time() - summary["started"])
        cpu = (server.group.cpu().total - before) * 1e6 / sent
    latency = summary["accept_latency_ms"]
    call = 1000 * statistics.fmean(operator.latencies) if operator.latencies else 0.0
    return _Run(rate, latency["p50"], latency["p95"], cpu, call)


def inject(seconds: float) -> None:
    """Inject from one client, a request after the other; messages are delivered meanwhile. Raises ServerError."""
    for name, content in (("a whole message", _whole()), ("text and HTML", _built())):
        peer = KumoPy(http_port=free_port())
        with CountingSink() as sink, Server(peer, RELAY, sink_port=sink.port) as server:
            client = _client(peer)
            requests = _requests(content)
            for _ in range(10):
                _post(client, next(requests))
            if not sink.wait_for(10 * BATCH, 30):
                raise ServerError("messages were not delivered")
            before, began, sent = server.group.cpu().total, time.perf_counter(), 0
            while time.perf_counter() < began + seconds:
                _post(client, next(requests))
                sent += BATCH
            took = time.perf_counter() - began
            if not sink.wait_for(sent + 10 * BATCH, 60):
                raise ServerError(f"{sink.messages()} of {sent + 10 * BATCH} messages were delivered")
            cpu = (server.group.cpu().total - before) * 1e6 / sent
        rate = sent / took
        words = "pass" if rate >= TARGET else "missed"
        print(
            f"{name:16} {rate:6.0f} recipients/s, {cpu:.0f} µs of CPU each, delivery included: {words} ({TARGET})"
        )


def _whole() -> str:
    return (
        f"From: a@client.test\r\nTo: {{{{ to_header }}}}\r\nSubject: for {{{{ name }}}}\r\n\r\n{_LINE * 11}"
    )


def _built() -> dict[str, Any]:
    sender = {"email": "a@client.test", "name": "Sender"}
    return {
        "text_body": _LINE * 11,
        "html_body": f"<p>{_LINE * 11}</p>",
        "subject": "for {{ name }}",
        "from": sender,
    }


def _requests(content: object) -> Iterator[bytes]:
    for number in itertools.count():
        recipients = [{"email": f"to{number}x{n}@{_DOMAIN}", "name": f"Recipient {n}"} for n in range(BATCH)]
        body = {"envelope_sender": "bounces@client.test", "recipients": recipients, "content": content}
        yield json.dumps(body).encode()


def _client(peer: KumoPy) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", peer.http_port, timeout=30)


def _post(client: http.client.HTTPConnection, body: bytes) -> None:
    client.request("POST", "/api/inject/v1", body, {"Content-Type": "application/json"})
    response = client.getresponse()
    text = response.read()
    if response.status != 200 or json.loads(text)["success_count"] != BATCH:
        raise ServerError(f"injection failed: {response.status} {text[:300]!r}")
