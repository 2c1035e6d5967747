from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from kumo_py.dns import (
    Answer,
    DnsError,
    MailExchanger,
    MxRecord,
    NoSuchDomain,
    RecordType,
    Resolver,
    ResolverConfig,
    ResolverOptions,
    TlsaRecord,
    ZoneBackend,
    ZoneText,
)
from kumo_py.dns.exchanger import MAX_HOSTS
from kumo_py.dns.resolver import FAILURE_TTL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kumo_py.dns import IpLookupStrategy


class Script:
    """A backend whose answers a test writes, which counts what it is asked and may be held."""

    def __init__(self, answers: Mapping[tuple[str, str], Answer | str], delay: float = 0.0) -> None:
        self.answers = answers
        self.delay = delay
        self.asked: list[tuple[str, RecordType]] = []
        self.cancelled = 0

    async def query(self, name: str, rdtype: RecordType) -> Answer:
        self.asked.append((name, rdtype))
        try:
            await trio.sleep(self.delay)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        answer = self.answers.get((name, rdtype), Answer(nxdomain=True))
        if isinstance(answer, str):
            raise DnsError(name, rdtype, answer)
        return answer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def mx(*hosts: tuple[int, str], ttl: float = 300.0, is_secure: bool = False) -> Answer:
    return Answer(tuple(MxRecord(*host) for host in hosts), ttl, is_secure)


def a(*addresses: str, ttl: float = 300.0, is_secure: bool = False) -> Answer:
    return Answer(addresses, ttl, is_secure)


# --- mail hosts ---


async def test_mx_hosts_come_in_order() -> None:
    script = Script(
        {("example.com", "MX"): mx((20, "c.example"), (10, "b.example"), (10, "a.example"), ttl=60)}
    )
    found = await Resolver(clock=Clock(), backend=script).lookup_mx("Example.COM.")
    assert found == MailExchanger(
        domain="example.com",
        hosts=("a.example", "b.example", "c.example"),
        site_name="(a|b|c).example",
        by_pref={10: ("a.example", "b.example"), 20: ("c.example",)},
        is_domain_literal=False,
        is_mx=True,
        is_secure=False,
        is_null=False,
        expires=1060.0,
    )
    assert list(found.by_pref) == [10, 20]


async def test_without_mx_the_domain_is_its_own_host() -> None:
    zones = ZoneBackend([ZoneText(zone="$ORIGIN example.com.\nwww 300 A 192.0.2.1\n", secure=True)])
    found = await Resolver(backend=zones).lookup_mx("www.example.com")
    assert (found.hosts, found.by_pref) == (("www.example.com",), {1: ("www.example.com",)})
    assert (found.is_mx, found.is_null, found.site_name) == (False, False, "www.example.com")
    # The denial was validated, so the host is as good as published (DANE, RFC 7672).
    assert found.is_secure


async def test_a_null_mx() -> None:
    script = Script({("example.com", "MX"): mx((0, "."))})
    found = await Resolver(backend=script).lookup_mx("example.com")
    assert (found.is_null, found.is_mx, found.hosts, found.site_name) == (True, True, (".",), "")
    assert found.by_pref == {0: (".",)}


async def test_a_null_mx_beside_hosts_means_nothing() -> None:
    script = Script({("example.com", "MX"): mx((0, "."), (10, "a.example"))})
    found = await Resolver(backend=script).lookup_mx("example.com")
    assert (found.is_null, found.hosts) == (False, ("a.example",))


async def test_hosts_that_could_forge_a_site_name_are_left_out() -> None:
    script = Script(
        {
            ("mixed.example", "MX"): mx(
                (1, "alt1?.big.example"), (1, "192.0.2.1"), (2, "a|b.example"), (9, "ok.example")
            ),
            ("bad.example", "MX"): mx((1, "192.0.2.1")),
        }
    )
    resolver = Resolver(backend=script)
    assert (await resolver.lookup_mx("mixed.example")).hosts == ("ok.example",)
    with pytest.raises(
        DnsError, match=r"MX lookup for bad.example failed: no MX record has a host name: 192\.0\.2\.1"
    ):
        await resolver.lookup_mx("bad.example")


