"""Files as KumoMTA's user guide has them (tests/policies/extras) lead to what it says they do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kumo_py.core.cidr import CidrSet
from kumo_py.dns import Resolvers, ZoneBackend
from kumo_py.message.connection import ConnectionMeta
from kumo_py.queue.config import PoolEntry

if TYPE_CHECKING:
    from conftest import Run, Validate, Write
    from policy_host import MakePolicy, RecordingHost

FILES = Path(__file__).parents[3] / "policies" / "extras"

# Traffic shaping: MX rollups.
ROLLUPS = """
["default"]
connection_limit = 10
max_connection_rate = "100/min"
max_deliveries_per_connection = 100
max_message_rate = "100/s"
["large.test"]
max_deliveries_per_connection = 20
["vanity.test"]
mx_rollup = false
max_deliveries_per_connection = 50
connection_limit = 3
["vanity.test".sources."IP-1"]
max_deliveries_per_connection = 5
"""
# Order of definition: a later file may begin anew.
REPLACED = """
["large.test"]
replace_base = true
connection_limit = 9
"""
# Pattern matching with providers: each host must match something.
PROVIDERS = """
[provider."suffixes"]
match = [{ MXSuffix = ".large.test" }, { HostName = "backup.spare.test" }]
provider_connection_limit = 5
provider_max_message_rate = "100/s"
enable_tls = "Required"
[provider."suffixes".sources."IP-1"]
provider_source_selection_rate = "500/d,max_burst=1"
[provider."family"]
match = [{ DomainSuffix = ".family.test" }]
connection_limit = 4
"""
ZONE = """$ORIGIN test.
large MX 10 mx.large
alias MX 10 mx.large
vanity MX 10 mx.large
mixed MX 10 mx.large
mixed MX 20 backup.spare
vain MX 10 mx.large
vain MX 20 mx.vain
any.family MX 10 mx.family
"""


@pytest.fixture(autouse=True)
def files(policy: MakePolicy, host: RecordingHost) -> None:
    host.resolvers = Resolvers(backend=ZoneBackend([ZONE]))
    for path in FILES.glob("*.toml"):
        Path(path.name).write_text(path.read_text().replace("@SINK@", "25"))


async def ask(policy: MakePolicy, top: str, event: str, *arguments: object) -> Any:
    lua = policy(top)
    await lua.load()
    return await lua.ask(event, *arguments)


# -- sending IPs -------------------------------------------------------------------------------------------
async def test_sources_and_pools(policy: MakePolicy) -> None:
    top = "require('policy-extras.sources'):setup { 'sources.toml' }"
    source = await ask(policy, top, "get_egress_source", "ip-1")
    assert (source.source_address, source.ehlo_domain) == ("127.0.0.1", "mta1.sender.test")
    pool = await ask(policy, top, "get_egress_pool", "pool-2")
    assert pool.entries == [PoolEntry(name="ip-2", weight=2), PoolEntry(name="ip-3", weight=1)]


# -- inbound and relay domains -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("inbound.sender.test", (True, "Ignore", "Ignore")),
        ("bounce.sender.test", (False, True, "Ignore")),
        ("deep.down.sender.test", (True, True, True)),
        ("www.sender.test", (False, False, False)),
        ("elsewhere.example", (False, True, True)),
    ],
)
async def test_listener_domains(policy: MakePolicy, domain: str, expected: tuple[object, ...]) -> None:
    top = "kumo.on('get_listener_domain', require('policy-extras.listener_domains'):setup { 'listener_domains.toml' })"
    found = await ask(policy, top, "get_listener_domain", domain, "0.0.0.0:25", ConnectionMeta())
    assert (found.relay_to, found.log_oob, found.log_arf) == expected
    anna = ConnectionMeta({"authz_id": "anna", "received_from": "192.0.2.1:4711"})
    found = await ask(policy, top, "get_listener_domain", "login.sender.test", "0.0.0.0:25", anna)
    assert found.relay_from == CidrSet(["192.0.2.1"])


# -- queue management --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("domain", "tenant", "campaign", "expected"),
    [
        ("any.test", "standard", None, (24, 20, "pool-1")),
        ("any.test", "gold", None, (10, 20, "pool-2")),  # a tenant goes before a domain
        ("receiver.test", None, None, (22, 17, None)),
        ("receiver.test", "gold", "other", (10, 16, "pool-2")),
        ("receiver.test", "gold", "welcome", (10, 15, "pool-2")),
    ],
)
async def test_queues(
    policy: MakePolicy, domain: str, tenant: str | None, campaign: str | None, expected: tuple[object, ...]
) -> None:
    """max_age in hours, retry_interval in minutes, and the pool."""
    top = "require('policy-extras.queue'):setup { 'queues.toml' }"
    found = await ask(policy, top, "get_queue_config", domain, tenant, campaign, None)
    assert (found.max_age / 3600, found.retry_interval / 60, found.egress_pool) == expected


# -- traffic shaping ---------------------------------------------------------------------------------------
async def path(run: Run, domain: str, site: str, source: str, *names: str) -> dict[str, Any]:
    """The parameters of a path, without those that the helper adds."""
    listed = ", ".join(f"'{name}'" for name in names)
    top = f"""
      local shaper = require('policy-extras.shaping'):setup_with_automation {{
        no_default_files = true, extra_files = {{ {listed} }} }}
    """
    found: dict[str, Any] = await run(
        f"return shaper.get_egress_path_config('{domain}', '{source}', '{site}', true)", top=top
    )
    del found["refresh_strategy"]
    return found


async def test_rollups(run: Run, write: Write) -> None:
    write("rollups.toml", ROLLUPS)
    rates = {"max_connection_rate": "100/min", "max_message_rate": "100/s"}
    assert await path(run, "vanity.test", "mx.large.test", "IP-1", "rollups.toml") == {
        **rates, "connection_limit": 3, "max_deliveries_per_connection": 5,
    }  # fmt: skip
    assert await path(run, "vanity.test", "mx.large.test", "IP-2", "rollups.toml") == {
        **rates, "connection_limit": 3, "max_deliveries_per_connection": 50,
    }  # fmt: skip
    for domain in ("large.test", "alias.test"):
        assert await path(run, domain, "mx.large.test", "IP-1", "rollups.toml") == {
            **rates, "connection_limit": 10, "max_deliveries_per_connection": 20,
        }  # fmt: skip


async def test_a_later_block_may_begin_anew(run: Run, write: Write) -> None:
    write("rollups.toml", ROLLUPS)
    write("replaced.toml", REPLACED)
    found = await path(run, "large.test", "mx.large.test", "IP-1", "rollups.toml", "replaced.toml")
    assert (found["connection_limit"], found["max_deliveries_per_connection"]) == (9, 100)


@pytest.mark.parametrize(
    ("domain", "provider"),
    [
        ("large.test", "suffixes"), ("mixed.test", "suffixes"), ("vain.test", None), ("any.family.test", "family"),
    ],
)  # fmt: skip
async def test_providers(run: Run, write: Write, domain: str, provider: str | None) -> None:
    write("providers.toml", PROVIDERS)
    found = await path(run, domain, "x", "IP-1", "providers.toml")
    assert found.get("provider_name") == provider
    if provider == "suffixes":
        prefix = "shaping-provider-suffixes-IP-1"
        assert found["additional_connection_limits"] == {f"{prefix}-limit": "5"}
        assert found["additional_message_rate_throttles"] == {f"{prefix}-rate": "100/s"}
        assert list(found["additional_source_selection_rates"]) == [f"{prefix}-selection-rate"]


async def test_all_files_together_are_sound(validate: Validate, host: RecordingHost) -> None:
    host.monitored = ["/etc/queues.toml"]
    lines = await validate("""
      require('policy-extras.sources'):setup { 'sources.toml' }
      require('policy-extras.shaping'):setup { 'shaping.toml' }
      require('policy-extras.listener_domains'):setup { 'listener_domains.toml' }
      require('policy-extras.queue'):setup { 'queues.toml' }
    """)
    assert [line for line in lines if not line.startswith("WARNING")] == []
