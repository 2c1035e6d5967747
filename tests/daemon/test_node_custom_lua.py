"""`custom_lua` delivery by whole nodes: connections, batches, rejections, errors, and what is left at the end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from test_node_in_process import kinds, records, running, submit, until, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.time_limit(30)

POLICY = """
local kumo = require 'kumo'
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.configure_local_logs { log_dir = '@DIR@/logs', min_free_space = 0, min_free_inodes = 0 }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8' } }
end)
kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('tenant', 'acme')
  msg:set_meta('campaign', 'june')
end)
kumo.on('get_egress_path_config', function() return kumo.make_egress_path { @PATH@ } end)
kumo.on('get_queue_config', function(domain, tenant)
  return kumo.make_queue_config {
    retry_interval = '1s', max_retry_interval = '1s', max_age = '@AGE@',
    protocol = { custom_lua = { constructor = 'make.it', @BATCH@ } },
  }
end)
local function note(...)
  local file = io.open('@DIR@/notes', 'a')
  file:write(table.concat({ ... }, ' '), '\\n')
  file:close()
end
kumo.on('make.it', function(domain, tenant, campaign)
  note('make', domain, tenant, campaign)
  local connection = { sent = 0 }
  @METHODS@
  return connection
end)
"""


def policy(directory: Path, methods: str, *, batch: str = "", path: str = "", age: str = "1d") -> Path:
    text = POLICY.replace("@METHODS@", methods).replace("@BATCH@", batch).replace("@PATH@", path)
    return write(directory, text.replace("@AGE@", age))


def notes(directory: Path) -> list[str]:
    path = directory / "notes"
    return path.read_text().splitlines() if path.exists() else []


async def emptied(node: Any) -> None:
    """Wait until every message has reached its end."""
    await until(lambda: len(node.queues.spool.data) == 0)


@pytest.mark.option("make_queue_config.protocol.custom_lua.constructor")
async def test_messages_go_over_one_connection(tmp_path: Path) -> None:
    methods = """
    function connection:send(msg)
      self.sent = self.sent + 1
      note('send', self.sent, msg:get_meta('tenant'), msg:recipient().email, msg:get_data():match('Subject: (%d)'))
      return 'taken as ' .. self.sent
    end
    function connection:close() note('close', self.sent) end
    """
    async with running(policy(tmp_path, methods, path="connection_limit = 1, idle_timeout = '1s'")) as node:
        ids = await submit(node.addresses["smtp"][0], 3)
        await emptied(node)
        await until(lambda: notes(tmp_path)[-1] == "close 3")
    assert notes(tmp_path) == [
        "make b.example acme june",
        *(f"send {n} acme to@b.example {n - 1}" for n in (1, 2, 3)),
        "close 3",
    ]
    assert [kinds(tmp_path, id) for id in ids] == [["Reception", "Delivery"]] * 3
    delivery = next(record for record in records(tmp_path) if record["type"] == "Delivery")
    assert delivery["response"] == {
        "code": 200,
        "enhanced_code": None,
        "content": "taken as 1",
        "command": None,
    }
    assert delivery["peer_address"] == {"name": "Lua via make.it", "addr": "0.0.0.0"}
    assert delivery["delivery_protocol"] == "Lua"
    assert delivery["site"] == "unspecified->b.example@lua:make.it"
    assert delivery["egress_pool"] == delivery["egress_source"] == "unspecified"
    assert len(delivery["session_id"]) == 36


async def test_a_4xx_is_tried_again_and_others_bounce(tmp_path: Path) -> None:
    methods = """
    function connection:send(msg)
      local subject = msg:get_data():match('Subject: (%d)')
      if subject == '0' and msg:num_attempts() == 0 then kumo.reject(451, 'later') end
      if subject == '1' then kumo.reject(550, 'never') end
      if subject == '2' and msg:num_attempts() == 0 then kumo.reject(421, 'bye') end
      if subject == '3' then kumo.reject(300, 'odd') end
      return 'ok ' .. subject
    end
    """
    async with running(policy(tmp_path, methods)) as node:
        ids = await submit(node.addresses["smtp"][0], 5)
        await emptied(node)
    assert [kinds(tmp_path, id)[1:] for id in ids] == [
        ["TransientFailure", "Delivery"],
        ["Bounce"],
        ["TransientFailure", "Delivery"],
        ["Bounce"],
        ["Delivery"],
    ]
    texts = Counter(record["response"]["content"] for record in records(tmp_path))
    assert all(texts[text] == 1 for text in ("later", "never", "bye", "odd", "ok 0", "ok 2", "ok 4"))


@pytest.mark.option("make_queue_config.protocol.custom_lua.min_batch_size")
@pytest.mark.option("make_queue_config.protocol.custom_lua.max_batch_latency")
@pytest.mark.option("make_queue_config.protocol.custom_lua.batch_size")
async def test_batches(tmp_path: Path) -> None:
    methods = """
    function connection:send_batch(list)
      note('batch', #list, list[1]:get_data():match('Subject: (%d)'))
      if list[1]:num_attempts() == 0 then kumo.reject(450, 'as one') end
      return 'batch of ' .. #list
    end
    """
    batch = "batch_size = 3, min_batch_size = 3, max_batch_latency = '300ms'"
    async with running(policy(tmp_path, methods, batch=batch, path="connection_limit = 1")) as node:
        ids = await submit(node.addresses["smtp"][0], 4)
        await emptied(node)
    seen = [note for note in notes(tmp_path) if note.startswith("batch")]
    assert seen[0] == "batch 3 0"
    assert "batch 1 3" in seen  # what is too few goes when the latency is over
    assert [kinds(tmp_path, id) for id in ids] == [["Reception", "TransientFailure", "Delivery"]] * 4
    failures = [r["response"] for r in records(tmp_path) if r["type"] == "TransientFailure"]
    assert [(one["code"], one["content"]) for one in failures] == [(450, "as one")] * 4


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ("function connection:send(msg) error('oops') end", "error in deliver_message: make.it:send: "),
        ("function connection:send(msg) end", "must return a string, got nothing"),
        ("function connection:send(msg) return {} end", "must be a string, got a table"),
        ("function connection:sned(msg) return 'x' end", "the object has no method 'send'"),
        ("connection = 'text'", "failed to connect to any candidate hosts: make.it: the handler at "),
        ("kumo.reject(500, 'no')", "failed to connect to any candidate hosts: 500 no"),
    ],
)
async def test_errors_of_the_policy_never_lose_a_message(tmp_path: Path, methods: str, said: str) -> None:
    async with running(policy(tmp_path, methods)) as node:
        (id,) = await submit(node.addresses["smtp"][0])
        await until(lambda: next(iter(node.queues.scheduled.values())).delayed == 1)
        assert len(node.queues.spool.data) == 1
    failure = next(record for record in records(tmp_path) if record["type"] == "TransientFailure")
    assert failure["id"] == id
    assert said in failure["response"]["content"]
    assert failure["response"]["code"] == 400
    assert failure["peer_address"] is None


async def test_without_a_constructor_messages_wait(tmp_path: Path) -> None:
    text = policy(tmp_path, "").read_text().replace("kumo.on('make.it'", "kumo.on('make.other'")
    async with running(write(tmp_path, text)) as node:
        await submit(node.addresses["smtp"][0])
        await until(lambda: next(iter(node.queues.scheduled.values())).delayed == 1)
    failure = next(record for record in records(tmp_path) if record["type"] == "TransientFailure")
    assert (
        "there is no handler for 'make.it': register one with kumo.on('make.it'"
        in failure["response"]["content"]
    )


async def test_the_connection_outlives_contexts_of_events(tmp_path: Path) -> None:
    """Its context is not lent to anybody else, and what it was given is gone after each call."""
    methods = """
    function connection:send(msg)
      if self.last then
        local ok, err = pcall(self.last.get_meta, self.last, 'tenant')
        note(err)
      end
      self.last = msg
      return 'ok'
    end
    """
    async with running(policy(tmp_path, methods, path="connection_limit = 1")) as node:
        await submit(node.addresses["smtp"][0], 2)
        await emptied(node)
    assert notes(tmp_path)[0] == "make b.example acme june"
    assert "the event that it was given to is over" in notes(tmp_path)[1]
