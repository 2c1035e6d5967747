"""Delivery status notifications: the shapes that servers write, what is not one, and our own."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.message.dsn import DeliveryReport, Diagnostic, Recipient, Status, parse_dsn
from kumo_py.message.dsn_report import FailureRecord, ReportParams, generate_dsn
from kumo_py.message.headers import HeaderError
from kumo_py.message.report_fields import ReportError, TypedName

POSTFIX = b"""\
Return-Path: <>
From: MAILER-DAEMON@mx.relay.test (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: news@shop.test
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="5C1B2E0.1700000000/mx.relay.test"
Content-Transfer-Encoding: 8bit

This is a MIME-encapsulated message.

--5C1B2E0.1700000000/mx.relay.test
Content-Description: Notification
Content-Type: text/plain; charset=utf-8

I'm sorry to have to inform you ...

--5C1B2E0.1700000000/mx.relay.test
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.relay.test
X-Postfix-Queue-ID: 5C1B2E0
X-Postfix-Sender: rfc822; news@shop.test
Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0100 (CET)

Final-Recipient: rfc822; gone@example.test
Original-Recipient: rfc822;Gone@example.test
Action: failed
Status: 5.1.1
Remote-MTA: dns; mail.example.test
Diagnostic-Code: smtp; 550 5.1.1 <gone@example.test>: Recipient address
    rejected: User unknown

Final-Recipient: rfc822; full@example.test
Action: delayed
Status: 4.2.2
Will-Retry-Until: Sun, 19 Nov 2023 22:13:20 +0100 (CET)
Diagnostic-Code: smtp; 452 4.2.2 mailbox full

--5C1B2E0.1700000000/mx.relay.test
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers

From: news@shop.test
Subject: Hello

--5C1B2E0.1700000000/mx.relay.test--
""".replace(b"\n", b"\r\n")

EXCHANGE = b"""\
From: <postmaster@corp.test>
To: <news@shop.test>
Content-Type: multipart/report; report-type=delivery-status;
 boundary="_3d_"
MIME-Version: 1.0
Subject: Undeliverable: Hello

--_3d_
Content-Type: multipart/alternative; differences=Content-Type; boundary="_alt_"

--_alt_
Content-Type: text/plain

could not be delivered
--_alt_--

--_3d_
Content-Type: message/delivery-status

Reporting-MTA: dns;AM0PR01.prod.outlook.test
Received-From-MTA: dns;mail.shop.test
Arrival-Date: Mon, 4 Dec 2023 09:30:00 +0000

Final-Recipient: rfc822;joe@corp.test
Action: Failed
Status: 5.7.133 (delivery not authorized)
Diagnostic-Code: smtp;550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup
X-Display-Name: Joe
X-Display-Name: Joe Again

--_3d_
Content-Type: message/rfc822

Subject: Hello

body
--_3d_--
""".replace(b"\n", b"\r\n")

GMAIL = b"""\
From: Mail Delivery Subsystem <mailer-daemon@googlemail.test>
To: news@shop.test
Content-Type: multipart/report; boundary="00000000000034e7"; report-type=delivery-status
Subject: Delivery Status Notification (Failure)

--00000000000034e7
Content-Type: multipart/related; boundary="inner"

--inner
Content-Type: text/plain; charset="UTF-8"

** Address not found **

--inner--

--00000000000034e7
Content-Type: message/delivery-status

Reporting-MTA: dns; googlemail.test
Arrival-Date: Thu, 07 Dec 2023 01:02:03 -0800 (PST)
X-Original-Message-ID: <abc@shop.test>

Final-Recipient: rfc822; nobody@gmail.test
Action: failed
Status: 5.1.1
Remote-MTA: dns; gmail-smtp-in.l.google.test. (192.0.2.27, the server for the
 domain gmail.test.)
Diagnostic-Code: smtp; 550-5.1.1 The email account that you tried to reach does not exist.
Last-Attempt-Date: Thu, 07 Dec 2023 01:02:04 -0800 (PST)

--00000000000034e7--
""".replace(b"\n", b"\r\n")


def parsed(data: bytes) -> DeliveryReport:
    report = parse_dsn(data)
    assert report is not None
    return report


def report_of(*groups: str, encoding: str = "7bit", type_: str = "report-type=delivery-status; ") -> bytes:
    """A report of these groups of fields."""
    body = "\r\n\r\n".join(group.replace("\n", "\r\n") for group in groups)
    return (
        f'Content-Type: multipart/report; {type_}boundary="b"\r\n\r\n--b\r\n'
        f"Content-Type: message/delivery-status\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        f"{body}\r\n--b--\r\n"
    ).encode()


MTA = "Reporting-MTA: dns; a.test"
FAILED = "Final-Recipient: rfc822;x@y.test\nAction: failed\nStatus: 5.0.0"


def test_postfix() -> None:
    report = parsed(POSTFIX)
    assert report.per_message.reporting_mta == TypedName("dns", "mx.relay.test")
    assert report.per_message.arrival_date == datetime(2023, 11, 14, 21, 13, 20, tzinfo=UTC)
    assert report.per_message.extensions == {
        "x-postfix-queue-id": ["5C1B2E0"],
        "x-postfix-sender": ["rfc822; news@shop.test"],
    }
    gone, full = report.per_recipient
    assert gone.final_recipient == Recipient("rfc822", "gone@example.test")
    assert gone.original_recipient == Recipient("rfc822", "Gone@example.test")
    assert (gone.action, gone.status) == ("failed", Status(5, 1, 1, None))
    assert gone.remote_mta == TypedName("dns", "mail.example.test")
    assert gone.diagnostic_code == Diagnostic(
        "smtp", "550 5.1.1 <gone@example.test>: Recipient address rejected: User unknown"
    )
    assert (full.action, full.original_recipient) == ("delayed", None)
    assert full.will_retry_until == datetime(2023, 11, 19, 21, 13, 20, tzinfo=UTC)
    assert report.original_message == "From: news@shop.test\nSubject: Hello\n\n"


def test_exchange() -> None:
    report = parsed(EXCHANGE)
    assert report.per_message.received_from_mta == TypedName("dns", "mail.shop.test")
    (joe,) = report.per_recipient
    assert (joe.action, joe.status) == ("failed", Status(5, 7, 133, "(delivery not authorized)"))
    assert joe.extensions == {"x-display-name": ["Joe", "Joe Again"]}
    assert report.original_message == "Subject: Hello\n\nbody\n"


def test_gmail() -> None:
    report = parsed(GMAIL)
    (nobody,) = report.per_recipient
    assert nobody.remote_mta == TypedName(
        "dns", "gmail-smtp-in.l.google.test. (192.0.2.27, the server for the domain gmail.test.)"
    )
    assert nobody.last_attempt_date == datetime(2023, 12, 7, 9, 2, 4, tzinfo=UTC)
    assert report.per_message.extensions == {"x-original-message-id": ["<abc@shop.test>"]}
    assert report.original_message is None


def test_as_a_table_it_has_the_names_of_kumomta() -> None:
    table = parsed(POSTFIX).to_table()
    assert table["per_message"]["arrival_date"] == "2023-11-14T21:13:20Z"
    assert table["per_recipient"][0]["status"] == {"class": 5, "subject": 1, "detail": 1, "comment": None}
    assert table["per_recipient"][0]["final_recipient"] == {
        "recipient_type": "rfc822",
        "recipient": "gone@example.test",
    }
    assert table["per_recipient"][0]["diagnostic_code"]["diagnostic_type"] == "smtp"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Subject: hello\r\n\r\nbody",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
        b"Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
    ],
)
def test_what_is_no_notification(data: bytes) -> None:
    assert parse_dsn(data) is None


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"Content-Type: multipart/report; boundary=b\r\n\r\n--b--\r\n", "delivery-status part missing"),
        (report_of(FAILED), "required header reporting-mta is not present"),
        (
            report_of("Reporting-MTA: a.test"),
            "header reporting-mta: expected 'name-type; name', got 'a.test'",
        ),
        (report_of(MTA, "Action: failed\nStatus: 5.0.0"), "required header final-recipient is not present"),
        (report_of(MTA, FAILED.replace("5.0.0", "5.0")), "header status: invalid status '5.0'"),
        (report_of(MTA, FAILED.replace("failed", "lost")), "header action: invalid action type 'lost'"),
        (report_of(MTA, FAILED + "\nAction: failed"), "header action should have only a single value"),
        (report_of(MTA, FAILED, encoding="base64"), "base64"),
        (report_of(MTA, *["A: b"] * 10_001), "more than 10000 recipients"),
    ],
)
def test_what_is_malformed(data: bytes, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse_dsn(data)


def test_what_is_careless_is_understood() -> None:
    groups = (
        MTA + "\nArrival-Date: yesterday",
        "",
        "Final-Recipient: rfc822;not an address\nAction: Failed (really)\nStatus: 5.1.1.2 odd",
    )
    report = parsed(report_of(*groups, type_=""))
    assert report.per_message.arrival_date is None
    assert report.per_message.extensions == {"arrival-date": ["yesterday"]}
    (one,) = report.per_recipient
    assert one.final_recipient.recipient == "not an address"
    assert (one.action, one.status) == ("failed", Status(5, 1, 1, "odd"))


# -- our own -------------------------------------------------------------------------------------------
def record(**fields: object) -> FailureRecord:
    values = {
        "type": "Bounce",
        "id": "ignored",
        "sender": "sender@a.test",
        "recipient": "recip@b.test",
        "created": 1_057_049_557,
        "timestamp": 1_057_056_757.5,
        "response": {
            "code": 550,
            "content": "no thanks",
            "enhanced_code": {"class": 5, "subject": 7, "detail": 1},
            "command": None,
        },
        "peer_address": {"name": "mx.b.test", "addr": "192.0.2.42"},
        "delivery_protocol": "ESMTP",
    }
    return msgspec.convert(values | fields, FailureRecord)


def params(**fields: object) -> ReportParams:
    values: dict[str, object] = {
        "include_original_message": "No",
        "reporting_mta": {"mta_type": "dns", "name": "mta1.test"},
        "enable_bounce": True,
        "enable_expiration": True,
        "stable_content": True,
    }
    return msgspec.convert(values | fields, ReportParams)


def made(params: ReportParams, record: FailureRecord, original: bytes | None = None) -> bytes:
    data = generate_dsn(params, record, original, id="0a0b", now=1_700_000_000.0)
    assert data is not None
    return data


def test_a_bounce_is_reported() -> None:
    assert made(params(), record()).decode() == (
        "Content-Type: multipart/report;\r\n"
        '\tboundary="report-boundary";\r\n'
        '\treport-type="delivery-status"\r\n'
        "Subject: Returned mail\r\n"
        "Mime-Version: 1.0\r\n"
        "Message-ID: <UUID@mta1.test>\r\n"
        "Date: Tue, 01 Jul 2003 10:52:37 +0000\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "To: sender@a.test\r\n"
        "From: Mail Delivery Subsystem <mailer-daemon@mta1.test>\r\n"
        "\r\n"
        "--report-boundary\r\n"
        "Content-Type: text/plain;\r\n"
        '\tcharset="us-ascii"\r\n'
        "\r\n"
        "The message was received at Tue, 01 Jul 2003 08:52:37 +0000\r\n"
        "from sender@a.test and addressed to recip@b.test.\r\n"
        "While communicating with mx.b.test (192.0.2.42):\r\n"
        "Response: 550 5.7.1 no thanks\r\n"
        "\r\n"
        "The message will be deleted from the queue.\r\n"
        "No further attempts will be made to deliver it.\r\n"
        "--report-boundary\r\n"
        "Content-Type: message/delivery-status\r\n"
        "\r\n"
        "Reporting-MTA: dns; mta1.test\r\n"
        "Arrival-Date: Tue, 01 Jul 2003 08:52:37 +0000\r\n"
        "\r\n"
        "Final-Recipient: rfc822;recip@b.test\r\n"
        "Action: failed\r\n"
        "Status: 5.7.1\r\n"
        "Remote-MTA: dns; mx.b.test\r\n"
        "Diagnostic-Code: smtp; 550 5.7.1 no thanks\r\n"
        "Last-Attempt-Date: Tue, 01 Jul 2003 10:52:37 +0000\r\n"
        "\r\n"
        "--report-boundary--\r\n"
    )


def test_an_expiration_is_reported_to_all_its_recipients() -> None:
    failure = record(
        type="Expiration",
        recipient=["x@b.test", "jürgen@b.test"],
        peer_address=None,
        delivery_protocol=None,
        response={"code": 451, "content": "late\nagain " * 30},
    )
    data = made(params(stable_content=False), failure)
    report = parsed(data)
    assert [one.final_recipient for one in report.per_recipient] == [
        Recipient("rfc822", "x@b.test"),
        Recipient("utf-8", r"j\x{FC}rgen@b.test"),
    ]
    assert report.per_recipient[1].diagnostic_code == Diagnostic(
        "smtp", ("451 " + "late again " * 30).strip()
    )
    assert report.per_recipient[0].status == Status(4, 0, 0)
    assert report.per_recipient[0].remote_mta is None
    assert b"Message-ID: <0a0b@mta1.test>\r\n" in data
    assert b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n" in data
    assert max(map(len, data.split(b"\r\n"))) <= 100


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {"sender": ""}),
        ({"enable_bounce": False}, {}),
        ({}, {"delivery_protocol": None}),
        ({}, {"delivery_protocol": "Lua"}),
        ({"enable_expiration": False}, {"type": "Expiration"}),
        ({}, {"type": "TransientFailure"}),
        ({}, {"type": "OOB"}),
    ],
)
def test_nobody_is_told_unasked(options: dict[str, object], fields: dict[str, object]) -> None:
    assert generate_dsn(params(**options), record(**fields), None, id="x", now=0.0) is None


@pytest.mark.parametrize(
    ("include", "expected"),
    [("No", None), ("HeadersOnly", "Subject: hi\nX: y\n"), ("FullContent", "Subject: hi\nX: y\n\nbody\n")],
)
def test_the_original_comes_along(include: str, expected: str | None) -> None:
    original = b"Subject: hi\r\nX: y\r\n\r\nbody\r\n"
    data = made(params(include_original_message=include), record(), original)
    assert parsed(data).original_message == expected
    assert parsed(made(params(include_original_message=include), record(), None)).original_message is None


def test_nothing_gets_out_of_its_field() -> None:
    evil = {"code": 550, "content": "x\r\nAction: delivered\r\n\r\n--report-boundary--\r\n"}
    (one,) = parsed(made(params(), record(response=evil, sender="a@b.test"))).per_recipient
    assert one.action == "failed"
    with pytest.raises(HeaderError):
        made(params(), record(recipient="a@b.test\r\nAction: delivered"))
    with pytest.raises(HeaderError):
        made(params(reporting_mta={"mta_type": "dns", "name": "x>\r\nBcc: y"}), record())


# -- whatever comes ------------------------------------------------------------------------------------
PIECES = st.sampled_from(
    [
        *POSTFIX.splitlines(keepends=True),
        b"\r\n",
        b"\n",
        b"--b\r\n",
        b"Content-Type: multipart/report; boundary=b\n",
    ]
)


@given(st.lists(st.one_of(PIECES, st.binary(max_size=20)), max_size=60))
def test_any_message_gives_a_report_none_or_a_value_error(pieces: list[bytes]) -> None:
    head = b"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n"
    for data in (b"".join(pieces), head + b"".join(pieces)):
        try:
            report = parse_dsn(data)
        except ValueError:
            continue
        if report is not None:
            msgspec.json.encode(report)


@pytest.mark.parametrize("filler", ["\n", " \n", "Final-Recipient: rfc822;", "X:", "(", "=?utf-8?q?a?= "])
def test_time_is_linear(filler: str) -> None:
    began = time.process_time()
    with pytest.raises(ReportError):
        parse_dsn(report_of("X: y", filler * (400_000 // len(filler))))
    assert time.process_time() - began < 3.0
