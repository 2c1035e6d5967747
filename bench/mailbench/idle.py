"""Opens connections that do nothing after EHLO, and weighs them."""

from __future__ import annotations

import re
import selectors
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from .peer import SINK, NotInstalled
from .process_group import memory_of
from .result import Absent, Idle
from .server import Server, ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .peer import Peer
    from .result import Results

MOST_PROCESSES = 500
"""Connections that a peer with a process for each has to bear."""
_OPEN_LIMIT = 90.0
_AT_A_TIME = 64
_END_OF_REPLY = re.compile(rb"^\d\d\d [^\n]*\n\Z", re.MULTILINE)


def idle(peers: Sequence[Peer], connections: int, results: Results) -> None:
    """Measure, and add to the results."""
    for peer in peers:
        try:
            line = _weigh(peer, peer.version(), connections)
        except (NotInstalled, ServerError, OSError, subprocess.SubprocessError) as error:
            results.add(Absent("idle", peer.name, str(error)))
            continue
        print(f"idle {peer.name}: {line.pss_kb:.1f} KB each", file=sys.stderr)
        results.add(line)


def _weigh(peer: Peer, version: str, connections: int) -> Idle:
    if peer.process_per_connection:
        connections = min(connections, MOST_PROCESSES)
    with Server(peer, SINK, max_connections=connections) as server:
        for client in open_connections(server.listen_port, 5):  # what is paid once
            client.close()
        time.sleep(1)
        empty, cpu = memory_of(server.group.pids()), server.group.cpu().total
        clients = open_connections(server.listen_port, connections)
        try:
            time.sleep(1)
            cpu = server.group.cpu().total - cpu
            full = memory_of(server.group.pids())
            alive = sum(map(_answers, clients))
        finally:
            for client in clients:
                client.close()
    each = max(1, len(clients))
    return Idle(
        peer=peer.name,
        version=version,
        opened=len(clients),
        alive=alive,
        rss_mb=round(full.rss, 1),
        pss_mb=round(full.pss, 1),
        rss_kb=round((full.rss - empty.rss) * 1024 / each, 2),
        pss_kb=round((full.pss - empty.pss) * 1024 / each, 2),
        open_us=round(cpu * 1e6 / each, 1),
    )


def open_connections(port: int, count: int) -> list[socket.socket]:
    """Those of `count` that got an answer to EHLO; the server is given 90 seconds."""
    ready: list[socket.socket] = []
    opening: dict[socket.socket, _Opening] = {}
    started = 0
    end = time.monotonic() + _OPEN_LIMIT
    with selectors.DefaultSelector() as selector:
        while (started < count or opening) and time.monotonic() < end:
            while started < count and len(opening) < _AT_A_TIME:
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
                selector.register(client, selectors.EVENT_READ, client)
                opening[client] = _Opening()
                started += 1
            for key, _ in selector.select(1):
                client = key.data
                try:
                    if not opening[client].advance(client):
                        continue
                    ready.append(client)
                except OSError:
                    client.close()
                selector.unregister(key.fileobj)
                del opening[client]
    for client in opening:
        client.close()
    return ready


class _Opening:
    """How far a connection has come."""

    __slots__ = ("_reply", "_said_ehlo")

    def __init__(self) -> None:
        self._reply = b""
        self._said_ehlo = False

    def advance(self, client: socket.socket) -> bool:
        """Take what has arrived; whether EHLO is answered now. Raises OSError if the server doesn't want us."""
        received = client.recv(4096)
        self._reply += received
        if not received or not self._reply.startswith(b"2"):
            raise ConnectionError(f"the server said {self._reply!r}")
        if not _END_OF_REPLY.search(self._reply):
            return False
        if not self._said_ehlo:
            client.sendall(b"EHLO client.test\r\n")
            self._reply, self._said_ehlo = b"", True
            return False
        return True


def _answers(client: socket.socket) -> bool:
    try:
        client.settimeout(5)
        client.sendall(b"NOOP\r\n")
        return client.recv(200).startswith(b"250")
    except OSError:
        return False
