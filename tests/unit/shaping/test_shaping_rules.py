"""Which responses match which automation rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Load

RULES = """
    [["default".automation]]
    regex = "everywhere"
    action = {SetConfig = {name = "connection_limit", value = 1}}
    duration = "90m"

    [["big.test".automation]]
    regex = ["\\\\[TS04\\\\]", "too (?!few)"]
    action = ["Suspend", {SetDomainConfig = {name = "max_ready", value = 2}}]
    trigger = {Threshold = "10/hr"}
    duration = "2 hours"

    ["a.test"]
    mx_rollup = false
    [["a.test".automation]]
    regex = "everywhere|here"
    action = "SuspendTenant"
    duration = 5

    [provider.p]
    match = [{DomainSuffix = ".test"}]
    [[provider.p.automation]]
    regex = "^451 4.7.1 .*internal"
    action = "BounceCampaign"
    duration = "1d"
    match_internal = true
"""


def record(content: str, recipient: str = "user@x.example", site: str = "x", **more: Any) -> dict[str, Any]:
    enhanced = {"class": 4, "subject": 7, "detail": 1}
    response = {"code": 451, "enhanced_code": enhanced, "content": content, "command": None}
    return {"recipient": recipient, "site": site, "response": response, **more}


async def test_rules_of_the_default_match_any_domain(load: Load) -> None:
    shaping = await load(RULES)
    ((rule, rollup),) = await shaping.match_rules(record("seen everywhere"))
    assert rule.regex.texts == ("everywhere",)
    assert rule.duration == 5400.0
    assert rollup
    assert await shaping.match_rules(record("elsewhere")) == []


async def test_rules_from_all_blocks_in_order(load: Load) -> None:
    shaping = await load(RULES)
    found = await shaping.match_rules(record("everywhere", "user@a.test"))
    assert [(match.rule.action, match.rollup) for match in found[1:]] == [("SuspendTenant", False)]
    assert found[0].rollup


async def test_rules_of_a_site_are_found_by_the_records_path(load: Load) -> None:
    shaping = await load(RULES)
    (site,) = shaping.sites
    path = f"ip-1->{site}@smtp_client"
    ((rule, rollup),) = await shaping.match_rules(record("[TS04] later", site=path, egress_source="ip-1"))
    assert rollup
    assert rule.to_table() == {
        "regex": [r"\[TS04\]", "too (?!few)"],
        "action": ["Suspend", {"SetDomainConfig": {"name": "max_ready", "value": 2}}],
        "trigger": {"Threshold": "10/h"},
        "duration": "2h",
        "match_internal": False,
    }
    found = await shaping.match_rules(record("too many", site=path, egress_source="ip-1"))
    assert [match.rule for match in found] == [rule]
    assert await shaping.match_rules(record("too few", site=path, egress_source="ip-1")) == []
    assert await shaping.match_rules(record("[TS04]", site=path, egress_source="ip-2")) == []


async def test_what_the_node_says_itself_matches_only_if_asked_for(load: Load) -> None:
    shaping = await load(RULES)
    ((rule, _),) = await shaping.match_rules(record("KumoMTA internal: everywhere", "user@b.test"))
    assert rule.action == "BounceCampaign"
    assert await shaping.match_rules(record("KumoMTA internal: everywhere")) == []


async def test_a_pattern_that_takes_too_long_is_not_found(load: Load) -> None:
    shaping = await load("""
        [["default".automation]]
        regex = ["(?=a)(a|aa)+$", "b$"]
        action = "Suspend"
        duration = 5
        [["default".automation]]
        regex = "(?=a)(a|aa)+$"
        action = "Suspend"
        duration = 6
    """)
    ((rule, _),) = await shaping.match_rules(record("a" * 60 + "b"))
    assert rule.duration == 5


async def test_records_that_no_rule_can_match(load: Load) -> None:
    shaping = await load(RULES)
    assert await shaping.match_rules(record("everywhere", "postmaster")) == []
    assert await shaping.match_rules({**record("everywhere"), "recipient": ["a@b.example", "c@d"]})
    for wrong in ({"recipient": "x@y"}, record("x", "nobody"), {"recipient": []}, {}):
        with pytest.raises(ValueError, match="record"):
            await shaping.match_rules(wrong)
