"""Haraka: one node process."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from ..peer import FILES, RELAY, ROOT, SINK, Peer, any_file
from .smtp_server import module_version

if TYPE_CHECKING:
    from ..server import Server

MODULE = ROOT / "npm/haraka/node_modules/Haraka"


class Haraka(Peer):
    name = "haraka"
    workloads = (SINK, RELAY)
    note = "sink: a plugin accepts; relay: its outbound queue (fsync per message), concurrency 100; log level warn"

    def version(self) -> str:
        return module_version(MODULE)

    def start(self, server: Server) -> None:
        plugin = f"bench_{server.workload}"
        connection = (MODULE / "config/connection.ini").read_text()
        server.write("config/plugins", f"{plugin}\n")
        server.write("config/me", "bench.test\n")
        server.write("config/smtp.ini", f"listen=127.0.0.1:{server.listen_port}\ninactivity_timeout=600\n")
        server.write("config/connection.ini", connection.replace("bytes=26214400", "bytes=52428800"))
        server.write("config/outbound.ini", "enable_tls=false\nconcurrency_max=100\nlocal_mx_ok=true\n")
        server.write("config/log.ini", "[main]\nlevel=warn\ntimestamps=false\nformat=default\n")
        (server.directory / "plugins").mkdir()
        (server.directory / "queue").mkdir()
        shutil.copy(FILES / f"haraka_{plugin}.js", server.directory / "plugins" / f"{plugin}.js")
        environment = {"BENCH_SINK_PORT": str(server.sink_port)}
        server.spawn(["node", MODULE / "bin/haraka", "-c", server.directory], environment)

    def queue_empty(self, server: Server) -> bool:
        return not any_file(server.directory / "queue")
