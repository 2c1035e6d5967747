"""Looking into a real node: KumoMTA's endpoints for that, and kcli's commands for them."""

from __future__ import annotations

import json
import re
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from operated_node import World, operated_node, recent, until
from test_policy_cli import fails, succeeds

from kumo_py.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from real_node import Preloaded

pytestmark = pytest.mark.time_limit(60)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Iterator[World]:
    with operated_node(tmp_path_factory.mktemp("node"), preloaded) as world:
        yield world


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, world: World) -> Callable[..., Result]:
    monkeypatch.setenv("KUMO_KCLI_ENDPOINT", world.endpoint)
    monkeypatch.setenv("NO_PROXY", "*")
    return lambda *args: CliRunner().invoke(main, args, prog_name="kumo-py")


# -- messages ------------------------------------------------------------------------------------------------
def test_a_message_wherever_it_is(world: World, run: Callable[..., Result]) -> None:
    """In the hands of a dispatcher, in a ready queue, waiting for its next attempt, or for its first."""
    for domain, number in (
        ("stall.example", 0),
        ("stall.example", 1),
        ("wait.example", 2),
        ("later.example", 0),
    ):
        id = world.ids[domain][number]
        found = world.get("inspect-message", id=id)
        assert list(found) == ["id", "message"]
        assert found["id"] == id
        message = found["message"]
        assert message["sender"] == "from@a.example"
        assert message["recipient"] == f"to{number}@{domain}"
        assert message["data"] is None
        assert message["meta"]["reception_protocol"] == "ESMTP"
        assert "due" not in message
        assert ("scheduling" in message) == (domain == "later.example")
        assert json.loads(succeeds(run("inspect-message", id))) == found
        printed = json.loads(succeeds(run("inspect-message", "--want-body", id.upper())))
        data = printed["message"]["data"]
        assert data.endswith(f"Subject: {number}\r\n\r\ncaf\N{REPLACEMENT CHARACTER}\r\n")
        assert data == world.get("inspect-message", id=uuid.UUID(id), want_body="true")["message"]["data"]
    assert message["scheduling"] == {"first_attempt": "2099-12-24T18:00:00Z"}


def test_messages_that_are_not_there(world: World, run: Callable[..., Result]) -> None:
    nobody = "0" * 32
    assert world.get("inspect-message", 500, id=nobody) == f"Error: there is no message {nobody}"
    for query in ({}, {"id": "x"}, {"id": world.ids["wait.example"][0], "want_body": "yes"}):
        assert "the parameter '" in world.get("inspect-message", 400, **query)
    assert f"500 Error: there is no message {nobody}" in fails(run("inspect-message", nobody))
    assert "400 the parameter 'id': 'x' is not a spool id" in fails(run("inspect-message", "x"))


# -- scheduled queues ----------------------------------------------------------------------------------------
def test_a_scheduled_queue(world: World, run: Callable[..., Result]) -> None:
    name = "spring:gold@wait.example"
    found = world.get("inspect-sched-q", queue_name=name)
    assert list(found) == [
        "queue_name",
        "messages",
        "num_scheduled",
        "queue_config",
        "delayed_metric",
        "now",
        "last_changed",
    ]
    assert (found["queue_name"], found["num_scheduled"], found["delayed_metric"]) == (name, 4, 4)
    assert found["queue_config"]["retry_interval"] == "1h"
    assert found["queue_config"]["max_message_rate"] == "10/s"
    assert found["queue_config"]["egress_pool"] == "pool"
    assert found["queue_config"]["protocol"] == {
        "smtp": {"mx_list": ["127.0.0.1:1"], "treat_mx_list_as_secure": False}
    }
    assert recent(found["now"])
    assert recent(found["last_changed"])
    assert {message["id"] for message in found["messages"]} == set(world.ids["wait.example"])
    for one in found["messages"]:
        message = one["message"]
        assert list(message) == ["sender", "recipient", "meta", "data", "due", "num_attempts"]
        assert message["recipient"].endswith("@wait.example")
        assert message["meta"]["tenant"] == "gold"
        assert message["num_attempts"] == 1
        due = datetime.fromisoformat(message["due"])
        assert 3400 < (due - datetime.now(UTC)).total_seconds() < 3800
        assert message["data"] is None


