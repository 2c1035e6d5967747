"""policy-extras.dkim_sign: which keys sign which messages."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.dns import Resolvers, ZoneBackend
from kumo_py.message.message import Message

if TYPE_CHECKING:
    from conftest import Run, Validate, Write
    from policy_host import MakePolicy, RecordingHost

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RECORD = f'"v=DKIM1; k=ed25519; p={base64.b64encode(KEY.public_key().public_bytes_raw()).decode()}"'
FILE = """
[base]
selector = "s1"
headers = ["From", "Subject"]
additional_signatures = ["esp", "fallback"]
over_sign = true
expiration = 3600
body_canonicalization = "Simple"

[domain."example.com"]
filename = "ed25519.pem"
algo = "ed25519"
policy = "Always"
[domain."*.hosted.test"]
filename = "ed25519.pem"
selector = "s2"
headers = ["From"]
over_sign = false
expiration = 60
body_canonicalization = "Relaxed"

[signature."esp"]
policy = "Always"
domain = "esp.test"
filename = "ed25519.pem"
[signature."fallback"]
policy = "OnlyIfMissingDomainBlock"
domain = "fallback.test"
filename = "ed25519.pem"
"""
TOP = """
local sign = require('policy-extras.dkim_sign'):setup { 'dkim.toml' }
kumo.on('smtp_server_message_received', function(msg) sign(msg) end)
"""


@pytest.fixture(autouse=True)
def files(write: Write, host: RecordingHost) -> None:
    Path("ed25519.pem").write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write("dkim.toml", FILE)
    names = ("s1._domainkey.example.com", "s2._domainkey.x.hosted.test", "s1._domainkey.esp.test",
             "s1._domainkey.fallback.test")  # fmt: skip
    host.resolvers = Resolvers(backend=ZoneBackend([f"$ORIGIN {name}.\n@ TXT {RECORD}\n" for name in names]))


async def signed(policy: MakePolicy, sender: str) -> tuple[Message, list[dict[str, str]]]:
    """The message, and its signatures' tags from the top."""
    content = (
        f"From: <{sender}>\r\nSubject: hello\r\n\r\nbody\r\n".encode()
        if sender
        else b"Subject: hello\r\n\r\nx\r\n"
    )
    msg = Message(bytes(16), "a@b.test", ("c@d.test",), {}, content)
    lua = policy(f"{TOP}\nkumo.on('verify', function(msg)\nreturn msg:dkim_verify()\nend)")
    await lua.load()
    await lua.ask("smtp_server_message_received", msg, None)
    assert [one["result"] for one in await lua.ask("verify", msg)] != []
    assert {one["result"] for one in await lua.ask("verify", msg)} == {"pass"}
    head = msg.data.partition(b"\r\n\r\n")[0].replace(b"\r\n\t", b" ").decode()
    tags = [
        dict(tag.strip().split("=", 1) for tag in line.partition(":")[2].split(";") if tag.strip())
        for line in head.split("\r\n")
        if line.startswith("DKIM-Signature")
    ]
    return msg, tags


async def test_the_domains_block_then_the_additional_signatures(policy: MakePolicy) -> None:
    _, (esp, own) = await signed(policy, "me@Example.COM")
    assert (own["d"], own["s"], own["c"]) == ("example.com", "s1", "relaxed/simple")
    assert own["h"].lower().split(":").count("from") == 2
    assert int(own["x"]) - int(own["t"]) == 3600
    assert (esp["d"], esp["s"]) == ("esp.test", "s1")


async def test_a_wildcard_signs_as_the_messages_domain_and_its_options_go_first(policy: MakePolicy) -> None:
    _, (_, own) = await signed(policy, "me@x.hosted.test")
    assert (own["d"], own["s"], own["c"], own["h"].lower()) == (
        "x.hosted.test",
        "s2",
        "relaxed/relaxed",
        "from",
    )
    assert int(own["x"]) - int(own["t"]) == 60


async def test_a_fallback_signs_what_no_domain_block_does(policy: MakePolicy) -> None:
    _, found = await signed(policy, "me@elsewhere.test")
    assert [tags["d"] for tags in found] == ["fallback.test", "esp.test"]


