"""`kumo.dns`: lookups through the default resolver and named ones, and how resolvers are configured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy, RecordingHost

ZONES = """
local zones = { [[
$ORIGIN example.com.
@ 600 MX 10 mx2
@ 600 MX 10 mx1
@ 600 MX 20 backup.example.net.
@ 600 TXT "v=spf1 " "-all"
mx1 60 A 192.0.2.1
mx1 60 AAAA 2001:db8::1
mx2 60 A 192.0.2.2
none 60 TXT "nothing else"
null 60 MX 0 .
]], [[
$ORIGIN 2.0.192.in-addr.arpa.
1 60 PTR mx1.example.com.
]], [[
$ORIGIN 8.b.d.0.1.0.0.2.ip6.arpa.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 60 PTR mx1.example.com.
]], [[
$ORIGIN bl.example.
2.0.0.127 600 A 127.0.0.2
2.0.0.127 600 TXT "listed because"
2.0.0.127 600 TXT " of tests"
3.0.0.127 600 A 127.0.0.3
]] }
"""


async def run(
    policy: MakePolicy, code: str, before: str = "kumo.dns.configure_test_resolver(zones)"
) -> object:
    lua = policy(f"{ZONES}\n{before}\nkumo.on('mine', function()\n{code}\nend)")
    await lua.load()
    return await lua.ask("mine")


async def test_mail_hosts(policy: MakePolicy) -> None:
    result = await run(policy, "return kumo.dns.lookup_mx 'Example.COM'")
    assert result == {
        "domain_name": "example.com.",
        "hosts": ["mx1.example.com.", "mx2.example.com.", "backup.example.net."],
        "site_name": "(mx1|mx2|backup).example.(com|net)",
        "by_pref": {"10": ["mx1.example.com.", "mx2.example.com."], "20": ["backup.example.net."]},
        "is_domain_literal": False,
        "is_secure": False,
        "is_mx": True,
        "mta_sts": "None",
    }


async def test_preferences_are_numbers_in_lua(policy: MakePolicy) -> None:
    assert (
        await run(policy, "return kumo.dns.lookup_mx('example.com').by_pref[20][1]") == "backup.example.net."
    )


async def test_a_domain_without_mx_is_its_own_host(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local own, port = kumo.dns.lookup_mx 'none.example.com', kumo.dns.lookup_mx 'mx1.example.com:2525'
        local literal, null = kumo.dns.lookup_mx '[IPv6:2001:db8::1]', kumo.dns.lookup_mx 'null.example.com'
        return { own.hosts, own.is_mx, port.hosts, port.domain_name, literal.hosts, literal.is_domain_literal,
          null.hosts, null.site_name }
        """,
    )
    assert result == [
        ["none.example.com."],
        False,
        ["mx1.example.com.:2525"],
        "mx1.example.com.",
        ["2001:db8::1"],
        True,
        ["."],
        "",
    ]


async def test_a_domain_that_does_not_exist_is_an_error(policy: MakePolicy) -> None:
    with pytest.raises(PolicyError, match=r"policy\.lua:\d+: .*MX lookup for no\.such failed: NXDOMAIN"):
        await run(policy, "kumo.dns.lookup_mx 'no.such'")


