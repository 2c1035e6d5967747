"""Log records over HTTP to a receiver that fails half the time, hangs up, and restarts: every record arrives."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import orjson
import pytest
from test_node_in_process import running, submit, until, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from smtp_sink import SmtpSink

pytestmark = pytest.mark.time_limit(60)

POLICY = """
local kumo = require 'kumo'
local log_hooks = require 'policy-extras.log_hooks'
local RETRY = { retry_interval = '200ms', max_retry_interval = '200ms' }
@HOOK@
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8' } }
end)
kumo.on('get_queue_config', function(domain)
  return kumo.make_queue_config { protocol = { smtp = { mx_list = { '@SINK@' } } } }
end)
kumo.on('get_egress_path_config', function(domain)
  return kumo.make_egress_path {
    prohibited_hosts = {}, enable_tls = 'Disabled', enable_mta_sts = false, connection_limit = 4,
    consecutive_connection_failures_before_delay = 1000,
  }
end)
"""
ONE_BY_ONE = "log_hooks:new_json { name = 'web', url = '@URL@', queue_config = RETRY }"
BATCHES = """
log_hooks:new {
  name = 'web', queue_config = RETRY, batch_size = 20, min_batch_size = 5, max_batch_latency = '100ms',
  constructor = function()
    local client, connection = kumo.http.build_client {}, {}
    function connection:send_batch(messages)
      local records = {}
      for _, msg in ipairs(messages) do table.insert(records, msg:get_data()) end
      local response = client:post('@URL@'):body('[' .. table.concat(records, ',') .. ']'):send()
      if not response:status_is_success() then kumo.reject(450, response:text()) end
      return 'took ' .. #messages
    end
    return connection
  end,
}
"""


class Receiver:
    """Counts what it takes. Of its requests every second fails: with a status, or by hanging up, before or behind the
    body; what it has read by then is not taken. Both kinds of failure leave the sender in doubt."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        """Id and type of the records it said yes to."""
        self.requests = self.failures = 0
        self.largest = 0
        self._lock = threading.Lock()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/log"

    @contextmanager
    def serving(self) -> Iterator[None]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", self._port), Handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        with self._lock:
            self.requests += 1
            number = self.requests
            fails = number % 2 == 0
            self.failures += fails
            if not fails:
                found = orjson.loads(body)
                records = found if isinstance(found, list) else [found]
                self.largest = max(self.largest, len(records))
                self.taken += [(record["id"], record["type"]) for record in records]
        # Of those that it takes, some never hear of it.
        if number % 6 in (2, 3):
            request.close_connection = True
            return
        status = (200, 503, 429)[0 if not fails else 1 + number % 4 // 2]
        request.send_response(status)
        request.send_header("Content-Length", "2")
        request.end_headers()
        request.wfile.write(b"so")


@pytest.mark.parametrize("hook", [ONE_BY_ONE, BATCHES], ids=["one_by_one", "batches"])
async def test_every_record_arrives(tmp_path: Path, sink: SmtpSink, hook: str) -> None:
    receiver = Receiver()
    text = POLICY.replace("@HOOK@", hook).replace("@URL@", receiver.url).replace("@SINK@", sink.address)
    async with running(write(tmp_path, text)) as node:
        address = node.addresses["smtp"][0]
        ids: list[str] = []
        for _ in range(3):
            ids += await submit(address, 10)  # while nobody listens: the first attempts are refused
            with receiver.serving():
                ids += await submit(address, 10)
                before = receiver.requests
                await until(lambda before=before: receiver.requests >= before + 2)
        with receiver.serving():
            await until(lambda: len(node.queues.spool.data) == 0, within=40)
    wanted = {(id, kind) for id in ids for kind in ("Reception", "Delivery")}
    assert len(wanted) == 120
    assert set(receiver.taken) == wanted
    assert receiver.failures >= receiver.requests // 2 - 1 > 0
    assert len(receiver.taken) > len(wanted)  # some came twice: their sender could not know
    assert (receiver.largest > 1) == (hook is BATCHES)


async def test_what_the_receiver_does_not_want_is_given_up(tmp_path: Path, sink: SmtpSink) -> None:
    statuses = iter((404, 408, 200, 200))
    asked: list[int] = []

    class Picky(Receiver):
        def answer(self, request: BaseHTTPRequestHandler) -> None:
            request.rfile.read(int(request.headers["Content-Length"]))
            asked.append(status := next(statuses))
            request.send_response(status)
            request.send_header("Content-Length", "0")
            request.end_headers()

    receiver = Picky()
    text = POLICY.replace("@HOOK@", ONE_BY_ONE).replace("@URL@", receiver.url).replace("@SINK@", sink.address)
    with receiver.serving():
        async with running(write(tmp_path, text)) as node:
            await submit(node.addresses["smtp"][0])
            await until(lambda: len(asked) == 3 and len(node.queues.spool.data) == 0)
    assert asked == [404, 408, 200]
