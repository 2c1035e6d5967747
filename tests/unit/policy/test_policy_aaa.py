"""The `kumo.aaa` module: rules, questions about them, what is kept of the answers, and the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio
import zstandard
from policy_host import run

from kumo_py.core.acl import http_resource
from kumo_py.core.policy import PolicyError
from kumo_py.logs import DeliveryLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from policy_host import MakePolicy, RecordingHost

    from kumo_py.core.acl import AuthInfo
    from kumo_py.policy import LuaPolicy

MAY = """
kumo.on('may', function(url, auth_info, privilege)
  local resource = kumo.aaa.make_http_url_resource('127.0.0.1:8080', url)
  local answer = kumo.aaa.query_resource_access(resource, auth_info, privilege)
  return { allow = answer.allow, rule = answer.rule, resource = answer.resource }
end)
"""
TRUSTED = {"groups": ["kumomta:http-listener-trusted-ip"]}
BY_GROUP = {
    "criteria": {"Identity": {"Group": "kumomta:http-listener-trusted-ip"}},
    "privilege": "GET",
    "access": "Allow",
}


async def may(lua: LuaPolicy, url: str, who: object = None, privilege: str = "GET") -> Any:
    return await lua.ask("may", url, who or {}, privilege)


async def test_our_own_rules_hold_without_a_handler(policy: MakePolicy) -> None:
    lua = policy(MAY + "kumo.on('pre_init', function() kumo.aaa.set_fall_back_to_acl_map(false) end)")
    await lua.load()
    await lua.ask("pre_init")
    assert await may(lua, "https://localhost/api/admin/baz") == {"allow": False}
    assert await may(lua, "https://localhost/api/admin/baz", TRUSTED) == {
        "allow": True,
        "rule": BY_GROUP,
        "resource": "http_listener/*/api/admin",
    }
    assert (await may(lua, "/api/check-liveness/v1"))["allow"]
    assert not (await may(lua, "/api/check-liveness/v1", TRUSTED, "POST"))["allow"]
    alice = {"identities": [{"identity": "alice", "context": "GenericAuth"}]}
    assert (await may(lua, "/api/inject/v1", alice, "POST"))["allow"]
    assert not (await may(lua, "/api/inject/v1", None, "POST"))["allow"]
    assert not (await may(lua, "/api/adminx/bounce", TRUSTED))["allow"]


HANDLER = """
kumo.on('get_acl_definition', function(resource)
  kumo.log_info(resource)
  if resource == 'http_listener/*/api/admin/baz' then
    return kumo.aaa.make_access_control_list {
      { criteria = { Identity = { Group = 'kumomta:http-listener-trusted-ip' } }, privilege = 'GET', access = 'Allow' },
    }
  end
  return nil
end)
"""


async def test_a_policy_adds_rules(policy: MakePolicy, host: RecordingHost) -> None:
    lua = policy(MAY + HANDLER)
    await lua.load()
    assert (await may(lua, "http://h/api/admin/baz"))["allow"] is False
    found = await may(lua, "http://h/api/admin/baz", TRUSTED)
    assert found == {"allow": True, "rule": BY_GROUP, "resource": "http_listener/*/api/admin/baz"}
    other = await may(lua, "http://h/api/admin/other", TRUSTED)
    assert (other["allow"], other["resource"]) == (True, "http_listener/*/api/admin")
    assert [line.partition(": ")[2] for line in host.named("info")[:4]] == [
        "http_listener/127.0.0.1:8080/api/admin/baz",
        "http_listener/127.0.0.1:8080/api/admin",
        "http_listener/127.0.0.1:8080/api",
        "http_listener/127.0.0.1:8080",
    ]


async def test_a_policys_rules_can_be_all_there_are(policy: MakePolicy) -> None:
    lua = policy(MAY + HANDLER)
    await lua.load()
    assert (await may(lua, "/api/admin", TRUSTED))["allow"]
    lua = policy(MAY + HANDLER + "kumo.on('init', function() kumo.aaa.set_fall_back_to_acl_map(false) end)")
    await lua.load()
    await lua.ask("init")
    assert (await may(lua, "/api/admin/baz", TRUSTED))["allow"]
    assert await may(lua, "/api/admin", TRUSTED) == {"allow": False}
    [configured] = lua.configured
    assert (configured.label, configured.arguments) == ("kumo.aaa.set_fall_back_to_acl_map", [False])


async def test_rules_from_a_file(policy: MakePolicy, tmp_path: Path) -> None:
    (tmp_path / "acl.toml").write_text(
        """
        [[acl."http_listener/*/metrics"]]
        allow = false
        privileges = ["GET", "POST"]
        criteria.Not = { Identity = { Machine = "192.0.2.1" } }
        [[acl."http_listener/*/metrics"]]
        allow = true
        privileges = ["GET"]
        identity.Any = {}
        """
    )
    lua = policy(
        MAY
        + """
        local rules = kumo.memoize(function() return kumo.aaa.load_acl_map('acl.toml') end,
          { name = 'rules', ttl = '5 minutes', capacity = 4 })
        kumo.on('get_acl_definition', function(resource) return rules():get(resource) end)
        """
    )
    await lua.load()
    assert (await may(lua, "/metrics", {"peer_address": "192.0.2.1"}))["allow"]
    assert await may(lua, "/metrics", TRUSTED | {"peer_address": "192.0.2.2"}) == {
        "allow": False,
        "resource": "http_listener/*/metrics",
        "rule": {
            "criteria": {"Not": {"Identity": {"Machine": "192.0.2.1"}}},
            "privilege": "GET",
            "access": "Deny",
        },
    }
    assert (await may(lua, "/api/admin/x", TRUSTED))["allow"]


async def test_answers_are_kept_for_a_while(policy: MakePolicy, autojump_clock: object) -> None:
    lua = policy(
        """
        kumo.on('get_acl_definition', function(resource)
          asked = (asked or 0) + 1
          if resource == 'http_listener' then
            return kumo.aaa.make_access_control_list {
              { criteria = { Identity = { Any = {} } }, privilege = 'GET', access = 'Allow' },
            }
          end
        end)
        kumo.on('asked', function() return asked end)
        kumo.on('keep', function()
          kumo.aaa.set_acl_cache_ttl '5 minutes'
          kumo.aaa.set_check_cache_ttl(1)
        end)
        """
    )
    await lua.load()
    auth: AuthInfo = {"peer_address": None, "identities": [], "groups": []}

    async def asked(path: str = "/a", privilege: str = "GET") -> int:
        before = await lua.ask("asked") or 0
        await lua.access.check(http_resource("127.0.0.1:1", path), auth, privilege)
        return int(await lua.ask("asked") - before)

    assert await asked() == 4
    assert await asked() == 0
    assert await asked(privilege="POST") == 0  # another question about the same rules
    assert await asked("/b") == 2
    await trio.sleep(0.4)
    assert await asked() == 4
    await lua.ask("keep")
    await trio.sleep(0.4)
    assert await asked() == 4
    hits = lua.access.decisions.hits
    await trio.sleep(0.9)
    assert (await asked(), lua.access.decisions.hits) == (0, hits + 1)
    await trio.sleep(0.2)
    assert (await asked(), lua.access.decisions.hits) == (0, hits + 1)
    await trio.sleep(300)
    assert await asked() == 4
    await lua.load()  # another policy: what the old one said is forgotten
    assert await asked() == 4


async def test_a_handler_that_fails(policy: MakePolicy) -> None:
    lua = policy(MAY + "kumo.on('get_acl_definition', function() error 'no database' end)")
    await lua.load()
    with pytest.raises(PolicyError, match="no database"):
        await may(lua, "/metrics", TRUSTED)
    lua = policy(MAY + "kumo.on('get_acl_definition', function() return { 'GET' } end)")
    await lua.load()
    with pytest.raises(PolicyError, match="must be a access_control_list, got a table"):
        await may(lua, "/metrics", TRUSTED)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "make_access_control_list { { privilege = 'GET' } }",
            r"policy.lua:3.*\[1\]: 'criteria' is required",
        ),
        ("make_access_control_list(5)", "the rules must be a list"),
        ("load_acl_map { key_data = 'x' }", "not TOML"),
        ("load_acl_map { key_data = '\\xff' }", "must be UTF-8 text"),
        ("load_acl_map 'there-is-none.toml'", "there-is-none.toml: No such file"),
        ("make_http_url_resource('127.0.0.1', '/')", "'127.0.0.1' has no port: write 'ip:port'"),
        ("make_http_url_resource('localhost:80', '/')", "'localhost' does not appear to be an IP"),
        ("make_http_url_resource('127.0.0.1:80', 'metrics')", "is not a URL"),
        ("query_resource_access({}, {}, 'GET')", "argument 'resource' must be a resource, got a table"),
        ("set_acl_cache_ttl 'soon'", "argument 'duration' must be a duration"),
        ("configure_acct_log { log_dir = 'x', log_authz = true }", "unknown option 'log_authz'"),
    ],
)
async def test_mistakes(policy: MakePolicy, code: str, problem: str) -> None:
    with pytest.raises(PolicyError, match=problem):
        await run(policy, f"kumo.aaa.{code}")


# -- the audit log ---------------------------------------------------------------------------------------------
class _Node:
    def __init__(self, log: DeliveryLog) -> None:
        self.log = log


@pytest.fixture
async def delivery_log(host: RecordingHost) -> AsyncIterator[DeliveryLog]:
    log = DeliveryLog("557f3ad4-2c8c-11ee-976e-782d7e12e173", host.wall)
    host.node = _Node(log)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.serve)
        yield log
        nursery.cancel_scope.cancel()
    await log.aclose()


def records(directory: Path) -> list[dict[str, Any]]:
    lines: list[bytes] = []
    for path in sorted(directory.iterdir()):
        assert path.name.startswith("acct-20270115-08")
        lines += zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read().splitlines()
    return [orjson.loads(line) for line in lines]


async def test_access_is_logged(
    policy: MakePolicy, tmp_path: Path, delivery_log: DeliveryLog, autojump_clock: object
) -> None:
    lua = policy(
        MAY
        + """
        kumo.on('init', function()
          kumo.aaa.configure_acct_log {
            log_dir = 'acct', max_segment_duration = '1 minute', min_free_space = 0, min_free_inodes = 0,
          }
        end)
        """
    )
    await lua.load()
    await lua.ask("init")
    await may(lua, "/api/admin/suspend/v1", TRUSTED | {"peer_address": "127.0.0.1"})
    await may(lua, "/x", None, "POST")
    await trio.sleep(65)
    allowed, denied = records(tmp_path / "acct")
    assert allowed.pop("timestamp").startswith("2027-01-15T08:00:00")
    assert allowed == {
        "type": "Authorization",
        "target_resource": "http_listener/127.0.0.1:8080/api/admin/suspend/v1",
        "privilege": "GET",
        "access": "Allow",
        "matching_resource": "http_listener/*/api/admin",
        "rule": BY_GROUP,
        "auth_info": {"peer_address": "127.0.0.1", "identities": [], **TRUSTED},
        "considered_resources": [
            "http_listener/127.0.0.1:8080/api/admin/suspend/v1",
            "http_listener/127.0.0.1:8080/api/admin/suspend",
            "http_listener/127.0.0.1:8080/api/admin",
            "http_listener/127.0.0.1:8080/api",
            "http_listener/127.0.0.1:8080",
            "http_listener/*/api/admin/suspend/v1",
            "http_listener/*/api/admin/suspend",
        ],
    }
    assert (denied["access"], denied["rule"], denied["matching_resource"]) == ("Deny", None, None)
    [segment] = (tmp_path / "acct").iterdir()
    assert not segment.stat().st_mode & 0o222  # complete
    with pytest.raises(PolicyError, match="there is an audit log already, in acct"):
        await lua.ask("init")


async def test_what_is_logged_can_be_chosen(
    policy: MakePolicy, tmp_path: Path, delivery_log: DeliveryLog, autojump_clock: object
) -> None:
    lua = policy(
        MAY
        + """
        kumo.on('init', function()
          kumo.aaa.configure_acct_log { log_dir = 'acct', log_authz_allow = false, log_authn_ok = false }
        end)
        """
    )
    await lua.load()
    await lua.ask("init")
    await may(lua, "/metrics", TRUSTED)
    await may(lua, "/metrics")
    audit = delivery_log.audit
    assert audit is not None
    auth: AuthInfo = {"peer_address": "127.0.0.1", "identities": [], "groups": []}
    for success in (True, False):
        await audit.authenticated({"identity": "a\r\nb", "context": "HttpBasicAuth"}, auth, success=success)
    await delivery_log.aclose()
    denied, failed = records(tmp_path / "acct")
    assert denied["access"] == "Deny"
    assert failed == {
        "type": "Authentication",
        "timestamp": failed["timestamp"],
        "attempted_identity": {"identity": "a\r\nb", "context": "HttpBasicAuth"},
        "success": False,
        "auth_info": auth,
    }
