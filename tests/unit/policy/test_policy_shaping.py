"""kumo.shaping."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from policy_host import run

from kumo_py.core.policy import PolicyError
from kumo_py.dns import Resolvers, ZoneBackend
from kumo_py.queue.config import EgressPath

if TYPE_CHECKING:
    from policy_host import MakePolicy, RecordingHost

SHAPING = """
["default"]
connection_limit = 10

["big.test"]
max_message_rate = "100/s"
[["big.test".automation]]
regex = "too many"
action = {SetConfig = {name = "connection_limit", value = 1}}
trigger = {Threshold = "5/hr"}
duration = "1 hour"
["big.test".sources."ip-1"]
connection_limit = 2

[provider.big]
match = [{MXSuffix = ".big.test"}]
provider_connection_limit = 20
"""

RECORD = """{
  type = 'TransientFailure', recipient = {'user@big.test'}, egress_source = 'ip-1',
  site = 'ip-1->mx.big.test@smtp_client',
  response = { code = 451, enhanced_code = { class = 4, subject = 7, detail = 0 }, content = 'too many' },
}"""


@pytest.fixture(autouse=True)
def files(policy: MakePolicy, host: RecordingHost) -> None:
    """`shaping.toml` in the policy's directory, and MX hosts for big.test."""
    host.resolvers = Resolvers(backend=ZoneBackend(["$ORIGIN test.\nbig MX 10 mx.big\nalso MX 10 mx.big\n"]))
    Path("shaping.toml").write_text(SHAPING)
    Path("wrong.toml").write_text('["default"]\nmax_redy = 5')


async def test_an_egress_path_from_shaping_data(policy: MakePolicy) -> None:
    lua = policy("""
        kumo.on('get_egress_path_config', function(domain, source, site)
          local data = kumo.shaping.load { 'shaping.toml' }
          return kumo.make_egress_path(data:get_egress_path_config(domain, source, site))
        end)
    """)
    await lua.load()
    path = await lua.ask("get_egress_path_config", "big.test", "ip-1", "mx.big.test")
    assert isinstance(path, EgressPath)
    assert (path.connection_limit.limit, str(path.max_message_rate)) == (2, "100/s")
    assert path.provider_name == "big"
    assert path.additional_connection_limits["shaping-provider-big-ip-1-limit"].limit == 20


async def test_errors_and_warnings_are_lists(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local options = { local_load = 'Error', provider_overlap = 'Warn', http_timeout = '1s', skip_remote = true }
        local data = kumo.shaping.load({ 'shaping.toml', 'missing.toml', 'http://127.0.0.1:9/x.toml' }, options)
        return { data:get_errors(), data:get_warnings(), kumo.shaping.load({ 'shaping.toml' }):get_errors() }
        """,
    )
    assert result == [
        ["local shaping source missing.toml error: No such file or directory"],
        [
            "Ignoring http://127.0.0.1:9/x.toml because skip_remote is set to true",
            "domain big.test is also matched by provider(s): big",
        ],
        [],
    ]


async def test_rules_that_a_record_matches(policy: MakePolicy) -> None:
    result = await run(policy, f"return kumo.shaping.load {{ 'shaping.toml' }}:match_rules({RECORD})")
    assert result == [
        {
            "regex": ["too many"],
            "action": [{"SetConfig": {"name": "connection_limit", "value": 1}}],
            "trigger": {"Threshold": "5/h"},
            "duration": "1h",
            "match_internal": False,
        }
    ]


async def test_sources_and_hash(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local data = kumo.shaping.load { 'shaping.toml' }
        return {
          data:get_referenced_sources(), data:hash() == kumo.shaping.load({ 'shaping.toml' }):hash(), #data:hash(),
          kumo.shaping.load({}):hash() == data:hash(),
        }
        """,
    )
    assert result == [{"ip-1": ["site:mx.big.test"]}, True, 64, False]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("kumo.shaping.load 'shaping.toml'", "argument 'files' must be a list, got string 'shaping.toml'"),
        (
            "kumo.shaping.load({}, { local_lod = 'Warn' })",
            "unknown option 'local_lod' (did you mean 'local_load'?)",
        ),
        ("kumo.shaping.load({}, { dns_fail = 'warn' })", "option 'dns_fail' must be one of"),
        ("kumo.shaping.load { 'wrong.toml' }", "wrong.toml: [\"default\"]: unknown option 'max_redy'"),
        (
            "kumo.shaping.load({}):match_rules({ recipient = 'nobody' })",
            "the record's recipient 'nobody' is not an address",
        ),
        (
            "kumo.shaping.load({}):get_egress_path_config('a')",
            "argument 'egress_source' must be a string, got nil",
        ),
        ("kumo.shaping.load({}):get_error()", "did you mean get_errors?"),
    ],
)
async def test_mistakes(code: str, problem: str, policy: MakePolicy) -> None:
    with pytest.raises(PolicyError) as raised:
        await run(policy, code)
    assert problem in str(raised.value)
    assert "policy.lua:3: " in str(raised.value)
