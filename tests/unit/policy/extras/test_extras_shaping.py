"""policy-extras.shaping: files, automation by traffic shaping daemons, validation."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio_websocket
from web_server import Answer, web_server

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.dns import Resolvers, ZoneBackend
from kumo_py.message.message import Message
from kumo_py.policy.modules.memoize import MemoCaches
from kumo_py.policy.modules.shaping import COMMUNITY_FILE, KUMOMTA_FILE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from conftest import Run, Validate, Write
    from policy_host import MakePolicy, RecordingHost
    from trio.testing import MockClock

    from kumo_py.policy import LuaPolicy

    Talk = Callable[[trio_websocket.WebSocketConnection], Awaitable[None]]

FILE = """
["big.test"]
connection_limit = 3
["big.test".sources."ip-1"]
connection_limit = 1
[["big.test".automation]]
regex = "too many"
action = "Suspend"
duration = "1 hour"
[provider.all]
match = [{ DomainSuffix = ".test" }]
"""
RECORD = {
    "type": "TransientFailure",
    "reception_protocol": "ESMTP",
    "queue": "big.test",
    "recipient": ["user@big.test"],
    "egress_source": "ip-1",
    "site": "ip-1->mx.big.test@smtp_client",
    "response": {"code": 451, "enhanced_code": None, "content": "too many"},
}
TSA = "http://tsa.test:8008"
HOOK = f"{TSA}.tsa.kumomta"


@pytest.fixture(autouse=True)
def files(write: Write, host: RecordingHost) -> None:
    host.resolvers = Resolvers(backend=ZoneBackend(["$ORIGIN test.\nbig MX 10 mx.big\n"]))
    write("shaping.toml", FILE)


def top(options: str = "") -> str:
    return f"""
      local shaper = require('policy-extras.shaping'):setup_with_automation {{
        extra_files = {{ 'shaping.toml' }}, {options}
      }}
      kumo.on('init', function() shaper.setup_publish() end)
      kumo.on('get_egress_path_config', shaper.get_egress_path_config)
    """


async def loaded(policy: MakePolicy, text: str) -> LuaPolicy:
    lua = policy(text)
    await lua.load()
    return lua


# -- paths -------------------------------------------------------------------------------------------------
async def test_paths_from_files_over_the_default_ones(policy: MakePolicy) -> None:
    lua = await loaded(
        policy,
        "kumo.on('get_egress_path_config', require('policy-extras.shaping'):setup { 'shaping.toml' })",
    )
    path = await lua.ask("get_egress_path_config", "big.test", "ip-1", "mx.big.test")
    assert (path.connection_limit.limit, path.provider_name, path.refresh_strategy) == (1, "all", "Epoch")
    assert (path.idle_timeout, path.enable_tls) == (60, "Opportunistic")  # the default file's
    path = await lua.ask("get_egress_path_config", "big.test", "ip-2", "mx.big.test")
    assert path.connection_limit.limit == 3


async def test_without_the_default_files(policy: MakePolicy, write: Write) -> None:
    write("shaping.toml", "['default']\nrefresh_strategy = 'Ttl'")
    lua = await loaded(policy, top("no_default_files = true"))
    path = await lua.ask("get_egress_path_config", "big.test", "ip-1", "mx.big.test")
    assert (path.idle_timeout, path.connection_limit.limit, path.refresh_strategy) == (5, 32, "Ttl")


async def test_a_test_of_a_policy_gets_the_parameters(run: Run) -> None:
    found = await run(
        "return shaper.get_egress_path_config('big.test', 'ip-1', 'mx.big.test', true)",
        top=top("no_default_files = true"),
    )
    assert found == {"connection_limit": 1, "provider_name": "all", "refresh_strategy": "Epoch"}


async def test_a_file_is_loaded_once_where_it_is_named_last(run: Run) -> None:
    """Else its rules would come twice."""
    options = f"extra_files = {{ '{KUMOMTA_FILE}', 'shaping.toml', 'shaping.toml' }}"
    code = f"return #shaper.load_shaping_data():match_rules(kumo.json_parse [[{json.dumps(RECORD)}]])"
    assert await run(code, top=top().replace("extra_files = { 'shaping.toml' }", options)) == 1


async def test_data_is_loaded_again_after_its_ttl_and_in_a_new_epoch(
    policy: MakePolicy, write: Write, host: RecordingHost, mock_clock: MockClock
) -> None:
    lua = await loaded(policy, top("cache_ttl = '10 seconds', no_default_files = true"))

    async def limit() -> int:
        path = await lua.ask("get_egress_path_config", "big.test", "ip-2", "mx.big.test")
        return int(path.connection_limit.limit)

    assert await limit() == 3
    write("shaping.toml", "['big.test']\nconnection_limit = 4")
    assert await limit() == 3
    mock_clock.jump(11)
    assert await limit() == 4
    write("shaping.toml", "['big.test']\nconnection_limit = 5")
    await lua.load()
    assert await limit() == 5
    write("shaping.toml", "['big.test']\nconnection_limt = 6")
    mock_clock.jump(11)
    assert await limit() == 5  # and not an error for all mail
    assert "did you mean 'connection_limit'" in host.named("error")[-1]


async def test_the_options_of_the_cache_reach_it(policy: MakePolicy, host: RecordingHost) -> None:
    options = """
      allow_stale_shaping_data = true, retry_shaping_data_fetch_on_populate_timeout = true,
      shaping_data_populate_timeout = '3 seconds', load_validation_options = { dns_fail = 'Error' },
    """
    lua = await loaded(policy, top(options))
    params = lua.env.state(MemoCaches).by_name["shaping_data"].params
    assert (params.allow_stale_reads, params.retry_on_populate_timeout, params.populate_timeout) == (
        True,
        True,
        3,
    )
    host.resolvers = Resolvers(backend=ZoneBackend(["$ORIGIN other.\n@ A 192.0.2.1\n"]))
    await lua.ask("get_egress_path_config", "big.test", "ip-1", "x")
    assert any("big.test" in text for text in host.named("error"))  # of load_validation_options


# -- publishing --------------------------------------------------------------------------------------------
def record_message(**changes: object) -> Message:
    return Message(bytes(16), "", ("a@b.test",), {"log_record": {**RECORD, **changes}}, b"{}")


@pytest.mark.parametrize(
    ("options", "changes", "wanted"),
    [
        ("", {}, True),
        ("", {"type": "Reception"}, False),
        ("", {"type": "Delivery", "response": {"code": 250, "content": "ok"}}, False),
        ("pre_filter = false,", {"type": "Delivery", "response": {"code": 250, "content": "ok"}}, True),
        ("pre_filter = false,", {"type": "Delayed"}, False),
        ("", {"reception_protocol": "LogRecord"}, False),
        ("", {"queue": HOOK}, False),
        ("", {"recipient": None}, False),
        ("skip_log_record_types = { 'Bounce' }, pre_filter = false,", {"type": "Delayed"}, True),
        ("skip_log_record_types = { 'Bounce' },", {"type": "Bounce"}, False),
        ("additional_skip_log_record_types = { 'TransientFailure' },", {}, False),
    ],
)
async def test_which_records_are_published(
    policy: MakePolicy, options: str, changes: dict[str, object], wanted: bool
) -> None:
    lua = await loaded(policy, top(f"publish = {{ '{TSA}' }}, {options}"))
    msg = record_message(**changes)
    assert await lua.ask("should_enqueue_log_record", msg, HOOK) is wanted
    assert msg.get_meta("queue") == (HOOK if wanted else None)


async def test_other_hooks_are_none_of_its_business(policy: MakePolicy) -> None:
    lua = await loaded(policy, top(f"publish = {{ '{TSA}' }}"))
    assert await lua.ask("should_enqueue_log_record", record_message(), "webhook") is None
    assert await lua.ask("get_queue_config", "big.test", None, None, None) is None


async def test_each_daemon_has_a_hook_and_a_queue(policy: MakePolicy, host: RecordingHost) -> None:
    hooks: list[Any] = []
    host.node = SimpleNamespace(log=SimpleNamespace(add_hook=hooks.append))
    lua = await loaded(
        policy,
        top(f"publish = {{ '{TSA}' }}, back_pressure = 7, tsa_queue_config = {{ retry_interval = '2m' }}"),
    )
    await lua.ask("init")
    (hook,) = hooks
    assert (hook.name, hook.back_pressure) == (HOOK, 7)
    assert not hook.per_record["Delayed"].enable
    assert "Delivery" not in hook.per_record
    config = await lua.ask("get_queue_config", HOOK, None, None, None)
    assert (config.retry_interval, config.max_retry_interval) == (120, 1200)
    assert config.protocol.custom_lua.constructor == f"make.{HOOK}"
    assert host.named("spawn") == []


async def test_records_are_posted_and_tried_again(policy: MakePolicy) -> None:
    async with web_server() as server:
        options = (
            "publish_timeout = '5s', publish_pool_idle_timeout = '1s', publish_connection_verbose = false"
        )
        lua = await loaded(policy, top(f"publish = {{ '{server.url}' }}, {options}"))
        server.answers["/publish_log_v1"] = Answer(200, body=b"thanks")
        made = await lua.construct(f"make.{server.url}.tsa.kumomta", "d", None, None)
        assert await made.call("send", record_message()) == "200 OK: thanks"
        assert (server.asked[0].method, server.asked[0].body) == ("POST", b"{}")
        assert server.asked[0].header("content-type") == "application/json"
        server.answers["/publish_log_v1"] = Answer(503, body=b"later")
        with pytest.raises(Rejection, match="503 Service Unavailable: later") as caught:
            await made.call("send", record_message())
        assert caught.value.code == 400
        made.discard()
        lua.close()


# -- subscribing -------------------------------------------------------------------------------------------
@asynccontextmanager
async def daemon(talk: Talk, path: str) -> AsyncIterator[str]:
    """The URL of a daemon that has one endpoint."""

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        if request.path == path:
            await talk(await request.accept())
        else:
            await request.reject(404)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(trio_websocket.serve_websocket, serve, "127.0.0.1", 0, ssl_context=None)
        )
        yield f"http://127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()


async def subscribe(policy: MakePolicy, host: RecordingHost, url: str, until: Callable[[], bool]) -> None:
    lua = await loaded(policy, top(f"subscribe = {{ '{url}' }}"))
    await lua.ask("init")
    follow, _monitor = host.named("spawn")
    with trio.fail_after(8):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            while not until():  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    lua.close()


async def test_what_daemons_decide_takes_effect(policy: MakePolicy, host: RecordingHost) -> None:
    about = {"rule_hash": "h1", "reason": "bad day", "expires": "2099-01-01T00:00:00Z"}
    events = (
        {"ReadyQSuspension": {**about, "site_name": "ip-1->mx.big.test@smtp_client", "source": "ip-1"}},
        {"SchedQSuspension": {**about, "tenant": "t", "domain": "big.test", "campaign": None}},
        {"Surprise": {}},
        {"SchedQBounce": {**about, "tenant": "t", "domain": "other.test", "campaign": "c"}},
    )

    async def talk(peer: trio_websocket.WebSocketConnection) -> None:
        for event in events:
            await peer.send_message(json.dumps(event))
        await peer.send_message("not JSON")
        await peer.aclose()

    async with daemon(talk, "/subscribe_event_v1") as url:
        await subscribe(policy, host, url, lambda: bool(host.admin.list_bounces()))
    (ready,) = host.admin.list_ready_suspensions()
    assert (ready["name"], ready["reason"]) == ("ip-1->mx.big.test@smtp_client", "bad day (rule_hash=h1)")
    (suspension,) = host.admin.list_suspensions()
    assert (suspension["tenant"], suspension["domain"]) == ("t", "big.test")
    (bounce,) = host.admin.list_bounces()
    assert (bounce["domain"], bounce["campaign"]) == ("other.test", "c")
    assert any("Surprise" in text for text in host.named("error"))


async def test_an_older_daemon(policy: MakePolicy, host: RecordingHost) -> None:
    about = {"rule_hash": "h1", "reason": "r", "expires": "2099-01-01T00:00:00Z"}

    async def talk(peer: trio_websocket.WebSocketConnection) -> None:
        await peer.send_message(json.dumps({"ReadyQ": {**about, "site_name": "q"}}))
        await peer.send_message(json.dumps({"SchedQ": {**about, "tenant": "t"}}))
        await peer.aclose()

    async with daemon(talk, "/subscribe_suspension_v1") as url:
        await subscribe(policy, host, url, lambda: bool(host.admin.list_suspensions()))
    assert host.admin.list_ready_suspensions()[0]["name"] == "q"
    assert any("an older daemon" in text for text in host.named("warn"))


async def test_a_daemon_that_is_gone_is_tried_again(policy: MakePolicy, host: RecordingHost) -> None:
    await subscribe(policy, host, "http://127.0.0.1:1", lambda: bool(host.named("error")))
    assert "TSA daemon http://127.0.0.1:1: " in host.named("error")[0]
    assert "trying again in 30 seconds" in host.named("error")[0]


async def test_a_daemons_data_goes_over_the_files_and_begins_an_epoch(
    policy: MakePolicy, host: RecordingHost, mock_clock: MockClock
) -> None:
    """Polled by the monitor; the first load is no news."""
    target = "/get_config_v1/shaping.toml"
    async with web_server() as server:
        server.answers[target] = Answer(body=b"['big.test']\nmx_rollup = false\nconnection_limit = 7")
        lua = await loaded(policy, top(f"subscribe = {{ '{server.url}' }}, cache_ttl = '5 seconds'"))
        path = await lua.ask("get_egress_path_config", "big.test", "ip-2", "mx.big.test")
        assert path.connection_limit.limit == 7
        await lua.ask("init")
        _follow, monitor = host.named("spawn")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitor)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert host.named("bump_config_epoch") == []
            server.answers[target] = Answer(body=b"['big.test']\nmx_rollup = false\nconnection_limit = 8")
            mock_clock.jump(31)
            for _ in range(500):
                if host.named("bump_config_epoch"):
                    break
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(host.named("bump_config_epoch")) == 1
            nursery.cancel_scope.cancel()
        lua.close()


# -- what is wrong -----------------------------------------------------------------------------------------
async def test_validation_reports_data_and_unknown_sources(write: Write, validate: Validate) -> None:
    write("shaping.toml", FILE + "['gone.test']\nconnection_limit = 1\n")
    lines = await validate(
        "require('policy-extras.sources'):setup { { source = { ['ip1'] = {} } } }"
        + top(f"subscribe = {{ '{TSA}' }}, no_default_files = true")
    )
    warnings = [line for line in lines if line.startswith("WARNING")]
    errors = [line for line in lines if not line.startswith("WARNING")]
    assert errors == ["site:mx.big.test: source 'ip-1' is not defined (did you mean 'ip1'?)"]
    assert any("gone.test" in line for line in warnings)
    assert any("skip_remote" in line for line in warnings)
    assert any("big.test is also matched by provider(s): all" in line for line in warnings)


async def test_validation_options_decide_what_is_an_error(validate: Validate) -> None:
    (error,) = await validate(
        top("no_default_files = true, validation_options = { provider_overlap = 'Error' }")
    )
    assert "big.test is also matched by provider(s): all" in error


async def test_a_policy_does_without_kumomtas_community_file(
    policy: MakePolicy, validate: Validate, host: RecordingHost
) -> None:
    options = "no_default_files = true, load_validation_options = { local_load = 'Error' },"
    text = top(options).replace("'shaping.toml'", f"'{COMMUNITY_FILE}', 'shaping.toml'")
    assert [line for line in await validate(text) if not line.startswith("WARNING")] == []
    assert f"{COMMUNITY_FILE} is left out" in host.named("warn")[0]


async def test_validation_names_wrong_options_in_files(write: Write, validate: Validate) -> None:
    write("shaping.toml", "['default']\nconnection_limt = 1\nmax_redy = 2")
    lines = await validate(top("no_default_files = true"))
    assert any("shaping.toml" in line and "did you mean 'connection_limit'" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("extra_file = {}", r"unknown option 'extra_file' \(did you mean 'extra_files'\?\)"),
        ("publish = 'x'", "'publish': Expected value of type 'list<string>'"),
        ("tsa_queue_config = { retry_intervl = 1 }", "tsa_queue_config: unknown option 'retry_intervl'"),
        ("} require('policy-extras.shaping'):setup {", "may be set up once"),
    ],
)
async def test_wrong_options(policy: MakePolicy, options: str, text: str) -> None:
    with pytest.raises(PolicyError, match=text):
        await loaded(policy, top(options))
