"""Non-delivery reports: a node tells the sender that his message bounced or expired, once, and nobody else."""

from __future__ import annotations

import email
import email.policy
from typing import TYPE_CHECKING

import pytest
from test_node_in_process import SINK, records, running, submit, until, write

if TYPE_CHECKING:
    from pathlib import Path

    from smtp_sink import SmtpSink

pytestmark = pytest.mark.time_limit(30)

FAR = SINK.partition("kumo.on('smtp_server_message_received'")[0] + (
    "kumo.on('smtp_server_mail_from', function() kumo.reject(550, '5.1.8 not from you') end)"
)
POLICY = """
local kumo = require 'kumo'
local log_hooks = require 'policy-extras.log_hooks'
log_hooks:new_disposition_hook {
  name = 'ndr',
  hook = function(msg, log_record)
    local report = kumo.generate_rfc3464_message({
      include_original_message = 'HeadersOnly', enable_expiration = true, enable_bounce = true,
      reporting_mta = { mta_type = 'dns', name = 'mta1.near.test' },
    }, msg, log_record)
    if report then kumo.inject_message(report) end
  end,
}
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.configure_local_logs { log_dir = '@DIR@/logs', min_free_space = 0, min_free_inodes = 0 }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8' } }
end)
kumo.on('get_queue_config', function(domain)
  return kumo.make_queue_config {
    protocol = { smtp = { mx_list = { domain == '@NEAR@' and '@SINK@' or '@FAR@' } } },
    max_age = domain == 'old.test' and '1s' or '1h',
    retry_interval = '20m',
  }
end)
kumo.on('get_egress_path_config', function(domain)
  return kumo.make_egress_path { prohibited_hosts = {}, enable_tls = 'Disabled', enable_mta_sts = false }
end)
"""


@pytest.mark.parametrize(
    ("recipient", "status", "said"),
    [("nobody@far.test", "5.1.8", "not from you"), ("late@old.test", "5.4.7", "")],
)
async def test_the_sender_is_told(
    tmp_path: Path, sink: SmtpSink, recipient: str, status: str, said: str
) -> None:
    async with running(write(tmp_path / "far", FAR)) as far:
        nobody = "127.0.0.1:1"  # refuses connections: the message expires
        target = nobody if "old" in recipient else far.addresses["smtp"][0]
        text = POLICY.replace("@FAR@", target).replace("@SINK@", sink.address).replace("@NEAR@", "a.example")
        async with running(write(tmp_path / "near", text)) as near:
            await submit(near.addresses["smtp"][0], recipient=recipient)
            await until(lambda: len(sink.deliveries) == 1 and len(near.queues.spool.data) == 0)
    (delivery,) = sink.deliveries
    assert (delivery.sender, delivery.recipients) == ("", ["from@a.example"])
    report = email.message_from_bytes(delivery.content, policy=email.policy.default)
    assert report.get_content_type() == "multipart/report"
    assert report["From"].addresses[0].addr_spec == "mailer-daemon@mta1.near.test"
    text_part, status_part, headers_part = report.iter_parts()
    assert recipient in text_part.get_content()
    _, failed = status_part.get_payload()
    assert failed["Final-Recipient"].endswith(recipient)
    assert (failed["Action"], failed["Status"]) == ("failed", status)
    assert said in failed["Diagnostic-Code"]
    assert headers_part.get_content_type() == "text/rfc822-headers"
    assert "Subject: 0" in headers_part.get_content()


async def test_nobody_is_told_of_a_report_that_bounces(tmp_path: Path, sink: SmtpSink) -> None:
    async with running(write(tmp_path / "far", FAR)) as far:
        address = far.addresses["smtp"][0]
        text = POLICY.replace("@FAR@", address).replace("@SINK@", sink.address).replace("@NEAR@", "nowhere")
        async with running(write(tmp_path / "near", text)) as near:
            await submit(near.addresses["smtp"][0], recipient="nobody@far.test")
            await until(lambda: len(near.queues.spool.data) == 0)
    bounced = [
        (one["sender"], one["recipient"]) for one in records(tmp_path / "near") if one["type"] == "Bounce"
    ]
    assert bounced == [("from@a.example", "nobody@far.test"), ("", "from@a.example")]
    assert sink.deliveries == []