async def test_too_many_hosts_are_cut_at_the_worst_end() -> None:
    hosts = [(number // 10, f"h{number:04}.example") for number in range(2000)]
    script = Script({("example.com", "MX"): mx(*reversed(hosts))})
    found = await Resolver(backend=script).lookup_mx("example.com")
    assert found.hosts == tuple(host for _, host in hosts[:MAX_HOSTS])


async def test_a_unicode_domain_is_looked_up_as_a_labels() -> None:
    script = Script({("xn--bb-eka.at", "MX"): mx((1, "mx.xn--bb-eka.at"))})
    resolver = Resolver(backend=script)
    found = await resolver.lookup_mx("öbb.at")
    assert (found.domain, found.hosts) == ("xn--bb-eka.at", ("mx.xn--bb-eka.at",))
    assert await resolver.lookup_mx("xn--bb-eka.at") is found


@pytest.mark.parametrize(
    ("domain", "host"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:DB8::1]", "2001:db8::1"),
        ("[::1]", "::1"),
        ("[192.0.2.1]:2525", "192.0.2.1:2525"),
        ("[192.0.2.1:2525]", "192.0.2.1:2525"),
        ("[IPv6:::1]:2525", "[::1]:2525"),
    ],
)
async def test_an_address_literal_asks_nobody(domain: str, host: str) -> None:
    script = Script({})
    found = await Resolver(backend=script).lookup_mx(domain)
    assert (found.domain, found.hosts, found.site_name, found.by_pref) == (
        domain,
        (host,),
        host,
        {1: (host,)},
    )
    assert (found.is_domain_literal, found.is_mx, found.is_secure, found.expires) == (
        True,
        False,
        False,
        math.inf,
    )
    assert script.asked == []


async def test_a_domain_with_a_port_gives_it_to_its_hosts() -> None:
    script = Script({("example.com", "MX"): mx((1, "a.example"), (1, "b.example"))})
    resolver = Resolver(backend=script)
    found = await resolver.lookup_mx("example.com:2525")
    assert found.hosts == ("a.example:2525", "b.example:2525")
    assert (found.domain, found.site_name) == ("example.com", "(a|b).example:2525")
    assert (await resolver.lookup_mx("example.com")).hosts == ("a.example", "b.example")
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    "domain", ["nowhere.example", "", "a b.example", "[192.0.2", "[IPv6:192.0.2.1]", "x" * 64]
)
async def test_a_domain_that_doesnt_exist(domain: str) -> None:
    resolver = Resolver(backend=Script({}))
    with pytest.raises(NoSuchDomain) as raised:
        await resolver.lookup_mx(domain)
    assert raised.value.rdtype == "MX"
    assert resolver.mx_failures == 1


async def test_nxdomain_is_in_the_text() -> None:
    with pytest.raises(NoSuchDomain, match=r"MX lookup for nowhere\.example failed: NXDOMAIN"):
        await Resolver(backend=Script({})).lookup_mx("nowhere.example")


# --- how long answers are kept ---


def options(**given: object) -> ResolverConfig:
    return ResolverConfig(options=ResolverOptions(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "config", "seconds"),
    [
        (mx((1, "a.example"), ttl=60), options(), 60),
        (mx((1, "a.example"), ttl=1e6), options(), 86400),
        (mx((1, "a.example"), ttl=1), options(positive_min_ttl=30.0), 30),
        (mx((1, "a.example"), ttl=3600), options(positive_max_ttl=30.0), 30),
        (Answer(ttl=60), options(), 60),
        (Answer(ttl=1e6), options(), 10800),
        (Answer(ttl=1, nxdomain=True), options(negative_min_ttl=30.0), 30),
        (Answer(ttl=3600, nxdomain=True), options(negative_max_ttl=30.0), 30),
        ("SERVFAIL", options(negative_max_ttl=1.0), FAILURE_TTL),
    ],
)
async def test_how_long_an_outcome_is_kept(
    answer: Answer | str, config: ResolverConfig, seconds: float
) -> None:
    clock = Clock()
    script = Script({("example.com", "MX"): answer})
    resolver = Resolver(config, clock, script)

    async def outcome() -> object:
        try:
            return await resolver.lookup_mx("example.com")
        except DnsError as error:
            return str(error)

    first = await outcome()
    clock.now += seconds - 0.1
    assert await outcome() == first
    assert len(script.asked) == 1
    clock.now += 0.2
    await outcome()
    assert len(script.asked) == 2


