"""`kumo.dmarc`: what is taken from the message, what the policy gets, what is noted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio
from structlog.testing import capture_logs

from kumo_py.core.policy import PolicyError
from kumo_py.message.message import Message
from kumo_py.policy.modules.dmarc import FailureNotes

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy, RecordingHost

ZONES = """
kumo.dns.configure_test_resolver { [[
$ORIGIN example.com.
_dmarc 60 TXT "v=DMARC1; p=reject; sp=quarantine; pct=100"
]], [[
$ORIGIN example.net.
_dmarc 60 TXT "v=DMARC1; p=none"
]] }
kumo.dns.define_resolver('other', { Test = { '$ORIGIN example.com.\\n_dmarc 60 TXT "v=DMARC1; p=none"\\n' } })
local pass = { { method = 'dkim', result = 'pass', props = { ['header.d'] = 'mail.example.com' } } }
local stranger = { { method = 'dkim', result = 'pass', props = { ['header.d'] = 'evil.example.org' } } }
local none = { method = 'spf', result = 'none' }
local spf = { method = 'spf', result = 'pass', props = { ['smtp.mailfrom'] = 'user@bounces.example.com' } }
"""


async def check(policy: MakePolicy, msg: Message, arguments: str) -> Any:
    lua = policy(
        f"{ZONES}\nkumo.on('mine', function(msg)\nreturn kumo.dmarc.check_msg(msg, {arguments})\nend)"
    )
    await lua.load()
    return await lua.ask("mine", msg)


def message(*from_headers: str) -> Message:
    head = "".join(f"From: {value}\r\n" for value in from_headers)
    return Message(bytes(16), "user@example.com", ("to@here.example",), {}, f"{head}\r\nbody\r\n".encode())


async def test_an_aligned_signature(policy: MakePolicy, msg: Message) -> None:
    assert await check(policy, msg, "pass, nil, none, false") == {
        "disposition": "Pass",
        "result": {
            "method": "dmarc",
            "result": "pass",
            "reason": "Success",
            "props": {"policy.p": "reject", "policy.sp": "quarantine", "policy.pct": "100"},
        },
    }
    assert (await check(policy, msg, "{}, nil, spf, false"))["disposition"] == "Pass"


async def test_mail_that_fails(policy: MakePolicy) -> None:
    found = await check(policy, message("me@example.com"), "stranger, nil, none, false")
    assert found["disposition"] == "Reject"
    assert found["result"]["result"] == "fail"
    assert found["result"]["reason"] == "DMARC: DKIM relaxed check failed"
    assert found["result"]["props"]["policy.published-domain-policy"] == "reject"
    found = await check(policy, message('"A, B" <me@Sub.Example.com>'), "{}, nil, none, false")
    assert (found["disposition"], found["result"]["reason"]) == ("Quarantine", "No aligned DKIM or SPF")
    found = await check(policy, message("me@example.net"), "{}, nil, none, false")
    assert (found["disposition"], found["result"]["result"]) == ("None", "none")


async def test_a_domain_without_a_record(policy: MakePolicy) -> None:
    found = await check(policy, message("me@example.org"), "{}, nil, none, false")
    assert (found["disposition"], found["result"]["result"]) == ("PermError", "permerror")
    assert found["result"]["reason"] == "no DMARC records found for example.org"


@pytest.mark.parametrize(
    "headers", [[], ["nobody"], ["a@example.com, b@example.com"], ["friends: a@example.com;"], ["<>"], ["@"]]
)
async def test_a_from_header_of_no_use(policy: MakePolicy, headers: list[str]) -> None:
    found = await check(policy, message(*headers), "{}, nil, none, false")
    assert (found["disposition"], found["result"]["result"]) == ("None", "none")
    assert "From header" in found["result"]["reason"]


async def test_another_resolver(policy: MakePolicy, msg: Message) -> None:
    assert (await check(policy, msg, "{}, 'other', none, false"))["disposition"] == "None"


async def test_content_that_is_only_in_the_spool(policy: MakePolicy, host: RecordingHost) -> None:
    await check(policy, Message.from_spool(bytes(16)), "{}, nil, none, false")
    assert host.named("load_message") == [bytes(16)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'x', nil, none, false", "argument 'dkim_results' must be a list, got string 'x'"),
        ("{ { method = 'dkim' } }, nil, none, false", "check_msg: option 'result' is missing|result"),
        ("{}, nil, nil, false", "argument 'spf_result' must be a table of options, got nil"),
        ("{}, nil, none", "argument 'use_reporting' must be true or false, got nil"),
        ("{}, nil, none, true", "use_reporting needs reporting_info: a table with org_name and email"),
        ("{}, nil, none, true, { org_name = 'x', mail = 'y' }", "mail"),
    ],
)
async def test_wrong_arguments(policy: MakePolicy, msg: Message, arguments: str, message: str) -> None:
    with pytest.raises(PolicyError, match=rf"policy\.lua:\d+.*kumo\.dmarc\.check_msg.*(?:{message})"):
        await check(policy, msg, arguments)


REPORTING = "stranger, nil, none, true, { org_name = 'Here', email = 'dmarc@here.example' }"


async def note(policy: MakePolicy, msg: Message, arguments: str = REPORTING) -> None:
    lua = policy(f"{ZONES}\nkumo.on('mine', function(msg)\nkumo.dmarc.check_msg(msg, {arguments})\nend)")
    await lua.load()
    await lua.ask("mine", msg)
    await lua.ask("mine", msg)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(FailureNotes, "path", str(tmp_path / "dmarc.log"))
    return tmp_path / "dmarc.log"


def lines_of(path: Path) -> list[str] | None:
    return path.read_text().splitlines() if path.exists() else None


async def test_failures_are_noted_in_a_file_that_exists(policy: MakePolicy, path: Path) -> None:
    await trio.Path(path).touch()
    msg = message("me@example.com")
    msg.meta["received_from"] = "192.0.2.1:25"
    await note(policy, msg)
    lines = lines_of(path) or []
    assert len(lines) == 2
    found = orjson.loads(lines[0])
    assert (found["org_name"], found["source_ip"], found["error"]) == (
        "Here",
        "192.0.2.1",
        "DMARC: DKIM relaxed check failed",
    )
    assert found["identifier"]["envelope_to"] == ["here.example"]
    await note(policy, msg, REPORTING.replace("stranger", "pass"))
    await note(policy, msg, REPORTING.replace("true", "false"))
    assert lines_of(path) == lines


async def test_a_missing_file_is_named_once_and_not_made(policy: MakePolicy, path: Path) -> None:
    msg = message("me@example.com")
    msg.meta["received_from"] = "192.0.2.1:25"
    with capture_logs() as logs:
        await note(policy, msg)
    assert [line["event"] for line in logs] == [
        f"DMARC failures are not noted: {path}: No such file or directory"
    ]
    assert lines_of(path) is None
