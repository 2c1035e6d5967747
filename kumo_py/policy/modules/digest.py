"""The `kumo.digest` module: hashes, checksums and message authentication codes."""

from __future__ import annotations

import hashlib
import hmac
import zlib
from typing import TYPE_CHECKING

import orjson
from cryptography.hazmat.primitives import hashes

from kumo_py.core.encodings import ENCODINGS
from kumo_py.policy.conversion import plain
from kumo_py.policy.key_sources import load_key
from kumo_py.policy.modules.secrets import KEY_SOURCE
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.core.key_source import KeySource
    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.conversion import LuaValue

digest = Owner("kumo.digest")


class Digest:
    """What a hash function made."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


result = Kind("digest", Digest)


class _Hashed:
    """What is hashed: a string's bytes; the JSON of anything else, with sorted keys."""

    name = "any"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> bytes:
        if type(raw) is bytes:
            return raw
        return orjson.dumps(plain(ctx, raw), option=orjson.OPT_SORT_KEYS)

    def to_lua(self, ctx: LuaContext, value: bytes) -> LuaValue:
        raise NotImplementedError


_PARTS = Param("values", _Hashed(), rest=True)
_LATER = "2025.12.02-67ee9e96"


def _sha512_256(data: bytes) -> bytes:
    made = hashes.Hash(hashes.SHA512_256())  # hashlib has it only where OpenSSL lets it
    made.update(data)
    return made.finalize()


_HASHES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "sha1": (lambda data: hashlib.sha1(data, usedforsecurity=False).digest(), "-"),
    "sha224": (lambda data: hashlib.sha224(data).digest(), _LATER),
    "sha256": (lambda data: hashlib.sha256(data).digest(), "-"),
    "sha384": (lambda data: hashlib.sha384(data).digest(), "-"),
    "sha512": (lambda data: hashlib.sha512(data).digest(), "-"),
    "sha512_256": (_sha512_256, "-"),
    "sha3_256": (lambda data: hashlib.sha3_256(data).digest(), _LATER),
    "sha3_384": (lambda data: hashlib.sha3_384(data).digest(), _LATER),
    "sha3_512": (lambda data: hashlib.sha3_512(data).digest(), _LATER),
    "crc32": (lambda data: zlib.crc32(data).to_bytes(4, "big"), "-"),
}


def _declare_hash(name: str, compute: Callable[[bytes], bytes], since: str) -> None:
    def hashed(ctx: LuaContext, *parts: bytes) -> Digest:
        return Digest(compute(b"".join(parts)))

    hashed.__doc__ = (
        f"The {name} of all arguments, one behind the other; what is no string counts as its JSON."
    )
    digest.function(name, _PARTS, result=result.type, since=since)(hashed)


def _declare_hmac(name: str) -> None:
    async def authenticated(ctx: LuaContext, key: KeySource, message: bytes) -> Digest:
        return Digest(hmac.digest(await load_key(ctx.env, key), message, name))

    authenticated.__doc__ = (
        f"The HMAC (RFC 2104) of a message with {name} and a key, of which a key source tells."
    )
    digest.function(
        f"hmac_{name}",
        Param("key", KEY_SOURCE),
        Param("message", BYTES),
        result=result.type,
        since=_LATER,
    )(authenticated)


def _declare_field(name: str) -> None:
    encoding = ENCODINGS[name]

    def text(ctx: LuaContext, made: Digest) -> bytes:
        return encoding.encode(made.data)

    text.__doc__ = f"Its bytes as {name}."
    result.field(name, BYTES)(text)


for _name, (_compute, _since) in _HASHES.items():
    _declare_hash(_name, _compute, _since)
for _name in ("sha1", "sha224", "sha256", "sha384", "sha512"):
    _declare_hmac(_name)
for _name in ENCODINGS:
    _declare_field(_name)


@result.field("bytes", BYTES)
def bytes_(ctx: LuaContext, made: Digest) -> bytes:
    """Its bytes as they are."""
    return made.data


@result.meta("tostring", result=BYTES)
def tostring(ctx: LuaContext, made: Digest) -> bytes:
    """Its bytes as hex."""
    return ENCODINGS["hex"].encode(made.data)
