"""Charsets by the names that mail has for them, and guessed where it has none."""

from __future__ import annotations

import codecs

import pytest

from kumo_py.message.charset import decode, find_codec
from kumo_py.message.charset_detection import ENCODINGS, detected
from kumo_py.message.headers import decoded


@pytest.mark.parametrize(
    ("charset", "octets", "text"),
    [
        ("UTF-8", b"\xc3\xbc", "ü"),
        ("us-ascii", b"x", "x"),
        ("ISO-8859-1", b"\xfc\x80", "ü€"),  # windows-1252, which senders mean
        ("latin1", b"\xfc\x81", "ü\x81"),  # undefined there
        ("iso_8859-15", b"\xa4", "€"),
        ("windows-1251", b"\xcf", "П"),
        ("KOI8-R", b"\xf0", "П"),
        ("gb2312", b"\x81\x30\x81\x30\xc4\xe3", "\x80你"),
        ("x-gbk", b"\xc4\xe3", "你"),
        ("Big5", b"\xa7A", "你"),
        ("Shift_JIS", b"\x87\x40\x93\xfa", "①日"),
        ("euc-jp", b"\xc6\xfc", "日"),
        ("ISO-2022-JP", b"\x1b$BF|\x1b(B", "日"),
        ("ks_c_5601-1987", b"\xb0\xa1\x81\x41", "가갂"),
        ("macintosh", b"\x8a", "ä"),
        ("tis-620", b"\xa1", "ก"),
    ],
)
def test_charsets_are_decoded(charset: str, octets: bytes, text: str) -> None:
    assert decode(octets, charset) == text


@pytest.mark.parametrize(
    "charset", ["", "x-unknown", "rot13", "base64", "idna", "unicode_escape", "a" * 10_000]
)
def test_what_is_no_charset_of_mail_is_not_known(charset: str) -> None:
    assert find_codec(charset) is None
    with pytest.raises(ValueError, match="unsupported charset"):
        decode(b"x", charset)


def test_octets_of_another_charset_are_refused() -> None:
    for charset, octets in (("us-ascii", b"\xff"), ("utf-8", b"\xff"), ("gb18030", b"\xff")):
        with pytest.raises(ValueError, match="decode"):
            decode(octets, charset)


def test_all_that_is_guessed_exists() -> None:
    for name in ENCODINGS:
        codec = find_codec(name)
        assert codec is not None
        codecs.lookup(codec)


def test_headers_know_the_same_charsets() -> None:
    assert (
        decoded(b"=?x-gbk?B?xOM=?= =?iso-8859-1?Q?=80?= =?x-unknown?Q?=80?=")
        == "你€ =?x-unknown?Q?=80?=".encode()
    )


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("windows-1252", "Déjà vu à la fenêtre, où est mon café?"),
        ("windows-1252", "Grüße aus München, schöne Straße"),
        ("windows-1251", "Привет, как дела? Это письмо написано по-русски."),
        ("koi8-r", "Привет, как дела? Это письмо написано по-русски."),
        ("windows-1253", "Καλημέρα, αυτό είναι ένα δοκιμαστικό μήνυμα."),
        ("windows-1256", "مرحبا، هذه رسالة اختبار"),
        ("windows-874", "สวัสดีครับ นี่คือข้อความทดสอบ"),
        ("shift_jis", "こんにちは、これはテストメールです。日本語の文章。"),
        ("euc-jp", "こんにちは、これはテストメールです。日本語の文章。"),
        ("iso-2022-jp", "こんにちは、これはテストメールです。"),
        ("gb18030", "你好,这是一封测试邮件,我们正在检查字符集。"),
        ("big5", "你好,這是一封測試郵件,我們正在檢查字元集。"),
        ("euc-kr", "안녕하세요, 이것은 시험 메일입니다. 감사합니다."),
        ("utf-8", "日本語 café"),
        ("utf-16le", "\ufeffplain"),
    ],
)
def test_charsets_are_guessed(charset: str, text: str) -> None:
    assert detected(text.encode(find_codec(charset) or "")) == text


def test_guesses_keep_to_what_is_allowed() -> None:
    octets = "Grüße aus München".encode("cp1252")
    assert detected(octets, include=["windows-1251", "latin1"]) == "Grüße aus München"
    assert detected(octets, include=["utf-8"]) is None
    assert detected(octets, exclude=["windows-1252"]) != "Grüße aus München".encode().decode("cp1251")
    assert detected(b"\xfc") is None
    with pytest.raises(ValueError, match="did you mean 'windows-1252'"):
        detected(octets, exclude=["window-1252"])


def test_a_sample_may_end_within_a_character() -> None:
    for fill in range(4):
        text = "x" * fill + "日本語の文章です。" * 2000
        assert detected(text.encode()) == text
        assert detected(text.encode("cp932")) == text
