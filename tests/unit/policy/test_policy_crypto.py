"""kumo.crypto: AES, and AWS's signatures with the vectors that AWS publishes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from policy_host import run

from kumo_py.auth.aws_sigv4 import Credentials, sign
from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from policy_host import MakePolicy


# -- AES ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("algorithm", ["Cbc", "Ecb"])
@pytest.mark.parametrize("key", ["0123456789abcdef", "0123456789abcdef" * 2, "\\255" * 16])
async def test_what_is_encrypted_can_be_decrypted(policy: MakePolicy, algorithm: str, key: str) -> None:
    result = await run(
        policy,
        f"""
        local key = {{ key = {{ key_data = '{key}' }} }}
        local seen = {{}}
        for n = 0, 33 do
          local text = ('\\0\\255x'):rep(n)
          local encrypted = kumo.crypto.aes_encrypt_block('{algorithm}', text, key)
          seen[n + 1] = kumo.crypto.aes_decrypt_block('{algorithm}', encrypted, key).bytes == text
          assert(#encrypted == (#text // 16 + 1) * 16 + ('{algorithm}' == 'Cbc' and 16 or 0))
        end
        return seen
        """,
    )
    assert result == [True] * 34


async def test_known_answers(policy: MakePolicy) -> None:
    """NIST SP 800-38A, F.1.1 and F.2.1: the first block; for CBC it is decrypted with the padding that we add."""
    result = await run(
        policy,
        r"""
        local key = { key = { key_data = '\x2b\x7e\x15\x16\x28\xae\xd2\xa6\xab\xf7\x15\x88\x09\xcf\x4f\x3c' } }
        local block = '\x6b\xc1\xbe\xe2\x2e\x40\x9f\x96\xe9\x3d\x7e\x11\x73\x93\x17\x2a'
        local ecb = kumo.crypto.aes_encrypt_block('Ecb', block, key)
        local cbc = kumo.crypto.aes_encrypt_block('Cbc', block, key)
        local other = kumo.crypto.aes_encrypt_block('Cbc', block, key)
        return {
          ecb:sub(1, 16) == '\x3a\xd7\x7b\xb4\x0d\x7a\x36\x60\xa8\x9e\xca\xf3\x24\x66\xef\x97',
          cbc ~= other, -- the vector is random
          kumo.crypto.aes_decrypt_block('Cbc', cbc, key).hex,
        }
        """,
    )
    assert result == [True, True, "6bc1bee22e409f96e93d7e117393172a"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "aes_encrypt_block('Ctr', 'x', key)",
            "argument 'algorithm' must be 'Cbc' or 'Ecb', got string 'Ctr'",
        ),
        (
            "aes_encrypt_block('Cbc', 'x', { key = { key_data = 'short' } })",
            "16 or 32 octets, this one has 5",
        ),
        ("aes_encrypt_block('Cbc', nil, key)", "argument 'plaintext' must be a string, got nil"),
        ("aes_encrypt_block('Cbc', 'x', { kee = 'x' })", "unknown option 'kee' (did you mean 'key'?)"),
        (
            "aes_encrypt_block('Cbc', 'x', { key = 'no/such/file' })",
            "no/such/file: No such file or directory",
        ),
        ("aes_decrypt_block('Cbc', 'too short', key)", "begins with 16 octets of initialization vector"),
        ("aes_decrypt_block('Ecb', 'not blocks', key)", "not what was encrypted with this key and algorithm"),
        (
            "aes_decrypt_block('Ecb', ('x'):rep(16), key)",
            "not what was encrypted with this key and algorithm",
        ),
    ],
)
async def test_what_aes_refuses(policy: MakePolicy, code: str, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, f"local key = {{ key = {{ key_data = '0123456789abcdef' }} }}\nkumo.crypto.{code}")
    assert "policy.lua:4: kumo.crypto." in str(caught.value)
    assert words in str(caught.value)


# -- AWS ---------------------------------------------------------------------------------------------------------
_SUITE = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


@pytest.mark.parametrize(
    ("method", "path", "params", "headers", "payload", "signature"),
    [
        ("GET", "/", [], {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", [], {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET",
            "/",
            [("Param2", "value2"), ("Param1", "value1")],
            {},
            b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET",
            "/",
            [("\u1234", "bar")],
            {},
            b"",
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        ),
        ("GET", "/\u1234", [], {}, b"", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        (
            "GET",
            "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            [],
            {},
            b"",
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        (
            "GET",
            "/",
            [],
            {"My-Header1": " value1", "My-Header2": ' "a   b   c"'},
            b"",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "POST",
            "/",
            [],
            {"My-Header1": "value1"},
            b"",
            "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
        ),
        (
            "POST",
            "/",
            [],
            {"Content-Type": "application/x-www-form-urlencoded"},
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
)
def test_vectors_of_aws(
    method: str,
    path: str,
    params: list[tuple[str, str]],
    headers: dict[str, str],
    payload: bytes,
    signature: str,
) -> None:
    signed = sign(
        _SUITE,
        region="us-east-1",
        service="service",
        method=method,
        path=path,
        params=params,
        headers={"Host": "example.amazonaws.com", **headers},
        payload=payload,
        when=datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
    )
    assert signed.signature == signature, signed.canonical_request


async def test_the_example_of_the_s3_documentation(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local r = kumo.crypto.aws_sign_v4 {
          access_key = { key_data = 'AKIAIOSFODNN7EXAMPLE' },
          secret_key = { key_data = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' },
          region = 'us-east-1', service = 's3', method = 'GET', uri = '/test.txt',
          headers = { host = 'examplebucket.s3.amazonaws.com', Range = 'bytes=0-9' },
          timestamp = '2013-05-24T00:00:00Z',
        }
        return { r.authorization, r.timestamp, r.signature, r.canonical_request, r.string_to_sign }
        """,
    )
    signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert result == [
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature={signature}",
        "20130524T000000Z",
        signature,
        f"GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\nx-amz-content-sha256:{empty}\n"
        f"x-amz-date:20130524T000000Z\n\nhost;range;x-amz-content-sha256;x-amz-date\n{empty}",
        "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n"
        "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972",
    ]


