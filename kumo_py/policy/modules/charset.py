"""kumo.encode.charset_decode and kumo.encode.charset_encode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.message.charset import decode_as, encode_as, find_codec
from kumo_py.policy.modules.encode import encode
from kumo_py.policy.registry import Param
from kumo_py.policy.types import BOOLEAN, BYTES, TEXT

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext


@encode.function(
    "charset_decode",
    Param("charset", TEXT),
    Param("bytes", BYTES),
    result=TEXT,
    since="2026.04.09-ea3b2a9b",
)
def charset_decode(ctx: LuaContext, charset: str, octets: bytes) -> str:
    """The UTF-8 text of bytes in a charset, such as 'iso-8859-1'; bytes that are not of it are an error."""
    try:
        text = decode_as(octets, _codec(charset))
        text.encode()  # UTF-7 can say half a character
    except UnicodeError as err:
        raise ValueError(f"the bytes are not {charset}: {err}") from None
    return text


@encode.function(
    "charset_encode",
    Param("charset", TEXT),
    Param("text", TEXT),
    Param("ignore_errors", BOOLEAN, optional=True),
    result=BYTES,
    since="2026.04.09-ea3b2a9b",
)
def charset_encode(ctx: LuaContext, charset: str, text: str, ignore_errors: bool | None) -> bytes:
    """The bytes of UTF-8 text in a charset. What it cannot say is left out; an error if ignore_errors is false."""
    try:
        return encode_as(text, _codec(charset), "strict" if ignore_errors is False else "ignore")
    except UnicodeError as err:
        raise ValueError(f"{charset} cannot say the text: {err}") from None


def _codec(charset: str) -> str:
    codec = find_codec(charset)
    if codec is None:
        raise ValueError(f"unknown charset '{charset[:60]}'")
    return codec
