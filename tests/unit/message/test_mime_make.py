"""Parts that are made, messages that are built, rebuilt, and seen as text and attachments."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kumo_py.message.headers import HeaderError
from kumo_py.message.mime import (
    Attachment,
    CheckFixSettings,
    MessageBuilder,
    MimeError,
    new_binary,
    new_multipart,
    new_text,
    parse,
)

NOW = 1_795_311_723.5


def test_a_multipart_of_new_parts() -> None:
    options = Attachment(file_name="woot.bin", content_id="woot.id")
    root = new_multipart(
        "multipart/mixed",
        [
            new_text("text/plain", "plain text"),
            new_text("text/html", "<b>ü</b>" + " and much text that needs no encoding" * 2),
            new_binary("application/octet-stream", b"\0\1\2\3", options),
        ],
        "my-boundary",
    )
    assert root.to_bytes() == (
        b'Content-Type: multipart/mixed;\r\n\tboundary="my-boundary"\r\n\r\n'
        b'--my-boundary\r\nContent-Type: text/plain;\r\n\tcharset="us-ascii"\r\n\r\nplain text\r\n'
        b'--my-boundary\r\nContent-Type: text/html;\r\n\tcharset="utf-8"\r\n'
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"<b>=C3=BC</b> and much text that needs no encoding and much text that needs=\r\n no encoding\r\n"
        b'--my-boundary\r\nContent-Disposition: attachment;\r\n\tfilename="woot.bin"\r\nContent-ID: <woot.id>\r\n'
        b'Content-Type: application/octet-stream;\r\n\tname="woot.bin"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        b"AAECAw==\r\n--my-boundary--\r\n"
    )
    assert parse(root.to_bytes()).parts[2].attachment == options


def test_boundaries_are_random() -> None:
    first, second = (new_multipart("multipart/mixed", []).to_bytes() for _ in range(2))
    assert first != second


@pytest.mark.parametrize("type_", ["", "plain", "text/", "text/plain; x=y", "text/pl\r\nain"])
def test_a_media_type_is_type_and_subtype(type_: str) -> None:
    with pytest.raises(HeaderError, match="type/subtype"):
        new_text(type_, "x")


# -- builder ---------------------------------------------------------------------------------------------------
def test_a_message_of_two_texts() -> None:
    builder = MessageBuilder()
    builder.stable_content = True
    builder.headers.set("Subject", "Hello there! 🍉")
    builder.text_plain = "plain"
    builder.text_html = "<b>html</b>"
    assert builder.build(NOW).to_bytes() == (
        b'Content-Type: multipart/alternative;\r\n\tboundary="ma-boundary"\r\n'
        b"Subject: =?UTF-8?q?Hello_there!_=F0=9F=8D=89?=\r\nMime-Version: 1.0\r\n"
        b"Date: Tue, 1 Jul 2003 10:52:37 +0200\r\n\r\n"
        b'--ma-boundary\r\nContent-Type: text/plain;\r\n\tcharset="us-ascii"\r\n\r\nplain\r\n'
        b'--ma-boundary\r\nContent-Type: text/html;\r\n\tcharset="us-ascii"\r\n\r\n<b>html</b>\r\n'
        b"--ma-boundary--\r\n"
    )


def test_parts_are_nested_as_mail_programs_expect() -> None:
    builder = MessageBuilder()
    builder.text_plain, builder.text_html, builder.text_amp_html = "p", "h", "a"
    builder.attach("image/png", b"png", Attachment(inline=True, content_id="logo"))
    builder.attach("a/b", b"x")
    root = builder.build(NOW)
    assert [part.media_type for part in root.walk()] == [
        "multipart/mixed", "multipart/related", "multipart/alternative",
        "text/plain", "text/x-amp-html", "text/html", "image/png", "a/b",
    ]  # fmt: skip
    assert root.headers.date == datetime.fromtimestamp(int(NOW), UTC)


def test_a_message_has_a_text_that_all_can_read() -> None:
    builder = MessageBuilder()
    with pytest.raises(MimeError, match="plain text or HTML"):
        builder.build(NOW)
    builder.text_amp_html = "a"
    with pytest.raises(MimeError, match="AMP"):
        builder.build(NOW)


# -- structure -------------------------------------------------------------------------------------------------
def test_the_structure_of_nested_parts() -> None:
    html, logo = new_text("text/html", "h"), new_binary("image/png", b"x", Attachment("i", True, "c@d"))
    second, csv = new_text("text/plain", "2"), new_binary("text/csv", b"1;2", Attachment("a.csv"))
    named = new_binary("text/plain", b"n", Attachment("named.txt"))
    related = new_multipart("multipart/related", [html, logo])
    text = new_text("text/plain", "1")
    root = new_multipart("multipart/mixed", [related, named, text, second, csv])
    found = root.simple_structure()
    assert (found.text_part, found.html_part, found.amp_html_part) == (text, html, None)
    assert found.header_part is root
    assert found.attachments == [logo, named, second, csv]
    assert [found.paths[id(part)] for part in (html, *found.attachments)] == [
        (0, 0),
        (0, 1),
        (1,),
        (3,),
        (4,),
    ]


def test_a_message_without_a_type_is_text() -> None:
    root = parse(b"Subject: x\r\n\r\nbody")
    assert root.simple_structure().text_part is root
    root = parse(b"Content-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\n")
    assert root.simple_structure().attachments == [root]


# -- rebuilding ------------------------------------------------------------------------------------------------
def test_a_message_is_made_anew() -> None:
    message = (
        b"subject:  =?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\n  =?ISO-8859-2?B?dSB1bmRlcnN0YW5k?=\n"
        b"From :Someone@somewhere\nCC: =?ISO-8859-1?Q?Andr=E9?= Pirard <PIRARD@vm1.ulg.ac.be>\n"
        b"Date: yesterday\nMessage-ID: <<1@b>>\nX-Raw: gr\xfcn\n\nlatin gr\xc3\xbcn\n"
    )
    assert parse(message).rebuild().to_bytes() == (
        b'Content-Type: text/plain;\r\n\tcharset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n'
        b"Subject: If you can read this you understand\r\nFrom: <Someone@somewhere>\r\n"
        b"Cc: =?UTF-8?q?Andr=C3=A9_Pirard?= <PIRARD@vm1.ulg.ac.be>\r\nX-Raw: =?UTF-8?q?gr=EF=BF=BDn?=\r\n\r\n"
        b"latin gr=C3=BCn=0A\r\n"
    )


def test_parameters_and_dispositions_are_kept() -> None:
    message = (
        b"Content-Type: multipart/mixed; boundary=b; x=y\r\n\r\npreamble\r\n"
        b"--b\r\nContent-Disposition: attachment; filename=i.ics\r\nContent-ID: <c@d>\r\n"
        b"Content-Type: text/calendar; method=REQUEST\r\n\r\nInvitation\r\n"
        b"--b\r\nContent-Disposition: attachment\r\nContent-Type: application/ics\r\n\r\nEvent\r\n"
        b"--b\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\n"
        b"--b--\r\n"
    )
    assert parse(message).rebuild().to_bytes() == (
        b'Content-Type: multipart/mixed;\r\n\tboundary="b";\r\n\tx="y"\r\n\r\n'
        b'--b\r\nContent-Type: text/calendar;\r\n\tcharset="us-ascii";\r\n\tmethod="REQUEST"\r\n'
        b'Content-Disposition: attachment;\r\n\tfilename="i.ics"\r\nContent-ID: <c@d>\r\n\r\nInvitation\r\n'
        b"--b\r\nContent-Type: application/ics\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-Disposition: attachment\r\n\r\nRXZlbnQNCg==\r\n"
        b"--b\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\n"
        b"--b--\r\n"
    )


def test_decoded_text_cannot_end_its_part() -> None:
    message = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"LS1iDQpDb250ZW50LVR5cGU6IHRleHQvaHRtbA0KDQpmb3JnZWQNCg==\r\n--b--\r\n"
    )
    root = parse(message)
    assert root.parts[0].body == "--b\r\nContent-Type: text/html\r\n\r\nforged\r\n"
    assert len(parse(root.rebuild().to_bytes()).parts) == 1
    root.parts[0].body = "--b\r\n\r\nforged"
    assert len(parse(root.to_bytes()).parts) == 1


def test_charsets_are_guessed_if_wanted() -> None:
    message = b"Content-Transfer-Encoding: base64\r\n\r\nVGhlIGNvc3QgaXMgozQyLjAwCg==\r\n"
    wanted = CheckFixSettings(detect_encoding=True, include_encodings=["iso-8859-1"])
    assert parse(message).rebuild(wanted).body == "The cost is £42.00\n\r\n"
    assert parse(message).rebuild().body == b"The cost is \xa342.00\n"
    assert (
        parse(message).rebuild(CheckFixSettings(include_encodings=["nonsense"])).content
        == b"The cost is \xa342.00\n"
    )
    short = message.replace(b"VGhlIGNvc3QgaXMgozQyLjAwCg==", b"owo=")
    assert parse(short).rebuild(wanted).content == b"\xa3\n"
    with pytest.raises(ValueError, match=r"unknown charset 'iso-8859-99', did you mean"):
        parse(message).rebuild(CheckFixSettings(detect_encoding=True, include_encodings=["iso-8859-99"]))


def test_what_cannot_be_decoded_cannot_be_rebuilt() -> None:
    with pytest.raises(MimeError, match="base64"):
        parse(b"Content-Transfer-Encoding: base64\r\n\r\n?\r\n").rebuild()
