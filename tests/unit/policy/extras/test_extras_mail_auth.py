"""policy-extras.mail_auth: all checks of a received message in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kumo_py.core.policy import PolicyError
from kumo_py.dns import Resolvers, ZoneBackend
from kumo_py.message.message import Message

if TYPE_CHECKING:
    from policy_host import MakePolicy, RecordingHost

ZONES = (
    "$ORIGIN 2.0.192.in-addr.arpa.\n1 PTR mail.a.test.\n2 PTR bare.a.test.\n3 PTR other.a.test.\n",
    '$ORIGIN a.test.\nmail A 192.0.2.1\nother A 192.0.2.9\nbare TXT x\n@ TXT "v=spf1 ip4:192.0.2.1 -all"\n'
    '_dmarc TXT "v=DMARC1; p=none"\n',
)
TOP = "local mail_auth = require 'policy-extras.mail_auth'"


@pytest.fixture(autouse=True)
def zones(host: RecordingHost) -> None:
    host.resolvers = Resolvers(backend=ZoneBackend(ZONES))


def message(**meta: object) -> Message:
    content = b"From: <me@a.test>\r\nSubject: hello\r\n\r\nbody\r\n"
    return Message(bytes(16), "me@a.test", ("you@b.test",), {"ehlo_domain": "mail.a.test", **meta}, content)


async def ask(policy: MakePolicy, code: str, msg: Message, *, top: str = TOP) -> Any:
    lua = policy(f"{top}\nkumo.on('mine', function(msg)\n{code}\nend)")
    await lua.load()
    return await lua.ask("mine", msg)


async def test_every_check_and_a_header(policy: MakePolicy) -> None:
    msg = message(received_from="192.0.2.1:25", hostname="mx.b.test", authn_id="me")
    found = await ask(policy, "return mail_auth.check(msg)", msg)
    results = {name: found[name]["result"] for name in ("spf", "iprev", "smtp_auth", "dmarc", "arc")}
    assert results == {"spf": "pass", "iprev": "pass", "smtp_auth": "pass", "dmarc": "pass", "arc": "none"}
    assert found["dkim"] == [{"method": "dkim", "result": "none", "reason": "message was not signed"}]
    assert found["smtp_auth"]["props"] == {"smtp.mailfrom": "me@a.test", "smtp.auth": "me"}
    methods = [one["method"] for one in found["auth_results"]]
    assert methods == ["dkim", "spf", "iprev", "auth", "dmarc", "arc"]
    assert msg.data.startswith(b"Authentication-Results: mx.b.test;")


async def test_checks_can_be_left_out(policy: MakePolicy) -> None:
    msg = message(received_from="192.0.2.1:25")
    before = msg.data
    code = """
      return mail_auth.check(msg, { dkim = false, iprev = false, smtp_auth = false, arc = false, server_id = 'x',
        add_auth_results_header = false })
    """
    found = await ask(policy, code, msg)
    assert set(found) == {"spf", "auth_results"}  # no DMARC without DKIM
    assert [one["method"] for one in found["auth_results"]] == ["spf"]
    assert msg.data == before


async def test_the_servers_name_is_an_option(policy: MakePolicy) -> None:
    msg = message(received_from="192.0.2.1:25", hostname="mx.b.test")
    off = "dkim = false, spf = false, iprev = false, arc = false, dmarc = false"
    await ask(policy, f"mail_auth.check(msg, {{ server_id = 'auth.test', {off} }})", msg)
    assert msg.data.startswith(b"Authentication-Results: auth.test;\r\n\tauth=none\r\n")


@pytest.mark.parametrize(
    ("ip", "result", "reason"),
    [
        ("192.0.2.1", "pass", "ip 192.0.2.1 <-> mail.a.test."),
        ("192.0.2.2", "fail", "name bare.a.test. has no A/AAAA"),
        ("192.0.2.3", "fail", "no name of ip 192.0.2.3 leads back to it"),
        ("192.0.2.4", "permerror", "ip 192.0.2.4 has no PTR"),
    ],
)
async def test_reverse_dns(policy: MakePolicy, ip: str, result: str, reason: str) -> None:
    found = await ask(policy, f"return mail_auth.iprev('{ip}')", message())
    assert found == {
        "method": "iprev", "result": result, "reason": reason, "props": {"smtp.remote-ip": ip}
    }  # fmt: skip
    msg = message(received_from=f"{ip}:4711")
    assert await ask(policy, "return mail_auth.iprev_msg(msg)", msg) == found


async def test_without_a_client_there_is_nothing_to_look_up(policy: MakePolicy) -> None:
    found = await ask(policy, "return mail_auth.iprev_msg(msg)", message())
    assert (found["result"], found["reason"]) == ("permerror", "the message has no received_from")


async def test_another_resolver(policy: MakePolicy) -> None:
    top = f"""{TOP}
      kumo.dns.define_resolver('mine', {{ Test = {{ zones = {{
        '$ORIGIN 2.0.192.in-addr.arpa.\\n9 PTR nine.c.test.\\n', '$ORIGIN c.test.\\nnine A 192.0.2.9\\n',
      }} }} }})
    """
    code = "return mail_auth.check(msg, { resolver = 'mine' }).iprev.reason"
    reason = await ask(policy, code, message(received_from="192.0.2.9:1"), top=top)
    assert reason == "ip 192.0.2.9 <-> nine.c.test."


async def test_wrong_options(policy: MakePolicy) -> None:
    with pytest.raises(PolicyError, match=r"unknown option 'spff' \(did you mean 'spf'\?\)"):
        await ask(policy, "mail_auth.check(msg, { spff = false })", message())
