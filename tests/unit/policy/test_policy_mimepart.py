"""The module `kumo.mimepart`, its parts and builders, and the methods of a message that use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from policy_host import MakePolicy

    from kumo_py.message.message import Message


async def run(policy: MakePolicy, code: str, *arguments: Any) -> Any:
    lua = policy(f"kumo.on('mine', function(msg)\n{code}\nend)")
    await lua.load()
    try:
        return await lua.ask("mine", *arguments)
    finally:
        lua.close()


async def test_a_message_is_parsed_changed_and_written_back(policy: MakePolicy, msg: Message) -> None:
    result = await run(
        policy,
        r"""
        local mime = msg:parse_mime()
        assert(tostring(mime) == tostring(kumo.mimepart.parse(msg:get_data())))
        assert(tostring(mime) == msg:get_data())
        local found = mime:get_simple_structure()
        assert(found.html_part == nil and found.amp_html_part == nil and #found.attachments == 0)
        found.text_part.body = found.text_part.body .. 'more\r\n'
        msg:set_data(tostring(mime))
        return { found.text_part.body, found.text_part.id, found.header_part.headers:subject() }
        """,
        msg,
    )
    assert result == ["body\r\nmore\r\n", "", "hello"]
    assert msg.data == (
        b"From: Me <me@example.com>\r\nSubject: hello\r\n"
        b'Content-Type: text/plain;\r\n\tcharset="us-ascii"\r\n\r\nbody\r\nmore\r\n'
    )


async def test_new_parts_are_put_together(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local main = kumo.mimepart.new_text_plain 'Hello, I am the main message content'
        local file = kumo.mimepart.new_binary('application/octet-stream', '\xbb\xaa', { file_name = '👾.dat' })
        local root = kumo.mimepart.new_multipart('multipart/mixed', { main, file }, 'woot')
        main.body = 'changed after it was copied'
        root:append_part(kumo.mimepart.new_html '<b>ü</b>')
        root:append_part(kumo.mimepart.new_text('text/markdown', '# x'))
        return tostring(root)
        """,
    )
    assert result.encode() == (
        b'Content-Type: multipart/mixed;\r\n\tboundary="woot"\r\n\r\n'
        b'--woot\r\nContent-Type: text/plain;\r\n\tcharset="us-ascii"\r\n\r\n'
        b"Hello, I am the main message content\r\n"
        b"--woot\r\nContent-Disposition: attachment;\r\n\tfilename*=UTF-8''%F0%9F%91%BE.dat\r\n"
        b'Content-Type: application/octet-stream;\r\n\tname="=?UTF-8?q?=F0=9F=91=BE=2Edat?="\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\nu6o=\r\n"
        b'--woot\r\nContent-Type: text/html;\r\n\tcharset="utf-8"\r\n'
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n<b>=C3=BC</b>\r\n"
        b'--woot\r\nContent-Type: text/markdown;\r\n\tcharset="us-ascii"\r\n\r\n# x\r\n--woot--\r\n'
    )


async def test_a_builder_arranges_texts_and_attachments(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local builder = kumo.mimepart.builder()
        builder:set_stable_content(true)
        builder:text_plain 'Hello, plain'
        builder:text_html '<b>Hello, html</b>'
        builder:text_amp_html '<html amp4email></html>'
        builder:attach('text/plain', 'no options')
        builder:attach('application/octet-stream', '\xaa\xbb', { file_name = 'binary.dat' })
        builder:attach_part(
          kumo.mimepart.new_binary('image/png', 'png', { inline = true, content_id = 'logo@example.com' }))
        local root = builder:build()
        local found = root:get_simple_structure()
        local attached = {}
        for _, one in ipairs(found.attachments) do
          table.insert(attached, {
            one.file_name or 'none', one.inline, one.content_id or 'none', one.content_type,
            one.part.body == '\xaa\xbb' or one.part.body, one.part.id })
        end
        local again, problem = pcall(builder.build, builder)
        return {
          found.text_part.body, found.html_part.body, found.amp_html_part.body, found.text_part.id, attached,
          root.headers:mime_version(), root.headers:get_first_named('date').value, again, tostring(problem),
        }
        """,
    )
    *found, problem = result
    assert found == [
        "Hello, plain\r\n",
        "<b>Hello, html</b>\r\n",
        "<html amp4email></html>\r\n",
        "0.0.0",
        [
            ["none", True, "logo@example.com", "image/png", "png", "0.1"],
            ["none", True, "none", "text/plain", "no options", "1"],
            ["binary.dat", False, "none", "application/octet-stream", True, "2"],
        ],
        "1.0",
        "Tue, 1 Jul 2003 10:52:37 +0200",
        False,
    ]
    assert "builder already built" in problem


async def test_the_date_of_a_built_message_is_now(policy: MakePolicy) -> None:
    code = r"""
        local builder = kumo.mimepart.builder()
        builder:text_plain 'x'
        return builder:build().headers:get_first_named('Date').unstructured
        """
    assert "+0000" in await run(policy, code)


async def test_bodies_are_replaced_and_messages_rebuilt(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local part = kumo.mimepart.parse 'Subject:   x\nX-Y :z\nContent-Disposition: inline\n\nbody'
        part:replace_body('<p>ü</p>', 'text/html')
        local first = tostring(part)
        part:replace_body('\xff\xfe')
        local rebuilt = kumo.mimepart.parse('Subject:   x\nX-Y :z\n\nb\n'):rebuild()
        return { first, part.body == '\xff\xfe', tostring(rebuilt) }
        """,
    )
    assert result == [
        "Subject:   x\nX-Y :z\nContent-Disposition: inline\n"
        'Content-Type: text/html;\r\n\tcharset="utf-8"\n'
        "Content-Transfer-Encoding: quoted-printable\n\n<p>=C3=BC</p>\r\n",
        True,
        'Content-Type: text/plain;\r\n\tcharset="us-ascii"\r\nContent-Transfer-Encoding: quoted-printable\r\n'
        "Subject: x\r\nX-Y: z\r\n\r\nb=0A\r\n",
    ]


