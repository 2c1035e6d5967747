"""policy-extras.queue: tenants, campaigns, and the options of scheduled queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.dns import Resolvers, ZoneBackend
from kumo_py.message.message import Message

if TYPE_CHECKING:
    from conftest import Run, Validate, Write
    from policy_host import MakePolicy, RecordingHost
    from trio.testing import MockClock

FILE = """
scheduling_header = "X-Schedule"
tenant_header = "X-Tenant"
remove_tenant_header = true
campaign_header = "X-Campaign"
default_tenant = "anyone"

[tenant.anyone]
egress_pool = "pool-0"

[tenant.'shop']
egress_pool = "pool-1"
max_age = "10 hours"
overall_max_message_rate = "2/minute"
[tenant.'shop'.campaigns.'sale']
max_retry_interval = "3 hours"
[tenant.'shop'.campaigns.'rush']
overall_max_message_rate = "1/hour"

[tenant.'bank']
require_authz = ["teller"]

[queue.default]
max_age = "24 hours"
retry_interval = "20 minutes"
[queue.'big.test']
max_age = "22 hours"
retry_interval = "17 minutes"
[queue.'big.test'.'shop']
retry_interval = "16 minutes"
[queue.'big.test'.'shop'.'sale']
retry_interval = "15 minutes"
routing_domain = "sale.relay.test"
[queue.'*.hosted.test']
routing_domain = "[192.0.2.1]"
"""
MORE = """
[queue.'big.test']
max_message_rate = "5/s"
[queue.'slow.test']
overall_max_message_rate = "1/hour"
"""
TOP = """
local queue = require 'policy-extras.queue'
local helper = queue:setup { 'queues.toml', 'more.toml' }
kumo.on('smtp_server_message_received', function(msg) helper:apply(msg) end)
"""


@pytest.fixture(autouse=True)
def files(write: Write) -> None:
    write("queues.toml", FILE)
    write("more.toml", MORE)


def message(headers: str = "", recipient: str = "user@other.test", **meta: object) -> Message:
    content = f"{headers}Subject: hello\r\n\r\nbody\r\n".encode()
    return Message(bytes(range(16)), "from@a.test", (recipient,), meta, content)


async def applied(policy: MakePolicy, msg: Message) -> Message:
    lua = policy(TOP)
    await lua.load()
    await lua.ask("smtp_server_message_received", msg, None)
    return msg


# -- options -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("domain", "tenant", "campaign", "options"),
    [
        ("other.test", None, None, {"max_age": "24 hours", "retry_interval": "20 minutes"}),
        ("big.test", None, None,
         {"max_age": "22 hours", "retry_interval": "17 minutes", "max_message_rate": "5/s"}),
        ("other.test", "shop", None,
         {"max_age": "10 hours", "retry_interval": "20 minutes", "egress_pool": "pool-1"}),
        ("big.test", "shop", None, {"max_age": "10 hours", "retry_interval": "16 minutes",
         "egress_pool": "pool-1", "max_message_rate": "5/s"}),
        ("big.test", "shop", "sale", {"max_age": "10 hours", "retry_interval": "15 minutes",
         "egress_pool": "pool-1", "max_message_rate": "5/s", "max_retry_interval": "3 hours"}),
        ("big.test", "nobody", "sale",
         {"max_age": "22 hours", "retry_interval": "17 minutes", "max_message_rate": "5/s"}),
    ],
)  # fmt: skip
async def test_the_more_particular_block_wins(
    run: Run, domain: str, tenant: str | None, campaign: str | None, options: dict[str, str]
) -> None:
    arguments = ", ".join("nil" if one is None else f"'{one}'" for one in (domain, tenant, campaign))
    found = await run(f"return helper:resolve_config({arguments})", top=TOP)
    assert found == {**options, "refresh_strategy": "Epoch"}


async def test_it_answers_get_queue_config_with_the_provider_of_the_path(
    policy: MakePolicy, host: RecordingHost
) -> None:
    host.resolvers = Resolvers(backend=ZoneBackend(["$ORIGIN test.\nbig MX 10 mx.big\n"]))
    lua = policy(f"""{TOP}
      kumo.on('get_egress_path_config', function(domain, source, site)
        return kumo.make_egress_path {{ provider_name = site == 'mx.big.test' and source or nil }}
      end)
      kumo.on('mine', function() return queue:resolve_provider('x.test', 'big.test') end)
    """)
    await lua.load()
    config = await lua.ask("get_queue_config", "big.test", "shop", "sale", None)
    assert (config.retry_interval, config.max_age, config.egress_pool) == (900, 36000, "pool-1")
    assert config.provider_name == "unspecified"
    assert await lua.ask("mine") == "unspecified"
    assert (await lua.ask("get_queue_config", "absent.test", None, None, None)).provider_name is None


async def test_the_handler_can_be_left_out(policy: MakePolicy) -> None:
    top = TOP.replace(
        "setup { 'queues.toml', 'more.toml' }",
        "setup_with_options { file_names = { 'queues.toml' }, skip_queue_config_hook = true, "
        "invalidate_with_epoch = true }",
    )
    lua = policy(top)
    await lua.load()
    assert not lua.handles("get_queue_config")
    assert lua.handles("throttle_insert_ready_queue")


async def test_a_table_may_stand_for_a_file(run: Run) -> None:
    top = """
      local helper = require('policy-extras.queue'):setup { {
        tenants = { t = { egress_pool = 'p' } },
        queues = { default = { max_age = '1h', strategy = 'TimerWheel' },
                   ['a.test'] = { tenants = { t = { campaigns = { c = { max_age = '2h' } } } } } },
      } }
    """
    assert await run("return helper:resolve_config('a.test', 't', 'c')", top=top) == {
        "egress_pool": "p",
        "max_age": "2h",
        "strategy": "TimerWheel",
        "refresh_strategy": "Epoch",
    }


async def test_whether_something_is_an_option(run: Run) -> None:
    code = """
      local is_option = queue.is_queue_config_option
      local ok, err = is_option('max_age', {})
      return { is_option('max_age', '1h'), (is_option('shop', {})), ok, err ~= nil }
    """
    assert await run(code, top=TOP) == [True, False, False, True]


# -- messages ----------------------------------------------------------------------------------------------
async def test_headers_say_whose_message_it_is(policy: MakePolicy) -> None:
    headers = (
        'X-Tenant: shop\r\nX-Campaign: sale\r\nX-Schedule: {"first_attempt": "2099-01-01T00:00:00Z"}\r\n'
    )
    msg = await applied(policy, message(headers, "user@BIG.test"))
    assert (msg.get_meta("tenant"), msg.get_meta("campaign")) == ("shop", "sale")
    assert msg.get_meta("routing_domain") == "sale.relay.test"
    assert msg.schedule is not None
    assert msg.data == b"X-Campaign: sale\r\nSubject: hello\r\n\r\nbody\r\n"


async def test_without_headers_the_default_tenant_sends(policy: MakePolicy) -> None:
    msg = await applied(policy, message(recipient="user@x.hosted.test"))
    assert msg.get_meta("tenant") == "anyone"
    assert msg.get_meta("campaign") is None
    assert msg.get_meta("routing_domain") == "[192.0.2.1]"


@pytest.mark.parametrize(
    ("tenant", "meta", "text"),
    [
        ("nobody", {}, "tenant 'nobody', from header 'X-Tenant', is not defined"),
        ("bank", {}, "tenant 'bank' is only for those who have logged in"),
        ("bank", {"authz_id": "thief"}, "'thief' may not send as tenant 'bank'"),
    ],
)
async def test_not_everyone_may_be_a_tenant(
    policy: MakePolicy, tenant: str, meta: dict[str, object], text: str
) -> None:
    with pytest.raises(Rejection, match=text) as caught:
        await applied(policy, message(f"X-Tenant: {tenant}\r\n", **meta))
    assert caught.value.code == 500


async def test_an_authorized_tenant(policy: MakePolicy) -> None:
    msg = await applied(policy, message("X-Tenant: bank\r\n", authz_id="teller"))
    assert msg.get_meta("tenant") == "bank"


async def test_overall_rates_hold_for_all_queues_of_a_tenant_campaign_or_destination(
    policy: MakePolicy, mock_clock: MockClock
) -> None:
    lua = policy(TOP)
    await lua.load()

    async def is_delayed(recipient: str, **meta: object) -> bool:
        msg = message(recipient=recipient, **meta)
        await lua.ask("throttle_insert_ready_queue", msg)
        return msg.due > 0

    async def count(recipient: str, **meta: object) -> int:
        """How many of three messages pass."""
        return [await is_delayed(recipient, **meta) for _ in range(3)].count(False)

    assert await count("a@x.test", tenant="shop") == 2
    assert await count("a@y.test", tenant="shop") == 0
    mock_clock.jump(3600)
    assert await count("a@x.test", tenant="shop", campaign="rush") == 1
    assert await count("a@x.test", tenant="anyone", campaign="rush") == 3
    assert await count("a@SLOW.test", tenant="anyone") == 1
    assert await count("a@slow.test") == 0


# -- what is wrong -----------------------------------------------------------------------------------------
async def test_all_that_is_wrong_is_named_at_once(write: Write, policy: MakePolicy) -> None:
    write(
        "queues.toml",
        """
