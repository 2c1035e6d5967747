"""From an injection request to the octets of its messages."""

from __future__ import annotations

from typing import Any

import pytest

from kumo_py.core.options import OptionError, convert
from kumo_py.core.templates import Templates
from kumo_py.inject.expansion import Expansion
from kumo_py.inject.request import ContentError, InjectRequest
from kumo_py.message.header_values import ADDRESS_LIST, UNSTRUCTURED
from kumo_py.message.mime import Part, parse

NOW = 1_700_000_000.0
WHOLE = """From: Me <me@example.com>
Subject: A test 🛳️
To: "{{ name }}" <{{ email }}>

This is a test message to {{ name }}, with some 👻🍉💩 emoji!
"""


def request(content: Any, **fields: Any) -> InjectRequest:
    recipients = fields.pop("recipients", [{"email": "user@example.com", "name": "James Smythe"}])
    table = {"envelope_sender": "a@b.test", "recipients": recipients, "content": content}
    return convert(table | fields, InjectRequest, "test")


def expanded(content: Any, **fields: Any) -> bytes:
    made = request(content, **fields)
    return Expansion(made, Templates(lambda: NOW)).expand(made.recipients[0], NOW)


def built(content: dict[str, Any], **fields: Any) -> Part:
    return parse(expanded({"text_body": "hi"} | content, **fields), strict=True)


def test_a_whole_message_is_a_template_and_is_encoded_for_mail() -> None:
    assert expanded(WHOLE).decode() == (
        'Content-Type: text/plain;\r\n\tcharset="utf-8"\r\n'
        "Content-Transfer-Encoding: quoted-printable\r\n"
        "From: Me <me@example.com>\r\n"
        "Subject: =?UTF-8?q?A_test_=F0=9F=9B=B3=EF=B8=8F?=\r\n"
        'To: "James Smythe" <user@example.com>\r\n'
        "Mime-Version: 1.0\r\n"
        "\r\n"
        "This is a test message to James Smythe, with some =F0=9F=91=BB=F0=9F=8D=89=\r\n"
        "=F0=9F=92=A9 emoji!\r\n"
    )


def test_each_recipient_gets_its_own() -> None:
    made = request(
        "Subject: {{ greeting }} {{ name }}\n\n{{ to_header }}",
        substitutions={"greeting": "Hello", "name": "nobody"},
        recipients=[
            {"email": "a@b.test"},
            {"email": "c@d.test", "name": "Zoë, C."},
            {"email": "e@f.test", "name": "E", "substitutions": {"greeting": "Bye", "name": "other"}},
        ],
    )
    expansion = Expansion(made, Templates(lambda: NOW))
    parts = [parse(expansion.expand(recipient, NOW)) for recipient in made.recipients]
    assert [part.headers.get("Subject", UNSTRUCTURED) for part in parts] == [
        "Hello nobody",
        "Hello Zoë, C.",
        "Bye other",
    ]
    assert [str(part.body).strip() for part in parts] == [
        "<a@b.test>",
        "=?UTF-8?q?Zo=C3=AB=2C_C=2E?= <c@d.test>",
        "E <e@f.test>",
    ]


def test_a_message_is_built_of_texts_headers_and_attachments() -> None:
    message = built(
        {
            "text_body": "Hello {{ name }}",
            "html_body": "<b>{{ name }}</b><img src='cid:my-image'>",
            "amp_html_body": "<html amp4email>{{ name }}</html>",
            "from": {"email": "sales@a.test", "name": "Sales {{ team }}"},
            "reply_to": {"email": "help@a.test"},
            "subject": "Offer for {{ name }}",
            "headers": {"X-Tenant": "{{ team }}"},
            "attachments": [
                {"data": "R0lG", "base64": True, "content_type": "image/gif", "content_id": "my-image"},
                {"data": "wörds {{ name }}", "content_type": "text/plain", "file_name": "a.txt"},
            ],
        },
        substitutions={"team": "Ä & B"},
        recipients=[{"email": "u@b.test", "name": "<Zoë>"}],
    )
    assert message.media_type == "multipart/mixed"
    related, attached = message.parts
    assert related.media_type == "multipart/related"
    alternative, image = related.parts
    assert [part.media_type for part in alternative.parts] == ["text/plain", "text/x-amp-html", "text/html"]
    text, amp, html = (str(part.body).strip() for part in alternative.parts)
    assert text == "Hello <Zoë>"
    assert html == "<b>&lt;Zoë&gt;</b><img src='cid:my-image'>"
    assert amp == "<html amp4email>&lt;Zoë&gt;</html>"
    assert (image.content, image.attachment.content_id) == (b"GIF", "my-image")  # type: ignore[union-attr]
    assert (attached.content, attached.attachment.file_name) == (  # type: ignore[union-attr]
        "wörds {{ name }}".encode(),  # attachments are no templates
        "a.txt",
    )
    (sales,) = message.headers.get("From", ADDRESS_LIST) or []
    assert (sales.name, sales.email) == ("Sales Ä & B", "sales@a.test")  # type: ignore[union-attr]
    (to,) = message.headers.get("To", ADDRESS_LIST) or []
    assert (to.name, to.email) == ("<Zoë>", "u@b.test")  # type: ignore[union-attr]
    assert message.headers.get("Subject", UNSTRUCTURED) == "Offer for <Zoë>"
    assert message.headers.get("X-Tenant", UNSTRUCTURED) == "Ä & B"
    assert message.headers.first("Reply-To").raw_value == b"<help@a.test>"  # type: ignore[union-attr]
    assert message.headers.first("Date").raw_value == b"Tue, 14 Nov 2023 22:13:20 +0000"  # type: ignore[union-attr]
    assert message.to_bytes().isascii()


