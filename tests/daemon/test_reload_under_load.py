"""A thousand reloads of a busy node: no message fails, no connection drops, no memory is lost."""

from __future__ import annotations

import http.client
import re
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from real_node import RealNode
from smtp_client import SmtpClient

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.time_limit(280)

RELOADS = 1000
WARM_UP = 200
"""Reloads before memory is measured first: heaps and caches find their size."""
EDIT_EVERY = 20
"""Of so many reloads one is caused by an edit, the others by an operator: they need not wait for an editor."""
CLIENTS = 2
GROWTH = 8 << 20
"""Bytes that the resident set may grow in the other 800 reloads: 10 KB each."""

POLICY = """
local kumo = require 'kumo'
package.path = '@DIR@/?.lua;' .. package.path
local part = require 'part'
local cached = kumo.memoize(function(n) return { n, part.version } end,
  { name = 'cached', ttl = '1h', capacity = 100, invalidate_with_epoch = true })
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.configure_local_logs { log_dir = '@DIR@/logs', min_free_space = 0, min_free_inodes = 0 }
  kumo.start_esmtp_listener {
    listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8' }, max_messages_per_connection = 10000000,
  }
  kumo.start_http_listener { listen = '127.0.0.1:0' }
end)
kumo.on('smtp_server_message_received', function(msg)
  kumo.sleep(0)
  msg:set_meta('queue', 'null')
  msg:set_meta('version', cached(1)[2])
end)
"""


class Load:
    """Messages over one connection, until it is told to stop."""

    def __init__(self, address: str) -> None:
        self.sent = 0
        self.problem: str | None = None
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with SmtpClient(self._address) as client:
                client.greet()
                while not self._stop.is_set():
                    assert client.envelope("from@a.example", "to@b.example").code == 354
                    client.send(b"Subject: load\r\n\r\nhello\r\n.\r\n")
                    reply = client.reply()
                    assert reply.code == 250, reply
                    self.sent += 1
        except Exception as err:
            self.problem = repr(err)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def loaded(address: str) -> Iterator[list[Load]]:
    loads = [Load(address) for _ in range(CLIENTS)]
    for load in loads:
        load.start()
    try:
        yield loads
    finally:
        for load in loads:
            load.stop()


def reload(address: str) -> None:
    """As `kumo-py policy reload` does: with a trial, though nothing was edited."""
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("POST", "/api/kumo-py/policy/v1/reload")
    response = connection.getresponse()
    assert response.status == 200, response.read()
    connection.close()


def resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def test_a_thousand_reloads_under_load(tmp_path: Path) -> None:
    part = tmp_path / "part.lua"
    part.write_text("return { version = 0 }")
    node = RealNode(POLICY.replace("@DIR@", str(tmp_path)), tmp_path)
    took, memory = [], 0
    try:
        node.wait_ready()
        found = re.search(r"http listener on (\S+)", node.text)
        assert found is not None
        api = found[1]
        with loaded(node.address) as loads, node.diagnostics.open() as diagnostics:
            for number in range(1, RELOADS + 1):
                began = time.monotonic()
                if number % EDIT_EVERY == 0:
                    part.write_text(f"return {{ version = {number} }}")
                else:
                    reload(api)
                while f"epoch {number + 1} begins" not in (line := diagnostics.readline()):
                    assert "refused" not in line, line
                    assert time.monotonic() - began < 10, f"reload {number} is not to be seen"
                    time.sleep(0 if line else 0.002)
                took.append(time.monotonic() - began)
                if number == WARM_UP:
                    memory = resident(node.pid)
            growth = resident(node.pid) - memory
        assert [load.problem for load in loads] == [None] * CLIENTS
        took.sort()
        print(
            f"{RELOADS} reloads, {sum(load.sent for load in loads)} messages; "
            f"median {took[RELOADS // 2]:.3f}s, slowest {took[-1]:.3f}s; grown by {growth >> 10} KiB"
        )
        assert took[int(RELOADS * 0.99)] < 1
        assert growth < GROWTH
    finally:
        node.kill()
