"""kumo.dkim, and signing, verifying and sealing messages."""

from __future__ import annotations

import base64
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dkim
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from kumo_py.core.policy import PolicyError
from kumo_py.dns import DnsError, Resolvers, ZoneBackend
from kumo_py.message.message import Message
from kumo_py.policy import signing
from kumo_py.policy.modules import dkim as dkim_module
from kumo_py.policy.modules import message_auth
from kumo_py.policy.signing import SigningThreads

if TYPE_CHECKING:
    from policy_host import MakePolicy, RecordingHost


@cache
def rsa_key(bits: int) -> RSAPrivateKey:
    return generate_private_key(65537, bits)


def pem(key: RSAPrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def record(bits: int) -> str:
    """For a zone file: strings of 200 octets."""
    der = rsa_key(bits).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = f"v=DKIM1; p={base64.b64encode(der).decode()}"
    return " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200))


ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ED25519_RECORD = f"v=DKIM1; k=ed25519; p={base64.b64encode(ED25519.public_key().public_bytes_raw()).decode()}"


@pytest.fixture(autouse=True)
def files(policy: MakePolicy, host: RecordingHost) -> None:
    """Keys in the policy's directory, and what the DNS says of them."""
    Path("1024.pem").write_bytes(pem(rsa_key(1024)))
    Path("2048.pem").write_bytes(pem(rsa_key(2048)))
    Path("ed25519.pem").write_bytes(pem(ED25519))
    zone = (
        "$ORIGIN _domainkey.example.com.\n"
        f'r1024 TXT {record(1024)}\nr2048 TXT {record(2048)}\ned TXT "{ED25519_RECORD}"\n'
    )
    host.resolvers = Resolvers(backend=ZoneBackend([zone]))


async def run(policy: MakePolicy, code: str, *args: object, before: str = "") -> Any:
    """The result of Lua code that has a message `msg`."""
    lua = policy(f"{before}\nkumo.on('mine', function(msg)\n{code}\nend)")
    await lua.load()
    return await lua.ask("mine", *args)


def rsa(selector: str = "r1024", more: str = "") -> str:
    return f"""kumo.dkim.rsa_sha256_signer {{
      domain = 'example.com', selector = '{selector}', headers = {{ 'From', 'Subject' }},
      key = '{selector[1:]}.pem', {more}
    }}"""


async def test_signatures_are_timed(policy: MakePolicy, msg: Message) -> None:
    lua = policy(f"kumo.on('mine', function(msg) msg:dkim_sign({rsa('r1024')}) end)")
    await lua.load()
    await lua.ask("mine", msg)
    await lua.ask("mine", msg)
    times = lua.env.state(dkim_module.SignerCaches)
    assert (sum(times.sign_time.counts), sum(times.parse_time.counts)) == (2, 2)
    assert 0 < times.parse_time.sum < times.sign_time.sum


async def test_signing_and_verifying(policy: MakePolicy, host: RecordingHost, msg: Message) -> None:
    result = await run(
        policy,
        f"""
        local ed = kumo.dkim.ed25519_signer {{
          domain = 'example.com', selector = 'ed', headers = {{ 'From' }}, key = 'ed25519.pem',
        }}
        msg:dkim_sign({rsa("r1024")})
        msg:dkim_sign({rsa("r2048", "expiration = 60, over_sign = true")})
        msg:dkim_sign(ed)
        local results = msg:dkim_verify()
        table.insert(results, {{ method = 'spf', result = 'none' }})
        return results
        """,
        msg,
    )
    assert [one["result"] for one in result] == ["pass", "pass", "pass", "none"]
    assert [one["props"]["header.s"] for one in result[:3]] == ["ed", "r2048", "r1024"]
    props = result[1]["props"]
    assert props.pop("header.b")
    assert props == {
        "header.a": "rsa-sha256",
        "header.c": "relaxed/relaxed",
        "header.d": "example.com",
        "header.i": "@example.com",
        "header.s": "r2048",
        "header.t": str(int(host.wall())),
        "header.x": str(int(host.wall()) + 60),
    }
    assert set(result[1]) == {"method", "result", "props"}
    assert msg.data.count(b"DKIM-Signature: ") == 3
    assert not msg.data_saved


@pytest.mark.parametrize("header", ["Relaxed", "Simple"])
@pytest.mark.parametrize("body", ["Relaxed", "Simple"])
async def test_canonicalization(policy: MakePolicy, msg: Message, header: str, body: str) -> None:
    more = f"header_canonicalization = '{header}', body_canonicalization = '{body}', ttl = '5 mins'"
    msg.set_data(b"From:  a@example.com\r\nSubject:\tx\r\n\r\n.dot\r\n8 bit \xe9  \r\n\r\n")
    assert await run(policy, f"msg:dkim_sign({rsa(more=more)}) return #msg:dkim_verify()", msg) == 1
    assert f"c={header}/{body};".lower().encode() in msg.data
    text = record(1024).replace('"', "").encode()
    # The day of these tests has not come yet.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dkim.time, "time", lambda: 2e9)
        assert dkim.verify(msg.data, dnsfunc=lambda name, timeout=5: text)


async def test_results_of_verification(policy: MakePolicy, msg: Message) -> None:
    code = f"""
      local none = #msg:dkim_verify()
      msg:dkim_sign({rsa()})
      kumo.dns.define_resolver('empty', {{ Test = {{ zones = {{}} }} }})
      local pass = msg:dkim_verify()[1]
      local lost = msg:dkim_verify('empty')[1]
      msg:append_header('Subject', 'another')
      local broken = msg:dkim_verify()[1]
      return {{ none, pass.result, lost.result, lost.reason, broken.result, broken.reason, broken.method }}
    """
    assert await run(policy, code, msg) == [
        0,
        "pass",
        "permerror",
        "there is no key in the DNS",
        "permerror",
        "the signature does not match the header",
        "dkim",
    ]


async def test_dns_failure_is_temporary(policy: MakePolicy, host: RecordingHost, msg: Message) -> None:
    assert await run(policy, f"msg:dkim_sign({rsa()}) msg:dkim_sign({rsa('r2048')}) return 1", msg) == 1

    class Failing:
        async def query(self, name: str, rdtype: str) -> Any:
            raise DnsError(name, rdtype, "SERVFAIL")

    host.resolvers = Resolvers(backend=Failing())  # type: ignore[arg-type]
    results = await run(policy, "return msg:dkim_verify()", msg)
    assert [one["result"] for one in results] == ["temperror", "temperror"]
    assert results[0]["reason"] == (
        "the key cannot be looked up: TXT lookup for r2048._domainkey.example.com failed: SERVFAIL"
    )
    arc = await run(policy, "return msg:arc_verify()", msg)
    assert arc["result"] == "none"


async def test_content_comes_from_the_spool(policy: MakePolicy, host: RecordingHost) -> None:
    msg = Message.from_spool(bytes(16))
    code = """
      msg:add_authentication_results('mx', {})
      return kumo.dkim ~= nil and msg:get_first_named_header_value 'Authentication-Results'
    """
    assert await run(policy, code, msg) == "mx; none"
    for call in (f"dkim_sign({rsa()})", "dkim_verify()", "arc_verify()", f"arc_seal({rsa()}, 'mx', {{}})"):
        assert await run(policy, f"msg:{call} return true", Message.from_spool(bytes(16))) is True
    assert len(host.named("load_message")) == 5


# -- signers and keys ------------------------------------------------------------------------------------------
async def test_keys_from_the_policy_and_its_events(policy: MakePolicy, msg: Message) -> None:
    before = """
      kumo.on('fetch-key', function(domain, selector)
        local f = io.open(selector .. '.pem')
        local text = f:read 'a'
        f:close()
        kumo.log_info('fetched', domain, selector)
        return text
      end)
    """
    code = """
      local key_data = io.open('1024.pem'):read 'a'
      local spec = { domain = 'example.com', selector = 'r1024', headers = { 'From' } }
      spec.key = { key_data = key_data }
      msg:dkim_sign(kumo.dkim.rsa_sha256_signer(spec))
      spec.key = { event_name = 'fetch-key', event_args = { 'example.com', '1024' } }
      msg:dkim_sign(kumo.dkim.rsa_sha256_signer(spec))
      spec.key = { event_name = 'fetch-key', event_args = { 'example.com', 'ed25519' } }
      spec.selector = 'ed'
      msg:dkim_sign(kumo.dkim.rsa_sha256_signer(spec))
      local results = msg:dkim_verify()
      return { results[1].props['header.a'], results[1].result, results[2].result, results[3].result }
    """
    assert await run(policy, code, msg, before=before) == ["ed25519-sha256", "pass", "pass", "pass"]


async def test_signers_and_keys_are_kept(
    policy: MakePolicy, host: RecordingHost, msg: Message, autojump_clock: trio.testing.MockClock
) -> None:
    lua = policy("""
      kumo.on('fetch-key', function()
        kumo.log_info 'fetched'
        kumo.sleep(1)
        return io.open('1024.pem'):read 'a'
      end)
      kumo.on('mine', function(selector)
        local signer = kumo.dkim.rsa_sha256_signer {
          domain = 'example.com', selector = selector, headers = { 'From' },
          key = { event_name = 'fetch-key', event_args = { 'x' } }, ttl = 60,
        }
        return type(signer)
      end)
    """)
    await lua.load()
    caches = lua.env.state(dkim_module.SignerCaches)
    async with trio.open_nursery() as nursery:  # one of them loads the key
        for name in ("a", "b", "c"):
            nursery.start_soon(lua.ask, "mine", name)
    assert await lua.ask("mine", "a") == "userdata"
    assert len(host.named("info")) == 1
    assert (len(caches.signers), caches.signers.hits, len(caches.keys)) == (3, 1, 1)
    assert (caches.signers.capacity, caches.keys.capacity) == (1024, 1024)
    assert (sum(caches.creation_time.counts), caches.creation_time.sum) == (3, pytest.approx(3.0))
    assert (sum(caches.key_fetch_time.counts), caches.key_fetch_time.sum) == (1, pytest.approx(1.0))
    await trio.sleep(61)
    await lua.ask("mine", "a")
    assert len(host.named("info")) == 2


SIGNER = "kumo.dkim.rsa_sha256_signer"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (rsa(more="atps = 'x'"), "atps is not supported, neither here nor in KumoMTA"),
        (rsa(more="atpsh = 'Sha256'"), "atpsh is not supported"),
        (rsa(more="agent_user_identifier = '@example.com'"), "agent_user_identifier is not supported"),
        (rsa(more="body_length = true"), "body_length is not supported"),
        (rsa(more="reporting = true"), "reporting is not supported"),
        (rsa(more="over_signed = true"), "unknown option 'over_signed' (did you mean 'over_sign'?)"),
        (rsa(more="expiration = -1"), "option 'expiration' must be"),
        (rsa(more="header_canonicalization = 'relaxed'"), "must be one of 'Relaxed', 'Simple'"),
        (rsa("r4096"), f"{SIGNER}: 4096.pem: No such file or directory"),
        (rsa().replace("'From', ", ""), "headers must have From"),
        (rsa().replace("domain = 'example.com'", "domain = 'a b'"), "the domain 'a b' cannot be"),
        (rsa().replace("domain = 'example.com',", ""), "option 'domain' is required"),
        (rsa().replace("'1024.pem'", "'policy.lua'"), "the key of 'policy.lua': this is not a private key"),
        (
            rsa().replace("'1024.pem'", "{ key_data = 'secret' }"),
            "the key of key_data: this is not a private key",
        ),
        (rsa().replace("'1024.pem'", "{ event_name = 'e' }"), "which has no handler"),
        (f"{SIGNER} 'x'", "argument 'params' must be a table of options, got string 'x'"),
        ("kumo.dkim.ed25519_signer {}", "kumo.dkim.ed25519_signer: option 'domain' is required"),
        ("kumo.dkim.rsa_signer {}", "did you mean kumo.dkim.rsa_sha256_signer?"),
        ("msg:dkim_sign()", "message:dkim_sign: argument 'signer' must be a signer, got nil"),
        ("msg:dkim_sign {}", "must be a signer, got a table"),
        ("msg:dkim_verify 'nowhere'", "nowhere"),
        ("msg:arc_verify 'nowhere'", "nowhere"),
        ("msg:add_authentication_results('mx')", "argument 'results' must be a list, got nil"),
        (
            "msg:add_authentication_results('mx', { { method = 'dkim' } })",
            "option 'result' is required",
        ),
        (
            "msg:add_authentication_results('mx', { { method = 'd\\r\\nX: y', result = 'pass' } })",
            "is not a keyword",
        ),
        ("msg:arc_seal(nil, 'mx', {})", "argument 'signer' must be a signer, got nil"),
        ("kumo.dkim.set_signing_threads(0)", "at least 1 thread is needed, got 0"),
        ("kumo.dkim.set_signing_threads 'many'", "argument 'threads' must be an integer"),
    ],
)
async def test_errors_say_what_is_wrong(policy: MakePolicy, msg: Message, code: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, f"local _ = {code}", msg)
    assert problem in str(caught.value)
    assert "policy.lua:" in str(caught.value)


