"""Whole nodes send through proxies, and leave sources alone that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from proxies import Socks5
from smtp_sink import SmtpSink
from test_node_in_process import records, running, submit, until, write

if TYPE_CHECKING:
    from pathlib import Path

    import trio

pytestmark = pytest.mark.time_limit(30)

POLICY = """
local kumo = require 'kumo'
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.configure_local_logs { log_dir = '@DIR@/logs', min_free_space = 0, min_free_inodes = 0 }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', relay_hosts = { '0.0.0.0/0' }, @LISTENER@ }
end)
kumo.on('get_queue_config', function()
  return kumo.make_queue_config {
    egress_pool = 'all', retry_interval = '1s', max_retry_interval = '1s',
    protocol = { smtp = { mx_list = { '[127.0.0.1]:@PORT@' } } },
  }
end)
kumo.on('get_egress_pool', function(name)
  return kumo.make_egress_pool { name = name, entries = { @ENTRIES@ } }
end)
kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path { prohibited_hosts = {}, enable_tls = 'Disabled' }
end)
kumo.on('the.password', function(who) return 'secret of ' .. who end)
kumo.on('get_egress_source', function(name)
  if name == 'unplumbed' then
    return kumo.make_egress_source {
      name = name, source_address = '192.0.2.9', suspend_when_unplumbed = { duration = '5m' },
    }
  end
  return kumo.make_egress_source { name = name, @SOURCE@ }
end)
"""


def policy(
    directory: Path, to: str, *, source: str, entries: str = "{ name = 'good' }", listener: str = ""
) -> Path:
    text = POLICY.replace("@PORT@", to.rpartition(":")[2]).replace("@SOURCE@", source)
    return write(directory, text.replace("@ENTRIES@", entries).replace("@LISTENER@", listener))


async def test_a_socks5_proxy_with_a_password_and_a_source_that_rests(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    proxy = Socks5(login=(b"me", b"secret of me"))
    await nursery.start(proxy.serve)
    source = f"""
      socks5_proxy_server = '{proxy.address}', socks5_proxy_source_address = '127.0.0.8',
      socks5_proxy_username = 'me',
      socks5_proxy_password = {{ event_name = 'the.password', event_args = {{ 'me' }} }},
      ehlo_domain = 'good.example',
    """
    entries = "{ name = 'unplumbed', weight = 10 }, { name = 'good' }"
    with SmtpSink() as sink:
        async with running(policy(tmp_path, sink.address, source=source, entries=entries)) as node:
            await submit(node.addresses["smtp"][0], 5)
            await until(lambda: len(sink.deliveries) == 5 and len(node.queues.spool.data) == 0)
            metrics = await node.metrics()
    found = records(tmp_path)
    failures = [record for record in found if record["type"] == "TransientFailure"]
    assert {record["egress_source"] for record in failures} == {"unplumbed"}
    for record in found:
        if record["type"] == "Delivery":
            assert record["egress_source"] == "good"
            address = record["source_address"]
            assert address["address"].startswith("127.0.0.8:")
            assert (address["server"], address["protocol"]) == (proxy.address, "socks5")
    assert proxy.logins[0] == (b"me", b"secret of me")
    for name, label in (
        ("egress_source_health_suspended", "reason"),
        ("egress_source_health_suspensions_total", "reason"),
        ("egress_source_connection_failures_total", "kind"),
    ):
        assert metrics[name]["value"] == [{"source": "unplumbed", label: "Unplumbed", "@": 1.0}]  # type: ignore[index]


async def test_haproxy_s_header_is_what_a_listener_wants(tmp_path: Path) -> None:
    with SmtpSink() as sink:
        inner = policy(
            tmp_path / "inner",
            sink.address,
            source="",
            listener="require_proxy_protocol = true, hostname = 'in'",
        )
        async with running(inner) as behind:
            listening = behind.addresses["smtp"][0]
            source = f"ha_proxy_server = '{listening}', ha_proxy_source_address = '127.0.0.8'"
            async with running(policy(tmp_path / "outer", sink.address, source=source)) as node:
                await submit(node.addresses["smtp"][0])
                await until(lambda: len(sink.deliveries) == 1)
    (delivery,) = [record for record in records(tmp_path / "outer") if record["type"] == "Delivery"]
    assert delivery["source_address"] == {
        "address": "127.0.0.8:0",
        "server": listening,
        "protocol": "haproxy",
    }
    (reception,) = [record for record in records(tmp_path / "inner") if record["type"] == "Reception"]
    assert reception["peer_address"]["addr"] == "127.0.0.8"
