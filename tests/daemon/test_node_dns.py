"""A whole node asks the DNS where its policy said, whenever the policy said it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kumo_py.daemon import Node

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """
local kumo = require 'kumo'
local zone = '$ORIGIN example.com.\\n@ 60 TXT %s\\n@ 60 MX 10 %s\\n'
kumo.on('init', function()
  kumo.dns.configure_test_resolver { zone:format('early', 'mx1') }
  kumo.dns.define_resolver('other', { Test = { zone:format('other', 'mx3') } })
  assert(kumo.dns.lookup_txt('example.com')[1] == 'early')
  assert(kumo.dns.lookup_txt('example.com', 'other')[1] == 'other')
  kumo.dns.configure_test_resolver { zone:format('late', 'mx2') }
  assert(kumo.dns.lookup_txt('example.com')[1] == 'late')
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
end)
"""


def write(directory: Path) -> Path:
    policy = directory / "policy.lua"
    policy.write_text(POLICY.replace("@DIR@", str(directory)))
    return policy


async def test_a_policy_may_ask_while_it_is_validated(tmp_path: Path) -> None:
    assert await Node(write(tmp_path)).validate()


async def test_the_queues_ask_where_the_policy_said_last(tmp_path: Path) -> None:
    node = Node(write(tmp_path), grace=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.serve)
        assert node.queues.resolver is node.resolver
        mx = await node.queues.resolver.lookup_mx("example.com")
        assert mx.hosts == ("mx2.example.com",)
        node.stop()
