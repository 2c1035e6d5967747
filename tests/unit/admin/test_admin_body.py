"""Bodies: JSON of the right type, and what else strangers send."""

from __future__ import annotations

import gzip
import os
import zlib

import pytest
import zstandard

from kumo_py.admin.body import json_body
from kumo_py.admin.exchange import Headers, Refusal, Request
from kumo_py.queue.admin import BounceRequest

JSON = [(b"content-type", b"application/json; charset=utf-8")]
GZIP = [*JSON, (b"content-encoding", b"gzip")]
ZSTD = [*JSON, (b"content-encoding", b"zstd")]
LIMIT = 10_000


def request(body: bytes, headers: Headers) -> Request:
    async def read() -> bytes:
        return body

    return Request("POST", "/", headers, "127.0.0.1", "127.0.0.1", read)


async def test_json() -> None:
    body = b'{"reason": "why", "duration": "20m", "queue_names": ["a", "b"]}'
    for headers, sent in (
        (JSON, body),
        ([(b"content-type", b"application/problem+json")], body),
        (GZIP, gzip.compress(body)),
        (ZSTD, zstandard.compress(body)),
        (ZSTD, zstandard.compress(body[:20]) + zstandard.compress(body[20:])),
        ([*JSON, (b"content-encoding", b"deflate")], zlib.compress(body)),
        ([*JSON, (b"content-encoding", b"identity")], body),
    ):
        found = await json_body(request(sent, headers), BounceRequest, LIMIT)
        assert (found.reason, found.duration, found.queue_names) == ("why", 1200.0, ("a", "b"))


BOMB = gzip.compress(bytes(5_000_000))
_wide = zstandard.ZstdCompressionParameters(window_log=27)
WIDE = zstandard.ZstdCompressor(compression_params=_wide).compress(os.urandom(9_000_000))
"""It would have us keep 128 MiB."""


@pytest.mark.parametrize(
    ("headers", "body", "status", "text"),
    [
        ([], b"{}", 415, "Content-Type: application/json"),
        ([(b"content-type", b"text/plain")], b"{}", 415, "Content-Type: application/json"),
        ([*JSON, *JSON], b"{}", 400, "more than one content-type"),
        ([*JSON, (b"content-encoding", b"br")], b"{}", 415, "gzip, deflate or zstd"),
        (GZIP, b"{}", 400, "cannot be decompressed"),
        (GZIP, gzip.compress(b'{"reason": "x"}')[:-9], 400, "cut off"),
        (GZIP, BOMB, 413, "length limit exceeded"),
        (ZSTD, b"{}", 400, "cannot be decompressed"),
        (ZSTD, zstandard.compress(b'{"reason": "x"}')[:-5], 400, "as JSON"),
        (ZSTD, zstandard.compress(bytes(5_000_000)), 413, "length limit exceeded"),
        (ZSTD, WIDE, 400, "cannot be decompressed"),
        (JSON, b"", 400, "as JSON"),
        (JSON, b"{", 400, "as JSON"),
        (JSON, b'{"reason": "\xff"}', 400, "as JSON"),
        (JSON, b'{"reason": "\\ud800"}', 400, "as JSON"),
        (JSON, b"[" * 100_000, 400, "as JSON"),
        (JSON, b"[]", 422, "{ reason = … }"),
        (JSON, b"null", 422, "request"),
        (JSON, b"{}", 422, "'reason'"),
        (JSON, b'{"reason": 1}', 422, "option 'reason' must be a string, got integer 1"),
        (JSON, b'{"reason": "x", "domian": "y"}', 422, "did you mean 'domain'?"),
        (JSON, b'{"reason": "x", "duration": "soon"}', 422, "duration"),
        (JSON, b'{"reason": "x", "expires": "2026-12-24"}', 422, "2026-12-24T18:00:00Z"),
        (JSON, b'{"reason": "x", "queue_names": "a"}', 422, "queue_names"),
        (JSON, b'{"reason": "x", "queue_names": [1]}', 422, "queue_names[1]"),
    ],
)
async def test_refused(headers: Headers, body: bytes, status: int, text: str) -> None:
    with pytest.raises(Refusal) as caught:
        await json_body(request(body, headers), BounceRequest, LIMIT)
    assert caught.value.status == status
    assert text in caught.value.text
