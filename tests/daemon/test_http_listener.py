"""The HTTP listener of a whole node: what it answers, and whom."""

from __future__ import annotations

import base64
import re
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
import trustme
from real_node import relay_policy
from smtp_sink import SmtpSink
from test_node_in_process import kinds, problem, running, submit, until, write

from kumo_py.admin.access import Access
from kumo_py.admin.routes import ROUTES, Route
from kumo_py.daemon import Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.time_limit(30)

HTTP = """
kumo.on('pre_init', function()
  kumo.start_http_listener { listen = '127.0.0.1:0', @OPTIONS@ }
end)
"""
STRANGER = "127.0.0.2"


def policy(directory: Path, options: str = "", more: str = "", to: str = "127.0.0.1:9", **relay: str) -> Path:
    """A relay with an HTTP listener."""
    http = HTTP.replace("@OPTIONS@", options)
    return write(directory, relay_policy(directory, to, more=http + more, **relay))


@asynccontextmanager
async def api(node: Node, peer: str = "127.0.0.1", **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the node's listener, with an address of its own."""
    [address] = node.addresses["http"]
    transport = httpx.AsyncHTTPTransport(local_address=peer, **options)
    scheme = "https" if options else "http"
    async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://{address}") as client:
        yield client


async def ready(node: Node) -> None:
    assert node.reloader is not None
    status = node.reloader.status
    await until(lambda: status.epoch == 1)


# -- whom it answers -----------------------------------------------------------------------------------------------
def may(route: Route, who: str) -> bool:
    if route.access is Access.ANYBODY or who == "trusted":
        return True
    return route.access is Access.AUTHENTICATED and who == "user"


AUTH = """
kumo.on('http_server_validate_auth_basic', function(user, password)
  asked = (asked or 0) + 1
  kumo.log_warn('asked', user, password)
  if user == 'broken' then error 'no database' end
  if user == 'operator' and password == 'sesame' then
    return {
      identities = { { identity = 'the operator', context = 'HttpBasicAuth' } },
      groups = { 'kumomta:http-listener-trusted-ip' },
    }
  end
  return user == 'user' and password == 'sesame'
end)
kumo.on('http_server_validate_auth_bearer', function(token)
  return token == 'let-me-in'
end)
"""


@pytest.mark.parametrize("who", ["stranger", "user", "trusted"])
async def test_every_route_is_for_whom_it_says(tmp_path: Path, who: str) -> None:
    """Strangers get 401 everywhere but at the health check, and none of their body is read."""
    async with running(policy(tmp_path, more=AUTH)) as node:
        await ready(node)
        auth = ("user", "sesame") if who == "user" else None
        async with api(node, "127.0.0.1" if who == "trusted" else STRANGER) as client:
            for route in ROUTES:
                response = await client.request(route.method, route.path, auth=auth)
                if may(route, who):
                    # those that need parameters or a body say so, the others answer
                    assert response.status_code in (200, 400, 415), (route, response.text)
                    continue
                assert response.status_code == 401, route
                identity = "id=[user]" if who == "user" else "<Unauthenticated>"
                assert response.text == (
                    f"{identity}@ ip=127.0.0.2 not permitted {route.method} on "
                    f"http_listener/{node.addresses['http'][0]}{route.path}"
                )
                assert response.headers["www-authenticate"].startswith("Basic")
        assert node.admin.list_suspensions() == []
        assert node.reloader is not None
        assert node.reloader.status.epoch == (1 if who != "trusted" else node.policy.epoch)


def test_what_is_for_others() -> None:
    assert {(route.path, route.access) for route in ROUTES if route.access is not Access.TRUSTED} == {
        ("/api/check-liveness/v1", Access.ANYBODY),
        ("/api-docs/openapi.json", Access.ANYBODY),
        ("/rapidoc", Access.ANYBODY),
        ("/rapidoc/explorer.css", Access.ANYBODY),
        ("/rapidoc/explorer.js", Access.ANYBODY),
        ("/api/inject/v1", Access.AUTHENTICATED),
    }


async def test_credentials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def basic(text: str) -> dict[str, str]:
        return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}

    async with running(policy(tmp_path, more=AUTH)) as node:
        async with api(node, STRANGER) as client:
            for header, status in (
                (basic("operator:sesame"), 200),  # the policy may give out the group
                (basic("operator:Sesame"), 401),
                (basic("user:sesame"), 401),  # known, but may not
                (basic("user"), 401),
                (basic("user:"), 401),
                (basic("broken:x"), 500),
                ({"Authorization": "bearer let-me-in"}, 401),
                ({"Authorization": "Bearer sesame"}, 401),
                ({"Authorization": "Basic ***"}, 400),
                ({"Authorization": "Basic " + base64.b64encode(b"\xff").decode()}, 400),
                ({"Authorization": "Digest x"}, 400),
                ({"Authorization": "Basic"}, 401),  # of nobody
            ):
                response = await client.get("/metrics", headers=header)
                assert response.status_code == status, (header, response.text)
            assert response.text == "HttpBasicAuth Authentication Failed for "
            headers = [("Authorization", basic("operator:sesame")["Authorization"])] * 2
            response = await client.get("/metrics", headers=headers)
            assert (response.status_code, response.text) == (400, "more than one authorization header")
            # wrong credentials are refused even where none are needed
            response = await client.get("/api/check-liveness/v1", headers=basic("nobody:x"))
            assert (response.status_code, response.text) == (
                401,
                "HttpBasicAuth Authentication Failed for nobody",
            )
            response = await client.post(
                "/api/inject/v1", json={}, headers={"Authorization": "Bearer let-me-in"}
            )
            assert response.status_code == 422
        async with api(node) as client:
            response = await client.get("/metrics", headers=basic("nobody:x"))
            assert response.status_code == 401
        capsys.readouterr()
        async with api(node, STRANGER) as client:
            for _ in range(3):
                await client.get("/metrics", headers=basic("operator:sesame"))
                await client.get("/metrics", headers=basic("broken:x"))
            log = capsys.readouterr().out
            assert "asked operator" not in log  # kept for a minute
            assert log.count("asked broken x") == 3  # errors are not
            assert node.reloader is not None
            await node.reloader.reload()
            await client.get("/metrics", headers=basic("operator:sesame"))
            assert "asked operator sesame" in capsys.readouterr().out  # another policy is asked anew
        kept = node.http._shared.authentication.kept
        assert b"sesame" not in repr(kept._entries).encode()


