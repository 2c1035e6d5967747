"""kumo-py itself, with the policies of this repository."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ..peer import RELAY, SINK, Peer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..server import Server

POLICIES = Path(__file__).resolve().parents[3] / "policies"


class KumoPy(Peer):
    """program: the command that stands before `serve`, one with a profiler say. http_port: of a relay's HTTP API."""

    name = "kumo-py"
    workloads = (SINK, RELAY)
    note = "policies/sink.lua and policies/relay.lua: a Lua handler per message, durable spool, delivery log"
    stop_grace = 40.0

    def __init__(
        self, program: Sequence[str | Path] = (sys.executable, "-m", "kumo_py"), *, http_port: int = 0
    ) -> None:
        self._program = program
        self.http_port = http_port

    def version(self) -> str:
        return f"{version('kumo-py')} / Python {platform.python_version()}"

    def start(self, server: Server) -> None:
        own = f"KUMO_{server.workload.upper()}"
        environment = {
            f"{own}_LISTEN": f"127.0.0.1:{server.listen_port}",
            f"{own}_DIR": str(server.directory),
        }
        if server.workload == RELAY:
            environment["KUMO_RELAY_TO"] = f"127.0.0.1:{server.sink_port}"
            if self.http_port:
                environment["KUMO_RELAY_HTTP"] = f"127.0.0.1:{self.http_port}"
        policy = POLICIES / f"{server.workload}.lua"
        server.spawn([*self._program, "serve", "--policy", policy], environment)
