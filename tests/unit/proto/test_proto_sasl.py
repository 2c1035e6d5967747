from base64 import b64encode

import pytest

from kumo_py.proto.command import CommandError
from kumo_py.proto.sasl import PlainCredentials, decode_plain, encode_plain


def test_plain() -> None:  # RFC 4616 §4
    assert encode_plain("tim", b"tanstaaftanstaaf") == b"AHRpbQB0YW5zdGFhZnRhbnN0YWFm"
    assert decode_plain("AHRpbQB0YW5zdGFhZnRhbnN0YWFm") == PlainCredentials("tim", "tim", "tanstaaftanstaaf")
    assert decode_plain(encode_plain("Kurt", b"xipj3plmq", "Ursel").decode()) == (
        "Ursel",
        "Kurt",
        "xipj3plmq",
    )
    assert decode_plain(encode_plain("ü", b"").decode()) == ("ü", "ü", "")


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ("*", "5.5.0 AUTH cancelled by client"),
        ("AHRp bQB0", "5.5.2 Invalid base64 response"),
        ("AHRpbQB0Y", "5.5.2 Invalid base64 response"),
        ("AHRpbQB\u00e4", "5.5.2 Invalid base64 response"),
        ("", "5.5.2 Invalid decoded PLAIN response"),
        (b64encode(b"a\0b").decode(), "5.5.2 Invalid decoded PLAIN response"),
        (b64encode(b"a\0b\0c\0d").decode(), "5.5.2 Invalid decoded PLAIN response"),
        (b64encode(b"a\0b\0\xff").decode(), "5.5.2 Invalid UTF8 in decoded PLAIN response"),
    ],
)
def test_a_bad_response_carries_its_reply(response: str, text: str) -> None:
    with pytest.raises(CommandError) as caught:
        decode_plain(response)
    assert (caught.value.code, caught.value.text) == (501, text)


@pytest.mark.parametrize("fields", [("a\0", b"b", ""), ("a", b"b\0", ""), ("a", b"b", "\0")])
def test_nul_cannot_be_sent(fields: tuple[str, bytes, str]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        encode_plain(*fields)
