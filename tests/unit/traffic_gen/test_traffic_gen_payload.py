from __future__ import annotations

import json
import re
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from traffic_gen.options import Options, Target
from traffic_gen.payload import HttpPayload, SmtpPayload, envelopes, load_content, nonsense

if TYPE_CHECKING:
    from pathlib import Path

ENVELOPE = (7, b"noreply@a.test", b"user-1@b.test")


def options(**changes: Any) -> Options:
    return Options(target=Target("127.0.0.1", 1), message_count=1, **changes)


def body_file(folder: Path, text: bytes) -> Path:
    path = folder / "body"
    path.write_bytes(text)
    return path


@pytest.mark.parametrize("size", [2, 3, 76, 77, 78, 79, 80, 1024, 4992, 4993, 100_000])
def test_generated_body_has_the_size_asked_for(size: int) -> None:
    body = nonsense(size)
    assert len(body) == size
    assert body.endswith(b"\r\n")
    assert body == nonsense(size)
    lines = body.split(b"\r\n")
    assert max(map(len, lines)) <= 78
    assert not any(re.search(rb"[\r\n]|^\.", line) for line in lines)


def test_smallest_bodies() -> None:
    assert nonsense(0) == b""
    assert nonsense(1) == b"\r\n"


def test_generated_message() -> None:
    payload = SmtpPayload(options(body_size=200, headers=(("X-Tenant", "Mine"),)), "run1")
    message = payload.head(ENVELOPE, 1700000000.25) + payload.tail
    head, body = message.split(b"\r\n\r\n", 1)
    fields = head.decode().split("\r\n")
    assert fields[:4] == [
        "From: <noreply@a.test>",
        "To: <user-1@b.test>",
        "Message-ID: <run1.7@traffic-gen.invalid>",
        "X-Traffic-Gen: run1/7/1700000000.250000",
    ]
    assert [field.split(":")[0] for field in fields[4:]] == ["Subject", "Date", "X-Mailer", "X-Tenant"]
    assert body == nonsense(200) + b".\r\n"


def test_a_header_given_replaces_the_constant_one() -> None:
    content = load_content(options(headers=(("subject", "hello"),)))
    head = content.tail.split(b"\r\n\r\n")[0].lower()
    assert head.count(b"subject:") == 1
    assert b"subject: hello" in head


def test_file_without_headers_is_a_body(tmp_path: Path) -> None:
    text = b"Note: this is text\nand no header\r\n.dot\n\nlast without newline"
    content = load_content(options(body_file=body_file(tmp_path, text)))
    assert content.omitted == 0
    body = content.tail.split(b"\r\n\r\n", 1)[1]
    assert body == b"Note: this is text\r\nand no header\r\n.dot\r\n\r\nlast without newline\r\n"


@pytest.mark.parametrize(
    ("text", "head"),
    [
        (
            b"Subject: x\nTo: me\n folded\n\nbody\n",
            [b"Message-ID: <run1.7@traffic-gen.invalid>", b"X-Traffic-Gen: run1/7/1.500000"],
        ),
        (b"message-id: <own@x.test>\r\nSubject: x\r\n\r\nbody\r\n", [b"X-Traffic-Gen: run1/7/1.500000"]),
    ],
)
def test_file_with_headers_is_the_message(tmp_path: Path, text: bytes, head: list[bytes]) -> None:
    given = options(body_file=body_file(tmp_path, text), headers=(("X-A", "b"),))
    payload = SmtpPayload(given, "run1")
    message = payload.head(ENVELOPE, 1.5) + payload.tail
    canonical = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert message == b"\r\n".join([*head, b"X-A: b", canonical]) + b".\r\n"


def test_file_of_headers_only_gets_its_blank_line(tmp_path: Path) -> None:
    content = load_content(options(body_file=body_file(tmp_path, b"Subject: x\n")))
    assert content.tail == b"Subject: x\r\n\r\n"


