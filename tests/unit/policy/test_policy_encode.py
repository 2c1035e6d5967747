"""The module `kumo.encode`: base64, base32, hex."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_host import run

from kumo_py.core.encodings import ENCODINGS
from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from policy_host import MakePolicy

# RFC 4648 §10
FOOBAR = {
    "base64": ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"],
    "base32": ["", "MY======", "MZXQ====", "MZXW6===", "MZXW6YQ=", "MZXW6YTB", "MZXW6YTBOI======"],
    "base32hex": ["", "CO======", "CPNG====", "CPNMU===", "CPNMUOG=", "CPNMUOJ1", "CPNMUOJ1E8======"],
    "hex": ["", "66", "666f", "666f6f", "666f6f62", "666f6f6261", "666f6f626172"],
}


@pytest.mark.parametrize("name", ["base64", "base32", "base32hex", "hex"])
async def test_published_vectors(policy: MakePolicy, name: str) -> None:
    texts = [("foobar"[:n], text) for n, text in enumerate(FOOBAR[name])]
    for data, text in texts:
        assert ENCODINGS[name].encode(data.encode()) == text.encode()
    result = await run(
        policy,
        f"""
        local e, texts = kumo.encode, {{ {", ".join(f"['{data}'] = '{text}'" for data, text in texts)} }}
        for data, text in pairs(texts) do
          assert(e.{name}_encode(data) == text, text)
          assert(e.{name}_decode(text) == data, text)
        end
        return true
        """,
    )
    assert result is True


async def test_variants(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local e = kumo.encode
        return {
          e.base64_encode '\xfb\xff\xfe', e.base64url_encode '\xfb\xff\xfe\x00', e.base64_nopad_encode '\xfb',
          e.base64url_nopad_encode '\xfb\xff', e.base32_nopad_encode 'f', e.base32hex_nopad_encode 'f',
          e.hex_encode '\x00\xff',
        }
        """,
    )
    assert result == ["+//+", "-__-AA==", "+w", "-_8", "MY", "CO", "00ff"]
    result = await run(
        policy,
        r"""
        local e = kumo.encode
        return {
          e.base64url_decode '-_8=' == '\xfb\xff', e.base64url_nopad_decode '-_8' == '\xfb\xff',
          e.base64_nopad_decode 'Zm8', e.base32_nopad_decode 'MZXQ', e.base32hex_nopad_decode 'CPNG',
        }
        """,
    )
    assert result == [True, True, "fo", "fo", "fo"]


async def test_any_padding_will_do_where_there_may_be_some(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local d, d32 = kumo.encode.base64_decode, kumo.encode.base32_decode
        return { d 'MmVtYWls', d 'MmVtYWls=', d 'MmVtYWls===', d 'Zg', d 'Zg=', d 'Zg==', d32 'MY' }
        """,
    )
    assert result == ["2email", "2email", "2email", "f", "f", "f", "f"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("base64_decode 'Zm 8='", "kumo.encode.base64_decode: the text is not base64: byte 3 is b' '"),
        ("base64_decode 'Zm-8'", "byte 3 is b'-'"),
        ("base64url_decode 'Zm+8'", "the text is not base64url: byte 3 is b'+'"),
        ("base64_nopad_decode 'Zg=='", "the text is not base64_nopad: byte 3 is b'='"),
        ("base64_decode 'Zm9vY'", "5 characters stand for no number of bytes"),
        ("base64_decode 'Zh=='", "bits of its last character belong to no byte"),
        ("base32_decode 'my'", "byte 1 is b'm'"),
        ("base32_decode 'MZX'", "3 characters stand for no number of bytes"),
        ("base32hex_nopad_decode 'CP'", "bits of its last character belong to no byte"),
        ("hex_decode 'FF'", "the text is not hex: byte 1 is b'F'"),
        ("hex_decode 'abc'", "3 characters stand for no number of bytes"),
        ("hex_encode(nil)", "kumo.encode.hex_encode: argument 'data' must be a string, got nil"),
        ("base64_encode {}", "argument 'data' must be a string, got a table"),
    ],
)
async def test_misuse_is_explained(policy: MakePolicy, code: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, f"kumo.encode.{code}")
    assert problem in str(caught.value)
    assert "policy.lua:3: " in str(caught.value)


@given(st.binary(max_size=40))
def test_what_is_encoded_is_decoded(data: bytes) -> None:
    for encoding in ENCODINGS.values():
        assert encoding.decode(encoding.encode(data)) == data
    assert ENCODINGS["base64url"].encode(data) == base64.urlsafe_b64encode(data)
    assert ENCODINGS["base32hex_nopad"].encode(data) == base64.b32hexencode(data).rstrip(b"=")


@given(
    st.sampled_from(sorted(ENCODINGS)),
    st.binary(max_size=12) | st.text("AZaz09+/-_=", max_size=12).map(str.encode),
)
def test_a_text_is_right_or_a_value_error(name: str, text: bytes) -> None:
    encoding = ENCODINGS[name]
    with contextlib.suppress(ValueError):
        data = encoding.decode(text)
        assert encoding.encode(data).rstrip(b"=") == (text.rstrip(b"=") if encoding.padding else text)
