"""Access to the HTTP API by the policy's own rules; the audit log of a whole node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
import zstandard
from test_http_listener import STRANGER, api, policy
from test_node_in_process import running

from kumo_py.admin.access import Access
from kumo_py.admin.routes import ROUTES, Route
from kumo_py.core.acl import TRUSTED_GROUP, AuthInfo, Subject, http_resource
from kumo_py.policy.access_control import DEFAULT_RULES, AclMap

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.time_limit(30)

LOGIN = """
kumo.on('http_server_validate_auth_basic', function(user, password)
  if password ~= 'sesame' then
    return false
  end
  return { identities = { { identity = user, context = 'HttpBasicAuth' } }, groups = { user .. 's' } }
end)
kumo.on('http_server_validate_auth_bearer', function(token)
  return token == 'robot' and { identities = { { identity = 'the robot', context = 'BearerToken' } } }
end)
"""
RULES = """
kumo.on('get_acl_definition', function(resource)
  if resource == 'http_listener/*/api/admin/suspend' then
    return kumo.aaa.make_access_control_list {
      { criteria = { Identity = { Individual = 'mallory' } }, privilege = 'GET', access = 'Deny' },
      { criteria = { Identity = { Group = 'operators' } }, privilege = 'GET', access = 'Allow' },
    }
  elseif resource == 'http_listener/*/metrics' then
    return kumo.aaa.make_access_control_list {
      { criteria = { Identity = { Machine = '127.0.0.2' } }, privilege = 'GET', access = 'Allow' },
    }
  end
end)
"""


# -- our own rules -------------------------------------------------------------------------------------------------
CLIENTS: dict[Access | None, AuthInfo] = {
    Access.ANYBODY: {"peer_address": STRANGER, "identities": [], "groups": []},
    Access.AUTHENTICATED: {
        "peer_address": STRANGER,
        "identities": [{"identity": "user", "context": "HttpBasicAuth"}],
        "groups": ["users"],
    },
    Access.TRUSTED: {"peer_address": "127.0.0.1", "identities": [], "groups": [TRUSTED_GROUP]},
}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_our_rules_say_of_each_route_what_the_route_says(route: Route) -> None:
    rules = AclMap.from_toml(DEFAULT_RULES.read_text())

    def allowed(auth: AuthInfo) -> bool:
        for name in http_resource("0.0.0.0:8000", route.path).names:
            found = rules.get(name)
            rule = None if found is None else found.find(Subject.of(auth), route.method)
            if rule is not None:
                return rule.access == "Allow"
        return False

    order = list(Access)  # from anybody to trusted hosts: who may more comes later
    for client, auth in CLIENTS.items():
        assert client is not None
        assert allowed(auth) == (order.index(client) >= order.index(route.access)), client


def test_our_rules_name_nothing_else() -> None:
    """So that a path that is not in the table could not be reached even if it were."""
    paths = {f"http_listener/*{route.path}" for route in ROUTES}
    for name in AclMap.from_toml(DEFAULT_RULES.read_text()):
        if name != "http_listener/*/api/xfer":
            assert any(path == name or path.startswith(f"{name}/") for path in paths), name


# -- a policy's rules ----------------------------------------------------------------------------------------------
async def test_a_policy_decides_who_may_what(tmp_path: Path) -> None:
    suspend, operator, mallory = "/api/admin/suspend/v1", ("operator", "sesame"), ("mallory", "sesame")
    async with running(policy(tmp_path, more=LOGIN + RULES)) as node:
        [address] = node.addresses["http"]
        async with api(node, STRANGER) as client:
            assert (await client.get(suspend, auth=operator)).status_code == 200
            assert (await client.head(suspend, auth=operator)).status_code == 200
            response = await client.get(suspend, auth=mallory)
            assert (response.status_code, response.text) == (
                401,
                f"id=[mallory]@ ip=127.0.0.2 denied GET on http_listener/{address}{suspend}",
            )
            response = await client.post(suspend, auth=operator, json={"reason": "x"})
            assert (response.status_code, response.text) == (
                401,
                f"id=[operator]@ ip=127.0.0.2 not permitted POST on http_listener/{address}{suspend}",
            )
            assert node.admin.list_suspensions() == []
            assert (await client.get("/metrics")).status_code == 200  # by its address
            assert (await client.get("/metrics.json")).status_code == 401  # another name
        async with api(node) as client:
            # A list without a rule that fits leaves it to what the resource is part of: /api/admin.
            assert (await client.get(suspend)).status_code == 200
            assert (await client.get("/metrics")).status_code == 401  # /metrics has no more than the policy's
            assert (await client.get("/api/check-liveness/v1")).status_code == 200


async def test_a_policy_can_take_everything_away(tmp_path: Path) -> None:
    more = """
    kumo.on('get_acl_definition', function(resource) end)
    kumo.on('pre_init', function() kumo.aaa.set_fall_back_to_acl_map(false) end)
    """
    async with running(policy(tmp_path, more=more)) as node, api(node) as client:
        for route in ROUTES:
            response = await client.request(route.method, route.path)
            assert response.status_code == 401, route


async def test_a_handler_that_fails_lets_nobody_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "kumo.on('get_acl_definition', function() error 'no database' end)"
    async with running(policy(tmp_path, more=more)) as node, api(node) as client:
        response = await client.get("/metrics")
        assert (response.status_code, response.text) == (500, "try again later")
    assert "no database" in capsys.readouterr().out


# -- the audit log -------------------------------------------------------------------------------------------------
def records(directory: Path) -> list[dict[str, Any]]:
    lines: list[bytes] = []
    for path in sorted(directory.iterdir()):
        lines += zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read().splitlines()
    return [orjson.loads(line) for line in lines]


async def test_logins_and_access_are_logged(tmp_path: Path) -> None:
    options = f"log_dir = '{tmp_path}/acct', min_free_space = 0, min_free_inodes = 0"
    more = f"kumo.on('pre_init', function() kumo.aaa.configure_acct_log {{ {options} }} end)"
    async with running(policy(tmp_path, more=LOGIN + more)) as node:
        [address] = node.addresses["http"]
        async with api(node, STRANGER) as client:
            await client.get("/metrics", auth=("ann", "sesame"))
            await client.get("/metrics", auth=("ann", "wrong"))
            await client.get("/metrics", headers={"Authorization": "Bearer robot"})
            await client.get("/api/check-liveness/v1")
    found = records(tmp_path / "acct")
    assert [one["type"] for one in found] == [
        "Authentication",
        "Authorization",
        "Authentication",
        "Authentication",
        "Authorization",
        "Authorization",
    ]
    ok, denied, wrong, robot, _, allowed = found
    ann = {"identity": "ann", "context": "HttpBasicAuth"}
    assert (ok["attempted_identity"], ok["success"]) == (ann, True)
    assert ok["auth_info"] == {"peer_address": "127.0.0.2", "identities": [ann], "groups": ["anns"]}
    assert (wrong["attempted_identity"], wrong["success"]) == (ann, False)
    assert wrong["auth_info"]["identities"] == []
    assert robot["attempted_identity"] == {"identity": "the robot", "context": "BearerToken"}
    assert (denied["access"], denied["target_resource"]) == ("Deny", f"http_listener/{address}/metrics")
    assert (allowed["access"], allowed["matching_resource"]) == (
        "Allow",
        "http_listener/*/api/check-liveness",
    )
    assert "sesame" not in repr(found)
