"""Exim: the daemon forks a process for each connection, and one for each delivery."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from ..peer import RELAY, ROOT, SINK, NotInstalled, Peer, any_file, require

if TYPE_CHECKING:
    from ..server import Server

EXIM = ROOT / "deb/x/exim4-daemon-light/usr/sbin/exim4"
USER = "Debian-exim"

_CONFIGURATION = """\
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/log/exim.pid
primary_hostname = bench.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
disable_ipv6 = true
never_users =
deliver_drop_privilege = true
host_lookup =
helo_lookup_domains =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
chunking_advertise_hosts =
prdr_enable = false
smtp_accept_max = {connections}
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 1000000
smtp_accept_max_per_host = 0
smtp_connect_backlog = 1024
smtp_receive_timeout = 600s
smtp_enforce_sync = true
message_size_limit = 50M
queue_only = false
split_spool_directory = true
recipient_unqualified_hosts = *
sender_unqualified_hosts = *
acl_smtp_rcpt = acl_all
begin acl
acl_all:
  {verb}
begin routers
smart:
  driver = manualroute
  transport = smtp_out
  route_list = * 127.0.0.1 byname
  self = send
  no_more
begin transports
smtp_out:
  driver = smtp
  port = {sink_port}
  allow_localhost
  hosts_avoid_tls = *
  hosts_try_prdr =
  hosts_try_chunking =
  hosts_try_fastopen =
  helo_data = bench.test
begin retry
* * F,2h,1m
"""


class Exim(Peer):
    name = "exim"
    workloads = (SINK, RELAY)
    note = (
        "sink: ACL verb discard; relay: manualroute smarthost, immediate delivery, one connection per message"
    )
    process_per_connection = True

    def version(self) -> str:
        out = subprocess.run([require(EXIM), "-bV"], capture_output=True, text=True, check=False).stdout
        if "version" not in out:
            raise NotInstalled(f"{EXIM} -bV does not run")
        return out.split("version", 1)[1].split()[0]

    def start(self, server: Server) -> None:
        directory = server.directory
        directory.chmod(0o755)
        for name in ("spool", "log"):
            (directory / name).mkdir()
            shutil.chown(directory / name, USER, USER)
        configuration = server.write(
            "exim.conf",
            _CONFIGURATION.format(
                directory=directory,
                port=server.listen_port,
                sink_port=server.sink_port,
                connections=max(1000, server.max_connections + 50),
                verb="discard" if server.workload == SINK else "accept",
            ),
        )
        configuration.chmod(0o644)  # it refuses a file that others may write
        in_the_foreground, queue_run = "-bdf", "-q1m"
        server.spawn([EXIM, "-C", configuration, in_the_foreground, queue_run])

    def queue_empty(self, server: Server) -> bool:
        return not any_file(server.directory / "spool/input")