async def test_addresses(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local a = kumo.dns.lookup_addr
        return {
          a 'mx1.example.com', a('mx1.example.com', nil, 'Ipv4Only'), a('mx1.example.com', nil, 'Ipv6ThenIpv4'),
          a('mx2.example.com', nil, 'Ipv6ThenIpv4'), a 'none.example.com', a '192.0.2.7', a '[IPv6:::1]',
        }
        """,
    )
    assert result == [
        ["192.0.2.1", "2001:db8::1"],
        ["192.0.2.1"],
        ["2001:db8::1"],
        ["192.0.2.2"],
        [],
        ["192.0.2.7"],
        ["::1"],
    ]
    with pytest.raises(PolicyError, match=r"'strategy' must be one of .*; did you mean 'Ipv4Only'"):
        await run(policy, "return kumo.dns.lookup_addr('mx1.example.com', nil, 'ipv4only')")


async def test_names_of_an_address(policy: MakePolicy) -> None:
    result = await run(
        policy,
        "local p = kumo.dns.lookup_ptr; return { p '192.0.2.1', p '2001:db8::1', p '192.0.2.9', p '198.51.100.1' }",
    )
    assert result == [["mx1.example.com."], ["mx1.example.com."], [], []]
    with pytest.raises(PolicyError, match=r"lookup_ptr: 'mx1' is not an IP address such as 192.0.2.1"):
        await run(policy, "kumo.dns.lookup_ptr 'mx1'")


async def test_texts(policy: MakePolicy) -> None:
    result = await run(policy, "return { kumo.dns.lookup_txt 'example.com', kumo.dns.lookup_txt 'no.such' }")
    assert result == [["v=spf1 -all"], []]


async def test_block_lists(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local found = {}
        for _, ip in ipairs { '127.0.0.2', '127.0.0.2:25', '127.0.0.3', '127.0.0.4', '[::1]:25' } do
          local ip, reason = kumo.dns.rbl_lookup(ip, 'bl.example')
          table.insert(found, tostring(ip) .. ' ' .. tostring(reason))
        end
        return found
        """,
    )
    listed = "127.0.0.2 listed because of tests"
    assert result == [listed, listed, "127.0.0.3 ", "nil nil", "nil nil"]


async def test_reversed_addresses(policy: MakePolicy) -> None:
    result = await run(
        policy,
        "return { kumo.dns.ptr_host '127.0.0.1', kumo.dns.reverse_ip '127.0.0.1', kumo.dns.reverse_ip '::1', "
        "kumo.dns.ptr_host '::1' }",
    )
    six = "1." + "0." * 30 + "0"
    assert result == ["1.0.0.127.in-addr.arpa", "1.0.0.127", six, f"{six}.ip6.arpa"]
    with pytest.raises(PolicyError, match="'fe80::1%eth0' is not an IP address"):
        await run(policy, "kumo.dns.reverse_ip 'fe80::1%eth0'")


