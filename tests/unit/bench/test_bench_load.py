"""Who is measured, and under which load."""

from __future__ import annotations

import pytest
from mailbench.compare import Plan
from mailbench.load import CONN, PERSIST, SMTP_SOURCE, TRAFFIC_GEN, Load
from mailbench.peer import RELAY, SINK
from mailbench.peers import PEERS, choose, with_workload


def test_ours_is_always_measured_and_first() -> None:
    assert [peer.name for peer in choose("postfix,smtp-sink")] == ["kumo-py", "postfix", "smtp-sink"]
    assert [peer.name for peer in choose("all")] == [peer.name for peer in PEERS]


def test_an_unknown_peer_is_named_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"no peer is named sendmail; there are kumo-py, postfix"):
        choose("postfix,sendmail")


def test_only_relays_relay() -> None:
    assert [peer.name for peer in with_workload(choose("all"), RELAY)] == [
        "kumo-py",
        "postfix",
        "haraka",
        "exim",
    ]


def test_a_connection_is_kept_in_mode_persist_only() -> None:
    persist = Load(SMTP_SOURCE, 1024, 20, PERSIST).command(2525, 100)
    conn = Load(SMTP_SOURCE, 1024, 20, CONN).command(2525, 100)
    assert [word for word in persist if word not in conn] == ["-d"]
    assert persist[-1] == "127.0.0.1:2525"


def test_our_generator_drives_ours_where_connections_are_kept() -> None:
    ours, postfix = choose("postfix")
    plan = Plan([SINK], [1024], [CONN, PERSIST], 20, 1, 1.0, None)
    assert [load.generator for load in plan.loads(ours, 1024, PERSIST)] == [SMTP_SOURCE, TRAFFIC_GEN]
    assert [load.generator for load in plan.loads(ours, 1024, CONN)] == [SMTP_SOURCE]
    assert [load.generator for load in plan.loads(postfix, 1024, PERSIST)] == [SMTP_SOURCE]
