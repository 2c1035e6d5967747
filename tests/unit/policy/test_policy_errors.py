"""Errors name the policy's file and line, what was wrong, and what would be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy, RecordingHost

    from kumo_py.message.message import Message
    from kumo_py.policy import LuaPolicy


async def error_of(lua: LuaPolicy, event: str = "init", *args: object) -> str:
    await lua.load()
    with pytest.raises(PolicyError) as caught:
        await lua.ask(event, *args)
    return str(caught.value)


async def test_a_missing_file_and_a_syntax_error(policy: MakePolicy, tmp_path: Path) -> None:
    lua = policy("kumo.on('init', function( end)")
    with pytest.raises(PolicyError, match=r"^policy\.lua:2: <name> .*expected near 'end'"):
        await lua.load()
    (tmp_path / "policy.lua").unlink()
    with pytest.raises(PolicyError, match=r"^cannot read the policy file policy\.lua: No such file"):
        await lua.load()


async def test_a_script_may_start_with_its_interpreter(policy: MakePolicy, tmp_path: Path) -> None:
    lua = policy("")
    (tmp_path / "policy.lua").write_text("#!/usr/bin/env kumo-py\nerror('here')")
    with pytest.raises(PolicyError, match=r"policy\.lua:2: here"):
        await lua.load()


async def test_errors_at_the_top_level(policy: MakePolicy) -> None:
    lua = policy("local x = nil\n\nx.y = 1")
    with pytest.raises(
        PolicyError, match=r"^loading the policy: policy\.lua:4: attempt to index a nil value"
    ):
        await lua.load()
    lua = policy("kumo.reject(550, 'no')")
    with pytest.raises(PolicyError, match=r"^loading the policy: kumo\.reject at the top level: 550 no"):
        await lua.load()


async def test_the_traceback_has_the_policys_frames_only(policy: MakePolicy) -> None:
    lua = policy("""
local function inner()
  error('broken')
