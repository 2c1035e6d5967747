"""Which metadata and headers go into a record."""

from __future__ import annotations

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


CONTENT = (
    b"Subject: =?utf-8?q?=C3=A9?=\r\n and more\r\nX-Tag: a\r\nx-tag: \xff\r\nX-Other: c\r\nTo: t\r\n"
    b"\r\nX-Body: body\r\n"
)


def test_headers_ignore_case_keep_the_first_spelling_and_are_decoded() -> None:
    assert HeaderSelection(["SUBJECT", "cc"]).pick(CONTENT) == {"Subject": "é and more"}


def test_repeated_header_is_a_list_and_wildcards_work() -> None:
    assert HeaderSelection(["x-*"]).pick(CONTENT) == {"X-Tag": ["a", "\ufffd"], "X-Other": "c"}
    assert HeaderSelection(["x-tag", "X-*"]).pick(CONTENT) == {"X-Tag": ["a", "\ufffd"], "X-Other": "c"}
    assert list(HeaderSelection(["*"]).pick(CONTENT)) == ["Subject", "X-Tag", "X-Other", "To"]
