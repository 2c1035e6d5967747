"""Listeners with `deferred_queue` on the wire: 250 at once, the policy's event after it, nothing lost in between."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import trio
from real_node import relay_policy
from smtp_client import SmtpClient
from test_node_in_process import kinds, records, running, submit, until, write

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import StartNode
    from real_node import Preloaded
    from smtp_sink import SmtpSink

pytestmark = pytest.mark.time_limit(30)

QUEUE = "deferred_smtp_inject.kumomta.internal"
NOTE = """
local function note(...)
  local file = io.open('@DIR@/notes', 'a')
  file:write(table.concat({ ... }, ' '), '\\n')
  file:close()
end
local function exists(name)
  local file = io.open('@DIR@/' .. name)
  return file ~= nil and file:close()
end
kumo.on('smtp_server_message_received', function() note('received') end)
kumo.on('smtp_server_message_deferred_inject', function(msg, conn)
  @HANDLER@
end)
"""


def policy(directory: Path, sink: SmtpSink, handler: str, listener: str = "deferred_queue = true") -> Path:
    more = NOTE.replace("@HANDLER@", handler)
    return write(directory, relay_policy(directory, sink.address, listener=listener, more=more))


def notes(directory: Path) -> list[str]:
    path = directory / "notes"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    "listener",
    [
        "deferred_queue = true",
        "peer = { ['127.0.0.0/8'] = { deferred_queue = true } }",
        "via = { ['127.0.0.0/8'] = { deferred_queue = true } }",
    ],
)
async def test_the_client_does_not_wait_for_the_event(tmp_path: Path, sink: SmtpSink, listener: str) -> None:
    handler = """
    while not exists('go') do kumo.sleep(0.01) end
    local info = conn:auth_info()
    note(conn:get_meta('received_from') == msg:get_meta('received_from') and info.peer_address or 'odd',
         conn:get_meta('reception_protocol'), tostring(msg:get_meta('queue')), msg:recipient().email)
    conn:set_meta('tenant', 'nobody')
    msg:prepend_header('X-Decided', 'later')
    msg:set_meta('tenant', 'acme')
    """
    async with running(policy(tmp_path, sink, handler, listener)) as node:
        (id,) = await submit(node.addresses["smtp"][0])
        assert notes(tmp_path) == []
        (tmp_path / "go").touch()
        await until(lambda: len(sink.deliveries) == 1)
        await until(lambda: len(node.queues.spool.data) == 0)
    assert notes(tmp_path) == ["127.0.0.1 ESMTP nil to@b.example"]
    # The headers are in the order in which they came.
    content = sink.deliveries[0].content
    assert content.index(b"X-Decided: later") < content.index(b"X-KumoRef:") < content.index(b"Received:")
    found = records(tmp_path)
    assert [(r["type"], r["queue"], r["id"]) for r in found] == [
        ("Reception", QUEUE, id),
        ("DeferredInjectionRebind", "acme@b.example", id),
        ("Delivery", "acme@b.example", id),
    ]
    assert found[1]["site"] == f"unspecified->{QUEUE}@defersmtpinject"
    assert found[1]["delivery_protocol"] == "DeferredSmtpInjection"
    assert (found[1]["response"]["code"], found[1]["response"]["content"]) == (250, "ok")
    assert found[1]["egress_source"] is found[1]["peer_address"] is None


async def test_dynamic_parameters_may_ask_for_it(tmp_path: Path, sink: SmtpSink) -> None:
    path = policy(tmp_path, sink, "note('deferred')", "")
    path.write_text(
        path.read_text()
        + "kumo.on('smtp_server_get_dynamic_parameters', function() return { deferred_queue = true } end)\n"
    )
    async with running(path) as node:
        await submit(node.addresses["smtp"][0])
        await until(lambda: len(sink.deliveries) == 1)
    assert notes(tmp_path) == ["deferred"]


async def test_batches_and_rejections(tmp_path: Path, sink: SmtpSink) -> None:
    handler = (
        "if msg:recipient().domain == 'c.example' then kumo.reject(550, 'not ' .. msg:recipient().email) end"
    )
    async with running(policy(tmp_path, sink, handler)) as node:

        def send() -> list[str]:
            with SmtpClient(node.addresses["smtp"][0]) as client:
                client.greet()
                assert client.envelope("a@a.example", "x@b.example", "y@c.example").code == 354
                client.send(b"Subject: x\r\n\r\n.\r\n")
                return client.reply().text.partition("ids=")[2].split()

        first, second = await trio.to_thread.run_sync(send)
        await until(lambda: len(node.queues.spool.data) == 0)
    assert kinds(tmp_path, first) == ["Reception", "DeferredInjectionRebind", "Delivery"]
    assert kinds(tmp_path, second) == ["Reception", "Bounce"]
    (bounce,) = [record for record in records(tmp_path) if record["type"] == "Bounce"]
    assert (bounce["response"]["code"], bounce["response"]["content"]) == (550, "not y@c.example")
    assert [delivery.recipients for delivery in sink.deliveries] == [["x@b.example"]]


async def test_what_failed_is_tried_again_by_the_next_node(tmp_path: Path, sink: SmtpSink) -> None:
    handler = """
    note(tostring(msg:get_meta('queue')), msg:get_meta('seen') or 'new')
    msg:set_meta('seen', 'before')
    if not exists('repaired') then error('no table') end
    """
    path = policy(tmp_path, sink, handler)
    async with running(path) as node:
        (id,) = await submit(node.addresses["smtp"][0])
        await until(lambda: notes(tmp_path) == ["nil new"])
        await until(lambda: node.queues.scheduled[QUEUE].delayed == 1)
    failure = records(tmp_path)[-1]
    assert (failure["type"], failure["queue"], failure["response"]["code"]) == (
        "TransientFailure",
        QUEUE,
        450,
    )
    assert "no table" in failure["response"]["content"]
    assert "policy.lua:" in failure["response"]["content"]
    (tmp_path / "repaired").touch()
    async with running(path):
        await until(lambda: len(sink.deliveries) == 1)
    assert notes(tmp_path) == ["nil new", "nil before"]
    assert kinds(tmp_path, id)[2:] == ["DeferredInjectionRebind", "Delivery"]


def test_a_crash_during_the_event_loses_nothing(
    tmp_path: Path, start_node: StartNode, preloaded: Preloaded, sink: SmtpSink
) -> None:
    handler = """
    msg:set_meta('queue', 'null')  -- what never came to be
    note('begun')
    if not exists('go') then kumo.sleep(60) end
    msg:set_meta('queue', nil)
    """
    path = policy(tmp_path, sink, handler)
    node = start_node(path, preloaded=preloaded)
    with SmtpClient(node.address) as client:
        client.greet()
        replies = [client.message("a@a.example", "b@b.example", b"Subject: %d\r\n\r\n" % n) for n in range(5)]
    assert {reply.code for reply in replies} == {250}
    while not notes(tmp_path):
        time.sleep(0.01)
    node.kill()
    (tmp_path / "go").touch()
    node = start_node(path, preloaded=preloaded)
    while len(sink.deliveries) < 5:
        time.sleep(0.01)
    node.stop()
    assert sorted(d.content.partition(b"Subject: ")[2][:1] for d in sink.deliveries) == [
        b"0", b"1", b"2", b"3", b"4"
    ]  # fmt: skip