async def test_a_header_with_bare_lf_is_not_signed(policy: MakePolicy, msg: Message) -> None:
    msg.set_data(b"From: a@example.com\nSubject: x\n\nbody\n")
    with pytest.raises(PolicyError, match="message:dkim_sign: a header line ends with LF alone"):
        await run(policy, f"msg:dkim_sign({rsa()})", msg)


# -- Authentication-Results and ARC ----------------------------------------------------------------------------
async def test_authentication_results(policy: MakePolicy, msg: Message) -> None:
    await run(
        policy,
        """
        msg:add_authentication_results('mx.example.org', {
          { method = 'dkim', result = 'pass', props = { ['header.d'] = 'example.com' } },
          { method = 'spf', result = 'fail', reason = 'not "ours"', method_version = 1 },
        })
        """,
        msg,
    )
    assert msg.data.startswith(
        b"Authentication-Results: mx.example.org;\r\n\tdkim=pass\r\n\theader.d=example.com;\r\n"
        b'\tspf/1=fail reason="not \\"ours\\""\r\nFrom: '
    )


async def test_chains(policy: MakePolicy, msg: Message) -> None:
    result = await run(
        policy,
        f"""
        local found = {{ msg:arc_verify() }}
        for _, signer in ipairs {{ {rsa("r1024")}, {rsa("r2048")} }} do
          msg:arc_seal(signer, 'mx.example.org', {{ msg:arc_verify() }})
          table.insert(found, msg:arc_verify())
        end
        msg:append_header('Subject', 'another')
        table.insert(found, msg:arc_verify())
        local size = #msg:get_data()
        msg:arc_seal({rsa()}, 'mx.example.org', {{}})
        table.insert(found, size == #msg:get_data())
        return found
        """,
        msg,
    )
    assert result == [
        {"method": "arc", "result": "none", "props": {}},
        {"method": "arc", "result": "pass", "props": {"header.oldest-pass": "0"}},
        {"method": "arc", "result": "pass", "props": {"header.oldest-pass": "0"}},
        {
            "method": "arc",
            "result": "fail",
            "reason": "the ARC-Message-Signature of instance 2: the signature does not match the header",
            "props": {"header.oldest-pass": "0"},
        },
        True,
    ]
    assert msg.data.startswith(b"ARC-Seal: i=2; a=rsa-sha256; t=1800000000; cv=pass;")
    assert (
        b"ARC-Authentication-Results: i=2; mx.example.org;\r\n\tarc=pass\r\n\theader.oldest-pass=0\r\n"
        in msg.data
    )


