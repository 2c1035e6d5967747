"""MTA-STS (RFC 8461): reading policies, keeping them, and what they do to a domain's hosts."""

from __future__ import annotations

import pytest
import trio

from kumo_py.dns import DnsError, Resolver, ZoneBackend
from kumo_py.dns.mta_sts import MAX_POLICY, NO_POLICY, MtaSts, MtaStsError, Policy, parse_policy, policy_id

POLICY = (
    "version: STSv1\r\nmode: enforce\r\nmx: MX1.example.com\r\nmx: *.mail.example.net\r\nmax_age: 600\r\n"
)


def test_a_policy() -> None:
    policy = parse_policy(POLICY + "future: extension\r\n\r\n")
    assert policy == Policy("Enforce", ("mx1.example.com", "*.mail.example.net"), 600)
    assert parse_policy("version:STSv1\nmode:none\nmax_age:99999999\n") == Policy("None", (), 31557600)
    assert parse_policy("mode: testing\nmode: enforce\nversion: STSv1\nmx: a.b\nmax_age: 0").mode == "Testing"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it has no 'version'"),
        ("version: STSv2\nmode: none\nmax_age: 1", "its version is 'STSv2', not 'STSv1'"),
        ("version: STSv1\nmax_age: 1", "it has no 'mode'"),
        (
            "version: STSv1\nmode: strict\nmax_age: 1",
            "its mode is 'strict', not one of enforce, testing, none",
        ),
        ("version: STSv1\nmode: enforce\nmax_age: 1", "it has no 'mx'"),
        ("version: STSv1\nmode: none", "it has no 'max_age'"),
        ("version: STSv1\nmode: none\nmax_age: soon", "its max_age is 'soon', not a number of seconds"),
        ("version: STSv1\nmode: none\nmax_age: -1", "its max_age is '-1'"),
        ("<html>", "'<html>' is no line like 'mode: enforce'"),
        ("a: b\n" * MAX_POLICY, "at most 65536 octets"),
    ],
)
def test_what_is_no_policy(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_policy(text)


@pytest.mark.parametrize(
    ("host", "permitted"),
    [
        ("mx1.example.com", True),
        ("mx2.example.com", False),
        ("a.mail.example.net", True),
        ("a.b.mail.example.net", False),
        ("mail.example.net", False),
        ("amail.example.net", False),
    ],
)
def test_permitted_hosts(host: str, permitted: bool) -> None:
    assert parse_policy(POLICY).permits(host) is permitted


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (("v=STSv1; id=20260101T000000;",), "20260101T000000"),
        (("v=STSv1;id=1",), "1"),
        (("v=STSv1; future=x; id = 1 ;",), "1"),
        (("v=spf1 -all", "v=STSv1; id=1;"), "1"),
        ((), None),
        (("v=STSv1",), None),
        (("v=STSv1; id=;",), None),
        (("v=STSv1; id=a-b;",), None),
        (("id=1; v=STSv1;",), None),
        (("v=STSv10; id=1;",), None),
        (("v=STSv1; id=1;", "v=STSv1; id=2;"), None),
    ],
)
def test_what_announces_a_policy(records: tuple[str, ...], expected: str | None) -> None:
    assert policy_id(records) == expected


class Domain:
    """example.com, as it publishes itself; what was asked of it is counted."""

    def __init__(self) -> None:
        self.records: tuple[str, ...] | DnsError = ("v=STSv1; id=1;",)
        self.policy: str | MtaStsError = POLICY
        self.fetched = 0
        self.policies = MtaSts()
        self.policies.fetch = self.fetch

    async def fetch(self, domain: str) -> str:
        assert domain == "example.com"
        self.fetched += 1
        await trio.sleep(1)
        if isinstance(self.policy, MtaStsError):
            raise self.policy
        return self.policy

    async def txt(self, name: str) -> tuple[str, ...]:
        assert name == "_mta-sts.example.com"
        await trio.lowlevel.checkpoint()
        if isinstance(self.records, DnsError):
            raise self.records
        return self.records

    async def mode(self) -> str:
        return (await self.policies.verdict("example.com", self.txt)).policy.mode


async def test_a_policy_is_fetched_once_and_kept(autojump_clock: trio.testing.MockClock) -> None:
    domain = Domain()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(domain.mode)
    assert await domain.mode() == "Enforce"
    assert domain.fetched == 1
    await trio.sleep(599)
    domain.records = ()
    assert (await domain.mode(), domain.fetched) == ("Enforce", 1)
    domain.records = DnsError("_mta-sts.example.com", "TXT", "SERVFAIL")
    assert (await domain.mode(), domain.fetched) == ("Enforce", 1)
    await trio.sleep(2)
    assert await domain.mode() == "None"


