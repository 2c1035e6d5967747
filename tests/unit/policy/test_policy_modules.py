"""The modules of `kumo`: configurations, JSON, TOML, strings, durations, logging."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kumo_py.core.policy import PolicyError
from kumo_py.policy.modules.serde import parse_json, parse_toml
from kumo_py.policy.surface import build_registry

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy, RecordingHost


async def run(policy: MakePolicy, code: str, *args: object) -> object:
    """The result of Lua code."""
    lua = policy(f"kumo.on('mine', function(...)\n{code}\nend)")
    await lua.load()
    return await lua.ask("mine", *args)


async def test_configurations_can_be_looked_into(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local path = kumo.make_egress_path { connection_limit = 5, mail_from_timeout = '2 minutes' }
        local queue = kumo.make_queue_config { protocol = { smtp = { mx_list = { 'a.example', 'b.example' } } } }
        local seen = {}
        for key, value in pairs(path) do seen[key] = value end
        return {
          path.connection_limit, path.mail_from_timeout, tostring(path.no_such), type(path), #path,
          seen.connection_limit == path.connection_limit, seen.enable_tls, queue.protocol.smtp.mx_list[2],
        }
        """,
    )
    assert result[1:] == ["2m", "nil", "userdata", 0, True, "Opportunistic", "b.example"]


async def test_a_configuration_can_be_made_of_another(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local first = kumo.make_egress_path { connection_limit = 5, enable_tls = 'Required' }
        local copy = {}
        for key, value in pairs(first) do copy[key] = value end
        copy.enable_tls = 'Disabled'
        return { kumo.make_egress_path(first).enable_tls, kumo.make_egress_path(copy).enable_tls }
        """,
    )
    assert result == ["Required", "Disabled"]


async def test_version_and_parallelism(policy: MakePolicy) -> None:
    version, cpus = await run(policy, "return { kumo.version, kumo.available_parallelism() }")
    assert version >= "2026"
    assert cpus >= 1


async def test_log_lines_have_place_and_level(policy: MakePolicy, host: RecordingHost) -> None:
    lua = policy(r"""
kumo.on('init', function()
  kumo.log_error('a', 1, nil, 2.5, true)
  kumo.log_warn(setmetatable({}, { __tostring = function() return 'shown' end }))
  kumo.log_info '\xff'
  kumo.log_debug()
end)
""")
    await lua.load()
    await lua.ask("init")
    assert host.calls == [
        ("error", "policy.lua:4: a 1 nil 2.5 true"),
        ("warn", "policy.lua:5: shown"),
        ("info", "policy.lua:6: \\xff"),
        ("debug", "policy.lua:7: "),
    ]


# -- JSON and TOML ---------------------------------------------------------------------------------------------
async def test_json_with_comments(policy: MakePolicy, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(
        '// C++\n{ "a": [1, 2.5, "//no", "#no"], /* C\n */ "b": null, # shell\n "c": {"d": true} }'
    )
    result = await run(
        policy,
        """
        local t = kumo.json_load 'data.json'
        return { t.a, tostring(t.b), t.c.d, kumo.serde.json_load('data.json').a[2] }
        """,
    )
    assert result == [[1, 2.5, "//no", "#no"], "nil", True, 2.5]


async def test_json_text(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local t = kumo.serde.json_parse '{"list": [], "map": {}, "text": "\\u00e9", "big": 18446744073709551615}'
        return {
          kumo.json_encode(t.list), kumo.json_encode(t.map), kumo.json_encode { 1, 2, x = 3 }, kumo.json_encode(nil),
          kumo.json_encode 'é', kumo.json_encode { b = 0 / 0 }, kumo.json_encode_pretty { z = 1, a = { 2 } },
          t.text, t.big, kumo.json_encode(kumo.make_egress_pool { name = 'p' }),
        }
        """,
    )
    assert result == [
        "[]",
        "{}",
        "[1,2]",
        "null",
        '"é"',
        '{"b":null}',
        '{\n  "a": [\n    2\n  ],\n  "z": 1\n}',
        "é",
        2.0**64,
        '{"name":"p","entries":[],"ttl":"1m"}',
    ]


