"""Where policy-extras come from, and what they have without a policy's data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kumo_py.dns import Resolvers, ZoneBackend
from kumo_py.policy.modules.shaping import KUMOMTA_FILE, OUR_FILE
from kumo_py.policy.source import EXTRAS
from kumo_py.shaping import LoadOptions, load_shaping

if TYPE_CHECKING:
    from conftest import Run, Write

MODULES = sorted(path.stem for path in EXTRAS.glob("*.lua"))
STRICT = LoadOptions(
    aliased_site="Error", dns_fail="Error", null_mx="Error", local_load="Error", provider_overlap="Error"
)


@pytest.mark.parametrize("name", MODULES)
async def test_every_module_loads(run: Run, name: str) -> None:
    assert await run("return type(module)", top=f"local module = require 'policy-extras.{name}'") == "table"


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", "ours"),
        ("package.path = '?.lua;' .. package.path", "theirs"),
        ("package.path = 'elsewhere/?.lua;' .. package.path", "ours"),
        ("package.path = package.path .. ';?.lua'", "ours"),
        ("package.path = '?.lua'", "theirs"),
    ],
)
async def test_a_policys_own_copy_goes_first_if_it_says_so(
    run: Run, write: Write, before: str, expected: str
) -> None:
    write("policy-extras/policy_utils.lua", "return { whose = 'theirs' }")
    top = f"{before}\nlocal utils = require 'policy-extras.policy_utils'"
    assert await run("return utils.whose or 'ours'", top=top) == expected


async def test_a_module_of_their_own_beside_ours(run: Run, write: Write) -> None:
    write("policy-extras/more.lua", "return require('policy-extras.policy_utils').dumps(1)")
    assert await run("return more", top="local more = require 'policy-extras.more'") == "1"


# -- the default shaping data ------------------------------------------------------------------------------
async def test_the_default_data_is_sound_and_asks_the_dns_nothing() -> None:
    class Silent(ZoneBackend):
        def __getattribute__(self, name: str) -> object:
            raise AssertionError(f"the DNS is asked: {name}")

    resolver = Resolvers(backend=object.__new__(Silent)).default
    data = await load_shaping([str(OUR_FILE)], resolver, STRICT)
    assert (data.errors, data.warnings) == ([], [])
    assert len(data.providers) > 15


@pytest.mark.parametrize(
    ("mail_host", "options"),
    [
        ("alt1.gmail-smtp-in.l.google.com", {"enable_tls": "Required", "provider_name": "google"}),
        ("mta7.am0.yahoodns.net", {"max_deliveries_per_connection": 20, "provider_name": "yahoo"}),
        ("outlook-com.olc.protection.outlook.com", {"max_deliveries_per_connection": 50}),
        ("mx1a1.comcast.net", {"connection_limit": 25, "idle_timeout": "30s"}),
        ("mx.elsewhere.test", {"connection_limit": 10, "max_message_rate": "100/s", "idle_timeout": "60s"}),
    ],
)
async def test_what_the_default_data_says_of_destinations(
    run: Run, mail_host: str, options: dict[str, object]
) -> None:
    domain = "d" + mail_host.replace(".", "-") + ".test"
    code = f"""
      kumo.dns.configure_test_resolver {{ '$ORIGIN {domain}.\\n@ MX 10 {mail_host}.\\n' }}
      return kumo.shaping.load({{ '{KUMOMTA_FILE}' }}):get_egress_path_config('{domain}', 'ip-1', '{mail_host}')
    """
    found = await run(code)
    assert {name: found[name] for name in options} == options


async def test_automation_of_the_default_data(run: Run) -> None:
    code = f"""
      kumo.dns.configure_test_resolver {{ '$ORIGIN y.test.\\n@ MX 10 mta5.am0.yahoodns.net.\\n' }}
      return kumo.shaping.load({{ '{KUMOMTA_FILE}' }}):match_rules {{
        type = 'TransientFailure', recipient = {{ 'a@y.test' }}, egress_source = 's', site = 's->x@smtp_client',
        response = {{ code = 421, content = '4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred' }},
      }}
    """
    rules = await run(code)
    assert [rule["duration"] for rule in rules] == ["1h 30m", "2h"]
    assert rules[1]["action"] == ["Suspend"]


async def test_lists_show_no_metatable(run: Run) -> None:
    """KumoMTA's own typing.lua takes whatever has one for a value of some other type."""
    assert await run("return getmetatable(kumo.json_parse '[1]') or 'none'") == "none"
