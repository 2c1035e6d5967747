"""Rebinding in a whole node, with the policy's event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from smtp_sink import SmtpSink
from test_node_in_process import records, running, submit, until, write

from kumo_py.queue.admin import RebindRequest
from kumo_py.queue.rebind import rebind

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.time_limit(30)

POLICY = """
local kumo = require 'kumo'
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.configure_local_logs { log_dir = '@DIR@/logs', min_free_space = 0, min_free_inodes = 0 }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8' } }
end)
kumo.on('get_queue_config', function(domain, tenant, campaign, routing_domain)
  local host = routing_domain and '[127.0.0.1]:@PORT@' or '[127.0.0.1]:1'
  return kumo.make_queue_config { protocol = { smtp = { mx_list = { host } } } }
end)
kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path { prohibited_hosts = {}, enable_tls = 'Disabled' }
end)
kumo.on('rebind_message', function(msg, data)
  assert(msg:recipient().domain == 'b.example')
  msg:set_meta('routing_domain', data.route .. '.example')
end)
"""


async def test_the_event_moves_what_waits(tmp_path: Path) -> None:
    with SmtpSink() as sink:
        async with running(
            write(tmp_path, POLICY.replace("@PORT@", sink.address.rpartition(":")[2]))
        ) as node:
            ids = await submit(node.addresses["smtp"][0], 3)
            await until(lambda: len(node.queues.wheel) == 3)
            request = RebindRequest(
                reason="the other way", data={"route": "relay"}, trigger_rebind_event=True, domain="b.example"
            )
            assert await rebind(node.queues, request) == 3
            await until(lambda: len(sink.deliveries) == 3 and len(node.queues.spool.data) == 0)
    for id in ids:
        found = [record for record in records(tmp_path) if record["id"] == id]
        assert [record["type"] for record in found] == [
            "Reception",
            "TransientFailure",
            "AdminRebind",
            "Delivery",
        ]
        assert found[2]["response"]["content"] == (
            "Rebound from b.example to b.example!relay.example: the other way"
        )
        assert found[2]["queue"] == found[3]["queue"] == "b.example!relay.example"