async def test_a_session_token_and_the_present_time(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local r = kumo.crypto.aws_sign_v4 {
          access_key = { key_data = 'A' }, secret_key = { key_data = 'B' }, session_token = 'temporary',
          region = 'us-east-1', service = 'sts', method = 'POST', uri = '', headers = { HOST = 'h' },
          query_params = { b = '1 2', a = '~*' }, payload = '\\255',
        }
        return { r.timestamp, r.canonical_request }
        """,
    )
    timestamp, canonical = result
    assert canonical.startswith(
        f"POST\n/\na=~%2A&b=1%202\nhost:h\nx-amz-date:{timestamp}\nx-amz-security-token:temporary\n\n"
    )
    assert canonical.endswith("a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("headers = {}", "headers must include 'host'"),
        ("timestamp = '2013-05-24T00:00:00'", "timestamp"),
        ("access_key = { key_data = '\\255' }", "access_key and secret_key must be UTF-8 text"),
        ("sevrice = 's3'", "unknown option 'sevrice' (did you mean 'service'?)"),
    ],
)
async def test_what_cannot_be_signed(policy: MakePolicy, option: str, words: str) -> None:
    given = (
        "local p = { access_key = { key_data = 'A' }, secret_key = { key_data = 'B' }, region = 'r', service = 's', "
        f"method = 'GET', uri = '/', headers = {{ host = 'h' }} }}\nfor k, v in pairs {{ {option} }} do p[k] = v end\n"
    )
    with pytest.raises(PolicyError) as caught:
        await run(policy, given + "kumo.crypto.aws_sign_v4(p)")
    assert "policy.lua:5: kumo.crypto.aws_sign_v4: " in str(caught.value)
    assert words in str(caught.value)
