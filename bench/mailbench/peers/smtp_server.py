"""npm smtp-server, on which Nodemailer's test servers are built."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

from ..peer import FILES, ROOT, NotInstalled, Peer, require

if TYPE_CHECKING:
    from pathlib import Path

    from ..server import Server

MODULE = ROOT / "npm/smtp-server/node_modules/smtp-server"


class SmtpServer(Peer):
    name = "smtp-server"
    note = "onData drains the stream"

    def version(self) -> str:
        return module_version(MODULE)

    def start(self, server: Server) -> None:
        server.spawn(["node", FILES / "smtp_server_sink.js", MODULE, str(server.listen_port)])


def module_version(module: Path) -> str:
    """The version of an npm module, and of node. Raises NotInstalled."""
    if shutil.which("node") is None:
        raise NotInstalled("there is no node")
    package = json.loads(require(module / "package.json").read_text())
    node = subprocess.check_output(["node", "--version"], text=True).strip()
    return f"{package['version']} / node {node}"
