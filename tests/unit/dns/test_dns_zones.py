from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from kumo_py.dns import AggregateBackend, Answer, DnsError, MxRecord, TlsaRecord, ZoneBackend, ZoneText

if TYPE_CHECKING:
    from trio.testing import MockClock

MAIL = """
$ORIGIN example.com.
@       600  IN MX 2 two.example.com.
                MX 1 One.example.com.
one     A 192.0.2.1
one     A 192.0.2.2
one     AAAA 2001:DB8::1
txt     30 TXT "v=spf1 " "-all"
txt     30 TXT "other"
_25._tcp.one 30 TLSA 3 1 0 00ff
alias   10 CNAME one
far     20 CNAME target.example.net.
lost    CNAME gone.example.org.
loop    CNAME pool
pool    CNAME loop
"""
SIGNED = ZoneText(zone="$ORIGIN example.net.\ntarget 300 A 192.0.2.3\n", secure=True)
REVERSE = "$ORIGIN 2.0.192.in-addr.arpa.\n1 30 PTR one.example.com.\n"


def backend() -> ZoneBackend:
    return ZoneBackend([MAIL, SIGNED, REVERSE])


async def test_records_are_plain_values() -> None:
    zones = backend()
    mx = await zones.query("example.com", "MX")
    assert set(mx.records) == {MxRecord(1, "one.example.com"), MxRecord(2, "two.example.com")}
    assert mx.ttl == 600
    assert set((await zones.query("one.example.com", "A")).records) == {"192.0.2.1", "192.0.2.2"}
    assert (await zones.query("one.example.com", "AAAA")).records == ("2001:db8::1",)
    assert (await zones.query("txt.example.com", "TXT")).records == ("v=spf1 -all", "other")
    assert (await zones.query("_25._tcp.one.example.com", "TLSA")).records == (
        TlsaRecord(3, 1, 0, b"\0\xff"),
    )
    assert (await zones.query("1.2.0.192.in-addr.arpa", "PTR")).records == ("one.example.com",)
    assert (await zones.query("alias.example.com", "CNAME")).records == ("one.example.com",)


async def test_nothing_is_nodata_inside_a_zone_and_nxdomain_outside() -> None:
    zones = backend()
    assert await zones.query("nobody.example.com", "A") == Answer()
    assert await zones.query("one.example.com", "MX") == Answer()
    assert (await zones.query("example.org", "A")).nxdomain
    assert (await ZoneBackend(["$ORIGIN .\ncom 60 A 192.0.2.1\n"]).query("com", "A")).records == (
        "192.0.2.1",
    )


async def test_aliases_are_followed_with_the_least_ttl_and_security() -> None:
    zones = backend()
    answer = await zones.query("alias.example.com", "A")
    assert (len(answer.records), answer.ttl) == (2, 10)
    far = await zones.query("far.example.com", "A")
    assert (far.records, far.ttl, far.is_secure) == (("192.0.2.3",), 20, False)
    assert (await zones.query("target.example.net", "A")).is_secure
    assert (await zones.query("lost.example.com", "A")).nxdomain
    with pytest.raises(DnsError, match="CNAME chain is longer than 8"):
        await zones.query("loop.example.com", "A")


async def test_scripted_failures(autojump_clock: MockClock) -> None:
    zones = ZoneBackend(
        [MAIL],
        {"Example.com.": "SERVFAIL", "one.example.com": "NXDOMAIN", "two.example.com": "TIMEOUT"},
    )
    with pytest.raises(DnsError, match=r"MX lookup for example\.com failed: SERVFAIL"):
        await zones.query("example.com", "MX")
    assert (await zones.query("alias.example.com", "A")).nxdomain
    start = trio.current_time()
    with pytest.raises(DnsError, match="no answer within 5 seconds"):
        await zones.query("two.example.com", "A")
    assert trio.current_time() - start == 5


async def test_an_aggregate_asks_the_next_for_what_the_first_doesnt_know() -> None:
    broken = ZoneBackend([], {"example.com": "SERVFAIL"})
    both = AggregateBackend([ZoneBackend([SIGNED]), backend()])
    assert (await both.query("example.com", "MX")).ttl == 600
    assert (await both.query("example.org", "MX")).nxdomain
    assert (await AggregateBackend([broken, backend()]).query("example.com", "MX")).ttl == 600
    with pytest.raises(DnsError, match="SERVFAIL"):
        await AggregateBackend([broken, ZoneBackend([SIGNED])]).query("example.com", "MX")
