"""What a policy's author meets first: the likeliest mistakes, and messages that say what would be right.

Many of the names are ones that policies in the wild use and no such server has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError
from kumo_py.policy.hints import MEANT
from kumo_py.policy.surface import build_registry

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy, RecordingHost

    from kumo_py.message.message import Message

NAMES = [
    (
        "kumo.log.info 'x'",
        "kumo.log does not exist; did you mean kumo.log_error, kumo.log_warn, kumo.log_info",
    ),
    ("kumo.json.parse '1'", "kumo.json does not exist; did you mean kumo.json_parse,"),
    (
        "kumo.define_egress_source {}",
        "did you mean kumo.make_egress_source, which the get_egress_source event",
    ),
    (
        "kumo.define_egress_pool {}",
        "did you mean kumo.make_egress_pool, which the get_egress_pool event returns?",
    ),
    ("kumo.QueueConfig {}", "kumo.QueueConfig does not exist; did you mean kumo.make_queue_config?"),
    ("kumo.configure_dns_resolver {}", "did you mean kumo.dns.configure_resolver?"),
    (
        "kumo.http.post 'http://x'",
        "kumo.http.post does not exist; did you mean kumo.http.build_client {}:post(url)?",
    ),
    ("kumo.redis.open {}", "redis is a module of its own: local redis = require 'redis'"),
    ("kumo.resolve_mx 'x'", "did you mean kumo.dns.lookup_mx?"),
    ("kumo.lookup_txt 'x'", "kumo.lookup_txt does not exist; did you mean kumo.dns.lookup_txt?"),
    ("kumo.sha256 'x'", "did you mean kumo.digest.sha256?"),
    ("kumo.start_esmtps_listener {}", "did you mean kumo.start_esmtp_listener?"),
    ("kumo.get_signer 'x'", "did you mean kumo.dkim.rsa_sha256_signer?"),
    (
        "kumo.uuid.new()",
        "did you mean kumo.uuid.new_v1, kumo.uuid.new_v4, kumo.uuid.new_v6 or kumo.uuid.new_v7?",
    ),
    ("kumo.regex.match('a', 'b')", "kumo.regex.match does not exist; kumo.regex has compile, escape"),
    ("kumo.string.format '%d'", "did you mean string.format, which is Lua's own?"),
    (
        "msg:get_header 'Subject'",
        "a message has no method 'get_header'; did you mean get_first_named_header_value?",
    ),
    ("msg:set_header('A', 'b')", "did you mean remove_all_named_headers and append_header?"),
    ("msg:add_header('A', 'b')", "did you mean append_header?"),
    ("msg:from()", "did you mean from_header?"),
    ("msg:body()", "did you mean get_data, which has header and body?"),
    ("msg:attachments()", "a message has no method 'attachments'"),
    ("msg:text_plain 'x'", "did you mean append_text_plain?"),
    ("msg:replace_body 'x'", "a message has no method 'replace_body'; a mimepart has one"),
    (
        "local x = msg:sender():lower()",
        "an address is no string: its text is address.email, as in address.email:lower()",
    ),
    ("local x = msg:recipient().name", "an address has user, domain and email, not 'name'"),
    ("local x = msg:from_header().address", "has user, domain, email, name and list, not 'address'"),
    ("local x = kumo.time.now().unix", "did you mean unix_timestamp or unix_timestamp_millis?"),
]

OPTIONS = [
    (
        "kumo.make_egress_path { max_connections = 5 }",
        "unknown option 'max_connections' (did you mean 'max_connection_rate'?)",
    ),
    ("kumo.make_egress_path { tls = true }", "'enable_tls', 'remember_broken_tls', 'tls_certificate',"),
    ("kumo.make_egress_path { enable_tls = true }", "'RequiredInsecure', got boolean true"),
    ("kumo.make_egress_path { enable_tls = 'required' }", "got string 'required' (did you mean 'Required'?)"),
    (
        "kumo.make_egress_path { max_message_rate = 100 }",
        "100 is not a throttle: write a string such as '100/hr'",
    ),
    (
        "kumo.make_egress_path { connection_limit = 0 }",
        "option 'connection_limit': a limit must be greater than 0",
    ),
    (
        "kumo.make_egress_path { smtp_port = '25' }",
        "option 'smtp_port' must be an integer, got string '25': write 25",
    ),
    (
        "kumo.make_egress_path { idle_timeout = '5 mins.' }",
        "is not a duration: write seconds, or text with units such as '5m'",
    ),
    ("kumo.make_queue_config { max_age = '2 weekz' }", "unknown unit 'weekz'; units are"),
    ("kumo.make_queue_config { max_delivery_rate = '1/s' }", "(did you mean 'max_message_rate'?)"),
    (
        "kumo.make_queue_config { protocol = 'smtp' }",
        "option 'protocol' must be a table, got string 'smtp': write { smtp = {} }",
    ),
    (
        "kumo.make_queue_config { protocol = { mx_list = {} } }",
        "unknown option 'protocol.mx_list' (did you mean 'protocol.smtp.mx_list'?)",
    ),
    (
        "kumo.make_queue_config { protocol = { smtp = { mx_list = 'a' } } }",
        "option 'protocol.smtp.mx_list' must be a list, got string 'a': write { 'a' }",
    ),
    (
        "kumo.make_queue_config { protocol = { custom_lua = {} } }",
        "option 'protocol.custom_lua.constructor' is required",
    ),
    (
        "kumo.make_egress_pool { name = 'p', entries = { 'a' } }",
        "option 'entries[1]' must be a table, got string 'a': write { name = 'a' }",
    ),
    (
        "kumo.make_egress_pool { name = 'p', entries = { { name = 'a', wieght = 1 } } }",
        "unknown option 'entries[1].wieght' (did you mean 'weight'?)",
    ),
    ("kumo.make_egress_source { 'a' }", "options have names, such as { name = … }"),
    (
        "kumo.make_listener_domain { accept_to = true }",
        "the options are log_arf, log_oob, relay_from, relay_to, ttl",
    ),
    (
        "kumo.make_listener_domain { relay_from = '10.0.0.0/8' }",
        "must be a list of networks: write { '10.0.0.0/8' }",
    ),
    (
        "kumo.dkim.ed25519_signer { domain = 'a', selector = 'b', headers = 'From', key = 'k' }",
        "option 'headers' must be a list, got string 'From': write { 'From' }",
    ),
    (
        "kumo.secrets.load { file = 'x' }",
        "unknown option 'file'; a key source is a file path, or a table with one of key_data,",
    ),
    ("kumo.secrets.load { path = 5 }", "option 'path' must be a string"),
    (
        "msg:import_headers { 'Subject' }",
        "option '[1]' must be a table, got string 'Subject': write { name = 'Subject' }",
    ),
]

IN_INIT = [
    (
        "kumo.start_esmtp_listener { listen = '0.0.0.0' }",
        "listen: '0.0.0.0' has no port: write 'ip:port', such as '0.0.0.0:25'",
    ),
    (
        "kumo.start_esmtp_listener { listen = 'mx.example.com:25' }",
        "listen: 'mx.example.com:25' is not an address",
    ),
    ("kumo.start_http_listener { listen = '8000' }", "listen: '8000' has no port: write 'ip:port'"),
    ("kumo.start_esmtp_listener { max_connections_per_ip = 5 }", "(did you mean 'max_connections'?)"),
    (
        "kumo.start_esmtp_listener { max_message_size = '10MB' }",
        "option 'max_message_size' must be an integer, got string '10MB'",
    ),
    (
        "kumo.start_esmtp_listener { tls = {} }",
        "(did you mean 'implicit_tls', 'tls_certificate', 'tls_private_key' or 'tls_required_client_ca'?)",
    ),
    (
        "kumo.start_esmtp_listener { relay_hosts = { 'example.com' } }",
        "option 'relay_hosts': 'example.com' is not a network",
    ),
    ("kumo.configure_local_logs { log_dir = 'x', max_size = 5 }", "(did you mean 'max_file_size'?)"),
    (
        "kumo.configure_local_logs { log_dir = 'x', per_record = { Recieved = {} } }",
        "unknown option 'per_record.Recieved'; the options are AdminBounce,",
    ),
    ("kumo.configure_local_logs {}", "option 'log_dir' is required"),
    ("kumo.define_spool { name = 'data', path = 'x', kind = 'rocksdb' }", "(did you mean 'RocksDB'?)"),
]

ARGUMENTS = [
    ("msg:get_meta()", "message:get_meta: argument 'key' must be a string, got nil"),
    ("msg:append_header 'A'", "message:append_header: argument 'value' must be a string, got nil"),
    ("msg.set_meta('a', 1)", "message:set_meta must be called with ':' on a message"),
    ("msg:dkim_sign { domain = 'x' }", "argument 'signer' must be a signer, got a table"),
    ("kumo.sleep '5s'", "argument 'seconds' must be a number, got string '5s'"),
    ("kumo.make_throttle('x', '1')", "'1' is not a throttle: write QUANTITY/PERIOD, such as '100/hr'"),
    ("kumo.memoize(5, {})", "kumo.memoize: the first argument must be a function, got number"),
    ("kumo.reject(99, 'no')", "kumo.reject: the code must be an integer from 200 to 599, got 99"),
    ("kumo.serde.json_encode(print)", "argument 'value' cannot hold a function"),
]


CASES = [("mine", *case) for case in NAMES + OPTIONS + ARGUMENTS] + [("init", *case) for case in IN_INIT]


@pytest.mark.parametrize(("event", "code", "problem"), CASES)
async def test_the_message_says_where_and_what_would_be_right(
    policy: MakePolicy, msg: Message, event: str, code: str, problem: str
) -> None:
    lua = policy(f"kumo.on('{event}', function(msg)\n\n  {code}\nend)")
    await lua.load()
    with pytest.raises(PolicyError) as caught:
        await lua.ask(event, *([msg] if event == "mine" else []))
    text = str(caught.value)
    assert text.startswith(f"{event}: policy.lua:4: ")
    assert problem in text


def test_what_was_meant_exists() -> None:
    registry = build_registry()
    for wrong, right in MEANT.items():
        owner, _, name = wrong.rpartition(".")
        assert owner in registry.modules or owner in registry.kinds, wrong
        assert registry.find(owner, name) is None, wrong
        meant = right.partition(",")[0].partition(" ")[0].partition("(")[0]
        if meant.startswith("kumo."):
            assert registry.find(*meant.rpartition(".")[::2]) is not None, right
        elif owner == "message" and not meant.startswith("#"):
            assert registry.find("message", meant) is not None, right


# -- misspelt events ---------------------------------------------------------------------------------------
async def test_a_misspelt_event_is_warned_of_once(
    policy: MakePolicy, host: RecordingHost, msg: Message
) -> None:
    lua = policy("""
