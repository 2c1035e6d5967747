"""Which options a path gets, from which file and block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.options import convert
from kumo_py.queue.config import EgressPath
from kumo_py.shaping import Origin

if TYPE_CHECKING:
    from conftest import Load


async def test_the_default_is_below_every_domain(load: Load) -> None:
    shaping = await load("""
        ["default"]
        connection_limit = 10
        enable_tls = "Opportunistic"
        ["a.test"]
        mx_rollup = false
        connection_limit = 100
    """)
    assert await shaping.egress_path_options("a.test", "ip-1", "a") == {
        "connection_limit": 100,
        "enable_tls": "Opportunistic",
    }
    assert (await shaping.egress_path_options("b.test", "ip-1", "b"))["connection_limit"] == 10


async def test_a_block_counts_for_all_domains_of_its_site(load: Load) -> None:
    shaping = await load("""
        ["big.test"]
        max_deliveries_per_connection = 20
        ["hosted.test"]
        mx_rollup = false
        max_deliveries_per_connection = 50
        ["hosted.test".sources."ip-1"]
        max_deliveries_per_connection = 5
    """)
    (site,) = shaping.sites
    options = shaping.egress_path_options
    assert await options("other.test", "ip-1", site) == {"max_deliveries_per_connection": 20}
    assert await options("hosted.test", "ip-2", site) == {"max_deliveries_per_connection": 50}
    assert await options("hosted.test", "ip-1", site) == {"max_deliveries_per_connection": 5}
    assert await options("hosted.test", "ip-1", "elsewhere") == {"max_deliveries_per_connection": 5}


async def test_the_source_of_a_site_beats_the_domain(load: Load) -> None:
    shaping = await load("""
        ["big.test".sources."ip-1"]
        connection_limit = 3
        ["hosted.test"]
        mx_rollup = false
        connection_limit = 7
    """)
    (site,) = shaping.sites
    assert await shaping.egress_path_options("hosted.test", "ip-1", site) == {"connection_limit": 3}


async def test_later_files_lie_over_earlier_ones(load: Load) -> None:
    shaping = await load(
        """
        ["a.test"]
        mx_rollup = false
        connection_limit = 1
        max_ready = 5
        additional_connection_limits = {one = 10, two = 20}
        ["a.test".sources.s]
        smtp_port = 26
        max_ready = 7
        """,
        """
        ["a.test"]
        mx_rollup = false
        connection_limit = 2
        additional_connection_limits = {two = 21, three = 30}
        additional_message_rate_throttles = {all = "100/hr"}
        ["a.test".sources.s]
        max_ready = 8
        """,
    )
    options = await shaping.egress_path_options("a.test", "s", "x")
    assert options == {
        "connection_limit": 2,
        "max_ready": 8,
        "smtp_port": 26,
        "additional_connection_limits": {"one": 10, "two": 21, "three": 30},
        "additional_message_rate_throttles": {"all": "100/hr"},
    }
    assert convert(options, EgressPath, "test").additional_connection_limits["two"].limit == 21


async def test_replace_base_drops_what_earlier_files_said_of_the_block(load: Load) -> None:
    shaping = await load(
        """
        ["a.test"]
        mx_rollup = false
        max_ready = 5
        [["a.test".automation]]
        regex = "old"
        action = "Suspend"
        duration = "1h"
        """,
        '["a.test"]\nmx_rollup = false\nreplace_base = true\nconnection_limit = 2',
        '["a.test"]\nmx_rollup = false\nsmtp_port = 26',
    )
    assert await shaping.egress_path_options("a.test", "s", "x") == {"connection_limit": 2, "smtp_port": 26}
    assert shaping.domains["a.test"].automation == []


async def test_every_option_remembers_its_file_and_block(load: Load) -> None:
    shaping = await load(
        '["default"]\nmax_ready = 5\n["a.test"]\nmx_rollup = false\nconnection_limit = 1',
        '["a.test".sources."ip 1"]\nconnection_limit = 2\n["a.test"]\nmx_rollup = false',
    )
    settings = await shaping.settings("a.test", "ip 1", "x")
    assert settings["max_ready",].origin == Origin("1.toml", '["default"]')
    assert settings["connection_limit",].origin == Origin("2.toml", '["a.test".sources."ip 1"]')


PROVIDERS = """
    [provider.big]
    match = [{MXSuffix = ".big.test"}]
    enable_tls = "Required"
    provider_connection_limit = 10
    provider_max_message_rate = "120/s"
    [provider.big.sources.new]
    max_ready = 3
    provider_source_selection_rate = "500/d,max_burst=1"
    [provider.named]
    match = [{DomainSuffix = ".example"}, {HostName = "mx.other.test"}]
    max_ready = 9
