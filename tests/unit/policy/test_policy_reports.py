"""Reports in a policy: read, written, and the trace header that ties them to our mail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fake_node import FakeNode

from kumo_py.core.policy import PolicyError
from kumo_py.message.arf import supplemental_trace
from kumo_py.message.connection import ConnectionMeta

if TYPE_CHECKING:
    from policy_host import MakePolicy, RecordingHost

    from kumo_py.message.message import Message

DSN = b"""\
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; a.test

Final-Recipient: rfc822; x@y.test
Action: failed
Status: 5.1.1
--b--
""".replace(b"\n", b"\r\n")

ARF = b"""\
Content-Type: multipart/report; report-type=feedback-report; boundary=b

--b
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: x/1
Version: 1
Original-Rcpt-To: joe@y.test
--b
Content-Type: message/rfc822

X-KumoRef: eyJfQF8iOiJcXF8vIiwicmVjaXBpZW50Ijoiam9lQHkudGVzdCJ9
Subject: offer

--b--
""".replace(b"\n", b"\r\n")

RECORD = """
local record = {
  type = 'Bounce', id = 'x', sender = 'sender@a.test', recipient = 'x@y.test', queue = 'y.test', size = 7,
  created = 1700000000, timestamp = 1700000100, num_attempts = 1, delivery_protocol = 'ESMTP',
  response = { code = 550, content = 'no', enhanced_code = { class = 5, subject = 1, detail = 1 } },
  peer_address = { name = 'mx.y.test', addr = '192.0.2.1' }, meta = {}, headers = {},
}
local params = {
  include_original_message = 'HeadersOnly', enable_bounce = true,
  reporting_mta = { mta_type = 'dns', name = 'mta1.test' },
}
"""


async def run(policy: MakePolicy, msg: Message, body: str) -> None:
    lua = policy(f"kumo.on('smtp_server_message_received', function(msg)\n{body}\nend)")
    await lua.load()
    await lua.ask("smtp_server_message_received", msg, ConnectionMeta({}))


async def test_reports_are_read(policy: MakePolicy, msg: Message) -> None:
    await run(policy, msg, "assert(msg:parse_rfc3464() == nil and msg:parse_rfc5965() == nil)")
    msg.set_data(DSN)
    await run(
        policy,
        msg,
        """
        assert(msg:parse_rfc5965() == nil)
        local report = msg:parse_rfc3464()
        assert(report.per_message.reporting_mta.name == 'a.test' and report.original_message == nil)
        assert(#report.per_recipient == 1)
        local one = report.per_recipient[1]
        assert(one.final_recipient.recipient == 'x@y.test' and one.action == 'failed')
        assert(one.status.class == 5 and one.status.detail == 1 and one.status.comment == nil)
        """,
    )
    msg.set_data(ARF)
    await run(
        policy,
        msg,
        """
        assert(msg:parse_rfc3464() == nil)
        local report = msg:parse_rfc5965()
        assert(report.feedback_type == 'abuse' and report.original_rcpto_to[1] == 'joe@y.test')
        assert(report.supplemental_trace.recipient == 'joe@y.test')
        """,
    )


async def test_a_malformed_report_is_an_error(policy: MakePolicy, msg: Message) -> None:
    msg.set_data(DSN.replace(b"Status: 5.1.1", b"Status: bad"))
    with pytest.raises(
        PolicyError, match=r"policy.lua:3: message:parse_rfc3464: header status: invalid status 'bad'"
    ):
        await run(policy, msg, "msg:parse_rfc3464()")
    msg.set_data(ARF.replace(b"Version: 1", b"X: y"))
    with pytest.raises(
        PolicyError, match=r"policy.lua:3: message:parse_rfc5965: required header version is not"
    ):
        await run(policy, msg, "msg:parse_rfc5965()")


async def test_a_bounce_is_generated_and_injected(
    policy: MakePolicy, host: RecordingHost, msg: Message
) -> None:
    host.node = FakeNode()
    await run(
        policy,
        msg,
        RECORD
        + """
        local report = kumo.generate_rfc3464_message(params, msg, record)
        assert(report:sender().email == '' and report:recipient().email == 'sender@a.test')
        assert(report:parse_rfc3464().per_recipient[1].final_recipient.recipient == 'x@y.test')
        kumo.inject_message(report)
        assert(kumo.generate_rfc3464_message(params, nil, record):parse_rfc3464().original_message == nil)
        record.sender = ''
        assert(kumo.generate_rfc3464_message(params, nil, record) == nil)
        """,
    )
    ((queue, report),) = host.node.queues.inserted
    assert queue == "a.test"
    assert (
        b"Content-Type: text/rfc822-headers\r\n\r\nFrom: Me <me@example.com>\r\nSubject: hello\r\n--"
        in report.data
    )
    assert f"Message-ID: <{report.id.hex()}@mta1.test>".encode() in report.data


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("params.reporting_mta = nil", "option 'reporting_mta' is required"),
        ("params.include_original_message = 'Yes'", "must be one of 'FullContent', 'HeadersOnly', 'No'"),
        ("params.enable_bounces = true", "unknown option 'enable_bounces' (did you mean 'enable_bounce'?)"),
        ("record.response = nil", "option 'response' is required"),
        ("record.sender = 'nobody'", "'nobody' is not a mail address"),
    ],
)
async def test_generating_says_what_is_wrong(
    policy: MakePolicy, msg: Message, change: str, error: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, msg, f"{RECORD}\n{change}\nkumo.generate_rfc3464_message(params, nil, record)")
    assert "kumo.generate_rfc3464_message: " in str(caught.value)
    assert error in str(caught.value)


async def test_the_trace_header_is_put_on_top(policy: MakePolicy, msg: Message) -> None:
    msg.set_meta("tenant", "t1")
    await run(policy, msg, "kumo.apply_supplemental_trace_header(msg)")
    assert msg.data.startswith(b"X-KumoRef: ")
    assert supplemental_trace(msg.data) == {"recipient": "user@example.org"}
    await run(
        policy,
        msg,
        "kumo.apply_supplemental_trace_header(msg, { header_name = 'X-Ref', include_meta_names = { 'tenant', 'no' } })",
    )
    assert msg.data.startswith(b"X-Ref: ")
    assert supplemental_trace(msg.data) == {"recipient": "user@example.org", "tenant": "t1"}
    before = msg.data
    await run(policy, msg, "kumo.apply_supplemental_trace_header(msg, { supplemental_header = false })")
    assert msg.data == before
    with pytest.raises(PolicyError, match=r"'X Ref' is not a header name"):
        await run(policy, msg, "kumo.apply_supplemental_trace_header(msg, { header_name = 'X Ref' })")


async def test_the_trace_header_of_a_message_in_the_spool(
    policy: MakePolicy, host: RecordingHost, msg: Message
) -> None:
    msg.data_saved = True
    msg.shrink_data()
    await run(policy, msg, "kumo.apply_supplemental_trace_header(msg)")
    assert host.named("load_message") == [msg.id]
    assert msg.data.startswith(b"X-KumoRef: ")
