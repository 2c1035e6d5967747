"""`kumo.spf`: who is asked about, and what the policy gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError
from kumo_py.dns import parse_resolver
from kumo_py.message.connection import ConnectionMeta

if TYPE_CHECKING:
    from policy_host import MakePolicy, RecordingHost

    from kumo_py.dns import Answer
    from kumo_py.message.message import Message

ZONES = """
kumo.dns.configure_test_resolver { zones = { [[
$ORIGIN example.com.
@ 60 TXT "v=spf1 ip4:192.0.2.0/24 a mx ptr exists:%{i}.bl.example.com -all exp=why.example.com"
@ 60 A 198.51.100.1
@ 60 AAAA 2001:db8::1
@ 60 MX 10 mx
mx 60 A 198.51.100.2
why 60 TXT "%{i} of %{h} may not send for %{o}, says %{d} to %{r}"
helo 60 TXT "v=spf1 ip4:192.0.2.1 ~all"
]] }, servfail = { 'broken.example.com' } }
kumo.dns.define_resolver('other', { Test = { '$ORIGIN example.com.\\n@ 60 TXT "v=spf1 ?all"\\n' } })
"""


async def check_msg(policy: MakePolicy, msg: Message, resolver: str = "nil", **meta: object) -> object:
    msg.meta.update(meta)
    lua = policy(f"{ZONES}\nkumo.on('mine', function(msg)\nreturn kumo.spf.check_msg(msg, {resolver})\nend)")
    await lua.load()
    return await lua.ask("mine", msg)


async def test_a_message(policy: MakePolicy, msg: Message) -> None:
    found = await check_msg(policy, msg, received_from="192.0.2.7:4242", ehlo_domain="mx.example.net")
    assert found == {
        "disposition": "pass",
        "result": {
            "method": "spf",
            "result": "pass",
            "reason": "matched 'ip4:192.0.2.0/24' directive",
            "props": {"smtp.mailfrom": "sender@example.com", "smtp.helo": "mx.example.net"},
        },
    }


@pytest.mark.parametrize(
    ("client", "directive"),
    [("198.51.100.1:25", "a"), ("[2001:db8::1]:25", "a"), ("198.51.100.2:25", "mx")],
)
async def test_every_kind_of_lookup(policy: MakePolicy, msg: Message, client: str, directive: str) -> None:
    found = await check_msg(policy, msg, received_from=client)
    assert found["result"]["reason"] == f"matched '{directive}' directive"  # type: ignore[index]


async def test_a_failure_is_explained(policy: MakePolicy, msg: Message) -> None:
    found = await check_msg(
        policy, msg, received_from="203.0.113.9:1", ehlo_domain="mx.evil.example", hostname="mx.here.example"
    )
    assert found["disposition"] == "fail"  # type: ignore[index]
    assert found["result"]["reason"] == (  # type: ignore[index]
        "203.0.113.9 of mx.evil.example may not send for example.com, says example.com to mx.here.example"
    )


async def test_the_null_sender_is_judged_by_helo(policy: MakePolicy, msg: Message) -> None:
    msg.sender = ""
    found = await check_msg(policy, msg, received_from="203.0.113.9:1", ehlo_domain="helo.example.com")
    assert found["disposition"] == "softfail"  # type: ignore[index]
    assert found["result"]["props"] == {"smtp.helo": "helo.example.com"}  # type: ignore[index]


async def test_another_resolver(policy: MakePolicy, msg: Message) -> None:
    found = await check_msg(policy, msg, "'other'", received_from="192.0.2.7:1")
    assert found["disposition"] == "neutral"  # type: ignore[index]
    with pytest.raises(PolicyError, match="resolver none is not defined"):
        await check_msg(policy, msg, "'none'", received_from="192.0.2.7:1")


async def test_a_lookup_that_fails(policy: MakePolicy, msg: Message) -> None:
    msg.sender = "user@broken.example.com"
    found = await check_msg(policy, msg, received_from="192.0.2.7:1")
    assert found["disposition"] == "temperror"  # type: ignore[index]
    assert "SERVFAIL" in found["result"]["reason"]  # type: ignore[index]


async def test_a_message_that_came_from_nowhere(policy: MakePolicy, msg: Message) -> None:
    with pytest.raises(PolicyError, match=r"policy\.lua:\d+.*the metadata has no 'received_from'"):
        await check_msg(policy, msg)
    with pytest.raises(PolicyError, match="'received_from' is 'here', not IP:PORT"):
        await check_msg(policy, msg, received_from="here")


@pytest.mark.parametrize(
    ("arguments", "disposition", "props"),
    [
        ("'helo.example.com', conn", "pass", {"smtp.helo": "helo.example.com"}),
        (
            "'example.com', conn, 'user@example.com'",
            "pass",
            {"smtp.mailfrom": "user@example.com", "smtp.helo": "mx.example.net"},
        ),
        ("'example.com', conn, nil, 'other'", "neutral", {"smtp.helo": "example.com"}),
        ("'missing.example.net', conn", "none", {"smtp.helo": "missing.example.net"}),
    ],
)
async def test_a_host(policy: MakePolicy, arguments: str, disposition: str, props: dict[str, str]) -> None:
    lua = policy(f"{ZONES}\nkumo.on('mine', function(conn) return kumo.spf.check_host({arguments}) end)")
    await lua.load()
    conn = ConnectionMeta({"received_from": "192.0.2.1:5", "ehlo_domain": "mx.example.net"})
    found = await lua.ask("mine", conn)
    assert (found["disposition"], found["result"]["props"]) == (disposition, props)


async def test_wrong_arguments(policy: MakePolicy) -> None:
    lua = policy("kumo.on('mine', function() kumo.spf.check_host('example.com') end)")
    await lua.load()
    with pytest.raises(
        PolicyError, match=r"policy\.lua:2.*check_host: argument 'conn_meta' must be a connection, got nil"
    ):
        await lua.ask("mine")


async def test_an_evaluation_has_twenty_seconds(
    policy: MakePolicy, host: RecordingHost, msg: Message, autojump_clock: object
) -> None:
    import trio

    class Silent:
        async def query(self, name: str, rdtype: str) -> Answer:
            await trio.sleep_forever()
            raise AssertionError

    lua = policy("kumo.on('mine', function(msg) return kumo.spf.check_msg(msg) end)")
    await lua.load()
    host.resolver.reconfigure(parse_resolver({}, "test").config, Silent())
    msg.meta["received_from"] = "192.0.2.1:1"
    began = trio.current_time()
    found = await lua.ask("mine", msg)
    assert (found["disposition"], trio.current_time() - began) == ("temperror", 20.0)
    assert found["result"]["reason"] == "the evaluation took longer than 20 seconds"
