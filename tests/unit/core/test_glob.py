"""File name patterns."""

from __future__ import annotations

import pytest

from kumo_py.core.glob import Glob


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("/etc/*.lua", ["/etc/a.lua", "/etc/.lua"], ["/etc/a.luac", "/etc/x/a.lua", "etc/a.lua"]),
        ("/etc/**/*.lua", ["/etc/a.lua", "/etc/x/y/a.lua"], ["/etc/x", "/etcx/a.lua"]),
        ("/etc/**", ["/etc/a", "/etc/x/y"], ["/etc"]),
        ("a/*/c?.{lua,toml}", ["a/b/c1.lua", "a/b/c2.toml"], ["a/b/c.lua", "a/c1.lua", "a/b/c1.json"]),
        ("{a,b/{c,d}}.x", ["a.x", "b/c.x", "b/d.x"], ["b.x", "c.x"]),
        ("[a-c]1", ["a1", "c1"], ["d1", "/1"]),
        ("[!a]1", ["b1"], ["a1", "/1"]),
        ("a+(b).x", ["a+(b).x"], ["aab.x"]),
        ("[", ["["], ["a"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    glob = Glob(pattern)
    assert [path for path in yes if not glob.matches(path)] == []
    assert [path for path in no if glob.matches(path)] == []


def test_what_a_walker_must_look_at() -> None:
    glob = Glob("/opt/kumo/etc/**/*.{lua,toml}")
    assert glob.fixed == "/opt/kumo/etc"
    assert [d for d in ("/", "/opt", "/opt/kumo/etc", "/opt/kumo/etc/x/y") if not glob.may_contain(d)] == []
    assert not glob.may_contain("/opt/other")
    flat = Glob("conf/*/x.lua")
    assert flat.fixed == "conf"
    assert flat.may_contain(".")
    assert flat.may_contain("conf/a")
    assert not flat.may_contain("conf/a/b")
    assert Glob("*.lua").fixed == "."
    assert Glob("/*.lua").fixed == "/"


@pytest.mark.parametrize("pattern", ["a{b", "{a,b}" * 12, "{" * 30])
def test_bad_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="the pattern"):
        Glob(pattern)
