"""Trace headers as pure functions."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from kumo_py.message.trace import received, received_start, rfc5322_date, supplemental


@pytest.mark.parametrize(
    ("unix_time", "date"),
    [
        (0, "Thu, 01 Jan 1970 00:00:00 +0000"),
        (1_763_768_000.9, "Fri, 21 Nov 2025 23:33:20 +0000"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
    ],
)
def test_date(unix_time: Any, date: str) -> None:
    assert rfc5322_date(unix_time) == date


def test_received() -> None:
    start = received_start("client.test", "203.0.113.7", "mx.test", "192.0.2.1", "ESMTPS", "TLSv1.3:AES")
    assert received(start, bytes(range(16)), "jörg@b.test", "DATE").decode() == (
        "Received: from client.test (203.0.113.7)\r\n"
        "  by mx.test (KumoMTA 192.0.2.1) \r\n"
        "  with ESMTPS (TLSv1.3:AES)  id 000102030405060708090a0b0c0d0e0f for <jörg@b.test>;\r\n"
        "  DATE\r\n"
    )


def _decode(header: bytes, name: str) -> dict[str, object]:
    assert header.endswith(b"\r\n")
    first, *more = header[:-2].split(b"\r\n")
    assert all(line.startswith(b"\t") and len(line) <= 76 for line in more)
    encoded = first.removeprefix(f"{name}: ".encode()) + b"".join(line[1:] for line in more)
    decoded = json.loads(base64.b64decode(encoded, validate=True))
    assert isinstance(decoded, dict)
    return decoded


@pytest.mark.parametrize("length", [0, 1, 10, 11, 12, 13, 200])
def test_supplemental_folds_at_75(length: int) -> None:
    recipient = "r" * length + "@b.test"
    header = supplemental("X-Ref", (recipient,), {}, [])
    assert _decode(header, "X-Ref") == {"_@_": "\\_/", "recipient": recipient}


def test_supplemental_of_a_batch_with_metadata() -> None:
    header = supplemental(
        "X-KumoRef", ("a@b.test", "c@b.test"), {"z": [1], "A": None, "no": 1}, ["z", "A", "absent"]
    )
    assert list(_decode(header, "X-KumoRef").items()) == [
        ("A", None),
        ("_@_", "\\_/"),
        ("recipient", ["a@b.test", "c@b.test"]),
        ("z", [1]),
    ]
