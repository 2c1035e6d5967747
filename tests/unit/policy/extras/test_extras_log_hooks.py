"""policy-extras.log_hooks: log records to webhooks and to Lua code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from web_server import Answer, web_server

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.message.message import Message

if TYPE_CHECKING:
    from policy_host import MakePolicy, RecordingHost

TOP = """
local log_hooks = require 'policy-extras.log_hooks'
log_hooks:new {
  name = 'mine',
  log_parameters = { headers = { 'Subject' }, meta = { 'tenant' } },
  queue_config = { max_age = '1 hour', retry_interval = '5m' },
  batch_size = 10, min_batch_size = 2, max_batch_latency = '3s',
  filter = function(msg, hook_name) return msg:get_meta('log_record').tenant == 'quiet' end,
  constructor = function(domain, tenant, campaign)
    return { send = function(self, msg) return domain .. ' has it' end }
  end,
}
log_hooks:new_disposition_hook {
  name = 'seen', hook = function(msg, record) kumo.log_info('seen ' .. record.type) end,
}
"""


def record(**changes: object) -> Message:
    return Message(bytes(16), "", ("a@b.test",), {"log_record": {"type": "Delivery", **changes}}, b'{"x":1}')


@pytest.fixture
def hooks(host: RecordingHost) -> list[Any]:
    """What the policy configured."""
    made: list[Any] = []
    host.node = SimpleNamespace(log=SimpleNamespace(add_hook=made.append, add_disposition_hook=made.append))
    return made


async def test_a_hook_is_configured_before_init(policy: MakePolicy, hooks: list[Any]) -> None:
    lua = policy(TOP)
    await lua.load()
    await lua.ask("pre_init")
    hook, disposition = hooks
    assert (hook.name, hook.headers, hook.meta) == ("mine", ["Subject"], ["tenant"])
    assert disposition.name == "seen"


@pytest.mark.parametrize(
    ("hook_name", "changes", "wanted"),
    [
        ("mine", {}, True),
        ("mine", {"reception_protocol": "LogRecord"}, False),
        ("mine", {"tenant": "quiet"}, False),
        ("other", {}, None),
    ],
)
async def test_which_records_are_taken(
    policy: MakePolicy, hook_name: str, changes: dict[str, object], wanted: bool | None
) -> None:
    lua = policy(TOP)
    await lua.load()
    msg = record(**changes)
    assert await lua.ask("should_enqueue_log_record", msg, hook_name) is wanted
    assert msg.get_meta("queue") == ("mine.log_hook" if wanted else None)


async def test_the_queue_of_a_hook(policy: MakePolicy) -> None:
    lua = policy(TOP)
    await lua.load()
    config = await lua.ask("get_queue_config", "mine.log_hook", None, None, None)
    assert (config.retry_interval, config.max_retry_interval, config.max_age) == (300, 1200, 3600)
    protocol = config.protocol.custom_lua
    assert (protocol.constructor, protocol.batch_size) == ("make.mine.log_hook", 10)
    assert (protocol.min_batch_size, protocol.max_batch_latency) == (2, 3)
    assert await lua.ask("get_queue_config", "b.test", None, None, None) is None
    made = await lua.construct("make.mine.log_hook", "mine.log_hook", None, None)
    assert await made.call("send", record()) == "mine.log_hook has it"
    made.discard()


async def test_a_disposition_hook_sees_each_record(policy: MakePolicy, host: RecordingHost) -> None:
    lua = policy(TOP)
    await lua.load()
    await lua.ask("log_disposition_seen", record(), {"type": "Bounce"})
    assert "seen Bounce" in host.named("info")[0]


async def test_json_is_posted(policy: MakePolicy) -> None:
    async with web_server() as server:
        lua = policy(
            f"require('policy-extras.log_hooks'):new_json {{ name = 'web', url = '{server.url}/log' }}"
        )
        await lua.load()
        config = await lua.ask("get_queue_config", "web.log_hook", None, None, None)
        assert (config.retry_interval, config.protocol.custom_lua.batch_size) == (60, 1)
        server.answers["/log"] = Answer(201, body=b"kept")
        made = await lua.construct("make.web.log_hook", "web.log_hook", None, None)
        assert await made.call("send", record()) == "201 Created: kept"
        assert (server.asked[0].method, server.asked[0].body) == ("POST", b'{"x":1}')
        assert server.asked[0].header("content-type") == "application/json"
        for status, again in ((500, True), (503, True), (429, True), (408, True), (404, False), (400, False)):
            server.answers["/log"] = Answer(status)
            with pytest.raises(Rejection, match=f"{status} ") as caught:
                await made.call("send", record())
            assert caught.value.code == (450 if again else 550)
        await made.call("close", optional=True)
        made.discard()
        lua.close()


@pytest.mark.parametrize(
    ("call", "texts"),
    [
        ("log_hooks:new { name = 'x', queue_config = { max_agee = 1 }, constructer = print }",
         ("unknown option 'constructer' (did you mean 'constructor'?)", "option 'constructor' is required",
          "queue_config: unknown option 'max_agee' (did you mean 'max_age'?)")),
        ("log_hooks:new_json { name = 'x' }", ("log_hooks:new_json: option 'url' is required",)),
        ("log_hooks:new_json { name = 'mine', url = 'x' }", ("there is a hook named 'mine' already",)),
        ("log_hooks:new_disposition_hook { name = 'x', hook = 1 }", ("'hook': Expected 'function', got 'number' 1",)),
        ("log_hooks:new_json()", ("must be a table, got nil",)),
    ],
)  # fmt: skip
async def test_wrong_options(policy: MakePolicy, call: str, texts: tuple[str, ...]) -> None:
    with pytest.raises(PolicyError) as caught:
        await policy(f"{TOP}\n{call}").load()
    for text in texts:
        assert text in str(caught.value)
    assert f"policy.lua:{TOP.count(chr(10)) + 3}: " in str(caught.value)
