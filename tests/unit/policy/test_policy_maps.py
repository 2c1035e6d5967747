"""The modules `kumo.domain_map` and `kumo.cidr`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from policy_host import run

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from policy_host import MakePolicy


async def test_a_map_of_domains(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local map = kumo.domain_map.new { ['*.woot.com'] = 123, ['example.com'] = { relay = true, to = { 'a', 'b' } } }
        map['*.example.com'] = 42
        map['www.example.com'] = nil
        return {
          map['lemon.example.com'], map['example.com'].to[2], map['woot.com'] == nil, map['a.b.woot.com'],
          map['not.set'] == nil, map['www.example.com'] == nil, type(map), kumo.domain_map.new()['x'] == nil,
        }
        """,
    )
    assert result == [42, "b", True, 123, True, True, "userdata", True]


async def test_a_map_of_networks(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local map = kumo.cidr.make_map { ['10.0.0.0/8'] = 'wide', ['10.1.0.0/16'] = 'narrow', ['[::1]:25'] = 'me' }
        map['4.2.4.2'] = 4242
        map['192.0.2.1:587'] = { port = 'is ignored' }
        map['2001:db8::/32'] = kumo.domain_map.new { a = 1 }
        return {
          map['10.2.0.1'], map['10.1.0.1:25'], map['::1'], map['[::1]'], map['4.2.4.2'], map['192.0.2.1'].port,
          map['2001:db8::1'].a, map['[2001:db8::1]:25'].a, map['10.1.0.0/24'], map['4.2.4.3'] == nil,
          map['not.set'] == nil, kumo.cidr.make_map()['1.2.3.4'] == nil, map['::ffff:10.1.2.3'],
        }
        """,
    )
    assert result == [
        "wide", "narrow", "me", "me", 4242, "is ignored", 1, 1, "narrow", True, True, True, "narrow",
    ]  # fmt: skip


async def test_one_map_for_all_contexts(policy: MakePolicy) -> None:
    lua = policy(
        """
        local get = kumo.memoize(function() return kumo.domain_map.new { ['a.b'] = { 'x' } } end,
          { name = 'maps', ttl = '1 hour', capacity = 10 })
        kumo.on('mine', function() kumo.sleep(0.001) return get()['a.b'][1] end)
        """
    )
    await lua.load()
    assert [await lua.ask("mine") for _ in range(3)] == ["x"] * 3
    lua.close()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("kumo.domain_map.new 'x'", "policy.lua:3: kumo.domain_map.new: argument 'entries' must be a table"),
        ("kumo.domain_map.new { x = print }", "argument 'entries' ['x'] cannot keep a function"),
        ("kumo.domain_map.new()['\\xff'] = 1", "domain_map.newindex: argument 'name' must be UTF-8 text"),
        (
            "local _ = kumo.domain_map.new()[{}]",
            "domain_map.index: argument 'name' must be a string, got a table",
        ),
        ("kumo.cidr.make_map { ['10.0.0.1/8'] = 1 }", "did you mean '10.0.0.0/8'?"),
        (
            "kumo.cidr.make_map { ['10.0.0.1:x'] = 1 }",
            "'10.0.0.1:x' is not an address: 'x' is not a port number",
        ),
        ("kumo.cidr.make_map()['nonsense'] = 1", "cidr_map.newindex: 'nonsense' is not a network"),
        (
            "local _ = kumo.cidr.make_map()[true]",
            "cidr_map.index: argument 'address' must be a string, got boolean true",
        ),
    ],
)
async def test_misuse_is_explained(policy: MakePolicy, code: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code)
    assert problem in str(caught.value)