def test_line_ends_become_those_of_mail() -> None:
    assert expanded("Subject: x\n\none\ntwo\n").endswith(b"\r\n\r\none\r\ntwo\r\n")
    assert built({"text_body": "one\ntwo\r\nthree"}).raw_body == b"one\r\ntwo\r\nthree\r\n"


def test_own_headers_win() -> None:
    message = built({"headers": {"TO": "everybody@a.test", "Date": "Mon, 13 Nov 2023 22:13:20 +0000"}})
    assert [header.raw_value for header in message.headers.named("to")] == [b"everybody@a.test"]
    assert [header.raw_value for header in message.headers.named("date")] == [
        b"Mon, 13 Nov 2023 22:13:20 +0000"
    ]


def test_static_and_handlebars() -> None:
    static = "Subject: {{ name }}\n\n{% raw"
    assert b"Subject: {{ name }}\r\n" in expanded(static, template_dialect="Static")
    content = "Subject: {{#if name}}{{name}}{{/if}}\n\nx"
    assert b"Subject: James Smythe\r\n" in expanded(content, template_dialect="Handlebars")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("{{ name", "failed parsing field 'content' as template: template 'content' line 1: "),
        ({}, "at least one of text_body and/or html_body must be given"),
        ({"amp_html_body": "x"}, "at least one of text_body and/or html_body must be given"),
        ({"text_body": "{% if %}"}, "failed parsing field 'content.text_body' as template"),
        ({"text_body": "", "headers": {"X-A": "{{"}}, "failed parsing field 'headers['X-A']' as template"),
        ({"text_body": "", "from": {"email": "nobody"}}, "failed parsing content.from: "),
        ({"text_body": "", "reply_to": {"email": "a@b.test, c@d.test"}}, "failed parsing content.reply_to: "),
        (
            {"text_body": "", "attachments": [{"data": "???", "base64": True, "content_type": "a/b"}]},
            "attachment 'a/b': ",
        ),
        (
            {"text_body": "", "attachments": [{"data": "", "content_type": "nonsense"}]},
            "attachment 'nonsense': ",
        ),
    ],
)
def test_content_that_is_of_no_use_to_anybody(content: Any, error: str) -> None:
    with pytest.raises(ContentError) as caught:
        expanded(content)
    assert error in str(caught.value)


@pytest.mark.parametrize("break_", ["\r\n", "\n", "\r", "\0"])
def test_no_substitution_breaks_out_of_its_header(break_: str) -> None:
    evil = f"x{break_}Bcc: all@b.test{break_}{break_}body"
    with pytest.raises(ValueError, match="header"):
        built({"headers": {"X-Tenant": "{{ evil }}"}}, substitutions={"evil": evil})
    with pytest.raises(ValueError, match="name"):
        built({}, recipients=[{"email": "a@b.test", "name": evil}])
    with pytest.raises(ContentError, match="name"):
        built({"from": {"email": "a@b.test", "name": evil}})
    with pytest.raises(ValueError, match=r"not one address|not a list of addresses"):
        built({}, recipients=[{"email": f"a@b.test{break_}Bcc: x@y.test"}])


@pytest.mark.parametrize("break_", ["\r\n", "\n", "\r\n\r\n"])
def test_nor_out_of_a_header_of_a_whole_message(break_: str) -> None:
    evil = {"v": [f"x{break_}Bcc: all@b.test"]}
    with pytest.raises(ValueError, match="a line break in a substitution would end a header"):
        expanded("Subject: {{ v[0] }}\nX-A: b\n\nhi", substitutions=evil)
    body = parse(expanded("Subject: x\n\n{{ v[0] }}", substitutions=evil)).body
    assert str(body).startswith("x\r\n")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"envelope_sendr": "x"}, "unknown option 'envelope_sendr'"),
        ({"recipients": [{"mail": "x"}]}, "unknown option 'recipients[1].mail'"),
        ({"content": {"text": "x"}}, "unknown option 'content.text'"),
        ({"content": 5}, "option 'content' must be"),
        ({"template_dialect": "Ninja"}, "option 'template_dialect' must be one of"),
        ({"trace_headers": {"header_name": "a b"}}, "trace_headers.header_name: 'a b' is not a header name"),
    ],
)
def test_unknown_fields_are_errors(fields: dict[str, Any], error: str) -> None:
    table = {"envelope_sender": "", "recipients": [], "content": "x"}
    with pytest.raises(OptionError) as caught:
        convert(table | fields, InjectRequest, "test")
    assert error in str(caught.value)
