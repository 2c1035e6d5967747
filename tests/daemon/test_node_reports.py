"""Reports that come back to a whole node: Feedback and OOB records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from smtp_client import SmtpClient
from test_node_in_process import SINK, records, running, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.time_limit(30)

POLICY = (
    SINK.partition("kumo.on('smtp_server_message_received'")[0]
    + """
kumo.on('get_listener_domain', function(domain)
  return kumo.make_listener_domain { relay_to = false, log_oob = 'LogThenDrop', log_arf = 'LogThenDrop' }
end)
"""
).replace("relay_hosts = { '127.0.0.0/8' }", "relay_hosts = {}")

DSN = b"""\
Subject: Returned mail
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.far.test

Original-Recipient: rfc822; Gone@far.test
Final-Recipient: rfc822; gone@far.test
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 551 5.1.1 no such user

Final-Recipient: rfc822; slow@far.test
Action: delayed
Status: 4.2.2

Final-Recipient: rfc822; odd@far.test
Action: failed
Status: 5.0.0
Diagnostic-Code: smtp; what?
--b--
""".replace(b"\n", b"\r\n")

ARF = b"""\
Content-Type: multipart/report; report-type=feedback-report; boundary=b

--b
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: provider/1
Version: 1
--b
Content-Type: message/rfc822

X-KumoRef: eyJfQF8iOiJcXF8vIiwicmVjaXBpZW50Ijoiam9lQHkudGVzdCJ9

--b--
""".replace(b"\n", b"\r\n")


async def replies(address: str, *contents: bytes) -> list[int]:
    def run() -> list[int]:
        codes = []
        with SmtpClient(address) as client:
            client.greet()
            for content in contents:
                assert client.envelope("", "bounce-7@shop.test").code == 354
                client.send(content + b".\r\n")
                codes.append(client.reply().code)
            client.command("QUIT")
        return codes

    return await trio.to_thread.run_sync(run)


async def test_reports_are_logged_and_dropped(tmp_path: Path) -> None:
    async with running(write(tmp_path, POLICY)) as node:
        (address,) = node.addresses["smtp"]
        assert await replies(address, DSN, ARF, b"Subject: hello\r\n\r\nmail\r\n") == [250, 250, 550]
        assert len(node.queues.spool.data) == 0
    logged: dict[str, list[dict[str, Any]]] = {}
    for record in records(tmp_path):
        logged.setdefault(record["type"], []).append(record)
    gone, odd = logged["OOB"]
    assert (gone["sender"], gone["recipient"], gone["size"]) == ("bounce-7@shop.test", "Gone@far.test", 0)
    assert gone["response"] == {
        "code": 551,
        "enhanced_code": {"class": 5, "subject": 1, "detail": 1},
        "content": "5.1.1 no such user",
        "command": None,
    }
    assert gone["peer_address"] == {"name": "mx.far.test", "addr": "127.0.0.1"}
    assert (odd["recipient"], odd["response"]["code"], odd["response"]["content"]) == (
        "odd@far.test",
        550,
        "what?",
    )
    assert gone["id"] in [record["id"] for record in logged["Reception"]]
    (feedback,) = logged["Feedback"]
    assert feedback["feedback_report"]["feedback_type"] == "abuse"
    assert feedback["feedback_report"]["supplemental_trace"] == {"recipient": "joe@y.test"}
    assert feedback["id"] not in [record["id"] for record in logged["Reception"]]
