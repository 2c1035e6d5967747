"""Hot reload: a good edit takes over within a second, a bad one changes nothing, and no message notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from test_node_in_process import running, submit, until, write

from kumo_py.daemon import config_monitor

if TYPE_CHECKING:
    from pathlib import Path

    from kumo_py.daemon import Node

pytestmark = pytest.mark.time_limit(60)

POLICY = """
local kumo = require 'kumo'
package.path = '@DIR@/?.lua;' .. package.path
local part = require 'part'
local extra = kumo.serde.json_load '@DIR@/data.json'
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.configure_local_logs { log_dir = '@DIR@/logs', min_free_space = 0, min_free_inodes = 0 }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8' } }
  kumo.set_config_monitor_globs { '@DIR@/conf/*.toml' }
end)
kumo.on('smtp_server_ehlo', function(domain)
  if domain == 'bump.example' then kumo.bump_config_epoch() end
end)
kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('queue', 'null')
  seen(part.version, extra.version)
end)
function seen(a, b) kumo.log_warn('handled by', a, b) end
"""


def prepare(directory: Path) -> Path:
    policy = write(directory, POLICY)
    (directory / "conf").mkdir()
    (directory / "part.lua").write_text("return { version = 'part 1' }")
    (directory / "data.json").write_text('{ "version": "data 1" }')
    return policy


async def epoch(node: Node, number: int) -> None:
    assert node.reloader is not None
    status = node.reloader.status
    await until(lambda: status.epoch == number)


async def refused(node: Node, failures: int = 1) -> str:
    assert node.reloader is not None
    status = node.reloader.status
    await until(lambda: status.failures == failures)
    assert status.error is not None
    assert status.epoch == 1
    return status.error


def handled(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [
        line.partition("handled by ")[2]
        for line in capsys.readouterr().out.splitlines()
        if "handled by" in line
    ]


@pytest.mark.parametrize("edited", ["part.lua", "data.json", "policy.lua", "conf/new.toml"])
async def test_an_edit_takes_over_within_a_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edited: str
) -> None:
    async with running(prepare(tmp_path)) as node:
        [address] = node.addresses["smtp"]
        await submit(address)
        await epoch(node, 1)
        began = trio.current_time()
        (tmp_path / edited).write_text(
            {
                "part.lua": "return { version = 'part 2' }",
                "data.json": '{ "version": "data 2" }',
                "policy.lua": POLICY.replace("@DIR@", str(tmp_path)).replace("extra.version", "'policy 2'"),
                "conf/new.toml": "new = true",
            }[edited]
        )
        await epoch(node, 2)
        await submit(address)
        assert trio.current_time() - began < 1
    before, after = handled(capsys)
    assert before == "part 1 data 1"
    assert (
        after
        == {
            "part.lua": "part 2 data 1",
            "data.json": "part 1 data 2",
            "policy.lua": "part 1 policy 2",
            "conf/new.toml": "part 1 data 1",
        }[edited]
    )


async def test_what_no_glob_matches_is_no_edit(tmp_path: Path) -> None:
    async with running(prepare(tmp_path)) as node:
        await epoch(node, 1)
        (tmp_path / "conf" / "notes.txt").write_text("x")
        (tmp_path / "part.lua").write_text("return { version = 'part 1' }")  # the same content
        await trio.sleep(0.5)
        assert node.reloader is not None
        assert (node.reloader.status.epoch, node.reloader.status.failures) == (1, 0)


async def test_polling_finds_what_events_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_watch(*directories: str, **options: object) -> None:
        raise OSError("no inotify instances are left")

    monkeypatch.setattr(config_monitor, "watch", no_watch)
    monkeypatch.setattr(config_monitor, "POLL_INTERVAL", 0.2)
    async with running(prepare(tmp_path)) as node:
        await epoch(node, 1)
        (tmp_path / "part.lua").write_text("return { version = 'part 2' }")
        await epoch(node, 2)


BROKEN = {
    "syntax": ("part.lua", "return {", "part.lua:1: unexpected symbol near <eof>"),
    "top level": ("part.lua", "error 'no luck'", "part.lua:1: no luck"),
    "unknown function": (
        "part.lua",
        "require('kumo').start_smtp_listener {}",
        "did you mean kumo.start_esmtp_listener?",
    ),
    "endless loop": ("part.lua", "while true do end", "part.lua:1: stopped after"),
    "data": ("data.json", '{ "version": ', "data.json: not JSON"),
    "missing": ("data.json", None, "data.json: No such file"),
    "init": (
        "part.lua",
        "require('kumo').on('pre_init', function() error 'bad start' end) return {}",
        "bad start",
    ),
    "reject": (
        "part.lua",
        "require('kumo').on('pre_init', function() require('kumo').reject(500, 'no') end)",
        "500 no",
    ),
    "invalid": (
        "part.lua",
        "require('kumo').on('validate_config', function() require('kumo').validation_failed() end) return {}",
        "kumo.validation_failed",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_edit_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    file, text, error = BROKEN[how]
    async with running(prepare(tmp_path)) as node:
        [address] = node.addresses["smtp"]
        await epoch(node, 1)
        if text is None:
            (tmp_path / file).unlink()
        else:
            (tmp_path / file).write_text(text)
        slowest = 0.0
        with trio.move_on_after(30):
            async with trio.open_nursery() as nursery:
                done = trio.Event()

                async def wait() -> None:
                    assert error in await refused(node)
                    done.set()

                nursery.start_soon(wait)
                while not done.is_set():
                    began = trio.current_time()
                    await submit(address)
                    slowest = max(slowest, trio.current_time() - began)
        assert done.is_set()
        assert slowest < 2  # also while an endless loop is given its time
        node.policy.env.pool_limits.max_age = 0  # new contexts run the old policy too
        await submit(address)
        await submit(address)
        (tmp_path / file).write_text(
            "return { version = 'part 2' }" if file == "part.lua" else '{ "version": "data 2" }'
        )
        await epoch(node, 2)
        assert node.reloader is not None
        assert node.reloader.status.error is None
    out = capsys.readouterr().out
    assert "the edited policy is refused; epoch 1 goes on" in out
    assert {line.partition("handled by ")[2] for line in out.splitlines() if "handled by" in line} == {
        "part 1 data 1"
    }


async def test_what_needs_a_restart_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(prepare(tmp_path)) as node:
        await epoch(node, 1)
        text = POLICY.replace("@DIR@", str(tmp_path))
        text = text.replace("relay_hosts = { '127.0.0.0/8' }", "relay_hosts = {}, banner = 'hello'")
        text = text.replace(
            "kumo.set_config_monitor_globs", "kumo.set_memory_soft_limit(1000000000)\n" * 2 + "--"
        )
        text = text.replace("  kumo.configure_local_logs", "  --")
        (tmp_path / "policy.lua").write_text(text)
        await epoch(node, 2)
        assert node.reloader is not None
        assert node.reloader.status.restart_needed == [
            "kumo.start_esmtp_listener { listen = '127.0.0.1:0' }: relay_hosts, banner changed",
            "kumo.set_memory_soft_limit is new",
            "kumo.set_memory_soft_limit is new",
            f"kumo.configure_local_logs {{ log_dir = '{tmp_path}/logs' }} is gone",
        ]
        (tmp_path / "policy.lua").write_text(POLICY.replace("@DIR@", str(tmp_path)))
        await epoch(node, 3)
        assert node.reloader.status.restart_needed == []
    assert "takes effect at the next start only: kumo.start_esmtp_listener" in capsys.readouterr().out


async def test_the_epoch_can_be_bumped(tmp_path: Path) -> None:
    async with running(prepare(tmp_path)) as node:
        await epoch(node, 1)
        assert await node.policy.ask("smtp_server_ehlo", "bump.example", None, []) is None
        await epoch(node, 2)
