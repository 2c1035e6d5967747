"""The kinds `headermap` and `header`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from policy_host import MakePolicy


async def run(policy: MakePolicy, code: str) -> Any:
    lua = policy(
        f"kumo.on('mine', function()\nlocal headers = kumo.mimepart.new_text_plain('Hello!').headers\n{code}\nend)"
    )
    await lua.load()
    try:
        return await lua.ask("mine")
    finally:
        lua.close()


async def test_headers_are_added_iterated_and_removed(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        headers:prepend('X-Woot', 'Woot')
        headers:prepend('To', '"John Smith" <john.smith@example.com>')
        headers:append('x-woot', 'Grüße')
        local before = tostring(headers)
        local all, named = {}, {}
        for hdr in headers:iter() do table.insert(all, { hdr.name, hdr.value }) end
        for hdr in headers:iter 'X-WOOT' do table.insert(named, hdr.unstructured) end
        headers:remove_all_named 'X-Woot'
        return { before, all, named, headers:get_first_named 'x-woot' == nil,
                 tostring(headers:get_first_named 'to'), headers:get_first_named('TO').name }
        """,
    )
    assert result == [
        'To: "John Smith" <john.smith@example.com>\r\nX-Woot: Woot\r\n'
        'Content-Type: text/plain;\r\n\tcharset="us-ascii"\r\nx-woot: =?UTF-8?q?Gr=C3=BC=C3=9Fe?=\r\n',
        [
            [
                "To",
                [{"name": "John Smith", "address": {"local_part": "john.smith", "domain": "example.com"}}],
            ],
            ["X-Woot", "Woot"],
            ["Content-Type", {"value": "text/plain", "parameters": {"charset": "us-ascii"}}],
            ["x-woot", "Grüße"],
        ],
        ["Woot", "Grüße"],
        True,
        'To: "John Smith" <john.smith@example.com>\r\n',
        "To",
    ]


async def test_long_values_are_folded(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        headers:prepend('X-Long', string.rep('A', 1500))
        headers:append('X-Words', string.rep('hello there ', 10))
        return { headers:get_first_named('X-Long').raw_value, headers:get_first_named('X-Words').raw_value }
        """,
    )
    assert result == [
        "A" * 900 + "\r\n\t" + "A" * 600,
        "hello there " * 5 + "hello there\r\n\t" + "hello there " * 3 + "hello there",
    ]


MAILBOX = {"address": {"local_part": "user", "domain": "host"}}
GROUP = {"name": "G", "entries": [MAILBOX]}
PARAMS = {"value": "a/b", "parameters": {"x": "y z"}}
INLINE: dict[str, object] = {"value": "inline", "parameters": {}}
SEVEN_BIT: dict[str, object] = {"value": "7bit", "parameters": {}}


@pytest.mark.parametrize(
    ("get", "put", "name", "raw", "value"),
    [
        ("headers:from()", "headers:set_from", "From", "user@host", [MAILBOX]),
        ("headers:resent_from()", "headers:set_resent_from", "Resent-From", "user@host", [MAILBOX]),
        ("headers:to()", "headers:set_to", "To", "G: user@host;", [GROUP]),
        ("headers:reply_to()", "headers:set_reply_to", "Reply-To", "user@host", [MAILBOX]),
        ("headers:cc()", "headers:set_cc", "Cc", "user@host", [MAILBOX]),
        ("headers:bcc()", "headers:set_bcc", "Bcc", "user@host", [MAILBOX]),
        ("headers:resent_to()", "headers:set_resent_to", "Resent-To", "user@host", [MAILBOX]),
        ("headers:resent_cc()", "headers:set_resent_cc", "Resent-Cc", "user@host", [MAILBOX]),
        ("headers:resent_bcc()", "headers:set_resent_bcc", "Resent-Bcc", "user@host", [MAILBOX]),
        ("headers:sender()", "headers:set_sender", "Sender", "<user@host>", MAILBOX),
        ("headers:resent_sender()", "headers:set_resent_sender", "Resent-Sender", "<user@host>", MAILBOX),
        ("headers:message_id()", "headers:set_message_id", "Message-ID", "<id@b>", "id@b"),
        ("headers:content_id()", "headers:set_content_id", "Content-ID", "<id@b>", "id@b"),
        ("headers:references()", "headers:set_references", "References", "<a@b> <c@d>", ["a@b", "c@d"]),
        ("headers:content_type()", "headers:set_content_type", "Content-Type", 'a/b; x="y z"', PARAMS),
        (
            "headers:content_disposition()",
            "headers:set_content_disposition",
            "Content-Disposition",
            "inline",
            INLINE,
        ),
        (
            "headers:content_transfer_encoding()",
            "headers:set_content_transfer_encoding",
            "Content-Transfer-Encoding",
            "7bit",
            SEVEN_BIT,
        ),
        ("headers:subject()", "headers:set_subject", "Subject", "=?UTF-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("headers:comments()", "headers:set_comments", "Comments", "none", "none"),
        ("headers:mime_version()", "headers:set_mime_version", "Mime-Version", "1.0", "1.0"),
    ],
)  # fmt: skip
async def test_known_headers_have_methods(
    policy: MakePolicy, get: str, put: str, name: str, raw: str, value: object
) -> None:
    """Given text, the header is that text; given what was read of it, it says the same again."""
    result = await run(
        policy,
        f"""
        headers:remove_all_named '{name}'
        local before = {get}
        {put}('{raw}')
        local found, header = {get}, headers:get_first_named '{name}'
        {put}(type(found) == 'table' and found or '{raw}')
        return {{ before == nil, found, header.name, header.raw_value, {get} }}
        """,
    )
    assert result == [True, value, name, raw, value]


async def test_tables_are_written_as_headers(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local smith = { name = 'Smith [x]', address = { local_part = 'some one', domain = 'example.com' } }
        local plain = { address = { local_part = 'plain', domain = 'example.com' } }
        headers:set_to { smith, { name = 'The A Team', entries = { plain, smith } } }
        headers:set_from { { name = 'André', address = plain.address } }
        headers:set_content_type { value = 'text/html', parameters = { charset = 'utf-8', extra = 'a dash' } }
        headers:set_references { 'a@b', 'c@d' }
        return { headers:get_first_named('to').raw_value, headers:get_first_named('from').raw_value,
                 tostring(headers:get_first_named 'content-type'), headers:get_first_named('references').raw_value }
        """,
    )
    smith = '"Smith [x]" <"some one"@example.com>'
    assert result == [
        f"{smith},\r\n\tThe A Team:<plain@example.com>,\r\n\t{smith};",
        "=?UTF-8?q?Andr=C3=A9?= <plain@example.com>",
        'Content-Type: text/html;\r\n\tcharset="utf-8";\r\n\textra="a dash"\r\n',
        "<a@b>\r\n\t<c@d>",
    ]