async def test_another_id_is_another_policy(autojump_clock: trio.testing.MockClock) -> None:
    domain = Domain()
    await domain.mode()
    domain.records = ("v=STSv1; id=2;",)
    domain.policy = POLICY.replace("enforce", "testing")
    assert (await domain.mode(), domain.fetched) == ("Testing", 2)


@pytest.mark.parametrize("broken", [MtaStsError("404"), "nonsense"])
async def test_a_policy_that_cannot_be_renewed_stays(
    autojump_clock: trio.testing.MockClock, broken: str | MtaStsError
) -> None:
    domain = Domain()
    await domain.mode()
    domain.records, domain.policy = ("v=STSv1; id=2;",), broken
    assert (await domain.mode(), domain.fetched) == ("Enforce", 2)
    await trio.sleep(600)
    assert await domain.mode() == "None"


async def test_a_policy_that_cannot_be_had_is_tried_again_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    domain = Domain()
    domain.policy = MtaStsError("404")
    verdict = await domain.policies.verdict("example.com", domain.txt)
    assert verdict.policy is NO_POLICY
    assert verdict.expires == trio.current_time() + 300
    assert (await domain.mode(), domain.fetched) == ("None", 1)
    domain.policy = POLICY
    await trio.sleep(300)
    assert (await domain.mode(), domain.fetched) == ("Enforce", 2)


async def test_a_failed_announcement_is_looked_up_again_later(autojump_clock: trio.testing.MockClock) -> None:
    domain = Domain()
    domain.records = DnsError("_mta-sts.example.com", "TXT", "SERVFAIL")
    verdict = await domain.policies.verdict("example.com", domain.txt)
    assert (verdict.policy, verdict.expires) == (NO_POLICY, trio.current_time() + 300)
    domain.records = ()
    assert (await domain.policies.verdict("example.com", domain.txt)).expires == float("inf")
    assert domain.fetched == 0


async def test_a_cancelled_fetch_is_done_by_the_next(autojump_clock: trio.testing.MockClock) -> None:
    domain = Domain()
    modes = []

    async def other() -> None:
        modes.append(await domain.mode())

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            nursery.start_soon(other)
            await domain.mode()
    assert (modes, domain.fetched <= 2) == (["Enforce"], True)


ZONE = """
$ORIGIN example.com.
@ 3600 MX 10 mx1
@ 3600 MX 20 mx2
"""


async def test_hosts_that_are_not_permitted_are_left_out(autojump_clock: trio.testing.MockClock) -> None:
    domain = Domain()
    resolver = Resolver(backend=ZoneBackend([ZONE, '$ORIGIN _mta-sts.example.com.\n@ TXT "v=STSv1; id=1"\n']))
    resolver.mta_sts = domain.policies
    mx = await resolver.lookup_mx("example.com:2525")
    assert (mx.hosts, mx.site_name, mx.mta_sts) == (
        ("mx1.example.com:2525",),
        "mx1.example.com:2525",
        "Enforce",
    )
    assert mx.expires == trio.current_time() + 600
    domain.policies.enabled = False
    resolver.forget_exchangers()
    assert (await resolver.lookup_mx("example.com")).hosts == ("mx1.example.com", "mx2.example.com")


async def test_a_domain_that_permits_none_of_its_hosts() -> None:
    resolver = Resolver(backend=ZoneBackend([ZONE]))
    resolver.mta_sts = MtaSts()
    resolver.mta_sts.use_fixed({"Example.com.": POLICY.replace("MX1", "elsewhere")})
    with pytest.raises(DnsError, match=r"permits none of its MX hosts mx1\.example\.com, mx2\.example\.com"):
        await resolver.lookup_mx("example.com")
    assert (resolver.mta_sts_exclusions, resolver.mx_failures) == (1, 1)


async def test_nobody_is_asked_without_mx_records_or_a_way_to_fetch() -> None:
    resolver = Resolver(backend=ZoneBackend(["$ORIGIN example.com.\n@ A 192.0.2.1\nnull MX 0 .\n"]))
    resolver.mta_sts = MtaSts()
    resolver.mta_sts.use_fixed({"example.com": POLICY, "null.example.com": POLICY})
    assert (await resolver.lookup_mx("example.com")).mta_sts == "None"
    assert (await resolver.lookup_mx("null.example.com")).is_null
    assert (await MtaSts().verdict("example.com", lambda name: pytest.fail("asked"))).policy is NO_POLICY
