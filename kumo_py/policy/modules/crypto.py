"""The `kumo.crypto` module: AES, and the signatures that AWS wants."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import unquote

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.padding import PKCS7

from kumo_py.auth.aws_sigv4 import Credentials, Signature, sign
from kumo_py.core.key_source import KeySource
from kumo_py.policy.conversion import LuaValue, shown
from kumo_py.policy.key_sources import load_key
from kumo_py.policy.modules.digest import Digest
from kumo_py.policy.modules.digest import result as digest
from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import BYTES, VALUE, OptionTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kumo_py.core.url import Url
    from kumo_py.policy.context import LuaContext

crypto = Owner("kumo.crypto")

Algorithm = Literal["Cbc", "Ecb"]

_BLOCK = 16
"""Octets of an AES block, and of an initialization vector."""


class _Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class KeyOptions(_Options, frozen=True):
    """The key of aes_encrypt_block and aes_decrypt_block: 16 or 32 octets."""

    key: KeySource


class RequestSigning(_Options, frozen=True):
    """`request:aws_sign_v4`; the request itself says the rest."""

    access_key: KeySource
    secret_key: KeySource
    region: str
    service: str
    headers: dict[str, str] = {}
    payload: str | list[int] = ""
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    session_token: str | None = None


class Signing(RequestSigning, frozen=True, kw_only=True):
    """`kumo.crypto.aws_sign_v4`."""

    method: str
    uri: str
    query_params: dict[str, str] = {}


class _AlgorithmName:
    name = "'Cbc'|'Ecb'"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> Algorithm:
        if raw == b"Cbc":
            return "Cbc"
        if raw == b"Ecb":
            return "Ecb"
        raise ValueError(f"must be 'Cbc' or 'Ecb', got {shown(raw)}")

    def to_lua(self, ctx: LuaContext, value: Algorithm) -> LuaValue:
        raise NotImplementedError


# -- AES ---------------------------------------------------------------------------------------------------------
_ALGORITHM = Param("algorithm", _AlgorithmName())
_KEY = Param("key", OptionTable(KeyOptions))
_SINCE = "2025.12.02-67ee9e96"


async def _cipher_key(ctx: LuaContext, options: KeyOptions) -> AES:
    key = await load_key(ctx.env, options.key)
    if len(key) not in (16, 32):
        raise ValueError(f"an AES key has 16 or 32 octets, this one has {len(key)}")
    return AES(key)


@crypto.function("aes_encrypt_block", _ALGORITHM, Param("plaintext", BYTES), _KEY, result=BYTES, since=_SINCE)
async def aes_encrypt_block(
    ctx: LuaContext, algorithm: Algorithm, plaintext: bytes, key: KeyOptions
) -> bytes:
    """Encrypt with AES-128 or AES-256 and PKCS #7 padding; Cbc puts a random initialization vector in front."""
    cipher = await _cipher_key(ctx, key)
    padder = PKCS7(_BLOCK * 8).padder()
    padded = padder.update(plaintext) + padder.finalize()
    if algorithm == "Ecb":
        encryptor = Cipher(cipher, modes.ECB()).encryptor()
        return encryptor.update(padded) + encryptor.finalize()
    vector = os.urandom(_BLOCK)
    encryptor = Cipher(cipher, modes.CBC(vector)).encryptor()
    return vector + encryptor.update(padded) + encryptor.finalize()


@crypto.function(
    "aes_decrypt_block", _ALGORITHM, Param("ciphertext", BYTES), _KEY, result=digest.type, since=_SINCE
)
async def aes_decrypt_block(
    ctx: LuaContext, algorithm: Algorithm, ciphertext: bytes, key: KeyOptions
) -> Digest:
    """Decrypt what aes_encrypt_block made; the plain text is the result's `bytes`."""
    cipher = await _cipher_key(ctx, key)
    if algorithm == "Cbc":
        if len(ciphertext) < _BLOCK:
            raise ValueError(f"what Cbc made begins with {_BLOCK} octets of initialization vector")
        decryptor = Cipher(cipher, modes.CBC(ciphertext[:_BLOCK])).decryptor()
        ciphertext = ciphertext[_BLOCK:]
    else:
        decryptor = Cipher(cipher, modes.ECB()).decryptor()
    unpadder = PKCS7(_BLOCK * 8).unpadder()
    try:
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        return Digest(unpadder.update(padded) + unpadder.finalize())
    except ValueError:
        raise ValueError("this is not what was encrypted with this key and algorithm") from None


# -- AWS ---------------------------------------------------------------------------------------------------------
@crypto.function("aws_sign_v4", Param("params", OptionTable(Signing)), result=VALUE, since=_SINCE)
async def aws_sign_v4(ctx: LuaContext, params: Signing) -> dict[str, str]:
    """Sign a request to an AWS service: gives `authorization`, `timestamp`, and what they were made of."""
    signed = await _signature(
        ctx, params, params.method, params.uri, params.query_params.items(), params.headers
    )
    return {
        "authorization": signed.authorization,
        "timestamp": signed.timestamp,
        "canonical_request": signed.canonical_request,
        "string_to_sign": signed.string_to_sign,
        "signature": signed.signature,
    }


async def sign_request(ctx: LuaContext, params: RequestSigning, method: str, url: Url) -> Signature:
    """The signature of a request that is to be sent. Raises ValueError, OSError or KeyError."""
    # A path is encoded once more for every service but S3.
    path = unquote(url.path) if params.service == "s3" else url.path
    headers = params.headers
    if not any(name.lower() == "host" for name in headers):
        headers = {**headers, "host": url.authority}
    return await _signature(ctx, params, method, path, url.params(), headers)


async def _signature(
    ctx: LuaContext,
    params: RequestSigning,
    method: str,
    path: str,
    query: Iterable[tuple[str, str]],
    headers: dict[str, str],
) -> Signature:
    access_key = await load_key(ctx.env, params.access_key)
    secret_key = await load_key(ctx.env, params.secret_key)
    try:
        credentials = Credentials(access_key.decode(), secret_key.decode(), params.session_token)
    except UnicodeDecodeError:
        raise ValueError("access_key and secret_key must be UTF-8 text") from None
    when = params.timestamp or datetime.fromtimestamp(ctx.env.host.wall(), UTC)
    return sign(
        credentials,
        region=params.region,
        service=params.service,
        method=method,
        path=path,
        params=query,
        headers=headers,
        payload=params.payload.encode() if isinstance(params.payload, str) else bytes(params.payload),
        when=when.astimezone(UTC),
    )
