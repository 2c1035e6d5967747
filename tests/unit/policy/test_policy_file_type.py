"""kumo.file_type and the charset functions of kumo.encode."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.file_types import BINARY, TEXT, from_bytes
from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from policy_host import MakePolicy


async def run(policy: MakePolicy, body: str) -> None:
    lua = policy(f"kumo.on('main', function()\n{body}\nend)")
    await lua.load()
    await lua.ask("main")


async def test_file_types(policy: MakePolicy) -> None:
    await run(
        policy,
        r"""
        local java = kumo.file_type.from_bytes '\xCA\xFE\xBA\xBE'
        assert(java.name == 'Java class file' and java.extensions[1] == 'class')
        assert(#java.media_types == 7 and java.media_types[1] == 'application/java')
        local png = kumo.file_type.from_media_type 'IMAGE/png'
        assert(#png == 1 and png[1].name == 'Portable Network Graphics' and png[1].extensions[1] == 'png')
        assert(kumo.file_type.from_extension('.MARKDOWN')[1].media_types[1] == 'text/markdown')
        assert(#kumo.file_type.from_extension 'zip' == 2)
        assert(#kumo.file_type.from_extension 'klingon' == 0 and #kumo.file_type.from_media_type 'x/y' == 0)
        assert(kumo.file_type.from_bytes('').name == 'Plain text')
        assert(kumo.file_type.from_bytes('\0').media_types[1] == 'application/octet-stream')
        """,
    )
    with pytest.raises(
        PolicyError, match=r"policy.lua:3: kumo.file_type.from_bytes: argument 'bytes' must be a str"
    ):
        await run(policy, "kumo.file_type.from_bytes(nil)")


def zipped(*names: str, **contents: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, contents.get(name, b"x"))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "extension"),
    [
        (b"\x89PNG\r\n\x1a\n....", "png"),
        (b"GIF89a....", "gif"),
        (b"\xff\xd8\xff\xe0", "jpg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", "wav"),
        (b"%PDF-1.7", "pdf"),
        (b"\0\0\0\x18ftypmp42", "mp4"),
        (b"\0\0\0\x18ftypheic", "heic"),
        (b"MZ\x90\0", "exe"),
        (b"\x7fELF\2", "elf"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "doc"),
        (b"\0" * 257 + b"ustar\x0000", "tar"),
        (b"BEGIN:VCALENDAR\r\n", "ics"),
        (b"<!DOCTYPE html><p>", "html"),
        (b"\x1f\x8b\x08", "gz"),
        (zipped("a.txt"), "zip"),
        (zipped("[Content_Types].xml", "word/document.xml"), "docx"),
        (zipped("[Content_Types].xml", "xl/workbook.xml"), "xlsx"),
        (zipped("mimetype", mimetype=b"application/vnd.oasis.opendocument.text"), "odt"),
        (zipped("mimetype", mimetype=b"application/epub+zip"), "epub"),
        ("just wörds\r\n".encode(), "txt"),
        ("ü".encode() * 40_000, "txt"),
        (b"\xff\xfe\xfd", "bin"),
        (b"BM and more words", "txt"),
    ],
)
def test_content_is_recognised(data: bytes, extension: str) -> None:
    assert from_bytes(data).extensions[0] == extension


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=400))
def test_text_is_never_binary(text: str) -> None:
    assert from_bytes(text.encode()) is not BINARY
    assert from_bytes(text.encode() + b"\0") is not TEXT


async def test_charsets(policy: MakePolicy) -> None:
    await run(
        policy,
        r"""
        local e = kumo.encode
        assert(e.charset_decode('iso-8859-1', '\xa9') == '©')
        assert(e.charset_encode('ISO-8859-1', '©') == '\xa9')
        assert(e.charset_decode('windows-1251', '\xcf\xf0\xe8') == 'При')
        assert(e.charset_decode('shift_jis', e.charset_encode('shift_jis', '日本')) == '日本')
        assert(e.charset_encode('us-ascii', 'aéb') == 'ab')
        assert(e.charset_encode('us-ascii', 'aéb', true) == 'ab')
        """,
    )


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("charset_decode('klingon', 'x')", "charset_decode: unknown charset 'klingon'"),
        (r"charset_decode('utf-8', '\xff')", "charset_decode: the bytes are not utf-8: "),
        ("charset_decode('utf-7', '+2AA-')", "charset_decode: the bytes are not utf-7: "),
        ("charset_encode('us-ascii', 'é', false)", "charset_encode: us-ascii cannot say the text: "),
        (r"charset_encode('us-ascii', '\xff')", "charset_encode: argument 'text' must be UTF-8 text"),
    ],
)
async def test_what_is_not_of_a_charset(policy: MakePolicy, call: str, error: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, f"kumo.encode.{call}")
    assert f"policy.lua:3: kumo.encode.{error}" in str(caught.value)
