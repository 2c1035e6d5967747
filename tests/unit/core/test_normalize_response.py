from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.normalize_response import normalize_smtp_response


@pytest.mark.parametrize(
    ("response", "normalized"),
    [
        ("retry at 2025-11-06T17:11:34.261306612Z", "retry at {timestamp}"),
        (
            "retry at 2025-11-06T17:11:34+01:00 or 2025-13-06T17:11:34Z",
            "retry at {timestamp} or 2025-13-06T17:11:34Z",
        ),
        ("id 10aa5da5-3f3b-4176-beb9-32875830f082", "id {uuid}"),
        ("OK ids=8a5475ccbbc611eda12250ebf67f93bd", "OK ids={uuid}"),
        ("a=b=10.0.0.1 x=y", "a=b={ipaddr} x=y"),
        ("aGVsbG8K is aGVsbG8uCg==", "{base64} is {base64}"),
        ("421 4.1.0 10.0.0.1 throttled", "421 4.1.0 {ipaddr} throttled"),
        ("from 42.69.10.20:25, ::1 and 2001:db8::1", "from 42.69.10.20:25, {ipaddr} and {ipaddr}"),
        ("from 42.69.10.20:25 2001:db8:0:0:0:0:0:1:25", "from {ipaddr} {ipaddr}"),
        ("at 00:10:34", "at 00:10:34"),
        ("no some.body+x@mail.example.com and No.Body@Example.COM", "no {email} and {email}"),
        ("x@host <x@example.com>", "x@host <x@example.com>"),
        (
            "see the header (RFC5322) a640c23a62f3a-ab67626ed70si756442266b.465 - gsmtp",
            "see the header RFC5322 {hash} - gsmtp",
        ),
        (
            "rejected [aGVsbG8uCg== IP: 10.10.10.10]. https://x.example/0/92.",
            "rejected {base64} IP: {ipaddr} https://x.example/0/92.",
        ),
        ("(all) of [it]", "all of it"),
        ("Next due in 11s 999ms 990us 55ns at noon", "Next due in {duration} at noon"),
        ("in 5h 30m. Or t=3day, (2year)", "in {duration}. Or t={duration}, {duration}"),
        ("P23DT23H P4Y PT0.5S P PT P1Y2M3DT4H5M6Shello", "{duration} {duration} {duration} P PT {hash}"),
        ("abc11s 2yearhello 10seconds", "abc11s 2yearhello 10seconds"),
        ("EHLO rcpt dkim DMARC over FULL user That", "EHLO rcpt dkim DMARC over FULL user That"),
        ("abcdefgh qzxcvbnm aBcDeFgH 2024", "abcdefgh {base64} {base64} {base64}"),
        ("a  b\tc\r\nd", "a b c d"),
        ("", ""),
        ("größer", "größer"),
    ],
)
def test_what_differs_from_message_to_message_goes(response: str, normalized: str) -> None:
    assert normalize_smtp_response(response) == normalized


@given(st.text(alphabet='aB1.:=@-[](){} \n/+"Pé\ue000', max_size=60) | st.text())
def test_any_text_has_a_normal_form(response: str) -> None:
    assert "  " not in normalize_smtp_response(response)


@pytest.mark.parametrize("piece", ["=", "a=", "a.", "1 ", "(", "a-", "1s ", "@a.", '"', ":", "1.1.1."])
def test_long_responses_take_linear_time(piece: str) -> None:
    normalize_smtp_response(piece * 30_000)
