"""A real nats-server on loopback, and a client of its own kind to look at what it holds."""

from __future__ import annotations

import base64
import itertools
import json
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from programs import require_program
from redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


JETSTREAM = 'jetstream {{ store_dir: "{}/store" }}\n'


class NatsServer:
    """`stop` (kill -9) and `start` take it down and up again at one port, with what it has stored."""

    def __init__(
        self,
        directory: Path,
        config: str = "",
        login: dict[str, str] | None = None,
        *,
        jetstream: bool = True,
    ) -> None:
        """`config` is added to the configuration; `login` is what our own client shows in CONNECT."""
        self.program = require_program("nats-server")
        self.port = free_port()
        self.login = login or {}
        self._log = directory / "nats.log"
        self._config = directory / "nats.conf"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\n{JETSTREAM.format(directory) if jetstream else ""}{config}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([self.program, "-c", str(self._config)], stderr=log)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # -- what it holds ---------------------------------------------------------------------------------
    def make_stream(self, name: str, *subjects: str) -> None:
        with self._asking() as ask:
            answer = ask(f"$JS.API.STREAM.CREATE.{name}", {"name": name, "subjects": subjects})
        assert "error" not in answer, answer

    def messages(self, stream: str) -> list[tuple[str, bytes, dict[str, str]]]:
        """Subject, payload and headers of all that the stream has."""
        found = []
        with self._asking() as ask:
            for number in itertools.count(1):
                answer = ask(f"$JS.API.STREAM.MSG.GET.{stream}", {"seq": number})
                if "error" in answer:
                    return found
                message = answer["message"]
                lines = base64.b64decode(message.get("hdrs", "")).decode().split("\r\n")[1:]
                headers = dict(line.split(": ", 1) for line in lines if line)
                found.append((message["subject"], base64.b64decode(message.get("data", "")), headers))
        raise AssertionError

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock,
            sock.makefile("rb") as file,
        ):
            assert file.readline().startswith(b"INFO ")
            hello = json.dumps({"verbose": False, "headers": True} | self.login)
            sock.sendall(f"CONNECT {hello}\r\nSUB answers 1\r\n".encode())

            def ask(subject: str, question: object) -> Any:
                content = json.dumps(question)
                sock.sendall(f"PUB {subject} answers {len(content)}\r\n{content}\r\n".encode())
                while not (line := file.readline()).startswith(b"MSG "):
                    assert line.startswith((b"PING", b"INFO")), line
                answer = file.read(int(line.split()[-1]) + 2)
                return json.loads(answer)

            yield ask