def test_how_many_messages_are_shown(world: World, run: Callable[..., Result]) -> None:
    name = "spring:gold@wait.example"
    for arguments, count in (([], 4), (["--limit", "3"], 3), (["--limit", "0"], 0), (["--no-limit"], 4)):
        found = json.loads(succeeds(run("inspect-sched-q", *arguments, name)))
        assert (len(found["messages"]), found["num_scheduled"]) == (count, 4)
    found = json.loads(succeeds(run("inspect-sched-q", "--want-body", "--limit=1", name)))
    assert "\r\n\r\ncaf\N{REPLACEMENT CHARACTER}\r\n" in found["messages"][0]["message"]["data"]
    [one] = world.get("inspect-sched-q", queue_name="later.example", limit=9)["messages"]
    assert one["message"]["due"] == "2099-12-24T18:00:00Z"
    assert list(one["message"])[-1] == "scheduling"
    assert "exclude each other" in fails(run("inspect-sched-q", "--limit", "1", "--no-limit", name), 2)


def test_scheduled_queues_that_are_not_there(world: World, run: Callable[..., Result]) -> None:
    assert world.get("inspect-sched-q", 404, queue_name="x") == "Error: no such queue x"
    for query in ({}, {"queue_name": "x", "limit": "-1"}, {"queue_name": "x", "limit": "9" * 30}):
        assert "the parameter '" in world.get("inspect-sched-q", 400, **query)
    assert "404 Error: no such queue x" in fails(run("inspect-sched-q", "x"))


# -- ready queues --------------------------------------------------------------------------------------------
def test_a_ready_queue_with_a_message_in_hand(world: World, run: Callable[..., Result]) -> None:
    found = world.ready(world.stalled)
    assert list(found) == [
        "queue_name",
        "mx",
        "egress_source",
        "egress_pool",
        "protocol",
        "state",
        "path_config",
        "constraints",
        "scheduled_queue_names",
        "dispatchers",
        "now",
    ]
    assert found["queue_name"] == world.stalled
    assert found["mx"] is None
    assert (found["egress_source"], found["egress_pool"], found["protocol"]) == (
        "ip-1",
        "pool",
        "smtp_client",
    )
    assert found["scheduled_queue_names"] == ["stall.example"]
    state = found["state"]
    assert (state["ready_count"], state["connection_count"], state["watchdog_threshold"]) == (2, 1, "10m")
    assert state["suspended"] is None
    assert state["connection_rate_throttled"] is None
    assert state["connection_limited"]["context"] == "TooManyLeases for shared"
    assert recent(state["connection_limited"]["since"])
    assert found["path_config"]["additional_connection_limits"] == {"shared": "1"}
    assert found["constraints"]["max_concurrent_dispatchers"] == {
        "value": 1.0,
        "source": {"kind": "additional", "name": "shared"},
        "display": "1",
    }
    assert found["constraints"]["max_message_rate"] is None
    [dispatcher] = found["dispatchers"]
    assert list(dispatcher) == [
        "session_id",
        "started_at",
        "age",
        "phase",
        "detail",
        "time_in_current_phase",
        "messages_delivered",
        "messages_transfailed",
        "messages_failed",
        "delivered_this_connection",
        "overall_rate_per_sec",
    ]
    assert uuid.UUID(dispatcher["session_id"])
    assert recent(dispatcher["started_at"])
    assert dispatcher["phase"] == "DeliveringMessage"
    assert dispatcher["detail"] == "send msg with 1 recip(s), waiting for ."
    assert dispatcher["overall_rate_per_sec"] == 0.0
    printed = json.loads(succeeds(run("inspect-ready-q", "--json", world.stalled)))
    assert printed["dispatchers"][0]["session_id"] == dispatcher["session_id"]
    assert printed["scheduled_queue_names"] == ["stall.example"]
    without = world.get("inspect-ready-q", queue_name=world.stalled)
    assert "scheduled_queue_names" not in without


def test_a_ready_queue_for_people(world: World, run: Callable[..., Result]) -> None:
    text = succeeds(run("inspect-ready-q", world.stalled))
    shown = re.sub(r"since: .*? UTC", "since: T UTC", text)
    assert shown == (
        f"queue: {world.stalled}\n"
        "\n"
        "egress pool:        pool\n"
        "egress source:      ip-1\n"
        "protocol:           smtp_client\n"
        "watchdog threshold: 10m\n"
        "\n"
        "ready: 2\n"
        "\n"
        "connection limited: TooManyLeases for shared\n"
        "  since: T UTC\n"
        "\n"
        "ceilings:\n"
        "  concurrent dispatchers: 1\n"
        "    source: shared\n"
        "\n"
        "connections: 1\n"
    )
    assert re.search(r"since: 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? UTC", text)
    text = succeeds(run("inspect-ready-q", "--connections", "--config", "--sched-q", world.stalled))
    assert "\nscheduled queues: 1\n  stall.example\n\nconnections: 1\n  SESSION " in text
    header, row, phase, detail = text.partition("connections: 1\n")[2].splitlines()[:4]
    assert header.split() == ["SESSION", "DELIV", "TRANS", "FAIL", "AGE", "RATE"]
    assert re.fullmatch(r"  [0-9a-f-]{36} +0 +0 +0 +\S.*? 0\.0/s", row)
    assert re.fullmatch(r"  DeliveringMessage for \S.*", phase)
    assert detail == "  send msg with 1 recip(s), waiting for ."
    assert "\nconfig:\n  additional_message_rate_throttles = {}\n" in text
    assert '\n  enable_tls = "Disabled"\n' in text
    assert "it excludes" in fails(run("inspect-ready-q", "--json", "--config", world.stalled), 2)


