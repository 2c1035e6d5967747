"""Postfix's smtp-source sends to kumo-py, which relays to Postfix's smtp-sink."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from postfix_tools import smtp_sink_program
from real_node import relay_policy
from smtp_client import SmtpClient

from kumo_py.logs.reader import records

if TYPE_CHECKING:
    from collections.abc import Callable

    from real_node import RealNode

pytestmark = [pytest.mark.slow, pytest.mark.time_limit(90)]

RELAY_POLICY = Path(__file__).parents[2] / "policies" / "relay.lua"
COUNT = 10_000
STALLED = 15.0


@pytest.mark.parametrize("options", [[], ["-d"]], ids=["a connection per message", "twenty connections"])
def test_ten_thousand_messages(
    start_node: Callable[..., RealNode],
    require_program: Callable[[str], str],
    tmp_path: Path,
    options: list[str],
) -> None:
    smtp_source = require_program("smtp-source")
    with smtp_sink_program(require_program("smtp-sink"), tmp_path) as sink:
        environment = {
            "KUMO_RELAY_LISTEN": "127.0.0.1:0",
            "KUMO_RELAY_TO": sink.address,
            "KUMO_RELAY_DIR": str(tmp_path / "relay"),
        }
        node = start_node(RELAY_POLICY, environment=environment)
        started = time.monotonic()
        command = [smtp_source, *options, "-s", "20", "-m", str(COUNT), "-l", "1024", "-N", node.address]
        subprocess.run(command, check=True, timeout=60)
        accepted = time.monotonic() - started
        sink.wait_for(COUNT, STALLED)
        print(f"accepted {COUNT / accepted:.0f}/s, relayed {COUNT / (time.monotonic() - started):.0f}/s")
        node.stop()
        assert sink.messages == COUNT
    kinds: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    for record in records(tmp_path / "relay" / "logs"):
        kinds[record["type"]] += 1
        ids[record["id"]] += 1
    assert kinds == {"Reception": COUNT, "Delivery": COUNT}
    assert set(ids.values()) == {2}


def bodies() -> list[bytes]:
    """A few hundred contents that relays have been known to change."""
    header = b"From: a@b.example\r\nSubject: test\r\n\r\n"
    lines = [b"", b".", b"..", b"...", b".a", b"..a", b" ", b"\t", b"From x", b"a" * 997 + b".", b"." * 998]
    lines += [
        bytes(range(0x80, 0x100)),
        "äöü €".encode(),
        "äöü".encode("latin-1"),
        b"\x01\x7f\x1b[0m",
        b"\x0b\x0c a\0b",
    ]
    contents = [
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"no header\r\n",
        b".\r\n",
        b"..\r\n",
        header,
        header + b"\r\n" * 5,
    ]
    contents += [b"Subject: header only\r\n", b" starts with a space\r\n\r\nx\r\n"]
    contents += [header + line + b"\r\n" for line in lines]
    contents += [header + line + b"\r\n" + b"x\r\n" + line + b"\r\n" for line in lines]
    chance = random.Random(5)
    for size in [*range(100), *[4096, 16_384, 65_536, 65_537, 1 << 20] * 10]:
        body = []
        while size > 0:
            body.append(chance.choice(lines))
            size -= len(body[-1]) + 2
        contents.append(header + b"\r\n".join([*body, b""]))
    # Wherever a buffer may end, there is a dot after a line's end.
    for size in (4096, 16_384, 65_536):
        for shift in range(-8, 9):
            fill = b"x" * 61 + b"\r\n"
            start = (fill * (size // len(fill) + 1))[: size + shift - 2]
            contents.append(start.rstrip(b"\r\n") + b"\r\n.\r\n..\r\nend\r\n")
    return contents


@pytest.mark.parametrize("traced", [False, True], ids=["untouched", "with trace headers"])
def test_contents_arrive_byte_for_byte(
    start_node: Callable[..., RealNode],
    require_program: Callable[[str], str],
    tmp_path: Path,
    *,
    traced: bool,
) -> None:
    """By DATA and by BDAT, whose contents need not end with a line's end."""
    contents = bodies()
    with smtp_sink_program(require_program("smtp-sink"), tmp_path, dump=True) as sink:
        trace = "" if traced else "trace_headers = { received_header = false, supplemental_header = false }"
        node = start_node(relay_policy(tmp_path, sink.address, listener=trace))
        sent = {}
        with SmtpClient(node.address) as client:
            client.greet()
            for number, content in enumerate(contents):
                recipient = f"r{number}@far.example"
                answer = client.message("s@client.example", recipient, content)
                assert answer.code == 250, (answer, content[:200])
                sent[recipient] = content
            for number, content in enumerate(
                [b"Subject: x\r\n\r\nno end of line", b"x", b"", *contents[::5]]
            ):
                recipient = f"bdat{number}@far.example"
                half = len(content) // 2
                client.send(
                    f"MAIL FROM:<s@client.example>\r\nRCPT TO:<{recipient}>\r\nBDAT {half}\r\n".encode()
                    + content[:half]
                    + f"BDAT {len(content) - half} LAST\r\n".encode()
                    + content[half:]
                )
                assert [client.reply().code for _ in range(4)] == [250] * 4
                sent[recipient] = content if content.endswith(b"\r\n") else content + b"\r\n"
        sink.wait_for(len(sent), STALLED)
        node.stop()
    received = sink.dumped()
    assert received.keys() == sent.keys()
    for recipient, content in sent.items():
        arrived = received[recipient]
        if traced:
            assert arrived.startswith(b"X-KumoRef: ")
            assert b"\r\nReceived: " in arrived[: len(arrived) - len(content)]
            assert arrived.endswith(content), recipient
        else:
            assert arrived == content, recipient