MIXED = (
    b"Content-Type: multipart/mixed;\r\n\tboundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\nplain text\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<BODY>\r\n<b>rich</b>\r\n</BODY>\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n"
    b"--b--\r\n\r\n"
)


async def test_text_is_appended(policy: MakePolicy, msg: Message) -> None:
    msg.set_data(MIXED)
    code = "return { msg:append_text_plain 'bottom 👾', msg:append_text_html 'bottom html' }"
    assert await run(policy, code, msg) == [True, True]
    assert msg.data == MIXED.replace(
        b"Content-Type: text/plain\r\n\r\nplain text\r\n",
        b'Content-Type: text/plain;\r\n\tcharset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'
        b"plain text\r\n\r\nbottom =F0=9F=91=BE\r\n",
    ).replace(
        b"Content-Type: text/html\r\n\r\n<BODY>\r\n<b>rich</b>\r\n</BODY>\r\n",
        b'Content-Type: text/html;\r\n\tcharset="us-ascii"\r\n\r\n'
        b"<BODY>\r\n<b>rich</b>\r\n\r\nbottom html</BODY>\r\n",
    )


async def test_text_is_not_appended_where_there_is_none(policy: MakePolicy, msg: Message) -> None:
    msg.set_data(b"Content-Type: image/png\r\n\r\npng\r\n")
    before = msg.data
    assert await run(policy, "return { msg:append_text_plain 'x', msg:append_text_html 'x' }", msg) == [
        False,
        False,
    ]
    assert msg.data == before


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("kumo.mimepart.parse ' folded before it began\\r\\n'", "must not start with spaces"),
        ("kumo.mimepart.parse 'héader: x\\r\\n'", "printable US-ASCII"),
        ("kumo.mimepart.new_text('plain', 'x')", "'plain' is not type/subtype"),
        ("kumo.mimepart.new_text_plain '\\xff'", "UTF-8"),
        ("kumo.mimepart.new_binary('a/b', '', { filename = 'x' })", "did you mean 'file_name'?"),
        ("kumo.mimepart.new_multipart('multipart/mixed', { 'x' })", "[1] must be a mimepart"),
        ("kumo.mimepart.builder():build()", "plain text or HTML"),
        ("kumo.mimepart.parse('\\r\\nx'):append_part('x')", "must be a mimepart"),
        (
            "local p = kumo.mimepart.new_text_plain 'x' for _ = 1, 40 do p:append_part(p) end",
            "more than 5000 parts",
        ),
        (
            "local p = kumo.mimepart.new_text_plain 'x' p:append_part(p) tostring(p)",
            "no Content-Type with a boundary",
        ),
        (
            "return kumo.mimepart.parse('Content-Transfer-Encoding: base64\\r\\n\\r\\nhello').body",
            "base64 decode",
        ),
        ("msg:parse_mime().body = nil", "mimepart.body: must be a string, got nil"),
        ("msg:append_text_plain()", "argument 'content' must be a string"),
    ],
)
async def test_what_is_wrong_is_said(policy: MakePolicy, msg: Message, code: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code, msg)
    assert problem in str(caught.value)
    assert "policy.lua:3" in str(caught.value)
