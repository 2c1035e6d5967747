"""The module `kumo.digest`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy


async def run(policy: MakePolicy, code: str, more: str = "") -> Any:
    lua = policy(f"{more} kumo.on('mine', function()\n{code}\nend)")
    await lua.load()
    try:
        return await lua.ask("mine")
    finally:
        lua.close()


async def test_all_hashes_against_the_standard_library(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local d = kumo.digest
        return {
          d.sha1('abc').hex, d.sha224('abc').hex, d.sha256('abc').hex, d.sha384('abc').hex, d.sha512('abc').hex,
          d.sha3_256('abc').hex, d.sha3_384('abc').hex, d.sha3_512('abc').hex, d.sha512_256('abc').hex,
          d.crc32('abc').hex,
        }
        """,
    )
    names = ("sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512")
    assert result[:8] == [hashlib.new(name, b"abc").hexdigest() for name in names]
    # FIPS 180-4's example
    assert result[8] == "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"
    assert result[9] == f"{zlib.crc32(b'abc'):08x}" == "352441c2"


async def test_several_arguments_and_other_values(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local h = kumo.digest.sha256
        return {
          h('a', 'bc').hex, h().hex,
          h('n', 1, true, nil, 1.5, { 'x', 2 }, { b = 1, a = {} }, '\xff').hex, h(nil, nil).hex,
          kumo.digest.crc32('a', 7).hex,
        }
        """,
    )
    json = b'n1truenull1.5["x",2]{"a":{},"b":1}\xff'
    texts = (b"abc", b"", json, b"nullnull")
    assert result[:4] == [hashlib.sha256(text).hexdigest() for text in texts]
    assert result[4] == f"{zlib.crc32(b'a7'):08x}"


async def test_renderings(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local d = kumo.digest.sha1 'hello'
        return {
          tostring(d), d.hex, d.base32, d.base32_nopad, d.base32hex, d.base32hex_nopad, d.base64, d.base64_nopad,
          d.base64url, d.base64url_nopad, #d.bytes, kumo.encode.hex_encode(d.bytes) == d.hex, type(d),
          kumo.digest.sha256('x').base32, kumo.digest.sha256('x').base32_nopad,
          kumo.digest.sha256('x').base32hex_nopad,
        }
        """,
    )
    raw = hashlib.sha1(b"hello").digest()
    long = hashlib.sha256(b"x").digest()
    b64, url = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
    assert result == [
        "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d", raw.hex(), "VL2MMHO4YXUKFWV63YHTWSBM3GXKSQ2N",
        "VL2MMHO4YXUKFWV63YHTWSBM3GXKSQ2N", "LBQCC7ESONKA5MLURO7JMI1CR6NAIGQD",
        "LBQCC7ESONKA5MLURO7JMI1CR6NAIGQD", b64, b64.rstrip("="), url, url.rstrip("="), 20, True, "userdata",
        base64.b32encode(long).decode(), base64.b32encode(long).decode().rstrip("="),
        base64.b32hexencode(long).decode().rstrip("="),
    ]  # fmt: skip


async def test_message_authentication_codes(policy: MakePolicy, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"from a file\xff")
    result = await run(
        policy,
        """
        local d, key = kumo.digest, { key_data = 'your key' }
        return {
          d.hmac_sha1(key, 'your message').hex, d.hmac_sha224(key, 'm').hex, d.hmac_sha256(key, 'm').hex,
          d.hmac_sha384(key, 'm').hex, d.hmac_sha512(key, 'm').hex, d.hmac_sha256('key', 'm').hex,
          d.hmac_sha256({ event_name = 'my.key', event_args = { 'x' } }, 'm').hex,
        }
        """,
        "kumo.on('my.key', function() return 'from an event' end)",
    )
    names = ("sha224", "sha256", "sha384", "sha512")
    assert result[0] == "317d0dfd868a5c06c9444ac1328aa3e2bfd29fb2"
    assert result[1:5] == [hmac.new(b"your key", b"m", name).hexdigest() for name in names]
    assert result[5:] == [
        hmac.new(key, b"m", "sha256").hexdigest() for key in (b"from a file\xff", b"from an event")
    ]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("sha256(print)", "policy.lua:3: kumo.digest.sha256: argument 1 cannot hold a function"),
        ("sha256('a', {}, { print })", "argument 3 cannot hold a function"),
        ("sha1('a').hax", "a digest has no method or field 'hax'; did you mean hex?"),
        ("hmac_sha256({ key = 1 }, 'm')", "kumo.digest.hmac_sha256: unknown option 'key'; a key source is"),
        ("hmac_sha256('no-such-file', 'm')", "no-such-file: No such file or directory"),
        ("hmac_sha256({ key_data = 'k' })", "argument 'message' must be a string, got nil"),
        ("md5 'x'", "kumo.digest.md5 does not exist"),
    ],
)
async def test_misuse_is_explained(policy: MakePolicy, code: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, f"local _ = kumo.digest.{code}")
    assert problem in str(caught.value)