async def test_a_header_can_be_read_as_what_its_name_does_not_say(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local function header(value)
          return kumo.mimepart.parse('X: ' .. value .. '\r\n\r\n').headers:get_first_named 'X'
        end
        local results = header('mx.example; spf=pass reason="good one" smtp.mailfrom=a@b').authentication_results
        return {
          header('a@b, c@d').mailbox_list[2].address.domain, header('g: a@b;').address_list[1].name,
          header('<id@b>').message_id, header('<a@b> <c@d>').message_id_list,
          header("attachment; filename*0*=utf-8''%C3%BC; filename*1=.txt").mime_params, results,
          header('=?utf-8?q?=C3=BC?=').raw_value, header('  x\r\n\ty').unstructured, header('x').value,
        }
        """,
    )
    assert result == [
        "d",
        "g",
        "id@b",
        ["a@b", "c@d"],
        {"value": "attachment", "parameters": {"filename": "ü.txt"}},
        {
            "serv_id": "mx.example",
            "results": [
                {"method": "spf", "result": "pass", "reason": "good one", "props": {"smtp.mailfrom": "a@b"}}
            ],
        },
        "=?utf-8?q?=C3=BC?=",
        "x y",
        "x",
    ]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("headers:set_message_id 'missing.angles@example.com'", "invalid header 'Message-ID'"),
        ("headers:set_from 'g: a@b;'", "there is a group"),
        ("headers:set_to { { name = 'x', adress = {} } }", "did you mean 'address'?"),
        (
            "headers:set_to { { address = { local_part = 'a', domain = 'b\\r\\nBcc: c@d' } } }",
            "is not a domain",
        ),
        (
            "headers:set_sender(true)",
            "argument 'value' must be a string or a table (Mailbox), got boolean true",
        ),
        ("headers:append('X Y', 'z')", "not a header name"),
        ("headers:append('X', 'a\\r\\nBcc: b@c')", "CR or LF"),
        ("headers:set_subject()", "argument 'value'"),
        ("headers:set_content_type { value = 'a/b', parameters = { x = 'a\\r\\nb' } }", "CR or LF"),
        ("headers:append('To', 'none') local x = headers:to()", "invalid header 'To'"),
        (
            "return kumo.mimepart.parse('S: \\xff\\r\\n\\r\\n').headers:get_first_named('S').unstructured",
            "UTF-8",
        ),
    ],
)
async def test_what_is_wrong_is_said(policy: MakePolicy, code: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code)
    assert problem in str(caught.value)
    assert "policy.lua:4" in str(caught.value)
