"""Log records as messages, by whole nodes: received, hooked, delivered by the policy; and none lost on the way."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import orjson
import pytest
from smtp_sink import SmtpSink
from test_node_in_process import problem, records, running, submit, until, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.time_limit(30)

POLICY = """
local kumo = require 'kumo'
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.configure_local_logs {
    log_dir = '@DIR@/logs', min_free_space = 0, min_free_inodes = 0, meta = { 'reception_protocol' },
  }
  @INIT@
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8' } }
end)
kumo.on('smtp_server_message_received', function(msg) msg:set_meta('customer', 'acme') end)
kumo.on('get_egress_path_config', function(domain)
  return kumo.make_egress_path {
    prohibited_hosts = {}, enable_tls = 'Disabled', enable_mta_sts = false, idle_timeout = '1s',
  }
end)
kumo.on('should_enqueue_log_record', function(msg, hook)
  if msg:get_meta('log_record').type == '@DROP@' then return false end
  msg:set_meta('queue', hook .. '.log_hook')
  return true
end)
kumo.on('get_queue_config', function(domain)
  if domain:find('log_hook') then
    return kumo.make_queue_config {
      protocol = { custom_lua = { constructor = 'make.hook' } },
      retry_interval = '1s', max_retry_interval = '1s',
    }
  end
  return kumo.make_queue_config { protocol = { smtp = { mx_list = { '@SINK@' } } } }
end)
local function note(text)
  local file = io.open('@DIR@/notes', 'a')
  file:write(text, '\\n')
  file:close()
