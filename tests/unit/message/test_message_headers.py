"""Header fields as bytes: found, decoded, added, removed; any input is survived in linear time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kumo_py.message.headers import (
    Field,
    HeaderError,
    append,
    decoded,
    fields,
    header_end,
    header_line,
    values_named,
    without,
)

MESSAGE = (
    b"Received: from a\r\n\tby b\r\nSubject: hello\r\nFROM : x@example.com\r\n"
    b"subject:again\r\nEmpty:\r\n\r\nTo: body\r\n"
)


def test_fields_have_names_values_and_places() -> None:
    found = list(fields(MESSAGE))
    assert [(field.name, field.value) for field in found] == [
        (b"Received", b"from a\r\n\tby b"),
        (b"Subject", b"hello"),
        (b"FROM", b"x@example.com"),
        (b"subject", b"again"),
        (b"Empty", b""),
    ]
    assert found[0] == Field(b"Received", b"from a\r\n\tby b", 0, 25)
    assert MESSAGE[found[1].start : found[1].end] == b"Subject: hello\r\n"
    assert MESSAGE[header_end(MESSAGE) :] == b"\r\nTo: body\r\n"


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"", []),
        (b"\r\nA: b\r\n", []),
        (b" A: b\r\n", []),
        (b"A: b", [b"A"]),
        (b"A: b\nB: c\n\nC: d", [b"A", b"B"]),
        (b"A: b\r\nno colon here\r\nC: d\r\n", [b"A"]),
        (b"A: b\r\n\xc3\xa9: d\r\n", [b"A"]),
        (b"A: b\rB: c\r\nD: e", [b"A", b"D"]),
        (b"A:\r\n \r\n \r\nB: c\r\n", [b"A", b"B"]),
        (b": no name\r\n", []),
    ],
)
def test_the_block_ends_where_there_is_no_field(data: bytes, names: list[bytes]) -> None:
    assert [field.name for field in fields(data)] == names


def test_values_are_found_in_whatever_case() -> None:
    assert list(values_named(MESSAGE, b"SUBJECT")) == [b"hello", b"again"]
    assert list(values_named(MESSAGE, b"to")) == []


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"plain", "plain"),
        (b"  a \t b\r\n\tc  ", "a b c"),
        ("é raw".encode(), "é raw"),
        (b"=?utf-8?q?=C3=A9_x?=", "é x"),
        (b"=?UTF-8*en?B?w6k=?=", "é"),
        (b"=?iso-8859-1?q?=E9?= and =?windows-1252?q?=80?=", "é and €"),
        (b"=?utf-8?q?a?= =?utf-8?q?b?=\r\n =?utf-8?b?Yw?=", "abc"),
        (b"=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
        (b"=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"),
        (b"=?utf-8?q?=C3?= =?iso-8859-1?q?=A9?=", "\ufffd©"),
        (b"(=?utf-8?q?a?=)", "(a)"),
        (b"x=?utf-8?q?a?==?utf-8?q?b?=y", "xaby"),
        (b"=?shift_jis?B?k/o=?=", "日"),
        # What cannot be decoded stays.
        (b"=?nonsense?q?a?=", "=?nonsense?q?a?="),
        (b"=?idna?q?a?=", "=?idna?q?a?="),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b"=?utf-8?b?a?=", "=?utf-8?b?a?="),
        (b"=?utf-8?q?a b?=", "=?utf-8?q?a b?="),
        (b"=?utf-8?q?a", "=?utf-8?q?a"),
        (b"=?= =??=", "=?= =??="),
        (b"=?utf-8?q?ok?= =?no?q?a?=", "ok =?no?q?a?="),
        (b"=?no?q?a?= =?utf-8?q?ok?=", "=?no?q?a?= ok"),
    ],
)
def test_values_are_decoded(raw: bytes, text: str) -> None:
    assert decoded(raw).decode() == text


def test_a_value_that_is_not_utf8_stays_as_it_is() -> None:
    raw = b" \xff =?utf-8?q?a?=\r\n b"
    assert decoded(raw) == raw


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (b"plain", b"X: plain\r\n"),
        (b"", b"X: \r\n"),
        (b"ends\r\n", b"X: ends\r\n"),
        (b"folded\r\n\tvalue", b"X: folded\r\n\tvalue\r\n"),
        ("é".encode(), b"X: \xc3\xa9\r\n"),
        (b"\xff", b"X: \xff\r\n"),
    ],
)
def test_lines_as_given(value: bytes, line: bytes) -> None:
    assert header_line(b"X", value) == line


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (b"short", b"short"),
        ("👾".encode(), b"=?UTF-8?q?=F0=9F=91=BE?="),
        ("é a_b".encode(), b"=?UTF-8?q?=C3=A9_a=5Fb?="),
        (b"A" * 1500, b"A" * 900 + b"\r\n\t" + b"A" * 600),
        (b"hello there " * 10, (b"hello there " * 6).strip() + b"\r\n\t" + (b"hello there " * 4).strip()),
        (b"\xff", b"\xff"),
    ],
)
def test_lines_that_are_encoded(value: bytes, raw: bytes) -> None:
    assert header_line(b"X", value, encode=True) == b"X: " + raw + b"\r\n"


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"\xc3\xa9", b"\0", b"a\t", b"x" * 901])
def test_bad_names_are_refused(name: bytes) -> None:
    with pytest.raises(HeaderError, match="is not a header name"):
        header_line(name, b"v")


@pytest.mark.parametrize(
    "value",
    [
        b"a\nb",
        b"a\rb",
        b"a\0b",
        b"a\r\nB: c",
        b"a\r\n\r\nb",
        b"a\r\n \r\n b",
        b"a\r\n ",
        b"a\r\n\r\n",
        b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("encode", [True, False])
def test_bad_values_are_refused(value: bytes, encode: bool) -> None:
    with pytest.raises(HeaderError, match="NUL, CR or LF"):
        header_line(b"X", value, encode=encode)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"A: b\r\n\r\nbody", b"A: b\r\nX: y\r\n\r\nbody"),
        (b"\r\nbody", b"X: y\r\n\r\nbody"),
        (b"A: b\r\n", b"A: b\r\nX: y\r\n\r\n"),
        (b"A: b", b"A: b\r\nX: y\r\n\r\n"),
        (b"", b"X: y\r\n\r\n"),
        (b"only a body", b"X: y\r\n\r\nonly a body"),
        (b"A: b\n\nbody", b"A: b\nX: y\r\n\nbody"),
    ],
)
def test_append(before: bytes, after: bytes) -> None:
    assert append(before, b"X: y\r\n") == after


def test_without() -> None:
    assert without(MESSAGE, lambda field: field.name.lower() == b"subject") == (
        b"Received: from a\r\n\tby b\r\nFROM : x@example.com\r\nEmpty:\r\n\r\nTo: body\r\n"
    )
    assert without(MESSAGE, lambda field: False) is MESSAGE
    assert without(MESSAGE, lambda field: True) == b"\r\nTo: body\r\n"


# -- any input -------------------------------------------------------------------------------------------------
HEADERISH = st.lists(
    st.sampled_from(
        [b"A", b"x-y", b":", b": ", b" ", b"\t", b"\r\n", b"\n", b"\r", b"=?", b"?=", b"?q?", b"\xff", b"\0"]
    )
).map(b"".join)


@given(st.binary() | HEADERISH)
@example(b"A: b\r\n\r\n")
def test_reading_and_changing_survive_anything(data: bytes) -> None:
    found = list(fields(data))
    end = header_end(data)
    assert b"".join(data[field.start : field.end] for field in found) == data[:end]
    for field in found:
        decoded(field.value)
    line = header_line(b"X-New", b"value")
    longer = append(data, line)
    assert [field.name for field in fields(longer)] == [*(field.name for field in found), b"X-New"]
    assert [name for name, *_ in fields(without(longer, lambda field: field.name == b"X-New"))] == [
        field.name for field in found if field.name != b"X-New"
    ]


@given(st.binary() | HEADERISH, st.binary() | HEADERISH, st.booleans())
def test_what_we_write_is_one_field(name: bytes, value: bytes, encode: bool) -> None:
    try:
        line = header_line(name, value, encode=encode)
    except HeaderError:
        return
    (field,) = fields(line + b"\r\nbody")
    assert (field.name, field.end) == (name, len(line))


@given(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])))
def test_encoded_text_can_be_read_back(text: str) -> None:
    line = header_line(b"X", text.encode(), encode=True)
    assert max(map(len, line.split(b"\r\n"))) <= 905
    (field,) = fields(line)
    if "=?" not in text:
        assert decoded(field.value).decode() == (
            " ".join(re.findall("[^ \t]+", text)) if text.isascii() else text
        )


@given(st.binary() | HEADERISH)
def test_decoding_gives_utf8_or_what_came(raw: bytes) -> None:
    text = decoded(raw)
    if text != raw:
        text.decode()


@pytest.mark.parametrize(
    "data",
    [
        b"A: b\r\n" * 20_000,
        b"A: " + b"x" * 200_000,
        b"A: b\r\n" + b" c\r\n" * 40_000,
        b"A" * 200_000,
        b"A: " + b"=?" * 100_000,
        b"A: " + b"=?a?q?" * 30_000,
        b"A: " + b"=?utf-8?q?a?= " * 15_000,
        b"A: " + b" \t" * 100_000 + b"b",
        b"\r\n" * 100_000,
    ],
)
def test_time_is_in_proportion_to_size(data: bytes) -> None:
    def seconds(data: bytes) -> float:
        started = time.process_time()
        for field in fields(data):
            decoded(field.value)
        append(data, b"X: y\r\n")
        without(data, lambda field: True)
        return time.process_time() - started

    assert seconds(data) < 0.5


@settings(max_examples=50)
@given(st.binary(max_size=40))
def test_names_and_values_of_any_bytes_raise_only_header_errors(data: bytes) -> None:
    for name, value in ((data, b"v"), (b"X", data)):
        for encode in (True, False):
            try:
                header_line(name, value, encode=encode)
            except HeaderError as err:
                assert str(err)  # noqa: PT017
