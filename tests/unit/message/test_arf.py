"""Feedback reports: the shapes that mailbox providers write, our own trace header in them, and nonsense."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.message.arf import FeedbackReport, parse_arf, supplemental_trace
from kumo_py.message.report_fields import ReportError, TypedName
from kumo_py.message.trace import supplemental


def arf(fields: str, original: str = "Subject: offer\n\nbuy\n", *, kind: str = "message/rfc822") -> bytes:
    return (
        (
            "From: <fbl@provider.test>\nTo: <abuse@shop.test>\nMIME-Version: 1.0\n"
            'Content-Type: multipart/report; report-type=feedback-report; boundary="part"\n\n'
            "--part\nContent-Type: text/plain\n\nThis is an abuse report.\n\n"
            f"--part\nContent-Type: message/feedback-report\n\n{fields}\n"
            f"--part\nContent-Type: {kind}\nContent-Disposition: inline\n\n{original}--part--\n"
        )
        .replace("\n", "\r\n")
        .encode()
    )


YAHOO = """\
Feedback-Type: abuse
User-Agent: Yahoo!-Mail-Feedback/2.0
Version: 0.1
Original-Mail-From: <bounce+7@shop.test>
Original-Rcpt-To: joe@yahoo.test
Original-Rcpt-To: <jane@yahoo.test>
Received-Date: Wed, 13 Dec 2023 08:00:00 PST
Reported-Domain: shop.test
Authentication-Results: mta.yahoo.test; dkim=pass header.d=shop.test;
 spf=pass
"""

FULL = """\
Feedback-Type: abuse
User-Agent: Generator/1.0
Version: 1
Arrival-Date: Wed, 13 Dec 2023 17:00:00 +0100
Original-Mail-From: <>
Incidents: 3
Original-Envelope-Id: env-1
Reporting-MTA: dns; mail.provider.test
Source-IP: 192.0.2.1
Reported-Uri: http://shop.test/a
Reported-Uri: mailto:x@shop.test
Removal-Recipient: joe@yahoo.test
"""

MINIMAL = "Feedback-Type: abuse\nUser-Agent: x/1\nVersion: 1\n"


def parsed(data: bytes) -> FeedbackReport:
    report = parse_arf(data)
    assert report is not None
    return report


def test_yahoo() -> None:
    report = parsed(arf(YAHOO))
    assert (report.feedback_type, report.user_agent) == ("abuse", "Yahoo!-Mail-Feedback/2.0")
    assert report.version == "0.1"
    assert report.original_mail_from == "bounce+7@shop.test"
    assert report.original_rcpto_to == ["joe@yahoo.test", "jane@yahoo.test"]
    assert report.arrival_date == datetime(2023, 12, 13, 16, tzinfo=UTC)
    assert report.authentication_results == ["mta.yahoo.test; dkim=pass header.d=shop.test; spf=pass"]
    assert report.reported_domain == ["shop.test"]
    assert report.original_message == "Subject: offer\n\nbuy\n"
    assert report.supplemental_trace is None


def test_all_fields() -> None:
    table = parsed(arf(FULL)).to_table()
    assert table == {
        "feedback_type": "abuse",
        "user_agent": "Generator/1.0",
        "version": "1",
        "arrival_date": "2023-12-13T16:00:00Z",
        "incidents": 3,
        "original_envelope_id": "env-1",
        "original_mail_from": "",
        "reporting_mta": {"mta_type": "dns", "name": "mail.provider.test"},
        "source_ip": "192.0.2.1",
        "authentication_results": [],
        "original_rcpto_to": [],
        "reported_domain": [],
        "reported_uri": ["http://shop.test/a", "mailto:x@shop.test"],
        "extensions": {"removal-recipient": ["joe@yahoo.test"]},
        "original_message": "Subject: offer\n\nbuy\n",
        "supplemental_trace": None,
    }
    assert TypedName("dns", "mail.provider.test") == parsed(arf(FULL)).reporting_mta


@pytest.mark.parametrize("recipients", [("joe@yahoo.test",), tuple(f"user{n}@yahoo.test" for n in range(9))])
def test_our_trace_header_is_found_again(recipients: tuple[str, ...]) -> None:
    line = supplemental("X-KumoRef", recipients, {"tenant": "t1", "other": 1}, ["tenant"])
    assert supplemental_trace(b"X-Foo: bar\r\nX-Bar: Zm9v\r\n" + line + b"\r\n") == {
        "recipient": recipients[0] if len(recipients) == 1 else list(recipients),
        "tenant": "t1",
    }
    original = (
        line.decode().replace("\r\n", "\n").replace("X-KumoRef", "x-renamed") + "Subject: offer\n\nbuy\n"
    )
    report = parsed(arf(MINIMAL, original, kind="text/rfc822-headers"))
    assert report.supplemental_trace is not None
    assert report.supplemental_trace["tenant"] == "t1"


@pytest.mark.parametrize("payload", [b"{}", b"[]", b'"_@_"', b'{"_@_":"x"}', b'{"_@_":', b"\xff"])
def test_other_x_headers_are_no_trace(payload: bytes) -> None:
    header = b"X-Other: " + base64.b64encode(payload) + b"\r\n"
    assert supplemental_trace(header) is None
    not_x = b"Y" + header.replace(base64.b64encode(payload), base64.b64encode(b'{"_@_":"\\\\_/"}'))
    assert supplemental_trace(not_x) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n",
        b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\n--b--\r\n",
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\n--b--\r\n",
    ],
)
def test_what_is_no_feedback(data: bytes) -> None:
    assert parse_arf(data) is None


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (arf(MINIMAL).replace(b"message/feedback-report", b"text/plain"), "feedback-report part missing"),
        (arf("User-Agent: x\nVersion: 1\n"), "required header feedback-type is not present"),
        (arf(MINIMAL + "Version: 2\n"), "header version should have only a single value"),
        (arf(MINIMAL + "Incidents: many\n"), "header incidents: 'many' is not a number"),
        (
            arf(MINIMAL + "Reporting-MTA: mail\n"),
            "header reporting-mta: expected 'name-type; name', got 'mail'",
        ),
    ],
)
def test_what_is_malformed(data: bytes, error: str) -> None:
    with pytest.raises(ReportError, match=error):
        parse_arf(data)


def test_a_bad_date_or_address_spoils_nothing() -> None:
    report = parsed(arf("\n" + MINIMAL + "Arrival-Date: soon\nOriginal-Mail-From: me\nOriginal-Rcpt-To: @\n"))
    assert report.arrival_date is None
    assert report.extensions == {"arrival-date": ["soon"]}
    assert (report.original_mail_from, report.original_rcpto_to) == ("me", ["@"])


PIECES = st.sampled_from([*arf(FULL).splitlines(keepends=True), b"\r\n", b"--part\r\n"])


@given(st.lists(st.one_of(PIECES, st.binary(max_size=20)), max_size=60))
def test_any_message_gives_a_report_none_or_a_value_error(pieces: list[bytes]) -> None:
    head = (
        b"Content-Type: multipart/report; report-type=feedback-report; boundary=part\n\n"
        b"--part\nContent-Type: message/feedback-report\n\n"
    )
    for data in (b"".join(pieces), head + b"".join(pieces)):
        try:
            report = parse_arf(data)
        except ValueError:
            continue
        if report is not None:
            msgspec.json.encode(report)
