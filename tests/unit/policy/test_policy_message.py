"""Messages and connections as a policy sees them."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import pytest
from policy_host import SPOOLED

from kumo_py.core.policy import PolicyError
from kumo_py.message.connection import ConnectionMeta
from kumo_py.message.message import Message

if TYPE_CHECKING:
    from policy_host import MakePolicy, RecordingHost


async def run(policy: MakePolicy, code: str, msg: Message, conn: ConnectionMeta | None = None) -> object:
    """The result of Lua code with `msg` and `conn`."""
    lua = policy(f"kumo.on('mine', function(msg, conn)\n{code}\nend)")
    await lua.load()
    return await lua.ask("mine", msg, conn or ConnectionMeta())


async def test_metadata_holds_what_json_can_say(policy: MakePolicy, msg: Message) -> None:
    result = await run(
        policy,
        """
        msg:set_meta('text', 'é')
        msg:set_meta('int', 5)
        msg:set_meta('float', 0.5)
        msg:set_meta('bool', false)
        msg:set_meta('nothing', nil)
        msg:set_meta('list', { 1, { a = 'b' }, {} })
        msg:set_meta('map', { [1.5] = 'x', [true] = 'y', z = {} })
        msg:set_meta('address', msg:sender())
        msg:set_meta('config', kumo.make_egress_pool { name = 'p' })
        local list = msg:get_meta 'list'
        return {
          msg:get_meta 'text', msg:get_meta 'int', math.type(msg:get_meta 'int'), msg:get_meta 'float',
          tostring(msg:get_meta 'bool'), tostring(msg:get_meta 'nothing'), tostring(msg:get_meta 'absent'),
          #list, list[2].a, msg:get_meta('map').z,
        }
        """,
        msg,
    )
    assert result == ["é", 5, "integer", 0.5, "false", "nil", "nil", 3, "b", {}]
    assert msg.meta == {
        "text": "é",
        "int": 5,
        "float": 0.5,
        "bool": False,
        "nothing": None,
        "list": [1, {"a": "b"}, {}],
        "map": {"1.5": "x", "true": "y", "z": {}},
        "address": "sender@example.com",
        "config": {"name": "p", "entries": [], "ttl": "1m"},
    }
    assert not msg.meta_saved


async def test_metadata_that_is_not_text_becomes_bytes_as_in_kumomta(
    policy: MakePolicy, msg: Message
) -> None:
    await run(policy, r"msg:set_meta('latin1', '\xe9')", msg)
    assert msg.meta == {"latin1": [0xE9]}


async def test_lists_stay_lists_even_when_empty(policy: MakePolicy, msg: Message) -> None:
    msg.meta["empty"] = []
    await run(policy, "msg:set_meta('copy', msg:get_meta 'empty') msg:set_meta('new', {})", msg)
    assert msg.meta == {"empty": [], "copy": [], "new": {}}


async def test_integers_beyond_lua_become_floats(policy: MakePolicy, msg: Message) -> None:
    msg.meta["big"] = 2**70
    assert await run(policy, "return msg:get_meta 'big'", msg) == 2.0**70


async def test_metadata_set_before_an_error_stays(policy: MakePolicy, msg: Message) -> None:
    with pytest.raises(PolicyError):
        await run(policy, "msg:set_meta('reason', 'bad') error 'x'", msg)
    assert msg.meta == {"reason": "bad"}


async def test_the_envelope(policy: MakePolicy, msg: Message) -> None:
    result = await run(
        policy,
        """
        local before = { msg:id(), msg:sender().email, msg:recipient().domain, msg:queue_name(), #msg:recipient_list() }
        msg:set_sender ''
        msg:set_recipient { 'a@example.net', '<b@example.net>' }
        local several = msg:recipient()
        msg:set_meta('tenant', 't')
        return {
          before, msg:sender().email, msg:sender().domain, several[2].user, type(several), type(several[1]),
          tostring(several[1]), several[1].email, msg:queue_name(), msg:num_attempts(),
        }
        """,
        msg,
    )
    assert result == [
        [msg.id.hex(), "sender@example.com", "example.org", "example.org", 1],
        "", "", "b", "table", "userdata", "a@example.net", "a@example.net", "t@example.net", 0,
    ]  # fmt: skip
    assert (msg.sender, msg.recipients) == ("", ("a@example.net", "b@example.net"))


async def test_an_address_object_is_as_good_as_a_string(policy: MakePolicy, msg: Message) -> None:
    await run(policy, "msg:set_recipient(msg:sender()) msg:set_sender(msg:recipient_list()[1])", msg)
    assert (msg.sender, msg.recipients) == ("sender@example.com", ("sender@example.com",))


async def test_the_postmaster_and_quoted_addresses(policy: MakePolicy, msg: Message) -> None:
    msg.recipients = ("Postmaster", '"a@b"@[192.0.2.1]')
    result = await run(
        policy,
        "local a, b = table.unpack(msg:recipient()) return { a.user, a.domain, b.user, b.domain, b.email }",
        msg,
    )
    assert result == ["postmaster", "", "a@b", "[192.0.2.1]", '"a@b"@[192.0.2.1]']


async def test_a_message_without_recipients_has_no_recipient(policy: MakePolicy, msg: Message) -> None:
    msg.recipients = ()
    assert await run(policy, "return { msg:recipient() == nil, #msg:recipient_list() }", msg) == [True, 0]


async def test_a_bad_queue_meta_is_an_error(policy: MakePolicy, msg: Message) -> None:
    with pytest.raises(PolicyError, match="metadata 'queue' must be a string, got int 5"):
        await run(policy, "msg:set_meta('queue', 5) msg:queue_name()", msg)


async def test_due_and_attempts(policy: MakePolicy, msg: Message) -> None:
    result = await run(
        policy,
        "msg:increment_num_attempts() return { msg:set_due '2026-08-04T14:00:00+02:00', msg:num_attempts() }",
        msg,
    )
    assert result == ["2026-08-04T12:00:00Z", 1]
    assert msg.due == 1785844800.0
    await run(policy, "msg:set_due(nil)", msg)
    assert msg.due == 0.0


async def test_headers_are_added_read_and_removed(policy: MakePolicy, msg: Message) -> None:
    result = await run(
        policy,
        r"""
        msg:append_header('X-Last', 'end')
        msg:prepend_header('X-Tag', 'é', true)
        msg:prepend_header('X-Tag', 'raw\r\n\tfolded')
        return {
          msg:get_first_named_header_value 'x-tag', msg:get_all_named_header_values 'X-TAG',
          tostring(msg:get_first_named_header_value 'absent'), msg:get_all_named_header_values 'absent',
          msg:get_all_headers()[3],
        }
        """,
        msg,
    )
    assert result == ["raw folded", ["raw folded", "é"], "nil", [], ["From", "Me <me@example.com>"]]
    assert msg.data == (
        b"X-Tag: raw\r\n\tfolded\r\nX-Tag: =?UTF-8?q?=C3=A9?=\r\n"
        b"From: Me <me@example.com>\r\nSubject: hello\r\nX-Last: end\r\n\r\nbody\r\n"
    )
    assert msg.size == len(msg.data)
    await run(policy, "msg:remove_all_named_headers 'X-TAG' msg:remove_x_headers { 'subject' }", msg)
    assert msg.data == b"From: Me <me@example.com>\r\nX-Last: end\r\n\r\nbody\r\n"
    await run(policy, "msg:remove_x_headers()", msg)
    assert msg.data == b"From: Me <me@example.com>\r\n\r\nbody\r\n"


async def test_removing_what_is_not_there_changes_nothing(policy: MakePolicy, msg: Message) -> None:
    msg.data_saved = True
    await run(policy, "msg:remove_x_headers() msg:remove_all_named_headers 'absent'", msg)
    assert msg.data_saved


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", r"a\r\nX-B: b"),
        ("X-A", r"a\nb"),
        ("X-A", r"a\rb"),
        ("X-A", r"a\0b"),
        ("X-A", r"a\r\n\r\nbody"),
        ("X-A", r"a\r\n \r\n b"),
        (r"X-A\r\nX-B", "b"),
        ("X A", "b"),
        ("X-A:", "b"),
        ("", "b"),
        ("é", "b"),
    ],
)
@pytest.mark.parametrize("how", ["append_header", "prepend_header"])
@pytest.mark.parametrize("encode", ["true", "false"])
async def test_nothing_slips_into_the_header(
    policy: MakePolicy, msg: Message, name: str, value: str, how: str, encode: str
) -> None:
    before = msg.data
    with pytest.raises(PolicyError, match="header"):
        await run(policy, f'msg:{how}("{name}", "{value}", {encode})', msg)
    assert msg.data == before


async def test_x_headers_become_metadata(policy: MakePolicy, msg: Message) -> None:
    msg.set_data(b"X-One: 1\r\nx-Two-Words: =?utf-8?q?=C3=A9?=\r\nX-One: last\r\nOther: o\r\n\r\n")
    await run(policy, "msg:import_x_headers()", msg)
    assert msg.meta == {"x_one": "last", "x_two_words": "é"}
    await run(policy, "msg:import_x_headers { 'OTHER', 'absent' }", msg)
    assert msg.meta["other"] == "o"


async def test_address_headers(policy: MakePolicy, msg: Message) -> None:
    msg.set_data(
        b'From: "John Smith" <john@example.com>\r\nTo: team: a@example.com, b@example.com;, "c@" <"c@"@example.com>\r\n'
        b"Cc: nobody\r\n\r\n"
    )
    result = await run(
        policy,
        """
        local from, to = msg:from_header(), msg:to_header()
        local emails = {}
        for _, one in ipairs(to.list) do emails[#emails + 1] = one.email end
        return {
          from.user, from.domain, from.email, from.name, tostring(from), #from.list, emails, tostring(to.list[3]),
          tostring(to.list[1].name), tostring(msg:get_address_header 'Bcc'), type(from), type(from.list[1]),
          (select(2, pcall(function() return to.user end)):gsub('^.-: ', '')),
          (select(2, pcall(msg.get_address_header, msg, 'Cc')):gsub('^.-: ', '')),
        }
        """,
        msg,
    )
    assert result == [
        "john",
        "example.com",
        "john@example.com",
        "John Smith",
        '[{"Address":{"name":"John Smith","address":"john@example.com"}}]',
        1,
        ["a@example.com", "b@example.com", '"c@"@example.com'],
        '{"name":"c@","address":"\\"c@\\"@example.com"}',
        "nil",
        "nil",
        "userdata",
        "userdata",
        "the header has several addresses: use its list",
        "message:get_address_header: not a list of addresses: 'nobody' is not local-part@domain",
    ]


async def test_binary_content_comes_and_goes_as_it_is(policy: MakePolicy, msg: Message) -> None:
    every_byte = bytes(range(256))
    msg.set_data(b"X: \xff\xfe\r\n\r\n" + every_byte)
    await run(policy, "msg:set_data(msg:get_data() .. msg:get_first_named_header_value 'x')", msg)
    assert msg.data == b"X: \xff\xfe\r\n\r\n" + every_byte + b"\xff\xfe"


async def test_a_message_in_the_spool_is_loaded_when_needed(policy: MakePolicy, host: RecordingHost) -> None:
    msg = Message.from_spool(bytes(16))
    result = await run(
        policy,
        "return { msg:sender().email, msg:queue_name(), msg:get_first_named_header_value 'subject' }",
        msg,
    )
    assert result == ["from@spool.example", "spool.example", "from the spool"]
    assert host.calls == [("load_message", msg.id)]


async def test_content_is_loaded_only_for_methods_that_need_it(
    policy: MakePolicy, host: RecordingHost, msg: Message
) -> None:
    msg.data_saved = True
    msg.shrink_data()
    await run(policy, "msg:set_meta('a', msg:get_meta 'b') msg:sender() msg:id()", msg)
    assert host.calls == []
    await run(policy, "local ok, data = pcall(msg.get_data, msg) msg:set_meta('data', data)", msg)
    assert host.calls == [("load_message", msg.id)]
    assert msg.meta["data"] == SPOOLED.decode()


async def test_a_message_that_cannot_be_loaded_is_an_error_at_its_line(
    policy: MakePolicy, host: RecordingHost, msg: Message
) -> None:
    async def fail(msg: Message) -> None:
        raise KeyError(msg.id.hex())

    host.load_message = fail
    msg.data_saved = True
    msg.shrink_data()
    with pytest.raises(
        PolicyError, match=rf"policy\.lua:3: message {msg.id.hex()}: there is no {msg.id.hex()}"
    ):
        await run(policy, "msg:get_data()", msg)
    with pytest.raises(PolicyError, match=f"mine: cannot load message {'0' * 32}: there is no"):
        await run(policy, "msg:id()", Message.from_spool(bytes(16)))


async def test_connection_metadata_is_shared_with_the_session(policy: MakePolicy, msg: Message) -> None:
    conn = ConnectionMeta({"received_via": "esmtp"})
    result = await run(
        policy, "conn:set_meta('seen', { true }) return { conn:get_meta 'received_via', conn:get_meta 'x' == nil }",
        msg, conn,
    )  # fmt: skip
    assert result == ["esmtp", True]
    assert conn.values == {"received_via": "esmtp", "seen": [True]}


async def test_a_message_is_the_policys_for_one_event(policy: MakePolicy, msg: Message) -> None:
    lua = policy("""
        kumo.on('keep', function(msg) kept = msg end)
        kumo.on('use', function() kept:set_meta('late', 1) end)
        kumo.on('read', function() kept:get_data() end)
    """)
    await lua.load()
    await lua.ask("keep", msg)
    for event in ("use", "read"):
        with pytest.raises(
            PolicyError, match=r"policy\.lua:\d: message:\w+: the event that it was given to is over"
        ):
            await lua.ask(event)


async def test_no_message_outlives_its_event_in_lua(policy: MakePolicy) -> None:
    lua = policy("""
        kumo.on('smtp_server_message_received', function(msg) kept = msg msg:get_data() end)
        kumo.on('requeue_message', function(msg) kept = msg return msg end)
    """)
    await lua.load()
    gone = []
    for ask in (
        lambda msg: lua.ask("smtp_server_message_received", msg, ConnectionMeta()),
        lambda msg: lua.ask("requeue_message", msg, "451", [], True, None),
    ):
        msg = Message(bytes(16), "a@example.com", ("b@example.com",), {}, b"x" * 100_000)
        await ask(msg)
        gone.append(weakref.ref(msg))
    del msg
    assert [one() for one in gone] == [None, None]