async def test_a_message_without_from_is_refused(policy: MakePolicy) -> None:
    with pytest.raises(Rejection, match=r"5\.6\.0 .*From") as caught:
        await signed(policy, "")
    assert caught.value.code == 552


@pytest.mark.parametrize(
    ("base", "filename", "wanted"),
    [
        ("", "", "/opt/kumomta/etc/dkim/d.test/s1.key: No such file"),
        ("vault_mount = 'secret'", "", "dkim/d.test/s1"),
        ("vault_mount = 'secret'\nvault_path_prefix = 'mine/'\nvault_key = 'k'", "", "mine/d.test/s1"),
        ("vault_mount = 'secret'", "filename = 'own/path'", "own/path"),
    ],
)
async def test_where_a_key_is_looked_for(
    write: Write, policy: MakePolicy, monkeypatch: pytest.MonkeyPatch, base: str, filename: str, wanted: str
) -> None:
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("VAULT_TOKEN", "t")
    write("dkim.toml", f"[base]\nselector = 's1'\nheaders = ['From']\n{base}\n[domain.'d.test']\n{filename}")
    with pytest.raises(PolicyError) as caught:
        await signed(policy, "me@d.test")
    assert wanted in str(caught.value)


async def test_files_are_merged_in_their_order(write: Write, run: Run) -> None:
    write(
        "more.json", '{"base": {"selector": "s9"}, "domain": {"example.com": {"headers": ["Date", "From"]}}}'
    )
    top = "local sign = require('policy-extras.dkim_sign'):setup { 'dkim.toml', 'more.json' }"
    code = """
      local msg = kumo.make_message('a@b.test', 'c@d.test', 'From: a@example.com\\r\\nDate: now\\r\\n\\r\\nx')
      sign(msg)
      return msg:get_all_named_header_values('DKIM-Signature')[2]
    """
    value = await run(code, top=top)
    assert "s=s9" in value
    assert "h=date:date:from:from" in value


async def test_all_that_is_wrong_is_named_at_once(write: Write, policy: MakePolicy) -> None:
    write(
        "dkim.toml",
        """
[base]
additional_signatures = ["espp"]
headers = "From"
[domain."a.test"]
selector = "s"
algo = "md5"
[domain."b.test"]
headers = ["From"]
polcy = "Always"
[signature.esp]
selector = "s"
headers = ["From"]
policy = "Never"
[domian."c.test"]
""",
    )
    with pytest.raises(PolicyError) as caught:
        await signed(policy, "me@a.test")
    for text in (
        "dkim.toml: unknown section 'domian' (did you mean 'domain'?)",
        "dkim.toml: [base]: 'headers': Expected value of type 'list<string>' but got type 'string'",
        "dkim.toml: [base]: additional_signatures: there is no [signature.\"espp\"] (did you mean 'esp'?)",
        "dkim.toml: [domain.\"a.test\"]: 'algo': Unexpected 'SigningAlgo' value 'md5', expected one of 'sha256'",
        "dkim.toml: [domain.\"a.test\"]: 'headers' is required, here or in [base]",
        "dkim.toml: [domain.\"b.test\"]: 'selector' is required, here or in [base]",
        "dkim.toml: [domain.\"b.test\"]: unknown option 'polcy' (did you mean 'policy'?)",
        "dkim.toml: [signature.\"esp\"]: 'domain' is required",
        "dkim.toml: [signature.\"esp\"]: 'policy': Unexpected 'SignatureSigningPolicy' value 'Never'",
    ):
        assert text in str(caught.value)


async def test_validation_tries_every_key(write: Write, validate: Validate) -> None:
    write(
        "dkim.toml",
        FILE + "[domain.'nokey.test']\nfilename = 'absent.pem'\n[signature.spare]\ndomain = 'x.test'\n",
    )
    assert await validate(TOP) == [
        'dkim.toml: [domain."nokey.test"]: absent.pem: No such file or directory',
        'dkim.toml: [signature."spare"]: /opt/kumomta/etc/dkim/x.test/s1.key: No such file or directory',
        'dkim.toml: [signature."spare"]: is never used: [base] does not have it in additional_signatures',
    ]


async def test_validation_of_what_is_right_says_nothing(validate: Validate) -> None:
    assert await validate(TOP) == []