def test_dots_are_doubled_at_every_line_start(tmp_path: Path) -> None:
    text = b".first\n..\n.\nmid . dot\n"
    payload = SmtpPayload(options(body_file=body_file(tmp_path, text)), "run1")
    assert payload.tail.endswith(b"\r\n\r\n..first\r\n...\r\n..\r\nmid . dot\r\n.\r\n")


def test_eight_bit_text_is_noticed(tmp_path: Path) -> None:
    assert not SmtpPayload(options(), "r").eight_bit
    assert SmtpPayload(options(body_file=body_file(tmp_path, "é\n".encode())), "r").eight_bit


def test_message_bytes_is_the_size_of_the_first_message() -> None:
    given = options(body_size=5000, domains=(("one", 1.0),))
    payload = SmtpPayload(given, "run1")
    first = next(envelopes(given, 0, 1))
    size = len(payload.head(first, 0.0) + payload.tail) - len(b".\r\n")
    assert abs(payload.message_bytes - size) <= 3  # the user number is drawn anew


def test_envelopes_are_numbered_and_drawn_by_weight() -> None:
    given = options(domains=(("often", 9.0), ("seldom", 1.0), ("never", 0.0)))
    drawn = list(islice(envelopes(given, 3, 5), 5000))
    assert [envelope[0] for envelope in drawn] == list(range(3, 3 + 5 * 5000, 5))
    assert len({recipient for _, _, recipient in drawn}) == 5000
    domains = Counter(recipient.split(b"@")[1] for _, _, recipient in drawn)
    assert set(domains) == {b"often.mx-sink.test", b"seldom.mx-sink.test"}
    assert 350 < domains[b"seldom.mx-sink.test"] < 650
    assert {sender for _, sender, _ in drawn} == {
        b"noreply@often.mx-sink.test",
        b"noreply@seldom.mx-sink.test",
    }


def test_empty_suffix_leaves_the_domain_alone() -> None:
    given = options(domains=(("one.example", 1.0),), domain_suffix="")
    assert next(envelopes(given, 0, 1))[1] == b"noreply@one.example"


def request(payload: HttpPayload, *batch: tuple[int, bytes, bytes]) -> dict[str, Any]:
    head, body = (payload.request(batch, 1.5) + payload.tail).split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /api/inject/v1 HTTP/1.1"
    assert f"Content-Length: {len(body)}" in lines
    decoded: dict[str, Any] = json.loads(body)
    return decoded


def test_http_request_for_one_message(tmp_path: Path) -> None:
    text = '"quoted" \\ back\tslash é\n.dot\n'
    payload = HttpPayload(options(http=True, body_file=body_file(tmp_path, text.encode())), "run1")
    decoded = request(payload, ENVELOPE)
    content = decoded.pop("content")
    assert decoded == {
        "envelope_sender": "noreply@a.test",
        "deferred_spool": False,
        "deferred_generation": False,
        "recipients": [{"email": "user-1@b.test"}],
    }
    head, body = content.split("\r\n\r\n", 1)
    assert head.startswith("From: <noreply@a.test>\r\nTo: <user-1@b.test>\r\nMessage-ID: <run1.7@")
    assert "X-Traffic-Gen: run1/7/1.500000\r\n" in head
    assert body == text.replace("\n", "\r\n")


def test_http_batch_is_unique_through_substitutions() -> None:
    payload = HttpPayload(options(http=True, http_defer_spool=True, http_defer_generation=True), "run1")
    decoded = request(payload, ENVELOPE, (8, b"noreply@c.test", b"user-2@d.test"))
    assert decoded["deferred_spool"] is True
    assert decoded["deferred_generation"] is True
    assert decoded["recipients"] == [
        {"email": "user-1@b.test", "substitutions": {"sequence": 7}},
        {"email": "user-2@d.test", "substitutions": {"sequence": 8}},
    ]
    assert "To: <{{ email }}>\r\nMessage-ID: <run1.{{ sequence }}@" in decoded["content"]
    assert "X-Traffic-Gen: run1/{{ sequence }}/1.500000\r\n" in decoded["content"]


def test_http_needs_utf8(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs UTF-8"):
        HttpPayload(options(http=True, body_file=body_file(tmp_path, b"\xff\n")), "r")
