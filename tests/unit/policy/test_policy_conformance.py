"""msg:check_fix_conformance in a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.message.connection import ConnectionMeta

if TYPE_CHECKING:
    from policy_host import MakePolicy
    from trio.testing import MockClock

    from kumo_py.message.message import Message


async def run(policy: MakePolicy, msg: Message, body: str) -> None:
    lua = policy(f"kumo.on('smtp_server_message_received', function(msg)\n{body}\nend)")
    await lua.load()
    await lua.ask("smtp_server_message_received", msg, ConnectionMeta({}))


async def test_a_policy_refuses_what_it_does_not_want(policy: MakePolicy, msg: Message) -> None:
    before = msg.data
    with pytest.raises(Rejection) as caught:
        await run(
            policy,
            msg,
            """
            local failed = msg:check_fix_conformance('MISSING_MIME_VERSION|MISSING_DATE_HEADER', '')
            if failed then kumo.reject(552, '5.6.0 ' .. failed) end
            """,
        )
    assert caught.value.text == (
        "5.6.0 Message has conformance issues: MISSING_DATE_HEADER|MISSING_MIME_VERSION"
    )
    assert msg.data is before


async def test_a_policy_repairs_what_is_missing(
    policy: MakePolicy, autojump_clock: MockClock, msg: Message
) -> None:
    fixes = "MISSING_DATE_HEADER|MISSING_MESSAGE_ID_HEADER|MISSING_MIME_VERSION"
    await run(policy, msg, f"assert(msg:check_fix_conformance('MISSING_DATE_HEADER', '{fixes}') == nil)")
    assert msg.data == (
        b"From: Me <me@example.com>\r\nSubject: hello\r\nDate: Fri, 15 Jan 2027 08:00:00 +0000\r\n"
        b"Mime-Version: 1.0\r\nMessage-ID: <%b@example.com>\r\n\r\nbody\r\n" % msg.id.hex().encode()
    )
    assert not msg.data_saved
    before = msg.data
    await run(policy, msg, f"assert(msg:check_fix_conformance('', '{fixes}', nil) == nil)")
    assert msg.data is before


async def test_the_null_senders_message_id_has_a_domain(policy: MakePolicy, msg: Message) -> None:
    msg.set_envelope("", msg.recipients)
    await run(policy, msg, "msg:check_fix_conformance('', 'MISSING_MESSAGE_ID_HEADER')")
    assert b"Message-ID: <%b@mx.example.com>" % msg.id.hex().encode() in msg.data


async def test_settings(policy: MakePolicy, msg: Message) -> None:
    msg.set_data(b"Subject: \xa3\r\n\r\nGBP\r\n")
    await run(
        policy,
        msg,
        """
        local settings = {
          detect_encoding = true, include_encodings = { 'iso-8859-1' }, exclude_encodings = {}, message_id = 'a@b.test',
        }
        assert(not msg:check_fix_conformance('', 'NEEDS_TRANSFER_ENCODING|MISSING_MESSAGE_ID_HEADER', settings))
        assert(msg:get_first_named_header_value('subject') == '£')
        """,
    )
    assert b"Message-ID: <a@b.test>\r\n" in msg.data


async def test_what_cannot_be_parsed_is_a_reason_to_refuse(policy: MakePolicy, msg: Message) -> None:
    msg.set_data(b" leading space\r\n\r\n")
    await run(
        policy,
        msg,
        "assert(msg:check_fix_conformance('', ''):find('header block must not start with spaces', 1, true))",
    )


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("'MISSING_DATE', ''", "invalid MessageConformance flag 'MISSING_DATE'"),
        (
            "'', 'LINE_TO_LONG'",
            "invalid MessageConformance flag 'LINE_TO_LONG', did you mean 'LINE_TOO_LONG'?",
        ),
        ("''", "argument 'fixes' must be a string, got nil"),
        ("'', '', { detect = true }", "unknown option 'detect'"),
        ("'', '', { detect_encoding = 1 }", "option 'detect_encoding' must be true or false, got integer 1"),
    ],
)
async def test_arguments_are_checked(policy: MakePolicy, msg: Message, call: str, error: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, msg, f"msg:check_fix_conformance({call})")
    assert "policy.lua:3: message:check_fix_conformance: " in str(caught.value)
    assert error in str(caught.value)
