"""aiosmtpd on the stock asyncio loop."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from ..peer import FILES, ROOT, NotInstalled, Peer, require

if TYPE_CHECKING:
    from ..server import Server

PYTHON = ROOT / "venv/aiosmtpd/bin/python"
_VERSIONS = "import aiosmtpd, platform; print(aiosmtpd.__version__, '/ Python', platform.python_version())"


class Aiosmtpd(Peer):
    name = "aiosmtpd"
    note = "a handler that returns 250"

    def version(self) -> str:
        out = subprocess.run([require(PYTHON), "-c", _VERSIONS], capture_output=True, text=True, check=False)
        if out.returncode:
            raise NotInstalled(f"aiosmtpd does not run in {PYTHON}")
        return out.stdout.strip()

    def start(self, server: Server) -> None:
        server.spawn([PYTHON, FILES / "aiosmtpd_sink.py", str(server.listen_port)])