end
kumo.on('init', function()
  inner()
end)
""")
    text = await error_of(lua)
    assert text == (
        "init: policy.lua:4: broken\n"
        "stack traceback:\n"
        "\tpolicy.lua:4: in upvalue 'inner'\n"
        "\tpolicy.lua:7: in function <policy.lua:6>"
    )


async def test_an_error_in_a_required_module_is_located_there(policy: MakePolicy, tmp_path: Path) -> None:
    (tmp_path / "helper.lua").write_text("return {\n  go = function() error('in the helper') end\n}\n")
    lua = policy("local helper = require 'helper'\nkumo.on('init', function() helper.go() end)")
    text = await error_of(lua)
    assert "init: ./helper.lua:2: in the helper" in text
    assert "policy.lua:3:" in text


@pytest.mark.parametrize(
    "value", ["{}", "nil", "true", "setmetatable({}, {__tostring = function() error 'x' end})"]
)
async def test_any_value_can_be_an_error(policy: MakePolicy, value: str) -> None:
    text = await error_of(policy(f"kumo.on('init', function() error({value}) end)"))
    assert text.startswith("init: error object: ")


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "kumo.make_queue_confg {}",
            "kumo.make_queue_confg does not exist; did you mean kumo.make_queue_config?",
        ),
        ("kumo.serd.json_parse '1'", "kumo.serd does not exist; did you mean kumo.serde?"),
        (
            "kumo.serde.jason_parse '1'",
            "kumo.serde.jason_parse does not exist; did you mean kumo.serde.json_parse?",
        ),
        ("kumo.xyzzy()", "kumo.xyzzy does not exist"),
        ("msg:set_mta('a', 1)", "a message has no method 'set_mta'; did you mean set_meta?"),
        ("msg.set_meta('a', 1)", "message:set_meta must be called with ':' on a message"),
        ("msg:set_meta({}, 1)", "message:set_meta: argument 'key' must be a string, got a table"),
        (
            "msg:set_meta('\\xff', 1)",
            "argument 'key' must be UTF-8 text, but byte 1 of string '\\xff' is not",
        ),
        ("msg:set_meta('a', print)", "message:set_meta: argument 'value' cannot hold a function"),
        ("msg:set_meta('a', { b = msg })", "message:set_meta: argument 'value' cannot hold a message"),
        ("local t = {} t.t = t msg:set_meta('a', t)", "is nested more than 100 deep, or contains itself"),
        ("msg:set_sender 'nobody'", "argument 'sender' must be an address: 'nobody' is not a mail address"),
        ("msg:set_recipient { 'a@b.example', 5 }", "[2] must be an address or a string, got number 5"),
        ("local x = msg:sender().usr", "an address has user, domain and email, not 'usr'"),
        ("msg:set_due 'tomorrow'", "message:set_due: 'tomorrow' is not an RFC 3339 time"),
        ("msg:set_due '2026-01-01T00:00:00'", "is not an RFC 3339 time with its zone"),
        ("kumo.make_queue_config 'x'", "argument 'params' must be a table of options, got string 'x'"),
        (
            "kumo.make_egress_path { conection_limit = 3 }",
            "kumo.make_egress_path: unknown option 'conection_limit' (did you mean 'connection_limit'?)",
        ),
        (
            "kumo.make_queue_config { protocol = { smtp = { mx_lst = {} } } }",
            "kumo.make_queue_config: unknown option 'protocol.smtp.mx_lst' (did you mean 'mx_list'?)",
        ),
        ("kumo.make_queue_config { max_age = 'soon' }", "kumo.make_queue_config: option 'max_age': "),
        ("kumo.sleep(-1)", "kumo.sleep: cannot sleep for -1 seconds"),
        ("kumo.sleep('1s')", "kumo.sleep: argument 'seconds' must be a number, got string '1s'"),
        ("kumo.json_load 'none.json'", "kumo.json_load: none.json: No such file or directory"),
        ("local c = kumo.make_queue_config {} c.max_age = 5", "a finished configuration cannot be changed"),
    ],
)
async def test_misuse_is_explained_at_its_line(
    policy: MakePolicy, msg: Message, code: str, problem: str
) -> None:
    lua = policy(f"kumo.on('mine', function(msg)\n\n  {code}\nend)")
    text = await error_of(lua, "mine", msg)
    assert text.startswith("mine: policy.lua:4: ")
    assert problem in text


async def test_a_tail_call_leaves_at_least_the_handlers_lines(policy: MakePolicy) -> None:
    lua = policy("kumo.on('init', function()\n  return kumo.make_queue_config { x = 1 }\nend)")
    assert (await error_of(lua)).startswith(
        "init: policy.lua:2-4: kumo.make_queue_config: unknown option 'x'"
    )


async def test_pcall_sees_a_python_error_as_a_string_with_its_line(policy: MakePolicy) -> None:
    lua = policy("""
        kumo.on('init', function()
          local ok, err = pcall(kumo.json_parse, '{')
          kumo.log_info(ok, type(err), err)
          local ok, err = pcall(function() return kumo.json_parse '{' .. 'x' end)
          kumo.log_info(ok, type(err), err)
        end)
    """)
    await lua.load()
    await lua.ask("init")
    direct, inside = lua.env.host.named("info")
    assert direct.startswith("policy.lua:5: false string policy.lua:4: kumo.json_parse: not JSON: ")
    assert inside.startswith("policy.lua:7: false string policy.lua:6: kumo.json_parse: not JSON: ")


async def test_a_bug_of_ours_is_said_to_be_one(policy: MakePolicy, host: RecordingHost) -> None:
    def broken(directives: str) -> None:
        raise ZeroDivisionError("oops")

    host.set_diagnostic_filter = broken
    text = await error_of(policy("kumo.on('init', function() kumo.set_diagnostic_log_filter 'x' end)"))
    assert "internal error, please report it: ZeroDivisionError: oops" in text


@pytest.mark.parametrize(
    "call",
    [
        "kumo.start_esmtp_listener {}",
        "kumo.start_http_listener {}",
        "kumo.define_spool { name = 'data', path = 'x' }",
        "kumo.configure_local_logs { log_dir = 'x' }",
    ],
)
async def test_what_belongs_into_init_is_refused_at_the_top_level(
    policy: MakePolicy, host: RecordingHost, call: str
) -> None:
    with pytest.raises(PolicyError, match=r"policy\.lua:2: kumo\.\w+: belongs in the init event"):
        await policy(call).load()
    assert host.calls == []


async def test_the_hosts_errors_are_the_policys(policy: MakePolicy, host: RecordingHost) -> None:
    async def refuse(config: object) -> None:
        raise ValueError("no space left")

    host.define_spool = refuse
    lua = policy("kumo.on('init', function()\n  kumo.define_spool { name = 'data', path = 'x' }\nend)")
    assert (await error_of(lua)).startswith("init: policy.lua:3: kumo.define_spool: no space left")