async def test_named_resolvers(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        return {
          kumo.dns.lookup_mx('example.com', 'other').hosts, kumo.dns.lookup_addr('example.com', 'other'),
          kumo.dns.lookup_txt('example.com', 'other'), kumo.dns.lookup_ptr('192.0.2.1', 'other'),
          kumo.dns.rbl_lookup('127.0.0.2', 'bl.example', 'other') == nil,
          kumo.dns.lookup_txt 'example.com',
        }
        """,
        before="""
        kumo.dns.configure_test_resolver(zones)
        kumo.dns.define_resolver('other', { Test = { zones = { [[
$ORIGIN example.com.
@ 60 A 203.0.113.1
@ 60 TXT other
]] } } })
        """,
    )
    assert result == [["example.com."], ["203.0.113.1"], ["other"], [], True, ["v=spf1 -all"]]


async def test_a_resolver_that_is_not_defined(policy: MakePolicy) -> None:
    define = "kumo.dns.define_resolver('block-lists', { Test = { zones = {} } })"
    with pytest.raises(
        PolicyError, match="resolver block-list is not defined; did you mean 'block-lists'\\?"
    ):
        await run(policy, "kumo.dns.lookup_txt('a.example', 'block-list')", define)
    with pytest.raises(
        PolicyError, match=r"resolver x is not defined; define it with kumo.dns.define_resolver"
    ):
        await run(policy, "kumo.dns.lookup_ptr('192.0.2.1', 'x')", define)


@pytest.mark.parametrize(
    "configure",
    [
        "kumo.dns.configure_resolver { Test = { zones = zones } }",
        "kumo.dns.configure_resolver { Test = zones }",
        "kumo.dns.configure_resolver { Aggregate = { { Test = {'$ORIGIN a.example.\\n@ A 192.0.2.1\\n'} }, "
        "{ Test = zones } } }",
        # Keys and list items mixed, as KumoMTA's reference has it: the keys first.
        "kumo.dns.configure_resolver { Aggregate = { Test = { zones = zones }, 'HickorySystemConfig' } }",
        "kumo.dns.configure_test_resolver { zones = zones, servfail = { 'broken.example.com' } }",
    ],
)
async def test_answers_from_zones(policy: MakePolicy, configure: str) -> None:
    assert await run(policy, "return kumo.dns.lookup_txt 'example.com'", configure) == ["v=spf1 -all"]


async def test_a_name_may_be_made_to_fail(policy: MakePolicy) -> None:
    with pytest.raises(PolicyError, match=r"TXT lookup for example.com failed: SERVFAIL"):
        await run(
            policy,
            "kumo.dns.lookup_txt 'example.com'",
            "kumo.dns.configure_resolver { Test = { zones = zones, servfail = { 'example.com' } } }",
        )


@pytest.mark.parametrize(
    ("configure", "message"),
    [
        ("configure_resolver(5)", "argument 'params' must be a table or 'HickorySystemConfig', got number 5"),
        ("configure_resolver 'Hickory'", "expected 'HickorySystemConfig' or a table"),
        ("configure_resolver { name_server = {} }", "unknown option 'name_server'.*name_servers"),
        ("configure_resolver { Aggregate = { Test = { '@' } } }", "Aggregate\\[1\\]: Test: zone 1"),
        (
            "configure_resolver { Unbound = { options = { ndots = 2 } } }",
            "Unbound: options.ndots: Unbound has no such option, only validate, trust_anchor_file, use_hosts_file",
        ),
        ("configure_unbound_resolver { options = { timeout = 2 } }", "options.timeout: Unbound has no such"),
        ("define_resolver('x', { Hickory = { searches = {} } })", " 'x': Hickory: unknown option"),
        ("configure_test_mta_sts { 'text' }", "expected a table of policy texts by domain"),
        ("configure_test_mta_sts { ['a.example'] = 'version: STSv2' }", "a.example: its version is 'STSv2'"),
        ("set_mx_concurrency_limit(0)", "the limit must be at least 1"),
        ("set_mx_timeout 'soon'", "argument 'duration' must be a duration"),
    ],
)
async def test_wrong_configurations(policy: MakePolicy, configure: str, message: str) -> None:
    with pytest.raises(PolicyError, match=rf"policy\.lua:\d+: kumo\.dns\.\w+.*{message}"):
        await run(policy, "", f"kumo.dns.{configure}")


async def test_what_has_no_effect_is_said_once(policy: MakePolicy) -> None:
    with capture_logs() as logs:
        await run(
            policy,
            "",
            """
            kumo.dns.configure_resolver {
              name_servers = { '192.0.2.53:53', '127.0.0.1:53' }, search = { 'a.example' },
              options = { ndots = 2, validate = true, timeout = '2s' },
            }
            kumo.dns.define_resolver('x', { Hickory = { options = { ndots = 3 } } })
            kumo.dns.define_resolver('y', { Unbound = {} })
            """,
        )
    assert [line["event"].partition(":")[0] for line in logs] == [
        "the resolver option 'search' has no effect",
        "the resolver option 'ndots' has no effect",
        "the name server 192.0.2.53",
        "the Unbound resolver has no name_servers",
    ]


async def test_the_same_again_keeps_the_cache(policy: MakePolicy, host: RecordingHost) -> None:
    await run(policy, "kumo.dns.lookup_mx 'example.com'")
    kept = host.resolver
    await run(policy, "kumo.dns.lookup_mx 'example.com'")
    assert kept.mx_cache_hits == 1
    await run(policy, "", "kumo.dns.configure_resolver 'HickorySystemConfig'")
    await run(policy, "kumo.dns.lookup_mx 'example.com'")
    assert (host.resolver is kept, kept.mx_cache_hits) == (True, 1)


async def test_the_limits_of_mx_lookups(policy: MakePolicy, host: RecordingHost) -> None:
    await run(
        policy,
        "",
        """
        kumo.dns.define_resolver('before', 'HickorySystemConfig')
        kumo.dns.set_mx_concurrency_limit(7)
        kumo.dns.set_mx_timeout '2s'
        kumo.dns.set_mx_negative_cache_ttl(60)
        kumo.dns.define_resolver('after', 'HickorySystemConfig')
        kumo.dns.configure_unbound_resolver { options = { validate = true } }
        """,
    )
    for name in (None, "before", "after"):
        found = host.resolvers.get(name)
        assert (found.concurrency.total_tokens, found.mx_timeout, found.mx_negative_ttl) == (7, 2.0, 60.0)


async def test_resolv_conf(policy: MakePolicy, tmp_path: Path, host: RecordingHost) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.example b.example\n"
        "options ndots:3 timeout:7 attempts:4 edns0\n"
    )
    result = await run(
        policy,
        f"""
        local config = kumo.dns.load_resolv_conf '{path}'
        config.options.cache_size = 5
        kumo.dns.configure_resolver(config)
        return config
        """,
    )
    assert result == {
        "search": ["a.example", "b.example"],
        "name_servers": ["192.0.2.1:53", "[2001:db8::1]:53"],
        "options": {"ndots": 3, "timeout": "7s", "attempts": 4, "edns0": True, "cache_size": 5},
    }
    assert host.resolver._options.cache_size == 5
    with pytest.raises(PolicyError, match="load_resolv_conf: /no/such: No such file"):
        await run(policy, "kumo.dns.load_resolv_conf '/no/such'")


MTA_STS = """
kumo.dns.configure_test_resolver(zones)
kumo.dns.configure_test_mta_sts {
  ['example.com'] = 'version: STSv1\\nmode: MODE\\nmx: *.example.com\\nmax_age: 86400\\n',
}
"""


async def test_an_enforced_policy_leaves_hosts_out(policy: MakePolicy) -> None:
    look = "local mx = kumo.dns.lookup_mx 'example.com'; return { mx.hosts, mx.site_name, mx.mta_sts, mx.by_pref }"
    hosts = ["mx1.example.com.", "mx2.example.com."]
    result = await run(policy, look, MTA_STS.replace("MODE", "enforce"))
    assert result == [hosts, "(mx1|mx2).example.com", "Enforce", {"10": hosts}]
    everything = [*hosts, "backup.example.net."]
    result = await run(policy, look, MTA_STS.replace("MODE", "testing"))
    assert (result[0], result[2]) == (everything, "Testing")  # type: ignore[index]
    disabled = MTA_STS.replace("MODE", "enforce") + "kumo.dns.set_mta_sts_enabled(false)"
    result = await run(policy, look, disabled)
    assert (result[0], result[2]) == (everything, "None")  # type: ignore[index]


async def test_an_enforced_policy_that_permits_nothing(policy: MakePolicy) -> None:
    impossible = MTA_STS.replace("MODE", "enforce").replace("*.example.com", "mx.other.example")
    with pytest.raises(
        PolicyError,
        match=r"the MTA-STS enforce policy of example.com permits none of its MX hosts mx1.example.com, .* "
        "it permits mx.other.example",
    ):
        await run(policy, "kumo.dns.lookup_mx 'example.com'", impossible)


async def test_a_reload_can_tell_what_init_asked_for(policy: MakePolicy) -> None:
    lua = policy("""
        kumo.dns.set_mta_sts_enabled(true)
        kumo.on('init', function()
          kumo.dns.configure_test_resolver {}
          kumo.dns.define_resolver('x', 'HickorySystemConfig')
          kumo.dns.set_mx_timeout(3)
        end)
    """)
    await lua.load()
    await lua.ask("init")
    assert [(call.name, call.arguments[-1]) for call in lua.configured] == [
        ("kumo.dns.configure_test_resolver", {"Test": {}}),
        ("kumo.dns.define_resolver('x')", "HickorySystemConfig"),
        ("kumo.dns.set_mx_timeout", 3),
    ]