async def test_the_policy_sets_how_long_failed_mx_lookups_are_kept() -> None:
    clock = Clock()
    script = Script({("broken.example", "MX"): "SERVFAIL", ("broken.example", "A"): "SERVFAIL"})
    resolver = Resolver(clock=clock, backend=script)
    resolver.mx_negative_ttl = 300.0
    for domain in ("broken.example", "gone.example"):
        with pytest.raises(DnsError):
            await resolver.lookup_mx(domain)
    with pytest.raises(DnsError):
        await resolver.lookup_a("broken.example")
    clock.now += 299
    for domain in ("broken.example", "gone.example"):
        with pytest.raises(DnsError):
            await resolver.lookup_mx(domain)
    assert len(script.asked) == 3
    with pytest.raises(DnsError):
        await resolver.lookup_a("broken.example")
    assert len(script.asked) == 4


async def test_a_cached_lookup_has_no_checkpoint() -> None:
    script = Script({("example.com", "MX"): mx((1, "a.example")), ("a.example", "A"): a("192.0.2.1")})
    resolver = Resolver(backend=script)
    found = await resolver.lookup_mx("example.com")
    addresses = await resolver.lookup_addresses("a.example")
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await resolver.lookup_mx("example.com") is found
        assert await resolver.lookup_mx("EXAMPLE.com.") is found
        assert await resolver.lookup_addresses("a.example") is addresses
        assert await resolver.lookup_a("a.example") == ("192.0.2.1",)
    assert not scope.cancelled_caught
    assert (resolver.mx_cache_hits, resolver.mx_cache_misses, resolver.mx_in_progress) == (1, 2, 0)
    assert (resolver.mx_found, resolver.mx_failures) == (2, 0)
    exchangers, addresses_of_hosts, answers = resolver.caches
    assert (exchangers.hits, exchangers.misses, exchangers.inserted, len(exchangers)) == (2, 2, 1, 1)
    assert (addresses_of_hosts.hits, addresses_of_hosts.misses) == (1, 1)
    assert answers.inserted == 3


async def test_a_cached_failure_is_a_new_exception_each_time() -> None:
    resolver = Resolver(backend=Script({("example.com", "TXT"): "REFUSED"}))
    errors = []
    for _ in range(2):
        with pytest.raises(DnsError, match=r"TXT lookup for example\.com failed: REFUSED") as raised:
            await resolver.lookup_txt("example.com")
        errors.append(raised.value)
    assert errors[0] is not errors[1]


async def test_the_cache_is_bounded_and_keeps_what_is_used() -> None:
    script = Script({(f"n{number}.example", "A"): a("192.0.2.1") for number in range(4)})
    resolver = Resolver(options(cache_size=2), backend=script)
    for number in (0, 1, 0, 2, 0):
        await resolver.lookup_a(f"n{number}.example")
    assert len(script.asked) == 3
    await resolver.lookup_a("n1.example")
    assert len(script.asked) == 4


# --- one query for all who ask ---


async def ask_many(resolver: Resolver, count: int, domain: str = "example.com") -> list[MailExchanger]:
    found: list[MailExchanger] = []

    async def ask() -> None:
        found.append(await resolver.lookup_mx(domain))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(ask)
    return found


@pytest.mark.parametrize("ttl", [300.0, 0.0])
async def test_concurrent_lookups_share_a_query(autojump_clock: MockClock, ttl: float) -> None:
    script = Script({("example.com", "MX"): mx((1, "a.example"), ttl=ttl)}, delay=1)
    found = await ask_many(Resolver(backend=script), 50)
    assert [item.hosts for item in found] == [("a.example",)] * 50
    assert len(script.asked) == 1
    assert trio.current_time() < 1.5


async def test_concurrent_lookups_share_a_failure(autojump_clock: MockClock) -> None:
    script = Script({("example.com", "MX"): "SERVFAIL"}, delay=1)
    resolver = Resolver(backend=script)
    failures = []

    async def ask() -> None:
        with pytest.raises(DnsError, match="SERVFAIL") as raised:
            await resolver.lookup_mx("example.com")
        failures.append(raised.value)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert len(set(map(id, failures))) == 5
    assert len(script.asked) == 1


async def test_the_others_go_on_if_the_one_who_asks_is_cancelled(autojump_clock: MockClock) -> None:
    script = Script({("example.com", "MX"): mx((1, "a.example"))}, delay=2)
    resolver = Resolver(backend=script)
    first = trio.CancelScope()

    async def ask_and_give_up() -> None:
        with first:
            await resolver.lookup_mx("example.com")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_and_give_up)
        await wait_all_tasks_blocked()
        found: list[MailExchanger] = []

        async def ask_more() -> None:
            found.extend(await ask_many(resolver, 10))

        nursery.start_soon(ask_more)
        await wait_all_tasks_blocked()
        await trio.sleep(1)
        first.cancel()
    assert first.cancelled_caught
    assert len(found) == 10
    # One of the ten asked again; nothing is left behind.
    assert (len(script.asked), script.cancelled) == (2, 1)
    assert resolver.mx_in_progress == 0
    assert resolver.concurrency.borrowed_tokens == 0