async def test_without_a_handler_nobody_is_known(tmp_path: Path) -> None:
    async with running(policy(tmp_path)) as node, api(node, STRANGER) as client:
        response = await client.get("/metrics", auth=("user", "sesame"))
        assert (response.status_code, response.text) == (
            401,
            "HttpBasicAuth Authentication Failed for user",
        )


async def test_trusted_hosts(tmp_path: Path) -> None:
    async with running(policy(tmp_path, "trusted_hosts = { '127.0.0.2' }")) as node:
        async with api(node) as client:
            assert (await client.get("/metrics")).status_code == 401
            forged = {"X-Forwarded-For": "127.0.0.2", "X-Real-IP": "127.0.0.2", "Forwarded": "for=127.0.0.2"}
            assert (await client.get("/metrics", headers=forged)).status_code == 401
        async with api(node, "127.0.0.2") as client:
            assert (await client.get("/metrics")).status_code == 200


async def test_strangers_cannot_shut_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kumo_py.admin.listener.MAX_STRANGERS", 3)
    async with running(policy(tmp_path)) as node:
        host, _, port = node.addresses["http"][0].partition(":")
        streams = [await trio.open_tcp_stream(host, int(port), local_address=STRANGER) for _ in range(4)]
        with trio.fail_after(2):
            assert b"503" in await streams[3].receive_some()
            async with api(node) as client:
                assert (await client.get("/metrics")).status_code == 200
        for stream in streams:
            await stream.aclose()
        await trio.sleep(0.05)
        async with api(node, STRANGER) as client:
            assert (await client.get("/api/check-liveness/v1")).status_code == 200


