"""Pools and sources: asked once per ttl, chosen by weight."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kumo_py
from kumo_py.core.duration import Duration
from kumo_py.core.policy import PolicyError
from kumo_py.limits.spec import LimitSpec
from kumo_py.queue.config import (
    NO_MEANING,
    UNSPECIFIED_POOL,
    DeliveryProtocol,
    EgressPath,
    EgressPool,
    EgressSource,
    Options,
    PoolEntry,
    QueueConfig,
    SmtpProtocol,
    without_meaning,
)
from kumo_py.queue.egress import EgressDirectory, SourceSelector
from kumo_py.queue.ready import length_wanted


class ScriptedPolicy:
    def __init__(self, answers: dict[tuple[str, str], object]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str]] = []

    def handles(self, event: str) -> bool:
        return True

    async def ask(self, event: str, *args: Any) -> Any:
        self.asked.append((event, args[0]))
        return self.answers.get((event, args[0]))


def pool(**weights: int) -> EgressPool:
    return EgressPool(name="p", entries=[PoolEntry(name=name, weight=n) for name, n in weights.items()])


def test_weights_interleave() -> None:
    selector = SourceSelector(pool(a=3, b=1))
    assert "".join(selector.next(selector.entries) for _ in range(8)) == "aaabaaab"


def test_equal_weights_take_turns() -> None:
    selector = SourceSelector(pool(a=2, b=2, c=2))
    assert "".join(selector.next(selector.entries) for _ in range(6)) == "abcabc"


def test_shares_follow_the_weights_and_zero_is_left_out() -> None:
    selector = SourceSelector(pool(a=50, b=30, c=20, d=0))
    assert Counter(selector.next(selector.entries) for _ in range(1000)) == {"a": 500, "b": 300, "c": 200}


def test_sources_that_cannot_be_chosen_leave_their_share_to_the_others_by_weight() -> None:
    selector = SourceSelector(pool(a=5, b=3, c=1))
    left = [entry for entry in selector.entries if entry[0] != "a"]
    assert Counter(selector.next(left) for _ in range(400)) == {"b": 300, "c": 100}


async def test_answers_are_kept_for_their_ttl() -> None:
    now = 100.0
    source = EgressSource(name="a", ttl=Duration(30))
    found = EgressPool(name="p", entries=[PoolEntry(name="a")], ttl=Duration(60))
    policy = ScriptedPolicy({("get_egress_pool", "p"): found, ("get_egress_source", "a"): source})
    directory = EgressDirectory(policy, lambda: now)
    for _ in range(3):
        assert await directory.pool("p") is found
        assert await directory.source("a") is source
    assert policy.asked == [("get_egress_pool", "p"), ("get_egress_source", "a")]
    now = 131.0
    await directory.source("a")
    await directory.pool("p")
    assert policy.asked[2:] == [("get_egress_source", "a")]


async def test_unspecified_never_asks() -> None:
    policy = ScriptedPolicy({})
    directory = EgressDirectory(policy, lambda: 0.0)
    assert await directory.pool(None) is UNSPECIFIED_POOL
    assert (await directory.source("unspecified")).name == "unspecified"
    assert policy.asked == []


async def test_a_pool_with_an_unknown_source_is_refused_with_its_name() -> None:
    policy = ScriptedPolicy({("get_egress_pool", "p"): pool(ghost=1)})
    directory = EgressDirectory(policy, lambda: 0.0)
    with pytest.raises(PolicyError, match=r"egress source 'ghost' is not defined.*get_egress_source"):
        await directory.pool("p")


def test_connections_follow_the_published_curve() -> None:
    """Queue length → connections, as KumoMTA's own table for a limit of 32."""

    def wanted(length: int) -> int:
        return sum(length_wanted(connections, 32) <= length for connections in range(32))

    assert [wanted(n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)] == [1, 2, 3, 3, 4, 5, 5, 6, 6, 7]
    assert [wanted(n) for n in (20, 32, 64, 128, 256, 400)] == [12, 17, 25, 31, 32, 32]


@given(st.integers(1, 2**63 - 1), st.integers(0, 5000), st.integers(1, 5000))
def test_one_more_connection_is_wanted_up_to_the_goal(limit: int, connections: int, length: int) -> None:
    exact = limit * -math.expm1(-0.023 * length)
    goal = min(math.ceil(exact), length)
    if abs(exact - connections) > 1e-6 * exact:  # else rounding decides
        assert (length >= length_wanted(connections, limit)) == (connections < goal)


def test_options_that_have_no_meaning_here_are_named() -> None:
    assert without_meaning(EgressPath()) == []
    assert without_meaning(QueueConfig()) == []
    path = EgressPath(
        readyq_pool_name="x", connection_limit=LimitSpec(5), maintainer_wakeup_strategy="Relaxed"
    )
    assert without_meaning(path) == ["maintainer_wakeup_strategy", "readyq_pool_name"]
    assert without_meaning(QueueConfig(timerwheel_tick_interval=Duration(1))) == ["timerwheel_tick_interval"]
    assert without_meaning(QueueConfig(strategy="SkipList")) == ["strategy"]


@pytest.mark.parametrize("options", [QueueConfig, EgressPath, EgressSource, SmtpProtocol, DeliveryProtocol])
def test_no_option_is_ignored_silently(options: type[Options]) -> None:
    """Each is read somewhere, or is on the list of those that have no meaning here."""
    rooms = Path(kumo_py.__file__).parent
    code = "".join(
        path.read_text() for path in rooms.rglob("*.py") if path.parts[-2:] != ("queue", "config.py")
    )
    for item in msgspec.structs.fields(options):
        known = item.name in NO_MEANING or item.name == "xfer"  # which is refused when the queue is set up
        assert known or re.search(rf"\.{item.name}\b", code), f"{options.__name__}.{item.name} has no effect"