async def test_toml(policy: MakePolicy, tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_text(
        "a = 1\n[t]\nwhen = 2026-08-04T12:00:00Z\nday = 2026-08-04\nl = ['x']\n"
    )
    result = await run(
        policy,
        """
        local t = kumo.toml_load 'data.toml'
        return {
          t.a, t.t.when, t.t.day, t.t.l, kumo.toml_encode { a = 1, b = { c = 'd' } },
          kumo.serde.toml_parse(kumo.serde.toml_encode_pretty(t)).t.l[1],
        }
        """,
    )
    assert result == [1, "2026-08-04T12:00:00+00:00", "2026-08-04", ["x"], 'a = 1\n\n[b]\nc = "d"\n', "x"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("kumo.json_parse '{'", "kumo.json_parse: not JSON: "),
        ("kumo.json_parse '/* '", "kumo.json_parse: not JSON: "),
        ("kumo.json_parse '// x\\n{,}'", "line 2"),
        (
            "kumo.json_parse(('['):rep(900) .. (']'):rep(900))",
            "kumo.json_parse: the value is nested more than 100 deep",
        ),
        ("kumo.toml_parse 'a ='", "kumo.toml_parse: not TOML: "),
        ("kumo.toml_parse '\\xff'", "kumo.toml_parse: not TOML: byte 1 is not UTF-8"),
        ("kumo.toml_encode { 1 }", "kumo.toml_encode: TOML is a table with keys at its top"),
        ("kumo.json_encode(print)", "argument 'value' cannot hold a function"),
        ("kumo.json_load 'bad.json'", "kumo.json_load: bad.json: not JSON: "),
        ("kumo.toml_load 'bad.json'", "kumo.toml_load: bad.json: not TOML: "),
    ],
)
async def test_bad_data_is_explained(policy: MakePolicy, tmp_path: Path, code: str, problem: str) -> None:
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(PolicyError) as caught:
        await run(policy, code)
    assert problem in str(caught.value)


JSON = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


async def test_json_survives_lua(policy: MakePolicy) -> None:
    lua = policy(
        "kumo.on('mine', function(text) return kumo.json_parse(kumo.json_encode(kumo.json_parse(text))) end)"
    )
    await lua.load()
    values: list[object] = []

    @settings(max_examples=100, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(JSON)
    def collect(value: object) -> None:
        values.append(value)

    collect()
    for value in values:
        assert await lua.ask("mine", orjson.dumps(value).decode()) == value


@given(st.binary() | st.text(alphabet='{}[]",:/*#\\\n 1a').map(str.encode))
@settings(database=None, deadline=None)
def test_parsers_raise_only_what_they_say(text: bytes) -> None:
    for parse in (parse_json, parse_toml):
        with contextlib.suppress(ValueError):
            parse(text)


# -- strings and durations ----------------------------------------------------------------------------------
async def test_strings(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local s = kumo.string
        return {
          s.replace('a.b.c', '.', '-'), s.replacen('a.b.c', '.', '-', 1), s.split('a,b,,c', ','),
          s.splitn('a,b,c', 2, ','), s.rsplit('a,b,c', ','), s.rsplitn('a,b,c', 2, ','),
          s.split_whitespace ' a  b ', s.split_ascii_whitespace 'a\\tb', s.starts_with('abc', 'ab'),
          s.ends_with('abc', 'ab'), s.trim ' a ', s.trim_start ' a ', s.trim_end ' a ',
        }
        """,
    )
    assert result == [
        "a-b-c", "a-b.c", ["a", "b", "", "c"], ["a", "b,c"], ["c", "b", "a"], ["c", "a,b"], ["a", "b"], ["a", "b"],
        True, False, "a", "a ", " a",
    ]  # fmt: skip


async def test_durations(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local d = kumo.time.parse_duration
        local half = d '1h 30m'
        return {
          half.seconds, half.milliseconds, half.human, tostring(half + d(1)), (half - d(5400)).human,
          d(60) == d '1m', d(60) == d '2m', type(half), kumo.time.parse_duration(half).seconds,
        }
        """,
    )
    assert result == [5400.0, 5400000, "1h 30m", "1h 30m 1s", "0s", True, False, "userdata", 5400.0]


# -- the registry ----------------------------------------------------------------------------------------------
def test_everything_is_declared_once_and_described() -> None:
    registry = build_registry()
    for owner in (*registry.modules.values(), *registry.kinds.values()):
        names = owner.names()
        assert len(set(names)) == len(names), owner.name
        for function in owner.functions:
            assert function.doc, function.label
            assert function.since in ("-", "dev", "undocumented", "kumo-py") or function.since[:2] == "20"
    for event in registry.events.values():
        assert event.doc, event.name


async def test_all_that_is_declared_exists(policy: MakePolicy) -> None:
    registry = build_registry()
    labels = [f.label for module in registry.modules.values() for f in module.functions]
    required = [name for name in registry.modules if "." not in name and name != "kumo"]
    imports = "".join(f"local {name} = require '{name}'\n" for name in required)
    result = await run(policy, imports + "return { " + ", ".join(f"type({label})" for label in labels) + " }")
    assert result == ["function"] * len(labels)