# -- what it answers -----------------------------------------------------------------------------------------------
async def test_paths_and_methods(tmp_path: Path) -> None:
    async with running(policy(tmp_path)) as node, api(node) as client:
        for path in ("/nowhere", "/metrics/", "//metrics", "/api/admin/bounce/v1/../v1%2f", "/METRICS"):
            request = client.build_request("GET", "/")
            request.extensions["target"] = path.encode()  # as it is
            assert (await client.send(request)).status_code == 404, path
        response = await client.put("/api/admin/bounce/v1")
        assert (response.status_code, response.headers["allow"]) == (405, "DELETE, GET, POST")
        response = await client.head("/metrics")
        assert (response.status_code, response.text) == (200, "")
        [address] = node.addresses["http"]
        request = client.build_request("GET", "/api/check-liveness/v1")
        request.extensions["target"] = f"http://{address}/api/check-liveness/v1".encode()
        assert (await client.send(request)).text == "OK"
        response = await client.get("/metrics?" + "&".join(f"a{n}=1" for n in range(40)))
        assert response.status_code == 400


async def test_liveness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(policy(tmp_path)) as node, api(node, STRANGER) as client:

        async def liveness() -> tuple[int, str]:
            response = await client.get("/api/check-liveness/v1")
            return response.status_code, response.text

        assert await liveness() == (200, "OK")
        monkeypatch.setattr(node._spools["data"], "free_space_low", lambda: True)
        assert await liveness() == (503, "storage is too full")
        node.memory.over_soft_limit = True
        assert await liveness() == (503, "load shedding")


async def test_while_the_node_starts_and_stops(tmp_path: Path) -> None:
    """It answers from its binding until the last session has ended."""
    slow = "kumo.on('pre_init', function() kumo.time.sleep(0.5) end)\n"
    node = Node(policy(tmp_path, more=slow), grace=5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.serve)
        await until(lambda: bool(node.addresses["http"]))
        async with api(node) as client:
            response = await client.get("/api/check-liveness/v1")
            assert (response.status_code, response.text) == (503, "waiting for spool startup")
            assert (await client.get("/metrics.json")).json()["lua_count"]["value"] >= 1
            for path in ("/api/kumo-py/policy/v1", "/api/admin/bounce/v1"):
                response = await client.get(path)
                assert (response.status_code, response.text) == (503, "waiting for spool startup")
            await until(lambda: node.ready)
            assert (await client.get("/api/check-liveness/v1")).text == "OK"
            [address] = node.addresses["smtp"]
            host, _, port = address.partition(":")
            session = await trio.open_tcp_stream(host, int(port))
            await session.receive_some()
            await session.send_all(b"EHLO x\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n")
            await trio.sleep(0.1)
            node.stop()
            await trio.sleep(0.1)
            response = await client.get("/api/check-liveness/v1")
            assert (response.status_code, response.text) == (503, "shutting down")
            response = await client.post("/api/inject/v1", json={})
            assert (response.status_code, response.text) == (503, "Error: shutting down")
            await session.send_all(b"x\r\n.\r\n")
            await session.aclose()
        with trio.fail_after(4):
            while nursery.child_tasks:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_a_slow_reader_does_not_outlast_the_grace(tmp_path: Path) -> None:
    node = Node(policy(tmp_path), grace=0.3)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.serve)
        host, _, port = node.addresses["http"][0].partition(":")
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((host, int(port)))
            slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
            await trio.sleep(0.1)
            began = trio.current_time()
            node.stop()
            while nursery.child_tasks:  # noqa: ASYNC110
                await trio.sleep(0.01)
            assert trio.current_time() - began < 3


