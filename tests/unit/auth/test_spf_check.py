"""SPF by RFC 7208: each record and what it means for a client. The section is beside each group."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from auth_zone import AuthZone
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.auth.spf import SpfRequest, SpfResult, check_host
from kumo_py.auth.spf_macro import SpfSyntaxError, shortened
from kumo_py.auth.spf_record import parse_record

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTS = """
example.com A 192.0.2.10
example.com AAAA 2001:db8::10
example.com MX mx1.example.com
example.com MX mx2.example.com
mx1.example.com A 192.0.2.21
mx2.example.com A 192.0.2.22
mx2.example.com AAAA 2001:db8::22
www.example.com A 192.0.2.80
www.example.com A 192.0.2.81
null-mx.example.com MX .
broken-mx.example.com MX broken.example.com
broken.example.com FAIL
10.2.0.192.in-addr.arpa PTR example.com
80.2.0.192.in-addr.arpa PTR liar.example.com
80.2.0.192.in-addr.arpa PTR www.example.com
81.2.0.192.in-addr.arpa PTR WWW.Example.Com
90.2.0.192.in-addr.arpa PTR broken.example.com
91.2.0.192.in-addr.arpa FAIL
liar.example.com A 203.0.113.1
pass.example.net TXT v=spf1 +all
fail.example.net TXT v=spf1 -all exp=why.example.net
soft.example.net TXT v=spf1 ~all
neutral.example.net TXT v=spf1 ?all
silent.example.net TXT v=spf1
two.example.net TXT v=spf1 +all
two.example.net TXT v=spf1 -all
wrong.example.net TXT v=spf1 al
broken.example.net FAIL
other.example.net TXT this is not the record you are looking for
why.example.net TXT included domains do not explain
redirected.example.net TXT v=spf1 a:www.example.com -all exp=because.example.net
because.example.net TXT %{d} says no
listed.example.net A 127.0.0.2
only6.example.net AAAA 2001:db8::1
"""

ADDRESS = "192.0.2.10"
STRANGER = "198.51.100.1"
SIX = "2001:db8::10"


async def check(
    record: str | Sequence[str],
    client: str = ADDRESS,
    *,
    sender: str = "user@example.com",
    helo: str = "helo.example.org",
    more: str = "",
) -> SpfResult:
    zone = AuthZone(HOSTS + more)
    for one in [record] if isinstance(record, str) else record:
        zone.add("example.com", "TXT", one)
    domain = sender.rpartition("@")[2] or helo
    request = SpfRequest(
        client=ip_address(client),
        domain=domain,
        sender=sender,
        helo=helo,
        receiver="mx.receiver.example",
        now=1_800_000_000.7,
    )
    return await check_host(request, zone)


RECORDS = [
    # 4.5: which record counts
    ("v=spf1", ADDRESS, "neutral"),
    ("v=spf1 ", ADDRESS, "neutral"),
    ("V=SPF1 -ALL", ADDRESS, "fail"),
    ("v=spf10 -all", ADDRESS, "none"),
    ("v=spf1-all", ADDRESS, "none"),
    (" v=spf1 -all", ADDRESS, "none"),
    ("v=spf2 -all", ADDRESS, "none"),
    ("v=spf1\t-all", ADDRESS, "none"),
    (["v=spf1 -all", "v=spf1 -all"], ADDRESS, "permerror"),
    (["v=spf1 -all", "v=spf10 +all", "hello"], ADDRESS, "fail"),
    (["hello \ufffd", "v=spf1 +all"], ADDRESS, "pass"),
    # 4.6: terms
    ("v=spf1  a   -all ", ADDRESS, "pass"),
    ("v=spf1 a\t-all", ADDRESS, "permerror"),
    ("v=spf1 a:\ufffd.example.com +all", ADDRESS, "permerror"),
    ("v=spf1 +all \x07", ADDRESS, "permerror"),
    ("v=spf1 nonsense +all", ADDRESS, "permerror"),
    ("v=spf1 +all nonsense", ADDRESS, "permerror"),
    ("v=spf1 - all", ADDRESS, "permerror"),
    ("v=spf1 !all", ADDRESS, "permerror"),
    ("v=spf1 --all", ADDRESS, "permerror"),
    ("v=spf1 -all.", ADDRESS, "permerror"),
    ("v=spf1 -all:example.com", ADDRESS, "permerror"),
    ("v=spf1 -all/8", ADDRESS, "permerror"),
    # 4.6.2: qualifiers; 4.7: the default
    ("v=spf1 all", ADDRESS, "pass"),
    ("v=spf1 +all", ADDRESS, "pass"),
    ("v=spf1 -all", ADDRESS, "fail"),
    ("v=spf1 ~all", ADDRESS, "softfail"),
    ("v=spf1 ?all", ADDRESS, "neutral"),
    ("v=spf1 -all +all", ADDRESS, "fail"),
    ("v=spf1 ip4:203.0.113.0/24", ADDRESS, "neutral"),
    # 5.2: include
    ("v=spf1 include:pass.example.net -all", ADDRESS, "pass"),
    ("v=spf1 -include:pass.example.net +all", ADDRESS, "fail"),
    ("v=spf1 include:fail.example.net ~all", ADDRESS, "softfail"),
    ("v=spf1 include:soft.example.net -all", ADDRESS, "fail"),
    ("v=spf1 include:neutral.example.net -all", ADDRESS, "fail"),
    ("v=spf1 include:silent.example.net -all", ADDRESS, "fail"),
    ("v=spf1 include:two.example.net -all", ADDRESS, "permerror"),
    ("v=spf1 include:wrong.example.net -all", ADDRESS, "permerror"),
    ("v=spf1 include:broken.example.net -all", ADDRESS, "temperror"),
    ("v=spf1 include:other.example.net -all", ADDRESS, "permerror"),
    ("v=spf1 include:missing.example.net -all", ADDRESS, "permerror"),
    ("v=spf1 include -all", ADDRESS, "permerror"),
    ("v=spf1 include: -all", ADDRESS, "permerror"),
    ("v=spf1 include:pass.example.net/24 -all", ADDRESS, "permerror"),
    ("v=spf1 +all include:missing.example.net", ADDRESS, "pass"),
    # 5.3: a
    ("v=spf1 a -all", ADDRESS, "pass"),
    ("v=spf1 A -all", ADDRESS, "pass"),
    ("v=spf1 a -all", STRANGER, "fail"),
    ("v=spf1 a -all", SIX, "pass"),
    ("v=spf1 a:www.example.com -all", "192.0.2.81", "pass"),
    ("v=spf1 a:www.example.com. -all", "192.0.2.81", "pass"),
    ("v=spf1 a/24 -all", "192.0.2.99", "pass"),
    ("v=spf1 a/24 -all", "192.0.3.99", "fail"),
    ("v=spf1 a/0 -all", STRANGER, "pass"),
    ("v=spf1 a/0 -all", "2001:db8::11", "fail"),
    ("v=spf1 a//112 -all", "2001:db8::11", "pass"),
    ("v=spf1 a/24//112 -all", "2001:db8::ffff", "pass"),
    ("v=spf1 a/24//112 -all", "2001:db8::1:0", "fail"),
    ("v=spf1 a//0 -all", "2001:dead::1", "pass"),
    ("v=spf1 a:example.com/24 -all", "192.0.2.99", "pass"),
    ("v=spf1 a/33 -all", ADDRESS, "permerror"),
    ("v=spf1 a//129 -all", ADDRESS, "permerror"),
    ("v=spf1 a/024 -all", ADDRESS, "permerror"),
    ("v=spf1 a/ -all", ADDRESS, "permerror"),
    ("v=spf1 a//24/24 -all", ADDRESS, "permerror"),
    ("v=spf1 a: -all", ADDRESS, "permerror"),
    ("v=spf1 a:com -all", ADDRESS, "permerror"),
    ("v=spf1 a:example.123 -all", ADDRESS, "permerror"),
    ("v=spf1 a:example.com:25 -all", ADDRESS, "permerror"),
    ("v=spf1 a:192.0.2.10 -all", ADDRESS, "permerror"),
    ("v=spf1 a:www..example.com ~all", ADDRESS, "softfail"),
    (f"v=spf1 a:{'x' * 64}.example.com ~all", ADDRESS, "softfail"),
    ("v=spf1 a:broken.example.com +all", ADDRESS, "temperror"),
    ("v=spf1 a:missing.example.com +all", ADDRESS, "pass"),
    # 5.4: mx
    ("v=spf1 mx -all", "192.0.2.22", "pass"),
    ("v=spf1 mx -all", "2001:db8::22", "pass"),
    ("v=spf1 mx -all", ADDRESS, "fail"),
    ("v=spf1 mx:example.com/24 -all", ADDRESS, "pass"),
    ("v=spf1 mx:null-mx.example.com ~all", ADDRESS, "softfail"),
    ("v=spf1 mx:www.example.com ~all", "192.0.2.80", "softfail"),
    ("v=spf1 mx:broken-mx.example.com ~all", ADDRESS, "temperror"),
    ("v=spf1 mx/a -all", ADDRESS, "permerror"),
    # 5.5: ptr
    ("v=spf1 ptr -all", ADDRESS, "pass"),
    ("v=spf1 ptr -all", "192.0.2.80", "pass"),
    ("v=spf1 ptr -all", "192.0.2.81", "pass"),
    ("v=spf1 ptr:www.example.com -all", ADDRESS, "fail"),
    ("v=spf1 ptr:ample.com -all", ADDRESS, "fail"),
    ("v=spf1 ptr ~all", "192.0.2.90", "softfail"),
    ("v=spf1 ptr ~all", "192.0.2.91", "softfail"),
    ("v=spf1 ptr ~all", STRANGER, "softfail"),
    ("v=spf1 ptr/0 -all", ADDRESS, "permerror"),
    ("v=spf1 ptr: -all", ADDRESS, "permerror"),
    # 5.6: ip4 and ip6
    ("v=spf1 ip4:192.0.2.10 -all", ADDRESS, "pass"),
    ("v=spf1 ip4:192.0.2.0/24 -all", ADDRESS, "pass"),
    ("v=spf1 ip4:192.0.2.99/24 -all", ADDRESS, "pass"),
    ("v=spf1 ip4:192.0.2.11/32 -all", ADDRESS, "fail"),
    ("v=spf1 ip4:0.0.0.0/0 -all", STRANGER, "pass"),
    ("v=spf1 ip4:192.0.2.10 -all", "::ffff:192.0.2.10", "pass"),
    ("v=spf1 ip6:::/0 ~all", "::ffff:192.0.2.10", "softfail"),
    ("v=spf1 ip4:192.0.2 -all", ADDRESS, "permerror"),
    ("v=spf1 ip4:192.0.2.010 -all", ADDRESS, "permerror"),
    ("v=spf1 ip4:192.0.2.10/33 -all", ADDRESS, "permerror"),
    ("v=spf1 ip4:192.0.2.10/08 -all", ADDRESS, "permerror"),
    ("v=spf1 ip4:192.0.2.10/ -all", ADDRESS, "permerror"),
    ("v=spf1 ip4:192.0.2.10//32 -all", ADDRESS, "permerror"),
    ("v=spf1 ip4 -all", ADDRESS, "permerror"),
    ("v=spf1 ip4:2001:db8::10 -all", ADDRESS, "permerror"),
    ("v=spf1 ip6:2001:db8::10 -all", SIX, "pass"),
    ("v=spf1 ip6:2001:DB8::/32 -all", SIX, "pass"),
    ("v=spf1 ip6:2001:db8::11 -all", SIX, "fail"),
    ("v=spf1 ip6:::1/0 -all", SIX, "pass"),
    ("v=spf1 ip6:2001:db8::/129 -all", SIX, "permerror"),
    ("v=spf1 ip6:fe80::1%eth0 -all", SIX, "permerror"),
    ("v=spf1 ip6:192.0.2.10 -all", SIX, "permerror"),
    # 5.7: exists
    ("v=spf1 exists:listed.example.net -all", STRANGER, "pass"),
    ("v=spf1 exists:listed.example.net -all", SIX, "pass"),
    ("v=spf1 exists:only6.example.net ~all", SIX, "softfail"),
    ("v=spf1 exists:%{ir}.bl.example ~all", STRANGER, "softfail"),
    ("v=spf1 exists:broken.example.com -all", ADDRESS, "temperror"),
    ("v=spf1 exists -all", ADDRESS, "permerror"),
    ("v=spf1 exists:listed.example.net/8 -all", ADDRESS, "permerror"),
    # 6: modifiers
    ("v=spf1 redirect=redirected.example.net", "192.0.2.80", "pass"),
    ("v=spf1 redirect=redirected.example.net", ADDRESS, "fail"),
    ("v=spf1 redirect=redirected.example.net a", ADDRESS, "pass"),
    ("v=spf1 redirect=missing.example.net ?all", ADDRESS, "neutral"),
    ("v=spf1 redirect=missing.example.net", ADDRESS, "permerror"),
    ("v=spf1 redirect=broken.example.net", ADDRESS, "temperror"),
    ("v=spf1 redirect=a.example redirect=b.example", ADDRESS, "permerror"),
    ("v=spf1 redirect= a", ADDRESS, "permerror"),
    ("v=spf1 redirect:redirected.example.net", ADDRESS, "permerror"),
    ("v=spf1 -redirect=redirected.example.net", ADDRESS, "permerror"),
    ("v=spf1 redirect=redirected.example.net/24", ADDRESS, "permerror"),
    ("v=spf1 exp=a.example.net exp=b.example.net", ADDRESS, "permerror"),
    ("v=spf1 exp= -all", ADDRESS, "permerror"),
    ("v=spf1 unknown=whatever:/, all", ADDRESS, "pass"),
    ("v=spf1 unknown=%{d} unknown= all", ADDRESS, "pass"),
    ("v=spf1 unknown=%(d) all", ADDRESS, "permerror"),
    ("v=spf1 9unknown=x all", ADDRESS, "permerror"),
    ("v=spf1 =x all", ADDRESS, "permerror"),
    # 7.1: macro syntax
    ("v=spf1 a:%{d} -all", ADDRESS, "pass"),
    ("v=spf1 a:%{x}.example.com all", ADDRESS, "permerror"),
    ("v=spf1 a:%{d all", ADDRESS, "permerror"),
    ("v=spf1 a:%{d0} all", ADDRESS, "permerror"),
    ("v=spf1 a:%{rd} all", ADDRESS, "permerror"),
    ("v=spf1 a:%{d:} all", ADDRESS, "permerror"),
    ("v=spf1 a:%d.example.com all", ADDRESS, "permerror"),
    ("v=spf1 a:example.com% all", ADDRESS, "permerror"),
    ("v=spf1 a:%{c}.example.com all", ADDRESS, "permerror"),
    ("v=spf1 a:%{T}.example.com all", ADDRESS, "permerror"),
    ("v=spf1 a:%{d}com all", ADDRESS, "permerror"),
    ("v=spf1 a:www.%{d2} -all", "192.0.2.80", "pass"),
]


@pytest.mark.parametrize(("record", "client", "disposition"), RECORDS)
async def test_a_record(record: str | list[str], client: str, disposition: str) -> None:
    assert (await check(record, client)).disposition == disposition


@pytest.mark.parametrize(
    ("sender", "helo", "disposition", "reason"),
    [
        # 4.3: what is no domain name has no policy
        ("user@a..example.com", "h.example", "none", "invalid domain name: a..example.com"),
        (f"user@{'x' * 64}.example.com", "h.example", "none", "invalid domain name: xxx"),
        (f"user@{'x.' * 126}com", "h.example", "none", "invalid domain name: x.x."),
        ("user@localhost", "h.example", "none", "invalid domain name: localhost"),
        ("", "single", "none", "invalid domain name: single"),
        ("user@missing.example", "h.example", "none", "no SPF records found for missing.example"),
        ("user@other.example.net", "h.example", "none", "no SPF records found for other.example.net"),
        # 4.4: the lookup fails
        ("user@broken.example.net", "h.example", "temperror", "TXT lookup for broken.example.net failed"),
        # 2.4: without a sender HELO counts
        ("", "soft.example.net", "softfail", "matched '~all' directive"),
        ("user@PASS.example.net.", "h.example", "pass", "matched 'all' directive"),
    ],
)
async def test_a_domain(sender: str, helo: str, disposition: str, reason: str) -> None:
    result = await check("v=spf1 -all", sender=sender, helo=helo)
    assert result.disposition == disposition
    assert result.reason.startswith(reason)


@pytest.mark.parametrize(
    ("record", "client", "reason"),
    [
        ("v=spf1 -all", ADDRESS, "matched '-all' directive"),
        ("v=spf1 +mx ~all", "192.0.2.21", "matched 'mx' directive"),
        ("v=spf1 ip6:2001:db8::/32", SIX, "matched 'ip6:2001:db8::/32' directive"),
        ("v=spf1", ADDRESS, "default result"),
        ("v=spf1 redirect=redirected.example.net", ADDRESS, "redirected.example.net says no"),
        ("v=spf1 frobnicate", ADDRESS, "failed to parse spf record: there is no mechanism 'frobnicate'"),
        ("v=spf1 a:\u00e9.example", ADDRESS, "failed to parse spf record: '\\xe9.example' has a character"),
        (["v=spf1", "v=spf1"], ADDRESS, "example.com has 2 SPF records"),
        (
            "v=spf1 include:missing.example.net",
            ADDRESS,
            "none while evaluating include:missing.example.net: no SPF records found for missing.example.net",
        ),
    ],
)
async def test_the_reason(record: str, client: str, reason: str) -> None:
    assert (await check(record, client)).reason.startswith(reason)


# The examples of section 7.4, and what they leave out.
MACROS = [
    ("%{s}", "strong-bad@email.example.com"),
    ("%{o}", "email.example.com"),
    ("%{d}", "email.example.com"),
    ("%{d4}", "email.example.com"),
    ("%{d3}", "email.example.com"),
    ("%{d2}", "example.com"),
    ("%{d1}", "com"),
    ("%{dr}", "com.example.email"),
    ("%{d2r}", "example.email"),
    ("%{l}", "strong-bad"),
    ("%{l-}", "strong.bad"),
    ("%{lr}", "strong-bad"),
    ("%{lr-}", "bad.strong"),
    ("%{l1r-}", "strong"),
    ("%{h}", "mail.helo.example"),
    ("%{i}", "192.0.2.3"),
    ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
    ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
    ("%{p}", "mx.example.org"),
    ("%{c} %{r} %{t}", "192.0.2.3 mx.receiver.example 1800000000"),
    ("%{S}", "strong-bad%40email.example.com"),
    ("100%% a%_b%-c", "100% a b%20c"),
    ("%{d999999}", "email.example.com"),
    ("%{s-=}", "strong.bad@email.example.com"),
]


@pytest.mark.parametrize(("text", "expanded"), MACROS)
async def test_macros(text: str, expanded: str) -> None:
    zone = AuthZone("email.example.com TXT v=spf1 -all exp=why.example.com")
    zone.add("why.example.com", "TXT", text)
    zone.add("3.2.0.192.in-addr.arpa", "PTR", "mx.example.org")
    zone.add("mx.example.org", "A", "192.0.2.3")
    request = SpfRequest(
        client=ip_address("192.0.2.3"),
        domain="email.example.com",
        sender="strong-bad@email.example.com",
        helo="mail.helo.example",
        receiver="mx.receiver.example",
        now=1_800_000_000.7,
    )
    assert await check_host(request, zone) == SpfResult("fail", expanded)


async def test_macros_for_ipv6() -> None:
    result = await check("v=spf1 -all exp=w.example", SIX, more="w.example TXT %{i} %{c} %{v}")
    nibbles = "2.0.0.1.0.d.b.8." + "0." * 22 + "1.0"
    assert result.reason == f"{nibbles} 2001:db8::10 ip6"


@pytest.mark.parametrize(
    ("sender", "shown"),
    [
        ("@example.com", "postmaster@example.com"),
        ("", "postmaster@example.com"),
        ("a@b@example.com", "a@b@example.com"),
    ],
)
async def test_the_local_part(sender: str, shown: str) -> None:
    result = await check(
        "v=spf1 -all exp=w.example", sender=sender, helo="example.com", more="w.example TXT %{s}"
    )
    assert result.reason == shown


@pytest.mark.parametrize(
    ("ptr", "expanded"),
    [
        ("1.2.0.192.in-addr.arpa PTR example.com\nexample.com A 192.0.2.1", "example.com"),
        ("1.2.0.192.in-addr.arpa PTR mx.other.example\nmx.other.example A 192.0.2.1", "mx.other.example"),
        (
            "1.2.0.192.in-addr.arpa PTR mx.other.example\nmx.other.example A 192.0.2.1\n"
            "1.2.0.192.in-addr.arpa PTR sub.example.com\nsub.example.com A 192.0.2.1",
            "sub.example.com",
        ),
        ("1.2.0.192.in-addr.arpa PTR liar.example.com", "unknown"),
        ("1.2.0.192.in-addr.arpa FAIL", "unknown"),
        ("", "unknown"),
    ],
)
async def test_the_name_of_the_client(ptr: str, expanded: str) -> None:
    result = await check("v=spf1 -all exp=w.example", "192.0.2.1", more=f"w.example TXT %{{p}}\n{ptr}")
    assert result.reason == expanded


@pytest.mark.parametrize(
    "explanation",
    [
        "",
        "w.example FAIL",
        "w.example TXT one\nw.example TXT two",
        "w.example TXT %{",
        "w.example TXT %(d)",
        "w.example TXT caf\u00e9",
        "w.example TXT line\x07break",
        f"w.example TXT {'x' * 501}",
    ],
)
async def test_an_explanation_that_cannot_be_had_changes_nothing(explanation: str) -> None:
    result = await check("v=spf1 -all exp=w.example", more=explanation)
    assert result == SpfResult("fail", "matched '-all' directive")


async def test_only_failures_are_explained() -> None:
    result = await check("v=spf1 ~all exp=why.example.net")
    assert result == SpfResult("softfail", "matched '~all' directive")
    result = await check("v=spf1 include:fail.example.net -all exp=because.example.net")
    assert result == SpfResult("fail", "example.com says no")


# -- limits (section 4.6.4) ------------------------------------------------------------------------------
async def test_ten_terms_may_ask() -> None:
    ten = " ".join(["a:www.example.com"] * 10)
    assert (await check(f"v=spf1 {ten} ip4:192.0.2.10 -all")).disposition == "pass"
    assert await check(f"v=spf1 {ten} a") == SpfResult("permerror", "DNS lookup limits exceeded")
    assert (await check(f"v=spf1 {ten} redirect=pass.example.net")).disposition == "permerror"


async def test_terms_of_included_records_count() -> None:
    chain = "\n".join(f"i{n}.example TXT v=spf1 include:i{n + 1}.example" for n in range(12))
    result = await check("v=spf1 include:i0.example", more=chain)
    assert result.disposition == "permerror"
    assert result.reason.endswith("DNS lookup limits exceeded")


async def test_a_record_that_includes_itself_ends() -> None:
    assert (await check("v=spf1 include:example.com -all")).disposition == "permerror"
    assert (await check("v=spf1 redirect=example.com")).disposition == "permerror"


async def test_two_questions_may_be_in_vain() -> None:
    two = "a:n1.example.com exists:n2.example.com"
    assert (await check(f"v=spf1 {two} +all")).disposition == "pass"
    result = await check(f"v=spf1 {two} mx:n3.example.com +all")
    assert result == SpfResult("permerror", "more than 2 DNS lookups without an answer")


async def test_ten_mail_hosts_count() -> None:
    hosts = "\n".join(f"many.example MX m{n}.example\nm{n}.example A 203.0.113.{n}" for n in range(11))
    assert (await check("v=spf1 mx:many.example -all", "203.0.113.9", more=hosts)).disposition == "pass"
    result = await check("v=spf1 mx:many.example -all", "203.0.113.10", more=hosts)
    assert result == SpfResult("permerror", "too many MX records for many.example")


async def test_ten_names_of_the_client_count() -> None:
    names = "\n".join(
        f"1.113.0.203.in-addr.arpa PTR p{n}.example.com\np{n}.example.com A 203.0.113.{n}" for n in range(12)
    )
    assert (await check("v=spf1 ptr ~all", "203.0.113.1", more=names)).disposition == "pass"
    late = names.replace("p1.example.com A 203.0.113.1\n", "p11.example.com A 203.0.113.1\n")
    assert (await check("v=spf1 ptr ~all", "203.0.113.1", more=late)).disposition == "softfail"


async def test_a_client_is_asked_about_in_its_own_family_only() -> None:
    zone = AuthZone(HOSTS)
    zone.add("example.com", "TXT", "v=spf1 a mx -all")
    request = SpfRequest(client=ip_address("2001:db8::99"), domain="example.com", sender="u@example.com")
    assert (await check_host(request, zone)).disposition == "fail"
    assert zone.asked == [
        "TXT example.com",
        "AAAA example.com",
        "MX example.com",
        "AAAA mx1.example.com",
        "AAAA mx2.example.com",
    ]


async def test_reasons_are_printable() -> None:
    result = await check("v=spf1 include:%{l}.example.com", sender="a\r\nb\u00e9@example.com")
    assert result.disposition == "permerror"
    assert "include:a\\r\\nb\\xe9.example.com" in result.reason


def test_long_names_lose_labels_from_the_left() -> None:
    name = ".".join(["abcdefghi"] * 26)
    assert shortened(name) == ".".join(["abcdefghi"] * 25)
    assert shortened(f"{'x' * 300}.com") == "com"
    assert shortened("x" * 300) == ""
    assert shortened("example.com.") == "example.com"


TERMS = st.lists(
    st.one_of(
        st.text(st.characters(max_codepoint=0x17F), max_size=20),
        st.from_regex(
            r"[+~?-]?(a|mx|ptr|include|exists|ip4|ip6|all)[:=/]?[%{}a-z0-9./:-]{0,12}", fullmatch=True
        ),
        st.sampled_from(["%{", "%{d9r.-}", "a/24//64", "exp=%{d}", "redirect=%{s}.example.com"]),
    ),
    max_size=12,
)


@given(TERMS, st.sampled_from([ADDRESS, SIX]), st.text(max_size=12))
async def test_any_record_has_a_result(terms: list[str], client: str, local: str) -> None:
    result = await check("v=spf1 " + " ".join(terms), client, sender=f"{local}@example.com")
    assert result.disposition in ("pass", "fail", "softfail", "neutral", "none", "temperror", "permerror")
    assert result.reason.isascii()
    assert result.reason.isprintable()


@pytest.mark.parametrize(
    "record",
    [
        "a:" + "." * 16000,
        "a:" + "/" * 16000,
        "a:" + "a-" * 8000,
        "exists:" + "%{d}" * 4000,
        "x=" + "%{d" * 5000,
    ],
)
def test_a_hostile_record_is_refused_in_few_words(record: str) -> None:
    with pytest.raises(SpfSyntaxError) as caught:
        parse_record(f"v=spf1 {record}")
    assert len(str(caught.value)) < 200
