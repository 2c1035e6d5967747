"""How inspect-ready-q looks: hosts, states, and dispatchers that may be stuck."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from kumo_py.cli import main
from kumo_py.cli.endpoint import Endpoint

NAME = "ip-1->mx.b.test@smtp_client"


def dispatcher(number: int, age: str, phase: object, since: str, *counts: int, **more: Any) -> dict[str, Any]:
    delivered, transfailed, failed = counts
    return {
        "session_id": f"{number:08}-0000-4000-8000-000000000000",
        "started_at": "2026-06-19T13:42:17Z",
        "age": age,
        "phase": phase,
        "detail": None,
        "time_in_current_phase": since,
        "messages_delivered": delivered,
        "messages_transfailed": transfailed,
        "messages_failed": failed,
        "delivered_this_connection": 0,
        "overall_rate_per_sec": 0.0,
        **more,
    }


def answer(**state: object) -> dict[str, Any]:
    return {
        "queue_name": NAME,
        "mx": {
            "site_name": "mx.b.test",
            "by_preference": {"100": ["c.b.test."], "20": ["b.b.test."], "5": ["a.b.test.", "mx.b.test."]},
            "is_mx": True,
            "is_domain_literal": False,
            "is_secure": True,
        },
        "egress_source": "ip-1",
        "egress_pool": "pool",
        "protocol": "smtp_client",
        "state": {
            "ready_count": 1142,
            "connection_count": 1003,
            "connection_rate_throttled": None,
            "connection_limited": None,
            "suspended": None,
            "watchdog_threshold": "10m",
            **state,
        },
        "path_config": {"connection_limit": "32", "skip_hosts": [], "provider_name": None},
        "constraints": {
            "max_concurrent_dispatchers": {"value": 32.0, "source": {"kind": "primary"}, "display": "32"},
            "max_message_rate": None,
            "max_message_rate_declared": None,
            "max_connection_rate": None,
            "max_source_selection_rate": None,
        },
        "scheduled_queue_names": [],
        "dispatchers": [],
        "now": "2026-06-19T13:42:17Z",
    }


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the command prints for an answer."""

    def show(found: dict[str, Any], *options: str) -> str:
        monkeypatch.setattr(Endpoint, "get", lambda self, path: found)
        result = CliRunner().invoke(main, ["inspect-ready-q", *options, NAME])
        assert result.exit_code == 0, result.output
        return result.stdout

    return show


def test_hosts_and_numbers(shown: Any) -> None:
    assert shown(answer()) == (
        f"queue: {NAME}\n"
        "\n"
        "egress pool:        pool\n"
        "egress source:      ip-1\n"
        "protocol:           smtp_client\n"
        "watchdog threshold: 10m\n"
        "\n"
        "mx (site: mx.b.test, dnssec verified):\n"
        "     5  a.b.test.\n"
        "     5  mx.b.test.\n"
        "    20  b.b.test.\n"
        "   100  c.b.test.\n"
        "\n"
        "ready: 1,142\n"
        "\n"
        "ceilings:\n"
        "  concurrent dispatchers: 32\n"
        "    source: connection_limit\n"
        "\n"
        "connections: 1,003\n"
    )
    found = answer()
    found["mx"] |= {"is_mx": False, "is_domain_literal": True, "is_secure": False}
    assert "\nmx (site: mx.b.test, synthesised, domain literal):\n" in shown(found)
    assert shown(answer(), "--config").endswith(
        '\nconnections: 1,003\n\nconfig:\n  connection_limit = "32"\n  skip_hosts = []\n'
    )


def test_states(shown: Any) -> None:
    since = "2026-06-19T13:42:17.250000Z"
    text = shown(
        answer(
            connection_rate_throttled={"context": "max_connection_rate throttling for 5s", "since": since},
            connection_limited={"context": "TooManyLeases for x", "since": "2026-06-19T13:42:17Z"},
            suspended={"id": "", "name": NAME, "reason": "why", "duration": "1h 27m", "expires": since},
        )
    )
    assert (
        "\nready: 1,142\n"
        "\n"
        "connection rate throttled: max_connection_rate throttling for 5s\n"
        "  since: 2026-06-19 13:42:17.250000 UTC\n"
        "\n"
        "connection limited: TooManyLeases for x\n"
        "  since: 2026-06-19 13:42:17 UTC\n"
        "\n"
        "suspended: why\n"
        "  expires in: 1h 27m\n"
        "\n"
        "ceilings:\n"
    ) in text


def test_dispatchers(shown: Any) -> None:
    """The oldest first; those that have done nothing for long are marked."""
    found = answer()
    sending = {"detail": "send msg with 1 recip(s), waiting for the message"}
    found["dispatchers"] = [
        dispatcher(1, "31s", "Idle", "31s", 0, 0, 0),
        dispatcher(2, "47m 8s", "DeliveringMessage", "42m 12s", 1391, 0, 0, **sending),
        dispatcher(
            3, "8m 12s", {"AcquiringLease": {"label": "x"}}, "1s 200ms", 142, 4, 0, overall_rate_per_sec=18.04
        ),
        dispatcher(4, "8m", {"AccumulatingBatch": {"have": 1, "want": 3}}, "8m", 45, 1, 12),
    ]
    assert shown(found, "--connections").partition("connections: 1,003\n")[2] == (
        "  SESSION                                           DELIV TRANS FAIL    AGE   RATE\n"
        "  00000002-0000-4000-8000-000000000000              1,391     0    0 47m 8s  0.0/s ⚠ STUCK\n"
        "  DeliveringMessage for 42m 12s\n"
        "  send msg with 1 recip(s), waiting for the message\n"
        "\n"
        "  00000003-0000-4000-8000-000000000000                142     4    0 8m 12s 18.0/s\n"
        "  AcquiringLease(x) for 1s 200ms\n"
        "\n"
        "  00000004-0000-4000-8000-000000000000                 45     1   12     8m  0.0/s ⚠ STALL?\n"
        "  AccumulatingBatch(1/3) for 8m\n"
        "\n"
        "  00000001-0000-4000-8000-000000000000                  0     0    0    31s  0.0/s\n"
        "  Idle for 31s\n"
        "\n"
    )
    assert "SESSION" not in shown(found)
    assert "SESSION" not in shown(answer(), "--connections")
