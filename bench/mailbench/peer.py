"""What a mail server must tell so that it can be measured.

To add one: a subclass of Peer in a file of `peers`, with a name and workloads, `version` and `start`, in that
package's list. `start` writes what the server needs into server.directory and calls server.spawn; the server listens
on 127.0.0.1:server.listen_port, and in the relay workload delivers everything to 127.0.0.1:server.sink_port.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .server import Server

ROOT = Path(os.environ.get("MAILBENCH", os.path.join(tempfile.gettempdir(), "mailbench")))
"""Where install_peers.sh puts servers, and where they run."""
FILES = Path(__file__).resolve().parents[1] / "peer_files"
SINK, RELAY = "sink", "relay"


class NotInstalled(Exception):
    """This peer can't be run here; the text says why."""


class Peer:
    """ready_timeout and stop_grace: seconds that it may take to greet, and to end after SIGTERM."""

    name: str
    workloads: tuple[str, ...] = (SINK,)
    note: str = ""
    """How it is configured, in a few words."""
    process_per_connection = False
    ready_timeout = 20.0
    stop_grace = 10.0

    def version(self) -> str:
        """Raises NotInstalled."""
        raise NotImplementedError

    def start(self, server: Server) -> None:
        """Raises OSError or subprocess.SubprocessError."""
        raise NotImplementedError

    def queue_empty(self, server: Server) -> bool:
        """Whether nothing is left to be delivered. By what the sink has got alone, where a peer doesn't say."""
        return True


def require(path: Path) -> Path:
    """The path itself. Raises NotInstalled if it doesn't exist."""
    if not path.exists():
        raise NotInstalled(f"{path} is missing (run bench/install_peers.sh)")
    return path


def any_file(*directories: Path) -> bool:
    """Whether there is a file anywhere below one of the folders."""
    return any(files for directory in directories for _, _, files in os.walk(directory))