def test_what_keeps_ready_queues_back(world: World, run: Callable[..., Result]) -> None:
    states = until(lambda: len(found := world.get("ready-q-states")["states_by_ready_queue"]) == 3 and found)
    assert set(states) == {world.stalled, world.full, world.rate}
    assert set(states[world.full]) == {"connection_limited"}
    assert states[world.full]["connection_limited"]["context"] == "TooManyLeases for shared"
    assert set(states[world.rate]) == {"connection_rate_throttled"}
    throttled = states[world.rate]["connection_rate_throttled"]
    assert re.fullmatch(r"max_connection_rate throttling for (1h|59m 59s( \d+ms)?)", throttled["context"])
    assert recent(throttled["since"])
    for wanted in (world.full, f"{world.full},x"):
        assert set(world.get("ready-q-states", queues=wanted)["states_by_ready_queue"]) == {world.full}
    assert world.get("ready-q-states", queues="x")["states_by_ready_queue"] == {}
    # Asked again and again, it is still the same refusal.
    since = states[world.full]["connection_limited"]["since"]
    time.sleep(0.6)
    states = world.get("ready-q-states")["states_by_ready_queue"]
    assert states[world.full]["connection_limited"]["since"] == since
    text = succeeds(run("inspect-ready-q", world.rate))
    assert "\nconnection rate throttled: max_connection_rate throttling for " in text
    assert "\n  connection rate:        1/h\n    source: max_connection_rate\n" in text


def test_a_suspended_ready_queue(world: World, run: Callable[..., Result]) -> None:
    name = "ip-1->mx_list:127.0.0.1:1@smtp_client"
    id = json.loads(world.post("suspend-ready-q", name=name, reason="why\x1b[2J", duration="1h"))["id"]
    suspended = world.ready(name)["state"]["suspended"]
    assert (suspended["id"], suspended["name"], suspended["reason"]) == (id, name, "why\x1b[2J")
    assert list(suspended) == ["id", "name", "reason", "duration", "expires"]
    text = succeeds(run("inspect-ready-q", name))
    assert "\nsuspended: why\N{REPLACEMENT CHARACTER}[2J\n  expires in: 59m 59s" in text
    succeeds(run("suspend-ready-q-cancel", "--id", id))


def test_ready_queues_that_are_not_there(world: World, run: Callable[..., Result]) -> None:
    assert world.get("inspect-ready-q", 404, queue_name="x") == "Error: no such ready queue x"
    assert "'queue_name' is missing" in world.get("inspect-ready-q", 400)
    assert "must be true or false" in world.get(
        "inspect-ready-q", 400, queue_name="x", include_scheduled_queues=1
    )
    assert "404 Error: no such ready queue x" in fails(run("inspect-ready-q", "x"))


def test_delivery_by_lua(world: World, run: Callable[..., Result]) -> None:
    """A dispatcher that waits for the rest of a batch."""
    name = "ip-1->lua.example@lua:make.it"
    world.submit("lua.example", 1)
    until(lambda: name in world.client.get("/metrics").text)
    until(lambda: isinstance(world.ready(name)["dispatchers"][0]["phase"], dict))
    found = world.ready(name)
    assert (found["protocol"], found["mx"], found["state"]["watchdog_threshold"]) == ("lua", None, "10m")
    [dispatcher] = found["dispatchers"]
    assert dispatcher["phase"] == {"AccumulatingBatch": {"have": 1, "want": 3}}
    assert dispatcher["detail"] is None
    assert "\n  AccumulatingBatch(1/3) for " in succeeds(run("inspect-ready-q", "--connections", name))
    world.submit("lua.example", 2)
    until(lambda: world.ready(name)["dispatchers"][0]["messages_delivered"] == 3)
    [dispatcher] = world.ready(name)["dispatchers"]
    assert dispatcher["phase"] == "Idle"
    assert dispatcher["overall_rate_per_sec"] > 0.0


