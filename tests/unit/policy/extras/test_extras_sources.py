"""policy-extras.sources: egress sources and pools from files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError
from kumo_py.queue.config import PoolEntry

if TYPE_CHECKING:
    from conftest import Run, Validate, Write
    from policy_host import MakePolicy, RecordingHost
    from trio.testing import MockClock

FILE = """
[source."ip-1"]
source_address = "192.0.2.1"
ehlo_domain = "mta1.example.com"
[source."ip-2"]
source_address = "192.0.2.2"
[pool."empty"]
[pool."best"]
[pool."best"."ip-1"]
[pool."both"."ip-2"]
weight = 2
[pool."both"."ip-1"]
weight = 1
"""
TOP = "require('policy-extras.sources'):setup { 'sources.toml', { source = { ['ip-1'] = { remote_port = 2525 } } } }"
WRONG = """
[source."ip-1"]
source_adress = "192.0.2.1"
remote_port = "x"
[pool."a"."ip1"]
wieght = 1
[pol]
"""


@pytest.fixture(autouse=True)
def files(write: Write) -> None:
    write("sources.toml", FILE)
    write("more.json", '{"pool": {"best": {"ip-2": {"weight": 5}}}}')


async def test_sources_and_pools_answer_the_events(policy: MakePolicy) -> None:
    lua = policy(TOP)
    await lua.load()
    source = await lua.ask("get_egress_source", "ip-1")
    assert (source.name, source.source_address, source.ehlo_domain) == (
        "ip-1",
        "192.0.2.1",
        "mta1.example.com",
    )
    assert source.remote_port == 2525  # the second file's option, over the first one's source
    pool = await lua.ask("get_egress_pool", "both")
    assert (pool.name, pool.entries) == ("both", [PoolEntry(name="ip-1"), PoolEntry(name="ip-2", weight=2)])
    assert (await lua.ask("get_egress_pool", "empty")).entries == []


async def test_entries_of_a_later_file_are_added_to_a_pool(policy: MakePolicy) -> None:
    lua = policy("require('policy-extras.sources'):setup { 'sources.toml', 'more.json' }")
    await lua.load()
    assert (await lua.ask("get_egress_pool", "best")).entries == [
        PoolEntry(name="ip-1"),
        PoolEntry(name="ip-2", weight=5),
    ]


async def test_an_unknown_name_is_an_error_with_the_nearest_one(policy: MakePolicy) -> None:
    lua = policy(TOP)
    await lua.load()
    with pytest.raises(
        PolicyError, match=r"egress pool 'bests' is not defined in sources\.toml, .*did you mean 'best'"
    ):
        await lua.ask("get_egress_pool", "bests")
    with pytest.raises(PolicyError, match="egress source 'ip-3' is not defined"):
        await lua.ask("get_egress_source", "ip-3")


async def test_all_that_is_wrong_is_named_at_once(write: Write, policy: MakePolicy) -> None:
    write("sources.toml", WRONG)
    lua = policy("require('policy-extras.sources'):setup { 'sources.toml', 'absent.toml' }")
    await lua.load()
    with pytest.raises(PolicyError) as caught:
        await lua.ask("get_egress_pool", "a")
    for text in (
        "sources.toml: unknown section 'pol' (did you mean 'pool'?)",
        "sources.toml: [pool.\"a\".\"ip1\"]: unknown option 'wieght' (did you mean 'weight'?)",
        "sources.toml: [source.\"ip-1\"]: unknown option 'source_adress' (did you mean 'source_address'?)",
        "sources.toml: [source.\"ip-1\"]: option 'remote_port' must be an integer",
        "absent.toml: No such file or directory",
    ):
        assert text in str(caught.value)


async def test_validation_names_unknown_sources(write: Write, validate: Validate) -> None:
    write("more.json", '{"pool": {"best": {"ip1": {}, "unspecified": {}}}, "source": 5}')
    lines = await validate("require('policy-extras.sources'):setup { 'sources.toml', 'more.json' }")
    assert lines == [
        "more.json: [source]: must be a table, got number 5",
        "more.json: [pool.\"best\".\"ip1\"]: source 'ip1' is not defined (did you mean 'ip-1'?)",
    ]


async def test_validation_of_what_is_right_says_nothing(validate: Validate) -> None:
    assert await validate(TOP) == []


async def test_files_are_read_once_an_epoch_and_a_bad_edit_changes_nothing(
    write: Write, policy: MakePolicy, host: RecordingHost, mock_clock: MockClock
) -> None:
    lua = policy("require('policy-extras.sources'):setup { 'sources.toml' }")
    await lua.load()

    async def address() -> str:
        return str((await lua.ask("get_egress_source", "ip-2")).source_address)

    assert await address() == "192.0.2.2"
    write("sources.toml", FILE.replace("192.0.2.2", "192.0.2.9"))
    assert await address() == "192.0.2.2"
    await lua.load()
    assert await address() == "192.0.2.9"
    write("sources.toml", "[source.'ip-2']\nsource_address = 'nonsense'")
    mock_clock.jump(301)
    assert await address() == "192.0.2.9"
    (error,) = host.named("error")
    assert "what was loaded before stays in force" in error
    assert "sources.toml: [source.\"ip-2\"]: source_address 'nonsense'" in error


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("s:setup {} s:setup {}", "may be called once"),
        ("s:setup 'sources.toml'", "setup takes a list of files"),
    ],
)
async def test_a_wrong_setup(run: Run, call: str, text: str) -> None:
    with pytest.raises(PolicyError, match=rf"policy\.lua:2: .*{text}"):
        await run("", top=f"local s = require 'policy-extras.sources' {call}")
