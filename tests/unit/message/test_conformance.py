"""msg:check_fix_conformance: what is refused, what is repaired, and how."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.message.conformance import ConformanceError, check_fix_conformance
from kumo_py.message.header_values import UNSTRUCTURED
from kumo_py.message.mime import CheckFixSettings, Conformance, parse

HEAD = b"Date: Tue, 1 Jul 2003 10:52:37 +0200\r\nMessage-ID: <a@b.test>\r\nMime-Version: 1.0\r\n"
ALL = "|".join(Conformance.__members__)


def run(data: bytes, check: str = "", fix: str = "", **settings: object) -> bytes | None:
    return check_fix_conformance(
        data,
        Conformance.from_text(check),
        Conformance.from_text(fix),
        CheckFixSettings(**settings),  # type: ignore[arg-type]
        new_message_id=lambda: "new@id.test",
        now=1_700_000_000.9,
    )


def fixed(data: bytes, fix: str, **settings: object) -> bytes:
    repaired = run(data, "", fix, **settings)
    assert repaired is not None
    return repaired


@pytest.mark.parametrize(
    ("data", "flag"),
    [
        (HEAD + b"Subject\r\n\r\nx\r\n", "MISSING_COLON_VALUE"),
        (HEAD + b"\r\nx\n", "NON_CANONICAL_LINE_ENDINGS"),
        (HEAD + b"Subject : x\r\n\r\nx\r\n", "NAME_ENDS_WITH_SPACE"),
        (HEAD + b"\r\n" + b"x" * 79 + b"\r\n", "LINE_TOO_LONG"),
        (HEAD + "\r\nü\r\n".encode(), "NEEDS_TRANSFER_ENCODING"),
        (HEAD + b"Content-Transfer-Encoding: base64\r\n\r\nw7w=\r\n", "NEEDS_TRANSFER_ENCODING"),
        (HEAD.replace(b"Date", b"X-Date") + b"\r\n", "MISSING_DATE_HEADER"),
        (HEAD.replace(b"<a@b.test>", b"<<a@b.test>>") + b"\r\n", "MISSING_MESSAGE_ID_HEADER"),
        (HEAD.replace(b"1.0", b"1.1") + b"\r\n", "MISSING_MIME_VERSION"),
        (HEAD + b"Content-Type: ;;;\r\n\r\nx\r\n", "INVALID_MIME_HEADERS"),
    ],
)
def test_each_problem_is_found_and_repaired(data: bytes, flag: str) -> None:
    with pytest.raises(ConformanceError, match=f"^Message has conformance issues: {flag}$"):
        run(data, ALL)
    others = "|".join(set(Conformance.__members__) - {flag})
    assert run(data, others, others) is None
    repaired = fixed(data, flag)
    assert run(repaired, flag) is None
    assert run(data, flag, flag) == repaired  # what is repaired is no reason to refuse


def test_several_problems_are_named_in_order() -> None:
    with pytest.raises(ConformanceError, match=r"issues: MISSING_DATE_HEADER\|NAME_ENDS_WITH_SPACE$"):
        run(
            HEAD.replace(b"Date:", b"Dat :") + b"\r\n",
            "NAME_ENDS_WITH_SPACE|MISSING_DATE_HEADER|LINE_TOO_LONG",
        )


def test_a_conforming_message_is_left_alone() -> None:
    assert run(HEAD + b"\r\nx\r\n", ALL, ALL) is None


def test_what_is_missing_is_added_and_the_rest_stays_as_it_is() -> None:
    data = b"X-A:  1\r\nFrom :someone@b.test\r\nDate: soon\r\n\r\nBody"
    assert fixed(data, "MISSING_DATE_HEADER|MISSING_MIME_VERSION|MISSING_MESSAGE_ID_HEADER") == (
        b"X-A:  1\r\nFrom :someone@b.test\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        b"Mime-Version: 1.0\r\nMessage-ID: <new@id.test>\r\n\r\nBody"
    )
    assert b"Message-ID: <mine@x.test>\r\n" in fixed(
        data, "MISSING_MESSAGE_ID_HEADER", message_id="mine@x.test"
    )


def test_other_repairs_make_the_message_anew() -> None:
    data = HEAD + b"From :someone@b.test\nsubject: x\n\nBody" + b" long" * 20 + b"\n"
    assert fixed(data, "NAME_ENDS_WITH_SPACE") == (
        b'Content-Type: text/plain;\r\n\tcharset="us-ascii"\r\n'
        b"Content-Transfer-Encoding: quoted-printable\r\n"
        + HEAD
        + b"From: <someone@b.test>\r\nSubject: x\r\n\r\nBody"
        + b" long" * 14
        + b" =\r\nlong"
        + b" long" * 5
        + b"=0A\r\n"
    )


def test_eight_bit_text_becomes_utf8() -> None:
    repaired = parse(
        fixed(HEAD + "Subject: Grüße\r\n\r\nschöne Grüße\r\n".encode(), "NEEDS_TRANSFER_ENCODING")
    )
    assert repaired.headers.first("Subject").raw_value == b"=?UTF-8?q?Gr=C3=BC=C3=9Fe?="  # type: ignore[union-attr]
    assert repaired.body == "schöne Grüße\r\n"
    assert repaired.to_bytes().isascii()


LATIN = HEAD + "Subject: 5 £\r\nX-B: Grüße\r\n\r\nThe cost is £42.00, schöne Grüße\r\n".encode("latin-1")


def test_an_unknown_charset_is_guessed_if_wanted() -> None:
    repaired = parse(
        fixed(LATIN, "NEEDS_TRANSFER_ENCODING", detect_encoding=True, include_encodings=["iso-8859-1"])
    )
    assert repaired.headers.get("Subject", UNSTRUCTURED) == "5 £"
    assert repaired.headers.get("X-B", UNSTRUCTURED) == "Grüße"
    assert repaired.body == "The cost is £42.00, schöne Grüße\r\n"


def test_without_a_guess_headers_get_replacement_characters() -> None:
    for settings in ({}, {"detect_encoding": True, "include_encodings": ["utf-8"]}):
        repaired = parse(fixed(LATIN, "NEEDS_TRANSFER_ENCODING", **settings))
        assert repaired.headers.get("Subject", UNSTRUCTURED) == "5 \ufffd"
        assert repaired.to_bytes().isascii()


def test_a_declared_charset_is_not_guessed_again() -> None:
    data = (
        HEAD
        + b"Subject: \xcf\xf0\xe8\xe2\xe5\xf2, \xec\xe8\xf0\r\n"
        + b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\nsch\xf6n\r\n"
    )
    repaired = parse(
        fixed(data, "NEEDS_TRANSFER_ENCODING", detect_encoding=True, include_encodings=["windows-1251"])
    )
    assert repaired.headers.get("Subject", UNSTRUCTURED) == "Привет, мир"
    assert repaired.body == "schön\r\n"


def test_excluded_encodings_are_not_guessed() -> None:
    repaired = parse(
        fixed(
            LATIN,
            "NEEDS_TRANSFER_ENCODING",
            detect_encoding=True,
            include_encodings=["iso-8859-1", "utf-8"],
            exclude_encodings=["iso-8859-1"],
        )
    )
    assert repaired.headers.get("Subject", UNSTRUCTURED) == "5 \ufffd"
    with pytest.raises(ValueError, match="unknown charset 'klingon'"):
        run(LATIN, "", "NEEDS_TRANSFER_ENCODING", detect_encoding=True, include_encodings=["klingon"])


def test_utf_16_in_a_header_is_left_to_rebuild() -> None:
    data = HEAD + b"Subject: \xff\xfeh\0i\0\xe9\0\r\nX-A: \xe9\xe9\r\n\r\nx\r\n"
    assert fixed(data, "NEEDS_TRANSFER_ENCODING", detect_encoding=True).isascii()


PIECES = st.sampled_from(
    [*LATIN.splitlines(keepends=True), b"Content-Type: multipart/mixed; boundary=b\r\n", b"--b\r\n", b"\n"]
)


@given(st.lists(st.one_of(PIECES, st.binary(max_size=30)), max_size=30), st.booleans())
def test_any_message_is_repaired_or_refused(pieces: list[bytes], detect: bool) -> None:
    data = b"".join(pieces)
    with contextlib.suppress(ValueError):
        repaired = run(data, "", ALL, detect_encoding=detect)
        if repaired is not None:
            assert repaired.isascii()


@pytest.mark.parametrize("filler", [b"\xff", b"\xe4 ", b"X: \xff\r\n", b"=?", b"--b\r\n\xff\r\n"])
def test_time_is_linear(filler: bytes) -> None:
    data = b"Content-Type: multipart/mixed; boundary=b\r\n" + filler * (60_000 // len(filler))
    began = time.process_time()
    with contextlib.suppress(ValueError):
        run(data, "", ALL, detect_encoding=True)
    assert time.process_time() - began < 5.0