def test_queues_of_the_node_s_own(world: World) -> None:
    """Requests that wait to be generated: no policy chooses their protocol, and nothing hurries them."""
    request = {
        "envelope_sender": "from@a.example",
        "content": "Subject: x\r\n\r\nhello\r\n",
        "recipients": [{"email": "one@later.example"}],
        "deferred_generation": True,
    }
    assert world.client.post("/api/inject/v1", json=request).status_code == 200
    queue = "generator.kumomta.internal"
    found = world.ready(f"unspecified->{queue}@httpinject")
    assert (found["protocol"], found["egress_pool"]) == ("httpinject", "unspecified")
    assert found["state"]["watchdog_threshold"] == "100years"
    assert world.get("inspect-sched-q", queue_name=queue)["queue_config"]["protocol"] is None


# -- paths ---------------------------------------------------------------------------------------------------
def test_a_path(world: World, run: Callable[..., Result]) -> None:
    found = world.get("resolve-egress-path", domain="wait.example", source="ip-1")
    assert list(found) == [
        "domain",
        "source",
        "mx",
        "queue_name",
        "queue_config",
        "path_config",
        "constraints",
    ]
    assert (found["domain"], found["source"], found["mx"]) == ("wait.example", "ip-1", None)
    assert found["queue_name"] == "ip-1->mx_list:127.0.0.1:1@smtp_client"
    assert found["queue_config"]["max_message_rate"] == "10/s"
    assert found["path_config"]["max_message_rate"] == "1000/s"
    limits = found["constraints"]
    assert limits["max_message_rate"] == {
        "value": 10.0,
        "source": {"kind": "other", "name": "scheduled queue max_message_rate"},
        "display": "10/s",
    }
    assert limits["max_message_rate_declared"] == "1000/s"
    assert limits["max_connection_rate"] == {"value": 10.0, "source": {"kind": "primary"}, "display": "10/s"}
    assert limits["max_source_selection_rate"] is None
    assert world.get("resolve-egress-path", domain="wait.example")["source"] == "unspecified"
    assert json.loads(succeeds(run("resolve-egress-path", "--json", "wait.example", "ip-1"))) == found
    text = succeeds(run("resolve-egress-path", "wait.example"))
    assert text.startswith(
        "domain: wait.example\nsource: unspecified\n"
        "queue:  unspecified->mx_list:127.0.0.1:1@smtp_client\n\nmx: <not resolved>\n\n"
        "--- egress path config ---\n\nadditional_connection_limits = {}\n"
    )
    ceilings = (
        "ceilings:\n"
        "  concurrent dispatchers: 32\n"
        "    source: connection_limit\n"
        "  message rate:           10/s\n"
        "    source: scheduled queue max_message_rate\n"
        "    declared: max_message_rate = 1000/s ← effectively unreachable\n"
        "  connection rate:        10/s\n"
        "    source: max_connection_rate\n"
    )
    assert text.endswith(f"\n\n--- effective ceilings ---\n\n{ceilings}")
    assert succeeds(run("resolve-egress-path", "--constraints", "wait.example")) == ceilings
    config = succeeds(run("resolve-egress-path", "--config", "wait.example"))
    assert f"\n\n{config}\n--- effective" in text
    assert "exclude each other" in fails(run("resolve-egress-path", "--json", "--config", "x"), 2)


def test_mx_hosts(world: World, run: Callable[..., Result]) -> None:
    found = world.get("resolve-egress-path", domain="mx.example", source="ip-1")
    assert found["mx"] == {
        "site_name": "(a|b).mx.example",
        "by_preference": {"10": ["a.mx.example."], "20": ["b.mx.example."]},
        "is_mx": True,
        "is_domain_literal": False,
        "is_secure": False,
    }
    assert found["queue_name"] == "ip-1->(a|b).mx.example@smtp_client"
    text = succeeds(run("resolve-egress-path", "mx.example"))
    assert "\nmx (site: (a|b).mx.example):\n    10  a.mx.example.\n    20  b.mx.example.\n\n--- " in text
    text = succeeds(run("resolve-egress-path", "[127.0.0.9]"))
    assert "\nmx: <not resolved>\n" in text  # it has an mx_list
    found = world.get("resolve-egress-path", domain="unknown.example")
    assert (found["queue_name"], found["mx"]) == ("unspecified->unknown.example@smtp_client", None)


def test_paths_that_are_not_there(world: World, run: Callable[..., Result]) -> None:
    text = world.get("resolve-egress-path", 500, domain="broken.example")
    assert text.startswith("Error: ")
    assert "no such customer" in text
    assert "'domain' is missing" in world.get("resolve-egress-path", 400)
    assert "no such customer" in fails(run("resolve-egress-path", "broken.example"))
