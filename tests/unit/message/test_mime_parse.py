"""Messages as trees of parts: written as they were read, changed where they were changed."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kumo_py.message.headers import HeaderError
from kumo_py.message.mime import Conformance, MimeError, Part, new_multipart, new_text, parse

ALTERNATIVE = (
    b"Subject: This is a test\r\n"
    b"Content-Type: multipart/alternative; boundary=foobar\r\n"
    b"Mime-Version: 1.0\r\n"
    b"Date: Sun, 02 Oct 2016 07:06:22 -0700 (PDT)\r\n"
    b"\r\n"
    b"preamble\r\n"
    b"--foobar \r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n"
    b"\r\n"
    b"In utf-8, with a Euro: =E2=82=AC\r\n"
    b"--foobar\r\n"
    b"Content-Type: text/html\r\n"
    b"Content-Transfer-Encoding: base64\r\n"
    b"\r\n"
    b"PGI+SGk8L2I+ \r\n"
    b"--foobar--\r\n"
    b"epilogue\r\n"
)


def test_a_message_is_read_as_its_parts() -> None:
    root = parse(ALTERNATIVE)
    assert root.content_type is not None
    assert root.content_type.get("Boundary") == "foobar"
    assert [part.body for part in root.parts] == ["In utf-8, with a Euro: €\r\n", "<b>Hi</b>"]
    assert root.parts[1].raw_body == b"PGI+SGk8L2I+ \r\n"
    assert root.raw_body == root.body == b""
    assert [header.name for header in root.headers] == [b"Subject", b"Content-Type", b"Mime-Version", b"Date"]
    assert root.to_bytes() == ALTERNATIVE


def test_only_what_was_changed_is_written_anew() -> None:
    root = parse(ALTERNATIVE)
    root.headers.prepend("X-First", "at the top")
    root.headers.append("X-Last", "at the end")
    root.headers.remove_all_named("DATE")
    root.parts[0].headers.append("X-Part", "one")
    assert root.to_bytes() == (
        b"X-First: at the top\r\n"
        + ALTERNATIVE.replace(
            b"Date: Sun, 02 Oct 2016 07:06:22 -0700 (PDT)\r\n", b"X-Last: at the end\r\n"
        ).replace(b"quoted-printable\r\n", b"quoted-printable\r\nX-Part: one\r\n")
    )


def test_parts_are_removed_and_added() -> None:
    root = parse(ALTERNATIVE)
    del root.parts[0]
    root.parts.append(new_text("text/x-more", "no line end"))
    root.parts.append(parse(b"\r\nHi"))
    plain = ALTERNATIVE.index(b"--foobar \r\n")
    html = ALTERNATIVE.index(b"--foobar\r\n")
    assert root.to_bytes() == ALTERNATIVE[:plain] + ALTERNATIVE[html:].replace(
        b"--foobar--",
        b'--foobar\r\nContent-Type: text/x-more;\r\n\tcharset="us-ascii"\r\n\r\nno line end\r\n'
        b"--foobar\r\n\r\nHi\r\n--foobar--",
    )


def test_a_changed_boundary_is_used() -> None:
    root = parse(ALTERNATIVE)
    root.headers.set("Content-Type", "multipart/mixed; boundary=other")
    written = root.to_bytes()
    assert b"foobar" not in written
    assert written.endswith(b"--other--\r\nepilogue\r\n")
    assert [part.body for part in parse(written).parts] == [part.body for part in root.parts]


def test_a_body_is_replaced_with_the_encoding_it_needs() -> None:
    part = parse(b"Subject: x\r\nContent-Type: text/plain; charset=latin-1\r\n\r\n\xfc\r\n")
    assert part.body == "ü\r\n"
    part.body = "a line\r\n" * 3
    assert part.to_bytes() == (
        b'Subject: x\r\nContent-Type: text/plain;\r\n\tcharset="us-ascii"\r\n\r\n' + b"a line\r\n" * 3
    )
    part.body = "x" * 80 + "€"
    assert part.raw_body == b"x" * 75 + b"=\r\n" + b"x" * 5 + b"=E2=82=AC\r\n"
    assert part.body == "x" * 80 + "€\r\n"
    part.body = "日本語"
    assert part.raw_body == b"5pel5pys6Kqe\r\n"
    part.body = b"\xff\xfe"
    assert part.transfer_encoding == "base64"
    assert part.content == b"\xff\xfe"
    part.body = "--b" + "x" * 72 + "--b\r\n--=c"
    assert part.raw_body == b"=2D-b" + b"x" * 67 + b"=\r\n" + b"x" * 5 + b"=\r\n=2D-b\r\n=2D-=3Dc\r\n"
    assert part.body == "--b" + "x" * 72 + "--b\r\n--=c\r\n"
    part.body = " trailing \t\r\nlone\nline\rends.\r\n.\r\n"
    assert part.raw_body == b" trailing =09\r\nlone=0Aline=0Dends.\r\n=2E\r\n"
    assert part.body == " trailing \t\r\nlone\nline\rends.\r\n.\r\n"


def test_a_body_takes_the_place_of_parts() -> None:
    root = parse(ALTERNATIVE)
    root.body = "no parts"
    assert root.parts == []
    assert root.media_type == "text/plain"
    assert root.to_bytes().endswith(b"\r\n\r\nno parts\r\n")


def test_text_of_another_charset_than_it_says_is_utf_8_or_octets() -> None:
    assert parse(b"\r\ngr\xc3\xbcn").body == "grün"
    assert parse(b"\r\ngr\xfcn").body == b"gr\xfcn"
    assert parse(b"Content-Type: text/x; charset=unheard-of\r\n\r\ngr\xc3\xbcn").body == "grün"
    with pytest.raises(MimeError, match="base64 decode"):
        _ = parse(b"Content-Transfer-Encoding: base64\r\n\r\nhello\r\n").body


def test_base64_need_not_be_canonical() -> None:
    message = b"Content-Type: a/b\r\nContent-Transfer-Encoding: BASE64\r\n\r\n aH Rt\tbD4NCi==\r\n"
    assert parse(message).body == b"html>\r\n"


def test_what_has_parts_needs_a_boundary() -> None:
    part = new_text("text/plain", "x")
    part.parts.append(new_text("text/plain", "y"))
    with pytest.raises(MimeError, match="no Content-Type with a boundary"):
        part.to_bytes()


def test_a_part_may_lose_all_headers() -> None:
    part = new_text("text/plain", "x")
    part.headers.remove_all_named("content-type")
    assert part.to_bytes() == b"\r\nx\r\n"
    part = parse(b"A: b\r\n\r\nx")
    part.headers.remove_all_named("a")
    assert part.to_bytes() == b"\r\nx"


def test_boundaries_are_beginnings_of_lines_and_the_outer_ones_count() -> None:
    inner = (
        b"Content-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\n\r\none\r\n--in\r\n x--inner\r\n"
    )
    message = (
        b"Content-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\n"
        + inner
        + b"--outer?\r\n\r\ntwo\r\n--out--"
    )
    root = parse(message)
    assert [part.media_type for part in root.parts] == ["multipart/mixed", "text/plain"]
    assert root.parts[0].parts[0].raw_body == b"one\r\n--in\r\n x--inner\r\n"
    assert root.parts[1].raw_body == b"two\r\n"
    assert root.to_bytes() == message


def test_copies_live_on_their_own() -> None:
    root = parse(ALTERNATIVE)
    twin = root.copy()
    twin.parts[0].body = "changed"
    twin.headers.append("X", "y")
    assert root.to_bytes() == ALTERNATIVE
    assert root.copy().to_bytes() == ALTERNATIVE
    assert twin.parts[0].body == "changed\r\n"


# -- headers ---------------------------------------------------------------------------------------------------
def test_headers_that_are_none_end_the_headers_or_are_refused() -> None:
    for block, problem in (
        (b" x: folded\r\n", "must not start with spaces"),
        (b"A: b\r\n\rx", "lone CR"),
        ("Größe: x\r\n".encode(), "printable US-ASCII"),
        (b"A: b\r\nX\r\n folded: y\r\n", "must not start with spaces"),
    ):
        root = parse(block)
        assert root.to_bytes() == block
        assert Conformance.MISSING_COLON_VALUE in root.conformance
        with pytest.raises(MimeError, match=problem):
            parse(block, strict=True)


def test_odd_headers_are_kept() -> None:
    block = b"Subject\r\nOther:\r\nFrom : a@b\r\nX y: z\r\nTo:   b@c\r\n  \r\n d@e\r\n\r\nbody"
    root = parse(block, strict=True)
    assert [(header.name, header.raw_value) for header in root.headers] == [
        (b"Subject", b""),
        (b"Other", b""),
        (b"From", b"a@b"),
        (b"X", b"z"),
        (b"To", b"b@c\r\n  \r\n d@e"),
    ]
    assert root.headers.to_bytes() + b"\r\nbody" == block
    flags = Conformance.MISSING_COLON_VALUE | Conformance.NAME_ENDS_WITH_SPACE
    assert root.conformance & flags == flags


def test_new_headers_get_the_line_ends_of_the_message() -> None:
    root = parse(b"A: b\n\nbody\n")
    root.headers.append("C", "d")
    assert root.to_bytes() == b"A: b\nC: d\n\nbody\n"
    root = parse(b"A: b")
    root.headers.append("C", "d")
    assert root.to_bytes() == b"A: b\r\nC: d\r\n\r\n"


def test_a_header_is_set_in_the_place_of_the_first() -> None:
    root = parse(b"message-id: <a@b>\r\nX: y\r\nMessage-ID: <c@d>\r\n\r\n")
    root.headers.set("Message-ID", "<e@f>")
    assert root.to_bytes() == b"message-id: <e@f>\r\nX: y\r\nMessage-ID: <c@d>\r\n\r\n"
    with pytest.raises(HeaderError, match="invalid header 'Message-ID'"):
        root.headers.set("Message-ID", "no brackets")
    root.headers.set("From", "André <a@b>")
    assert root.headers.first("from").raw_value == b"=?UTF-8?q?Andr=C3=A9?= <a@b>"  # type: ignore[union-attr]


# -- conformance -----------------------------------------------------------------------------------------------
WHOLE = b"Date: Tue, 1 Jul 2003 10:52:37 +0200\r\nMessage-ID: <a@b>\r\nMime-Version: 1.0\r\n"


@pytest.mark.parametrize(
    ("message", "flags"),
    [
        (WHOLE + b"\r\nbody\r\n", ""),
        (b"\r\n", "MISSING_DATE_HEADER|MISSING_MESSAGE_ID_HEADER|MISSING_MIME_VERSION"),
        (WHOLE.replace(b"1.0", b"2.0") + b"\r\n", "MISSING_MIME_VERSION"),
        (WHOLE.replace(b"Tue", b"Wed") + b"\r\n", "MISSING_DATE_HEADER"),
        (WHOLE.replace(b"<a@b>", b"<<a@b>>") + b"\r\n", "MISSING_MESSAGE_ID_HEADER"),
        (WHOLE + b"\r\n" + b"x" * 76 + b"\r\n", ""),
        (WHOLE + b"\r\n" + b"x" * 77 + b"\r\n", "LINE_TOO_LONG"),
        (WHOLE + b"\r\n" + b"x" * 77, ""),
        (WHOLE + b"\r\n\xc3\xbc", "NEEDS_TRANSFER_ENCODING"),
        (WHOLE + b"\r\na\nb", "NON_CANONICAL_LINE_ENDINGS"),
        (WHOLE + b"\r\na\rb", "NON_CANONICAL_LINE_ENDINGS"),
        (WHOLE + b"Content-Disposition: a; filename=@\r\n\r\n", "INVALID_MIME_HEADERS"),
        (WHOLE + b"Content-Transfer-Encoding: 9bit\r\n\r\n", "INVALID_MIME_HEADERS"),
        (
            WHOLE
            + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-ID: x\r\nA :b\r\n\r\n--b--\r\n",
            "INVALID_MIME_HEADERS|NAME_ENDS_WITH_SPACE",
        ),
    ],
)
def test_what_does_not_conform_is_flagged(message: bytes, flags: str) -> None:
    root = parse(message)
    assert root.conformance.to_text() == flags
    assert Conformance.from_text(flags) == root.conformance
    assert root.to_bytes() == message


def test_conformance_is_of_what_was_parsed() -> None:
    root = parse(ALTERNATIVE.replace(b"\r\n--", b"\n--"))
    flags = root.copy().conformance
    root.headers.remove_all_named("Content-Type")
    for part in root.parts:
        part.body = "new"
    assert root.conformance == flags
    assert Conformance.NON_CANONICAL_LINE_ENDINGS in flags
    assert new_text("text/plain", "ü\n").conformance == Conformance(0)


def test_deep_conformance_looks_into_encoded_text() -> None:
    message = (
        WHOLE + b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n2KrYs9iqDQoNCg==\r\n"
    )
    root = parse(message)
    assert root.conformance == Conformance(0)
    assert root.deep_conformance() == Conformance.NEEDS_TRANSFER_ENCODING
    assert parse(message.replace(b"2Kr", b"?!")).deep_conformance() == Conformance.NEEDS_TRANSFER_ENCODING


def test_a_flag_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"'LINE_TO_LONG', did you mean 'LINE_TOO_LONG'\?"):
        Conformance.from_text("MISSING_COLON_VALUE|LINE_TO_LONG")


# -- any input -------------------------------------------------------------------------------------------------
_PIECES = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"--b", b"--b--", b"\n--b\n", b"\r\n--b--\r\n", b"--", b"--bc",
    b" ", b"x", b"a: b\r\n", b": ", b"\xff", b"\t", b"Content-Type: multipart/mixed; boundary=b\r\n",
    b'Content-Type: multipart/x;\r\n\tboundary="bc"\r\n\r\n', b"Content-Type: message/rfc822; boundary=b\n\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b'Content-Disposition: inline; filename="\r\0.txt"\r\n', b"Content-ID: <\0>\r\n",
    b"From: =?utf-8?q?=0D=0A?= <a@b>\n",
    b"Content-Type: text/plain; charset=utf-8\r\n",
]  # fmt: skip
_messages = st.binary() | st.lists(st.sampled_from(_PIECES) | st.binary(max_size=3), max_size=30).map(
    b"".join
)


@settings(max_examples=300, deadline=None)
@given(_messages)
@example(b"")
@example(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b")
@example(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b--")
@example(b"Content-Type: multipart/mixed; boundary=b\n--b\n")
def test_any_octets_are_written_as_they_were_read(data: bytes) -> None:
    root = parse(data)
    assert root.to_bytes() == data
    assert root.copy().to_bytes() == data
    assert root.conformance | root.deep_conformance() == root.deep_conformance()


@settings(max_examples=300, deadline=None)
@given(_messages)
@example(b"!\r")
def test_any_message_can_be_changed_and_rebuilt(data: bytes) -> None:
    root = parse(data)
    structure = root.simple_structure()
    if structure.text_part:
        structure.text_part.body = "new text €\r\n"
        assert structure.text_part.body == "new text €\r\n"
    root.headers.append("X-New", "header")
    again = parse(root.to_bytes())
    assert again.headers.first("X-New") is not None
    assert _shape(again) == _shape(root)
    try:
        rebuilt = root.rebuild()
    except MimeError:
        return
    written = rebuilt.to_bytes()
    assert parse(written, strict=True).to_bytes() == written
    assert _shape(parse(written)) == _shape(rebuilt)


def _shape(root: Part) -> list[int]:
    return [len(part.parts) for part in root.walk()]


def test_a_made_tree_is_written_without_recursion() -> None:
    part = new_text("text/plain", "x")
    for n in range(2000):
        part = new_multipart("multipart/mixed", [part], f"b{n}")
    assert part.to_bytes().count(b"Content-Type") == 2001
    assert part.copy().to_bytes() == part.to_bytes()
    assert part.rebuild().to_bytes() == part.to_bytes()
