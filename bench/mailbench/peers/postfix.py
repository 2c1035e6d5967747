"""Postfix: an instance of its own, in the foreground."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from ..peer import RELAY, SINK, NotInstalled, Peer, any_file
from .smtp_sink import postfix_version

if TYPE_CHECKING:
    from ..server import Server

MASTER = Path("/usr/lib/postfix/sbin/master")

_SERVICES = """\
127.0.0.1:{port} inet n - n - {sessions} smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - 100 smtp
relay unix - - n - 100 smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

_PARAMETERS = """\
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/lib
maillog_file_prefixes = {directory}
maillog_file = {directory}/maillog
myhostname = bench.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
append_dot_mydomain = no
biff = no
disable_dns_lookups = yes
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtp_tls_security_level = none
smtpd_tls_security_level = none
smtpd_peername_lookup = no
smtpd_timeout = 600s
message_size_limit = 52428800
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_relay_restrictions = permit_mynetworks, reject
default_process_limit = {sessions}
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
"""

# The cleanup process drops the message: nothing is queued or synced.
_SINK = "smtpd_client_restrictions = check_client_access static:DISCARD\n"

_RELAY = """\
relayhost = [127.0.0.1]:{sink_port}
default_destination_concurrency_limit = 100
initial_destination_concurrency = 20
default_destination_recipient_limit = 50
"""


class Postfix(Peer):
    name = "postfix"
    workloads = (SINK, RELAY)
    note = "sink: access action DISCARD; relay: relayhost, concurrency 100, on-demand connection cache; logs to a file"
    process_per_connection = True

    def version(self) -> str:
        if not MASTER.exists():
            raise NotInstalled(f"{MASTER} is missing (Debian: package postfix)")
        return postfix_version()

    def start(self, server: Server) -> None:
        directory = server.directory
        sessions = max(200, server.max_connections + 50)
        (directory / "spool").mkdir()
        (directory / "lib").mkdir()
        directory.chmod(0o755)  # its processes become the user postfix
        shutil.chown(directory / "lib", "postfix", "postfix")
        of_workload = _SINK if server.workload == SINK else _RELAY.format(sink_port=server.sink_port)
        parameters = _PARAMETERS.format(directory=directory, sessions=sessions)
        configuration = server.write("etc/main.cf", parameters + of_workload).parent
        server.write("etc/master.cf", _SERVICES.format(port=server.listen_port, sessions=sessions))
        check = ["postfix", "-c", str(configuration), "check"]
        subprocess.run(check, check=True, stdout=server.output, stderr=server.output)
        in_the_foreground = "-s"
        server.spawn([MASTER, "-c", configuration, in_the_foreground])

    def queue_empty(self, server: Server) -> bool:
        queues = ("incoming", "active", "deferred", "maildrop")
        return not any_file(*(server.directory / "spool" / queue for queue in queues))