async def test_all_give_up(autojump_clock: MockClock) -> None:
    script = Script({("example.com", "MX"): mx((1, "a.example"))}, delay=2)
    resolver = Resolver(backend=script)
    with trio.move_on_after(1) as scope:
        await ask_many(resolver, 10)
    assert scope.cancelled_caught
    assert script.cancelled == len(script.asked) == 1
    assert len(await ask_many(resolver, 3)) == 3
    assert len(script.asked) == 2


async def test_a_bug_in_the_backend_reaches_its_caller_and_harms_nobody_else(
    autojump_clock: MockClock,
) -> None:
    class Broken(Script):
        async def query(self, name: str, rdtype: RecordType) -> Answer:
            answer = await super().query(name, rdtype)
            if len(self.asked) == 1:
                raise RuntimeError("bug")
            return answer

    resolver = Resolver(backend=Broken({("example.com", "MX"): mx((1, "a.example"))}, delay=1))
    bugs = []
    found: list[MailExchanger] = []

    async def ask() -> None:
        try:
            found.append(await resolver.lookup_mx("example.com"))
        except RuntimeError as error:
            bugs.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert (len(bugs), len(found)) == (1, 2)


async def test_an_mx_lookup_is_limited_in_time(autojump_clock: MockClock) -> None:
    script = Script(
        {("example.com", "MX"): mx((1, "a.example")), ("a.example", "A"): a("192.0.2.1")}, delay=7
    )
    resolver = Resolver(backend=script)
    start = trio.current_time()
    for _ in range(2):
        with pytest.raises(DnsError, match=r"MX lookup for example\.com failed: no answer within 5 seconds"):
            await resolver.lookup_mx("example.com")
        assert trio.current_time() - start == 5
    assert len(script.asked) == 1
    resolver.mx_timeout = 10.0
    await trio.sleep(FAILURE_TTL)
    assert (await resolver.lookup_mx("example.com")).hosts == ("a.example",)
    assert await resolver.lookup_a("a.example") == ("192.0.2.1",)


async def test_queries_under_way_are_limited_in_number(autojump_clock: MockClock) -> None:
    names = [f"n{number}.example" for number in range(10)]
    script = Script({(name, "MX"): mx((1, "a.example")) for name in names}, delay=4)
    resolver = Resolver(backend=script)
    resolver.concurrency.total_tokens = 5
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(resolver.lookup_mx, name)
    # The wait for a turn doesn't count as the query's time.
    assert trio.current_time() - start == 8


# --- addresses ---

BOTH = {
    ("h.example", "A"): a("192.0.2.1", "192.0.2.2", is_secure=True),
    ("h.example", "AAAA"): a("2001:db8::1", ttl=100, is_secure=True),
}
V4, V6 = ["192.0.2.1", "192.0.2.2"], ["2001:db8::1"]


@pytest.mark.parametrize(
    ("strategy", "addresses", "asked"),
    [
        ("Ipv4AndIpv6", V4 + V6, {"A", "AAAA"}),
        ("Ipv4Only", V4, {"A"}),
        ("Ipv6Only", V6, {"AAAA"}),
        ("Ipv4ThenIpv6", V4, {"A"}),
        ("Ipv6ThenIpv4", V6, {"AAAA"}),
    ],
)
async def test_lookup_strategies(strategy: IpLookupStrategy, addresses: list[str], asked: set[str]) -> None:
    script = Script(dict(BOTH))
    found = await Resolver(backend=script).lookup_addresses("h.example", strategy)
    assert [address.addr for address in found] == addresses
    assert {(address.name, address.is_secure, address.port) for address in found} == {
        ("h.example", True, None)
    }
    assert {rdtype for _, rdtype in script.asked} == asked


@pytest.mark.parametrize("missing", [Answer(), Answer(nxdomain=True), "SERVFAIL"])
async def test_the_other_family_stands_in(missing: Answer | str) -> None:
    for strategy, gone, found in (
        ("Ipv4ThenIpv6", "A", V6),
        ("Ipv6ThenIpv4", "AAAA", V4),
        ("Ipv4AndIpv6", "A", V6),
    ):
        script = Script({**BOTH, ("h.example", gone): missing})
        addresses = await Resolver(backend=script).lookup_addresses("h.example", strategy)  # type: ignore[arg-type]
        assert [address.addr for address in addresses] == found


