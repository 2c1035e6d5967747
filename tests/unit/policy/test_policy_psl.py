"""Registrable domains and public suffixes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from policy_host import MakePolicy


@pytest.mark.parametrize(
    ("name", "domain", "suffix"),
    [
        ("www.example.com", "example.com", "com"),
        ("WWW.Example.COM.", "example.com", "com"),
        ("example.com", "example.com", "com"),
        ("com", None, "com"),
        ("a.b.example.co.uk", "example.co.uk", "co.uk"),
        ("co.uk", None, "co.uk"),
        ("a.unknown-tld", "a.unknown-tld", "unknown-tld"),
        ("x.kawasaki.jp", None, "x.kawasaki.jp"),
        ("a.city.kawasaki.jp", "city.kawasaki.jp", "kawasaki.jp"),
        ("project.github.io", "project.github.io", "github.io"),
        ("", None, None),
        ("a..com", None, None),
    ],
)
async def test_public_suffixes(policy: MakePolicy, name: str, domain: str | None, suffix: str | None) -> None:
    lua = policy("""
        kumo.on('mine', function(s)
          return { kumo.string.psl_domain(s) or 'nil', kumo.string.psl_suffix(s) or 'nil' }
        end)
    """)
    await lua.load()
    assert await lua.ask("mine", name) == [domain or "nil", suffix or "nil"]
