"""What a request's body says: JSON, checked against the type that its endpoint takes."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, TypeVar

import orjson
import zstandard

from kumo_py.admin.connection import too_large
from kumo_py.admin.exchange import Refusal
from kumo_py.core.options import OptionError, convert

if TYPE_CHECKING:
    from kumo_py.admin.exchange import Request

T = TypeVar("T")

_WINDOWS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_EXPLAINED = 10_000
"""Values of a request, about 50 ms, in which what is wrong is looked for to be told well."""
_SHALLOW = 250
"""Levels of nesting that are no trouble."""
_ZSTD_WINDOW = 8 << 20
"""Octets that a zstd frame may ask us to keep (RFC 8878 §3.1.1.1.2 has decoders take at least that)."""


async def json_body(request: Request, type_: type[T], max_size: int) -> T:
    """The body as `type_`.

    Raises Refusal: 415 for another content type or coding, 413 for more than `max_size` octets, 400 for what is no
    JSON, 422 for JSON that is something else.
    """
    kind = (request.header(b"content-type") or b"").partition(b";")[0].strip().lower()
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise Refusal(415, "Expected request with `Content-Type: application/json`")
    coding = (request.header(b"content-encoding") or b"identity").strip().lower()
    if coding not in _WINDOWS and coding not in (b"zstd", b"identity"):
        raise Refusal(415, "the request's Content-Encoding is not supported: use gzip, deflate or zstd")
    body = await request.read()
    if coding == b"zstd":
        body = _unpacked_zstd(body, max_size)
    elif coding != b"identity":
        body = _inflated(body, _WINDOWS[coding], max_size)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as err:
        raise Refusal(400, f"Failed to parse the request body as JSON: {err}") from None
    # orjson reads 1024 levels, and writes, as most of what is to come, no more than 254.
    if body.count(b"[") + body.count(b"{") > _SHALLOW:
        try:
            orjson.dumps(value)
        except orjson.JSONEncodeError as err:
            raise Refusal(400, f"Failed to parse the request body as JSON: {err}") from None
    try:
        return convert(value, type_, "request", from_lua=False, most=_EXPLAINED)
    except OptionError as err:
        text = f"Failed to deserialize the JSON body into the target type: {err}"
        raise Refusal(422, text) from None


def _inflated(body: bytes, window: int, max_size: int) -> bytes:
    unpacking = zlib.decompressobj(window)
    try:
        content = unpacking.decompress(body, max_size + 1)
    except zlib.error as err:
        raise Refusal(400, f"the request body cannot be decompressed: {err}") from None
    if len(content) > max_size:
        raise too_large()
    if not unpacking.eof:
        raise Refusal(400, "the request body cannot be decompressed: it is cut off")
    return content


def _unpacked_zstd(body: bytes, max_size: int) -> bytes:
    """What is cut off is no JSON, so that it needs no finding out here. Raises Refusal."""
    unpacking = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    try:
        content = unpacking.stream_reader(body, read_across_frames=True).read(max_size + 1)
    except zstandard.ZstdError as err:
        raise Refusal(400, f"the request body cannot be decompressed: {err}") from None
    if len(content) > max_size:
        raise too_large()
    return content
