"""Dashboard and alerts against a real Prometheus that scrapes a real node under load."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from programs import require_program
from real_node import RealNode, relay_policy
from smtp_client import SmtpClient
from smtp_sink import SmtpSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.time_limit(90)

DOCS = Path(__file__).parents[2] / "docs" / "monitoring"
RULES = DOCS / "prometheus-alerts.yml"
HTTP = """
kumo.on('pre_init', function()
  kumo.start_http_listener { listen = '127.0.0.1:@PORT@' }
end)
"""
KUMOMTAS_NAMES = (
    'counter metrics should have "_total" suffix',
    'non-counter metrics should not have "_total" suffix',
    'non-histogram and non-summary metrics should not have "_count" suffix',
    'non-histogram and non-summary metrics should not have "_sum" suffix',
)
"""What promtool has to say to names that are KumoMTA's."""

CONFIG = """
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [ @RULES@ ]
scrape_configs:
  - job_name: kumo-py
    static_configs: [ { targets: [ '127.0.0.1:@PORT@' ] } ]
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


class Load:
    """Submits messages, some of which are refused, until the end."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc_info: object) -> None:
        self._ending.set()
        self._thread.join(10)

    def _run(self) -> None:
        with SmtpClient(self._address) as client:
            client.greet()
            while not self._ending.wait(0.01):
                assert client.envelope("from@a.example", "to@b.example").code == 354
                client.send(b"Subject: hi\r\n\r\nhello\r\n.\r\n")
                client.reply()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A node under load; the port of its HTTP listener."""
    directory, port = tmp_path_factory.mktemp("node"), free_port()
    with SmtpSink() as sink:
        node = RealNode(
            relay_policy(directory, sink.address, more=HTTP.replace("@PORT@", str(port))), directory
        )
        try:
            node.wait_ready()
            with Load(node.address):
                sink.wait_for(20, 20.0)
                yield port
            node.stop()
        finally:
            node.kill()


@pytest.fixture(scope="module")
def prometheus(node: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Its API, once it has scraped the node three times."""
    program, directory, port = (
        require_program("prometheus"),
        tmp_path_factory.mktemp("prometheus"),
        free_port(),
    )
    config = directory / "prometheus.yml"
    config.write_text(CONFIG.replace("@RULES@", str(RULES)).replace("@PORT@", str(node)))
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=output,
            stderr=output,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10.0) as api:
            deadline = time.monotonic() + 40.0
            while True:
                with contextlib.suppress(httpx.TransportError, KeyError, IndexError, ValueError):
                    if float(query(api, "count_over_time(up[1m])")[0]["value"][1]) >= 3:
                        break
                assert process.poll() is None, (directory / "output").read_text()
                assert time.monotonic() < deadline, (directory / "output").read_text()
                time.sleep(0.1)
            yield api
    finally:
        process.terminate()
        process.wait(20)


def query(api: httpx.Client, expression: str) -> list[dict[str, Any]]:
    response = api.get("query", params={"query": expression})
    answer = response.json()
    assert answer.get("status") == "success", (expression, answer)
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