tenant_hedder = "X"
remove_tenant_header = "yes"
[tenant.t]
max_aeg = "1h"
require_authz = "x"
overall_max_message_rate = "1/blink"
[tenant.t.campaigns.c]
routing_domian = "x"
[queue."a.test"]
max_age = true
routing_domian = "x"
[queue."a.test"."t"."c"]
max_age = "soon"
""",
    )
    with pytest.raises(PolicyError) as caught:
        await applied(policy, message())
    for text in (
        "queues.toml: unknown option 'tenant_hedder' (did you mean 'tenant_header'?)",
        "queues.toml: 'remove_tenant_header': Expected 'boolean', got 'string' 'yes'",
        "queues.toml: [tenant.\"t\"]: unknown option 'max_aeg' (did you mean 'max_age'?)",
        "queues.toml: [tenant.\"t\"]: 'require_authz': Expected value of type 'list<string>'",
        "queues.toml: [tenant.\"t\"]: 'overall_max_message_rate': '1/blink' is not a throttle",
        "queues.toml: [tenant.\"t\".campaigns.\"c\"]: unknown option 'routing_domian' (did you mean 'routing_domain'?)",
        "queues.toml: [queue.\"a.test\"]: unknown option 'routing_domian' (did you mean 'routing_domain'?)",
        "queues.toml: [queue.\"a.test\"]: option 'max_age': True is not a duration",
        'queues.toml: [queue."a.test"."t"."c"]: option \'max_age\': \'soon\' is not a duration',
    ):
        assert text in str(caught.value)


async def test_validation_checks_pools_tenants_globs_and_order(
    write: Write, validate: Validate, host: RecordingHost
) -> None:
    host.monitored = ["queues.toml"]
    write("more.toml", "[queue.'big.test'.'shopp']\negress_pool = 'pool-2'\n")
    write("queues.toml", FILE.replace('default_tenant = "anyone"', 'default_tenant = "anybody"'))
    lines = await validate(f"""
      require('policy-extras.sources'):setup {{ {{ pool = {{ ['pool-0'] = {{}}, ['pool-1'] = {{}} }} }} }}
      {TOP}
      kumo.on('get_queue_config', function() end)
    """)
    *texts, header, own, other = lines
    assert sorted(texts) == [
        'WARNING: more.toml: [queue."big.test"."shopp"]: there is no such tenant (did you mean \'shop\'?)',
        "WARNING: more.toml: edits take effect some time later, and are not checked before: "
        "name it in kumo.set_config_monitor_globs",
        "more.toml: [queue.\"big.test\".\"shopp\"]: egress_pool 'pool-2' is not defined (did you mean 'pool-0'?)",
        "queues.toml: default_tenant 'anybody' is not defined",
    ]
    assert header == "the queue helper must be the last to handle get_queue_config; these do, in turn:"
    assert "queue.lua:" in own
    assert "policy.lua:10" in other


async def test_validation_of_what_is_right_says_nothing(validate: Validate, host: RecordingHost) -> None:
    host.monitored = ["more.toml", "queues.toml"]
    assert await validate(TOP) == []


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("q:setup {} q:setup {}", "may be called once"),
        (
            "q:setup_with_options { file_name = {} }",
            r"unknown option 'file_name' \(did you mean 'file_names'\?\)",
        ),
        ("q:setup 'queues.toml'", "'file_names': Expected value of type 'list<Any>'"),
    ],
)
async def test_a_wrong_setup(run: Run, call: str, text: str) -> None:
    with pytest.raises(PolicyError, match=text):
        await run("", top=f"local q = require 'policy-extras.queue' {call}")
