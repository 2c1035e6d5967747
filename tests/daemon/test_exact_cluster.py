"""Two nodes, as processes, that share their limits through a real Redis; one is killed in the middle.

A sink counts what is open at any instant and when each message came. Time is real, so rates have a burst: what a
machine's timers are late is made up for.
"""

from __future__ import annotations

import select
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest
from real_node import relay_policy
from redis_server import redis_server
from smtp_client import SmtpClient

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import StartNode
    from real_node import RealNode

LEASE_DURATION = 60.0
CONTENT = b"Subject: x\r\n\r\nhello\r\n"


class CountingSink:
    """Takes everything. Each connection is counted from its acceptance until its client has closed it."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.recipients: list[str] = []
        self.open = 0
        self.peak = 0
        self.accepted: list[float] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._running = True
        self._buffers: dict[socket.socket, bytearray] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        self._thread.join(10)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            while self._running:
                for key, _ in selector.select(0.05):
                    if key.fileobj is self._listening:
                        self._accept(selector)
                    elif isinstance(key.fileobj, socket.socket) and not self._serve(key.fileobj):
                        selector.unregister(key.fileobj)
                        del self._buffers[key.fileobj]
                        key.fileobj.close()
            for connection in self._buffers:
                connection.close()
            self._listening.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        connection, _ = self._listening.accept()
        selector.register(connection, selectors.EVENT_READ)
        self._buffers[connection] = bytearray()
        # Those whose end has come, but has not been read yet, are open no more.
        poll = select.poll()
        for other in self._buffers:
            poll.register(other, select.POLLRDHUP)
        self.open = len(self._buffers) - len(poll.poll(0))
        self.peak = max(self.peak, self.open)
        self.accepted.append(time.monotonic())
        connection.sendall(b"220 sink\r\n")

    def _serve(self, connection: socket.socket) -> bool:
        buffer = self._buffers[connection]
        try:
            data = connection.recv(65536)
            buffer += data
            while b"\r\n" in buffer:
                if buffer.startswith((b"Received", b"X-Kumo", b"Subj")):
                    end = buffer.find(b"\r\n.\r\n")
                    if end < 0:
                        break
                    del buffer[: end + 5]
                    connection.sendall(b"250 taken\r\n")
                    continue
                line, _, rest = bytes(buffer).partition(b"\r\n")
                buffer[:] = rest
                if line.startswith(b"MAIL"):
                    # A message is sent when its rate has admitted it: from here on.
                    self.times.append(time.monotonic())
                elif line.startswith(b"RCPT"):
                    self.recipients.append(line.decode())
                reply = {b"EHLO": b"250 sink", b"DATA": b"354 go", b"QUIT": b"221 bye"}.get(
                    line[:4], b"250 ok"
                )
                connection.sendall(reply + b"\r\n")
        except OSError:
            return False
        return bool(data)


def most_at_once(times: list[float], rate: float) -> float:
    """The least burst B for which at most B + T · rate came in any stretch of T seconds."""
    levels = [count - rate * at for count, at in enumerate(times)]
    least, burst = levels[0], 0.0
    for level in levels:
        least = min(least, level)
        burst = max(burst, level - least + 1)
    return burst


def fill_all(nodes: dict[str, RealNode], count: int) -> None:
    """At the same time, so that each gets connections while there are some."""
    threads = [threading.Thread(target=fill, args=(node, count, name)) for name, node in nodes.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def fill(node: RealNode, count: int, name: str) -> None:
    with SmtpClient(node.address) as client:
        client.greet()
        for number in range(count):
            assert client.message("from@a.test", f"{name}{number}@b.test", CONTENT).code == 250


def start_two(
    start_node: StartNode, directory: Path, sink: CountingSink, redis: int, path: str
) -> list[RealNode]:
    url = f"redis://127.0.0.1:{redis}"
    shared = f"kumo.on('pre_init', function() kumo.configure_redis_throttles {{ node = '{url}' }} end)"
    nodes = []
    for name in ("one", "two"):
        home = directory / name
        home.mkdir()
        nodes.append(start_node(relay_policy(home, sink.address, path=path, more=shared), home))
    return nodes


@pytest.mark.time_limit(60)
def test_two_nodes_together_keep_to_a_rate_and_a_limit(start_node: StartNode, tmp_path: Path) -> None:
    path = "max_message_rate = '100/s,max_burst=10', connection_limit = 3, idle_timeout = '10s',"
    with redis_server(tmp_path) as redis, CountingSink() as sink:
        one, two = start_two(start_node, tmp_path, sink, redis, path)
        fill_all({"a": one, "b": two}, 500)
        start = time.monotonic()
        while time.monotonic() < start + 5:
            time.sleep(0.05)
        until = time.monotonic()
        steady = [at for at in sink.times if start + 1 <= at <= until]
        times = list(sink.times)
    assert sink.peak == 3
    rate = (len(steady) - 1) / (steady[-1] - steady[0])
    assert rate <= 101
    assert rate >= 97
    # What a pause of the sink or of the machine holds back comes at once afterwards: 20 ms of it are let pass.
    assert most_at_once(times, 100) <= 10 + 2
    assert {recipient.partition("<")[2][:1] for recipient in sink.recipients} == {"a", "b"}


@pytest.mark.slow
@pytest.mark.time_limit(150)
def test_what_a_killed_node_held_is_free_after_the_lease_and_not_before(
    start_node: StartNode, tmp_path: Path
) -> None:
    """Four connections over two nodes; one node dies by kill -9 with what it holds."""
    path = "max_message_rate = '50/s,max_burst=5', connection_limit = 4, idle_timeout = '10s',"
    with redis_server(tmp_path) as redis, CountingSink() as sink:
        one, two = start_two(start_node, tmp_path, sink, redis, path)
        fill_all({"a": one, "b": two}, 400)
        time.sleep(4)
        assert sink.peak == 4
        before = sink.open
        one.kill()
        killed = time.monotonic()
        fill(two, 3000, "c")
        time.sleep(max(0.0, killed + LEASE_DURATION + 15 - time.monotonic()))
        assert before == 4
        assert sink.peak == 4
        assert most_at_once(list(sink.times), 50) <= 5 + 2
        late = [at - killed for at in sink.accepted if at > killed + 1]
        assert late, "the places of the killed node were never taken"
        assert LEASE_DURATION - 11 <= late[0] <= LEASE_DURATION + 5
        # They went to the other node, which sends on.
        assert any("<c" in recipient for recipient in sink.recipients)