kumo.on('init', function() end)
kumo.on('smtp_server_message_recieved', function() end)
kumo.on('smtp_server_auth', function() end)
kumo.on('my.own.event', function() end)
kumo.on('log_disposition_mine', function() end)
""")
    await lua.load()
    expected = [
        "policy.lua:5: kumo.on('smtp_server_auth'): there is no such event; did you mean 'smtp_server_auth_plain'?",
        "policy.lua:4: kumo.on('smtp_server_message_recieved'): there is no such event; "
        "did you mean 'smtp_server_message_received'?",
    ]
    assert host.named("warn") == expected
    for _ in range(3):
        await lua.ask("smtp_server_message_recieved", msg)
    assert host.named("warn") == expected
    await lua.load()
    assert host.named("warn") == 2 * expected


async def test_the_place_is_that_of_the_call_even_in_a_module(
    policy: MakePolicy, host: RecordingHost, tmp_path: Path
) -> None:
    (tmp_path / "helper.lua").write_text(
        "local kumo = require 'kumo'\nreturn function()\n  kumo.on('get_queue_conf', print)\nend\n"
    )
    await policy("require 'helper'()").load()
    assert host.named("warn") == [
        "./helper.lua:3: kumo.on('get_queue_conf'): there is no such event; did you mean 'get_queue_config'?"
    ]


async def test_validation_warns_too(policy: MakePolicy, host: RecordingHost) -> None:
    await policy("kumo.on('get_egress_pools', print)", validating=True).load()
    assert len(host.named("warn")) == 1


# -- numbers as text -----------------------------------------------------------------------------------------
async def test_numbers_may_be_text_as_lua_has_it(policy: MakePolicy) -> None:
    lua = policy("""
kumo.on('mine', function()
  kumo.sleep '0.001'
  kumo.sleep ' 0 '
  assert(kumo.string.replacen('aaa', 'a', 'b', '2') == 'bba')
  local ok, err = pcall(kumo.reject, '550', 'no')
  assert(tostring(err) == '550 no')
  for _, text in ipairs { '1_0', 'nan', 'inf', '', '1e', '٣' } do
    assert(not pcall(kumo.sleep, text))
  end
end)
""")
    await lua.load()
    await lua.ask("mine")