end
kumo.on('make.hook', function()
  local connection = {}
  function connection:send(msg)
    @SEND@
    note(msg:get_data():sub(1, -2))
    return 'noted'
  end
  return connection
end)
@MORE@
"""
HOOK = "kumo.configure_log_hook { name = 'web', headers = { 'Subject' }, meta = { 'customer' } }"


def policy(
    directory: Path,
    sink: SmtpSink,
    init: str = HOOK,
    *,
    send: str = "",
    more: str = "",
    drop: str = "",
) -> Path:
    text = POLICY
    for key, value in {
        "INIT": init, "SEND": send, "MORE": more, "DROP": drop, "SINK": sink.address
    }.items():  # fmt: skip
        text = text.replace(f"@{key}@", value)
    return write(directory, text)


def notes(directory: Path) -> list[str]:
    path = directory / "notes"
    return path.read_text().splitlines() if path.exists() else []


async def test_every_record_is_delivered_by_the_policy(tmp_path: Path, sink: SmtpSink) -> None:
    send = """
    local record = msg:get_meta('log_record')
    assert(msg:get_meta('reception_protocol') == 'LogRecord')
    assert(msg:get_meta('customer') == 'acme')
    assert(record.meta.customer == 'acme' and record.headers.Subject)
    assert(record.response.code == 250 and record.recipient == msg:recipient().email)
    """
    async with running(policy(tmp_path, sink, send=send)) as node:
        ids = await submit(node.addresses["smtp"][0], 20)
        await until(lambda: len(notes(tmp_path)) == 40 and len(node.queues.spool.data) == 0)
    noted = [orjson.loads(line) for line in notes(tmp_path)]
    for id in ids:
        assert sorted(record["type"] for record in noted if record["id"] == id) == ["Delivery", "Reception"]
    assert {record["headers"]["Subject"] for record in noted} == {str(n) for n in range(20)}
    # In the files are the same records, and the hook's own deliveries; none of those went to the hook.
    written = records(tmp_path)
    own = [record for record in written if record["meta"]["reception_protocol"] == "LogRecord"]
    assert [record["type"] for record in own] == ["Delivery"] * 40
    assert {record["response"]["content"] for record in own} == {"noted"}
    assert {record["queue"] for record in own} == {"web.log_hook"}
    assert len(written) == 80


async def test_a_hook_that_is_down_gets_its_records_later(tmp_path: Path, sink: SmtpSink) -> None:
    send = """
    local kind = msg:get_meta('log_record').type
    if kind == 'Delivery' and msg:num_attempts() == 0 then kumo.reject(450, 'down') end
    if kind == 'Reception' then kumo.reject(500, 'unwanted') end
    """
    async with running(policy(tmp_path, sink, send=send)) as node:
        await submit(node.addresses["smtp"][0], 2)
        await until(lambda: len(notes(tmp_path)) == 2 and len(node.queues.spool.data) == 0)
    assert {orjson.loads(line)["type"] for line in notes(tmp_path)} == {"Delivery"}
    own = [r["type"] for r in records(tmp_path) if r["meta"]["reception_protocol"] == "LogRecord"]
    assert sorted(own) == ["Bounce"] * 2 + ["Delivery"] * 2 + ["TransientFailure"] * 2


async def test_the_policy_and_the_options_choose(tmp_path: Path, sink: SmtpSink) -> None:
    init = """
    kumo.configure_log_hook { name = 'plain', per_record = { Reception = { enable = false } } }
    kumo.configure_log_hook {
      name = 'text',
      per_record = { Any = { enable = false }, Reception = { template = 'from {{ sender }} {{ log_record.type }}' } },
    }
    """
    more = (
        "kumo.on('smtp_server_mail_from', function(s) if s.user == 'bad' then kumo.reject(550, 'no') end end)"
    )
    async with running(policy(tmp_path, sink, init, more=more, drop="Delivery")) as node:
        await submit(node.addresses["smtp"][0])
        await until(lambda: len(notes(tmp_path)) == 1 and len(node.queues.spool.data) == 0)
    assert notes(tmp_path) == ["from from@a.example Reception"]


@pytest.mark.parametrize("deferred", ["true", "false"])
async def test_nothing_is_lost_when_the_node_stops(tmp_path: Path, deferred: str) -> None:
    """Records that are pending at the end are in the spool, and delivered by the next start."""
    init = f"kumo.configure_log_hook {{ name = 'web', deferred_spool = {deferred} }}"
    with SmtpSink() as sink:
        held = policy(tmp_path, sink, init, send="kumo.reject(450, 'not now')")
        async with running(held) as node:
            ids = await submit(node.addresses["smtp"][0], 30)
        async with running(policy(tmp_path, sink, init)) as node:
            await until(lambda: len(notes(tmp_path)) >= 60 and len(node.queues.spool.data) == 0)
    noted = sorted((r["id"], r["type"]) for r in map(orjson.loads, notes(tmp_path)))
    received = [id for id, kind in noted if kind == "Reception"]
    delivered = [id for id, kind in noted if kind == "Delivery"]
    assert received == sorted(ids)
    assert delivered == sorted(ids)


async def test_rejections_are_records_too(tmp_path: Path, sink: SmtpSink) -> None:
    more = "kumo.on('smtp_server_mail_from', function(s) kumo.reject(550, 'not you') end)"
    async with running(policy(tmp_path, sink, more=more)) as node:
        with pytest.raises(AssertionError):
            await submit(node.addresses["smtp"][0])
        await until(lambda: len(notes(tmp_path)) > 0)
    record = orjson.loads(notes(tmp_path)[0])
    assert (record["type"], record["id"], record["response"]["content"]) == ("Rejection", "", "not you")


async def test_disposition_hooks_see_the_message(tmp_path: Path, sink: SmtpSink) -> None:
    init = "kumo.configure_log_disposition_hook { name = 'watch', per_record = { Reception = { enable = false } } }"
    more = """
    kumo.on('log_disposition_watch', function(msg, record)
      local subject = msg:get_data():match('Subject: (%d)')
      note(table.concat({ record.type, tostring(msg:id()), record.response.code, subject }, ' '))
      if record.type == 'Delivery' then error('after all') end
    end)
    """
    async with running(policy(tmp_path, sink, init, more=more)) as node:
        (id,) = await submit(node.addresses["smtp"][0])
        await until(lambda: len(node.queues.spool.data) == 0)
    assert notes(tmp_path) == [f"Delivery {id} 250 0"]


async def test_two_hooks_of_one_name_are_refused(tmp_path: Path, sink: SmtpSink) -> None:
    said = await problem(policy(tmp_path, sink, HOOK + "\n" + HOOK))
    assert "kumo.configure_log_hook: there is a log hook named 'web' already" in said
    assert "policy.lua:11" in said


async def test_bounces_are_classified_and_messages_counted(tmp_path: Path, sink: SmtpSink) -> None:
    (tmp_path / "rules.toml").write_text("[rules]\nFull = ['mailbox .* full']\n")
    init = f"""
    kumo.configure_bounce_classifier {{
      files = {{ '{tmp_path}/rules.toml', '/opt/kumomta/share/bounce_classifier/iana.toml' }},
    }}
    kumo.configure_accounting_db_path '{tmp_path}/accounting.db'
    {HOOK}
    """
    more = """
    kumo.on('smtp_server_mail_from', function(s) kumo.reject(550, '5.1.1 who is that') end)
    """
    async with running(policy(tmp_path, sink, init)) as node:
        await submit(node.addresses["smtp"][0], 3)
        await until(lambda: len(notes(tmp_path)) == 6 and len(node.queues.spool.data) == 0)
    with closing(sqlite3.connect(tmp_path / "accounting.db")) as db:
        ((month, received, delivered),) = db.execute("select * from accounting").fetchall()
    assert month.endswith("-01 00:00:00")
    assert (received, delivered) == (3, 3)  # not the hook's own
    assert {r["bounce_classification"] for r in records(tmp_path)} == {"Uncategorized"}
    async with running(policy(tmp_path, sink, init, more=more)) as node:
        with pytest.raises(AssertionError):
            await submit(node.addresses["smtp"][0])
    rejection = next(record for record in records(tmp_path) if record["type"] == "Rejection")
    assert rejection["bounce_classification"] == "InvalidRecipient"
    with closing(sqlite3.connect(tmp_path / "accounting.db")) as db:
        assert db.execute("select received, delivered from accounting").fetchall() == [(3, 3)]
