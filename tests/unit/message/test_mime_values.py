"""Typed header values: addresses, ids, dates, MIME parameters, authentication results."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kumo_py.message import header_values as values
from kumo_py.message.address_header import Group, Mailbox
from kumo_py.message.authentication_results import (
    ARCAuthenticationResults,
    AuthenticationResult,
    AuthenticationResults,
)
from kumo_py.message.date import format_date, parse_date
from kumo_py.message.headers import HeaderError
from kumo_py.message.mime_params import MimeParameters

if TYPE_CHECKING:
    from kumo_py.message.header_values import HeaderKind


# -- addresses and ids -----------------------------------------------------------------------------------------
def test_addresses_are_written_so_that_they_are_read_the_same() -> None:
    addresses = [
        Mailbox(None, "plain", "example.com"),
        Mailbox("John", "john smith", "example.com"),
        Mailbox("TEST [brackets]", "a", "b"),
        Mailbox('say "hi"\\', 'quo"te', "[127.0.0.1]"),
        Mailbox("André Pirard", "andré", "exämple.com"),
        Group("A Team", (Mailbox("Ed Jones", "c", "a.test"), Mailbox(None, "joe", "where.test"))),
        Group("Undisclosed: recipients", ()),
    ]
    written = values.ADDRESS_LIST.encode(addresses)
    assert (
        written
        == (
            '<plain@example.com>,\r\n\tJohn <"john smith"@example.com>,\r\n\t"TEST [brackets]" <a@b>,\r\n\t'
            '"say \\"hi\\"\\\\" <"quo\\"te"@[127.0.0.1]>,\r\n\t'
            "=?UTF-8?q?Andr=C3=A9_Pirard?= <andré@exämple.com>,\r\n\t"
            'A Team:"Ed Jones" <c@a.test>,\r\n\t<joe@where.test>;,\r\n\t"Undisclosed: recipients":;'
        ).encode()
    )
    assert values.ADDRESS_LIST.parse(written) == addresses


@pytest.mark.parametrize(
    ("kind", "raw", "problem"),
    [
        (values.MAILBOX_LIST, b"g: a@b;", "a group"),
        (values.MAILBOX_LIST, b"", "no address"),
        (values.MAILBOX, b"a@b, c@d", "only one"),
        (values.MESSAGE_ID, b"a@b", "'<' id '>'"),
        (values.MESSAGE_ID, b"<<a@b>>", "'<' id '>'"),
        (values.MESSAGE_ID, b"<a@b> <c@d>", "only one"),
        (values.MESSAGE_ID_LIST, b"(none)", "'<' id '>'"),
        (values.UNSTRUCTURED, b"\xff", "octet 1 is not UTF-8"),
    ],
)
def test_what_is_of_another_kind_is_refused(kind: HeaderKind[object], raw: bytes, problem: str) -> None:
    with pytest.raises(HeaderError, match=problem):
        kind.parse(raw)


def test_message_ids() -> None:
    raw = b'(old) <a@b> <"legacy"@b.example>\r\n\t<literal@[127.0.0.1]> (<no@id>) <no-at>'
    ids = ["a@b", "legacy@b.example", "literal@[127.0.0.1]", "no-at"]
    assert values.MESSAGE_ID_LIST.parse(raw) == ids
    assert values.MESSAGE_ID_LIST.parse(values.MESSAGE_ID_LIST.encode(ids)) == ids


@pytest.mark.parametrize("kind", [values.MESSAGE_ID, values.MAILBOX])
@pytest.mark.parametrize("bad", ["a\r\nb", "a\nb", "a\0b", "a>b<c"])
def test_nothing_that_is_written_starts_another_header(kind: HeaderKind[object], bad: str) -> None:
    mailbox = Mailbox(None, "a", bad)
    with pytest.raises(HeaderError):
        kind.encode(bad if kind is values.MESSAGE_ID else mailbox)


# -- dates -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("Tue, 1 Jul 2003 10:52:37 +0200", datetime(2003, 7, 1, 8, 52, 37, tzinfo=UTC)),
        ("1 jul 03 10:52 +0200", datetime(2003, 7, 1, 8, 52, tzinfo=UTC)),
        ("Thu, 02 Jul 26 18:55:38 UTC (Coordinated)", datetime(2026, 7, 2, 18, 55, 38, tzinfo=UTC)),
        ("Thu, 02 Jul 26 18:55:38 EST", datetime(2026, 7, 2, 23, 55, 38, tzinfo=UTC)),
        ("Thu, 02 Jul 26 18:55:38 CEST", datetime(2026, 7, 2, 16, 55, 38, tzinfo=UTC)),
        ("Thu, 02 Jul 26 18:55:38 Q", datetime(2026, 7, 2, 18, 55, 38, tzinfo=UTC)),
        ("Sun, (day)\r\n\t02 Oct 2016 07:06:60 -0700 (PDT)", datetime(2016, 10, 2, 14, 6, 59, tzinfo=UTC)),
        ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", datetime(1997, 11, 21, 15, 55, 6, tzinfo=UTC)),
    ],
)
def test_dates_are_read(text: str, when: datetime) -> None:
    assert parse_date(text.encode()) == when


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "Wed, 1 Jul 2003 10:52:37 +0200", "31 Feb 2003 10:52:37 +0200", "1 Jul 2003 25:00 +0000",
     "1 Jul 2003 10:52:37", "1 Foo 2003 10:52:37 GMT", "1 Jul 2003 10:52:37 +9999", "(" * 400, "1 " * 9999],
)  # fmt: skip
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(HeaderError):
        parse_date(text.encode())


def test_dates_are_written() -> None:
    assert format_date(datetime(2003, 7, 1, 10, 52, 37, tzinfo=timezone(timedelta(hours=2)))) == (
        b"Tue, 1 Jul 2003 10:52:37 +0200"
    )
    assert format_date(datetime(2026, 11, 22, 1, 2, 3)) == b"Sun, 22 Nov 2026 01:02:03 +0000"


# -- MIME parameters -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("raw", "value", "parameters"),
    [
        ("text/plain", "text/plain", {}),
        (' (c) text / plain (d) ; charset = "us-ascii" (e)', "text/plain", {"charset": "us-ascii"}),
        ("text/plain charset=x format=flowed", "text/plain", {"charset": "x", "format": "flowed"}),
        ("text/plain;; Charset=utf-8 ;", "text/plain", {"Charset": "utf-8"}),
        # RFC 2231 §3 and §4.1, with the erratum's semicolons
        (
            'message/external-body; access-type=URL;\r\n URL*0="ftp://";\r\n URL*1="cs.utk.edu/pub"',
            "message/external-body",
            {"access-type": "URL", "URL": "ftp://cs.utk.edu/pub"},
        ),
        (
            'application/x-stuff;\r\n title*2="isn\'t it!";\r\n title*1*=%2A%2A%2Afun%2A%2A%2A%20;\r\n'
            " title*0*=us-ascii'en'This%20is%20even%20more%20",
            "application/x-stuff",
            {"title": "This is even more ***fun*** isn't it!"},
        ),
        ("a/b; n*=iso-8859-1''gr%FCn", "a/b", {"n": "grün"}),
        ("a/b; n*=''gr%C3%BCn", "a/b", {"n": "grün"}),
        ("a/b; n*=unheard-of''gr%FCn", "a/b", {"n": "gr%FCn"}),
        ("a/b; n*0*=utf-8''%C3; n*1*=%BC", "a/b", {"n": "ü"}),
        ("a/b; n=plain; n*=utf-8''%C3%BC", "a/b", {"n": "ü"}),
        ("a/b; charset=a; charset=b", "a/b", {"charset": "a"}),
        ("a/b; n=", "a/b", {"n": ""}),
        # RFC 2047 words, which should not be there
        ('a/b; n="=?UTF-8?B?5pel5pys?="', "a/b", {"n": "日本"}),
        ("a/b; n= =?UTF-8?B?5pel5pys?=", "a/b", {"n": "日本"}),
        ('a/b; n="=?UTF-8?B?5pel?=\r\n =?UTF-8?B?5pys?="', "a/b", {"n": "日本"}),
        ('a/b; n="=?UTF-8?B?5pel5pys?=bork"', "a/b", {"n": "=?UTF-8?B?5pel5pys?=bork"}),
        ('a/b; n="=?US-OSCII?Q?x?="', "a/b", {"n": "=?US-OSCII?Q?x?="}),
        ('a/b; n="=?utf-8?q?a=22=3B_x=3Dy?="', "a/b", {"n": 'a"; x=y'}),
        ('a/b; n="=?utf-8?q?=C3=BC=22=3B_x=3Dy?="', "a/b", {"n": 'ü"; x=y'}),
        ('a/b; n="x \\"y\\"\r\n z"', "a/b", {"n": 'x "y" z'}),
    ],
)
def test_parameters_are_read(raw: str, value: str, parameters: dict[str, str]) -> None:
    found = MimeParameters.parse_type(raw.encode())
    assert (found.value, found.parameters) == (value, parameters)
    again = MimeParameters.parse_type(found.encode())
    assert again == found


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "text",
        "text/",
        "/plain",
        "a/b; filename=@",
        "a/b; =x",
        "a/b; x",
        "a/b; n=a b",
        'a/b; n="x',
        "a/b (",
    ],
)
def test_what_has_no_parameters_is_refused(raw: str) -> None:
    with pytest.raises(HeaderError):
        MimeParameters.parse_type(raw.encode())


def test_parameters_are_written_in_lines() -> None:
    found = MimeParameters("application/x-stuff", {"title": "isn't it!", "foo": "bar 💩"})
    found.set("long", "this is some text that should wrap because it is a good bit longer than a line may be")
    assert found.encode().decode() == (
        "application/x-stuff;\r\n\tfoo*=UTF-8''bar%20%F0%9F%92%A9;\r\n"
        '\tlong*0="this is some text that should wrap because it is a good bit longe";\r\n'
        '\tlong*1="r than a line may be";\r\n\ttitle="isn\'t it!"'
    )
    found.remove("LONG")
    assert found.get("long") is None


def test_encoded_words_of_parameters_stay_encoded_words() -> None:
    raw = b'attachment;\r\n\tfilename="=?UTF-8?q?=E6=97=A5=E6=9C=AC?=";\r\n\tother==?UTF-8?q?=E6=97=A5?='
    assert MimeParameters.parse(raw).encode() == raw


@pytest.mark.parametrize(
    ("name", "value"), [("x", "a\r\nb"), ("x", "a\0"), ("x y", "a"), ("", "a"), ("é", "a")]
)
def test_parameters_that_cannot_be_written_are_refused(name: str, value: str) -> None:
    with pytest.raises(HeaderError):
        MimeParameters("a/b", {name: value}).encode()


_texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n\0"), max_size=200)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["filename", "n", "x-" + "long" * 20]), _texts))
def test_any_parameters_are_read_as_they_were_written(parameters: dict[str, str]) -> None:
    words = {name: text for name, text in parameters.items() if "=?" not in text}
    written = MimeParameters("a/b", words).encode()
    assert MimeParameters.parse_type(written).parameters == words
    if all(len(name) < 20 for name in words):
        assert max(map(len, written.split(b"\r\n"))) <= 90


# -- authentication results ------------------------------------------------------------------------------------
def _result(method: str, result: str, **rest: object) -> AuthenticationResult:
    return AuthenticationResult(method=method, result=result, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "results", "written"),
    [
        # the examples of RFC 8601, appendix B
        ("example.org 1; none", [], "example.org 1; none"),
        (
            "example.org 1; spf=pass smtp.mailfrom=example.net",
            [_result("spf", "pass", props={"smtp.mailfrom": "example.net"})],
            "example.org 1;\r\n\tspf=pass\r\n\tsmtp.mailfrom=example.net",
        ),
        (
            "example.org 1;\n\tauth=pass (cram-md5) smtp.auth=sender@example.net;\n"
            "\tiprev=pass policy.iprev=192.0.2.200",
            [
                _result("auth", "pass", props={"smtp.auth": "sender@example.net"}),
                _result("iprev", "pass", props={"policy.iprev": "192.0.2.200"}),
            ],
            "example.org 1;\r\n\tauth=pass\r\n\tsmtp.auth=sender@example.net;\r\n"
            "\tiprev=pass\r\n\tpolicy.iprev=192.0.2.200",
        ),
        (
            'example.org 1; dkim=pass reason="good signature"\r\n\theader.i=@mail-router.example.net',
            [_result("dkim", "pass", reason="good signature", props={"header.i": "@mail-router.example.net"})],
            'example.org 1;\r\n\tdkim=pass reason="good signature"\r\n\theader.i=@mail-router.example.net',
        ),
        (
            "example.org (foobar) 1 (baz);\n\tdkim (Because I like it) / 1 (One yay) = (wait for it) fail\n"
            "\tpolicy (A dot can go here) . (like that) expired\n\t(this surprised me) = (as I) 1362471462",
            [_result("dkim", "fail", method_version=1, props={"policy.expired": "1362471462"})],
            "example.org 1;\r\n\tdkim/1=fail\r\n\tpolicy.expired=1362471462",
        ),
        # what is seen, though it ought to be quoted
        (
            'example.org 1; dkim=pass header.b="a/b=" header.s=s1; iprev=pass policy.iprev=2001:db8::1;',
            [
                _result("dkim", "pass", props={"header.b": "a/b=", "header.s": "s1"}),
                _result("iprev", "pass", props={"policy.iprev": "2001:db8::1"}),
            ],
            'example.org 1;\r\n\tdkim=pass\r\n\theader.b="a/b="\r\n\theader.s=s1;\r\n'
            '\tiprev=pass\r\n\tpolicy.iprev="2001:db8::1"',
        ),
    ],
)  # fmt: skip
def test_authentication_results(raw: str, results: list[AuthenticationResult], written: str) -> None:
    found = AuthenticationResults.parse(raw.encode())
    assert found == AuthenticationResults(serv_id="example.org", version=1, results=results)
    assert found.encode().decode() == written
    assert AuthenticationResults.parse(found.encode()) == found


def test_arc_authentication_results() -> None:
    raw = (
        b"i=3; clochette.example.org; spf=fail\r\n smtp.from=jqd@d1.example; dkim=fail (512-bit key)\r\n"
        b" header.i=@d1.example; dmarc=fail; arc=pass (as.2.gmail.example=pass, (nested))"
    )
    found = ARCAuthenticationResults.parse(raw)
    assert (found.instance, found.serv_id, found.version) == (3, "clochette.example.org", None)
    assert [(one.method, one.result) for one in found.results] == [
        ("spf", "fail"), ("dkim", "fail"), ("dmarc", "fail"), ("arc", "pass"),
    ]  # fmt: skip
    assert ARCAuthenticationResults.parse(found.encode()) == found


@pytest.mark.parametrize(
    "raw", ["", ";", "host spf=pass", "host; spf", "host; spf=", "host; spf=pass smtp", "host; spf=pass smtp.a",
            "host; spf/x=pass", "host; (open", 'host; spf=pass reason="open', "i=0; host; none", "i=51; host; none"],
)  # fmt: skip
def test_what_is_no_result_is_refused(raw: str) -> None:
    parse = ARCAuthenticationResults.parse if raw.startswith("i=") else AuthenticationResults.parse
    with pytest.raises(HeaderError):
        parse(raw.encode())


def test_results_that_cannot_be_written_are_refused() -> None:
    for bad in (
        _result("s pf", "pass"),
        _result("spf", "pass;"),
        _result("spf", "pass", reason="a\r\nb"),
        _result("spf", "pass", props={"smtp": "x"}),
        _result("spf", "pass", props={"smtp.a": "x\r\nBcc: y"}),
    ):
        with pytest.raises(HeaderError):
            AuthenticationResults(serv_id="host", results=[bad]).encode()
    assert AuthenticationResults(serv_id="a host").encode() == b'"a host"; none'


# -- any input -------------------------------------------------------------------------------------------------
_ALL_KINDS = [*dict.fromkeys(values.KINDS.values())]
_MARKS = st.sampled_from(
    [*"()<>@,;:\\\"/[]?=.* \t\r\n%'", "=?utf-8?q?", "?=", "a", "none", "*0*=", "é", "i=1;"]
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(_ALL_KINDS), st.lists(_MARKS, max_size=30).map("".join))
def test_any_value_is_read_or_refused_and_written_as_it_was_read(kind: HeaderKind[object], text: str) -> None:
    for raw in (text.encode(), text.encode("latin-1")):
        try:
            found = kind.parse(raw)
            written = kind.encode(found)
        except HeaderError:
            continue
        assert b"\n" not in written.replace(b"\r\n\t", b"")
        assert b"\0" not in written
