"""A node's resolvers: named ones, and the default one that stays the same object."""

from __future__ import annotations

import pytest
import trio

from kumo_py.dns import Answer, DnsError, Resolvers, ZoneBackend, parse_resolver

TEXT = "$ORIGIN example.com.\n@ 600 TXT {}\n"


def define(resolvers: Resolvers, name: str | None, text: str) -> None:
    spec = {"Test": [TEXT.format(text)]}
    resolvers.configure(name, spec, parse_resolver(spec, "test"))


async def test_names_lead_to_resolvers_of_their_own() -> None:
    resolvers = Resolvers(backend=ZoneBackend())
    default = resolvers.get(None)
    define(resolvers, "one", "first")
    define(resolvers, None, "default")
    assert await resolvers.get("one").lookup_txt("example.com") == ("first",)
    assert resolvers.get(None) is default is resolvers.default
    assert await default.lookup_txt("example.com") == ("default",)


async def test_a_reconfigured_resolver_forgets() -> None:
    resolvers = Resolvers(backend=ZoneBackend())
    define(resolvers, "one", "first")
    held = resolvers.get("one")
    await held.lookup_txt("example.com")
    define(resolvers, "one", "second")
    assert await held.lookup_txt("example.com") == ("second",)


async def test_a_lookup_under_way_leaves_nothing_behind(autojump_clock: trio.testing.MockClock) -> None:
    class Slow:
        async def query(self, name: str, rdtype: str) -> Answer:
            await trio.sleep(1)
            return Answer(("old",))

    resolvers = Resolvers(backend=Slow())
    found = []

    async def ask() -> None:
        found.append(await resolvers.default.lookup_txt("example.com"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        define(resolvers, None, "new")
        await ask()
    assert found == [("new",), ("old",)]
    assert await resolvers.default.lookup_txt("example.com") == ("new",)


def test_what_was_said_is_known() -> None:
    resolvers = Resolvers()
    assert not resolvers.knows(None, {"Test": [TEXT.format("x")]})
    define(resolvers, None, "x")
    assert resolvers.knows(None, {"Test": [TEXT.format("x")]})
    assert not resolvers.knows(None, {"Test": [TEXT.format("y")]})
    assert not resolvers.knows("other", {"Test": [TEXT.format("x")]})


def test_a_name_that_is_not_defined() -> None:
    with pytest.raises(
        ValueError, match=r"resolver x is not defined; define it with kumo.dns.define_resolver"
    ):
        Resolvers().get("x")


async def test_an_aggregate_asks_the_next_for_unknown_names() -> None:
    resolvers = Resolvers()
    spec = {"Aggregate": [{"Test": [TEXT.format("near")]}, {"Test": ["$ORIGIN .\na.example TXT far\n"]}]}
    resolvers.configure(None, spec, parse_resolver(spec, "test"))
    assert await resolvers.default.lookup_txt("example.com") == ("near",)
    assert await resolvers.default.lookup_txt("a.example") == ("far",)
    broken = {"Aggregate": [{"Test": {"zones": [], "servfail": ["a.example"]}}, {"Test": []}]}
    resolvers.configure(None, broken, parse_resolver(broken, "test"))
    with pytest.raises(DnsError, match="SERVFAIL"):
        await resolvers.default.lookup_txt("a.example")