# -- the expressions -----------------------------------------------------------------------------------------------
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / "grafana-dashboard.json").read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> list[str]:
    """With Grafana's variables filled in."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    found += [one["expr"] for one in dashboard()["annotations"]["list"]]
    return [text.replace("$__rate_interval", "5s").replace("$instance", ".*") for text in found]


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alert_expressions() -> list[str]:
    return [rule["expr"] for rule in alerts()]


def names(expression: str) -> set[str]:
    """The metrics that an expression uses: names before a brace, all of ours have one."""
    return set(re.findall(r"\b([a-z_:][a-z0-9_:]*)(?=\{)", expression))


# -- promtool ------------------------------------------------------------------------------------------------------
def promtool(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [require_program("promtool"), *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_promtool_has_no_complaint_that_we_can_mend(node: int) -> None:
    text = httpx.get(f"http://127.0.0.1:{node}/metrics").text
    result = promtool("check", "metrics", text=text)
    assert "error" not in result.stderr.lower(), result.stderr
    complaints = [line for line in (result.stdout + result.stderr).splitlines() if line]
    for line in complaints:
        name, _, complaint = line.partition(" ")
        assert complaint in KUMOMTAS_NAMES, line
        assert not name.startswith("kumo_py_"), line


def test_rules_are_well_formed() -> None:
    result = promtool("check", "rules", str(RULES))
    assert result.returncode == 0, result.stdout + result.stderr


def test_alerts_fire_when_they_should() -> None:
    result = promtool("test", "rules", str(DOCS / "prometheus-alerts.test.yml"))
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_is_tested_and_explained() -> None:
    tests = yaml.safe_load((DOCS / "prometheus-alerts.test.yml").read_text())["tests"]
    fired, quiet = set(), set()
    for test in tests:
        for one in test["alert_rule_test"]:
            (fired if one["exp_alerts"] else quiet).add(one["alertname"])
    known = {rule["alert"] for rule in alerts()}
    assert fired == quiet == known
    explained = set(re.findall(r"^### (\w+)$", (DOCS / "README.md").read_text(), re.MULTILINE))
    assert explained == known


# -- Prometheus ----------------------------------------------------------------------------------------------------
def test_node_is_scraped_and_rules_are_loaded(prometheus: httpx.Client) -> None:
    assert query(prometheus, "up")[0]["value"][1] == "1"
    groups = prometheus.get("rules").json()["data"]["groups"]
    loaded = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in loaded} == {rule["alert"] for rule in alerts()}
    assert [rule["lastError"] for rule in loaded if rule.get("lastError")] == []
    firing = [rule["name"] for rule in loaded if rule["state"] == "firing"]
    assert set(firing) <= {"KumoPyDiskSpaceLow", "KumoPyDiskFull"}, "of a healthy node on whatever disk"


@pytest.mark.parametrize("expressions", [dashboard_expressions, alert_expressions])
def test_every_expression_can_be_asked(
    prometheus: httpx.Client, node: int, expressions: Callable[[], list[str]]
) -> None:
    text = httpx.get(f"http://127.0.0.1:{node}/metrics").text
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    known = {name for name, kind in kinds.items() if kind != "histogram"} | {"up"}
    known |= {
        f"{name}_{part}"
        for name, kind in kinds.items()
        if kind == "histogram"
        for part in ("bucket", "count", "sum")
    }
    for expression in expressions():
        assert names(expression), expression
        assert names(expression) <= known, expression
        query(prometheus, expression)


def test_panels_of_a_node_under_load_show_something(prometheus: httpx.Client) -> None:
    """What is empty is so because this node has no such thing."""
    empty = {panel["title"] for panel in panels() if not any(shows(prometheus, panel))}
    assert empty <= {
        "Waiting, by tenant",
        "Sent back to wait",
        "DANE",
        "Sources that are suspended",
        "Failures of sources",
        "Memoized functions: known results",
        "Timers of the policy (95 %)",
        "Log hooks and loggers",
        "Redis (95 %)",
        "Signatures (95 %)",
        # timed for one message in 16, of which there may have been none in the last seconds
        "From reception to delivery",
        "Attempts (95 %)",
        "Reception (95 %)",
        "Spool (95 %)",
        "Queues (95 %)",
        "How late messages go on (95 %)",
    }


def shows(api: httpx.Client, panel: dict[str, Any]) -> Iterator[bool]:
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "5s").replace("$instance", ".*")
        yield bool(query(api, expression))


# -- the dashboard itself ------------------------------------------------------------------------------------------
def test_dashboard_is_what_grafana_10_takes() -> None:
    found = dashboard()
    assert found["schemaVersion"] >= 38
    assert [variable["name"] for variable in found["templating"]["list"]] == ["datasource", "instance"]
    ids = [panel["id"] for panel in found["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in found["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}"
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)), panel["title"]
        for target in panel["targets"]:
            assert 'instance=~"$instance"' in target["expr"], panel["title"]
