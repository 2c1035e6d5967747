"""A node with mail in all places where an operator may look for it, and a client of its API.

Mail for stall.example lies in the hands of a dispatcher whose server does not answer, and behind that in the ready
queue. full.example has the same limit of one connection, rate.example may open one an hour. Mail for wait.example waits
for its next attempt, that for later.example for its first.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import httpx
from real_node import RealNode
from smtp_client import SmtpClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from real_node import Preloaded

POLICY = """
local kumo = require 'kumo'
kumo.on('pre_init', function()
  kumo.dns.configure_test_resolver {
    '$ORIGIN mx.example.\\n@ 600 MX 20 b\\n@ 600 MX 10 a\\na A 127.0.0.1\\nb A 127.0.0.1\\n',
  }
end)
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.define_spool { name = 'files', path = '@DIR@/files', kind = 'LocalDisk' }
  kumo.configure_local_logs { log_dir = '@DIR@/logs', min_free_space = 0, min_free_inodes = 0 }
  kumo.start_esmtp_listener {
    listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8' }, deferred_spool = false,
  }
  kumo.start_http_listener { listen = '127.0.0.1:0' }
end)
kumo.on('get_listener_domain', function() return kumo.make_listener_domain { relay_to = true } end)
kumo.on('smtp_server_message_received', function(msg)
  local domain = msg:recipient().domain
  if domain == 'wait.example' then
    msg:set_meta('tenant', 'gold')
    msg:set_meta('campaign', 'spring')
  elseif domain == 'later.example' then
    msg:set_scheduling { first_attempt = '2099-12-24T18:00:00Z' }
  end
end)
local HOSTS = {
  ['stall.example'] = '127.0.0.1:@STALL@', ['full.example'] = '127.0.0.2:@STALL@',
  ['rate.example'] = '127.0.0.3:@STALL@',
}
kumo.on('get_queue_config', function(domain, tenant, campaign, routing_domain)
  if domain == 'broken.example' then error 'no such customer' end
  if domain == 'mx.example' or domain == 'unknown.example' then return kumo.make_queue_config {} end
  if domain == 'lua.example' then
    local batches = { constructor = 'make.it', batch_size = 5, min_batch_size = 3, max_batch_latency = '60s' }
    return kumo.make_queue_config { egress_pool = 'pool', protocol = { custom_lua = batches } }
  end
  return kumo.make_queue_config {
    egress_pool = 'pool', max_message_rate = domain == 'wait.example' and '10/s' or nil, retry_interval = '1h',
    protocol = { smtp = { mx_list = { HOSTS[routing_domain or domain] or '127.0.0.1:1' } } },
  }
end)
kumo.on('get_egress_pool', function(name)
  return kumo.make_egress_pool { name = name, entries = { { name = 'ip-1' } } }
end)
kumo.on('get_egress_source', function(name) return kumo.make_egress_source { name = name } end)
kumo.on('get_egress_path_config', function(domain, source, site)
  local path = { enable_tls = 'Disabled', prohibited_hosts = {}, ignore_8bit_checks = true }
  if domain == 'stall.example' or domain == 'full.example' then
    path.additional_connection_limits = { shared = 1 }
  elseif domain == 'lua.example' then
    path.idle_timeout = '60s'
  elseif domain == 'rate.example' then
    path.max_connection_rate = '1/h'
  elseif domain == 'wait.example' then
    path.max_message_rate = '1000/s'
    path.max_connection_rate = '10/s'
  end
  return kumo.make_egress_path(path)
end)
kumo.on('make.it', function() return { send_batch = function() return 'taken' end } end)
kumo.on('rebind_message', function(msg, data) msg:set_meta('routing_domain', data.route) end)
"""


class StallingServer:
    """Takes mail up to the end of the content, and then says nothing more."""

    def __init__(self) -> None:
        self._listening = [socket.create_server(("127.0.0.1", 0))]
        self.port = self._listening[0].getsockname()[1]
        self._listening += [socket.create_server((f"127.0.0.{n}", self.port)) for n in (2, 3)]
        self._connections: list[socket.socket] = []
        for listening in self._listening:
            threading.Thread(target=self._run, args=(listening,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for sock in (*self._listening, *self._connections):
            sock.close()

    def _run(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.sendall(b"220 stall\r\n")
        received = b""
        while b"DATA\r\n" not in received:
            data = connection.recv(1000)
            if not data:
                return
            received += data
            for line in data.splitlines():
                connection.sendall(b"354 go\r\n" if line == b"DATA" else b"250 ok\r\n")


class World:
    """The node, a client of its API, and the mail that it has."""

    def __init__(self, node: RealNode, port: int) -> None:
        self.node = node
        self.stalled = f"ip-1->mx_list:127.0.0.1:{port}@smtp_client"
        self.full = f"ip-1->mx_list:127.0.0.2:{port}@smtp_client"
        self.rate = f"ip-1->mx_list:127.0.0.3:{port}@smtp_client"
        found = re.search(r"http listener on (\S+)", node.text)
        assert found
        self.endpoint = f"http://{found[1]}"
        self.client = httpx.Client(base_url=self.endpoint, trust_env=False)
        self.ids: dict[str, list[str]] = {}

    def submit(self, domain: str, count: int) -> None:
        with SmtpClient(self.node.address) as client:
            client.greet()
            for number in range(count):
                assert client.envelope("from@a.example", f"to{number}@{domain}").code == 354
                client.send(b"Subject: %d\r\n\r\ncaf\xe9\r\n.\r\n" % number)
                reply = client.reply()
                assert reply.code == 250, reply
                self.ids.setdefault(domain, []).append(reply.text.partition("ids=")[2])

    def get(self, path: str, status: int = 200, **query: object) -> Any:
        response = self.client.get(f"/api/admin/{path}/v1", params={k: str(v) for k, v in query.items()})
        assert response.status_code == status, response.text
        return response.json() if status == 200 else response.text

    def post(self, path: str, status: int = 200, **body: object) -> str:
        response = self.client.post(f"/api/admin/{path}/v1", json=body)
        assert response.status_code == status, response.text
        return response.text

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """What waits in a scheduled queue, if there is one."""
        response = self.client.get("/api/admin/inspect-sched-q/v1", params={"queue_name": queue})
        return response.json()["messages"] if response.status_code == 200 else []

    def ready(self, name: str) -> dict[str, Any]:
        found = self.get("inspect-ready-q", queue_name=name, include_scheduled_queues="true")
        assert isinstance(found, dict)
        return found


def until(found: Callable[[], Any]) -> Any:
    """What it gives, once that is true."""
    deadline = time.monotonic() + 10
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


def recent(text: str) -> bool:
    when = datetime.fromisoformat(text)
    return text.endswith("Z") and abs((datetime.now(UTC) - when).total_seconds()) < 120


@contextmanager
def operated_node(directory: Path, preloaded: Preloaded) -> Iterator[World]:
    """Until everything is where it belongs."""
    with StallingServer() as server:
        policy = POLICY.replace("@DIR@", str(directory)).replace("@STALL@", str(server.port))
        node = RealNode(policy, directory, preloaded=preloaded)
        try:
            node.wait_ready()
            world = World(node, server.port)
            world.submit("stall.example", 3)
            until(
                lambda: any(
                    "msg" in (one["detail"] or "") for one in world.ready(world.stalled)["dispatchers"]
                )
            )
            world.submit("full.example", 2)
            world.submit("rate.example", 4)
            world.submit("wait.example", 4)
            world.submit("later.example", 1)
            until(lambda: len(world.messages("spring:gold@wait.example")) == 4)
            yield world
            world.client.close()
        finally:
            node.kill()
