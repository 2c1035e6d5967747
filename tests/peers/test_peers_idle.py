"""Five thousand idle connections: what they cost, and that nobody else notices."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from real_node import relay_policy
from smtp_client import SmtpClient, split_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from real_node import RealNode
    from smtp_sink import SmtpSink

pytestmark = [pytest.mark.slow, pytest.mark.time_limit(90)]

CONNECTIONS = 5000
MOST_BYTES = 32 * 1024
"""Of the node's memory, for each connection; the kernel's buffers are not counted."""


def memory(node: RealNode) -> int:
    """Bytes of its own that the node has in memory."""
    for line in Path(f"/proc/{node.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    raise AssertionError


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CONNECTIONS + 500
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"{needed} descriptors are needed, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def exchange(socks: list[socket.socket], request: bytes, expected: bytes, timeout: float) -> None:
    """Send the request on all connections; each must answer with lines of which the last begins as expected."""
    deadline = time.monotonic() + timeout
    answers = dict.fromkeys(socks, b"")
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            selector.register(sock, selectors.EVENT_READ, sock)
            if request:
                sock.send(request)
        while selector.get_map():
            assert time.monotonic() < deadline, f"{len(selector.get_map())} connections did not answer"
            for key, _ in selector.select(1.0):
                client = key.data
                data = client.recv(4096)
                assert data, "a connection was closed"
                answers[client] += data
                last = answers[client].removesuffix(b"\r\n").rpartition(b"\n")[2]
                if answers[client].endswith(b"\r\n") and last[3:4] == b" ":
                    assert last.startswith(expected), last
                    selector.unregister(client)


@pytest.mark.usefixtures("many_descriptors")
def test_five_thousand_idle_connections(
    start_node: Callable[..., RealNode], tmp_path: Path, sink: SmtpSink
) -> None:
    node = start_node(relay_policy(tmp_path, sink.address, listener="client_timeout = '5m'"))
    content = b"Subject: x\r\n\r\nx\r\n"
    with SmtpClient(node.address) as client, contextlib.ExitStack() as open_sockets:
        client.greet()
        for _ in range(20):  # what every node needs is in memory then
            assert client.message("a@client.example", "b@far.example", content).code == 250
        before = memory(node)
        address = split_address(node.address)
        socks = [
            open_sockets.enter_context(socket.create_connection(address, 10)) for _ in range(CONNECTIONS)
        ]
        exchange(socks, b"", b"220 ", 30)
        exchange(socks, b"EHLO idle.example\r\n", b"250 ", 30)
        each = (memory(node) - before) / CONNECTIONS
        print(f"{each / 1024:.1f} KiB per idle connection")
        assert each < MOST_BYTES

        started = time.monotonic()
        for _ in range(100):
            assert client.message("a@client.example", "b@far.example", content).code == 250
        took = time.monotonic() - started
        with SmtpClient(node.address) as late:
            late.greet()
            assert late.message("a@client.example", "b@far.example", content).code == 250
        print(f"{1000 * took / 100:.1f} ms per message beside them")
        assert took < 20

        exchange(socks, b"NOOP\r\n", b"250 ", 30)
        assert client.command("NOOP").code == 250
    sink.wait_for(121, 10)
    node.stop()