async def test_a_host_without_addresses() -> None:
    resolver = Resolver(backend=Script({("h.example", "A"): Answer()}))
    assert await resolver.lookup_addresses("h.example") == ()
    assert await resolver.lookup_addresses("gone.example", "Ipv6ThenIpv4") == ()


async def test_a_failed_lookup_is_no_empty_one() -> None:
    resolver = Resolver(backend=Script({("h.example", "A"): Answer(), ("h.example", "AAAA"): "SERVFAIL"}))
    with pytest.raises(DnsError, match=r"AAAA lookup for h\.example failed: SERVFAIL"):
        await resolver.lookup_addresses("h.example")
    assert await resolver.lookup_addresses("h.example", "Ipv4Only") == ()


async def test_one_insecure_family_makes_all_insecure() -> None:
    resolver = Resolver(backend=Script({**BOTH, ("h.example", "A"): a("192.0.2.1")}))
    assert {address.is_secure for address in await resolver.lookup_addresses("h.example")} == {False}


async def test_addresses_expire_with_the_shorter_of_both() -> None:
    clock = Clock()
    script = Script(dict(BOTH))
    resolver = Resolver(clock=clock, backend=script)
    await resolver.lookup_addresses("h.example")
    assert resolver.cached_addresses("h.example", "Ipv4AndIpv6") is not None
    clock.now += 101
    assert resolver.cached_addresses("h.example", "Ipv4AndIpv6") is None
    await resolver.lookup_addresses("h.example")
    assert sorted(script.asked) == [("h.example", "A"), ("h.example", "AAAA"), ("h.example", "AAAA")]


async def test_both_families_are_asked_at_the_same_time(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    await Resolver(backend=Script(dict(BOTH), delay=1)).lookup_addresses("h.example")
    assert trio.current_time() - start == 1


@pytest.mark.parametrize(
    ("host", "address"),
    [("192.0.2.1", "192.0.2.1"), ("[IPv6:::1]", "::1"), ("::1", "::1"), ("[192.0.2.1]", "192.0.2.1")],
)
async def test_an_address_is_its_own_host(host: str, address: str) -> None:
    found = await Resolver(backend=Script({})).lookup_addresses(host)
    assert [(item.name, item.addr) for item in found] == [(host, address)]


async def test_a_malformed_literal_is_no_host() -> None:
    with pytest.raises(NoSuchDomain, match="no address literal"):
        await Resolver(backend=Script({})).lookup_addresses("[192.0.2]")


async def test_a_host_has_a_bounded_number_of_addresses() -> None:
    many = a(*(f"10.0.{number // 256}.{number % 256}" for number in range(4000)))
    found = await Resolver(backend=Script({("h.example", "A"): many})).lookup_addresses(
        "h.example", "Ipv4Only"
    )
    assert len(found) == 32


# --- other records ---


async def test_other_records() -> None:
    tlsa = TlsaRecord(3, 1, 1, b"digest")
    script = Script(
        {
            ("t.example", "TXT"): a("v=spf1 -all", "other"),
            ("1.2.0.192.in-addr.arpa", "PTR"): a("h.example"),
            ("h.example", "AAAA"): a("2001:db8::1"),
            ("_25._tcp.h.example", "TLSA"): Answer((tlsa,), 60, is_secure=True),
            ("_26._tcp.h.example", "TLSA"): Answer((tlsa,), 60, is_secure=False),
        }
    )
    resolver = Resolver(backend=script)
    assert await resolver.lookup_txt("T.example.") == ("v=spf1 -all", "other")
    assert await resolver.lookup_txt("u.example") == ()
    assert await resolver.lookup_ptr("192.0.2.1") == ("h.example",)
    assert await resolver.lookup_ptr("192.0.2.2") == ()
    assert await resolver.lookup_aaaa("h.example") == ("2001:db8::1",)
    assert await resolver.lookup_a("h.example") == ()
    assert (await resolver.lookup_tlsa("h.example", 25)).records == (tlsa,)
    insecure = await resolver.lookup_tlsa("h.example", 26)
    assert (insecure.records, insecure.is_secure) == ((), False)
    assert (await resolver.query("gone.example", "TXT")).nxdomain
    with pytest.raises(ValueError, match="example"):
        await resolver.lookup_ptr("h.example")
