"""A real RabbitMQ on loopback with an epmd of its own, and a raw consumer to look at what its queues hold."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pamqp import commands, frame, header
from programs import absent, require_program
from redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's wrapper of it changes to a user and to directories of its own."""
START_TIMEOUT = 60.0


class Taken(NamedTuple):
    """A message out of a queue."""

    payload: bytes
    exchange: str
    routing_key: str
    properties: commands.Basic.Properties


class RabbitServer:
    """`stop` (kill -9) and `start` take it down and up again at one port, with what was persistent."""

    def __init__(self, directory: Path, config: str = "") -> None:
        require_program("rabbitmq-server")
        epmd = require_program("epmd")
        if not _PROGRAM.exists():
            absent(f"{_PROGRAM} is not there")
        self.port = free_port()
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        epmd_port = str(free_port())
        (directory / "rabbitmq.conf").write_text(f"disk_free_limit.absolute = 1MB\n{config}\n")
        (directory / "enabled_plugins").write_text("[].\n")
        (directory / "environment").touch()
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": epmd_port,
            "RABBITMQ_NODENAME": f"kumo{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "environment"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(directory / "generated"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        }
        self._epmd = subprocess.Popen(
            [epmd, "-address", "127.0.0.1", "-port", epmd_port], env=self._environment
        )

    @property
    def log(self) -> str:
        return (self._directory / "output").read_text(errors="replace")

    def connections(self, name: str) -> int:
        """How many were accepted that have this name; RabbitMQ writes its log seconds later."""
        logs = (self._directory / "log").glob("*.log")
        text = f"client-provided name: {name}"
        return sum(path.read_text(errors="replace").count(text) for path in logs)

    def start(self) -> None:
        with (self._directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [str(_PROGRAM)],
                env=self._environment,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                with RabbitConsumer(self.port):
                    return
            except (OSError, AssertionError):
                assert self._process.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                time.sleep(0.1)

    def stop(self) -> None:
        """Erlang, and with it the shell that is between us and waits for it."""
        if self._process is not None:
            pid = self._directory / "pid"
            os.kill(int(pid.read_text()) if pid.exists() else self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self._epmd.terminate()
        self._epmd.wait(10)


class RabbitConsumer:
    """One connection, spoken by hand."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self._sock.makefile("rb")
        try:
            self._sock.sendall(header.ProtocolHeader().marshal())
            self._read(commands.Connection.Start)
            self._say(commands.Connection.StartOk({}, "PLAIN", "\0guest\0guest"), 0)
            self._read(commands.Connection.Tune)
            self._say(commands.Connection.TuneOk(1, 131072, 0), 0)
            self.ask(commands.Connection.Open("/"), 0)
            self.ask(commands.Channel.Open())
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()
        self._sock.close()

    def ask(self, what: Any, channel: int = 1) -> Any:
        """The answer to a method that is no error."""
        self._say(what, channel)
        answer = self._read()
        assert not isinstance(answer, commands.Connection.Close | commands.Channel.Close), answer.reply_text
        return answer

    def make_queue(self, name: str, arguments: Mapping[str, Any] | None = None) -> None:
        self.ask(commands.Queue.Declare(queue=name, durable=True, arguments=dict(arguments or {})))

    def take_all(self, queue: str) -> list[Taken]:
        taken = []
        while isinstance(got := self.ask(commands.Basic.Get(queue=queue, no_ack=True)), commands.Basic.GetOk):
            head = self._read()
            payload = b""
            while len(payload) < head.body_size:
                payload += self._read().value
            taken.append(Taken(payload, got.exchange, got.routing_key, head.properties))
        return taken

    def _say(self, what: Any, channel: int) -> None:
        self._sock.sendall(frame.marshal(what, channel))

    def _read(self, kind: type[Any] = object) -> Any:
        head = self._file.read(7)
        assert len(head) == 7, "RabbitMQ closed the connection"
        whole = head + self._file.read(int.from_bytes(head[3:], "big") + 1)
        found = frame.unmarshal(whole)[2]
        assert isinstance(found, kind), found
        return found
