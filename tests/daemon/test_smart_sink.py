"""policies/smart_sink.lua on a real node: what senders see of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from real_node import relay_policy
from smtp_client import SmtpClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import StartNode
    from real_node import RealNode

    StartSink = Callable[..., RealNode]

pytestmark = pytest.mark.time_limit(60)

POLICIES = Path(__file__).resolve().parents[2] / "policies"
CONTENT = b"Subject: x\r\n\r\nhello\r\n"
RULES = """
[default]
tarpit_seconds = 0.3

[provider.shaky]
domains = ["shaky.test", "Wobbly.test"]
bounce = 20
defer = 30
drop = 5

[[provider.shaky.replies.bounce]]
code = 552
text = "5.2.2 full"
weight = 3

[[provider.shaky.replies.bounce]]
code = 550
text = "5.1.1 unknown"

[provider.slow]
domains = ["slow.test"]
tarpit = 100
tarpit_seconds = 0.3

[provider.limited]
domains = ["limited.test"]
max_message_rate = "5/hr"

[provider.short]
domains = ["short.test"]
max_messages_per_connection = 2
"""


@pytest.fixture
def smart_sink(start_node: StartNode, tmp_path: Path) -> StartSink:
    def start(name: str = "sink", **environment: str) -> RealNode:
        directory = tmp_path / name
        directory.mkdir()
        (directory / "rules.toml").write_text(RULES)
        given = {
            "KUMO_SINK_LISTEN": "127.0.0.1:0",
            "KUMO_SINK_DIR": str(directory),
            "KUMO_SINK_RULES": str(directory / "rules.toml"),
        }
        return start_node(POLICIES / "smart_sink.lua", directory, environment=given | environment)

    return start


def send(address: str, recipient: str, count: int = 1) -> list[tuple[int, str]]:
    """The last reply to each message, over one connection while it lasts."""
    answers: list[tuple[int, str]] = []
    client = SmtpClient(address)
    client.greet()
    for _ in range(count):
        try:
            reply = client.message("from@a.test", recipient, CONTENT)
        except OSError:
            client.close()
            client = SmtpClient(address)
            client.greet()
            reply = client.message("from@a.test", recipient, CONTENT)
        answers.append((reply.code, reply.text))
    client.close()
    return answers


def test_local_parts_say_what_they_want(smart_sink: StartSink) -> None:
    address = smart_sink().address
    for recipient, answer in {
        "somebody@any.test": (250, "OK"),
        "250-really@shaky.test": (250, "OK"),
        "450-come-again_later@any.test": (450, "come again later"),
        "452-4.2.2-over-quota@any.test": (452, "4.2.2 over quota"),
        "554@any.test": (554, "as asked for"),
        "a-tempfail@any.test": (450, "4.0.0 temporary failure as asked for"),
        "permfail.b@any.test": (550, "5.0.0 permanent failure as asked for"),
        "drop@any.test": (421, "4.4.2 connection dropped as asked for"),
        "421-busy@any.test": (421, "busy"),
        "dropper@any.test": (250, "OK"),
    }.items():
        [(code, text)] = send(address, recipient)
        assert (code, text[: len(answer[1])]) == answer
    with SmtpClient(address) as client:
        client.greet()
        assert client.message("from@a.test", "drop@any.test", CONTENT).code == 421
        with pytest.raises(OSError, match=r"closed|reset"):
            client.reply()


def test_tarpits_take_their_time(smart_sink: StartSink) -> None:
    address = smart_sink().address
    for recipient, least in {"tarpit@any.test": 0.3, "tarpit-1@any.test": 1.0, "a@slow.test": 0.3}.items():
        start = time.monotonic()
        assert send(address, recipient)[0][0] == 250
        assert least <= time.monotonic() - start < least + 0.3


def test_a_seed_makes_fates_come_again_in_the_shares_that_the_rules_give(smart_sink: StartSink) -> None:
    first, second, other = (
        send(smart_sink(name, KUMO_SINK_SEED=seed).address, recipient, 1000)
        for name, seed, recipient in [
            ("one", "7", "a@shaky.test"),
            ("two", "7", "b@wobbly.test"),
            ("three", "8", "a@shaky.test"),
        ]
    )
    fates = [(code, "" if code == 250 else text) for code, text in first]
    assert fates == [(code, "" if code == 250 else text) for code, text in second]
    assert [code for code, _ in fates] != [code for code, _ in other]
    shares = Counter(code for code, _ in fates)
    for code, share in {552: 0.15, 550: 0.05, 451: 0.30, 421: 0.05, 250: 0.45}.items():
        assert shares[code] / 1000 == pytest.approx(share, abs=0.04)
    assert (552, "5.2.2 full") in fates


def test_what_comes_too_fast_is_deferred(smart_sink: StartSink) -> None:
    address = smart_sink().address
    assert [code for code, _ in send(address, "a@limited.test", 8)] == [250] * 5 + [451] * 3


def test_a_connection_takes_only_so_many(smart_sink: StartSink) -> None:
    address = smart_sink().address
    assert [code for code, _ in send(address, "a@short.test", 5)] == [250, 250, 421, 250, 250]


def test_recipients_can_be_judged_one_by_one(smart_sink: StartSink) -> None:
    address = smart_sink(KUMO_SINK_JUDGE="rcpt").address
    with SmtpClient(address) as client:
        client.greet()
        assert client.command("MAIL FROM:<from@a.test>").code == 250
        codes = [
            client.command(f"RCPT TO:<{user}@any.test>").code for user in ("a", "550-gone", "tempfail", "b")
        ]
        assert codes == [250, 550, 450, 250]
        assert client.command("DATA").code == 354
        client.send(CONTENT + b".\r\n")
        assert client.reply().code == 250


def records(directory: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted((directory / "logs").iterdir()):
        with path.open("rb") as stream:
            text = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True).read()
        # The node may be writing still.
        found += map(json.loads, text[: text.rfind(b"\n") + 1].splitlines())
    return found


def test_a_relay_brings_it_every_message_once(
    smart_sink: StartSink, start_node: StartNode, tmp_path: Path
) -> None:
    """Two processes: what the one has delivered the other has received, and what was refused bounced."""
    sink = smart_sink(KUMO_SINK_SEED="1", KUMO_SINK_LOG="1")
    (tmp_path / "relay").mkdir()
    path = "max_message_rate = '2,000/s', additional_connection_limits = { all = 5 },"
    relay = start_node(relay_policy(tmp_path / "relay", sink.address, path=path), tmp_path / "relay")
    expected = {f"u{number}@shaky.test" for number in range(200)} | {
        f"{user}{number}@any.test" for user in ("550-gone", "a") for number in range(20)
    }
    with SmtpClient(relay.address) as client:
        client.greet()
        for recipient in expected:
            assert client.message("from@a.test", recipient, CONTENT).code == 250
    ends: dict[str, list[str]] = {}
    deadline = time.monotonic() + 40
    while len(ends) < len(expected):
        assert time.monotonic() < deadline, f"{len(ends)} of {len(expected)} are done"
        time.sleep(0.5)
        ends = {}
        for record in records(tmp_path / "relay"):
            if record["type"] in ("Delivery", "Bounce", "Expiration"):
                ends.setdefault(record["recipient"], []).append(record["type"])
    relay.stop()
    sink.stop()
    assert set(ends) == expected
    assert {tuple(kinds) for kinds in ends.values()} == {("Delivery",), ("Bounce",)}
    assert all(ends[f"550-gone{number}@any.test"] == ["Bounce"] for number in range(20))
    taken = Counter(
        record["recipient"] for record in records(tmp_path / "sink") if record["type"] == "Reception"
    )
    assert taken == Counter(recipient for recipient, kinds in ends.items() if kinds == ["Delivery"])
    refused = Counter(record["response"]["code"] for record in records(tmp_path / "relay"))
    assert refused[451] > 50
    assert refused[421] > 5


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("defers = 3", "there is no option 'defers'"),
        ("bounce = 60\ndefer = 50", "together are 110 percent"),
        ("[[provider.x.replies.bounce]]\ncode = 250\ntext = ''", "a code from 400 to 599"),
        ("[[provider.x.replies.tarpit]]\ncode = 450\ntext = ''", "there is no option 'tarpit'"),
    ],
)
def test_wrong_rules_stop_the_start(tmp_path: Path, line: str, complaint: str) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(f"[provider.x]\n{line}\n")
    command = [
        sys.executable,
        "-m",
        "kumo_py",
        "serve",
        "--validate",
        "--policy",
        POLICIES / "smart_sink.lua",
    ]
    environment = {"KUMO_SINK_RULES": str(rules), "KUMO_SINK_DIR": str(tmp_path), "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"{rules}: x" in done.stderr
    assert complaint in done.stderr


def test_the_rules_that_come_with_it_are_right(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kumo_py", "serve", "--validate", "--policy", "policies/smart_sink.lua"]
    environment = {"KUMO_SINK_DIR": str(tmp_path), "PATH": ""}
    subprocess.run(command, env=environment, cwd=POLICIES.parent, timeout=30, check=True, capture_output=True)
