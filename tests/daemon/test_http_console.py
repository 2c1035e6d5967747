"""The console and its overview as a whole node serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from smtp_sink import SmtpSink
from test_http_listener import STRANGER, api, policy, ready
from test_node_in_process import running, submit, until

from kumo_py.admin.routes import ROUTES

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.time_limit(30)

TENANTS = """
kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('tenant', msg:recipient().user)
end)
"""
OVERVIEW = "/api/kumo-py/overview/v1"


async def look(client: httpx.AsyncClient, **query: str) -> dict[str, Any]:
    response = await client.get(OVERVIEW, params=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_what_the_overview_says(tmp_path: Path) -> None:
    with SmtpSink() as sink:
        async with running(policy(tmp_path, more=TENANTS, to=sink.address)) as node, api(node) as client:
            await ready(node)
            [smtp] = node.addresses["smtp"]
            await submit(smtp, 2, "acme@good.example")
            await until(lambda: len(sink.deliveries) == 2)
            sink.close()
            await submit(smtp, 3, "globex@bad.example")
            await until(lambda: len(node.queues.wheel) == 3)
            found = await look(client)
            suspended = await client.post(
                "/api/admin/suspend/v1", json={"tenant": "globex", "reason": "wait", "duration": "1h"}
            )
            await client.post(
                "/api/admin/bounce/v1",
                json={"queue_names": ["x@y", "a@b"], "reason": "gone", "duration": "1m"},
            )
            name = found["ready_queues"]["shown"][0]["name"]
            await client.post("/api/admin/suspend-ready-q/v1", json={"name": name, "reason": "no"})
            await trio.sleep(1.1)
            later = await look(client, match="GLOBEX@", limit="1")
            by_site = await look(client, match="mx_list")
    assert found["console"] == "read_only"
    assert found["node"]["hostname"] == node.hostname
    assert 0.0 < found["node"]["uptime"] < 30.0
    assert found["node"]["started"] < found["now"]
    assert found["policy"]["epoch"] == 1
    totals = found["totals"]
    assert (totals["received"], totals["delivered"], totals["failed"]) == (5, 2, 0)
    assert totals["transfailed"] >= 3
    assert totals["scheduled"] == 3
    assert totals["memory_usage"] > 1 << 20
    assert totals["cpu_seconds"] > 0.0
    shown = {queue["name"]: queue for queue in found["scheduled_queues"]["shown"]}
    assert found["scheduled_queues"]["count"] == len(shown) == 2
    waiting = shown["globex@bad.example"]
    assert (waiting["tenant"], waiting["domain"], waiting["messages"]) == ("globex", "bad.example", 3)
    assert (waiting["campaign"], waiting["routing_domain"], waiting["suspended"]) == (None, None, None)
    assert (waiting["held"], totals["held"]) == (0, 0)
    assert 0.0 < waiting["oldest"] < 10.0
    assert "Connection refused" in waiting["last_error"]["text"]
    assert waiting["last_error"]["when"] <= found["now"]
    assert shown["acme@good.example"]["oldest"] is None
    assert found["tenants"] == [{"tenant": "globex", "messages": 3}, {"tenant": "acme", "messages": 0}]
    [path] = found["ready_queues"]["shown"]
    assert path["connection_limit"] == 8
    assert (path["delivered"], path["failed"], path["source"]) == (2, 0, "unspecified")
    assert path["last_error"] is not None
    assert found["sites"][0] | {"transfailed": 0} == {
        "site": path["site"],
        "messages": path["messages"],
        "connections": path["connections"],
        "delivered": 2,
        "failed": 0,
        "transfailed": 0,
    }
    assert found["rules"] == {"count": 0, "shown": []}

    [queue] = later["scheduled_queues"]["shown"]
    assert (queue["name"], queue["suspended"]) == ("globex@bad.example", "wait")
    assert queue["suspension_id"] == suspended.json()["id"]
    assert later["scheduled_queues"]["count"] == 1
    assert later["totals"]["scheduled"] >= 3
    assert by_site["ready_queues"]["shown"][0]["suspended"] == "no"
    assert by_site["scheduled_queues"]["count"] == 0
    rules = {rule["kind"]: rule for rule in later["rules"]["shown"]}
    assert [rule["kind"] for rule in later["rules"]["shown"]] == ["bounce", "suspend-ready-q", "suspend"]
    assert (rules["bounce"]["queue_names"], rules["bounce"]["queue_count"]) == (["a@b", "x@y"], 2)
    assert 50.0 < rules["bounce"]["left"] <= 60.0
    assert rules["bounce"]["bounced"] == 0
    assert rules["suspend"]["tenant"] == "globex"
    assert rules["suspend-ready-q"]["name"] == name


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("oder=size", "there is no parameter oder: did you mean order?"),
        ("order=ages", "order: 'ages' is not size, age or errors"),
        ("limit=0", "limit: '0' is no number from 1 to 1000"),
        ("limit=1001", "limit: '1001' is no number from 1 to 1000"),
        ("limit=%C2%B2", "limit: '²' is no number from 1 to 1000"),
        ("match=" + "x" * 257, "match: more than 256 characters"),
    ],
)
async def test_wrong_questions(tmp_path: Path, query: str, text: str) -> None:
    async with running(policy(tmp_path)) as node, api(node) as client:
        await ready(node)
        response = await client.get(f"{OVERVIEW}?{query}")
        assert (response.status_code, response.text) == (400, text)


async def test_the_page_on_the_wire(tmp_path: Path) -> None:
    async with running(policy(tmp_path)) as node, api(node) as client:
        response = await client.get("/")
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        known = await client.get("/", headers={"If-None-Match": response.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        assert "content-length" not in known.headers
        assert (await client.get("/console/console.js")).status_code == 200  # on the same connection
        head = await client.head("/console/console.js")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 1000
        assert (await client.get("/console/")).status_code == 404
        assert (await client.get("/console/../routes.py")).status_code == 404
        async with api(node, STRANGER) as stranger:
            for path in ("/", "/console/console.js", OVERVIEW):
                assert (await stranger.get(path)).status_code == 401
    async with running(policy(tmp_path / "off", "console = 'off'")) as node, api(node) as client:
        await ready(node)
        assert (await client.get("/")).status_code == 404
        assert (await look(client))["console"] == "off"


async def test_other_pages_cannot_use_any_endpoint(tmp_path: Path) -> None:
    """Neither from another origin, nor by a name of theirs that leads to the node."""
    async with running(policy(tmp_path, "hostname = 'mail.example.com'")) as node, api(node) as client:
        await ready(node)
        foreign: tuple[dict[str, str], ...] = (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "http://evil.example"},
            {"Host": "evil.example", "Origin": "http://evil.example"},
            {"Host": "evil.example", "Accept-Language": "en"},
        )
        for route in ROUTES:
            for headers in foreign:
                response = await client.request(route.method, route.path, headers=headers)
                assert response.status_code == 403, (route, headers)
        for host in ("mail.example.com", node.hostname, "localhost"):
            own = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
            response = await client.post("/api/admin/suspend/v1", json={"reason": host}, headers=own)
            assert response.status_code == 200, response.text
        assert len(node.admin.list_suspensions()) == 1
