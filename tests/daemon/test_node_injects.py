"""A whole node whose policy makes mail of its own: messages, requests, reports, and mail that waits for its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from test_node_in_process import records, running, submit, until, write

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
kumo.on('get_queue_config', function(domain)
  return kumo.make_queue_config { protocol = { maildir_path = '@DIR@/mail/' .. domain } }
end)
kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('queue', 'null')
  kumo.inject_message(kumo.make_message('me@a.example', 'you@made.example', 'Subject: made\\r\\n\\r\\nhi\\r\\n'))
  kumo.api.inject.inject_v1 {
    envelope_sender = 'me@a.example',
    recipients = { { email = 'one@now.example' }, { email = 'two@now.example' } },
    content = { text_body = 'hello {{ email }}', subject = 'now' },
  }
  kumo.api.inject.inject_v1 {
    envelope_sender = 'me@a.example',
    recipients = { { email = 'one@later.example' } },
    content = 'Subject: later\\n\\nhello {{ email }}',
    deferred_generation = true,
  }
  local waiting = kumo.make_message('me@a.example', 'you@scheduled.example', 'Subject: wait\\r\\n\\r\\nhi\\r\\n')
  waiting:set_scheduling { first_attempt = '2999-01-01T00:00:00Z', expires = '2999-02-01T00:00:00Z' }
  kumo.inject_message(waiting)
end)
"""


def mail(directory: Path, domain: str) -> list[bytes]:
    new = directory / "mail" / domain / "new"
    return [path.read_bytes() for path in sorted(new.iterdir())] if new.exists() else []


async def test_a_policy_makes_mail_of_its_own(tmp_path: Path) -> None:
    policy = write(tmp_path, POLICY)
    async with running(policy) as node:
        await submit(node.addresses["smtp"][0])
        await until(lambda: bool(mail(tmp_path, "later.example")) and len(mail(tmp_path, "now.example")) == 2)
        await until(lambda: len(node.queues.spool.data) == 1)
    (made,) = mail(tmp_path, "made.example")
    assert made == b"Subject: made\r\n\r\nhi\r\n"
    bodies = [content.partition(b"\r\n\r\n")[2] for content in mail(tmp_path, "now.example")]
    assert sorted(bodies) == [b"hello one@now.example\r\n", b"hello two@now.example\r\n"]
    (later,) = mail(tmp_path, "later.example")
    assert later.endswith(b"\r\n\r\nhello one@later.example\r\n")
    assert mail(tmp_path, "scheduled.example") == []

    # It still waits after a restart, a thousand years being no age for it.
    async with running(policy) as node:
        await until(lambda: any(queue.delayed for queue in node.queues.scheduled.values()))
        (waiting,) = node.queues.wheel
        assert waiting.schedule is not None
        assert waiting.schedule.to_table()["first_attempt"] == "2999-01-01T00:00:00Z"
    delayed = [record for record in records(tmp_path) if record["type"] == "Delayed"]
    assert ["ScheduledForLater" in record["response"]["content"] for record in delayed] == [True]