async def test_https(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    options = (
        f"use_tls = true, tls_certificate = '{tmp_path}/cert.pem', tls_private_key = '{tmp_path}/key.pem'"
    )
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with running(policy(tmp_path, options)) as node:
        async with api(node, verify=context) as client:
            assert (await client.get("/metrics")).status_code == 200
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.HTTPError):
                await client.get(f"http://{node.addresses['http'][0]}/metrics", timeout=2)
    async with running(policy(tmp_path / "self", "use_tls = true, hostname = 'mx.example'")) as node:
        context = ssl._create_unverified_context()
        async with api(node, verify=context) as client:
            assert (await client.get("/metrics")).status_code == 200


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("listen = '@TAKEN@'", "cannot listen on @TAKEN@: Address already in use"),
        ("listen = '127.0.0.1'", "'127.0.0.1' has no port: write 'ip:port'"),
        ("listen = 'localhost:8000'", "is not an address: write 'ip:port'"),
        (
            "use_tls = true, tls_certificate = '/nowhere', tls_private_key = '/nowhere'",
            "No such file or directory",
        ),
        ("trusted_host = {}", "did you mean 'trusted_hosts'?"),
        ("request_body_limit = 'much'", "request_body_limit"),
    ],
)
async def test_what_cannot_be_opened_is_an_error_of_the_policy(
    tmp_path: Path, options: str, error: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = options.replace("@TAKEN@", address)
        call = f"kumo.on('pre_init', function()\n kumo.start_http_listener {{ {options} }}\nend)"
        text = await problem(write(tmp_path, relay_policy(tmp_path, "127.0.0.1:9", more=call)))
    assert error.replace("@TAKEN@", address) in text
    assert re.search(r"policy\.lua:\d+: kumo\.start_http_listener", text)


# -- operations --------------------------------------------------------------------------------------------------
async def test_suspending_and_bouncing(tmp_path: Path) -> None:
    """A suspended queue's message waits; a bounce finds it there."""
    with SmtpSink() as sink:
        async with running(policy(tmp_path, to=sink.address)) as node, api(node) as client:
            response = await client.post(
                "/api/admin/suspend/v1", json={"domain": "b.example", "reason": "why", "duration": "1h"}
            )
            suspension = response.json()["id"]
            [entry] = (await client.get("/api/admin/suspend/v1")).json()
            assert entry.pop("duration").startswith("59m 59s")
            assert entry == {
                "id": suspension,
                "campaign": None,
                "tenant": None,
                "domain": "b.example",
                "routing_domain": None,
                "queue_names": [],
                "reason": "why",
            }
            [id] = await submit(node.addresses["smtp"][0])
            await until(lambda: node.queues.scheduled["b.example"].delayed == 1)
            metrics = (await client.get("/metrics.json")).json()
            assert metrics["scheduled_count"]["value"] == {"queue": {"b.example": 1}}
            assert metrics["scheduled_count_total"]["value"] == 1
            assert metrics["scheduled_by_domain"]["value"] == {"domain": {"b.example": 1}}
            response = await client.post(
                "/api/admin/bounce/v1", json={"domain": "b.example", "reason": "enough"}
            )
            bounce = response.json()
            assert bounce == {"id": bounce["id"], "bounced": {}, "total_bounced": 0}
            await until(lambda: len(node.queues.spool.data) == 0)
            [entry] = (await client.get("/api/admin/bounce/v1")).json()
            assert (entry["id"], entry["bounced"], entry["total_bounced"]) == (
                bounce["id"],
                {"b.example": 1},
                1,
            )
            for path, one, name in (
                ("/api/admin/bounce/v1", bounce["id"], "bounce"),
                ("/api/admin/suspend/v1", suspension, "suspend"),
            ):
                response = await client.request("DELETE", path, json={"id": one.upper()})
                assert (response.status_code, response.text) == (200, f"removed {one}")
                response = await client.request("DELETE", path, json={"id": one})
                assert (response.status_code, response.text) == (404, f"{name} entry {one} not found")
                assert (await client.get(path)).json() == []
                response = await client.request("DELETE", path, json={"id": "all"})
                assert response.status_code == 422
            await submit(node.addresses["smtp"][0])
            await until(lambda: len(sink.deliveries) == 1)
            metrics = (await client.get("/metrics.json")).json()
            [ready_queue] = [name for name in metrics["ready_count"]["value"]["service"] if ":" in name]
            name = ready_queue.partition(":")[2]
            assert metrics["connection_count"]["value"]["service"]["smtp_client"] == 1
            assert metrics["total_messages_received"]["value"]["service"]["esmtp_listener"] == 2
            path = "/api/admin/suspend-ready-q/v1"
            response = await client.post(path, json={"name": name, "reason": "why"})
            [entry] = (await client.get(path)).json()
            assert (entry["id"], entry["name"], entry["reason"]) == (response.json()["id"], name, "why")
            assert node.admin.ready_suspended(name)
            response = await client.request("DELETE", path, json={"id": entry["id"]})
            assert response.text == f"removed {entry['id']}"
            assert not node.admin.ready_suspended(name)
    assert kinds(tmp_path, id) == ["Reception", "TransientFailure", "AdminBounce"]


async def test_the_policy_and_its_reload(tmp_path: Path) -> None:
    async with running(policy(tmp_path)) as node, api(node) as client:
        await ready(node)
        file = str(tmp_path / "policy.lua")
        status = (await client.get("/api/kumo-py/policy/v1")).json()
        assert status.pop("since") == pytest.approx(node.wall(), abs=10)
        assert status == {
            "policy": file,
            "files": [file],
            "epoch": 1,
            "reloads": 0,
            "failures": 0,
            "error": None,
            "failed_at": None,
            "restart_needed": [],
        }
        good = (tmp_path / "policy.lua").read_text()
        (tmp_path / "policy.lua").write_text(good + "\nkumo.nowhere()")
        response = await client.post("/api/kumo-py/policy/v1/reload")
        assert response.status_code == 409
        assert "kumo.nowhere" in response.json()["error"]
        assert response.json()["epoch"] == 1
        changed = good.replace("'127.0.0.1:0', relay", "'127.0.0.1:0', banner = 'x', relay")
        (tmp_path / "policy.lua").write_text(changed)
        response = await client.post("/api/kumo-py/policy/v1/reload")
        assert response.status_code == 200
        assert response.json()["error"] is None
        assert len(response.json()["restart_needed"]) == 1
        metrics = (await client.get("/metrics.json")).json()
        assert metrics["kumo_py_config_epoch"]["value"] == node.policy.epoch
        assert metrics["kumo_py_config_reload_failures_total"]["value"] >= 1
        assert metrics["kumo_py_config_reloads_total"]["value"] >= 1
        assert metrics["kumo_py_config_restart_needed"]["value"] == 1
        epoch = node.policy.epoch
        assert (await client.post("/api/admin/bump-config-epoch")).status_code == 200
        await until(lambda: node.policy.epoch == epoch + 1)


async def test_the_diagnostic_filter(tmp_path: Path) -> None:
    class Diagnostics:
        def set_filter(self, directives: str) -> None:
            if directives == "kumod=loud":
                raise ValueError("there is no level 'loud'")
            seen.append(directives)

    seen: list[str] = []
    async with running(policy(tmp_path), diagnostics=Diagnostics()) as node, api(node) as client:
        path = "/api/admin/set_diagnostic_log_filter/v1"
        assert (await client.post(path, json={"filter": "kumod=trace"})).status_code == 200
        response = await client.post(path, json={"filter": "kumod=loud"})
        assert (response.status_code, response.text) == (422, "Error: there is no level 'loud'")
    assert seen == ["kumod=trace"]


async def test_injection(tmp_path: Path) -> None:
    more = """
    kumo.on('http_message_generated', function(msg)
      kumo.log_warn('generated', msg:get_meta 'http_auth', msg:get_meta 'received_via', msg:get_meta 'hostname')
    end)
    """
    request = {
        "envelope_sender": "from@a.example",
        "content": "Subject: hi {{ name }}\r\n\r\nhello\r\n",
        "recipients": [{"email": "to@b.example", "name": "Jo"}, {"email": "nobody"}],
    }
    with SmtpSink() as sink:
        options = "hostname = 'api.example'"
        async with running(policy(tmp_path, options, more + AUTH, sink.address)) as node:
            async with api(node, STRANGER) as client:
                path = "/api/inject/v1"
                response = await client.post(path, json=request, auth=("user", "sesame"))
                assert response.status_code == 200
                result = response.json()
                assert (result["success_count"], result["fail_count"]) == (1, 1)
                assert result["failed_recipients"] == ["nobody"]
                for change in ({"content": "{{ name"}, {"envelope_sender": "x y"}, {"recipients": "to@b"}):
                    response = await client.post(path, json=request | change, auth=("user", "sesame"))
                    assert response.status_code == 422, change
                injected = {"subject": "x\r\nBcc: all@b.example", "text_body": "y"}
                response = await client.post(
                    path, json=request | {"content": injected}, auth=("user", "sesame")
                )
                assert b"Bcc" not in b"".join(delivery.content for delivery in sink.deliveries)
            await until(lambda: len(sink.deliveries) >= 1)
            metrics = await node.metrics()
            assert metrics["total_messages_received"]["value"]["service"]["http_listener"] >= 1  # type: ignore[index]
    assert b"\nSubject: hi Jo\r\n" in sink.deliveries[0].content
    for delivery in sink.deliveries:
        head = delivery.content.partition(b"\r\n\r\n")[0]
        assert b"\nBcc:" not in head


async def test_big_bodies(tmp_path: Path) -> None:
    more = AUTH
    async with running(policy(tmp_path, "request_body_limit = 1000", more)) as node:
        async with api(node) as client:
            body = {"reason": "x" * 2000}
            response = await client.post("/api/admin/suspend/v1", json=body)
            assert (response.status_code, response.text) == (
                413,
                "Failed to buffer the request body: length limit exceeded",
            )
            assert (await client.post("/api/admin/suspend/v1", json={"reason": "x"})).status_code == 200
        async with api(node, STRANGER) as client:
            response = await client.post("/api/admin/suspend/v1", content=bytes(500_000))
            assert response.status_code == 401


async def test_the_prefix_of_metrics(tmp_path: Path) -> None:
    async with running(policy(tmp_path)) as node, api(node) as client:
        response = await client.get("/metrics?prefix=node_")
        assert "\nnode_lua_count 1\n" in response.text
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        for prefix in ("x y", "x%0ay", "9", "x%22"):
            assert (await client.get(f"/metrics?prefix={prefix}")).status_code == 422


async def test_metrics_of_caches_and_memory(tmp_path: Path) -> None:
    more = """
    local double = kumo.memoize(function(n) return n * 2 end, { name = 'user.double', ttl = '1h', capacity = 10 })
    kumo.on('smtp_server_ehlo', function() double(1) double(1) double(2) end)
    """
    with SmtpSink() as sink:
        async with running(policy(tmp_path, more=more, to=sink.address)) as node, api(node) as client:
            await submit(node.addresses["smtp"][0])
            metrics = (await client.get("/metrics.json")).json()

            def cache(name: str, of: str = "user.double") -> object:
                return metrics[name]["value"]["cache_name"][of]

            for kind in ("memoize_cache", "lruttl"):
                assert cache(f"{kind}_lookup_count") == 3
                assert cache(f"{kind}_hit_count") == 1
                assert cache(f"{kind}_miss_count") == 2
            assert cache("memoize_cache_populated_count") == cache("lruttl_cache_size") == 2
            assert cache("lruttl_cache_size", "http_server_auth") == 0
            assert metrics["memory_usage"]["value"] > 10_000_000
            assert metrics["memory_limit"]["value"] == node.memory.soft_limit
            assert metrics["lua_event_started"]["value"]["event"]["smtp_server_ehlo"] == 1
            histogram = metrics["lua_event_latency"]["value"]["event"]["smtp_server_ehlo"]
            assert histogram["count"] == 1
            assert histogram["sum"] == histogram["avg"] > 0


async def test_metrics_for_the_policy(tmp_path: Path) -> None:
    more = """
    kumo.on('smtp_server_ehlo', function()
      local metrics = kumo.prometheus_metrics()
      kumo.log_warn('contexts', metrics.lua_count.value, metrics.total_messages_received.value.service.http_listener)
    end)
    """
    async with running(policy(tmp_path, more=more)) as node:
        assert await node.policy.ask("smtp_server_ehlo", "x", None, []) is None
        assert (await node.metrics())["lua_count"]["value"] == 1  # type: ignore[index]
