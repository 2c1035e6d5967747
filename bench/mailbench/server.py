"""A running server: its folder, port, processes, and how it is started, found ready, and stopped."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Self

from .peer import ROOT
from .process_group import new_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .peer import Peer


class ServerError(Exception):
    """The server did not start; the text has its own last words."""


class Server:
    """One peer at work. Entering the context starts it and waits until it greets; leaving stops it.

    listen_port: where it must listen, on 127.0.0.1. sink_port: where a relay must deliver to.
    max_connections: how many connections it must take at the same time. directory: its own, removed at the end.
    """

    def __init__(self, peer: Peer, workload: str, *, max_connections: int = 200, sink_port: int = 0) -> None:
        self.peer = peer
        self.workload = workload
        self.max_connections = max_connections
        self.sink_port = sink_port
        self.listen_port = free_port()
        self.directory = ROOT / "run" / f"{peer.name}-{workload}-{os.getpid()}"
        self.group = new_group(self.directory.name)
        self._children: list[subprocess.Popen[bytes]] = []
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.output = (self.directory / "server.log").open("wb")

    def __enter__(self) -> Self:
        try:
            self.peer.start(self)
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def spawn(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start a process in the measured group; it stays in the foreground."""
        child = subprocess.Popen(
            command,
            cwd=cwd or self.directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            start_new_session=True,
            preexec_fn=self.group.enter,
        )
        self.group.adopt(child.pid)
        self._children.append(child)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the server's own folder."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def drained(self) -> bool:
        return self.peer.queue_empty(self)

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + self.peer.ready_timeout
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.listen_port), timeout=5) as client:
                    if client.recv(200).startswith(b"220"):
                        client.sendall(b"QUIT\r\n")
                        client.recv(200)
                        return
            except OSError:
                pass
            time.sleep(0.1)
        last_words = (self.directory / "server.log").read_bytes()[-600:].decode(errors="replace")
        raise ServerError(
            f"{self.peer.name} did not greet within {self.peer.ready_timeout:g} s: {last_words}"
        )

    def _stop(self) -> None:
        self.group.stop(self.peer.stop_grace, lambda: [child.poll() for child in self._children])
        self.output.close()
        for child in self._children:
            child.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens on just now.

    From below the range that the kernel takes for outgoing connections, else one of those could be on it later.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
