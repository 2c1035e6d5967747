"""Registering handlers, calling them, and what their results mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import Disconnect, PolicyError, Rejection
from kumo_py.message.connection import ConnectionMeta
from kumo_py.queue.config import EgressPool, PoolEntry, QueueConfig
from kumo_py.smtp_in.params import ListenerDomain, ListenerOverrides

if TYPE_CHECKING:
    from policy_host import MakePolicy

    from kumo_py.message.message import Message


async def test_an_event_without_handler_has_no_result(policy: MakePolicy) -> None:
    lua = policy("")
    await lua.load()
    assert not lua.handles("get_queue_config")
    assert await lua.ask("get_queue_config", "example.com", None, None, None) is None


async def test_handlers_get_what_the_event_declares(policy: MakePolicy, msg: Message) -> None:
    lua = policy("""
        kumo.on('get_queue_config', function(...)
          kumo.log_info(select('#', ...), ...)
        end)
        kumo.on('smtp_server_mail_from', function(sender, conn)
          kumo.log_info(sender.user, sender.domain, sender.email, sender, conn:get_meta 'received_from')
        end)
        kumo.on('smtp_server_ehlo', function(...)
          local domain, conn, extensions = ...
          kumo.log_info(select('#', ...), domain, extensions and extensions[2])
          return { 'SIZE', 'PIPELINING' }
        end)
        kumo.on('requeue_message', function(msg, response, context, increment, delay)
          kumo.log_info(msg:id(), response, context[1], increment, delay, delay.seconds)
        end)
    """)
    await lua.load()
    conn = ConnectionMeta({"received_from": "192.0.2.1:5"})
    await lua.ask("get_queue_config", "example.com", "tenant", None, None)
    await lua.ask("smtp_server_mail_from", '"a b"@example.com', conn)
    await lua.ask("smtp_server_mail_from", "", conn)
    assert await lua.ask("smtp_server_ehlo", "there", conn, ["A", "B"]) == ["SIZE", "PIPELINING"]
    await lua.ask("smtp_server_ehlo", "there", conn)
    await lua.ask("requeue_message", msg, "451 later", ["Retry"], True, 90.0)
    assert [line.partition(": ")[2] for line in lua.env.host.named("info")] == [
        "4 example.com tenant nil nil",
        'a b example.com "a b"@example.com "a b"@example.com 192.0.2.1:5',
        "    192.0.2.1:5",
        "3 there B",
        "2 there nil",
        f"{msg.id.hex()} 451 later Retry true 1m 30s 90.0",
    ]


async def test_a_chain_goes_on_only_after_no_value_at_all(policy: MakePolicy) -> None:
    lua = policy("""
        kumo.on('get_queue_config', function(domain) kumo.log_info 'first' end)
        kumo.on('get_queue_config', function(domain)
          kumo.log_info 'second'
          if domain == 'nil.example' then return nil end
          if domain == 'set.example' then return kumo.make_queue_config { max_age = '1 hour' } end
        end)
        kumo.on('get_queue_config', function(domain)
          kumo.log_info 'third'
          return kumo.make_queue_config { max_age = 5 }
        end)
    """)
    await lua.load()

    async def ask(domain: str) -> tuple[object, list[str]]:
        lua.env.host.calls.clear()
        result = await lua.ask("get_queue_config", domain, None, None, None)
        return result, [line.partition(": ")[2] for line in lua.env.host.named("info")]

    assert await ask("set.example") == (QueueConfig(max_age=3600.0), ["first", "second"])
    assert await ask("other.example") == (QueueConfig(max_age=5.0), ["first", "second", "third"])
    with pytest.raises(
        PolicyError, match=r"handler at policy\.lua:4 must be what .*make_queue_config .* nil"
    ):
        await ask("nil.example")


async def test_a_chain_whose_handlers_return_nothing_has_no_result(policy: MakePolicy) -> None:
    lua = policy("""
        kumo.on('get_queue_config', function() end)
        kumo.on('get_queue_config', function() end)
    """)
    await lua.load()
    assert await lua.ask("get_queue_config", "example.com", None, None, None) is None


@pytest.mark.parametrize("event", ["init", "get_egress_path_config", "an_event_of_my_own"])
async def test_a_second_handler_of_a_single_event_is_an_error(policy: MakePolicy, event: str) -> None:
    lua = policy(f"kumo.on('{event}', function() end)\n\nkumo.on('{event}', function() end)")
    with pytest.raises(PolicyError) as caught:
        await lua.load()
    assert f"policy.lua:4: the event '{event}' has a handler already, at policy.lua:2" in str(caught.value)


async def test_handlers_are_not_registered_in_handlers(policy: MakePolicy) -> None:
    lua = policy("kumo.on('init', function()\n kumo.on('later', print)\nend)")
    await lua.load()
    with pytest.raises(
        PolicyError, match=r"policy\.lua:3: kumo\.on\('later'\) .*handler of 'init'.*top level"
    ):
        await lua.ask("init")


async def test_a_script_registers_handlers_in_main(policy: MakePolicy) -> None:
    lua = policy("kumo.on('main', function(name) kumo.on('later', print) kumo.log_info(name) end)")
    await lua.load()
    await lua.ask("main", "argument")
    assert lua.env.host.calls == [("info", "policy.lua:2: argument")]


@pytest.mark.parametrize("call", ["kumo.on('init')", "kumo.on(init, print)", "kumo.on('init', {})"])
async def test_kumo_on_says_what_it_takes(policy: MakePolicy, call: str) -> None:
    lua = policy(call)
    with pytest.raises(
        PolicyError, match=r"policy\.lua:2: kumo\.on takes the name of an event and a function"
    ):
        await lua.load()


@pytest.mark.parametrize(
    ("call", "code", "disconnect"),
    [
        ("kumo.reject(550, 'not here')", 550, Disconnect.NO),
        ("kumo.reject(421, 'not here')", 421, Disconnect.NO),
        ("return kumo.reject(550.0 // 1 | 0, 'not here')", 550, Disconnect.NO),
        ("kumo.disconnect(451, 'not here')", 451, Disconnect.FORCE_DISCONNECT),
        ("kumo.disconnect(451, 'not here', 'FollowWith421')", 451, Disconnect.FOLLOW_WITH_421),
        ("kumo.disconnect(451, 'not here', 'If421')", 451, Disconnect.NO),
        ("local ok, err = pcall(kumo.reject, 550, 'not here') error(err)", 550, Disconnect.NO),
        ("coroutine.wrap(function() kumo.reject(550, 'not here') end)()", 550, Disconnect.NO),
    ],
)
async def test_a_rejection_arrives_whole(
    policy: MakePolicy, msg: Message, call: str, code: int, disconnect: Disconnect
) -> None:
    lua = policy(f"kumo.on('smtp_server_message_received', function(msg) {call} end)")
    await lua.load()
    for _ in range(2):
        with pytest.raises(Rejection) as caught:
            await lua.ask("smtp_server_message_received", msg, ConnectionMeta())
        rejection = caught.value
        assert (rejection.code, rejection.text, rejection.disconnect) == (code, "not here", disconnect)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("kumo.reject('no', 'x')", "kumo.reject: the code must be an integer from 200 to 599, got no"),
        ("kumo.reject(99, 'x')", "kumo.reject: the code must be an integer from 200 to 599, got 99"),
        ("kumo.reject(550)", "kumo.reject: the message must be a string, got nil"),
        ("kumo.disconnect(550, 'x', 'Never')", "or 'ForceDisconnect', got Never"),
    ],
)
async def test_a_wrong_rejection_says_what_would_be_right(
    policy: MakePolicy, call: str, problem: str
) -> None:
    lua = policy(f"kumo.on('init', function()\n  {call}\nend)")
    await lua.load()
    with pytest.raises(PolicyError) as caught:
        await lua.ask("init")
    assert "policy.lua:3: kumo." in str(caught.value)
    assert problem in str(caught.value)


async def test_a_rejection_in_lua_is_userdata_that_reads_as_the_reply(policy: MakePolicy) -> None:
    lua = policy("""
        kumo.on('init', function()
          local ok, err = pcall(kumo.reject, 550, 'no')
          kumo.log_info(type(err), err)
        end)
    """)
    await lua.load()
    await lua.ask("init")
    assert lua.env.host.named("info") == ["policy.lua:5: userdata 550 no"]


async def test_results_are_what_the_event_declares(policy: MakePolicy, msg: Message) -> None:
    lua = policy("""
        kumo.on('get_listener_domain', function(domain, listener, conn)
          if domain == 'none.example' then return nil end
          return kumo.make_listener_domain { relay_to = true }
        end)
        kumo.on('smtp_server_get_dynamic_parameters', function() return { banner = 'hi' } end)
        kumo.on('smtp_server_split_transaction', function(msg)
          return { { msg:recipient() }, { 'x@example.net', msg:sender() } }
        end)
        kumo.on('smtp_server_auth_plain', function(authz, authc, password)
          if authc == 'admin' then
            return { identities = { { identity = authc, context = 'SmtpAuthPlainAuthorization' } } }
          end
          return password == 'secret'
        end)
        kumo.on('smtp_server_rewrite_response', function(status, response, command)
          if status == 250 then return end
          if status == 550 then return 551 end
          return nil, response:upper()
        end)
        kumo.on('get_egress_pool', function(name)
          return kumo.make_egress_pool { name = name, entries = { { name = 'a' }, { name = 'b', weight = 2 } } }
        end)
        kumo.on('smtp_client_rewrite_delivery_status', function() return 450 end)
    """)
    await lua.load()
    conn = ConnectionMeta()
    assert await lua.ask("get_listener_domain", "example.com", "0.0.0.0:25", conn) == ListenerDomain(
        relay_to=True
    )
    assert await lua.ask("get_listener_domain", "none.example", "0.0.0.0:25", conn) is None
    overrides = await lua.ask("smtp_server_get_dynamic_parameters", "0.0.0.0:25", conn)
    assert overrides == ListenerOverrides(banner="hi")
    assert await lua.ask("smtp_server_split_transaction", msg, conn) == [
        ["user@example.org"],
        ["x@example.net", "sender@example.com"],
    ]
    assert await lua.ask("smtp_server_auth_plain", "u", "u", "secret", conn) is True
    assert await lua.ask("smtp_server_auth_plain", "u", "u", "wrong", conn) is False
    assert await lua.ask("smtp_server_auth_plain", "admin", "admin", "", conn) == {
        "peer_address": None,
        "identities": [{"identity": "admin", "context": "SmtpAuthPlainAuthorization"}],
        "groups": [],
    }
    assert await lua.ask("smtp_server_rewrite_response", 250, "ok", "RCPT", conn) is None
    assert await lua.ask("smtp_server_rewrite_response", 550, "no", "RCPT", conn) == (551, None)
    assert await lua.ask("smtp_server_rewrite_response", 421, "no", None, conn) == (None, "NO")
    assert await lua.ask("get_egress_pool", "p") == EgressPool(
        name="p", entries=[PoolEntry(name="a"), PoolEntry(name="b", weight=2)]
    )
    assert await lua.ask("smtp_client_rewrite_delivery_status", "550 no", "d", None, None, None) == 450


async def test_an_event_of_its_own_takes_and_gives_plain_data(policy: MakePolicy, msg: Message) -> None:
    lua = policy("""
        kumo.on('mine', function(msg, conn, text, list, map)
          return { msg:sender().email, conn:get_meta 'k', text, list[2], map.key, map.none }
        end)
    """)
    await lua.load()
    result = await lua.ask("mine", msg, ConnectionMeta({"k": 1}), "text", [1, 2], {"key": 2.5, "none": None})
    assert result == ["sender@example.com", 1, "text", 2, 2.5]


@pytest.mark.parametrize(
    ("event", "args", "value", "problem"),
    [
        (
            "get_queue_config",
            ("d", None, None, None),
            "{ max_age = 5 }",
            "must be what kumo.make_queue_config returns, got a plain table",
        ),
        (
            "get_egress_path_config",
            ("d", "s", "site"),
            "kumo.make_queue_config {}",
            "must be what kumo.make_egress_path returns, got a QueueConfig",
        ),
        (
            "get_egress_path_config",
            ("d", "s", "site"),
            "nil",
            "must be what kumo.make_egress_path returns, got nil",
        ),
        ("should_enqueue_log_record", ("m", "hook"), "'yes'", "must be true or false, got string 'yes'"),
        (
            "smtp_server_auth_plain",
            ("z", "c", "p", "conn"),
            "'yes'",
            "must be true or false or a table of options, got string 'yes'",
        ),
        (
            "smtp_server_auth_plain",
            ("z", "c", "p", "conn"),
            "{ identities = { { identity = 'a', context = 'Smtp' } } }",
            "option 'identities[1].context' must be one of ",
        ),
        ("mine", (), "print", "cannot hold a function"),
        ("smtp_server_ehlo", ("d", "conn"), "{ 'A', {} }", "[2] must be a string, got a table"),
        ("get_egress_source", ("s",), "", "must return EgressSource, got nothing"),
    ],
)
async def test_a_wrong_result_names_event_handler_and_type(
    policy: MakePolicy, msg: Message, event: str, args: tuple[object, ...], value: str, problem: str
) -> None:
    lua = policy(f"\nkumo.on('{event}', function() return {value} end)")
    await lua.load()
    stand_ins = {"m": msg, "conn": ConnectionMeta()}
    with pytest.raises(PolicyError) as caught:
        await lua.ask(event, *(stand_ins.get(arg, arg) for arg in args))
    assert f"{event}: " in str(caught.value)
    assert "the handler at policy.lua:3" in str(caught.value)
    assert problem in str(caught.value)


async def test_a_wrong_option_in_a_result_is_named(policy: MakePolicy) -> None:
    lua = policy("kumo.on('smtp_server_get_dynamic_parameters', function() return { bannner = 'x' } end)")
    await lua.load()
    with pytest.raises(PolicyError) as caught:
        await lua.ask("smtp_server_get_dynamic_parameters", "l", ConnectionMeta())
    assert str(caught.value) == (
        "the handler at policy.lua:2: smtp_server_get_dynamic_parameters: "
        "unknown option 'bannner' (did you mean 'banner'?)"
    )


async def test_the_current_event_is_known_to_the_policy(policy: MakePolicy) -> None:
    lua = policy("""
        kumo.log_info(_KUMO_CURRENT_EVENT)
        kumo.on('init', function() kumo.log_info(_KUMO_CURRENT_EVENT) end)
    """)
    await lua.load()
    await lua.ask("init")
    assert [line.partition(": ")[2] for line in lua.env.host.named("info")] == ["nil", "init"]


async def test_validation_is_known_to_the_policy(policy: MakePolicy) -> None:
    lua = policy("kumo.log_info(_VALIDATING_CONFIG)", validating=True)
    await lua.load()
    assert lua.env.host.named("info") == ["policy.lua:2: true"]


# -- start: outside of a task ----------------------------------------------------------------------------
async def test_start_runs_a_handler_that_awaits_nothing(policy: MakePolicy, msg: Message) -> None:
    lua = policy("kumo.on('smtp_server_message_received', function(msg) msg:set_meta('queue', 'null') end)")
    await lua.load()
    assert lua.start("smtp_server_message_received", msg, ConnectionMeta()) is None
    assert msg.get_meta("queue") == "null"
    assert lua.start("smtp_server_mail_from", "a@b.test", ConnectionMeta()) is None


async def test_start_leaves_the_rest_to_be_awaited(policy: MakePolicy, msg: Message) -> None:
    lua = policy("""
        kumo.on('smtp_server_message_received', function(msg)
          kumo.sleep(0)
          msg:set_meta('queue', 'later')
        end)""")
    await lua.load()
    rest = lua.start("smtp_server_message_received", msg, ConnectionMeta())
    assert rest is not None
    assert msg.get_meta("queue") is None
    assert await rest is None
    assert msg.get_meta("queue") == "later"
    # One that nobody awaits costs a context, and nothing else.
    assert lua.start("smtp_server_message_received", msg, ConnectionMeta()) is not None
    assert await lua.ask("smtp_server_message_received", msg, ConnectionMeta()) is None


async def test_start_passes_a_rejection_on(policy: MakePolicy, msg: Message) -> None:
    lua = policy("kumo.on('smtp_server_message_received', function() kumo.reject(550, 'no') end)")
    await lua.load()
    rest = lua.start("smtp_server_message_received", msg, ConnectionMeta())
    assert rest is not None
    with pytest.raises(Rejection, match="550 no"):
        await rest