"""


async def test_a_provider_takes_domains_all_of_whose_hosts_match(load: Load) -> None:
    shaping = await load(PROVIDERS)

    async def provider(domain: str) -> object:
        return (await shaping.egress_path_options(domain, "s", "x")).get("provider_name")

    assert await provider("hosted.test") == "big"
    assert await provider("mixed.test") is None
    assert await provider("small.test") is None
    assert await provider("null.test") is None
    assert await provider("broken.test") is None
    assert await provider("a.example") == "named"
    assert await provider("example") is None
    assert await provider("http://10.0.0.1:80 x.example") is None
    assert await provider("[192.0.2.1]") is None


async def test_hosts_may_match_different_entries(load: Load) -> None:
    shaping = await load("""
        [provider.p]
        match = [{HostName = "mx.other.test"}, {MXSuffix = ".big.test"}]
    """)
    assert await shaping.egress_path_options("mixed.test", "s", "x") == {"provider_name": "p"}


async def test_a_provider_limits_its_sites_together_for_each_source(load: Load) -> None:
    shaping = await load(PROVIDERS)
    assert await shaping.egress_path_options("big.test", "old", "x") == {
        "enable_tls": "Required",
        "provider_name": "big",
        "additional_connection_limits": {"shaping-provider-big-old-limit": "10"},
        "additional_message_rate_throttles": {"shaping-provider-big-old-rate": "120/s"},
    }
    new = await shaping.egress_path_options("big.test", "new", "x")
    assert new["additional_source_selection_rates"] == {
        "shaping-provider-big-new-selection-rate": "500/d,max_burst=1"
    }
    assert new["max_ready"] == 3
    assert convert(new, EgressPath, "test").provider_name == "big"


async def test_providers_of_several_files_are_merged(load: Load) -> None:
    shaping = await load(
        PROVIDERS,
        """
        [provider.big]
        match = [{DomainSuffix = ".other"}]
        provider_max_message_rate = "5/s"
        max_ready = 1
        [provider.named]
        replace_base = true
        match = [{DomainSuffix = "elsewhere"}]
        """,
    )
    options = await shaping.egress_path_options("a.other", "s", "x")
    assert options["max_ready"] == 1
    assert options["enable_tls"] == "Required"
    assert options["additional_message_rate_throttles"] == {"shaping-provider-big-s-rate": "5/s"}
    assert await shaping.egress_path_options("a.example", "s", "x") == {}
    assert await shaping.egress_path_options("elsewhere", "s", "x") == {"provider_name": "named"}


async def test_the_sources_that_are_named(load: Load) -> None:
    shaping = await load("""
        ["big.test".sources.one]
        max_ready = 1
        ["a.test"]
        mx_rollup = false
        ["a.test".sources.one]
        ["a.test".sources.two]
        [provider.p.sources.three]
    """)
    (site,) = shaping.sites
    assert shaping.referenced_sources() == {
        "one": [f"site:{site}", "domain:a.test"],
        "two": ["domain:a.test"],
    }


async def test_the_hash_tells_whether_anything_changed(load: Load) -> None:
    text = '["a.test"]\nmx_rollup = false\nmax_ready = 1\nsmtp_port = 26'
    first = (await load(text)).hash
    assert len(first) == 64
    assert (await load('["a.test"]\nmx_rollup = false\nsmtp_port = 26\nmax_ready = 1')).hash == first
    changes = (
        text.replace("26", "27"),
        text + '\n["a.test".sources.s]\nmax_ready = 1',
        text + '\n[["a.test".automation]]\nregex = "x"\naction = "Suspend"\nduration = 1',
        text + '\n[provider.p]\nmatch = [{MXSuffix = "x"}]',
        text.replace("a.test", "atest"),
    )
    hashes = [(await load(change)).hash for change in changes]
    assert len({first, *hashes}) == len(changes) + 1