async def test_another_resolver_for_a_chain(policy: MakePolicy, msg: Message) -> None:
    result = await run(
        policy,
        f"""
        kumo.dns.define_resolver('empty', {{ Test = {{ zones = {{}} }} }})
        msg:arc_seal({rsa()}, 'mx', {{}}, 'empty')
        msg:arc_seal({rsa()}, 'mx', {{}}, 'empty')
        return {{ msg:arc_verify().result, msg:arc_verify('empty').reason }}
        """,
        msg,
    )
    assert result == ["pass", "the ARC-Message-Signature of instance 1: there is no key in the DNS"]
    assert msg.data.count(b"ARC-Seal:") == 1


# -- threads -----------------------------------------------------------------------------------------------------
@pytest.fixture
def short_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "IDLE", 0.05)


async def test_large_messages_are_hashed_by_a_thread(
    policy: MakePolicy, msg: Message, monkeypatch: pytest.MonkeyPatch, short_idle: None
) -> None:
    monkeypatch.setattr(message_auth, "INLINE", 1000)
    msg.set_data(msg.data + b"some  text \r\n" * 100)
    names: list[str] = []
    original = SigningThreads.run

    async def noting(self: SigningThreads, work: Any) -> Any:
        names.append(work.func.__name__)
        return await original(self, work)

    monkeypatch.setattr(SigningThreads, "run", noting)
    code = f"msg:dkim_sign({rsa()}) msg:arc_seal({rsa()}, 'mx', {{}}) return msg:dkim_verify()[1].result"
    assert await run(policy, code, msg) == "pass"
    assert names == ["sign", "ArcCheck", "arc_set", "DkimCheck", "results"]


