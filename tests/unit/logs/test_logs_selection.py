"""Which metadata and headers go into a record."""

from __future__ import annotations

from kumo_py.logs.header_fields import header_fields
from kumo_py.logs.selection import HeaderSelection, MetaSelection

META = {"tenant": "t", "x_a": 1, "x_b": None, "X_c": True, "none": None}


def test_named_metadata_is_case_sensitive_and_skips_nulls() -> None:
    assert MetaSelection(["tenant", "none", "x_c", "absent"]).pick(META) == {"tenant": "t"}


def test_wildcard_takes_what_begins_so_with_nulls() -> None:
    assert MetaSelection(["x_*"]).pick(META) == {"x_a": 1, "x_b": None}
    assert MetaSelection(["*"]).pick(META) == META


def test_empty_selection_is_false() -> None:
    assert not MetaSelection([])
    assert not HeaderSelection([])
    assert HeaderSelection(["Subject"])


HEADERS = [("Subject", "one"), ("X-Tag", "a"), ("x-tag", "b"), ("X-Other", "c"), ("To", "t")]


def test_headers_ignore_case_and_keep_the_first_spelling() -> None:
    assert HeaderSelection(["SUBJECT", "cc"]).pick(HEADERS) == {"Subject": "one"}


def test_repeated_header_is_a_list_and_wildcards_work() -> None:
    assert HeaderSelection(["x-*"]).pick(HEADERS) == {"X-Tag": ["a", "b"], "X-Other": "c"}
    assert HeaderSelection(["x-tag", "X-*"]).pick(HEADERS) == {"X-Tag": ["a", "b"], "X-Other": "c"}


def test_header_fields_are_unfolded_and_decoded() -> None:
    data = (
        b"Subject: =?utf-8?B?w6k=?= and\r\n more\r\nX-Raw: \xff\r\nbroken line\r\nX-Bad: =?nope?B?!!?=\r\n"
        b"\r\nNot-A-Header: body\r\n"
    )
    assert header_fields(data) == [
        ("Subject", "é and more"),
        ("X-Raw", "\ufffd"),
        ("X-Bad", "=?nope?B?!!?="),
    ]
    assert header_fields(b"Subject: no body") == [("Subject", "no body")]
