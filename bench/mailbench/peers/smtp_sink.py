"""Postfix's smtp-sink, in C: parses nothing, so nothing does less work per message."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from ..peer import NotInstalled, Peer

if TYPE_CHECKING:
    from ..server import Server


def command(port: int, max_connections: int, *, counting: bool = False) -> list[str]:
    """Listening on 127.0.0.1:port. counting: writes its counters to standard output, with each message."""
    unprivileged = ["-u", "nobody"] if os.geteuid() == 0 else []
    backlog = "1024"
    counters = ["-c"] if counting else []
    options = f"-4 -t 600 -m {max_connections}"
    return ["smtp-sink", *options.split(), *counters, *unprivileged, f"127.0.0.1:{port}", backlog]


class SmtpSink(Peer):
    name = "smtp-sink"
    note = "C, one process, parses nothing"

    def version(self) -> str:
        if shutil.which("smtp-sink") is None:
            raise NotInstalled("there is no smtp-sink (Debian: package postfix)")
        return postfix_version()

    def start(self, server: Server) -> None:
        server.spawn(command(server.listen_port, server.max_connections + 100))


def postfix_version() -> str:
    return "postfix " + subprocess.check_output(["postconf", "-dh", "mail_version"], text=True).strip()