async def test_threads(short_idle: None) -> None:
    threads = SigningThreads()
    threads.choose(2)
    inside = threading.Barrier(2, timeout=5)
    seen: set[threading.Thread] = set()

    def work() -> None:
        inside.wait()  # two at the same time
        seen.add(threading.current_thread())

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(threads.run, work)
    assert len(seen) == 2
    assert threading.current_thread() not in seen
    for thread in seen:  # they end when there is nothing to do
        thread.join(5)
        assert not thread.is_alive()
    assert await threads.run(lambda: "again") == "again"


async def test_what_is_raised_in_a_thread(short_idle: None) -> None:
    with pytest.raises(ZeroDivisionError):
        await SigningThreads().run(lambda: 1 // 0)


async def test_nobody_waits_any_more(short_idle: None) -> None:
    threads = SigningThreads()
    release = threading.Event()
    with trio.move_on_after(0.01) as scope:
        await threads.run(lambda: release.wait(5))
    assert scope.cancelled_caught
    release.set()
    assert await threads.run(lambda: 7) == 7


async def test_the_number_of_threads_is_chosen_once(policy: MakePolicy) -> None:
    lua = policy("kumo.on('mine', function(n) kumo.dkim.set_signing_threads(n) return n end)")
    await lua.load()
    assert await lua.ask("mine", 3) == 3
    assert await lua.ask("mine", 3) == 3  # the same policy, read again
    assert lua.env.state(SigningThreads).limit == 3
    with pytest.raises(PolicyError, match="the number of threads is 3 already"):
        await lua.ask("mine", 4)
