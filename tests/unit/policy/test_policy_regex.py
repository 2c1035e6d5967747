"""The modules `kumo.regex` and `kumo.regex_set_map`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from policy_host import run

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from policy_host import MakePolicy


async def test_searching(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local re = kumo.regex.compile "'(?<title>[^']+)'\\s+\\((\\d{4})\\)(x)?"
        local cap = re:captures "Not my favorite movie: 'Citizen Kane' (1941)."
        local words = kumo.regex.compile '\\b\\w{13}\\b'
        return {
          cap[0], cap[1], cap.title, cap[2], cap[3] == nil, re:captures 'none' == nil,
          kumo.regex.compile 'oo':is_match 'foo', kumo.regex.compile '^oo':is_match 'foo',
          kumo.regex.compile 'o+':find 'fooood', kumo.regex.compile 'x':find 'fooood' == nil,
          words:find_all 'Retroactively relinquishing remunerations is reprehensible.', words:find_all '',
          tostring(words), type(words),
        }
        """,
    )
    words = ["Retroactively", "relinquishing", "remunerations", "reprehensible"]
    assert result == [
        "'Citizen Kane' (1941)", "Citizen Kane", "Citizen Kane", "1941", True, True, True, False, "oooo", True,
        words, [], r"\b\w{13}\b", "userdata",
    ]  # fmt: skip


async def test_replacing_and_splitting(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local names = kumo.regex.compile '(?P<last>[^,\\s]+),\\s+(?P<first>\\S+)'
        local digit = kumo.regex.compile '[^01]+'
        return {
          names:replace('Springsteen, Bruce', '$first $last'), digit:replace('1078910x', ''),
          digit:replace_all('1078910x', '<$0>'), digit:replacen('x1y0z', 2, '$$'), digit:replacen('x1y', 0, ''),
          kumo.regex.compile '[ \\t]+':split 'a b \t  c',
          kumo.regex.compile('^' .. kumo.regex.escape 'a.b*' .. '$'):is_match 'a.b*',
        }
        """,
    )
    assert result == ["Bruce Springsteen", "1010x", "10<789>10<x>", "$1$0z", "1", ["a", "b", "c"], True]


async def test_bytes_that_are_no_text_may_be_searched(policy: MakePolicy) -> None:
    assert await run(policy, r"return kumo.regex.compile('b.'):find('\xffbc\xfe')") == "bc"


async def test_look_around_and_back_references(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""return {
          kumo.regex.compile '(?<=user )\\S+(?=@)':find 'user joe@example.com',
          kumo.regex.compile '(\\w)\\1':replace_all('hello', '[$1]'),
        }""",
    )
    assert result == ["joe", "he[l]o"]


async def test_one_regex_for_all_contexts(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local get = kumo.memoize(function() return { re = kumo.regex.compile 'a+' } end,
          { name = 'regexes', ttl = '1 hour', capacity = 10 })
        return { get().re:find 'baa', get().re:is_match 'x' }
        """,
    )
    assert result == ["aa", False]


async def test_a_map_of_regexes(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local map = kumo.regex_set_map.new {
          hello = 'hello', bye = 'bye', later = 'bye', ['Good day'] = { kind = 'hello' }, ['^$'] = false, ['l+o'] = 1,
        }
        return {
          map['hello there'], map.goodbye, map['see you later'], map['Good day!'].kind, map['not.set'] == nil,
          map[''], type(map), kumo.regex_set_map.new().x == nil, map['\xff bye'],
        }
        """,
    )
    assert result == ["hello", "bye", "bye", "hello", True, False, "userdata", True, "bye"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("kumo.regex.compile '('", "policy.lua:3: kumo.regex.compile: the pattern has a ( without its )"),
        ("kumo.regex.compile(nil)", "kumo.regex.compile: argument 'pattern' must be a string, got nil"),
        ("kumo.regex.compile 'a':is_match(nil)", "regex:is_match: argument 's' must be a string, got nil"),
        ("kumo.regex.compile 'a'.find('a')", "regex:find must be called with ':' on a regex"),
        ("kumo.regex.compile 'a':matches 'a'", "a regex has no method 'matches'; did you mean is_match?"),
        (
            "kumo.regex.compile 'a':replacen('a', -1, '')",
            "regex:replacen: the limit must be 0 or more, got -1",
        ),
        ("kumo.regex.compile 'a':replace('a', '\\xff')", "argument 'replacement' must be UTF-8 text"),
        (
            "kumo.regex_set_map.new { ['a(?=b)'] = 1 }",
            "kumo.regex_set_map.new: 'a(?=b)': the pattern has look-around",
        ),
        (
            "kumo.regex.compile '(?=a)(a|aa)+$':find(('a'):rep(60) .. 'b')",
            "policy.lua:3: regex:find: the pattern took more than 0.1 s on this text",
        ),
        ("kumo.regex_set_map.new { [{}] = 1 }", "argument 'entries' cannot have a table as a key"),
        ("kumo.regex_set_map.new { a = print }", "argument 'entries' ['a'] cannot keep a function"),
        ("kumo.regex_set_map.new 'a'", "argument 'entries' must be a table, got string 'a'"),
        ("kumo.regex_set_map.new {}.x = 1", "x of a regex_set_map cannot be added"),
    ],
)
async def test_misuse_is_explained(policy: MakePolicy, code: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code)
    assert problem in str(caught.value)
