from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from kumo_py.dns import (
    Answer,
    DnsError,
    HostAddress,
    RecordType,
    Resolver,
    ZoneBackend,
    connection_plan,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

ZONE = """
$ORIGIN example.com.
@ 300 MX 10 a
@ 300 MX 10 b
@ 300 MX 20 c
@ 300 MX 30 broken
@ 300 MX 40 empty
twin 300 MX 10 a
twin 300 MX 20 a
twin 300 MX 20 b
dead 300 MX 10 empty
dead 300 MX 20 broken
bare 300 MX 10 empty
null 300 MX 0 .
a 300 A 192.0.2.1
a 300 A 192.0.2.2
a 300 AAAA 2001:db8::1
b 300 A 192.0.2.3
c 300 A 192.0.2.4
implicit 300 A 192.0.2.5
"""


def resolver() -> Resolver:
    return Resolver(backend=ZoneBackend([ZONE], {"broken.example.com": "SERVFAIL"}))


async def plan_for(domain: str, seed: int = 0, resolving: Resolver | None = None) -> tuple[HostAddress, ...]:
    resolving = resolving or resolver()
    return await connection_plan(
        resolving, await resolving.lookup_mx(domain), "Ipv4AndIpv6", random.Random(seed)
    )


async def test_preferences_ascend_and_a_preference_is_shuffled() -> None:
    level = {"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"}
    orders = set()
    for seed in range(50):
        addresses = [address.addr for address in await plan_for("example.com", seed)]
        assert set(addresses[:4]) == level
        assert addresses[4:] == ["192.0.2.4"]
        orders.add(tuple(addresses))
    assert len(orders) > 10
    assert {order[0] for order in orders} == level


async def test_the_same_random_gives_the_same_plan() -> None:
    assert await plan_for("example.com", 7) == await plan_for("example.com", 7)


async def test_the_strategy_chooses_the_family() -> None:
    resolving = resolver()
    mx = await resolving.lookup_mx("example.com")
    plan = await connection_plan(resolving, mx, "Ipv6ThenIpv4", random.Random(0))
    assert {address.addr for address in plan} == {"2001:db8::1", "192.0.2.3", "192.0.2.4"}


async def test_no_address_is_tried_twice() -> None:
    plan = await plan_for("twin.example.com")
    assert [address.name for address in plan[:3]] == ["a.example.com"] * 3
    assert [address.addr for address in plan[3:]] == ["192.0.2.3"]


async def test_an_implicit_host() -> None:
    assert await plan_for("implicit.example.com") == (
        HostAddress("implicit.example.com", "192.0.2.5", is_secure=False),
    )


async def test_a_port_goes_with_the_addresses() -> None:
    assert await plan_for("implicit.example.com:2525") == (
        HostAddress("implicit.example.com", "192.0.2.5", is_secure=False, port=2525),
    )


@pytest.mark.parametrize(
    ("domain", "address", "port"),
    [("[192.0.2.9]", "192.0.2.9", None), ("[IPv6:::1]", "::1", None), ("[IPv6:::1]:2525", "::1", 2525)],
)
async def test_a_literal_is_its_own_plan(domain: str, address: str, port: int | None) -> None:
    (found,) = await plan_for(domain)
    assert (found.addr, found.port, found.is_secure) == (address, port, False)


async def test_nobody_to_connect_to() -> None:
    assert await plan_for("null.example.com") == ()
    assert await plan_for("bare.example.com") == ()


async def test_no_address_because_of_a_failure() -> None:
    with pytest.raises(DnsError, match=r"A lookup for broken\.example\.com failed: SERVFAIL"):
        await plan_for("dead.example.com")


class Slow:
    """Zones that take a second per answer."""

    def __init__(self) -> None:
        self.zones = ZoneBackend([ZONE])

    async def query(self, name: str, rdtype: RecordType) -> Answer:
        await trio.sleep(1)
        return await self.zones.query(name, rdtype)


async def test_hosts_are_looked_up_at_the_same_time_and_once(autojump_clock: MockClock) -> None:
    resolving = Resolver(backend=Slow())
    start = trio.current_time()
    await plan_for("example.com", resolving=resolving)
    assert trio.current_time() - start == 2
    with trio.CancelScope() as scope:
        scope.cancel()
        assert len(await plan_for("example.com", resolving=resolving)) == 5
    assert not scope.cancelled_caught
