"""kumo-py queue-summary and provider-summary: the tables that are made of a node's metrics and rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from click.testing import CliRunner

from kumo_py.cli import main
from kumo_py.cli.endpoint import Endpoint
from kumo_py.cli.summary import samples, split_ready_name
from kumo_py.cli.table import natural_key, print_table
from kumo_py.dns import Resolver, ZoneBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., list[str]]

ONE, TWO, LUA = (
    "ip1->mx.one.example@smtp_client",
    "ip10->mx.two.example@smtp_client",
    "ip2->hook@lua:make.hook",
)


def metric(label: str, values: dict[str, float]) -> dict[str, Any]:
    return {"help": "", "type": "gauge", "value": {label: values}}


def service(values: dict[str, int], protocol: str = "smtp_client") -> dict[str, Any]:
    """With the sum over all, as a node has it."""
    return metric(
        "service", {protocol: sum(values.values()), **{f"{protocol}:{name}": n for name, n in values.items()}}
    )


METRICS: dict[str, Any] = {
    "memory_usage": {"help": "", "type": "gauge", "value": 5},
    "memory_limit": {"help": "", "type": "gauge", "value": None},
    "connection_count": service({ONE: 3, TWO: 0}),
    "ready_count": service({ONE: 4, TWO: 1200}),
    "total_messages_delivered": service({ONE: 1234567}),
    "total_messages_transfail": service({ONE: 5, TWO: 6}),
    "scheduled_count": metric(
        "queue",
        {"q10.example": 7, "q9.example": 20, "camp:ten@q1.example!route.example": 1500, "Q2.example": 0},
    ),
    "total_messages_delivered_by_provider": metric("provider", {"one": 100, "mx.two.example": 5}),
    "total_messages_fail_by_provider": metric("provider", {"one": 7}),
    "total_messages_transfail_by_provider": metric("provider", {"one": 8}),
    "connection_count_by_provider": metric("provider", {"one": 3, "idle": 1}),
    "queued_count_by_provider": metric("provider", {"one": 9, "mx.two.example": 3000}),
    "total_messages_delivered_by_provider_and_source": {
        "help": "",
        "type": "counter",
        "value": [
            {"provider": "one", "source": "ip1", "pool": "a", "@": 60},
            {"provider": "one", "source": "ip2", "pool": "a", "@": 30},
            {"provider": "one", "source": "ip2", "pool": "b", "@": 10},
        ],
    },
    "queued_count_by_provider_and_pool": {
        "help": "",
        "type": "gauge",
        "value": [{"provider": "one", "pool": "b", "@": 200}, {"provider": "two", "pool": "a", "@": 1}],
    },
}

RULE = {"id": "x", "campaign": None, "tenant": None, "domain": None, "routing_domain": None, "duration": "5m"}


@pytest.fixture
def answers() -> dict[str, Any]:
    """By path; None is a 404."""
    return {
        "/metrics.json": METRICS,
        "/api/admin/suspend/v1": [],
        "/api/admin/bounce/v1": [],
        "/api/admin/suspend-ready-q/v1": [],
        "/api/admin/ready-q-states/v1": {"states_by_ready_queue": {}},
    }


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]) -> Run:
    """Runs a command against these answers; its lines."""

    def request(self: Endpoint, method: str, path: str, accept: tuple[int, ...] = ()) -> httpx.Response:
        assert method == "GET"
        status = 404 if answers[path] is None else 200
        assert status == 200 or status in accept
        return httpx.Response(status, json=answers[path])

    monkeypatch.setattr(Endpoint, "request", request)

    def invoke(*arguments: str) -> list[str]:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    return invoke


# -- queue-summary -----------------------------------------------------------------------------------------------
def test_queues_by_name(run: Run) -> None:
    assert run("queue-summary") == [
        "SITE           SOURCE PROTO               D T C     Q",
        "mx.one.example ip1    smtp_client 1,234,567 5 3     4",
        "mx.two.example ip10   smtp_client         0 6 0 1,200",
        "",
        "SCHEDULED QUEUE                   COUNT",
        "camp:ten@q1.example!route.example 1,500",
        "Q2.example                            0",
        "q9.example                           20",
        "q10.example                           7",
    ]


def test_queues_by_volume_as_many_as_wanted(run: Run) -> None:
    lines = run("queue-summary", "--by-volume", "--limit", "1")
    assert [line.split()[0] for line in lines if line] == [
        "SITE", "mx.one.example", "SCHEDULED", "camp:ten@q1.example!route.example",
    ]  # fmt: skip
    lines = run("queue-summary", "--by-volume")
    assert [line.split()[0] for line in lines[-3:]] == ["q9.example", "q10.example", "Q2.example"]
    assert len(run("queue-summary", "--limit", "0")) == 3


def test_what_holds_queues_is_said(run: Run, answers: dict[str, Any]) -> None:
    answers["/api/admin/suspend-ready-q/v1"] = [{"name": ONE, "reason": "warm\nup\x1b[2J"}]
    state = {"context": "max_connection_rate 1/h", "since": "2025-12-24T18:00:00.123Z"}
    answers["/api/admin/ready-q-states/v1"] = {
        "states_by_ready_queue": {ONE: {"connection_rate_throttled": state}, TWO: {"a": state, "b": state}}
    }
    answers["/api/admin/suspend/v1"] = [
        RULE | {"reason": "by tenant", "tenant": "ten"},
        RULE | {"reason": "by campaign", "campaign": "none", "domain": "q9.example"},
    ]
    answers["/api/admin/bounce/v1"] = [RULE | {"reason": "enough", "domain": "q10.example"}]
    lines = run("queue-summary")
    shown = "connection_rate_throttled: max_connection_rate 1/h @ 2025-12-24 18:00:00.123 UTC"
    assert lines[1].endswith(f" 4 🛑suspend: warm up\N{REPLACEMENT CHARACTER}[2J, {shown}")
    assert " a: max" in lines[2]
    assert ", b: max" in lines[2]
    assert lines[5].endswith("1,500 🛑suspend: by tenant")
    assert lines[7].endswith(" 20")
    assert lines[8].endswith(" 7 🗑️ bounce: enough")


def test_a_bounce_goes_before_a_suspension(run: Run, answers: dict[str, Any]) -> None:
    answers["/api/admin/suspend/v1"] = [RULE | {"reason": "all"}]
    answers["/api/admin/bounce/v1"] = [RULE | {"reason": "routed", "routing_domain": "route.example"}]
    lines = run("queue-summary")
    assert lines[5].endswith("🗑️ bounce: routed")
    assert lines[6].endswith("🛑suspend: all")


def test_a_node_without_states_has_none(run: Run, answers: dict[str, Any]) -> None:
    answers["/api/admin/ready-q-states/v1"] = None
    assert len(run("queue-summary")) == 9


def test_other_protocols_and_an_empty_node(run: Run, answers: dict[str, Any]) -> None:
    answers["/metrics.json"] = {"ready_count": service({LUA: 2}, "lua")}
    assert run("queue-summary") == [
        "SITE SOURCE PROTO         D T C Q",
        "hook ip2    lua:make.hook 0 0 0 2",
        "",
        "SCHEDULED QUEUE COUNT",
    ]
    assert split_ready_name("a->b->c@smtp_client") == ("b->c", "a", "smtp_client")
    assert split_ready_name("s->x@y@maildir:/var/@") == ("x@y", "s", "maildir:/var/@")
    assert split_ready_name("odd") == ("odd", "", "")


ZONES = (
    "$ORIGIN one.example.\n@ 3600 IN MX 10 mx.one.example.\nmx 3600 IN A 127.0.0.1\n",
    "$ORIGIN q9.example.\n@ 3600 IN MX 10 mx.one.example.\n",
    "$ORIGIN route.example.\n@ 3600 IN MX 10 mx.one.example.\n",
    "$ORIGIN q10.example.\n@ 3600 IN MX 10 mx.two.example.\n",
)


@pytest.fixture
def zones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kumo_py.cli.summary.system_resolver", lambda: Resolver(backend=ZoneBackend(ZONES)))


@pytest.mark.usefixtures("zones")
def test_only_the_queues_of_a_domains_site(run: Run) -> None:
    lines = run("queue-summary", "--domain", "one.example")
    assert [line.split()[0] for line in lines if line] == [
        "SITE", "mx.one.example", "SCHEDULED", "camp:ten@q1.example!route.example", "q9.example",
    ]  # fmt: skip


@pytest.mark.usefixtures("zones", "run")
def test_a_domain_without_mail_hosts_is_named() -> None:
    result = CliRunner().invoke(main, ["queue-summary", "--domain", "none.example"])
    assert result.exit_code == 1
    assert "the DNS knows no mail hosts of none.example" in result.stderr


# -- provider-summary --------------------------------------------------------------------------------------------
def test_providers_the_busiest_first(run: Run) -> None:
    assert run("provider-summary") == [
        "PROVIDER         D T F C     Q",
        "mx.two.example   5 0 0 0 3,000",
        "one            100 8 7 3     9",
        "idle             0 0 0 1     0",
    ]
    assert len(run("provider-summary", "--limit", "2")) == 3


def test_providers_by_pool(run: Run) -> None:
    assert run("provider-summary", "--by-pool") == [
        "PROVIDER POOL  D T F C   Q",
        "one      b    10 0 0 0 200",
        "one      a    90 0 0 0   0",
        "two      a     0 0 0 0   1",
    ]


@pytest.mark.usefixtures("zones")
def test_domains_of_sites_without_a_provider(run: Run, answers: dict[str, Any]) -> None:
    answers["/metrics.json"] = METRICS | {
        "queued_count_by_provider": metric("provider", {"mx.one.example": 3, "one": 2})
    }
    lines = run("provider-summary", "--show-domains")
    assert lines[0].endswith(" Q DOMAINS")
    assert next(line for line in lines if line.startswith("mx.one.example")).endswith(
        " 3 q9.example, route.example"
    )
    assert next(line for line in lines if line.startswith("one ")).endswith(" 2")


# -- tables and metrics ------------------------------------------------------------------------------------------
def test_natural_order() -> None:
    names = ["b", "a10", "A9", "a9", "á9b", "a09", "10", "9", "-"]
    assert sorted(names, key=natural_key) == ["-", "9", "10", "A9", "a09", "a9", "á9b", "a10", "b"]


def test_wide_characters_keep_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "N"), [("日本", 1), ("abc", 2000)])
    assert capsys.readouterr().out == "NAME     N\n日本     1\nabc  2,000\n"


def test_metrics_of_any_shape() -> None:
    assert list(samples(METRICS, "memory_usage")) == [({}, 5)]
    assert list(samples(METRICS, "memory_limit")) == []
    assert list(samples(METRICS, "none")) == []
    assert list(samples(METRICS, "queued_count_by_provider_and_pool"))[1] == (
        {"provider": "two", "pool": "a"},
        1,
    )
