"""policy-extras.listener_domains: who may relay for which domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kumo_py.core.cidr import CidrSet
from kumo_py.message.connection import ConnectionMeta
from kumo_py.smtp_in.params import ListenerDomain

if TYPE_CHECKING:
    from conftest import Validate, Write
    from policy_host import MakePolicy

FILE = """
["*"]
log_oob = true
["in.example"]
relay_to = true
["*.in.example"]
relay_to = true
log_arf = true
["out.example"]
relay_from = ["192.0.2.0/24"]
["login.example"]
relay_from_authz = ["ann", "bob"]
relay_from = ["192.0.2.0/24"]
[listener."127.0.0.1:25"."in.example"]
log_oob = false
[listener."127.0.0.1:25"."*.in.example"]
"""
TOP = """
kumo.on('get_listener_domain', require('policy-extras.listener_domains'):setup {
  'domains.toml', { ['out.example'] = { log_oob = 'LogThenDrop' } },
})
"""


@pytest.fixture(autouse=True)
def file(write: Write) -> None:
    write("domains.toml", FILE)


async def ask(policy: MakePolicy, domain: str, listener: str = "0.0.0.0:25", **meta: object) -> Any:
    lua = policy(TOP)
    await lua.load()
    return await lua.ask("get_listener_domain", domain, listener, ConnectionMeta(meta))


@pytest.mark.parametrize(
    ("domain", "listener", "expected"),
    [
        ("in.example", "0.0.0.0:25", ListenerDomain(relay_to=True)),
        ("deep.in.example", "0.0.0.0:25", ListenerDomain(relay_to=True, log_arf=True)),
        ("in.example", "127.0.0.1:25", ListenerDomain(log_oob=False)),
        ("deep.in.example", "127.0.0.1:25", ListenerDomain()),
        ("other.test", "127.0.0.1:25", ListenerDomain(log_oob=True)),
        ("unknown.example", "0.0.0.0:25", ListenerDomain(log_oob=True)),
        (
            "out.example",
            "0.0.0.0:25",
            ListenerDomain(relay_from=CidrSet(["192.0.2.0/24"]), log_oob="LogThenDrop"),
        ),
    ],
)
async def test_the_first_that_matches_is_the_answer(
    policy: MakePolicy, domain: str, listener: str, expected: ListenerDomain
) -> None:
    """The listener's own entries, those for any listener, and last the entry * for any domain; options of several
    files for one domain are put together."""
    found = await ask(policy, domain, listener)
    assert found == expected


async def test_whoever_has_logged_in_may_relay_from_where_he_is(policy: MakePolicy) -> None:
    found = await ask(policy, "login.example", authz_id="ann", received_from="198.51.100.7:4711")
    assert found.relay_from == CidrSet(["198.51.100.7"])
    found = await ask(policy, "login.example", authz_id="eve", received_from="198.51.100.7:4711")
    assert found.relay_from == CidrSet(["192.0.2.0/24"])
    found = await ask(policy, "login.example", received_from="[2001:db8::1]:25")
    assert found.relay_from == CidrSet(["192.0.2.0/24"])


async def test_without_an_entry_the_domain_is_unknown(write: Write, policy: MakePolicy) -> None:
    write("domains.toml", "")
    assert await ask(policy, "elsewhere.example") is None


async def test_all_that_is_wrong_is_named_at_once(write: Write, validate: Validate) -> None:
    write(
        "domains.toml",
        """
["a.example"]
relay_too = true
relay_from_authz = "ann"
relay_from_auth = ["ann"]
log_arf = "yes"
["a.*.example"]
[listener."[::]:25"."b.example"]
relay_from = ["everywhere"]
[listener.x]
""",
    )
    lines = await validate(TOP)
    assert [line.partition("; ")[0] for line in lines] == [
        "domains.toml: [\"a.*.example\"]: a wildcard is '*' alone, or a name that begins with '*.'",
        "domains.toml: [\"a.example\"]: 'relay_from_authz': Expected value of type 'list<string>' "
        "but got type 'string' with value 'ann'",
        "domains.toml: [\"a.example\"]: option 'log_arf' must be one of 'Ignore', 'LogThenDrop', 'LogThenRelay', "
        "got string 'yes'",
        "domains.toml: [\"a.example\"]: unknown option 'relay_from_auth' (did you mean 'relay_from_authz'?)",
        "domains.toml: [\"a.example\"]: unknown option 'relay_too' (did you mean 'relay_to'?)",
        "domains.toml: [listener.\"[::]:25\".\"b.example\"]: option 'relay_from': 'everywhere' is not a network: "
        "write one such as '10.0.0.0/8' or '2001:db8::/32', or an address",
    ]


async def test_validation_of_what_is_right_says_nothing(validate: Validate) -> None:
    assert await validate(TOP) == []
